"""What every check of a caller's value needs: paths, words that may be shown, and copies that nobody can change afterwards."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel

from hybridllm.errors import BadRequest

__all__ = [
    "did_you_mean",
    "field_name",
    "items_of",
    "mapping_of",
    "only_fields",
    "plain_json",
    "shown",
    "text_of",
    "well_formed",
]

# What a role or a part's type is called elsewhere; a mistake is told with these words only, as any other may be content.
_KNOWN_WORDS = frozenset({
    "ai", "allowed_tools", "audio", "bot", "code_interpreter", "computer", "custom", "document", "file", "file_search", "function",
    "human", "image", "image_url", "input_audio", "input_file", "input_image", "input_text", "model", "none", "output_text",
    "reasoning", "refusal", "required", "retrieval", "thinking", "tool", "tool_result", "tool_use", "video", "video_url",
    "web_search",
})  # fmt: skip
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")
_NO_NAME = "<key>"
_DEEPEST = 64
_LARGEST_INTEGER = 2**64


def did_you_mean(word: object, known: Sequence[str]) -> str:
    """A sentence naming the known word that is nearest to ``word``; empty if none is near."""
    near = get_close_matches(word, known, n=1) if isinstance(word, str) else []
    return f"Did you mean {near[0]!r}?" if near else ""


def field_name(key: object) -> str:
    """A key for a path. One that is no name in a program may be a text that slipped into its place."""
    return key if isinstance(key, str) and _NAME.fullmatch(key) else _NO_NAME


def shown(value: object) -> str:
    """A value for a message: words of OpenAI's are quoted, anything else is named by its type, so no content gets out."""
    if value is None:
        return "missing"
    if isinstance(value, str) and value in _KNOWN_WORDS:
        return repr(value)
    return f"a text of {len(value)} characters" if isinstance(value, str) else f"a {type(value).__name__}"


def well_formed(text: str, where: str) -> str:
    """The text, if it can be written as UTF-8.

    Raises:
        BadRequest: It has half of a surrogate pair.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadRequest(
            f"{where} has half of a surrogate pair at position {error.start}, which no encoding can carry.",
            "Read the text as UTF-8 before passing it on.",
            field=where,
        ) from None
    return text


def text_of(value: object, where: str, *, most: int | None = None) -> str:
    """The value, if it is a text of at least one character.

    Raises:
        BadRequest: It is none, or is longer than ``most`` characters.
    """
    if not isinstance(value, str) or not value:
        raise BadRequest(f"{where} is {shown(value) if value != '' else 'empty'}, expected text.", field=where)
    if most is not None and len(value) > most:
        raise BadRequest(f"{where} has {len(value)} characters, and at most {most} are possible.", field=where)
    return well_formed(value, where)


def mapping_of(value: object, where: str, expected: str) -> dict[str, Any]:
    """The value as a mapping with texts as keys, also from an object of this or another library.

    Raises:
        BadRequest: It is none.
    """
    if isinstance(value, BaseModel):
        value = value.model_dump(exclude_none=True, by_alias=True)
    if not isinstance(value, Mapping):
        raise BadRequest(f"{where} is {shown(value)}, expected {expected}.", field=where)
    return {key if isinstance(key, str) else _NO_NAME: item for key, item in value.items()}


def items_of(value: object, where: str, expected: str, *, most: int | None = None) -> Sequence[Any]:
    """The value as a sequence of at least one item.

    Raises:
        BadRequest: It is none, is empty, or has more than ``most`` items.
    """
    if isinstance(value, str | bytes | bytearray | Mapping) or not isinstance(value, Sequence):
        raise BadRequest(f"{where} is {shown(value)}, expected {expected}.", field=where)
    if not value:
        raise BadRequest(f"{where} is empty.", "Leave it out.", field=where)
    if most is not None and len(value) > most:
        raise BadRequest(f"{where} has {len(value)} items, and at most {most} are possible.", field=where)
    return value


def only_fields(value: Mapping[str, Any], known: Sequence[str], where: str, what: str) -> None:
    """Check that a mapping has no other keys.

    Raises:
        BadRequest: It has one; the message names it.
    """
    for key in value:
        if key not in known:
            field = f"{where}.{field_name(key)}"
            raise BadRequest(
                f"{field} is not a field of {what}.",
                did_you_mean(key, known) or f"It has the fields {', '.join(known)}.",
                field=field,
            )


def plain_json(value: object, where: str, *, depth: int = 0) -> Any:
    """A copy of a value that JSON can carry, so that nobody can change it after it was labelled.

    Raises:
        BadRequest: JSON has no such value, or it is nested too deep.
    """
    if isinstance(value, str):
        return well_formed(value, where)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if abs(value) >= _LARGEST_INTEGER:
            raise BadRequest(f"{where} has a whole number of more than 64 bits.", "Write it as text.", field=where)
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise BadRequest(f"{where} has NaN or Infinity, which JSON has not.", "Give a number.", field=where)
        return float(value)
    if depth == _DEEPEST:
        raise BadRequest(f"{where} is nested more than {_DEEPEST} levels deep.", "Make it flatter.", field=where)
    if isinstance(value, Mapping):
        copied = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise BadRequest(f"{where} has a key that is a {type(key).__name__}, expected text.", field=where)
            copied[well_formed(key, where)] = plain_json(item, where, depth=depth + 1)
        return copied
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [plain_json(item, where, depth=depth + 1) for item in value]
    raise BadRequest(f"{where} has a {type(value).__name__}, which JSON cannot carry.", field=where)
