"""What the text of an answer must be: OpenAI's ``response_format``, and ``grammar``, which is ours."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_serializer

from hybridllm.errors import BadRequest
from hybridllm.types.model import CONTENT, Model
from hybridllm.types.shape import did_you_mean, field_name, mapping_of, only_fields, plain_json, shown, text_of
from local_runtime.grammar_references import TYPES
from local_runtime.grammar_schema import KEYWORDS, SchemaError, check_schema
from local_runtime.options import Grammar

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "GrammarParam",
    "JsonSchemaParam",
    "ResponseFormatJsonObject",
    "ResponseFormatJsonSchema",
    "ResponseFormatParam",
    "ResponseFormatText",
    "parse_grammar",
    "parse_response_format",
]

_LONGEST_NAME = 64  # OpenAI's limit
_LONGEST_GRAMMAR = 256 * 1024
_LONGEST_DESCRIPTION = 64 * 1024
_FIXED_WORDS = frozenset(TYPES)


class _Checked(Model):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, hide_input_in_errors=True, populate_by_name=True
    )


class ResponseFormatText(_Checked):
    """Any text: what happens without ``response_format`` too."""

    type: Literal["text"]
    """Always ``text``."""

    def as_grammar(self) -> Grammar | None:
        """What the device's engine is asked for; None for nothing."""
        return None

    def texts(self, where: str = "response_format") -> Iterator[tuple[str, str]]:
        """Every text in it that a place would see, as ``(path, text)``."""
        yield from ()


class ResponseFormatJsonObject(_Checked):
    """Any JSON object."""

    type: Literal["json_object"]
    """Always ``json_object``."""

    def as_grammar(self) -> Grammar | None:
        """What the device's engine is asked for."""
        return Grammar("json_object")

    def texts(self, where: str = "response_format") -> Iterator[tuple[str, str]]:
        """Every text in it that a place would see, as ``(path, text)``."""
        yield from ()


class JsonSchemaParam(_Checked):
    """A JSON Schema with a name."""

    name: Annotated[str, CONTENT]
    """Its name: 1 to 64 of the letters ``a`` to ``z`` in either case, digits, ``_`` and ``-``."""

    description: Annotated[str | None, CONTENT] = None
    """What the answer is for, for the model of a remote to read; the device's does not see it."""

    schema_: Annotated[dict[str, Any], CONTENT] = Field(alias="schema")
    """The schema, under the name ``schema``."""

    strict: bool | None = None
    """Whether a remote has to keep to the schema; the device always does."""

    @model_serializer
    def _as_openai(self) -> dict[str, Any]:
        # pydantic's classes have a method named schema, so the field cannot have this name itself.
        written: dict[str, Any] = {"name": self.name}
        if self.description is not None:
            written["description"] = self.description
        written["schema"] = self.schema_
        if self.strict is not None:
            written["strict"] = self.strict
        return written


class ResponseFormatJsonSchema(_Checked):
    """A JSON document that a schema allows."""

    type: Literal["json_schema"]
    """Always ``json_schema``."""

    json_schema: JsonSchemaParam
    """The schema."""

    def as_grammar(self) -> Grammar | None:
        """What the device's engine is asked for."""
        return Grammar("json_schema", json.dumps(self.json_schema.schema_, ensure_ascii=False))

    def texts(self, where: str = "response_format") -> Iterator[tuple[str, str]]:
        """Every text in it that a place would see, as ``(path, text)``: names, descriptions, keys and values."""
        where = f"{where}.json_schema"
        yield f"{where}.name", self.json_schema.name
        if self.json_schema.description:
            yield f"{where}.description", self.json_schema.description
        yield from _texts(self.json_schema.schema_, f"{where}.schema")


ResponseFormatParam = ResponseFormatText | ResponseFormatJsonObject | ResponseFormatJsonSchema


class GrammarParam(_Checked):
    """A grammar that the text of the answer keeps to; not OpenAI's, so a remote must be declared to support it."""

    type: Literal["lark", "regex"]
    """``lark`` for llguidance's dialect of Lark, ``regex`` for a regular expression that the whole answer matches."""

    text: Annotated[str, CONTENT]
    """The grammar, or the regular expression."""

    def as_grammar(self) -> Grammar:
        """What the device's engine is asked for."""
        return Grammar(self.type, self.text)

    def texts(self, where: str = "grammar") -> Iterator[tuple[str, str]]:
        """Every text in it that a place would see, as ``(path, text)``."""
        yield f"{where}.text", self.text


def parse_response_format(value: object, where: str = "response_format") -> ResponseFormatParam:
    """Check a caller's ``response_format``; the result is a copy that nobody can change afterwards.

    Raises:
        BadRequest: It is of another shape, or its schema has something that answers cannot be held to; ``field`` says where.
    """
    if isinstance(value, type):
        raise BadRequest(
            f"{where} is a class, expected a mapping with 'type'.",
            "Give {'type': 'json_schema', 'json_schema': {'name': …, 'schema': cls.model_json_schema()}}.",
            field=where,
        )
    fields = mapping_of(value, where, "a mapping such as {'type': 'json_object'}")
    kind = fields.get("type")
    if kind == "json_schema":
        only_fields(fields, ("type", "json_schema"), where, "a json_schema format")
        return ResponseFormatJsonSchema(type=kind, json_schema=_parse_schema(fields, where))
    if kind == "text":
        only_fields(fields, ("type",), where, "a text format")
        return ResponseFormatText(type=kind)
    if kind == "json_object":
        only_fields(fields, ("type",), where, "a json_object format")
        return ResponseFormatJsonObject(type=kind)
    raise _other_type(kind, where, ("text", "json_object", "json_schema"))


def parse_grammar(value: object, where: str = "grammar") -> GrammarParam:
    """Check a caller's ``grammar``.

    Raises:
        BadRequest: It is of another shape; ``field`` says where. Whether it can be compiled is found out by the engine.
    """
    fields = mapping_of(value, where, "a mapping such as {'type': 'regex', 'text': '[0-9]+'}")
    kind = fields.get("type")
    if kind not in ("lark", "regex"):
        raise _other_type(kind, where, ("lark", "regex"))
    only_fields(fields, ("type", "text"), where, "a grammar")
    return GrammarParam(type=kind, text=text_of(fields.get("text"), f"{where}.text", most=_LONGEST_GRAMMAR))


def _parse_schema(fields: dict[str, Any], where: str) -> JsonSchemaParam:
    where = f"{where}.json_schema"
    given = mapping_of(fields.get("json_schema"), where, "a mapping with 'name' and 'schema'")
    if "schema_" in given and "schema" not in given:  # an object of this library or OpenAI's, without its aliases
        given["schema"] = given.pop("schema_")
    only_fields(given, ("name", "description", "schema", "strict"), where, "a JSON schema's format")
    name = text_of(given.get("name"), f"{where}.name", most=_LONGEST_NAME)
    if not all(character.isascii() and (character.isalnum() or character in "_-") for character in name):
        raise BadRequest(
            f"{where}.name has other characters than letters, digits, _ and -.",
            "Give a name such as opening_hours.",
            field=f"{where}.name",
        )
    description = given.get("description")
    if description is not None:
        description = text_of(description, f"{where}.description", most=_LONGEST_DESCRIPTION)
    strict = given.get("strict")
    if strict is not None and not isinstance(strict, bool):
        raise BadRequest(f"{where}.strict is {shown(strict)}, expected true or false.", field=f"{where}.strict")
    place = f"{where}.schema"
    schema = plain_json(mapping_of(given.get("schema"), place, "a JSON Schema"), place)
    try:
        check_schema(schema, place)
    except SchemaError as error:
        raise BadRequest(error.message, error.mend, field=error.path) from None
    return JsonSchemaParam(name=name, description=description, schema=schema, strict=strict)


def _other_type(kind: object, where: str, known: tuple[str, ...]) -> BadRequest:
    mend = did_you_mean(kind, known) or f"Use one of {', '.join(known)}."
    return BadRequest(
        f"{where}.type is {shown(kind)}, expected one of {', '.join(known)}.", mend, field=f"{where}.type"
    )


def _texts(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Texts of a schema, its own words left out. A key has the path of what stands under it."""
    if isinstance(value, str):
        if value not in _FIXED_WORDS:
            yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            below = f"{path}.{field_name(key)}"
            if key not in KEYWORDS:
                yield below, key
            yield from _texts(item, below)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, f"{path}[{index}]")
