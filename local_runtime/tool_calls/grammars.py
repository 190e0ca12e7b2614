"""Grammars of answers that call tools, in llguidance's dialect of Lark: what is called then always fits its schema.

A mark that is a token of the model's is referred to by its id, for llguidance takes the text of such a token for
ordinary text, which the model would have to spell.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from local_runtime.grammar_lark import lark_of
from local_runtime.options import Grammar
from local_runtime.tool_calls import hermes, mistral

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from local_runtime.tool_calls.formats import ToolFormat
    from local_runtime.tool_calls.reasoning import ThoughtMarks

__all__ = ["call_grammar", "loosened", "mark_of", "nested", "optional_call_grammar", "schema_of", "with_thought"]

_NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
_FREE_ARGUMENTS: dict[str, Any] = {"type": "object"}


def call_grammar(
    tool_format: ToolFormat,
    functions: Sequence[Mapping[str, Any]],
    token_id: Callable[[str], int | None],
    *,
    parallel: bool,
) -> Grammar:
    """Answers that are calls of these functions and nothing else.

    Args:
        tool_format: How the model writes calls.
        functions: Each with its ``name`` and ``parameters``, a JSON Schema.
        token_id: Id of a mark that is a token, or None.
        parallel: Whether there may be more than one.
    """
    rules = _Rules(token_id)
    call = _call(tool_format, rules, functions)
    if tool_format.name == "llama3":
        start = call  # its templates know one call in an answer
    elif tool_format.name == "hermes":
        one = rules.add("one", f"{rules.mark(hermes.CALL_BEGIN)} {_in_tags(rules, call)}")
        start = f'{one} ("\\n" {one})*' if parallel else one
    else:
        start = f"{rules.mark(mistral.TOOL_CALLS)} {_after_tool_calls(tool_format, rules, call, parallel=parallel)}"
    rules.add("start", start)
    return rules.grammar()


def optional_call_grammar(
    tool_format: ToolFormat,
    functions: Sequence[Mapping[str, Any]],
    token_id: Callable[[str], int | None],
    *,
    parallel: bool,
) -> Grammar:
    """Answers in words that may call these functions, where the arguments of those that are strict fit their schemas.

    Args:
        tool_format: How the model writes calls.
        functions: Each with its ``name``, ``parameters`` and ``strict``.
        token_id: Id of a mark that is a token, or None.
        parallel: Whether there may be more than one call.
    """
    rules = _Rules(token_id)
    call = _call(tool_format, rules, loosened(functions))
    if tool_format.name == "llama3":
        # Its calls are known by their brace only, so an answer in words must not begin with one.
        rules.add("start", f"words | {call}")
        rules.add("words", r"/[ \t\r\n]*([^{\s](.|\n)*)?/")
    elif tool_format.name == "hermes":
        until_call, words = rules.up_to(hermes.CALL_BEGIN)
        rules.add("start", f"({until_call} {_in_tags(rules, call)} SPACE){'*' if parallel else '?'} {words}")
    else:
        until_calls, words = rules.up_to(mistral.TOOL_CALLS)
        calls_rule = _after_tool_calls(tool_format, rules, call, parallel=parallel)
        rules.add("start", f"{words} | {until_calls} {calls_rule}")
    return rules.grammar()


def loosened(functions: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Functions of which those that are not strict take any object."""
    return [
        function if function.get("strict") is True else {**function, "parameters": _FREE_ARGUMENTS}
        for function in functions
    ]


def with_thought(
    grammar: Grammar, marks: ThoughtMarks, token_id: Callable[[str], int | None], *, is_open: bool
) -> Grammar:
    """The same answers after a thought, which is free.

    Args:
        grammar: What the answer is.
        marks: What the thought stands between.
        token_id: Id of a mark that is a token, or None.
        is_open: The prompt ends with the mark of the thought's beginning; else the model may leave it out.
    """
    rules = _Rules(token_id)
    thought, _ = rules.up_to(marks.end)
    rules.add("opened", rules.mark(marks.begin))
    rules.add("start", f"{thought} SPACE answer" if is_open else f"(opened {thought} SPACE)? answer")
    rules.add("answer", nested(grammar))
    return rules.grammar()


class _Rules:
    """The rules of a grammar."""

    def __init__(self, token_id: Callable[[str], int | None]) -> None:
        self._token_id = token_id
        self._lines = [r"ANY: /(.|\n)*/", r"SPACE: /[ \t\r\n]*/"]

    def add(self, name: str, body: str) -> str:
        self._lines.append(f"{name}: {body}")
        return name

    def mark(self, mark: str) -> str:
        return mark_of(mark, self._token_id)

    def up_to(self, mark: str) -> tuple[str, str]:
        """Rules for any text with ``mark`` at its end and nowhere else, and for text without it."""
        self.add("WORDS", f"ANY & ~(ANY {_literal(mark)} ANY)")
        words = self.add("words", "WORDS")
        if self._token_id(mark) is None:
            return self.add("up_to_mark[lazy]", f"ANY {_literal(mark)}").removesuffix("[lazy]"), words
        return self.add("up_to_mark", f"WORDS {self.mark(mark)}"), words

    def grammar(self) -> Grammar:
        return Grammar("lark", "\n".join(self._lines) + "\n")


def _call(tool_format: ToolFormat, rules: _Rules, functions: Sequence[Mapping[str, Any]]) -> str:
    """The rule for one call, without what stands around it."""
    arguments = [schema_of(function) for function in functions]
    names = [str(function["name"]) for function in functions]
    if tool_format.name == "mistral-named":
        for index, schema in enumerate(arguments):
            rules.add(f"arguments_{index}", _json(schema))
        alternatives = [
            f"{_literal(name)} {rules.mark(mistral.ARGUMENTS)} arguments_{index}" for index, name in enumerate(names)
        ]
        return rules.add("call", " | ".join(alternatives))
    key = "parameters" if tool_format.name == "llama3" else "arguments"
    # As the templates write it: the name first, and one space after each colon and comma outside of the arguments.
    for index, schema in enumerate(arguments):
        rules.add(f"arguments_{index}", _json(schema))
    alternatives = [
        f'{_literal(json.dumps({"name": name}, ensure_ascii=False)[:-1] + f", {json.dumps(key)}: ")} arguments_{index} "}}"'
        for index, name in enumerate(names)
    ]
    return rules.add("call", " | ".join(alternatives))


def _in_tags(rules: _Rules, call: str) -> str:
    """A call of Hermes' after its first mark, laid out as its templates do."""
    return f'"\\n" {call} "\\n" {rules.mark(hermes.CALL_END)}'


def _after_tool_calls(tool_format: ToolFormat, rules: _Rules, call: str, *, parallel: bool) -> str:
    """All calls of Mistral's after their first mark."""
    if tool_format.name == "mistral":
        more = f' (", " {call})*' if parallel else ""
        return f'" "? "[" {call}{more} "]"'
    return f"{call} ({rules.mark(mistral.TOOL_CALLS)} {call})*" if parallel else call


def schema_of(function: Mapping[str, Any]) -> dict[str, Any]:
    """What a function's arguments have to be; one without ``parameters`` takes none."""
    return function.get("parameters") or _NO_ARGUMENTS


def mark_of(mark: str, token_id: Callable[[str], int | None]) -> str:
    """A mark in a rule: the token, where it is one."""
    found = token_id(mark)
    return _literal(mark) if found is None else f"<[{found}]>"


def nested(grammar: Grammar) -> str:
    """A grammar as part of a rule of another one."""
    if grammar.kind == "json_schema":
        return f"%json {grammar.text}"
    if grammar.kind == "json_object":
        return _json(_FREE_ARGUMENTS)
    return f"%lark {{\n{lark_of(grammar)}\n}}"


def _json(schema: Mapping[str, Any]) -> str:
    return f"%json {json.dumps(schema, ensure_ascii=False)}"


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
