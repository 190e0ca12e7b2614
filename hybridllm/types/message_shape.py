"""Checks the shape of ``messages`` and says in one sentence what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel

from hybridllm.errors import BadRequest
from hybridllm.types.message_param import (
    AssistantMessageParam,
    DeveloperMessageParam,
    MessageParam,
    SystemMessageParam,
    TextPartParam,
    UserMessageParam,
)

__all__ = ["did_you_mean", "field_name", "parse_messages", "well_formed"]

_CLASSES: dict[
    str,
    type[SystemMessageParam] | type[DeveloperMessageParam] | type[UserMessageParam] | type[AssistantMessageParam],
] = {
    "system": SystemMessageParam,
    "developer": DeveloperMessageParam,
    "user": UserMessageParam,
    "assistant": AssistantMessageParam,
}
_FIELDS = ("role", "content", "name", "privacy")
# Other libraries dump an assistant's message with these; empty they say nothing, filled they would be ignored.
_ONLY_EMPTY = ("tool_calls", "function_call", "audio", "annotations")

# What a role or a part's type is called elsewhere; a mistake is told with these words only, as any other may be content.
_KNOWN_WORDS = frozenset({
    "ai", "audio", "bot", "document", "file", "human", "image", "image_url", "input_audio", "input_file", "input_image",
    "input_text", "model", "output_text", "reasoning", "refusal", "thinking", "tool_result", "tool_use", "video",
    "video_url",
})  # fmt: skip
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")
_NO_NAME = "<key>"


def did_you_mean(word: object, known: Sequence[str]) -> str:
    """A sentence naming the known word that is nearest to ``word``; empty if none is near."""
    near = get_close_matches(word, known, n=1) if isinstance(word, str) else []
    return f"Did you mean {near[0]!r}?" if near else ""


def parse_messages(messages: object) -> list[MessageParam]:
    """Turn a caller's messages (mappings, or the objects of this or OpenAI's library) into checked ones.

    Raises:
        BadRequest: The first thing that is wrong, with its path.
    """
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
        raise BadRequest(
            f"messages is a {type(messages).__name__}, expected a list of messages.",
            'Write messages=[{"role": "user", "content": "…"}].',
            field="messages",
        )
    if not messages:
        raise BadRequest("messages is empty.", "Pass at least one message.", field="messages")
    return [_parse_message(message, f"messages[{index}]") for index, message in enumerate(messages)]


def _parse_message(message: object, path: str) -> MessageParam:
    if isinstance(message, BaseModel):
        message = message.model_dump(exclude_none=True)
    if not isinstance(message, Mapping):
        raise BadRequest(
            f"{path} is a {type(message).__name__}, expected a mapping with 'role' and 'content'.", field=path
        )
    fields: dict[str, Any] = {key if isinstance(key, str) else _NO_NAME: value for key, value in message.items()}
    role = fields.get("role")
    if role is None:
        raise BadRequest(f"{path} has no 'role'.", f"Use one of {', '.join(_CLASSES)}.", field=f"{path}.role")
    if role in ("tool", "function"):
        raise BadRequest(
            f"{path}.role is {role!r}, and tool calls are not supported.",
            "Leave such messages out.",
            field=f"{path}.role",
        )
    cls = _CLASSES.get(role) if isinstance(role, str) else None
    if cls is None:
        raise BadRequest(
            f"{path}.role is {_shown(role)}, expected one of {', '.join(_CLASSES)}.",
            did_you_mean(role, tuple(_CLASSES)),
            field=f"{path}.role",
        )
    for key in _ONLY_EMPTY:
        if key in fields and not fields.pop(key):
            continue
        if key in message:
            raise BadRequest(f"{path}.{key} is not supported.", "Leave it out.", field=f"{path}.{key}")
    known = (*_FIELDS, "refusal") if role == "assistant" else _FIELDS
    for key in fields:
        if key not in known:
            mend = did_you_mean(key, known) or f"A {role} message has the fields {', '.join(known)}."
            raise BadRequest(
                f"{path}.{field_name(key)} is not a field of a {role} message.", mend, field=f"{path}.{field_name(key)}"
            )
    for key in ("name", "privacy", "refusal"):
        value = fields.get(key)
        if value is not None and not isinstance(value, str):
            raise BadRequest(f"{path}.{key} is a {type(value).__name__}, expected text.", field=f"{path}.{key}")
        if value is not None:
            well_formed(value, f"{path}.{key}")
    fields["content"] = _parse_content(fields.get("content"), path, may_be_empty=bool(fields.get("refusal")))
    return cls(**fields)


def _parse_content(content: object, path: str, *, may_be_empty: bool) -> str | list[TextPartParam] | None:
    where = f"{path}.content"
    if content is None:
        if may_be_empty:
            return None
        raise BadRequest(f"{where} is missing.", "Give the message's text.", field=where)
    if isinstance(content, str):
        return well_formed(content, where)
    if isinstance(content, (bytes, Mapping)) or not isinstance(content, Sequence):
        raise BadRequest(f"{where} is a {type(content).__name__}, expected text or a list of text parts.", field=where)
    return [_parse_part(part, f"{where}[{index}]") for index, part in enumerate(content)]


def _parse_part(part: object, where: str) -> TextPartParam:
    if isinstance(part, BaseModel):
        part = part.model_dump(exclude_none=True)
    if not isinstance(part, Mapping):
        raise BadRequest(
            f"{where} is a {type(part).__name__}, expected a part such as {{'type': 'text', 'text': '…'}}.", field=where
        )
    kind = part.get("type")
    if kind != "text":
        raise BadRequest(
            f"{where}.type is {_shown(kind)}, and only 'text' parts are supported.",
            "Leave images, audio and files out.",
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


def _shown(value: object) -> str:
    """A value for a message: words of OpenAI's are quoted, anything else is named by its type, so no content gets out."""
    if value is None:
        return "missing"
    if isinstance(value, str) and value in _KNOWN_WORDS:
        return repr(value)
    return f"a text of {len(value)} characters" if isinstance(value, str) else f"a {type(value).__name__}"


def field_name(key: object) -> str:
    """A key for a path. One that is no name in a program may be a text that slipped into its place."""
    return key if isinstance(key, str) and _NAME.fullmatch(key) else _NO_NAME
