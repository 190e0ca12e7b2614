"""What a chat template expects of messages and tools, found out by asking it: it is rendered with probes.

Templates that know tools differ in whether a call's arguments are an object or its JSON text, in what the content of a
message without content is, and in whether content comes in parts. None of that is declared anywhere, and guessing from
the source would be guessing; a rendered probe shows it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

__all__ = ["PROBE_TOOL", "MissingContent", "TemplateHabits", "find_habits"]

MissingContent = Literal["absent", "none", "empty"]
Render: TypeAlias = Callable[[list[dict[str, Any]], list[dict[str, Any]] | None], str | None]
"""Renders messages and tools as they are, with the header of the assistant's turn; None if the template fails on them."""

PROBE_TOOL = "probe_tool"
_ARGUMENTS = {"probe_key": "probe value"}
_ARGUMENTS_TEXT = '{"probe_key": "probe value"}'
_WRITTEN_ARGUMENTS = re.compile(r'\{\s*"probe_key"\s*:\s*"probe value"\s*\}')
_CALL_ID = "probe0000"
_LONG_CALL_ID = "call_probe00000000000000000000"
_PARTS = ("first probe", "second probe")


@dataclass(frozen=True, slots=True)
class TemplateHabits:
    """What a template expects.

    Attributes:
        arguments_are_text: It writes a call's arguments as they stand, so they have to be JSON text; else they are an object.
        missing_content: How a message that only calls tools has to lack its content.
        content: ``"text"`` if content has to be a string, ``"parts"`` if it has to be a list of parts, ``"both"`` if either will
            do.
        shows_tools: It writes tools into the prompt.
        short_ids: It refuses ids of calls that aren't nine letters and digits, as Mistral's do.
        call: What it writes for a conversation in which :data:`PROBE_TOOL` is called; empty if it writes no calls.
    """

    arguments_are_text: bool = False
    missing_content: MissingContent = "absent"
    content: Literal["text", "parts", "both"] = "text"
    shows_tools: bool = False
    short_ids: bool = False
    call: str = ""


def find_habits(render: Render) -> TemplateHabits:
    """Ask a template for its habits."""

    def with_or_without_tools(messages: list[dict[str, Any]]) -> str | None:
        without = render(messages, None)  # which a template that is only for tools may not survive
        return render(messages, [_tool()]) if without is None else without

    content = _content_habit(with_or_without_tools)

    def told(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [as_parts(message) for message in messages] if content == "parts" else messages

    shows_tools = any(PROBE_TOOL in (render(told(chat), [_tool()]) or "") for chat in _chats())
    in_another_language = TemplateHabits(missing_content="empty", content=content, shows_tools=shows_tools)
    for arguments_are_text in (False, True):
        for missing_content in ("absent", "none", "empty"):
            long_ids = _chats_with_a_call(arguments_are_text, missing_content, _LONG_CALL_ID)
            for chat in _chats_with_a_call(arguments_are_text, missing_content, _CALL_ID):
                call = with_or_without_tools(told(chat)) or ""
                with_long_id = next(long_ids)
                if PROBE_TOOL in call and _WRITTEN_ARGUMENTS.search(call):
                    short_ids = with_or_without_tools(told(with_long_id)) is None
                    return TemplateHabits(arguments_are_text, missing_content, content, shows_tools, short_ids, call)
                if not in_another_language.call and PROBE_TOOL in (render(told(chat), None) or ""):
                    in_another_language = TemplateHabits(False, missing_content, content, shows_tools, False, call)
    return in_another_language


def as_parts(message: dict[str, Any]) -> dict[str, Any]:
    """The message with its content as a list of parts."""
    content = message.get("content")
    return {**message, "content": [{"type": "text", "text": content}]} if isinstance(content, str) else message


def _content_habit(render: Callable[[list[dict[str, Any]]], str | None]) -> Literal["text", "parts", "both"]:
    as_text = render([{"role": "user", "content": _PARTS[0]}])
    takes_text = as_text is not None and _PARTS[0] in as_text
    in_parts = render([{"role": "user", "content": [{"type": "text", "text": part} for part in _PARTS]}])
    # A template that takes no parts and is given some writes the list as Python or as JSON, or nothing of it.
    takes_parts = (
        in_parts is not None
        and all(part in in_parts for part in _PARTS)
        and not re.search(r"""['"]text['"]\s*:""", in_parts)
    )
    if takes_parts:
        return "both" if takes_text else "parts"
    return "text"


def _tool() -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": {"probe_key": {"type": "string", "description": "probe"}},
        "required": ["probe_key"],
    }
    return {"type": "function", "function": {"name": PROBE_TOOL, "description": "probe", "parameters": parameters}}


def _chats() -> Iterator[list[dict[str, Any]]]:
    user = {"role": "user", "content": "probe"}
    yield [user]
    yield [{"role": "system", "content": "probe"}, user]


def _chats_with_a_call(
    arguments_are_text: bool, missing_content: MissingContent, call_id: str
) -> Iterator[list[dict[str, Any]]]:
    function = {"name": PROBE_TOOL, "arguments": _ARGUMENTS_TEXT if arguments_are_text else _ARGUMENTS}
    assistant: dict[str, Any] = {"role": "assistant"}
    if missing_content != "absent":
        assistant["content"] = None if missing_content == "none" else ""
    assistant["tool_calls"] = [{"id": call_id, "type": "function", "function": function}]
    user = {"role": "user", "content": "probe"}
    result = {"role": "tool", "tool_call_id": call_id, "name": PROBE_TOOL, "content": "probe"}
    yield [user, assistant, result]
    yield [user, assistant]
