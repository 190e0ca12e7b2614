"""Grammars of answers that are either calls of tools or text that keeps to a grammar of its own, where the two can be told apart.

Hermes' and Mistral's calls begin with a mark. Llama 3's are JSON objects with a name and parameters, so there it depends on the schema
whether an answer could be one.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from local_runtime.errors import InvalidRequestError
from local_runtime.grammar_lark import lark_of
from local_runtime.grammar_references import References
from local_runtime.grammar_schema import parse_schema
from local_runtime.options import Grammar
from local_runtime.tool_calls.grammars import call_grammar, loosened, mark_of, nested, schema_of
from local_runtime.tool_calls.hermes import CALL_BEGIN
from local_runtime.tool_calls.llama3 import PYTHON_TAG
from local_runtime.tool_calls.mistral import TOOL_CALLS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from local_runtime.tool_calls.formats import ToolFormat

__all__ = ["answer_or_calls"]

_ARGUMENTS = ("parameters", "arguments")
"""Properties without one of which an object is no call of Llama 3's."""

_ELSEWHERE = frozenset({"$ref", "allOf", "anyOf", "oneOf", "patternProperties"})
"""Keywords with which a schema may speak of a property elsewhere than in ``properties``."""

_MEND = "Set tool_choice to none or required, or leave out response_format and grammar."


def answer_or_calls(
    tool_format: ToolFormat,
    functions: Sequence[Mapping[str, Any]],
    token_id: Callable[[str], int | None],
    *,
    parallel: bool,
    answer: Grammar,
) -> Grammar:
    """Answers that are calls of these functions and nothing else, or text that keeps to ``answer``.

    An answer is read with ``calls_first`` (:class:`~local_runtime.tool_calls.call_reader.CallReader`): a call begins it, or there is
    none. Arguments of functions that are strict fit their schemas.

    Args:
        tool_format: How the model writes calls.
        functions: Each with its ``name``, ``parameters`` and ``strict``.
        token_id: Id of a mark that is a token, or None.
        parallel: Whether there may be more than one call.
        answer: What an answer in words has to be.

    Raises:
        InvalidRequestError: The model's calls can't be told from such an answer, or its schema is not supported.
    """
    rules = ["start: answer | calls"]
    if tool_format.name == "llama3":
        apart = _apart_from_objects(answer, [str(function["name"]) for function in functions])
        rules.append(f"answer: {nested(apart)}")
        rules += _object_rules(loosened(functions), token_id)
    else:
        rules += _apart_from_mark(answer, CALL_BEGIN if tool_format.name == "hermes" else TOOL_CALLS)
        calls = call_grammar(tool_format, loosened(functions), token_id, parallel=parallel)
        rules.append(f"calls: {nested(calls)}")
    return Grammar("lark", "\n".join(rules) + "\n")


def _object_rules(functions: Sequence[Mapping[str, Any]], token_id: Callable[[str], int | None]) -> list[str]:
    """Rules for one call of Llama 3's, with or without the token that may stand before it.

    In the pieces of which a schema's objects are made too: a longer one could not be left any more when the objects part.
    """
    before = "" if token_id(PYTHON_TAG) is None else f"{mark_of(PYTHON_TAG, token_id)}? "
    rules = [f"calls: {before}object"]
    alternatives = []
    for index, function in enumerate(functions):
        rules.append(f"arguments_{index}: {nested(Grammar('json_schema', json.dumps(schema_of(function))))}")
        pieces = ["{", '"name"', ": ", json.dumps(function["name"], ensure_ascii=False), ", ", '"parameters"', ": "]
        written = " ".join(json.dumps(piece, ensure_ascii=False) for piece in pieces)
        alternatives.append(f'{written} arguments_{index} "}}"')
    return [*rules, f"object: {' | '.join(alternatives)}"]


def _apart_from_mark(answer: Grammar, mark: str) -> list[str]:
    """Rules for the answers that don't begin with a mark. JSON never does; of a grammar in Lark its author has to see to it."""
    if answer.kind == "json_schema":
        parse_schema(answer.text)  # so that an error names its place in the schema, and not in this grammar
    if answer.kind != "regex":
        return [f"answer: {nested(answer)}"]
    pattern = lark_of(answer).removeprefix("start: ")
    marked = f"/[ \\t\\r\\n]*/ {json.dumps(mark)} /(.|\\n)*/"
    return ["answer: ANSWER", f"ANSWER: {pattern} & ~({marked})"]


def _apart_from_objects(answer: Grammar, names: Sequence[str]) -> Grammar:
    """The answers of which none is an object that calls a function by one of these names.

    A schema that says nothing of the properties without which an object is no call has answers without them.

    Raises:
        InvalidRequestError: They can't be told apart, or the schema is not supported.
    """
    if answer.kind not in ("json_object", "json_schema"):
        raise InvalidRequestError(
            f"This model's calls of tools can't be told from an answer that keeps to a {answer.kind} grammar.", _MEND
        )
    schema: dict[str, Any] | bool = {"type": "object"} if answer.kind == "json_object" else parse_schema(answer.text)
    if _never_calls(schema, names):
        return answer
    if (
        isinstance(schema, dict)
        and not _ELSEWHERE & schema.keys()
        and not {*_ARGUMENTS} & {*schema.get("required", ())}
    ):
        closed: dict[str, Any] = dict.fromkeys(_ARGUMENTS, False)
        narrowed = {**schema, "properties": {**closed, **schema.get("properties", {})}}
        if _never_calls(narrowed, names):
            return Grammar("json_schema", json.dumps(narrowed, ensure_ascii=False))
    raise InvalidRequestError(
        "This model's calls of tools can't be told from an answer that keeps to this schema: they are JSON objects with name "
        "and parameters too.",
        f"Call one of the schema's properties otherwise, with additionalProperties: false. {_MEND}",
    )


def _never_calls(schema: dict[str, Any] | bool, names: Sequence[str]) -> bool:
    """Whether it can be shown that nothing that keeps to a schema is a call of Llama 3's by one of these names."""
    references = References(schema)
    return all(
        references.are_disjoint(
            (
                schema,
                {
                    "type": "object",
                    "properties": {"name": {"enum": list(names)}, arguments: {"type": ["object", "string"]}},
                    "required": ["name", arguments],
                },
            )
        )
        for arguments in _ARGUMENTS
    )
