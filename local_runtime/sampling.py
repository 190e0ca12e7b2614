"""Drawing the next token from logits.

Order: bias, penalties, what is forbidden, temperature, top-k, top-p, min-p. Sources: repetition penalty from Keskar et al.,
"CTRL" (2019), section 4.1; frequency and presence penalties and the bias from OpenAI's API reference; nucleus (top-p) sampling from
Holtzman et al. (2020); min-p from Nguyen et al. (2024).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from local_runtime.errors import EngineInternalError, InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from local_runtime.options import SamplingOptions

__all__ = ["Limits", "Sampler"]

_SEED_MASK = 2**64 - 1
_BLOCK_ENTRIES = 512


@dataclass(frozen=True, slots=True)
class _Choices:
    """Sampling options with the neutral value wherever nobody chose."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0

    @classmethod
    def of(cls, options: SamplingOptions) -> _Choices:
        chosen = {item.name: getattr(options, item.name) for item in fields(cls)}
        return cls(**{name: value for name, value in chosen.items() if value is not None})


class Limits(NamedTuple):
    """Which tokens may be drawn: those that every field allows.

    Attributes:
        allowed: The only tokens, int64 ``[allowed]``; None for all.
        forbidden: Tokens that may not be drawn, wherever they are in the vocabulary or beyond it; None for none.
        mask: Sets the logits of what may not be drawn to ``-inf``, in place; None where it would set nothing.
    """

    allowed: npt.NDArray[np.int64] | None = None
    forbidden: Collection[int] | None = None
    mask: Callable[[npt.NDArray[np.float32]], None] | None = None


class Sampler:
    """Draws the tokens of one answer and remembers them for the penalties.

    The repetition penalty looks at prompt and answer (Hugging Face's definition), frequency and presence penalties at the
    answer alone (OpenAI's: how often a token was sampled before).

    Args:
        options: How to draw.
        prompt_ids: The prompt's tokens.
        bias: Added to the model's logits before anything else, by token; all within the vocabulary.

    Attributes:
        is_greedy: Every draw takes the most likely token, so nothing is random.
        is_biased: Some tokens are to come more or less often than the model thinks.
    """

    def __init__(
        self, options: SamplingOptions, prompt_ids: Sequence[int], bias: Mapping[int, float] | None = None
    ) -> None:
        self._options = _Choices.of(options)
        self.is_greedy = self._options.temperature == 0 or self._options.top_k == 1
        self._biased_ids = np.array(list(bias or ()), dtype=np.int64)
        self._biases = np.array(list((bias or {}).values()), dtype=np.float32)
        self.is_biased = bool(bias)
        seed = options.seed
        self._random = np.random.Generator(np.random.PCG64(None if seed is None else seed & _SEED_MASK))
        self._seen = set(prompt_ids) if self._options.repetition_penalty != 1.0 else set()
        self._seen_ids = np.array(sorted(self._seen), dtype=np.int64)
        self._counts: dict[int, int] = {}
        self._buffer: npt.NDArray[np.float32] | None = None

    def continue_after(self, token_ids: Sequence[int], *, drawn: bool) -> None:
        """Count tokens as part of the answer that this sampler did not draw itself.

        Args:
            token_ids: The answer so far.
            drawn: A sampler like this one drew them: the next draws are those that it would have made.
        """
        for token in token_ids:
            self._remember(token)
        if drawn and not self.is_greedy:
            self._random.random(len(token_ids))  # one uniform for each token

    def sample(self, logits: npt.NDArray[np.float32], limits: Limits | None = None) -> int:
        """Draw the next token.

        Args:
            logits: float32 ``[vocab]``, left unchanged; ``-inf`` forbids a token.
            limits: Which tokens may be drawn; None for all. What is forbidden is gone before top-k, top-p and min-p look.

        Returns:
            Its id. With temperature 0 the one with the highest logit after penalties, the lowest id on ties.

        Raises:
            EngineInternalError: The logits hold a NaN, or none of them is finite.
            InvalidRequestError: Nothing may be drawn: each token is forbidden.
        """
        changed, best = self._most_likely(logits, limits)
        token = best if self.is_greedy else self._draw(changed, float(changed[best]))
        self._remember(token)
        return token

    def clearly_best(self, logits: npt.NDArray[np.float32], lead: float, limits: Limits | None = None) -> int | None:
        """Draw the most likely token where draws are greedy and no other one comes near it.

        Args:
            logits: As in :meth:`sample`.
            lead: By how much its logit has to be higher than any other one's, measured before penalties that stretch logits.
            limits: As in :meth:`sample`.

        Returns:
            Its id; None, and nothing is remembered, where another one is as near or draws are random.

        Raises:
            EngineInternalError: As in :meth:`sample`.
            InvalidRequestError: As in :meth:`sample`.
        """
        if not self.is_greedy:
            return None
        changed, best = self._most_likely(logits, limits)
        highest = changed[best]
        changed[best] = -np.inf  # put back at once, so that the caller's logits are what they were
        second = float(changed.max())
        changed[best] = highest
        penalty = self._options.repetition_penalty
        if float(highest) - second < lead * max(penalty, 1 / penalty):
            return None
        self._remember(best)
        return best

    def _most_likely(
        self, logits: npt.NDArray[np.float32], limits: Limits | None
    ) -> tuple[npt.NDArray[np.float32], int]:
        """The logits with all that changes them before a draw, and the place of the highest, which is finite."""
        if self.is_biased:
            logits = self._copy(logits)
            logits[self._biased_ids] += self._biases
        logits = self._penalised(logits)
        if limits is not None:
            logits = self._limited(logits, limits)
        best = int(np.argmax(logits))  # of a NaN, numpy's argmax returns the place
        highest = float(logits[best])
        if not np.isfinite(highest):
            if limits is not None and np.isneginf(highest):
                raise InvalidRequestError(
                    "No token is left that may come next: the constraints of the answer exclude each other.",
                    "Ask with fewer of them: min_tokens, stop_token_ids, a grammar, or the beginning of an answer.",
                )
            raise EngineInternalError("The model produced logits that are not finite numbers.")
        return logits, best

    def _penalised(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        options = self._options
        counted = bool(self._counts) and (options.frequency_penalty != 0 or options.presence_penalty != 0)
        if not self._seen and not counted:
            return logits
        logits = self._copy(logits)
        if self._seen:
            ids = self._seen_ids[self._seen_ids < logits.size]
            values = logits[ids]
            penalty = np.float32(options.repetition_penalty)
            logits[ids] = np.where(values > 0, values / penalty, values * penalty)
        if counted:
            ids = np.fromiter(self._counts, dtype=np.int64, count=len(self._counts))
            counts = np.fromiter(self._counts.values(), dtype=np.float32, count=len(self._counts))
            logits[ids] -= counts * np.float32(options.frequency_penalty) + np.float32(options.presence_penalty)
        return logits

    def _limited(self, logits: npt.NDArray[np.float32], limits: Limits) -> npt.NDArray[np.float32]:
        logits = self._copy(logits)
        if limits.allowed is not None:
            values = logits[limits.allowed]
            logits.fill(-np.inf)
            logits[limits.allowed] = values
        if limits.forbidden is not None:
            logits[[token for token in limits.forbidden if token < logits.size]] = -np.inf
        if limits.mask is not None:
            limits.mask(logits)
        return logits

    def _copy(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Copy into the one buffer of this sampler: a fresh one comes from the kernel page by page, which is slow."""
        if self._buffer is None or self._buffer.size != logits.size:
            self._buffer = np.empty(logits.size, dtype=np.float32)
        if logits is not self._buffer:
            self._buffer[:] = logits
        return self._buffer

    def _draw(self, logits: npt.NDArray[np.float32], highest: float) -> int:
        options = self._options
        ids: npt.NDArray[np.int64] | None = None
        if 0 < options.top_k < logits.size:
            ids = np.argpartition(logits, -options.top_k)[-options.top_k :]
            weights = logits[ids]
        else:
            weights = self._copy(logits)
        # Relative to the highest, the most likely token has the weight exp(0) = 1, so nothing overflows.
        weights -= np.float32(highest)
        weights /= np.float32(max(options.temperature, 1e-6))
        np.exp(weights, out=weights)
        if options.top_p < 1:
            _keep_nucleus(weights, options.top_p)
        if options.min_p > 0:
            weights *= weights >= np.float32(options.min_p) * weights.max()
        place = _draw_place(weights, self._random.random())
        return place if ids is None else int(ids[place])

    def _remember(self, token: int) -> None:
        options = self._options
        if options.repetition_penalty != 1.0 and token not in self._seen:
            self._seen.add(token)
            self._seen_ids = np.append(self._seen_ids, token)
        if options.frequency_penalty != 0 or options.presence_penalty != 0:
            self._counts[token] = self._counts.get(token, 0) + 1


def _keep_nucleus(weights: npt.NDArray[np.float32], top_p: float) -> None:
    """Zero all but the fewest, heaviest entries that together reach ``top_p`` of the whole; earlier ones win ties.

    Entries that cannot be among them are left out of the sorting: all those lighter than ``(1 - top_p) / n`` of the whole
    weigh less than ``1 - top_p`` together.
    """
    total = float(weights.sum(dtype=np.float64))
    ascending = weights[weights >= np.float32(total * (1 - top_p) / weights.size)]
    ascending.sort()
    descending = ascending[::-1]
    count = _place_reaching(descending, top_p * total, side="left") + 1
    lightest = descending[count - 1]
    heavier = descending.size - int(np.searchsorted(ascending, lightest, side="right"))
    weights *= weights >= lightest  # several times faster than assigning zeros by a mask
    ties = np.flatnonzero(weights == lightest)
    weights[ties[count - heavier :]] = 0


def _draw_place(weights: npt.NDArray[np.float32], uniform: float) -> int:
    """The entry that ``uniform`` in [0, 1) falls on when the weights are laid end to end; never one of weight 0."""
    return _place_reaching(weights, uniform, side="right", relative=True)


def _place_reaching(
    weights: npt.NDArray[np.float32], target: float, *, side: Literal["left", "right"], relative: bool = False
) -> int:
    """First entry at which the running sum reaches ``target`` (``left``) or exceeds it (``right``).

    First the block of entries is found, then the entry: a running sum over a large vocabulary would take milliseconds.
    If rounding lets no entry reach the target, it is the last one that adds weight.

    Args:
        weights: float32 ``[n]``, not negative, not all zero.
        target: The sum to reach.
        side: Whether equality counts as reaching.
        relative: ``target`` is a fraction of the sum of all.
    """
    starts = np.arange(0, weights.size, _BLOCK_ENTRIES)
    blocks = np.cumsum(np.add.reduceat(weights, starts, dtype=np.float64))
    if relative:
        target *= float(blocks[-1])
    block = _first_reaching(blocks, target, side)
    within = np.cumsum(weights[starts[block] : starts[block] + _BLOCK_ENTRIES], dtype=np.float64)
    before = float(blocks[block - 1]) if block else 0.0
    return int(starts[block]) + _first_reaching(within, target - before, side)


def _first_reaching(running: npt.NDArray[np.float64], target: float, side: Literal["left", "right"]) -> int:
    place = int(np.searchsorted(running, target, side=side))
    return place if place < len(running) else int(np.searchsorted(running, running[-1], side="left"))
