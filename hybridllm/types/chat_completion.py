"""A whole answer."""
# ruff: noqa: TC001 - pydantic reads the annotations when a class is made

from __future__ import annotations

from typing import Annotated, Literal

from hybridllm.types.chat_completion_message import ChatCompletionMessage
from hybridllm.types.completion_usage import CompletionUsage
from hybridllm.types.logprobs import ChoiceLogprobs, TokenLogprob
from hybridllm.types.model import CONTENT, Model
from hybridllm.types.route import Route

__all__ = ["ChatCompletion", "Choice"]


class Choice(Model):
    """One answer of a completion."""

    index: int = 0
    """Position among the choices."""

    message: ChatCompletionMessage
    """The answer."""

    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"]
    """``stop``: ended by itself or at a stop; ``tool_calls``: it calls tools; ``length``: token limit; ``content_filter``:
    withheld."""

    logprobs: ChoiceLogprobs | None = None
    """Log probabilities of the answer's tokens, if ``logprobs`` asked for them."""


class ChatCompletion(Model):
    """OpenAI's chat completion object, plus ``route``."""

    id: str
    """Unique name of this completion."""

    object: Literal["chat.completion"] = "chat.completion"
    """Always ``chat.completion``."""

    created: int
    """When it was made, in Unix seconds."""

    model: str
    """The model that answered, as its place calls it."""

    choices: list[Choice]
    """As many as ``n`` asked for, in the order of their ``index``."""

    usage: CompletionUsage | None = None
    """Token counts; None if the remote did not send any."""

    prompt_logprobs: Annotated[list[TokenLogprob] | None, CONTENT] = None
    """Log probabilities of every token of the prompt but the first, if ``prompt_logprobs`` asked for them. Not OpenAI's."""

    system_fingerprint: None = None
    """Always None: places are told apart by ``route``, not by a fingerprint."""

    route: Route
    """Which way the answer came, and why."""
