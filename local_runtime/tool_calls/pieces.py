"""What a piece of a model's text comes to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from local_runtime.content import CONTENT, hides_content

if TYPE_CHECKING:
    from local_runtime.events import ToolCallDelta

__all__ = ["AnswerPieces"]


@hides_content
@dataclass(frozen=True, slots=True)
class AnswerPieces:
    """What a piece of a model's text comes to.

    Attributes:
        text: Text to append to the answer.
        reasoning: Text to append to what the model thinks before it answers.
        tool_calls: Further pieces of calls of tools.
    """

    text: str = field(default="", metadata=CONTENT)
    reasoning: str = field(default="", metadata=CONTENT)
    tool_calls: list[ToolCallDelta] = field(default_factory=list, metadata=CONTENT)
