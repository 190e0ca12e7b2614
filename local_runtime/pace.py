"""How long steps take here, measured while they run: how much of a prompt may be computed while others wait for their next token."""

from __future__ import annotations

__all__ = ["LEAST_CHUNK_TOKENS", "Pace"]

LEAST_CHUNK_TOKENS = 4
"""A prompt is never prefilled in smaller chunks, so that it ends in bounded time whatever was measured."""

_NEWEST_SHARE = 0.2
"""How much the newest measurement counts."""

_DOUBT = 0.995
"""What an estimate is multiplied by whenever it rules a chunk out: one odd measurement is tried again after some hundred steps."""

_CHUNK_SHARE = 0.6
"""What chunks may add to the decode steps on average, in mean decode steps, while one prompt arrives. The time between the others'
tokens shall at most double, as people feel it: against the usual step, which is shorter than the mean of all."""

_LONGEST_SHARE = 3.0
"""What a single chunk may add to its decode step. A larger chunk takes less time for each of its tokens, and rests follow on it."""

_USUAL_IN_A_ROW = 4
"""So many decodes after a chunk, one takes as long as usual again: the chunk has pushed the weights out of the caches."""

_MOST_DEBT = 6.0
"""Where the smallest chunk takes long, or something else made it take long, this many mean decode steps are made good, and no more."""


class Pace:
    """Seconds of a decode step, and of prefill steps by their number of tokens, alone and together with a decode.

    Args:
        most_tokens: The largest chunk.
    """

    def __init__(self, most_tokens: int) -> None:
        self.decode_s: float | None = None
        self._most_tokens = most_tokens
        self._alone = _ChunkTimes(most_tokens, decode_tokens=1)
        self._riding = _ChunkTimes(most_tokens, decode_tokens=0)
        self._debt_s = 0.0
        self._share = _CHUNK_SHARE
        self._in_a_row = _USUAL_IN_A_ROW

    @property
    def rests(self) -> bool:
        """Whether the chunks so far have taken more than their share, so that a decode comes first that carries none."""
        return self._debt_s > 0.0

    def decoded(self, took_s: float) -> None:
        """Note how long a decode step took."""
        if self.decode_s is None:
            self.decode_s = took_s
        elif self._in_a_row >= _USUAL_IN_A_ROW or took_s < self.decode_s:
            self.decode_s = _mean(self.decode_s, took_s)
        self._in_a_row += 1
        self._settle(took_s)

    def prefilled(self, tokens: int, took_s: float) -> None:
        """Note how long a chunk took."""
        self._alone.note(tokens, took_s)

    def rode(self, tokens: int, took_s: float) -> None:
        """Note how long a decode step took that computed a chunk as well."""
        self._riding.note(tokens, took_s)
        self._in_a_row = 1
        self._settle(took_s)

    def chunk_tokens(self, arriving: int = 1) -> int:
        """The largest chunk that may come between two decode steps, as far as anybody knows.

        Args:
            arriving: Prompts that are being prefilled, or are next. A chunk may take as many times longer: a burst of prompts
                that were read bit by bit would keep everybody slow for longer than it saves.
        """
        if self.decode_s is None:
            return self._most_tokens
        return self._alone.largest_within(self.decode_s * _CHUNK_SHARE * arriving, self.decode_s)

    def riding_tokens(self, arriving: int = 1) -> int:
        """The largest chunk that may ride in a decode step; see :meth:`chunk_tokens`."""
        self._share = _CHUNK_SHARE * arriving
        if self.decode_s is None:
            return LEAST_CHUNK_TOKENS
        return self._riding.largest_within(self.decode_s * (1 + _LONGEST_SHARE * arriving), self.decode_s)

    def _settle(self, took_s: float) -> None:
        if self.decode_s is not None:
            more_s = took_s - self.decode_s * (1 + self._share)
            self._debt_s = min(max(0.0, self._debt_s + more_s), self.decode_s * _MOST_DEBT)


class _ChunkTimes:
    """Seconds by number of tokens: for each power of two what was measured, and between them a straight line.

    The cost itself is no straight line: it jumps where kernels take another way.

    Args:
        most_tokens: The largest chunk.
        decode_tokens: The chunk that takes as long as a decode step: one token alone, or none in a decode step.
    """

    def __init__(self, most_tokens: int, *, decode_tokens: int) -> None:
        sizes = [LEAST_CHUNK_TOKENS]
        while sizes[-1] * 2 < most_tokens:
            sizes.append(sizes[-1] * 2)
        self._sizes = [size for size in sizes if size < most_tokens] + [most_tokens]
        self._decode_tokens = decode_tokens
        self._known_s: dict[int, float] = {}

    def note(self, tokens: int, took_s: float) -> None:
        """Take a measurement; one of an odd size is all that is known of the next smaller one until that is measured."""
        size = max((size for size in self._sizes if size <= tokens), default=None)
        if size is None:
            return
        known_s = self._known_s.get(size)
        if known_s is None:
            self._known_s[size] = took_s
        elif size == tokens:
            self._known_s[size] = _mean(known_s, took_s)

    def largest_within(self, limit_s: float, decode_s: float) -> int:
        """The largest chunk that is expected to take at most ``limit_s``, and the smallest where none is.

        It is at most twice as large as any that was measured: what is further away is not known well enough.
        """
        chosen = self._sizes[0]
        for size in self._sizes[1:]:
            if size > 2 * max(self._known_s, default=0):
                break
            if self.expected_s(size, decode_s) > limit_s:
                if size in self._known_s:
                    self._known_s[size] *= _DOUBT
                break
            chosen = size
        return chosen

    def expected_s(self, tokens: int, decode_s: float) -> float:
        """Seconds of a chunk of so many tokens, on a line between what was measured, or through the last two points."""
        points = [(self._decode_tokens, decode_s), *sorted(self._known_s.items())]
        upper = next((index for index, (size, _) in enumerate(points) if size >= tokens), len(points) - 1)
        if upper == 0:
            return decode_s
        (lower_size, lower_s), (upper_size, upper_s) = points[upper - 1 : upper + 1]
        return lower_s + (upper_s - lower_s) * (tokens - lower_size) / (upper_size - lower_size)


def _mean(known_s: float, took_s: float) -> float:
    return known_s + _NEWEST_SHARE * (took_s - known_s)
