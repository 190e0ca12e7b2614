"""The messages that a caller passes in."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hybridllm.types.model import CONTENT, Model

__all__ = [
    "AssistantMessageParam",
    "DeveloperMessageParam",
    "MessageParam",
    "SystemMessageParam",
    "TextPartParam",
    "UserMessageParam",
]


class TextPartParam(Model):
    """A text part of a message."""

    type: Literal["text"]
    """Always ``text``: images, audio and files are not supported."""

    text: Annotated[str, CONTENT]
    """The text."""


class _MessageParam(Model):
    content: Annotated[str | list[TextPartParam] | None, CONTENT]
    """The message's text, or its text parts; None only in an assistant's message that has a ``refusal``."""

    name: Annotated[str | None, CONTENT] = None
    """Name of who speaks, where several speak in one role.

    A remote gets it. On the device it reaches the model only if the model's chat template uses it, as most do not.
    """

    privacy: str | None = None
    """Label of this message, one of the policy's; not part of OpenAI's shape and never sent anywhere."""

    @property
    def text(self) -> str:
        """All text parts, each on a line of its own."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content or ())


class SystemMessageParam(_MessageParam):
    """Instructions that stand above the conversation."""

    role: Literal["system"]
    """Always ``system``."""


class DeveloperMessageParam(_MessageParam):
    """OpenAI's newer name for a system message; the device's model sees it as one."""

    role: Literal["developer"]
    """Always ``developer``."""


class UserMessageParam(_MessageParam):
    """What the user says."""

    role: Literal["user"]
    """Always ``user``."""


class AssistantMessageParam(_MessageParam):
    """What the model said earlier in the conversation."""

    role: Literal["assistant"]
    """Always ``assistant``."""

    refusal: Annotated[str | None, CONTENT] = None
    """The text of an earlier refusal."""


MessageParam = Annotated[
    SystemMessageParam | DeveloperMessageParam | UserMessageParam | AssistantMessageParam,
    Field(discriminator="role"),
]
"""A message, told apart by its ``role``."""
