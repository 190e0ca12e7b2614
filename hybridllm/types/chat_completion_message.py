"""The message that a model answered with."""

from __future__ import annotations

from typing import Literal

from hybridllm.types.model import Model

__all__ = ["ChatCompletionMessage"]


class ChatCompletionMessage(Model):
    """An answer; it can be put back into ``messages`` as it is."""

    role: Literal["assistant"] = "assistant"
    """Always ``assistant``."""

    content: str | None = None
    """The answer's text."""

    refusal: str | None = None
    """The text of a refusal, where the model sends it apart from the content."""
