"""Guessing the next tokens of a greedy answer from what was said before, to compute several of them in one step.

An answer that quotes its prompt or repeats itself says tokens that stand there already. Where the newest tokens have occurred
before, those that followed them then are the guess; one forward pass over all of them gives the model's own choice after
each, and as many are taken as agree (Saxena, "Prompt Lookup Decoding", 2023; the check is Leviathan et al., 2023, for greedy
draws). What was computed beyond is taken back from the key-value cache.

**Answers stay the same.** A pass over several tokens adds its products up in another order than a decode does, so its logits
differ in their last bits, and a tie could fall the other way. A token is therefore taken from such a pass only if its logit is ahead
of any other one's by :func:`clear_lead`, several times the largest difference that was measured; else it is decoded.
The keys and values that such a pass leaves behind differ in their last bits as well, as those of a prompt do that was read in other
chunks, or of a decode together with other answers; on ties within that difference no way of batching is like another.

**It pays, or it isn't done.** Each answer learns how many of its guesses come true, and the engine what a pass costs against a
decode (:class:`StepCosts`). Passes that lose are paid from what others have won and from a small part of the decodes, so that
all together never lose more than that part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from local_runtime.generation import Generation

__all__ = ["NgramIndex", "Speculation", "StepCosts", "clear_lead", "draw_as_guessed", "rounding_is_known"]

_GUESS_TOKENS = (1, 3, 7, 11, 15)
"""How many tokens may be guessed at a time: few sizes, since the cost of each is learnt; with the token before them, 2 to 16."""

_MOST_CANDIDATES = 8
_LONGEST_MATCH = 16
_SAME_TOKENS = 2
"""An n-gram has at least so many tokens."""

_MATCH_CLASSES = (3, 4, 8)
_FIRST_SHARES = (0.3, 0.5, 0.7, 0.85)
"""The share of guessed tokens that come true after a match of 2, 3, 4 to 7, and more tokens, until an answer has shown its own."""
_FIRST_SHARES_WEIGHT = 3.0
_FORGETTING = 0.9

_COST_PER_TOKEN = 0.15
"""What each further token of a pass is supposed to cost, in decodes, until that size was measured."""
_KNOWLEDGE_LEFT = 0.998
"""How much of what was measured still counts one decode later, so that a size that once took long is tried again some day."""
_NEWEST_SHARE = 0.2
_OUTLIER = 2.0
"""How many times as long as expected a step may have taken to count as measured: the system may have been busy elsewhere."""
_PAYS = 1.1
_CREDIT_PER_DECODE = 0.02
_FIRST_CREDIT = 1.0
_MOST_CREDIT = 4.0

_ROUNDING = 500.0
"""The largest difference of a logit that is reckoned with, in steps of the activations' format at the highest logit.

Measured between :meth:`Runner.score` and :meth:`Runner.decode` on processors: up to 103 such steps, over the bundled model and small
random checkpoints of each architecture, in float32 and in 4 bits.
"""

_FLOAT32_EPS = 2.0**-23


def rounding_is_known(activation_eps: float) -> bool:
    """Whether :func:`clear_lead` is known to suffice: it was measured for activations in float32 only."""
    return activation_eps <= _FLOAT32_EPS


def clear_lead(logits: NDArray[np.float32], activation_eps: float) -> float:
    """By how much the highest of these logits has to be ahead, so that another order of adding up could not change which it is.

    Args:
        logits: float32 ``[vocab]``.
        activation_eps: Distance from 1 to the next number of the format that activations are in.
    """
    size = max(float(logits.max()), -float(logits.min()))
    return 2 * _ROUNDING * activation_eps * size


def draw_as_guessed(
    generation: Generation, logits: NDArray[np.float32], guessed: Sequence[int], activation_eps: float
) -> int:
    """Draw an answer's next tokens from a pass over its newest token and those that were guessed to follow.

    Args:
        generation: The answer; its draws are greedy.
        logits: float32 ``[1 + len(guessed), vocab]``, after each of these tokens.
        guessed: The guess.
        activation_eps: See :func:`clear_lead`.

    Returns:
        How many tokens were drawn. The last of them was not fed to the model yet: so many of the pass's tokens are right.
    """
    drawn, tokens = 0, generation.sequence.tokens
    for row, follows in zip(logits, [*guessed, None], strict=True):
        had = len(tokens)
        token = generation.draw_if_clear(row, clear_lead(row, activation_eps))
        if token is None:
            break
        drawn += 1
        # After tokens that were forced, the next row is another one than the guess has.
        if generation.end is not None or token != follows or len(tokens) > had + 1:
            break
    return drawn


class NgramIndex:
    """Finds where the last tokens of a growing list have occurred before in it.

    Each pair of neighbours leads to its newest place, and each place to the one before with the same pair: a dictionary's entry and a
    list's for each token, whatever the lengths that are found.

    Args:
        tokens: The list; it may grow at its end between calls, and nothing else.
    """

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens = tokens
        self._newest: dict[tuple[int, int], int] = {}
        self._older = [-1]  # by place of a pair's second token

    def longest(self) -> tuple[int, int]:
        """The place after the longest earlier occurrence of the list's end, and how many tokens it has; the newest one on ties.

        Only the newest few occurrences are looked at, and no further back than a few tokens. ``(0, 0)`` if there is none.
        """
        tokens, newest, older = self._tokens, self._newest, self._older
        last = len(tokens) - 1
        for place in range(len(older), last):  # all but the newest pair, which is what is looked for
            pair = (tokens[place - 1], tokens[place])
            older.append(newest.get(pair, -1))
            newest[pair] = place
        if last < _SAME_TOKENS:
            return 0, 0
        best, best_length = 0, 0
        place = newest.get((tokens[last - 1], tokens[last]), -1)
        for _ in range(_MOST_CANDIDATES):
            if place < 0:
                break
            length = self._length_at(place, last)
            if length > best_length:
                best, best_length = place + 1, length
            place = older[place]
        return best, best_length

    def _length_at(self, place: int, last: int) -> int:
        tokens, length = self._tokens, _SAME_TOKENS
        while length < _LONGEST_MATCH and length <= place and tokens[place - length] == tokens[last - length]:
            length += 1
        return length


class StepCosts:
    """What steps with one sequence take, and what guessing may still lose; one for all answers of an engine.

    Attributes:
        credit: How many decodes' time may be lost now.
    """

    def __init__(self) -> None:
        self.credit = _FIRST_CREDIT
        self._decodes = 0
        self._decode_s: float | None = None
        self._measured: dict[
            int, tuple[float, int]
        ] = {}  # by tokens: the cost in decodes, and how many there had been then

    def of_pass(self, tokens: int) -> float:
        """What a pass over so many tokens takes, in decodes: as measured, and as supposed the longer ago that was."""
        supposed = 1 + _COST_PER_TOKEN * (tokens - 1)
        if tokens not in self._measured:
            return supposed
        measured, at = self._measured[tokens]
        return supposed + (measured - supposed) * _KNOWLEDGE_LEFT ** (self._decodes - at)

    def note_decode(self, took_s: float) -> None:
        """A decode took so many seconds, with all that belongs to its step."""
        self._decodes += 1
        if self._decode_s is None:
            self._decode_s = took_s
        self._decode_s += _NEWEST_SHARE * (min(took_s, _OUTLIER * self._decode_s) - self._decode_s)
        self._earn(_CREDIT_PER_DECODE)

    def note_pass(self, tokens: int, took_s: float, gained: int) -> None:
        """A pass over so many tokens took so many seconds and gave so many new tokens."""
        expected = self.of_pass(tokens)
        cost = min(took_s / self._decode_s, _OUTLIER * expected) if self._decode_s else expected
        self._measured[tokens] = expected + _NEWEST_SHARE * (cost - expected), self._decodes
        self._earn(gained - cost)

    def _earn(self, decodes: float) -> None:
        self.credit = min(_MOST_CREDIT, self.credit + decodes)


class Speculation:
    """Guesses for one answer.

    Args:
        tokens: The answer's sequence, prompt included, as it grows.
        costs: What steps take.
    """

    def __init__(self, tokens: Sequence[int], costs: StepCosts) -> None:
        self._tokens = tokens
        self._costs = costs
        self._index = NgramIndex(tokens)
        # By class of match: how many guessed tokens were looked at, and how many of them came true; older ones count less.
        self._seen = [_FIRST_SHARES_WEIGHT] * len(_FIRST_SHARES)
        self._came_true = [share * _FIRST_SHARES_WEIGHT for share in _FIRST_SHARES]
        self._class = 0

    def guess(self, most: int) -> list[int]:
        """The tokens that come next, as far as it pays to compute them in one pass; empty where a decode is better.

        Args:
            most: The most tokens to guess.
        """
        if most < _GUESS_TOKENS[0]:
            return []
        start, length = self._index.longest()
        if not length:
            return []
        self._class = sum(length >= border for border in _MATCH_CLASSES)
        count = self._best_count(most)
        tokens = self._tokens
        guessed: list[int] = []
        for place in range(start, start + count):
            # An occurrence that the end overlaps with goes on as it repeats.
            guessed.append(tokens[place] if place < len(tokens) else guessed[place - len(tokens)])
        return guessed

    def note(self, guessed: int, came_true: int) -> None:
        """So many of the tokens that were guessed last came true, from the first on; what came after those tells nothing."""
        seen = min(guessed, came_true + 1)
        self._seen[self._class] = self._seen[self._class] * _FORGETTING**seen + seen
        self._came_true[self._class] = self._came_true[self._class] * _FORGETTING**seen + came_true

    def _best_count(self, most: int) -> int:
        """How many tokens to guess so that the time of a token is expected to be shortest; 0 for a decode."""
        share = self._came_true[self._class] / self._seen[self._class]
        best, best_gain = 0, _PAYS
        expected, reached, counted = 1.0, 1.0, 0  # the model's own next token is always gained
        for count in _GUESS_TOKENS:
            if count > most:
                break
            for _ in range(counted, count):
                reached *= share
                expected += reached
            counted = count
            cost = self._costs.of_pass(count + 1)
            if cost - 1 <= self._costs.credit and expected / cost > best_gain:
                best, best_gain = count, expected / cost
        return best
