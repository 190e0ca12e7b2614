"""How the time of a call grows with its input, told apart from what a busy machine adds."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

__all__ = ["grows_with_the_length"]

# Below this the clock and the call itself are most of what is measured.
_SHORTEST_S = 0.005

_MOST_TRIES = 5


def grows_with_the_length(call: Callable[[], object], four_times: Callable[[], object]) -> bool:
    """Whether `four_times`, which has four times the input of `call`, takes about four times as long.

    Time that grew with the square would take sixteen times as long; the line is drawn at nine. Processor time of this
    thread, the best of up to five tries of each (a slow phase of the machine lengthens some tries, a square all of
    them), without the rubbish of other tests that may be collected meanwhile.
    """
    short_s = long_s = float("inf")
    gc.collect()
    gc.disable()
    try:
        for _ in range(_MOST_TRIES):
            short_s = min(short_s, _taken_s(call))
            long_s = min(long_s, _taken_s(four_times))
            if long_s < 9 * max(short_s, _SHORTEST_S):
                return True
    finally:
        gc.enable()
    return False


def _taken_s(call: Callable[[], object]) -> float:
    began_s = time.thread_time()
    call()
    return time.thread_time() - began_s
