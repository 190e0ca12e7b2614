"""Percentiles of a duration, from the last measurements, those that were cut short included."""

from __future__ import annotations

import math
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RecentPercentiles"]

_MOST_SAMPLES = 256
_FORGET_AFTER_S = 900.0
_FEWEST_SAMPLES = 8


class RecentPercentiles:
    """The last 256 durations of the last quarter of an hour, and what they say of those that were stopped before their end.

    The percentiles are those of the product-limit estimator (E. L. Kaplan and Paul Meier, "Nonparametric Estimation from
    Incomplete Observations", Journal of the American Statistical Association 53, 1958): a duration of which only the least is
    known counts as one that was still open then. Leaving it out would make a place look faster the more often it is too slow.

    Args:
        clock: Seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # When it was measured, how long it took, and whether it had ended.
        self._samples: deque[tuple[float, float, bool]] = deque(maxlen=_MOST_SAMPLES)
        self._steps: list[tuple[float, float]] | None = None

    def add(self, duration: float, *, ended: bool = True) -> None:
        """Take one measurement into account.

        Args:
            duration: How long it took, in any unit.
            ended: Whether it had ended by then; else it took at least so long.
        """
        self._samples.append((self._clock(), duration, ended))
        self._steps = None

    def value(self, share: float) -> float | None:
        """What so many of all durations stay within; None where too few are known to say.

        Eight are needed, and as many as it takes for one to lie beyond: 20 for 0.95, 100 for 0.99; half of them have to have
        ended. Where the percentile is one of those that were cut short, it is the longest of all that is known.

        Args:
            share: From 0 to 1, exclusive.
        """
        self._forget()
        needed = max(_FEWEST_SAMPLES, math.ceil(round(1.0 / (1.0 - share), 6)))
        if len(self._samples) < needed or 2 * sum(ended for _, _, ended in self._samples) < needed:
            return None
        for duration, below in self._distribution():
            if below >= share - 1e-9:
                return duration
        return max(duration for _, duration, _ in self._samples)

    def _distribution(self) -> list[tuple[float, float]]:
        """For each duration that ended, the share of all that stays within it."""
        if self._steps is None:
            self._steps = []
            open_share, at_risk = 1.0, len(self._samples)
            # Of equal ones, those that ended come first: the others were still open at that moment.
            for duration, cut_short in sorted((duration, not ended) for _, duration, ended in self._samples):
                if not cut_short:
                    open_share *= 1.0 - 1.0 / at_risk
                    self._steps.append((duration, 1.0 - open_share))
                at_risk -= 1
        return self._steps

    def _forget(self) -> None:
        oldest_s = self._clock() - _FORGET_AFTER_S
        while self._samples and self._samples[0][0] < oldest_s:
            self._samples.popleft()
            self._steps = None
