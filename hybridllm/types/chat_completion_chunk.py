"""One piece of a streamed answer."""
# ruff: noqa: TC001 - pydantic reads the annotations when a class is made

from __future__ import annotations

from typing import Annotated, Literal

from hybridllm.types.completion_usage import CompletionUsage
from hybridllm.types.logprobs import ChoiceLogprobs, TokenLogprob
from hybridllm.types.model import CONTENT, Model
from hybridllm.types.route import Handover
from hybridllm.types.tool_call import ChoiceDeltaToolCall

__all__ = ["ChatCompletionChunk", "ChoiceDelta", "ChunkChoice"]


class ChoiceDelta(Model):
    """What this piece adds to the message."""

    role: Literal["assistant"] | None = None
    """``assistant`` in the first piece, None afterwards."""

    content: Annotated[str | None, CONTENT] = None
    """Text to append."""

    refusal: Annotated[str | None, CONTENT] = None
    """Text to append to the refusal."""

    reasoning_content: Annotated[str | None, CONTENT] = None
    """Text to append to what the model thinks; in a piece that has both, it comes before ``content``. Not OpenAI's."""

    tool_calls: list[ChoiceDeltaToolCall] | None = None
    """Pieces of calls of tools."""


class ChunkChoice(Model):
    """The piece's share in one choice."""

    index: int = 0
    """Position among the choices."""

    delta: ChoiceDelta
    """What is added."""

    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"] | None = None
    """Set in the last piece that belongs to the choice, None before."""

    logprobs: ChoiceLogprobs | None = None
    """Log probabilities of this piece's tokens, if ``logprobs`` asked for them."""


class ChatCompletionChunk(Model):
    """OpenAI's chat completion chunk object."""

    id: str
    """The same in every piece of one answer."""

    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    """Always ``chat.completion.chunk``."""

    created: int
    """When the answer began, in Unix seconds; the same in every piece."""

    model: str
    """The model that answers, as its place calls it."""

    choices: list[ChunkChoice]
    """One choice; none in the piece that brings the usage. Pieces of several choices come in any order."""

    usage: CompletionUsage | None = None
    """Token counts, in the very last piece, if ``stream_options.include_usage`` asked for them."""

    handover: Handover | None = None
    """Set in the piece, without choices, that says that another place goes on from here. Not OpenAI's."""

    prompt_logprobs: Annotated[list[TokenLogprob] | None, CONTENT] = None
    """Log probabilities of the prompt's tokens, in the piece that ends the last choice. Not OpenAI's."""

    system_fingerprint: None = None
    """Always None: places are told apart by the stream's ``route``, not by a fingerprint."""
