"""Calls of tools in an answer, whole and piece by piece."""

from __future__ import annotations

from typing import Annotated, Literal

from hybridllm.types.model import CONTENT, Model

__all__ = ["ChoiceDeltaToolCall", "ChoiceDeltaToolCallFunction", "FunctionCall", "ToolCall"]


class FunctionCall(Model):
    """Which function is called, and with what."""

    name: Annotated[str, CONTENT]
    """The function's name: one of those that the request offered."""

    arguments: Annotated[str, CONTENT]
    """The arguments as JSON, as the model wrote them. Nobody promises that it is valid: an answer may be cut off in it, and a model
    may write nonsense. Parse it as you would parse any input."""


class ToolCall(Model):
    """A call of a tool; the message with its result names it by its id."""

    id: Annotated[str, CONTENT]
    """Name of the call."""

    type: Literal["function"] = "function"
    """Always ``function``."""

    function: FunctionCall
    """What is called."""


class ChoiceDeltaToolCallFunction(Model):
    """What a piece adds to a function's call."""

    name: Annotated[str | None, CONTENT] = None
    """The function's name, in the call's first piece only."""

    arguments: Annotated[str | None, CONTENT] = None
    """Text to append to the arguments."""


class ChoiceDeltaToolCall(Model):
    """What a piece adds to a call of a tool."""

    index: int
    """Which call of the answer, from 0."""

    id: Annotated[str | None, CONTENT] = None
    """Name of the call, in its first piece only."""

    type: Literal["function"] | None = None
    """``function``, in the call's first piece only."""

    function: ChoiceDeltaToolCallFunction
    """What is added to the call."""
