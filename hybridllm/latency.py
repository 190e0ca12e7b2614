"""Estimates of how fast a place answers: measured, forgotten with time, and unknown where nothing was measured."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from hybridllm.percentiles import RecentPercentiles

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DeviceLatency", "Latency", "MovingEstimate"]

_WEIGHT = 0.3
_FORGET_AFTER_S = 900.0
# A failure that came sooner says nothing of how long an answer takes, unless more than that is usual.
_TELLING_FAILURE_MS = 1000.0
_FEWEST_TOKENS = 4
_SHARES = {"p50": 0.5, "p75": 0.75, "p90": 0.9, "p95": 0.95, "p99": 0.99}
# Weight that a prompt keeps with each one that comes after it: about the last twenty count.
_KEPT = 0.95
# Prompts that are less than this different from each other, as a share of their mean, do not tell one cost from the other.
_TELLING_SPREAD = 0.2


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
        self._answered_ms = MovingEstimate(clock)
        self._tokens_per_s = MovingEstimate(clock)
        self._percentiles_ms = RecentPercentiles(clock)

    @property
    def ttft_ms(self) -> float | None:
        """Expected milliseconds to the first token, loading a model not included; waits without one count where they were long."""
        return self._ttft_ms.value

    @property
    def answered_ttft_ms(self) -> float | None:
        """The same of answers alone: how long it takes where the place does answer."""
        return self._answered_ms.value

    @property
    def tokens_per_s(self) -> float | None:
        """Expected tokens per second after the first."""
        return self._tokens_per_s.value

    def percentile_ms(self, name: str) -> float | None:
        """Milliseconds within which so many of the first tokens came lately; None where too few were measured to say.

        Args:
            name: One of ``policies.handling.PERCENTILES``.
        """
        return self._percentiles_ms.value(_SHARES[name])

    def note_first_token(self, ttft_ms: float) -> None:
        """A first token came after so many milliseconds."""
        self._ttft_ms.add(ttft_ms)
        self._answered_ms.add(ttft_ms)
        self._percentiles_ms.add(ttft_ms)

    def note_at_least(self, waited_ms: float) -> None:
        """No first token came for so many milliseconds, when somebody stopped waiting.

        It counts where it was longer than expected: then the place is slower than it was thought to be.
        """
        self._percentiles_ms.add(waited_ms, ended=False)
        expected_ms = self.ttft_ms
        if expected_ms is None or waited_ms > expected_ms:
            self._ttft_ms.add(waited_ms)

    def note_failure(self, waited_ms: float) -> None:
        """The place failed without a token: a long wait counts as one that was stopped, a quick failure says nothing."""
        if self.ttft_ms is not None or waited_ms > _TELLING_FAILURE_MS:
            self.note_at_least(waited_ms)

    def note_speed(self, tokens: int, seconds: float) -> None:
        """So many tokens came in so many seconds, the first token not counted; short answers say nothing."""
        if tokens >= _FEWEST_TOKENS and seconds > 0:
            self._tokens_per_s.add(tokens / seconds)

    def expected_s(self, tokens: int, *, ttft_ms: float | None = None) -> float | None:
        """Seconds that an answer of so many tokens is expected to take; None if unknown.

        Args:
            tokens: Its length.
            ttft_ms: A better estimate of the time to its first token; None for the one that is kept here.
        """
        ttft_ms = self.ttft_ms if ttft_ms is None else ttft_ms
        if ttft_ms is None:
            return None
        if self.tokens_per_s is None:
            return ttft_ms / 1000 if tokens <= 1 else None
        return ttft_ms / 1000 + max(0, tokens - 1) / self.tokens_per_s


class DeviceLatency:
    """The time to the first token on the device: a wait in the queue, a part that is always the same, and the prefill.

    The prefill costs so much for each token of the prompt that is not in the prefix cache. Both costs come from a weighted
    least-squares line through the last prompts; while they are all of one length, the whole time is taken to be the prefill's.

    Args:
        clock: Seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._cached_share = MovingEstimate(clock)
        self._at_s = 0.0
        self._line = _Line()

    def note_first_token(
        self, ttft_ms: float, prompt_tokens: int, cached_tokens: int = 0, queue_s: float = 0.0
    ) -> None:
        """A first token came.

        Args:
            ttft_ms: Milliseconds since the device was asked.
            prompt_tokens: Length of the prompt.
            cached_tokens: How many of them were in the prefix cache.
            queue_s: Seconds of that in which the request waited for others.
        """
        service_ms = ttft_ms - 1000 * queue_s
        if prompt_tokens < 1 or service_ms <= 0:
            return
        if self._forgotten:
            self._line = _Line()
        self._at_s = self._clock()
        self._line.add(float(max(1, prompt_tokens - cached_tokens)), service_ms)
        self._cached_share.add(min(1.0, cached_tokens / prompt_tokens))

    @property
    def ms_per_token(self) -> float | None:
        """Milliseconds that the prefill of one token costs; None until something was measured."""
        costs = None if self._forgotten else self._line.costs()
        return None if costs is None else costs[0]

    def expected_ttft_ms(
        self, prompt_tokens: float, queue_wait_s: float = 0.0, *, cached_tokens: float | None = None
    ) -> float | None:
        """Milliseconds to the first token of a prompt; None until something was measured.

        Args:
            prompt_tokens: Its length, which may be estimated.
            queue_wait_s: Seconds that it is expected to wait for others.
            cached_tokens: How many of them are in the prefix cache; None for the share that was usual lately.
        """
        costs = None if self._forgotten else self._line.costs()
        if costs is None:
            return None
        per_token_ms, base_ms = costs
        if cached_tokens is None:
            cached_tokens = prompt_tokens * (self._cached_share.value or 0.0)
        return 1000 * queue_wait_s + base_ms + per_token_ms * max(1.0, prompt_tokens - cached_tokens)

    @property
    def _forgotten(self) -> bool:
        return self._clock() - self._at_s > _FORGET_AFTER_S


class _Line:
    """A line through pairs of tokens and milliseconds, of which the newest count most."""

    def __init__(self) -> None:
        self._weight = 0.0
        self._tokens = 0.0
        self._ms = 0.0
        self._tokens_squared = 0.0
        self._tokens_ms = 0.0

    def add(self, tokens: float, ms: float) -> None:
        self._weight = _KEPT * self._weight + 1.0
        self._tokens = _KEPT * self._tokens + tokens
        self._ms = _KEPT * self._ms + ms
        self._tokens_squared = _KEPT * self._tokens_squared + tokens * tokens
        self._tokens_ms = _KEPT * self._tokens_ms + tokens * ms

    def costs(self) -> tuple[float, float] | None:
        """Milliseconds for each token, and for each request; None where there is no pair."""
        if self._weight == 0.0:
            return None
        mean_tokens, mean_ms = self._tokens / self._weight, self._ms / self._weight
        variance = self._tokens_squared / self._weight - mean_tokens * mean_tokens
        if variance < (_TELLING_SPREAD * mean_tokens) ** 2:
            return mean_ms / mean_tokens, 0.0
        slope = (self._tokens_ms / self._weight - mean_tokens * mean_ms) / variance
        if slope <= 0.0:  # noise: longer prompts were not slower
            return 0.0, mean_ms
        base_ms = mean_ms - slope * mean_tokens
        if (
            base_ms < 0.0
        ):  # longer prompts cost more than in proportion, so the best that is left goes through the origin
            return self._tokens_ms / self._tokens_squared, 0.0
        return slope, base_ms
