"""Schemas for answers: some written by hand, any number drawn at random; and what tells whether an answer keeps to one."""

# ruff: noqa: E501 - a schema reads best on its line
from __future__ import annotations

import datetime
import ipaddress
import random
import re
import uuid
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

Schema = dict[str, Any]

FORMATS = FormatChecker(formats=())


@FORMATS.checks("date", raises=ValueError)
def _is_date(value: object) -> bool:
    return not isinstance(value, str) or bool(datetime.date.fromisoformat(value))


@FORMATS.checks("time", raises=ValueError)
def _is_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.time.fromisoformat(_fewer_digits(value)).tzinfo is not None


@FORMATS.checks("date-time", raises=ValueError)
def _is_date_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.datetime.fromisoformat(_fewer_digits(value)).tzinfo is not None


def _fewer_digits(time: str) -> str:
    """Fractions of a second as Python reads them: six digits."""
    return re.sub(r"\.([0-9]+)", lambda match: "." + f"{match[1]:0<6}"[:6], time)


@FORMATS.checks("ipv4", raises=ValueError)
def _is_ipv4(value: object) -> bool:
    return not isinstance(value, str) or bool(ipaddress.IPv4Address(value)) or True


@FORMATS.checks("ipv6", raises=ValueError)
def _is_ipv6(value: object) -> bool:
    return not isinstance(value, str) or bool(ipaddress.IPv6Address(value)) or True


@FORMATS.checks("uuid", raises=ValueError)
def _is_uuid(value: object) -> bool:
    return not isinstance(value, str) or str(uuid.UUID(value)) == value.lower()


@FORMATS.checks("email")
def _is_email(value: object) -> bool:
    return not isinstance(value, str) or re.fullmatch(r"[^@\s]+@[^@\s]+", value) is not None


@FORMATS.checks("duration")
def _is_duration(value: object) -> bool:
    return not isinstance(value, str) or re.fullmatch(r"P(?=.)[0-9YMWD]*(T[0-9HMS]+)?", value) is not None


@FORMATS.checks("hostname")
def _is_hostname(value: object) -> bool:
    label = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    return not isinstance(value, str) or re.fullmatch(rf"{label}(\.{label})*", value) is not None


@FORMATS.checks("uri")
def _is_uri(value: object) -> bool:
    return not isinstance(value, str) or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", value) is not None


def faults(schema: object, answer: object) -> list[str]:
    """What is wrong with an answer; empty if it keeps to the schema, formats included."""
    validator = Draft202012Validator(schema, format_checker=FORMATS)
    return [error.message for error in validator.iter_errors(answer)]


def record(required: object = "all", /, **properties: Any) -> Schema:
    """An object of exactly these properties."""
    names = list(properties) if required == "all" else required
    return {"type": "object", "properties": properties, "required": names, "additionalProperties": False}


# fmt: off
TEXT = {"type": "string", "maxLength": 12}
WHOLE = {"type": "integer", "minimum": 0, "maximum": 999}
YES_NO = {"type": "boolean"}

PLAIN: list[Schema | bool] = [
    True,
    {},
    {"type": "null"},
    YES_NO,
    TEXT,
    WHOLE,
    {"type": "integer"},
    {"type": "number"},
    {"type": "string"},
    {"type": "object"},
    {"type": "array"},
    {"type": ["string", "null"]},
    {"type": ["integer", "boolean", "null"]},
    {"const": "exactly this"},
    {"const": None},
    {"const": 0},
    {"const": False},
    {"const": {"a": [1, 2.5, None, {"b": 'é\n"\\'}]}},
    {"enum": ["red", "green", "blue"]},
    {"enum": [1, "1", None, True, [1], {"one": 1}]},
    {"enum": ["", " ", "\t", '"', "\\", "/", "</script>"]},
    {"type": "string", "enum": ["a", "ab", "abc", "b"]},
    {"title": "A title", "description": "Says nothing", "default": 3, "examples": [4], "type": "integer", "maximum": 9},
]
STRINGS: list[Schema | bool] = [
    {"type": "string", "minLength": 1, "maxLength": 1},
    {"type": "string", "minLength": 5, "maxLength": 5},
    {"type": "string", "minLength": 3},
    {"type": "string", "maxLength": 0},
    {"type": "string", "pattern": "^[A-Z]{2}[0-9]{4}$"},
    {"type": "string", "pattern": "^(yes|no|maybe)$"},
    {"type": "string", "pattern": "cat", "maxLength": 20},
    {"type": "string", "pattern": "^a", "minLength": 2, "maxLength": 9},
    {"type": "string", "pattern": "z$", "maxLength": 9},
    {"type": "string", "pattern": r"^\d{3}-\d{4}$"},
    {"type": "string", "pattern": r"^\w+@\w+\.(org|net)$", "maxLength": 30},
    {"type": "string", "pattern": r"^\s?\S+$", "maxLength": 12},
    {"type": "string", "pattern": "^[^\\x00-\\x1f]{2,5}$"},
    {"type": "string", "pattern": "^[äöüß]+$", "maxLength": 6},
    {"type": "string", "pattern": "^[一-龥]{2,4}$"},
    {"type": "string", "pattern": "^😀+$", "maxLength": 4},
    {"type": "string", "pattern": r"^\"\\/$"},
    {"type": "string", "pattern": "^(?:[01][0-9]|2[0-3]):[0-5][0-9]$"},
    {"type": "string", "pattern": r"^[a-c\]\-]{2,4}$"},
    {"type": "string", "pattern": "^.{3}$"},
    {"type": "string", "pattern": "^\\n\\t$"},
    *(
        {"type": "string", "format": name}
        for name in ("date", "date-time", "time", "duration", "email", "ipv4", "ipv6", "uuid")
    ),
    {"type": "string", "format": "hostname", "maxLength": 20},
    {"type": "string", "format": "uri", "maxLength": 30},
    {"type": "string", "format": "date", "pattern": "^20[0-9]{2}-02-29$"},
    {"type": "string", "format": "email", "maxLength": 12},
    {"format": "date"},
]
NUMBERS: list[Schema | bool] = [
    {"type": "integer", "minimum": 18, "maximum": 120},
    {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 2},
    {"type": "integer", "minimum": -5, "maximum": -3},
    {"type": "integer", "minimum": 2**53},
    {"type": "integer", "maximum": -(2**53)},
    {"type": "integer", "minimum": 0},
    {"type": "integer", "maximum": 0},
    {"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 100},
    {"type": "integer", "multipleOf": 10},
    {"type": "number", "minimum": 0, "maximum": 1},
    {"type": "number", "minimum": -1.5, "maximum": 2.25},
    {"type": "number", "exclusiveMinimum": 0, "maximum": 0.001},
    {"type": "number", "minimum": 99.5},
    {"type": "number", "maximum": -0.5},
    {"type": "number", "multipleOf": 0.25, "minimum": 0, "maximum": 5},
    {"minimum": 3, "maximum": 4, "type": ["integer", "null"]},
]
ARRAYS: list[Schema | bool] = [
    {"type": "array", "items": WHOLE},
    {"type": "array", "items": TEXT, "minItems": 2, "maxItems": 4},
    {"type": "array", "items": WHOLE, "minItems": 3},
    {"type": "array", "maxItems": 0},
    {"type": "array", "items": False},
    {"type": "array", "prefixItems": [WHOLE, TEXT], "items": False},
    {"type": "array", "prefixItems": [WHOLE, TEXT], "items": False, "minItems": 2},
    {"type": "array", "prefixItems": [YES_NO], "items": WHOLE, "minItems": 1, "maxItems": 4},
    {
        "type": "array",
        "items": {"type": "array", "items": {"type": "array", "items": YES_NO, "maxItems": 2}, "maxItems": 2},
    },
    {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 5, "maxItems": 5},
    {"type": "array", "items": {"anyOf": [WHOLE, TEXT, {"type": "null"}]}, "maxItems": 5},
]
OBJECTS: list[Schema | bool] = [
    record(),
    record(name=TEXT, age=WHOLE),
    record([], a=WHOLE, b=WHOLE, c=WHOLE),
    record(["b"], a=WHOLE, b=WHOLE, c=WHOLE),
    record(**{"naïve clé": TEXT, "日本": WHOLE, "😀": YES_NO}),
    record(**{"": WHOLE, " ": WHOLE, 'with "quotes"': WHOLE, "back\\slash": WHOLE, "new\nline": WHOLE, "a/b": WHOLE}),
    record(**{"$ref": TEXT, "type": TEXT, "properties": TEXT}),
    {"type": "object", "additionalProperties": WHOLE},
    {"type": "object", "properties": {"a": WHOLE}, "additionalProperties": TEXT},
    {"type": "object", "properties": {"a": {"type": "null"}, "a\n": {"type": "null"}}, "additionalProperties": WHOLE},
    {"type": "object", "properties": {"a": WHOLE}},
    {"type": "object", "required": ["z"], "properties": {"a": WHOLE}},
    {"type": "object", "patternProperties": {"^x_": WHOLE}, "additionalProperties": False},
    {"type": "object", "patternProperties": {"^x_": WHOLE, "^y_": TEXT}, "additionalProperties": False},
    {"type": "object", "properties": {"x_1": YES_NO}, "patternProperties": {"^n": WHOLE}, "additionalProperties": TEXT},
    {"type": "object", "additionalProperties": WHOLE, "minProperties": 1},
    {"type": "object", "additionalProperties": WHOLE, "maxProperties": 2},
    {
        "type": "object",
        "properties": {"a": WHOLE},
        "required": ["a"],
        "additionalProperties": WHOLE,
        "minProperties": 2,
    },
    {"type": "object", "maxProperties": 0},
    record(inner=record(inner=record(inner=record(end=YES_NO)))),
    record(list={"type": "array", "items": record(x=WHOLE, y=WHOLE), "maxItems": 3}),
    {"properties": {"a": WHOLE}, "required": ["a"], "type": "object", "additionalProperties": False},
    {"type": "object", "properties": {"never": False, "a": WHOLE}, "additionalProperties": False},
    {"type": "object", "properties": {"anything": True}, "required": ["anything"], "additionalProperties": False},
]
CIRCLE = record(kind={"const": "circle"}, radius=WHOLE)
SQUARE = record(kind={"const": "square"}, side=WHOLE)
UNIONS: list[Schema | bool] = [
    {"anyOf": [WHOLE, TEXT]},
    {"anyOf": [CIRCLE, SQUARE]},
    {"anyOf": [{"type": "null"}, {"type": "array", "items": WHOLE, "maxItems": 2}]},
    {"anyOf": [record(a=WHOLE), record(a=WHOLE, b=TEXT)]},
    {"oneOf": [WHOLE, TEXT, {"type": "null"}]},
    {"oneOf": [CIRCLE, SQUARE]},
    {"oneOf": [{"$ref": "#/$defs/c"}, {"$ref": "#/$defs/s"}], "$defs": {"c": CIRCLE, "s": SQUARE}},
    {"oneOf": [{"type": "integer", "maximum": 3}, {"type": "integer", "minimum": 7, "maximum": 9}]},
    {"oneOf": [{"const": 1}, {"enum": [2, 3]}, {"const": True}]},
    {
        "oneOf": [
            record(t={"const": "a"}, v=WHOLE),
            record(t={"enum": ["b", "c"]}, v=TEXT),
            {"type": "string", "maxLength": 3},
        ]
    },
    {
        "type": "object",
        "properties": {"id": WHOLE},
        "required": ["id"],
        "anyOf": [{"properties": {"k": {"const": 1}}}, {"required": ["k"]}],
    },
    {"anyOf": [WHOLE, {"type": "null"}], "oneOf": [{"type": "integer"}, {"type": "null"}]},
    {
        "allOf": [
            {"type": "object", "properties": {"a": WHOLE}, "required": ["a"]},
            {"properties": {"b": TEXT}, "required": ["b"]},
        ]
    },
    {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 5}]},
    {"allOf": [{"type": "string", "minLength": 2}, {"pattern": "^[a-z]+$"}, {"maxLength": 4}]},
    {"type": "string", "allOf": [{"enum": ["a", "b", "c"]}, {"enum": ["b", "c", "d"]}]},
]
RECURSIVE: list[Schema | bool] = [
    {"$ref": "#/$defs/n", "$defs": {"n": {**record(["value"], value=WHOLE, next={"$ref": "#/$defs/n"})}}},
    record(value=WHOLE, children={"type": "array", "items": {"$ref": "#"}, "maxItems": 2}),
    {
        "$ref": "#/definitions/t",
        "definitions": {"t": {"anyOf": [WHOLE, record(l={"$ref": "#/definitions/t"}, r=WHOLE)]}},
    },
    {
        "$defs": {
            "a": record(b={"anyOf": [{"$ref": "#/$defs/b"}, {"type": "null"}]}),
            "b": record(a={"$ref": "#/$defs/a"}),
        },
        "$ref": "#/$defs/a",
    },
    {"$anchor": "me", **record(["v"], v=WHOLE, again={"$ref": "#me"})},
    {"type": "array", "items": {"anyOf": [{"$ref": "#"}, WHOLE]}, "maxItems": 3},
    {"$ref": "#/$defs/with~1slash~0", "$defs": {"with/slash~": WHOLE}},
    {"$ref": "#/properties/a", "properties": {"a": {"type": "object"}}},
    {"type": "object", "properties": {"a": {"$ref": "#/$defs/p%20q"}}, "required": ["a"], "$defs": {"p q": WHOLE}},
    {"$schema": "http://json-schema.org/draft-07/schema#", "$ref": "#/definitions/x", "definitions": {"x": TEXT}},
    {
        "$id": "https://schemas.example/answer",
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **record(a=WHOLE),
    },
]
REALISTIC: list[Schema | bool] = [
    record(
        order=record(
            id={"type": "string", "format": "uuid"},
            placed={"type": "string", "format": "date-time"},
            lines={
                "type": "array",
                "minItems": 1,
                "maxItems": 3,
                "items": record(sku={"type": "string", "pattern": "^[A-Z]{3}-[0-9]{3}$"}, count={"type": "integer", "minimum": 1, "maximum": 99}),
            },
            note={"type": ["string", "null"], "maxLength": 20},
        )
    ),
    record(
        days={
            "type": "object",
            "patternProperties": {"^(mon|tue|wed|thu|fri|sat|sun)$": record(opens={"type": "string", "pattern": "^[0-2][0-9]:00$"})},
            "additionalProperties": False,
        }
    ),
    record(["name"], name=TEXT, phone={"type": "string", "pattern": r"^\+[0-9]{6,12}$"}, email={"type": "string", "format": "email", "maxLength": 25}),
    record(sentiment={"enum": ["positive", "neutral", "negative"]}, score={"type": "number", "minimum": 0, "maximum": 1}),
    record(tool={"const": "look_up"}, arguments=record(["q"], q=TEXT, limit={"type": "integer", "minimum": 1, "maximum": 50})),
    record(steps={"type": "array", "items": {"oneOf": [record(say=TEXT, kind={"const": "say"}), record(ask=TEXT, kind={"const": "ask"})]}, "minItems": 1, "maxItems": 3}),
    record(matrix={"type": "array", "items": {"type": "array", "items": {"type": "number", "minimum": -1, "maximum": 1}, "minItems": 2, "maxItems": 2}, "minItems": 2, "maxItems": 2}),
    record(point={"type": "array", "prefixItems": [{"type": "number", "minimum": -90, "maximum": 90}, {"type": "number", "minimum": -180, "maximum": 180}], "items": False, "minItems": 2}),
    {"$ref": "#/$defs/Person", "$defs": {"Person": record(["name"], name=TEXT, boss={"anyOf": [{"$ref": "#/$defs/Person"}, {"type": "null"}]})}},
]  # fmt: skip
WRITTEN: list[Schema | bool] = [*PLAIN, *STRINGS, *NUMBERS, *ARRAYS, *OBJECTS, *UNIONS, *RECURSIVE, *REALISTIC]

_NAMES = (
    "id",
    "name",
    "größe",
    "価格",
    "x-1",
    "is ok",
    "😀",
    "Ω",
    'a"b',
    "tab\t",
    "__",
    "0",
    "été",
    "and/or",
    "very_long_name_of_a_field",
)
_WORDS = ("one", "two", "drei", "四", "five 5", "", "\\", "né", "😀😀", "x\ny", "yes", "no")
_PATTERNS = ("^[a-z]{1,8}$", "^[0-9]{2}:[0-9]{2}$", "^(ab|cd)+$", "x", "^é{1,3}$", r"^\w+ \w+$", "^#[0-9A-F]{6}$", "^$")
_FORMATS = ("date", "date-time", "time", "duration", "email", "ipv4", "ipv6", "uuid", "hostname", "uri")


def drawn(seed: int) -> Schema:
    """A schema drawn at random; the same for the same seed. It always has an answer."""
    draw = random.Random(seed)
    names = [f"d{index}" for index in range(draw.randrange(3))]
    schema = _drawn(draw, 3, names)
    if names:
        schema["$defs"] = {name: _drawn(draw, 1, []) for name in names}
    return schema


def _drawn(draw: random.Random, depth: int, names: list[str]) -> Schema:
    kinds = [_string, _string, _integer, _number, _choice, lambda d: {"type": d.choice(("boolean", "null"))}]
    if depth == 0:
        return draw.choice(kinds)(draw)
    if names and draw.random() < 0.2:
        return {"$ref": f"#/$defs/{draw.choice(names)}"}
    kind = draw.random()
    if kind < 0.35:
        return _object(draw, depth, names)
    if kind < 0.55:
        return _array(draw, depth, names)
    if kind < 0.7:
        return {"anyOf": [_drawn(draw, depth - 1, names) for _ in range(draw.randint(1, 3))]}
    if kind < 0.78:
        tags = draw.sample(_WORDS, draw.randint(2, 3))
        return {"oneOf": [record(tag={"const": tag}, value=_drawn(draw, depth - 1, names)) for tag in tags]}
    return draw.choice(kinds)(draw)


def _object(draw: random.Random, depth: int, names: list[str]) -> Schema:
    chosen = draw.sample(_NAMES, draw.randint(0, 4))
    schema: Schema = {
        "type": "object",
        "properties": {name: _drawn(draw, depth - 1, names) for name in chosen},
        "required": [name for name in chosen if draw.random() < 0.6],
    }
    more = draw.random()
    if more < 0.6:
        schema["additionalProperties"] = False
    elif more < 0.8:
        schema["additionalProperties"] = _drawn(draw, 0, names)
    if draw.random() < 0.2:
        schema["patternProperties"] = {"^p[0-9]$": _drawn(draw, 0, names)}
    return schema


def _array(draw: random.Random, depth: int, names: list[str]) -> Schema:
    schema: Schema = {"type": "array", "items": _drawn(draw, depth - 1, names)}
    least = draw.randint(0, 3)
    if draw.random() < 0.7:
        schema["minItems"] = least
    if draw.random() < 0.7:
        schema["maxItems"] = least + draw.randint(0, 3)
    if draw.random() < 0.3:
        schema["prefixItems"] = [_drawn(draw, depth - 1, names) for _ in range(draw.randint(1, 3))]
    return schema


def _string(draw: random.Random) -> Schema:
    kind = draw.random()
    if kind < 0.35:
        return {"type": "string", "pattern": draw.choice(_PATTERNS), "maxLength": 40}
    if kind < 0.6:
        return {"type": "string", "format": draw.choice(_FORMATS)}
    least = draw.randint(0, 6)
    return {"type": "string", "minLength": least, "maxLength": least + draw.randint(0, 8)}


def _integer(draw: random.Random) -> Schema:
    low = draw.randint(-1000, 1000)
    schema: Schema = {"type": "integer", draw.choice(("minimum", "exclusiveMinimum")): low}
    if draw.random() < 0.7:
        schema[draw.choice(("maximum", "exclusiveMaximum"))] = low + draw.randint(20, 10_000)
    if draw.random() < 0.3:
        schema["multipleOf"] = draw.choice((2, 3, 5, 10))
    return schema


def _number(draw: random.Random) -> Schema:
    low = round(draw.uniform(-50, 50), draw.randint(0, 3))
    return {"type": "number", "minimum": low, "maximum": low + draw.randint(1, 50)}


def _choice(draw: random.Random) -> Schema:
    values: list[Any] = [*draw.sample(_WORDS, 3), draw.randint(-9, 9), draw.choice((None, True, 0.5))]
    return {"enum": values[: draw.randint(1, 5)]} if draw.random() < 0.8 else {"const": draw.choice(values)}
