"""The formats in which models call tools, and how to find out which one a model has.

A template that writes calls of earlier turns into the prompt writes them as the model writes its own; a rendered probe
(`local_runtime.template_habits`) shows how. Where a template writes none, the marks in its source tell.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from local_runtime.template_habits import PROBE_TOOL
from local_runtime.tool_calls import hermes, llama3, mistral
from local_runtime.tool_calls.reasoning import THOUGHT_MARKS, ThoughtMarks

if TYPE_CHECKING:
    from local_runtime.chat_template import ChatTemplate
    from local_runtime.tokenizer import ChatTokenizer
    from local_runtime.tool_calls.call_reader import CallReader

__all__ = ["FORMATS", "MARKS", "FormatName", "ToolFormat", "thought_marks_of", "tool_format_of"]

FormatName = Literal["hermes", "llama3", "mistral", "mistral-named"]


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """How a model calls tools.

    Attributes:
        name: ``"hermes"``: ``<tool_call>{"name": …, "arguments": {…}}</tool_call>`` (Hermes, Qwen 2.5 and 3); ``"llama3"``:
            ``{"name": …, "parameters": {…}}`` as the whole answer; ``"mistral"``: ``[TOOL_CALLS] [{"name": …, "arguments": {…}}]``;
            ``"mistral-named"``: ``[TOOL_CALLS]name[ARGS]{…}``.
        reader: Reads it.
        marks: The marks of the format, some of which may be special tokens of the model.
        id_prefix: What the id of a call begins with.
        id_length: How many letters and digits follow; Mistral's templates insist on nine in all.
    """

    name: FormatName
    reader: type[CallReader]
    marks: tuple[str, ...]
    id_prefix: str = "call_"
    id_length: int = 24


_MISTRAL_MARKS = (mistral.TOOL_CALLS, mistral.ARGUMENTS, mistral.CALL_ID)
FORMATS: dict[FormatName, ToolFormat] = {
    "hermes": ToolFormat("hermes", hermes.HermesReader, (hermes.CALL_BEGIN, hermes.CALL_END)),
    "llama3": ToolFormat("llama3", llama3.Llama3Reader, (llama3.PYTHON_TAG,)),
    "mistral": ToolFormat("mistral", mistral.MistralReader, _MISTRAL_MARKS, "", 9),
    "mistral-named": ToolFormat("mistral-named", mistral.MistralReader, _MISTRAL_MARKS, "", 9),
}
"""The formats that are known."""

MARKS = frozenset(
    [mark for tool_format in FORMATS.values() for mark in tool_format.marks]
    + [mark for marks in THOUGHT_MARKS for mark in (marks.begin, marks.end)]
)
"""Everything that tells a call or a thought from text; where it is a token, it must not be typed by anybody."""

_NAME = re.escape(PROBE_TOOL)
_AS_WRITTEN: tuple[tuple[FormatName, re.Pattern[str]], ...] = (
    ("hermes", re.compile(rf'<tool_call>\s*\{{[^<]*"name"\s*:\s*"{_NAME}"[^<]*\}}\s*</tool_call>')),
    ("mistral", re.compile(rf'\[TOOL_CALLS\]\s*\[\s*\{{[^\[]*"name"\s*:\s*"{_NAME}"')),
    ("mistral-named", re.compile(rf"\[TOOL_CALLS\]\s*{_NAME}\s*(\[CALL_ID\][^\[]*)?(\[ARGS\])?\s*\{{")),
    ("llama3", re.compile(rf'(?:^|[\s>])\{{\s*"name"\s*:\s*"{_NAME}"\s*,\s*"parameters"\s*:')),
)
# In a template that writes no calls. Others write something else between the same marks: Qwen3-Coder, GLM.
_IN_SOURCE: tuple[tuple[FormatName, str], ...] = (
    ("hermes", hermes.CALL_BEGIN),
    ("mistral-named", mistral.ARGUMENTS),
    ("mistral", mistral.TOOL_CALLS),
    ("llama3", llama3.PYTHON_TAG),
)
_OTHER_LANGUAGES = ("<function=", "<arg_key>")


def tool_format_of(template: ChatTemplate | None) -> ToolFormat | None:
    """The format in which a model with this template calls tools; None if it shows no tools, or its format isn't known."""
    if template is None or not template.habits.shows_tools:
        return None
    written = template.habits.call
    if written:
        return next((FORMATS[name] for name, pattern in _AS_WRITTEN if pattern.search(written)), None)
    if any(mark in template.source for mark in _OTHER_LANGUAGES):
        return None
    return next((FORMATS[name] for name, mark in _IN_SOURCE if mark in template.source), None)


def thought_marks_of(tokenizer: ChatTokenizer, template: ChatTemplate | None) -> ThoughtMarks | None:
    """What a model's thoughts stand between; None if nothing says that it thinks."""
    for marks in THOUGHT_MARKS:
        if template is not None and marks.end in template.source:
            return marks
        if tokenizer.added_token_id(marks.begin) is not None and tokenizer.added_token_id(marks.end) is not None:
            return marks
    return None
