"""The texts of a request that may be written anew, and the request with what they were made into.

Redaction goes through a request twice, to collect the texts and to put the redacted ones back; both ways are this one.
Names and ids of tools and calls, schemas, grammars, metadata, template variables and pictures are not among them: programs read
those, and a placeholder in them would mean something else. What a detector finds there keeps the request on the device.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

from hybridllm.types.content_part import TextPartParam
from hybridllm.types.message_param import AssistantMessageParam, ToolMessageParam

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hybridllm.types.chat_request import ChatRequest
    from hybridllm.types.message_param import MessageParam

__all__ = ["rewritten"]

# Detectors recognise what begins in one text and ends in the next; the texts of a JSON value do not go on in each other.
_BETWEEN = ";"


def rewritten(request: ChatRequest, change: Callable[[str], str], bare: Callable[[str], str]) -> ChatRequest:
    """A request whose texts were changed.

    Args:
        request: The request.
        change: Makes another text of each, in an order that is always the same.
        bare: Makes what ``change`` has returned fit for fields in which servers want plain words.
    """
    changes: dict[str, Any] = {"messages": [_message(message, change, bare) for message in request.messages]}
    if request.stop:
        changes["stop"] = [change(text) for text in request.stop]
    if request.user:
        changes["user"] = bare(change(request.user))
    return request.model_copy(update=changes)


def _message(message: MessageParam, change: Callable[[str], str], bare: Callable[[str], str]) -> MessageParam:
    changes: dict[str, Any] = {}
    if isinstance(message.content, str):
        # What a tool returns is mostly JSON, in which a find may be escaped.
        is_json = isinstance(message, ToolMessageParam) and "\\" in message.content
        changes["content"] = _in_json(message.content, change) if is_json else change(message.content)
    elif message.content is not None:
        changes["content"] = [
            part.model_copy(update={"text": change(part.text)}) if isinstance(part, TextPartParam) else part
            for part in message.content
        ]
    if message.name:
        changes["name"] = bare(change(message.name))
    if isinstance(message, AssistantMessageParam):
        for name in ("refusal", "reasoning_content"):
            if getattr(message, name):
                changes[name] = change(getattr(message, name))
        if message.tool_calls:
            changes["tool_calls"] = [
                call.model_copy(
                    update={
                        "function": call.function.model_copy(
                            update={"arguments": _in_json(call.function.arguments, change)}
                        )
                    }
                )
                for call in message.tool_calls
            ]
    return message.model_copy(update=changes)


def _in_json(text: str, change: Callable[[str], str]) -> str:
    """JSON with every text in it changed, keys too; one in which nothing changes stays as it was written.

    Numbers stay: a placeholder is no number. What is not JSON, or cannot be written as it was, is changed as the text that it is.
    """
    try:
        value = json.loads(text, object_pairs_hook=_once_each, parse_constant=_no_number)
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return change(text)
    changed = _value(value, change)
    change(_BETWEEN)
    return text if changed == value else json.dumps(changed, ensure_ascii=False)


def _value(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        change(_BETWEEN)
        return change(value)
    if isinstance(value, dict):
        return {_value(key, change): _value(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_value(item, change) for item in value]
    return value


def _once_each(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")  # one of the two would be lost
    return found


def _no_number(_word: str) -> NoReturn:
    raise ValueError("JSON has no such number")
