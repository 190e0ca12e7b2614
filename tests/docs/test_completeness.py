"""What can be used is written down: exports, arguments, fields, facts, operators."""

import dataclasses
import inspect
import re

import pytest

import hybridllm
from hybridllm import AsyncHybridClient, Attempt, ChatRequest, HybridLLMError, Remote, Route, errors
from policies import CONNECTIVITY, DETECTORS, FACT_KINDS, OPERATORS, WEEKDAYS, preset_names
from policies.json_schema import policy_schema
from policies.schema import ADDRESSES
from tests.docs.pages import code_spans, page_named
from tests.engine_cache import ROOT


def words_of(name):
    """The identifiers that stand between backticks in a page."""
    return {word for span in code_spans(page_named(name)) for word in re.findall(r"[\w-]+", span)}


def arguments_of(function):
    return set(inspect.signature(function).parameters) - {"self"}


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("python-api.md", set(hybridllm.__all__)),
        ("python-api.md", {name for name in errors.__all__ if issubclass(getattr(errors, name), HybridLLMError)}),
        ("python-api.md", arguments_of(AsyncHybridClient.__init__)),
        ("python-api.md", set(ChatRequest.model_fields)),
        ("python-api.md", set(Route.model_fields) | set(Attempt.model_fields)),
        ("remote.md", {field.name for field in dataclasses.fields(Remote)}),
        ("policies.md", set(FACT_KINDS) | set(CONNECTIVITY) | set(WEEKDAYS)),
        ("policies.md", {operator for operators in OPERATORS.values() for operator in operators}),
        ("policies.md", set(DETECTORS) | set(ADDRESSES) | set(preset_names())),
        ("privacy.md", set(DETECTORS)),
        ("models.md", {"llama", "mistral", "qwen2", "q4", "f16", "f32", "auto", "cpu", "cuda", "metal"}),
        ("performance.md", {path.stem for path in (ROOT / "benchmarks").glob("*.py") if not path.stem.startswith("_")}),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{len(value)} names",
)
def test_everything_is_named(page, names):
    assert names - words_of(page) == set()


def keys_of(schema):
    """Every key of a mapping that the schema describes, wherever it stands."""
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict):
            yield from schema["properties"]
        for child in schema.values():
            yield from keys_of(child)


def test_every_key_of_the_policy_language_is_named():
    names = set(keys_of(policy_schema()))
    assert {"version", "ceiling", "pattern", "redact", "never", "not_in", "budget_left"} <= names
    assert names - words_of("policies.md") == set()


def test_every_fact_has_its_row():
    page = page_named("policies.md").read_text(encoding="utf-8")
    table = page[page.index("## Facts") : page.index("A program can measure facts itself")]
    rows = {
        word
        for line in table.splitlines()
        for word in re.findall(r"`(\w+)`", line.split("|")[1] if "|" in line else "")
    }
    assert rows == set(FACT_KINDS)


def test_operators_stand_beside_their_kinds():
    page = page_named("policies.md").read_text(encoding="utf-8")
    rows = {
        "number": "numbers",
        "boolean": "`true` or",
        "connectivity": "`connectivity`, `weekday`",
        "label": "`label`, `declared_label` |",
    }
    rows |= {"time": "`time_of_day` |", "words": "`tags`, `capabilities`, `detected` |"}
    for kind, start in rows.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| {start}"))
        assert set(re.findall(r"`(\w+)`", row.split("|")[2])) == set(OPERATORS[kind]), kind
