"""Log probabilities of tokens under the model's own distribution: before bias, temperature, penalties and truncation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from local_runtime.events import LikelyToken, TokenLogprob

if TYPE_CHECKING:
    from collections.abc import Sequence

    from local_runtime.detokenizer import TokenBytes

__all__ = ["LEAST_LOGPROB", "Logprobs", "PromptLogprobs", "log_softmax_offset"]

LEAST_LOGPROB = -9999.0
"""What is told of a token that the model gives no probability at all: JSON has no minus infinity. OpenAI's API tells the same."""


def log_softmax_offset(logits: npt.NDArray[np.float32]) -> float:
    """The logarithm of the sum of ``exp(logits)``: a logit less this is the token's log probability.

    Taken relative to the highest logit, so that nothing overflows, in float32 but for the sum, whose rounding would grow with the
    vocabulary.

    Args:
        logits: float32 ``[vocab]``, the highest of them finite.
    """
    highest = logits.max()
    return float(highest) + float(np.log(np.exp(logits - highest).sum(dtype=np.float64)))


class Logprobs:
    """Tells how likely tokens were.

    Args:
        token_bytes: What tokens stand for.
        top: How many of the likeliest tokens to tell of at each place.
    """

    def __init__(self, token_bytes: TokenBytes, top: int) -> None:
        self._token_bytes = token_bytes
        self._top = top

    def of(self, logits: npt.NDArray[np.float32], token: int) -> TokenLogprob:
        """How likely ``token`` was where the model gave ``logits`` (float32 ``[vocab]``), and what was likeliest there."""
        offset = log_softmax_offset(logits)
        likeliest = _likeliest(logits, min(self._top, logits.size))
        top = [self._likely(candidate, logits, offset) for candidate in likeliest]
        chosen = self._likely(token, logits, offset)
        return TokenLogprob(chosen.token, chosen.id, chosen.logprob, chosen.bytes, top)

    def _likely(self, token: int, logits: npt.NDArray[np.float32], offset: float) -> LikelyToken:
        said = self._token_bytes.of(token)
        logprob = max(float(logits[token]) - offset, LEAST_LOGPROB)
        return LikelyToken(said.decode("utf-8", "replace"), token, logprob, list(said))


class PromptLogprobs:
    """Collects the log probabilities of a prompt's tokens, all but the first, while the prompt is read.

    Args:
        logprobs: Tells them.
        token_ids: The prompt.

    Attributes:
        entries: Those known so far, in order.
    """

    def __init__(self, logprobs: Logprobs, token_ids: Sequence[int]) -> None:
        self.entries: list[TokenLogprob] = []
        self._logprobs = logprobs
        self._token_ids = list(token_ids)

    def wants(self, start: int, end: int) -> bool:
        """Whether the logits after the tokens from ``start`` to before ``end`` tell something new.

        A sequence that lost its pages reads its prompt again, which then is known already.
        """
        known = len(self.entries)  # the next to tell of is token known + 1, by the logits after token ``known``
        return start <= known < min(end, len(self._token_ids) - 1)

    def take(self, start: int, logits: npt.NDArray[np.float32]) -> None:
        """Take the logits after each of the tokens from ``start`` on: float32 ``[tokens, vocab]``."""
        end = min(start + len(logits), len(self._token_ids) - 1)
        for place in range(len(self.entries), end):
            self.entries.append(self._logprobs.of(logits[place - start], self._token_ids[place + 1]))


def _likeliest(logits: npt.NDArray[np.float32], count: int) -> list[int]:
    """The ids of the highest logits, the highest first and the lowest id on ties."""
    if count == 0:
        return []
    least = np.partition(logits, -count)[-count]  # all that is higher is in, and of those that equal it the lowest ids
    ids = np.flatnonzero(logits >= least)
    order = np.argsort(-logits[ids], kind="stable")[:count]
    chosen: list[int] = ids[order].tolist()
    return chosen
