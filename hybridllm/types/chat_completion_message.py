"""The message that a model answered with."""

from __future__ import annotations

from typing import Annotated, Literal

from hybridllm.types.model import CONTENT, Model
from hybridllm.types.tool_call import ToolCall  # noqa: TC001 - pydantic reads the annotations

__all__ = ["ChatCompletionMessage"]


class ChatCompletionMessage(Model):
    """An answer; it can be put back into ``messages`` as it is."""

    role: Literal["assistant"] = "assistant"
    """Always ``assistant``."""

    content: Annotated[str | None, CONTENT] = None
    """The answer's text; None where there is only a refusal, or calls of tools."""

    privacy: str | None = None
    """Label of the answer: that of what produced it. Put back into ``messages``, the message still has it. Not OpenAI's."""

    refusal: Annotated[str | None, CONTENT] = None
    """The text of a refusal, where the model sends it apart from the content."""

    reasoning_content: Annotated[str | None, CONTENT] = None
    """What the model thought before it answered, where the place tells it apart from the content. Not OpenAI's."""

    tool_calls: list[ToolCall] | None = None
    """Calls of tools; None where there is none."""
