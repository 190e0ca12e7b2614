"""Every text of a request that a place would see: what detectors read, and what labels that come back are told by."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from hybridllm.types.content_part import ImagePartParam
from hybridllm.types.message_param import AssistantMessageParam, ToolMessageParam
from hybridllm.types.response_format import ResponseFormatJsonSchema
from hybridllm.types.tool_param import NamedToolChoice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hybridllm.types.chat_request import ChatRequest
    from hybridllm.types.message_param import MessageParam
    from hybridllm.types.tool_param import ToolParam

__all__ = ["message_texts", "readings", "request_texts", "tool_texts", "words_of"]

_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|([\"\\/bfnrt]))")
_CONTROLS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
# JSON in a text of JSON in a text of JSON: arguments that quote a document that quotes one.
_MOST_UNESCAPED = 3
_SHORTEST_NUMBER = 5
# Detectors recognise what goes on in the next line; the texts of a JSON value do not go on in each other.
_BETWEEN = ";\n"


def request_texts(request: ChatRequest) -> Iterator[tuple[str, str]]:
    """Every text of a request, as ``(path, text)``; paths hold no content.

    A text with backslashes comes a second time as what it says when it is read as JSON (see ``readings``). Of a picture that is
    in the request its digest comes (``ImageUrlParam.read_as``).
    """
    for path, text in _plain_texts(request):
        for reading in readings(text):
            yield path, reading


def _plain_texts(request: ChatRequest) -> Iterator[tuple[str, str]]:
    for index, message in enumerate(request.messages):
        yield from message_texts(message, f"messages[{index}]")
    for index, text in enumerate(request.stop or ()):
        yield f"stop[{index}]", text
    if request.user:
        yield "user", request.user
    for index, tool in enumerate(request.tools or ()):
        yield from tool_texts(tool, f"tools[{index}]")
    if isinstance(request.tool_choice, NamedToolChoice):
        yield "tool_choice.function.name", request.tool_choice.function.name
    if isinstance(request.response_format, ResponseFormatJsonSchema):
        form, where = request.response_format.json_schema, "response_format.json_schema"
        yield f"{where}.name", form.name
        if form.description:
            yield f"{where}.description", form.description
        yield f"{where}.schema", _BETWEEN.join(words_of(form.schema_))
    if request.grammar is not None:
        yield "grammar.text", request.grammar.text
    if request.metadata:
        yield "metadata", _BETWEEN.join(words_of(request.metadata))
    if request.chat_template_kwargs:
        yield "chat_template_kwargs", _BETWEEN.join(words_of(request.chat_template_kwargs))


def message_texts(message: MessageParam, where: str) -> Iterator[tuple[str, str]]:
    """Every text of a message.

    Args:
        message: The message.
        where: Its path.
    """
    yield f"{where}.content", message.text
    if isinstance(message.content, list):
        for number, part in enumerate(message.content):
            if isinstance(part, ImagePartParam):
                yield f"{where}.content[{number}].image_url.url", part.image_url.read_as
    if message.name:
        yield f"{where}.name", message.name
    if isinstance(message, ToolMessageParam):
        yield f"{where}.tool_call_id", message.tool_call_id
    if not isinstance(message, AssistantMessageParam):
        return
    if message.refusal:
        yield f"{where}.refusal", message.refusal
    if message.reasoning_content:
        yield f"{where}.reasoning_content", message.reasoning_content
    for number, call in enumerate(message.tool_calls or ()):
        at = f"{where}.tool_calls[{number}]"
        yield f"{at}.id", call.id
        yield f"{at}.function.name", call.function.name
        yield f"{at}.function.arguments", call.function.arguments


def tool_texts(tool: ToolParam, where: str) -> Iterator[tuple[str, str]]:
    """Every text of a tool; of its schema all names, words and numbers of five digits up, each on a line.

    Args:
        tool: The tool.
        where: Its path.
    """
    function = tool.function
    yield f"{where}.function.name", function.name
    if function.description:
        yield f"{where}.function.description", function.description
    if function.parameters:
        yield f"{where}.function.parameters", _BETWEEN.join(words_of(function.parameters))


def words_of(value: Any) -> Iterator[str]:
    """Every text in a JSON value, keys too, and the numbers that are long enough to say something."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from words_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from words_of(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        digits = repr(value)
        if len(digits) >= _SHORTEST_NUMBER:
            yield digits


def readings(text: str) -> Iterator[str]:
    r"""A text, and what it says with the escapes of JSON undone, as often as there are some.

    Arguments of calls and results of tools are JSON: ``"M\u00fcller"`` there is what a detector knows as ``Müller``. It need not
    be JSON as a whole, so that the escapes are undone in cut and quoted pieces too.
    """
    yield text
    for _ in range(_MOST_UNESCAPED):
        if "\\" not in text:
            return
        plain = _ESCAPE.sub(_said, text)
        if plain == text:
            return
        # Characters beyond the basic plane are escaped in two halves.
        text = plain.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        yield text


def _said(escape: re.Match[str]) -> str:
    digits, letter = escape.groups()
    return chr(int(digits, 16)) if digits else _CONTROLS.get(letter, letter)
