"""``response_format`` and ``grammar``: what is taken, what is refused and how, and which texts are in them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hybridllm.errors import BadRequest
from hybridllm.types.response_format import GrammarParam, ResponseFormatJsonSchema, parse_grammar, parse_response_format

SCHEMA: dict[str, Any] = {
    "title": "Patient",
    "type": "object",
    "properties": {"name": {"enum": ["Ada", None]}, "her illness": {"type": "string", "pattern": "^flu"}},
    "required": ["name"],
    "default": None,
}


def asked(**changes: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "patient", "schema": SCHEMA, **changes}}


def test_a_schema_goes_to_the_remote_as_it_came_and_to_the_engine_as_json():
    value = asked(strict=True, description="A patient.")
    parsed = parse_response_format(value)
    assert isinstance(parsed, ResponseFormatJsonSchema)
    assert parsed.model_dump(by_alias=True, exclude_none=True) == value
    assert json.loads(parsed.model_dump_json()) == value
    grammar = parsed.as_grammar()
    assert grammar is not None
    assert (grammar.kind, json.loads(grammar.text)) == ("json_schema", SCHEMA)
    assert list(json.loads(grammar.text)["properties"]) == ["name", "her illness"]
    assert parse_response_format(parsed) == parsed


def test_nobody_can_change_it_afterwards():
    value = json.loads(json.dumps(asked()))
    parsed = parse_response_format(value)
    value["json_schema"]["schema"]["properties"]["name"]["enum"].append("Eve")
    assert "Eve" not in parsed.model_dump_json()


def test_every_text_is_told():
    texts = dict(parse_response_format(asked(description="About her.")).texts())
    assert set(texts.values()) == {"patient", "About her.", "Patient", "name", "Ada", "her illness", "^flu"}
    assert texts["response_format.json_schema.schema.properties.name.enum[0]"] == "Ada"
    assert not list(parse_response_format({"type": "json_object"}).texts())
    assert list(parse_grammar({"type": "regex", "text": "Ada|Eve"}).texts()) == [("grammar.text", "Ada|Eve")]


def test_no_text_is_shown():
    for shown in map(repr, (parse_response_format(asked()), parse_grammar({"type": "lark", "text": "start: Ada"}))):
        assert "Ada" not in shown
        assert "illness" not in shown


def test_the_simple_ones():
    assert parse_response_format({"type": "text"}).as_grammar() is None
    grammar = parse_response_format({"type": "json_object"}).as_grammar()
    assert grammar is not None
    assert grammar.kind == "json_object"
    regex = parse_grammar({"type": "regex", "text": "[0-9]+"})
    assert isinstance(regex, GrammarParam)
    assert (regex.as_grammar().kind, regex.as_grammar().text) == ("regex", "[0-9]+")


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ("json", "response_format"),
        (dict, "response_format"),
        ({}, "response_format.type"),
        ({"type": "jsonschema"}, "response_format.type"),
        ({"type": "text", "extra": 1}, "response_format.extra"),
        ({"type": "json_schema"}, "response_format.json_schema"),
        (asked(name=""), "response_format.json_schema.name"),
        (asked(name="Ada Lovelace"), "response_format.json_schema.name"),
        (asked(strict="yes"), "response_format.json_schema.strict"),
        (asked(description=3), "response_format.json_schema.description"),
        (asked(scheme={}), "response_format.json_schema.scheme"),
        (asked(schema=None), "response_format.json_schema.schema"),
        (asked(schema=[]), "response_format.json_schema.schema"),
        (asked(schema={"const": {1, 2}}), "response_format.json_schema.schema"),
        (asked(schema={"properties": {"a": {"not": {}}}}), "response_format.json_schema.schema.properties.a.not"),
        (
            asked(schema={"properties": {"Ada Lovelace": {"not": {}}}}),
            "response_format.json_schema.schema.properties.<key>.not",
        ),
    ],
)
def test_what_is_wrong_is_named_and_never_quoted(value: object, field: str):
    with pytest.raises(BadRequest) as caught:
        parse_response_format(value)
    assert caught.value.field == field
    assert "Ada" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ("[0-9]", "grammar"),
        ({"type": "gbnf", "text": "root"}, "grammar.type"),
        ({"type": "regex"}, "grammar.text"),
        ({"type": "regex", "text": ""}, "grammar.text"),
        ({"type": "regex", "text": "\ud800"}, "grammar.text"),
        ({"type": "lark", "text": "x" * 300_000}, "grammar.text"),
        ({"type": "lark", "text": "start: x", "start": "x"}, "grammar.start"),
    ],
)
def test_what_is_wrong_with_a_grammar(value: object, field: str):
    with pytest.raises(BadRequest) as caught:
        parse_grammar(value)
    assert caught.value.field == field
