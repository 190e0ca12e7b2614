"""One timer for all the waits of a try: to move its end later costs nothing, where a timeout for every wait would cost two timers."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, TypeVar, cast

from hybridllm.steps import rest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["Alarm", "AlarmRang"]

_T = TypeVar("_T")


class AlarmRang(Exception):  # noqa: N818 - it says what happened, and never leaves the package
    """A wait was over before its step was."""


class Alarm:
    """Ends waits, one after the other, in one event loop.

    Its timer is set for the end of a wait and stays there when the end moves later; when it goes off too early, it is set again.

    Args:
        end_s: Gives the end of the present wait, on the clock of ``time.monotonic``.
    """

    def __init__(self, end_s: Callable[[], float]) -> None:
        self._end_s = end_s
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = 0.0
        self._waiting: asyncio.Task[object] | None = None
        self._rang = False

    async def wait(self, step: Coroutine[Any, Any, _T]) -> _T:
        """Wait for a step.

        Raises:
            AlarmRang: The end came first; the step was cancelled.
        """
        # Most steps of an answer that comes in bursts end without a wait, and then there is nothing to watch.
        try:
            awaited = step.send(None)
        except StopIteration as done:
            return cast("_T", done.value)
        task = asyncio.current_task()
        assert task is not None
        others_cancelled = task.cancelling()
        self._waiting = task
        self.move()
        try:
            return await rest_of(step, awaited)
        except asyncio.CancelledError:
            if self._rang:
                self._rang = False
                if task.uncancel() <= others_cancelled:
                    raise AlarmRang from None
            raise
        finally:
            self._waiting = None
            if self._rang:  # the step ended in that very moment, in its own way
                self._rang = False
                task.uncancel()

    def move(self) -> None:
        """The end of the present wait may be another one now."""
        if self._waiting is None:
            return
        end_s = self._end_s()
        if self._timer is None or end_s < self._timer_s:
            self.close()
            self._timer = asyncio.get_running_loop().call_later(max(0.0, end_s - time.monotonic()), self._ring)
            self._timer_s = end_s

    def close(self) -> None:
        """Take the timer back."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        if self._waiting is None:
            return
        if self._end_s() > time.monotonic():
            self.move()
        else:
            self._rang = True
            self._waiting.cancel()
