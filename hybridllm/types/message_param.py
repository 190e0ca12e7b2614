"""The messages that a caller passes in."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hybridllm.types.content_part import ImagePartParam, TextPartParam
from hybridllm.types.model import CONTENT, Model
from hybridllm.types.tool_call import ToolCall  # noqa: TC001 - pydantic reads the annotations

__all__ = [
    "AssistantMessageParam",
    "DeveloperMessageParam",
    "MessageParam",
    "SystemMessageParam",
    "TextPartParam",
    "ToolMessageParam",
    "UserMessageParam",
]


class _MessageParam(Model):
    content: Annotated[str | list[TextPartParam] | None, CONTENT]
    """The message's text, or its text parts; None only in an assistant's message that has a ``refusal`` or ``tool_calls``."""

    name: Annotated[str | None, CONTENT] = None
    """Name of who speaks, where several speak in one role.

    A remote gets it. On the device it reaches the model only if the model's chat template uses it, as most do not.
    """

    privacy: str | None = None
    """Label of this message, one of the policy's; not part of OpenAI's shape and never sent anywhere."""

    @property
    def text(self) -> str:
        """All text parts, each on a line of its own."""
        content = self.content
        if content is None or isinstance(content, str):
            return content or ""
        return "\n".join(part.text for part in content if isinstance(part, TextPartParam))


class SystemMessageParam(_MessageParam):
    """Instructions that stand above the conversation."""

    role: Literal["system"]
    """Always ``system``."""


class DeveloperMessageParam(_MessageParam):
    """OpenAI's newer name for a system message; the device's model sees it as one."""

    role: Literal["developer"]
    """Always ``developer``."""


class UserMessageParam(_MessageParam):
    """What the user says, and shows."""

    role: Literal["user"]
    """Always ``user``."""

    content: Annotated[str | list[TextPartParam | ImagePartParam] | None, CONTENT]  # type: ignore[assignment]  # wider than a base's
    """The message's text, or its parts; pictures only here."""


class AssistantMessageParam(_MessageParam):
    """What the model said earlier in the conversation."""

    role: Literal["assistant"]
    """Always ``assistant``."""

    refusal: Annotated[str | None, CONTENT] = None
    """The text of an earlier refusal."""

    reasoning_content: Annotated[str | None, CONTENT] = None
    """What the model thought before it said this.

    The device's model gets it if its chat template uses it. Not OpenAI's: a remote gets it only if it is declared to want it.
    """

    tool_calls: list[ToolCall] | None = None
    """Calls of tools; the next messages have to bring the result of each."""


class ToolMessageParam(_MessageParam):
    """What a tool returned."""

    role: Literal["tool"]
    """Always ``tool``."""

    tool_call_id: Annotated[str, CONTENT]
    """The ``id`` of the call that this is the result of."""


MessageParam = Annotated[
    SystemMessageParam | DeveloperMessageParam | UserMessageParam | AssistantMessageParam | ToolMessageParam,
    Field(discriminator="role"),
]
"""A message, told apart by its ``role``."""
