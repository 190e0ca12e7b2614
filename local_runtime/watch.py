"""Asks a worker for signs of life while a reply is owed, and ends one that gives none. An idle engine is left to sleep.

Standard library only: the application's process imports this module.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from local_runtime.heartbeat import Heartbeat

if TYPE_CHECKING:
    from local_runtime.connection import Connection
    from local_runtime.deaths import Death
    from local_runtime.supervision import Supervision

__all__ = ["Watch"]

_UNBURIED_S = 5.0
"""How long a worker that was killed or is gone may keep its end to itself; then the next one is started without waiting.

It may hang in the system where no signal reaches it, and a fork of the application may keep the other end of its pipe open.
"""


class Watch:
    """Watches the workers of one engine, one after another. It belongs to the supervisor's thread.

    Args:
        limits: The supervisor's limits; None watches nothing.
    """

    def __init__(self, limits: Supervision | None) -> None:
        self._limits = limits
        self._heartbeat = None if limits is None else Heartbeat(limits)
        self._last_tick_at = 0.0
        self._unburied_since: float | None = None
        self.due_at: float | None = None
        """When the next tick is due (``time.monotonic``); None while there is nothing to watch."""

    def new_worker(self) -> None:
        """The last worker is gone."""
        self.stop()
        self._unburied_since = None
        if self._heartbeat is not None:
            self._heartbeat.new_worker()

    def worked(self, *, finished: bool) -> None:
        """A token was given out, or, if ``finished``, a whole request."""
        if self._heartbeat is not None:
            self._heartbeat.worked(finished=finished)

    def stop(self) -> None:
        """There is nothing to watch."""
        self.due_at = None

    def look_after(self, connection: Connection | None) -> None:
        """Begin to ask for signs of life, if a reply is owed and nobody asks yet."""
        if self._limits is None or connection is None or self.due_at is not None or not connection.busy:
            return
        self._last_tick_at = time.monotonic()
        self.due_at = self._last_tick_at + self._limits.ping_s
        connection.ping()

    def tick(self, connection: Connection | None) -> Death | None:
        """Look after the worker, and kill it if it hangs.

        Returns:
            The end of a worker that will not tell of it itself; None otherwise.
        """
        now = time.monotonic()
        elapsed_s, self._last_tick_at, self.due_at = now - self._last_tick_at, now, None
        if self._limits is None or self._heartbeat is None or connection is None or not connection.busy:
            return None
        self.due_at = now + self._limits.ping_s
        if self._unburied_since is None and connection.exited():
            self._unburied_since = now
        if self._unburied_since is not None:
            return connection.abandon() if now - self._unburied_since >= _UNBURIED_S else None
        why = self._heartbeat.tick(
            elapsed_s,
            connection.pid,
            frames=connection.frames,
            pong=connection.last_pong,
            listening=connection.listening,
            ready=connection.ready,
        )
        if why is None:
            connection.ping()
        else:
            connection.kill(why)
            self._unburied_since = now
        return None
