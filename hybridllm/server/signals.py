"""Signals of the operating system as events of the event loop: end, end at once, read the policy again."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

__all__ = ["Signals"]

# SIGBREAK and SIGHUP are not on every platform.
_ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name))
_RELOADING = tuple(getattr(signal, name) for name in ("SIGHUP",) if hasattr(signal, name))


class Signals:
    """What has been signalled; a context manager, in the main thread, for as long as it listens.

    Args:
        on_reload: Called for SIGHUP, in the event loop.

    Attributes:
        ending: Set by the first signal to end.
        ending_now: Set by the second one; a third one has its ordinary effect.
        last: The last signal to end; None before one.
    """

    def __init__(self, on_reload: Callable[[], None]) -> None:
        self.ending = asyncio.Event()
        self.ending_now = asyncio.Event()
        self.last: int | None = None
        self._on_reload = on_reload
        self._loop = asyncio.get_running_loop()
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        for number in (*_ENDING, *_RELOADING):
            self._before[number] = signal.signal(number, self._arrived)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # it is what signal.signal returned

    def _arrived(self, number: int, _frame: FrameType | None) -> None:
        self._loop.call_soon_threadsafe(self._take, number)  # which also wakes the loop up, on every platform

    def _take(self, number: int) -> None:
        if number in _RELOADING:
            self._on_reload()
            return
        self.last = number
        if self.ending.is_set():
            self.ending_now.set()
            for ending in _ENDING:
                signal.signal(ending, signal.SIG_DFL)
        self.ending.set()
