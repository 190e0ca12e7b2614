"""The parts that a message's content may be made of: texts, and pictures for places that can see."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Annotated, Literal

from hybridllm.types.model import CONTENT, Model

__all__ = ["ContentPartParam", "ImagePartParam", "ImageUrlParam", "TextPartParam"]


class TextPartParam(Model):
    """A text part of a message."""

    type: Literal["text"]
    """Always ``text``."""

    text: Annotated[str, CONTENT]
    """The text."""


class ImageUrlParam(Model):
    """Where a picture is, or the picture itself."""

    url: Annotated[str, CONTENT]
    """An ``https`` or ``http`` address, which the remote fetches, or ``data:image/png;base64,…`` with the picture in it (PNG, JPEG,
    WebP or GIF)."""

    detail: Literal["auto", "low", "high"] | None = None
    """How closely the place looks at it."""

    @cached_property
    def read_as(self) -> str:
        """What label memory and detectors read of it: the address, or of a picture in the request its kind and SHA-256.

        A picture's bytes are no text. By the digest, a copy of a labelled picture is recognised.
        """
        if not self.url.startswith("data:"):
            return self.url
        kind = self.url.partition(";")[0]
        return f"{kind} {hashlib.sha256(self.url.encode()).hexdigest()}"


class ImagePartParam(Model):
    """A picture in a user's message. The device reads text only, so it goes to a remote that is declared to have ``vision``."""

    type: Literal["image_url"]
    """Always ``image_url``."""

    image_url: ImageUrlParam
    """The picture."""


ContentPartParam = TextPartParam | ImagePartParam
"""A part of a message's content."""
