"""Checks a message's content: a text, or a list of parts."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel

from hybridllm.errors import BadRequest
from hybridllm.types.content_part import ImagePartParam, ImageUrlParam, TextPartParam
from hybridllm.types.shape import field_name, mapping_of, only_fields, shown, text_of, well_formed

__all__ = ["parse_content"]

_LONGEST_ADDRESS = 2048
_DATA_URL = re.compile(r"data:(image/(?:png|jpeg|webp|gif));base64,([A-Za-z0-9+/]+={0,2})")
# How the bytes of each kind begin. What does not is no picture, and could be a text that no detector reads.
_BEGINNINGS = {
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "image/gif": re.compile(rb"GIF8[79]a"),
}
_READ_BASE64 = 32
_DETAILS = ("auto", "low", "high")


def parse_content(
    content: object, where: str, *, may_be_empty: bool, pictures: bool
) -> str | list[TextPartParam] | list[TextPartParam | ImagePartParam] | None:
    """Check a message's content.

    Args:
        content: What the caller gave.
        where: Its path.
        may_be_empty: Whether the message says something without it.
        pictures: Whether pictures may be among its parts.

    Raises:
        BadRequest: The first thing that is wrong.
    """
    if content is None:
        if may_be_empty:
            return None
        raise BadRequest(f"{where} is missing.", "Give the message's text.", field=where)
    if isinstance(content, str):
        return well_formed(content, where)
    if isinstance(content, (bytes, Mapping)) or not isinstance(content, Sequence):
        raise BadRequest(f"{where} is a {type(content).__name__}, expected text or a list of text parts.", field=where)
    return [_parse_part(part, f"{where}[{index}]", pictures=pictures) for index, part in enumerate(content)]


def _parse_part(part: object, where: str, *, pictures: bool) -> TextPartParam | ImagePartParam:
    if isinstance(part, BaseModel):
        part = part.model_dump(exclude_none=True)
    if not isinstance(part, Mapping):
        raise BadRequest(
            f"{where} is a {type(part).__name__}, expected a part such as {{'type': 'text', 'text': '…'}}.", field=where
        )
    kind = part.get("type")
    if kind == "image_url" and pictures:
        return _parse_image(part, where)
    if kind != "text":
        raise BadRequest(
            f"{where}.type is {shown(kind)}, and only 'text' parts are supported"
            f"{', and image_url parts in user messages' if kind == 'image_url' else ''}.",
            "Put the picture into a user message." if kind == "image_url" else "Leave audio and files out.",
            field=f"{where}.type",
        )
    if not isinstance(part.get("text"), str):
        raise BadRequest(f"{where}.text is a {type(part.get('text')).__name__}, expected text.", field=f"{where}.text")
    for key in part:
        if key not in ("type", "text"):
            raise BadRequest(
                f"{where}.{field_name(key)} is not a field of a text part.", field=f"{where}.{field_name(key)}"
            )
    return TextPartParam(type="text", text=well_formed(part["text"], where))


def _parse_image(part: Mapping[Any, Any], where: str) -> ImagePartParam:
    fields = mapping_of(part, where, "an image part")
    only_fields(fields, ("type", "image_url"), where, "an image part")
    where = f"{where}.image_url"
    image = mapping_of(fields.get("image_url"), where, "a mapping with 'url'")
    only_fields(image, ("url", "detail"), where, "image_url")
    detail = image.get("detail")
    if detail is not None and detail not in _DETAILS:
        raise BadRequest(
            f"{where}.detail is {shown(detail)}, expected one of {', '.join(_DETAILS)}.", field=f"{where}.detail"
        )
    url = text_of(image.get("url"), f"{where}.url")
    _check_url(url, f"{where}.url")
    return ImagePartParam(type="image_url", image_url=ImageUrlParam(url=url, detail=detail))


def _check_url(url: str, where: str) -> None:
    data = _DATA_URL.fullmatch(url)
    if data is not None:
        if not _is_picture(data.group(1), data.group(2)):
            raise BadRequest(
                f"{where} holds no picture of the kind that it names.", "Encode the file's bytes.", field=where
            )
        return
    if url.startswith("data:"):
        raise BadRequest(
            f"{where} is not a picture in base64.",
            "Write data:image/png;base64,… with a PNG, or the like with jpeg, webp or gif.",
            field=where,
        )
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("https", "http") and bool(parts.hostname) and parts.password is None
    except ValueError:
        usable = False
    if not usable or len(url) > _LONGEST_ADDRESS or not url.isprintable() or " " in url:
        raise BadRequest(
            f"{where} is not an address with http or https.",
            "Write https://…, or data:image/png;base64,… with the picture in it.",
            field=where,
        )


def _is_picture(kind: str, encoded: str) -> bool:
    if len(encoded) % 4:
        return False
    try:
        beginning = base64.b64decode(encoded[:_READ_BASE64], validate=True)
    except binascii.Error:
        return False
    return _BEGINNINGS[kind].match(beginning) is not None
