"""Runs something that may take long in a thread of its own, and does not wait for ever."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["THREAD_PREFIX", "BusyError", "run_with_timeout"]

_T = TypeVar("_T")

THREAD_PREFIX = "hybridllm-detector-"
"""How the names of these threads begin."""

_MOST_ABANDONED = 4
_abandoned: set[threading.Thread] = set()
_lock = threading.Lock()


class BusyError(RuntimeError):
    """So many earlier runs have not come to an end that no other one is begun."""


def run_with_timeout(function: Callable[[], _T], timeout_s: float, *, name: str) -> _T:
    """What a function returns; what it raises is raised.

    A thread cannot be stopped from outside: one that takes too long is left alone, as a daemon, and no more than a few of them.

    Raises:
        TimeoutError: It took longer.
        BusyError: Too many earlier runs are still under way.
    """
    with _lock:
        _abandoned.intersection_update({thread for thread in _abandoned if thread.is_alive()})
        if len(_abandoned) >= _MOST_ABANDONED:
            raise BusyError
    results: list[_T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            errors.append(error)

    thread = threading.Thread(target=run, name=THREAD_PREFIX + name, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if results:
        return results[0]
    if errors:
        raise errors[0]
    with _lock:
        _abandoned.add(thread)
    raise TimeoutError
