"""A thread that carries out calls one after another, so that no two of them meet.

Standard library only: the application's process imports this module.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EngineThread", "Inbox"]


class EngineThread(threading.Thread):
    """A thread of an engine in the application: never waited for from another one of them, which may wait for it in turn."""

    def __init__(self, name: str, target: Callable[..., None], *arguments: object) -> None:
        super().__init__(name=f"local-engine-{name}", target=target, args=arguments, daemon=True)


class Inbox:
    """Calls that wait for their thread. Putting one in neither waits nor fails, not even inside the garbage collector.

    Args:
        keep_time: Called in the thread after each call, and when it said that it wants to be: returns when that is
            (``time.monotonic``), or None.
        on_defect: Called in the thread with an exception of one of the calls; it goes on with the next one.
    """

    def __init__(self, keep_time: Callable[[], float | None], on_defect: Callable[[Exception], None]) -> None:
        self._keep_time = keep_time
        self._on_defect = on_defect
        self._calls: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._lock = threading.RLock()
        self._thread: EngineThread | None = None
        self._due_at: float | None = None
        self._over = False

    def start(self) -> None:
        """Start the thread, if it hasn't been; calls wait until then."""
        with self._lock:
            if self._thread is None:
                self._thread = EngineThread("supervisor", self._run)
                self._thread.start()

    def put(self, call: Callable[[], object]) -> bool:
        """Add a call; False if the thread has ended, and nobody will carry it out."""
        with self._lock:
            if not self._over:
                self._calls.put(call)
            return not self._over

    def join(self, timeout_s: float) -> None:
        """Wait until the thread has ended, unless this is an engine's thread too."""
        with self._lock:
            thread = self._thread
            self._over = self._over or thread is None
        if thread is not None and not isinstance(threading.current_thread(), EngineThread):
            thread.join(timeout_s)

    # ---- in the thread ----

    def take(self, timeout_s: float | None) -> bool:
        """Carry out the next call; False if none came in time."""
        try:
            call = self._calls.get(timeout=timeout_s)
        except queue.Empty:
            return False
        self._carry_out(call)
        return True

    def end(self) -> None:
        """Carry out what has come so far, and nothing more."""
        with self._lock:
            self._over = True
        while self.take(0.0):
            pass

    def _run(self) -> None:
        while not self._over:
            timeout_s = None if self._due_at is None else max(0.0, self._due_at - time.monotonic())
            if not self.take(timeout_s):
                self._carry_out(lambda: None)

    def _carry_out(self, call: Callable[[], object]) -> None:
        try:
            call()
            self._due_at = self._keep_time()
        except Exception as error:  # noqa: BLE001 - without this thread everybody would wait for ever
            self._due_at = None
            self._on_defect(error)
