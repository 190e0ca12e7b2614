"""Checks the shape of ``messages`` and says in one sentence what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel

from hybridllm.errors import BadRequest
from hybridllm.types.message_param import (
    AssistantMessageParam,
    DeveloperMessageParam,
    MessageParam,
    SystemMessageParam,
    ToolMessageParam,
    UserMessageParam,
)
from hybridllm.types.part_shape import parse_content
from hybridllm.types.shape import did_you_mean, field_name, mapping_of, shown, text_of, well_formed
from hybridllm.types.tool_shape import MOST_ID_CHARACTERS, parse_tool_calls

__all__ = ["did_you_mean", "field_name", "parse_messages", "well_formed"]

_CLASSES: dict[
    str,
    type[SystemMessageParam]
    | type[DeveloperMessageParam]
    | type[UserMessageParam]
    | type[AssistantMessageParam]
    | type[ToolMessageParam],
] = {
    "system": SystemMessageParam,
    "developer": DeveloperMessageParam,
    "user": UserMessageParam,
    "assistant": AssistantMessageParam,
    "tool": ToolMessageParam,
}
_FIELDS = ("role", "content", "name", "privacy")
_FIELDS_OF = {
    **dict.fromkeys(_CLASSES, _FIELDS),
    "assistant": (*_FIELDS, "refusal", "reasoning_content", "tool_calls"),
    "tool": (*_FIELDS, "tool_call_id"),
}
# Other libraries dump a message with these; empty they say nothing, filled they would be ignored.
_ONLY_EMPTY = ("tool_calls", "function_call", "audio", "annotations")
# OpenAI's library adds to its objects what it read out of their content; it is not sent back.
_READ_OUT = ("parsed",)


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
    parsed = [_parse_message(message, f"messages[{index}]") for index, message in enumerate(messages)]
    _check_results(parsed)
    return parsed


def _parse_message(message: object, path: str) -> MessageParam:
    given = message
    if isinstance(given, BaseModel):
        given = given.model_dump(exclude_none=True)
        given = {key: value for key, value in given.items() if key not in _READ_OUT}
    if not isinstance(given, Mapping):
        raise BadRequest(
            f"{path} is a {type(given).__name__}, expected a mapping with 'role' and 'content'.", field=path
        )
    fields = mapping_of(given, path, "a mapping with 'role' and 'content'")
    role = fields.get("role")
    if role is None:
        raise BadRequest(f"{path} has no 'role'.", f"Use one of {', '.join(_CLASSES)}.", field=f"{path}.role")
    cls = _CLASSES.get(role) if isinstance(role, str) else None
    if cls is None:
        raise BadRequest(
            f"{path}.role is {shown(role)}, expected one of {', '.join(_CLASSES)}.",
            "Write it as a tool message with a tool_call_id."
            if role == "function"
            else did_you_mean(role, tuple(_CLASSES)),
            field=f"{path}.role",
        )
    known = _FIELDS_OF[role]
    for key in _ONLY_EMPTY:
        if key in fields and not fields[key]:
            del fields[key]
        elif key in fields and key not in known:
            mend = "Only assistant messages have it." if key == "tool_calls" else "Leave it out."
            raise BadRequest(f"{path}.{key} is not supported.", mend, field=f"{path}.{key}")
    for key in fields:
        if key not in known:
            mend = did_you_mean(key, known) or f"A {role} message has the fields {', '.join(known)}."
            raise BadRequest(
                f"{path}.{field_name(key)} is not a field of a {role} message.", mend, field=f"{path}.{field_name(key)}"
            )
    for key in ("name", "privacy", "refusal", "reasoning_content"):
        value = fields.get(key)
        if value is not None and not isinstance(value, str):
            raise BadRequest(f"{path}.{key} is a {type(value).__name__}, expected text.", field=f"{path}.{key}")
        if value is not None:
            well_formed(value, f"{path}.{key}")
    if "tool_calls" in fields:
        fields["tool_calls"] = parse_tool_calls(fields["tool_calls"], f"{path}.tool_calls")
    if role == "tool":
        fields["tool_call_id"] = text_of(fields.get("tool_call_id"), f"{path}.tool_call_id", most=MOST_ID_CHARACTERS)
    may_be_empty = bool(fields.get("refusal") or fields.get("tool_calls"))
    fields["content"] = parse_content(
        fields.get("content"), f"{path}.content", may_be_empty=may_be_empty, pictures=role == "user"
    )
    return cls(**fields)


def _check_results(messages: Sequence[MessageParam]) -> None:
    """Check that every call of a tool is followed by its result, and every result follows its call."""
    waiting: dict[str, str] = {}  # by id, where the call stands
    for index, message in enumerate(messages):
        if isinstance(message, ToolMessageParam):
            if waiting.pop(message.tool_call_id, None) is None:
                raise BadRequest(
                    f"messages[{index}].tool_call_id is the id of no call that the assistant's message before it made and that "
                    "waits for its result.",
                    "Put tool messages right after the assistant message with their tool_calls, one for each call.",
                    field=f"messages[{index}].tool_call_id",
                )
            continue
        _check_nothing_waits(waiting)
        if isinstance(message, AssistantMessageParam):
            waiting = {
                call.id: f"messages[{index}].tool_calls[{number}]"
                for number, call in enumerate(message.tool_calls or ())
            }
    _check_nothing_waits(waiting)


def _check_nothing_waits(waiting: Mapping[str, str]) -> None:
    for where in waiting.values():
        raise BadRequest(
            f"{where} has no tool message with its result after it.",
            "Add a tool message with its id as tool_call_id, before any other message.",
            field=where,
        )
