"""Chat templates: Jinja programs that come with a checkpoint and turn messages into the text that the model was trained on.

A template is a stranger's program, so it runs in Jinja's immutable sandbox. What it may use is what ``transformers`` gives
it (``apply_chat_template``): ``raise_exception``, ``strftime_now``, a ``tojson`` that leaves non-ASCII characters alone,
loop controls, and the ``{% generation %}`` block, which marks the assistant's turns for training and means nothing here.
"""

from __future__ import annotations

import hashlib
import json
import traceback
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from local_runtime.errors import InvalidRequestError, TokenizerError
from local_runtime.template_habits import TemplateHabits, as_parts, find_habits

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from jinja2.parser import Parser

__all__ = ["ChatTemplate", "checked_message", "flatten_content"]

_LONGEST_REFUSAL = 300
_SHORT_ID = 9
_PART_TYPES = frozenset({
    "audio", "document", "file", "image", "image_url", "input_audio", "input_file", "input_image", "input_text",
    "output_text", "reasoning", "refusal", "thinking", "tool_result", "tool_use", "video", "video_url",
})  # fmt: skip
"""Types of parts that other interfaces know; only these are named in an error."""

_REASONING_NAMES = ("reasoning_content", "thinking", "reasoning")
_NO_PARAMETERS: Mapping[str, Any] = MappingProxyType({"type": "object", "properties": {}})

_TEMPLATE_FILE = "<template>"  # what Jinja calls a template that comes from a string


class ChatTemplate:
    """A compiled chat template.

    Args:
        source: The Jinja source.
        special_tokens: Variables such as ``bos_token`` that the template may use.
        where: The file that it came from, for errors.

    Raises:
        TokenizerError: The source is not valid Jinja.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, Any], where: str = "the chat template") -> None:
        self.source = source
        self._special_tokens = dict(special_tokens)
        self._where = where
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, loopcontrols]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = _strftime_now
        try:
            self._template = environment.from_string(source)
            self._own_words = frozenset(
                _one_line(constant.value)
                for constant in environment.parse(source).find_all(nodes.Const)
                if isinstance(constant.value, str)
            )
        except jinja2.TemplateSyntaxError as error:
            raise TokenizerError(
                f"The chat template in {where} is not valid Jinja: {error.message} (line {error.lineno}).",
                "Repair the template or copy the checkpoint again.",
            ) from error
        self._habits: TemplateHabits | None = None

    @property
    def habits(self) -> TemplateHabits:
        """What it expects of messages and tools; found out when it is first needed."""
        if self._habits is None:
            self._habits = find_habits(self._probe)
        return self._habits

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        /,
        *,
        add_generation_prompt: bool = True,
        tools: Iterable[Mapping[str, Any]] = (),
        **variables: Any,
    ) -> str:
        """Render a conversation.

        The template gets what ``transformers`` gives it, in the form that this template was written for (`habits`): a key whose
        value is None is left out; what an assistant thought is there by all its names; the arguments of a call, a JSON text in
        OpenAI's shape, are an object where the template writes them as JSON itself; content in parts is flattened for templates
        that know none, see `flatten_content`.

        Args:
            messages: Each with ``role`` and ``content``, and where they have them ``tool_calls``, ``tool_call_id``, ``name`` and
                ``reasoning_content``.
            add_generation_prompt: End with the header of the assistant's turn.
            tools: Functions that the model may call, in OpenAI's shape; ``strict`` is not for the model and is left out.
            variables: Further variables for the template, such as ``enable_thinking`` or ``documents``.

        Returns:
            The prompt's text.

        Raises:
            InvalidRequestError: A message has the wrong shape, or the template refuses the conversation.
            TokenizerError: The template fails for another reason.
        """
        given = {"documents": None, **self._special_tokens, **variables}
        if "messages" in variables:
            raise InvalidRequestError("A chat template variable may not be called messages.", "Pass it as messages.")
        told = [self._in_its_way(checked_message(message, index), index) for index, message in enumerate(messages)]
        shown = [_shown_tool(tool) for tool in tools] or None
        try:
            return self._template.render(
                messages=told, tools=shown, add_generation_prompt=add_generation_prompt, **given
            )
        except _TemplateRefusal as error:
            raise InvalidRequestError(
                f"The model's chat template refuses these messages{self._reason(error)}",
                "Change the messages as it asks.",
            ) from None
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - a stranger's program may fail in every way, and that is not our defect
            # What the error says may quote the conversation, and errors travel into logs; so may its cause.
            raise TokenizerError(
                f"The chat template in {self._where} failed on these messages: {type(error).__name__}{_place(error)}.",
                "Check the roles and the chat template variables.",
            ) from None

    def _in_its_way(self, message: dict[str, Any], index: int) -> dict[str, Any]:
        """A message as this template expects it."""
        told = {key: value for key, value in message.items() if value is not None}
        content = told.get("content")
        if isinstance(content, list) and (self.habits.content == "text" or not content):
            told = flatten_content(told, index)
        elif isinstance(content, str) and content and self._takes_only_parts(content):
            told = as_parts(told)
        if not told.get("tool_calls"):
            told.pop("tool_calls", None)
        else:
            habits = self.habits
            if told.get("content") == "":  # people write that, None or nothing for the same
                del told["content"]
            if "content" not in told and habits.missing_content != "absent":
                told["content"] = None if habits.missing_content == "none" else ""
            told["tool_calls"] = [_told_call(call, habits) for call in told["tool_calls"]]
        if "tool_call_id" in told and self.habits.short_ids:
            told["tool_call_id"] = _short_id(told["tool_call_id"])
        thought = next((told[name] for name in _REASONING_NAMES if name in told), None)
        return told if thought is None else {"thinking": thought, **told, "reasoning_content": thought}

    def _takes_only_parts(self, content: str) -> bool:
        # Only a template that looks at parts can insist on them; the others need not be probed for it.
        return ("'type'" in self.source or '"type"' in self.source or ".type" in self.source) and (
            self.habits.content == "parts"
        )

    def _probe(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None) -> str | None:
        try:
            return self._template.render(
                messages=messages, tools=tools, documents=None, add_generation_prompt=True, **self._special_tokens
            )
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - a stranger's program; that it fails on a probe is what we want to know
            return None

    def _reason(self, refusal: _TemplateRefusal) -> str:
        """What the template says where these are its own words; what it puts together may quote a message."""
        said = _one_line(refusal.message)
        return f": {said}" if said in self._own_words else f"{_place(refusal)}, for a reason that may quote them."


def checked_message(message: Mapping[str, Any], index: int = 0) -> dict[str, Any]:
    """Copy a message whose role, content and calls have the right shape.

    Args:
        message: In OpenAI's shape.
        index: Its place in the conversation, for errors.

    Raises:
        InvalidRequestError: It has no role, content that is not text, or calls that aren't calls of functions.
    """
    role = message.get("role")
    if not isinstance(role, str) or not role:
        raise InvalidRequestError(f"messages[{index}] has no role.", "Give each message a role and a content.")
    content = message.get("content")
    if isinstance(content, list):
        for part in content:
            if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
                raise InvalidRequestError(
                    f"messages[{index}].content has a part of {_kind(part)}; the local model reads text only.",
                    'Send parts of the form {"type": "text", "text": …}.',
                )
    elif content is not None and not isinstance(content, str):
        raise InvalidRequestError(
            f"messages[{index}].content must be a string or a list of text parts, not {type(content).__name__}."
        )
    calls = message.get("tool_calls")
    for call in [] if calls is None else calls if isinstance(calls, list) else [None]:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise InvalidRequestError(
                f"messages[{index}].tool_calls must be a list of calls of functions.",
                'Give each as {"id": …, "type": "function", "function": {"name": …, "arguments": …}}.',
            )
    return dict(message)


def flatten_content(message: Mapping[str, Any], index: int = 0) -> dict[str, Any]:
    """Copy a message with its content as one string: text parts are joined by newlines, None becomes empty.

    Raises:
        InvalidRequestError: As for `checked_message`.
    """
    checked = checked_message(message, index)
    content = checked.get("content")
    if not isinstance(content, str):
        checked["content"] = "\n".join(part["text"] for part in content or ())
    return checked


def _told_call(call: Mapping[str, Any], habits: TemplateHabits) -> dict[str, Any]:
    """A call with its arguments in the form that the template writes, and an id that it takes."""
    arguments_are_text = habits.arguments_are_text
    if habits.short_ids and "id" in call:
        call = {**call, "id": _short_id(call["id"])}
    function = call["function"]
    arguments = function.get("arguments")
    if isinstance(arguments, str) and not arguments_are_text:
        try:
            parsed = json.loads(arguments)
        except ValueError:
            parsed = None
        if isinstance(parsed, dict):  # what is no object was no proper call; it is told as it was written
            arguments = parsed
    elif isinstance(arguments, dict) and arguments_are_text:
        arguments = _tojson(arguments)
    return {**call, "function": {**function, "arguments": {} if arguments is None else arguments}}


def _short_id(call_id: object) -> str:
    """An id of nine letters and digits: the same one if it is like that, else one that follows from it."""
    text = str(call_id)
    if len(text) == _SHORT_ID and text.isascii() and text.isalnum():
        return text
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:_SHORT_ID]


def _shown_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = tool.get("function")
    if not isinstance(function, dict):
        return dict(tool)
    shown = {key: value for key, value in function.items() if key != "strict" and value is not None}
    return {**tool, "function": {**shown, "parameters": shown.get("parameters") or dict(_NO_PARAMETERS)}}


def _kind(part: object) -> str:
    """What a part of a message is, in no words of the message's own."""
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    if isinstance(part, dict) and (not isinstance(kind, str) or kind not in _PART_TYPES):
        return "type 'text' without a text" if kind == "text" else "another type"
    return f"type {kind!r}"


class _TemplateRefusal(jinja2.TemplateError):
    """The template called ``raise_exception``."""


class _GenerationBlock(Extension):
    """``{% generation %}…{% endgeneration %}``: renders what is inside."""

    tags = {"generation"}  # noqa: RUF012  (Jinja's interface: a class attribute)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise_exception(message: object) -> NoReturn:
    raise _TemplateRefusal(str(message))


def _one_line(refusal: str | None) -> str:
    """What the template says, without line breaks and other controls, and not at any length."""
    words = "".join(character if character.isprintable() else " " for character in refusal or "").split()
    line = " ".join(words)
    return line if len(line) <= _LONGEST_REFUSAL else f"{line[:_LONGEST_REFUSAL]}…"


def _place(error: Exception) -> str:
    """The template's line that failed; Jinja puts the template's own lines into the traceback."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == _TEMPLATE_FILE]
    return f" in its line {lines[-1]}" if lines else ""


def _strftime_now(format: str) -> str:  # noqa: A002  (templates may pass it by this name)
    return datetime.now().astimezone().strftime(format)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
