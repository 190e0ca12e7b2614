"""Chat templates: Jinja programs that come with a checkpoint and turn messages into the text that the model was trained on.

A template is a stranger's program, so it runs in Jinja's immutable sandbox. What it may use is what ``transformers`` gives
it (``apply_chat_template``): ``raise_exception``, ``strftime_now``, a ``tojson`` that leaves non-ASCII characters alone,
loop controls, and the ``{% generation %}`` block, which marks the assistant's turns for training and means nothing here.
"""

from __future__ import annotations

import json
import traceback
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from local_runtime.errors import InvalidRequestError, TokenizerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jinja2.parser import Parser

__all__ = ["ChatTemplate", "flatten_content"]

_LONGEST_REFUSAL = 300
_PART_TYPES = frozenset({
    "audio", "document", "file", "image", "image_url", "input_audio", "input_file", "input_image", "input_text",
    "output_text", "reasoning", "refusal", "thinking", "tool_result", "tool_use", "video", "video_url",
})  # fmt: skip
"""Types of parts that other interfaces know; only these are named in an error."""

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

    def render(
        self, messages: Sequence[Mapping[str, Any]], /, *, add_generation_prompt: bool = True, **variables: Any
    ) -> str:
        """Render a conversation.

        Args:
            messages: Each with ``role`` and ``content``; the content of text parts is flattened, see `flatten_content`.
            add_generation_prompt: End with the header of the assistant's turn.
            variables: Further variables for the template, such as ``enable_thinking``.

        Returns:
            The prompt's text.

        Raises:
            InvalidRequestError: A message has the wrong shape, or the template refuses the conversation.
            TokenizerError: The template fails for another reason.
        """
        given = {"tools": None, "documents": None, **self._special_tokens, **variables}
        if "messages" in variables:
            raise InvalidRequestError("A chat template variable may not be called messages.", "Pass it as messages.")
        flat = [flatten_content(message, index) for index, message in enumerate(messages)]
        try:
            return self._template.render(messages=flat, add_generation_prompt=add_generation_prompt, **given)
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

    def _reason(self, refusal: _TemplateRefusal) -> str:
        """What the template says where these are its own words; what it puts together may quote a message."""
        said = _one_line(refusal.message)
        return f": {said}" if said in self._own_words else f"{_place(refusal)}, for a reason that may quote them."


def flatten_content(message: Mapping[str, Any], index: int = 0) -> dict[str, Any]:
    """Copy a message with its content as one string: text parts are joined by newlines, None becomes empty.

    Args:
        message: In OpenAI's shape.
        index: Its place in the conversation, for errors.

    Raises:
        InvalidRequestError: It has no role, or content that is not text.
    """
    role = message.get("role")
    if not isinstance(role, str) or not role:
        raise InvalidRequestError(f"messages[{index}] has no role.", "Give each message a role and a content.")
    content = message.get("content")
    if content is None:
        text = ""
    elif isinstance(content, str):
        text = content
    elif isinstance(content, list):
        for part in content:
            if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
                raise InvalidRequestError(
                    f"messages[{index}].content has a part of {_kind(part)}; the local model reads text only.",
                    'Send parts of the form {"type": "text", "text": …}.',
                )
        text = "\n".join(part["text"] for part in content)
    else:
        raise InvalidRequestError(
            f"messages[{index}].content must be a string or a list of text parts, not {type(content).__name__}."
        )
    return {**message, "content": text}


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
