"""Log probabilities of tokens, in OpenAI's shape."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hybridllm.types.model import CONTENT, Model

__all__ = ["LEAST_LOGPROB", "ChoiceLogprobs", "TokenLogprob", "TopLogprob"]

LEAST_LOGPROB = -9999.0
"""Stands for everything that is as good as impossible, as with OpenAI: JSON has no infinity."""


class TopLogprob(Model):
    """A token that could have stood at a place."""

    token: Annotated[str, CONTENT]
    """The token as text; bytes that are no UTF-8 alone become U+FFFD."""

    logprob: float
    """Natural logarithm of its probability; -9999.0 for one that is as good as impossible."""

    bytes: Annotated[list[int] | None, CONTENT] = None
    """The bytes that it stands for; None where the place does not say."""


class TokenLogprob(TopLogprob):
    """A token that does stand there."""

    top_logprobs: Annotated[list[TopLogprob], CONTENT] = Field(default_factory=list)
    """The likeliest tokens at its place, likeliest first; as many as ``top_logprobs`` asked for, or fewer."""


class ChoiceLogprobs(Model):
    """Log probabilities of one answer, or of one piece of it."""

    content: Annotated[list[TokenLogprob] | None, CONTENT] = None
    """Of each token, in order."""

    refusal: None = None
    """Always None: those of a refusal are not passed on."""
