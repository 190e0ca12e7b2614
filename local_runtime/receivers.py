"""Calls the functions that an application gave to the engine, and keeps their mistakes from everybody else.

Standard library only: the application's process imports this module.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING

from local_runtime.crash_reports import described
from local_runtime.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from local_runtime.events import Event
    from local_runtime.options import Progress
    from local_runtime.underway import Answer

__all__ = ["Receivers"]

_log = logging.getLogger("local_runtime.client")


class Receivers:
    """The receivers of one engine, which are called from its threads.

    Args:
        on_progress: Takes the progress of loading.
    """

    def __init__(self, on_progress: Callable[[Progress], None]) -> None:
        self._on_progress = on_progress
        self._here = threading.local()
        self._deaf_to: object = None

    def deliver(self, answer: Answer, event: Event | None) -> bool:
        """Give an event, if there is one, to its receiver; False if that failed, after which it gets no more."""
        if event is None or answer.on_event is None:
            return True
        try:
            with self._calling():
                answer.on_event(event)
        except BaseException as error:  # noqa: BLE001 - any mistake of a stranger's code, sys.exit() included
            _log.error("a receiver of engine events failed with %s; its request is cancelled", described(error))
            answer.on_event = None
            answer.cancelled = True
            return False
        return True

    def tell_progress(self, worker: object, progress: Progress) -> None:
        """Pass on how far the loading of ``worker`` is."""
        if self._deaf_to is worker:
            return
        try:
            with self._calling():
                self._on_progress(progress)
        except Exception as error:  # noqa: BLE001 - progress is a courtesy; loading goes on without it
            _log.error("a receiver of loading progress failed with %s; it is not called again", described(error))
            self._deaf_to = worker

    def refuse_to_wait_here(self) -> None:
        """Refuse to wait for the engine in a receiver.

        Raises:
            InvalidRequestError: This thread is calling one.
        """
        if getattr(self._here, "calling", False):
            raise InvalidRequestError(
                "A receiver of engine events waited for the engine, which would wait for ever.",
                "Call this from another thread than the one that on_event is called from.",
            )

    @contextlib.contextmanager
    def _calling(self) -> Iterator[None]:
        self._here.calling = True
        try:
            yield
        finally:
            self._here.calling = False
