"""A budget for retries: when everything fails, a client that repeats everything doubles the load on what is failing.

Marc Brooker, "Timeouts, retries, and backoff with jitter", Amazon Builders' Library: a token bucket lets a client retry while
retries are rare, and caps them when they are not.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RetryBudget"]

_MOST_SAVED = 10.0
_MOST_GIVEN = 3.0
_GIVEN_PER_S = 0.1


class RetryBudget:
    """How many retries one remote may still get.

    Each first try adds its policy's share of a retry. Beside that, one is given for each ten seconds, three at most, so that a
    client with few requests may retry too.

    Args:
        clock: Seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._saved = 0.0
        self._given = _MOST_GIVEN
        self._at_s = clock()

    @property
    def left(self) -> int:
        """Retries that could be taken now."""
        self._refill()
        return int(self._saved) + int(self._given)

    def note_first_try(self, share: float) -> None:
        """A request was sent that is not a retry; it is worth so many retries."""
        self._saved = min(_MOST_SAVED, self._saved + share)

    def take(self) -> bool:
        """Take one retry; False if none is left."""
        self._refill()
        if self._saved >= 1.0:
            self._saved -= 1.0
            return True
        if self._given >= 1.0:
            self._given -= 1.0
            return True
        return False

    def _refill(self) -> None:
        now_s = self._clock()
        self._given = min(_MOST_GIVEN, self._given + _GIVEN_PER_S * (now_s - self._at_s))
        self._at_s = now_s
