"""Every kind of grammar as one text in llguidance's dialect of Lark.

A schema is written for its compiler here, a little narrower than it came, where what it allows is more than readers of JSON
take: the days of February are counted, a second 60 is left out, and a whole number without bounds stays within ±(2^53 - 1).
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

from local_runtime.errors import InvalidRequestError
from local_runtime.grammar_schema import SchemaError, check_schema, parse_schema

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local_runtime.options import Grammar

__all__ = ["lark_for_schema", "lark_for_token", "lark_of"]

_MOST_TEXT_CHARACTERS = 256 * 1024
_MOST_RULES = 1_000
_LARGEST_EXACT = 2**53 - 1  # every reader of JSON holds whole numbers up to here exactly (RFC 8259, section 6)
_SMALL = 1e-9

# What is left out of a schema for the compiler: it says nothing about an answer.
_SILENT = frozenset({
    "$schema", "$id", "$comment", "contentEncoding", "contentMediaType", "default", "deprecated", "description", "discriminator",
    "examples", "readOnly", "title", "writeOnly",
})  # fmt: skip

_YEAR = r"(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
_LEAP = r"(?:0[48]|[2468][048]|[13579][26])"
_DATE = (
    rf"(?:{_YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    rf"|02-(?:0[1-9]|1[0-9]|2[0-8]))|(?:[0-9]{{2}}{_LEAP}|{_LEAP}00)-02-29)"
)
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
_PATTERNS = {"date": f"^{_DATE}$", "time": f"^{_TIME}$", "date-time": f"^{_DATE}T{_TIME}$"}

# One way to write each character, so that a key is never that of a declared property in disguise, and no half of a surrogate
# pair can be written. One way to write the space between, so that a model cannot go on with line breaks for ever.
_ESCAPES = {"json_allowed_escapes": '"\\bfnrt', "json_allow_general_unicode_escapes": False}
_ONE_LINE = {**_ESCAPES, "whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_ANY_SPACE = {**_ESCAPES, "whitespace_flexible": True}

_LARK_PIECES = re.compile(
    r"""
      "(?:\\.|[^"\\\n])*"        # a text
    | /(?![/*])(?:\\.|[^/\\\n])+/  # a regular expression
    | (?://|\#)[^\n]*           # a comment
    | (?P<json>%json\s*)
    """,
    re.VERBOSE,
)
_RULE = re.compile(r"^[ \t]*[?!]?[A-Za-z_][A-Za-z0-9_-]*[^\n\"/:]*:", re.MULTILINE)
_NO_FORCING = '%llguidance {"no_forcing": true}\n'


def lark_for_schema(schema: Mapping[str, Any] | bool, where: str = "schema", *, any_space: bool = False) -> str:
    """An expression for a Lark rule's right side that stands for JSON that keeps to ``schema``.

    Call it for the arguments of a tool and put the result into a rule of a ``Grammar("lark", ...)``::

        call: "<tool_call>\\n{\\"name\\": \\"look_up\\", \\"arguments\\": " arguments "}\\n</tool_call>"
        arguments: %json {...}          # what this function gives

    The schema may keep its own ``$defs``; two such expressions in one grammar know nothing of each other. Only the JSON is
    matched, without space around it.

    Args:
        schema: The schema.
        where: What the path of an error begins with.
        any_space: Allow any space between the parts; else they are written as Python's ``json.dumps`` does, on one line.

    Raises:
        SchemaError: The schema is not supported; the message names the keyword and its path.
    """
    check_schema(schema, where)
    return _json_expression(schema, any_space=any_space)


def lark_for_token(token_id: int) -> str:
    """An expression for a Lark rule that stands for one token, such as the special one that begins a call of a tool."""
    return f"<[{token_id}]>"


def lark_of(grammar: Grammar, *, any_space: bool = False, forcing: bool = True) -> str:
    """The Lark text of a grammar, which is checked as far as that needs no compiler.

    Args:
        grammar: The grammar.
        any_space: See :func:`lark_for_schema`.
        forcing: Where the grammar leaves one text only, allow only the tokens that the tokenizer would write it in.

    Raises:
        InvalidRequestError: It is too large, or holds a schema that is not supported.
    """
    if len(grammar.text) > _MOST_TEXT_CHARACTERS:
        raise InvalidRequestError(
            f"The grammar has {len(grammar.text)} characters, but may have {_MOST_TEXT_CHARACTERS}.", "Make it shorter."
        )
    try:
        grammar.text.encode()
    except UnicodeEncodeError:
        raise InvalidRequestError(
            "The grammar has half of a surrogate pair, which no encoding can carry.", "Write the whole character."
        ) from None
    if grammar.kind == "json_object":
        text = "start: " + _json_expression({"type": "object"}, any_space=any_space)
    elif grammar.kind == "json_schema":
        text = "start: " + _json_expression(parse_schema(grammar.text), any_space=any_space)
    elif grammar.kind == "regex":
        text = f"start: /{_without_slashes(grammar.text)}/"
    else:
        text = _with_checked_schemas(grammar.text, any_space=any_space)
    return text if forcing else _NO_FORCING + text


def _without_slashes(pattern: str) -> str:
    r"""The pattern with each slash as ``\/`` and each line break as ``\n``, for what stands between two slashes."""
    return re.sub(
        r"\\.|/|\n", lambda m: {"/": r"\/", "\n": r"\n", "\\\n": r"\n"}.get(m[0], m[0]), pattern, flags=re.DOTALL
    )


def _with_checked_schemas(text: str, *, any_space: bool) -> str:
    """A Lark text with every ``%json`` in it checked and written for the compiler."""
    if len(_RULE.findall(text)) > _MOST_RULES:
        raise InvalidRequestError(f"The grammar has more than {_MOST_RULES} rules.", "Make it smaller.")
    written = []
    done = scanned = count = 0
    while (piece := _LARK_PIECES.search(text, scanned)) is not None:
        scanned = piece.end()
        if piece["json"] is None:
            continue
        where = f"grammar.%json[{count}]"
        count += 1
        written.append(text[done : piece.start()])
        try:
            schema, done = json.JSONDecoder().raw_decode(text, scanned)
        except (ValueError, RecursionError):
            raise SchemaError(f"{where} is not followed by a schema.", "Write %json {...}.", where) from None
        scanned = done
        if isinstance(schema, dict) and schema.get("x-guidance") in (_ONE_LINE, _ANY_SPACE):
            del schema["x-guidance"]  # this module wrote it, for a grammar that became a part of this one
        written.append(lark_for_schema(schema, where, any_space=any_space))
    written.append(text[done:])
    return "".join(written)


def _json_expression(schema: Mapping[str, Any] | bool, *, any_space: bool) -> str:
    options = _ANY_SPACE if any_space else _ONE_LINE
    body = {} if schema is True else _for_compiler(schema)
    return "%json " + json.dumps({"x-guidance": options, **body}, ensure_ascii=False)


def _for_compiler(schema: Any) -> Any:
    """A checked schema without what only annotates, and as much narrower as the module says."""
    if not isinstance(schema, dict):
        return schema
    written: dict[str, Any] = {}
    further: list[dict[str, Any]] = []
    for keyword, value in schema.items():  # in their order, from which that of properties follows
        if keyword in _SILENT:
            continue
        if keyword == "oneOf":  # its branches were found to exclude each other
            branches = {"anyOf": list(map(_for_compiler, value))}
            if "anyOf" in schema:
                further.append(branches)
            else:
                written |= branches
        elif keyword == "format" and value in _PATTERNS:
            if "pattern" in schema:
                further.append({"pattern": _PATTERNS[value]})
            else:
                written["pattern"] = _PATTERNS[value]
        elif keyword in ("anyOf", "allOf", "prefixItems"):
            written[keyword] = list(map(_for_compiler, value))
        elif keyword in ("items", "additionalProperties"):
            written[keyword] = _for_compiler(value)
        elif keyword in ("properties", "patternProperties", "$defs", "definitions"):
            written[keyword] = {name: _for_compiler(item) for name, item in value.items()}
        else:
            written[keyword] = value
    _bound_integers(written)
    _include_bounds(written)
    if further:
        written["allOf"] = [*written.get("allOf", ()), *further]
    return written


def _bound_integers(schema: dict[str, Any]) -> None:
    kinds = schema.get("type", "")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if "integer" not in kinds or "number" in kinds or "const" in schema or "enum" in schema:
        return
    least = max(schema.get("minimum", -_LARGEST_EXACT), schema.get("exclusiveMinimum", -_LARGEST_EXACT))
    most = min(schema.get("maximum", _LARGEST_EXACT), schema.get("exclusiveMaximum", _LARGEST_EXACT))
    if "minimum" not in schema and "exclusiveMinimum" not in schema and most > -_LARGEST_EXACT:
        schema["minimum"] = -_LARGEST_EXACT
    if "maximum" not in schema and "exclusiveMaximum" not in schema and least < _LARGEST_EXACT:
        schema["maximum"] = _LARGEST_EXACT


def _include_bounds(schema: dict[str, Any]) -> None:
    """Put a bound that is included, a very little further in, for a whole number that is excluded.

    llguidance 1.9.1 lets such a number itself pass where no other whole number lies between the bounds.
    """
    kinds = schema.get("type", "number")
    if "number" not in ([kinds] if isinstance(kinds, str) else kinds):
        return
    low = max((schema[name] for name in ("minimum", "exclusiveMinimum") if name in schema), default=None)
    high = min((schema[name] for name in ("maximum", "exclusiveMaximum") if name in schema), default=None)
    step = _SMALL if low is None or high is None else min(_SMALL, (high - low) * _SMALL)
    for excluding, including, bound, sign in (
        ("exclusiveMinimum", "minimum", low, 1),
        ("exclusiveMaximum", "maximum", high, -1),
    ):
        if excluding in schema and schema[excluding] == bound and float(bound).is_integer():
            del schema[excluding]
            further_in = bound + sign * step
            schema[including] = further_in if further_in != bound else math.nextafter(bound, sign * math.inf)
