"""The tools that a model may call, and which of them it has to."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from hybridllm.types.model import CONTENT, Model

__all__ = ["FunctionParam", "NamedToolChoice", "ToolChoice", "ToolFunctionName", "ToolParam"]


class FunctionParam(Model):
    """A function of the caller's."""

    name: Annotated[str, CONTENT]
    """Its name: 1 to 64 of the letters ``a`` to ``z`` in either case, digits, ``_`` and ``-``."""

    description: Annotated[str | None, CONTENT] = None
    """What it does and when to call it, for the model to read."""

    parameters: Annotated[dict[str, Any] | None, CONTENT] = None
    """JSON Schema of its arguments, which are an object; None for no arguments."""

    strict: bool | None = None
    """Whether the arguments have to keep to the schema, which then may use only what OpenAI's strict schemas may."""


class ToolParam(Model):
    """A tool."""

    type: Literal["function"]
    """Always ``function``."""

    function: FunctionParam
    """The function."""

    privacy: str | None = None
    """Label of this tool's description, one of the policy's; not part of OpenAI's shape and never sent anywhere."""


class ToolFunctionName(Model):
    """The name of a function."""

    name: Annotated[str, CONTENT]
    """One of the request's tools."""


class NamedToolChoice(Model):
    """Names the one tool that the answer has to call."""

    type: Literal["function"]
    """Always ``function``."""

    function: ToolFunctionName
    """The function."""


ToolChoice = Literal["none", "auto", "required"] | NamedToolChoice
"""Whether an answer may, must or must not call tools."""
