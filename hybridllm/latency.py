"""Moving estimates of how fast a place answers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Latency", "MovingEstimate"]

_WEIGHT = 0.3
_FORGET_AFTER_S = 900.0


class MovingEstimate:
    """An exponentially weighted mean that is forgotten when nothing new comes for a quarter of an hour.

    Args:
        clock: Seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._mean: float | None = None
        self._at_s = 0.0

    @property
    def value(self) -> float | None:
        """The estimate; None if nothing was measured, or only long ago."""
        if self._mean is None or self._clock() - self._at_s > _FORGET_AFTER_S:
            return None
        return self._mean

    def add(self, sample: float) -> None:
        """Take one measurement into account."""
        before = self.value
        self._mean = sample if before is None else before + _WEIGHT * (sample - before)
        self._at_s = self._clock()


class Latency:
    """How fast one place answers.

    Args:
        clock: Seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._ttft_ms = MovingEstimate(clock)
        self._tokens_per_s = MovingEstimate(clock)

    @property
    def ttft_ms(self) -> float | None:
        """Expected milliseconds to the first token, loading a model not included."""
        return self._ttft_ms.value

    @property
    def tokens_per_s(self) -> float | None:
        """Expected tokens per second after the first."""
        return self._tokens_per_s.value

    def note_first_token(self, ttft_ms: float) -> None:
        """A first token came after so many milliseconds."""
        self._ttft_ms.add(ttft_ms)

    def note_failure(self, waited_ms: float) -> None:
        """No token came: the wait counts where it was longer than expected, so that a slow failure is not forgotten."""
        expected = self.ttft_ms
        if expected is None or waited_ms > expected:
            self._ttft_ms.add(waited_ms)

    def note_speed(self, tokens: int, seconds: float) -> None:
        """So many tokens came in so many seconds, the first token not counted; short answers say nothing."""
        if tokens >= 4 and seconds > 0:
            self._tokens_per_s.add(tokens / seconds)

    def expected_s(self, tokens: int) -> float | None:
        """Seconds that an answer of so many tokens is expected to take; None if unknown."""
        if self.ttft_ms is None:
            return None
        if self.tokens_per_s is None:
            return self.ttft_ms / 1000 if tokens <= 1 else None
        return self.ttft_ms / 1000 + max(0, tokens - 1) / self.tokens_per_s
