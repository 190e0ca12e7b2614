"""Which JSON Schemas an answer can be held to, and how one is handed to the grammar's compiler.

JSON Schema (draft 2020-12) says that a validator passes over what it doesn't know. Here that would be a promise that nobody
keeps, so every keyword is one that is enforced, one that only annotates, or an error with its path. Standard library only: the
application's process checks a schema before a request goes anywhere.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

from local_runtime.errors import InvalidRequestError
from local_runtime.grammar_references import TYPES, References, path_name, subschemas

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["FORMATS", "KEYWORDS", "SchemaError", "check_schema", "parse_schema"]

FORMATS = ("date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid")
"""The values of ``format`` that are enforced."""

_DIALECTS = ("2020-12/schema", "2019-09/schema", "draft-07/schema", "draft-06/schema")
_MOST_JSON_BYTES = 256 * 1024
_MOST_SCHEMAS = 5_000
_MOST_REFERENCES = 1_000
_DEEPEST = 100  # levels of JSON; the compiler's own parser of JSON stops at 128
_LARGEST_COUNT = 2**31 - 1
# Characters of texts in JSON that the compiler would leave out: those that are written as \u00XX only, and 0x7f.
_CONTROL = re.compile(r"[\x00-\x07\x0b\x0e-\x1f\x7f]")
_CONTROL_IN_PATTERN = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\\(?:[ave0-7]|c[A-Za-z]|(?:x|u00|[xu]\{0*)(?:[01][0-9A-Fa-f]|7[Ff])|[xu]\{[0-9A-Fa-f]\})"
)
_CLASS_OF_RUST = re.compile(r"\[|&&|--|~~")

_MENDS = {
    "additionalItems": "Use prefixItems and items.",
    "dependencies": "Use anyOf with one branch for each case.",
    "dependentRequired": "Use anyOf with one branch for each case.",
    "dependentSchemas": "Use anyOf with one branch for each case.",
    "else": "Use anyOf with one branch for each case.",
    "if": "Use anyOf with one branch for each case.",
    "id": "Leave it out.",
    "not": "Say what is allowed, with enum, anyOf or pattern.",
    "nullable": 'Write "null" into type.',
    "then": "Use anyOf with one branch for each case.",
    "unevaluatedItems": "Use items.",
    "unevaluatedProperties": "Use additionalProperties.",
    "propertyNames": "Use patternProperties with additionalProperties: false.",
}


class SchemaError(InvalidRequestError):
    """A schema that no answer can be held to.

    Attributes:
        path: Where in the schema, such as ``schema.properties.age.not``. A name that could be somebody's text is ``<key>``.
    """

    def __init__(self, message: str, mend: str, path: str) -> None:
        super().__init__(message, mend)
        self.path = path


def parse_schema(text: str, where: str = "schema") -> dict[str, Any] | bool:
    """Read a schema and check it.

    Args:
        text: The schema as JSON.
        where: What the path of an error begins with.

    Raises:
        SchemaError: It is no JSON, or not a schema that is supported.
    """
    if len(text) > _MOST_JSON_BYTES:
        raise _too_large(where)
    try:
        schema = json.loads(text, parse_constant=lambda _: _refuse_constant(where))
    except RecursionError:
        raise _too_deep(where) from None
    except ValueError as error:
        place = f" at line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise SchemaError(f"{where} is not JSON{place}.", "Give a JSON Schema as JSON.", where) from None
    check_schema(schema, where)
    checked: dict[str, Any] | bool = schema
    return checked


def check_schema(schema: object, where: str = "schema") -> None:
    """Check that every keyword of a schema is enforced or annotates only, and that an answer to it has an end.

    Args:
        schema: The schema, as ``json.loads`` gives it.
        where: What the path of an error begins with.

    Raises:
        SchemaError: The first thing that is wrong or not supported; it names the keyword and its path.
    """
    _check_size(schema, where)
    references = References(schema)
    referring = 0
    found_schemas = list(subschemas(schema, where))
    if len(found_schemas) > _MOST_SCHEMAS:
        raise _too_large(where)
    for path, pointer, found in found_schemas:
        if isinstance(found, bool):
            continue
        if not isinstance(found, dict):
            raise SchemaError(f"{path} is a {type(found).__name__}, but must be a schema.", "Give an object.", path)
        _check_keywords(found, path, is_root=pointer == "")
        if "$ref" in found:
            referring += 1
            if references.target(found["$ref"]) is None:
                raise SchemaError(
                    f"{path}.$ref leads to no schema of this document.",
                    "Point to one under $defs, as in #/$defs/name.",
                    f"{path}.$ref",
                )
    if referring > _MOST_REFERENCES:
        raise _too_large(where)
    for path, _, found in found_schemas:
        if isinstance(found, dict) and not references.are_disjoint(found.get("oneOf", ())):
            raise SchemaError(
                f"{path}.oneOf has branches of which an answer could match two.",
                "Use anyOf, or give every branch a required property with a const of its own.",
                f"{path}.oneOf",
            )
    if not references.is_finite():
        raise SchemaError(
            f"{where} has no answer that comes to an end.",
            "Give what refers to itself a way out, such as null or an empty list.",
            where,
        )


# ---- keywords ----


def _check_keywords(schema: Mapping[str, Any], path: str, *, is_root: bool) -> None:
    for keyword, value in schema.items():
        where = f"{path}.{keyword}"
        check = KEYWORDS.get(keyword)
        if check is None:
            raise _unsupported(keyword, path)
        if keyword in ("$schema", "$id") and not is_root:
            raise SchemaError(f"{where} is supported at the root only.", "Leave it out.", where)
        expected = check(value)
        if expected:
            raise SchemaError(f"{where} must be {expected}.", f"Give {keyword} as {expected}.", where)
    _check_number_of_properties(schema, path)
    dialect = schema.get("$schema", "2020-12")
    if "prefixItems" in schema and "2020-12" not in dialect:
        raise SchemaError(
            f"{path}.prefixItems means nothing in the draft that $schema names.",
            "Leave out $schema.",
            f"{path}.prefixItems",
        )


def _check_number_of_properties(schema: Mapping[str, Any], path: str) -> None:
    """What a grammar cannot do: count the properties that are there, or tell that two further ones have the same name."""
    required = schema.get("required", [])
    for keyword in ("minProperties", "maxProperties"):
        if keyword not in schema:
            continue
        where = f"{path}.{keyword}"
        if set(schema.get("properties", {})) - set(required):
            raise SchemaError(
                f"{where} is supported only where every one of properties is required.", "Leave it out.", where
            )
        if keyword == "minProperties" and schema[keyword] > len(required) + 1:
            raise SchemaError(
                f"{where} is supported up to one more than are required.", "Name the properties as required.", where
            )


def _unsupported(keyword: str, path: str) -> SchemaError:
    where = f"{path}.{path_name(keyword)}"
    return SchemaError(f"{where} is not supported.", _MENDS.get(keyword, "Leave it out."), where)


def _anything(value: object) -> str:
    return ""


def _kind(kind: type | tuple[type, ...], expected: str) -> Callable[[Any], str]:
    return lambda value: "" if isinstance(value, kind) else expected


def _dialect(value: object) -> str:
    known = isinstance(value, str) and value.rstrip("#").endswith(_DIALECTS)
    return "" if known else "the address of draft 2020-12, 2019-09, 7 or 6"


def _types(value: object) -> str:
    kinds = [value] if isinstance(value, str) else value
    if isinstance(kinds, list) and kinds and all(kind in TYPES for kind in kinds if isinstance(kind, str)):
        return "" if all(isinstance(kind, str) for kind in kinds) else "names of types"
    return f"one of {', '.join(TYPES)}, or a list of some"


def _count(value: Any) -> str:
    is_int = isinstance(value, int) and not isinstance(value, bool)
    return "" if is_int and 0 <= value <= _LARGEST_COUNT else "a whole number of at least 0"


def _number(value: Any) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return "" if is_number and abs(value) < 2**63 and math.isfinite(value) else "a number below 2^63"


def _positive(value: Any) -> str:
    return "" if not _number(value) and value > 0 else "a number above 0"


def _names(value: Any) -> str:
    is_list = isinstance(value, list) and all(isinstance(name, str) for name in value)
    return "" if is_list and len(set(value)) == len(value) else "a list of different names"


def _format(value: object) -> str:
    return "" if value in FORMATS else f"one of {', '.join(FORMATS)}"


def _pattern(value: object) -> str:
    if not isinstance(value, str):
        return "a regular expression"
    place = 0
    inside = negated = False
    while place < len(value):
        if not (inside and negated) and _CONTROL_IN_PATTERN.match(value, place):
            return r"a regular expression without control characters other than \t, \n, \f and \r"
        character = value[place]
        if character == "\\":
            place += 2
            continue
        if inside:
            # In ECMAScript's classes these stand for themselves; the compiler would read sets of Rust's kind.
            if _CLASS_OF_RUST.match(value, place):
                return "a regular expression whose classes have a backslash before each [ and between two of &, - or ~"
            inside = character != "]"
        elif character == "[":
            inside = True
            negated = value.startswith("^", place + 1)
            place += negated
        elif character == "(" and re.match(r"\(\?(?!:|P?<[A-Za-z_])", value[place:]):
            return "a regular expression without flags and without looking around"
        place += 1
    return ""


def _value(value: object) -> str:
    if isinstance(value, str) and _CONTROL.search(value):
        return r"without control characters other than \b, \t, \n, \f and \r in its texts"
    if isinstance(value, dict | list):
        items = value.values() if isinstance(value, dict) else value
        return next((expected for item in items if (expected := _value(item))), "")
    return ""


def _values(value: object) -> str:
    return _value(value) if isinstance(value, list) and value else "a list of at least one value"


def _patterns(value: object) -> str:
    if not isinstance(value, dict):
        return "a mapping to schemas"
    return next((expected for name in value if (expected := _pattern(name))), "")


def _some(expected: str) -> Callable[[Any], str]:
    return lambda value: "" if isinstance(value, list) and value else expected


KEYWORDS: Mapping[str, Callable[[Any], str]] = {
    # What says nothing about an answer.
    **dict.fromkeys(
        ("$comment", "contentEncoding", "contentMediaType", "default", "deprecated", "description", "discriminator"),
        _anything,
    ),
    **dict.fromkeys(("examples", "readOnly", "title", "writeOnly"), _anything),
    "$schema": _dialect,
    "$id": _kind(str, "a text"),
    "$anchor": _kind(str, "a text"),
    "$defs": _kind(dict, "a mapping to schemas"),
    "definitions": _kind(dict, "a mapping to schemas"),
    # What is enforced.
    "$ref": _kind(str, "a reference within the schema, as in #/$defs/name"),
    "type": _types,
    "enum": _values,
    "const": _value,
    "anyOf": _some("a list of at least one schema"),
    "oneOf": _some("a list of at least one schema"),
    "allOf": _some("a list of at least one schema"),
    "properties": _kind(dict, "a mapping to schemas"),
    "patternProperties": _patterns,
    "additionalProperties": _kind((dict, bool), "a schema"),
    "required": _names,
    "minProperties": _count,
    "maxProperties": _count,
    "items": _kind((dict, bool), "one schema; those of single places are prefixItems"),
    "prefixItems": _some("a list of at least one schema"),
    "minItems": _count,
    "maxItems": _count,
    "minLength": _count,
    "maxLength": _count,
    "pattern": _pattern,
    "format": _format,
    "minimum": _number,
    "maximum": _number,
    "exclusiveMinimum": _number,
    "exclusiveMaximum": _number,
    "multipleOf": _positive,
}
"""Keywords that may stand in a schema, each with what its value must be if it isn't that."""


# ---- size ----


def _check_size(schema: object, where: str) -> None:
    level = [schema]
    for _ in range(_DEEPEST):
        level = [
            item
            for value in level
            if isinstance(value, dict | list)
            for item in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            break
    else:
        raise _too_deep(where)
    try:
        size = len(json.dumps(schema, ensure_ascii=False, allow_nan=False).encode())
    except UnicodeEncodeError:
        raise SchemaError(
            f"{where} has half of a surrogate pair, which no encoding can carry.", "Write the whole character.", where
        ) from None
    except (TypeError, ValueError):
        raise SchemaError(f"{where} is not JSON.", "Give numbers, texts, lists and mappings.", where) from None
    if size > _MOST_JSON_BYTES:
        raise _too_large(where)


def _too_large(where: str) -> SchemaError:
    return SchemaError(
        f"{where} is too large: it may have {_MOST_JSON_BYTES // 1024} KiB, {_MOST_SCHEMAS} schemas in it and "
        f"{_MOST_REFERENCES} references.",
        "Ask for less in one answer.",
        where,
    )


def _too_deep(where: str) -> SchemaError:
    return SchemaError(f"{where} is nested more than {_DEEPEST} levels deep.", "Use $ref.", where)


def _refuse_constant(where: str) -> float:
    raise SchemaError(f"{where} has a number that is none, such as NaN.", "Give finite numbers.", where)
