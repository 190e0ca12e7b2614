"""The JSON Schema of the policy language says what the loader says."""

import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import policies
from policies import DETECTORS, FACT_KINDS, OPERATORS, PolicyFileError, parse_policy, preset_names
from policies.handling_keys import HANDLING_KEYS, RANGES
from policies.json_schema import FACT_WORDS, HANDLING_WORDS, OPERATOR_WORDS, policy_schema, policy_schema_json
from policies.schema import ADDRESSES
from tests.docs.pages import all_blocks
from tests.policies import strategies
from tests.policies.test_handling import MISTAKES_IN_HANDLING, WITH_HANDLING
from tests.policies.test_loader import KIOSK, MISTAKES, MISTAKES_IN_NEWER_KEYS, WITH_EVERYTHING

FOLDER = Path(policies.__file__).parent
VALIDATOR = Draft202012Validator(policy_schema())

# What only the loader can find: relations between parts, notation that is gone once YAML is read, and YAML itself.
NOT_FOR_A_SCHEMA = (
    "plain decimal number",
    "expected a finite number.",
    "stands twice, first in line",
    "stands twice.",
    "is taken",
    "never leaves the device",
    "which never leaves",
    "unknown label",
    "Known: public, internal, private.",
    "anchors and aliases",
    "tags are not understood",
    "not readable as YAML",
    "unknown detector of this policy",
    "unknown zone",
)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's reading, which editors have: no numbers to base 60, no ``on`` and ``off``."""


_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0].rpartition(":")[2] not in ("int", "float", "bool", "timestamp")]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _kind, _pattern, _first, _read in (
    ("bool", "true|false", "tf", lambda written: written == "true"),
    ("int", "[-+]?[0-9]+", "-+0123456789", lambda written: float(written) if len(written) > 400 else int(written)),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?", "-+.0123456789", float),
    ("float", r"[-+]?\.inf|\.NaN", "-+.", lambda written: float(written.replace(".", ""))),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}-{_first}", re.compile(f"({_pattern})$"), list(_first))
    _Loader.add_constructor(
        f"tag:yaml.org,2002:{_kind}-{_first}", lambda loader, node, read=_read: read(loader.construct_scalar(node))
    )


def findings(text):
    return list(VALIDATOR.iter_errors(yaml.load(text, _Loader)))


def nodes_of(schema, path=""):
    """Every schema inside a schema, with its path."""
    if isinstance(schema, dict):
        yield path, schema
        for name, child in schema.items():
            yield from nodes_of(child, f"{path}/{name}")
    elif isinstance(schema, list):
        for index, child in enumerate(schema):
            yield from nodes_of(child, f"{path}/{index}")


def test_it_is_a_schema_and_the_file_in_the_package_is_the_generated_one():
    Draft202012Validator.check_schema(policy_schema())
    assert (FOLDER / "policy.schema.json").read_text(encoding="utf-8") == policy_schema_json()
    assert json.loads(policy_schema_json()) == policy_schema()


def test_every_key_is_described():
    described = 0
    for path, schema in nodes_of(policy_schema()):
        inside_a_condition_of_if = (
            re.search(r"/(if|then|else)/properties", path) and "additionalProperties" not in schema
        )
        if inside_a_condition_of_if or not isinstance(schema.get("properties"), dict):
            continue
        for name, child in schema["properties"].items():
            if isinstance(child, dict) and "additionalProperties" in schema:
                assert child.get("description", "").endswith("."), f"{path}: {name}"
                described += 1
    assert described >= 9 + 3 + len(FACT_KINDS)
    assert FACT_WORDS.keys() == FACT_KINDS.keys()
    assert HANDLING_WORDS.keys() == {
        *HANDLING_KEYS,
        *(f"{group}.{name}" for group, keys in RANGES.items() for name in keys),
    }
    assert OPERATOR_WORDS.keys() == {operator for operators in OPERATORS.values() for operator in operators}


def test_it_completes_facts_operators_detectors_and_addresses():
    schema = policy_schema()
    assert set(schema["$defs"]["when"]["properties"]) == set(FACT_KINDS)
    for kind, operators in OPERATORS.items():
        assert set(schema["$defs"][f"{kind}_condition"]["then"]["properties"]) == set(operators)
    text = policy_schema_json()
    assert all(f'"{word}"' in text for word in (*DETECTORS, *ADDRESSES))


def test_the_defaults_that_it_shows_are_those_that_hold():
    schema = policy_schema()["properties"]
    said = {
        group: {name: key["default"] for name, key in schema[group]["properties"].items()}
        for group in RANGES
        if group != "hedge"
    }
    said["hedge"] = {name: key["default"] for name, key in schema["hedge"]["then"]["properties"].items()}
    shown = parse_policy(f"{KIOSK}\n{json.dumps(said)[1:-1].replace('}, ', '}' + chr(10))}")
    silent = parse_policy(f"{KIOSK}\nhedge: {{}}")
    assert shown == silent
    assert schema["hedge"]["default"] is False
    assert schema["on_interrupt"]["default"] == parse_policy(KIOSK).on_interrupt


def test_places_of_your_own_may_be_routes():
    mine = Draft202012Validator(policy_schema(("remote", "site-server")))
    value = yaml.safe_load(KIOSK) | {"default": ["site-server", "local"]}
    assert not list(mine.iter_errors(value))
    assert list(VALIDATOR.iter_errors(value))


@pytest.mark.parametrize("name", preset_names())
def test_presets_pass(name):
    assert not findings((FOLDER / "presets" / f"{name}.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("block", [block for block in all_blocks("yaml") if not block.marker], ids=str)
def test_the_policies_of_the_pages_pass(block):
    assert not findings(block.text)


def test_a_policy_with_every_key_passes():
    assert not findings(WITH_EVERYTHING)
    assert not findings(WITH_HANDLING)


@pytest.mark.parametrize(
    ("whole", "mistake"),
    [
        *((KIOSK, mistake) for mistake in MISTAKES),
        *((WITH_EVERYTHING, mistake) for mistake in MISTAKES_IN_NEWER_KEYS),
        *((WITH_HANDLING, mistake) for mistake in MISTAKES_IN_HANDLING),
    ],
)
def test_a_mistake_that_a_schema_can_express_fails(whole, mistake):
    old, new, *_ = mistake
    text = whole.replace(old, new, 1)
    with pytest.raises(PolicyFileError) as raised:
        parse_policy(text)
    try:
        found = findings(text)
    except yaml.YAMLError:
        found = None
    if not found:
        message = str(raised.value)
        assert any(words in message for words in NOT_FOR_A_SCHEMA), f"the schema lets pass: {message}"


def test_most_mistakes_can_be_expressed():
    """The list of exceptions stays one: a schema that accepts everything would pass the test above."""
    failing = 0
    for old, new, *_ in MISTAKES:
        try:
            failing += bool(findings(KIOSK.replace(old, new, 1)))
        except yaml.YAMLError:
            continue
    assert failing >= len(MISTAKES) // 2


def written(policy):
    """A policy as a file's text, in the shapes that people write."""
    value = policy.to_dict()
    value["zones"] = {
        zone: entry if index % 2 else entry["ceiling"] for index, (zone, entry) in enumerate(value["zones"].items())
    }
    for rule in value["rules"]:
        when = {}
        for condition in rule["when"]:
            operand = condition["operand"]
            if isinstance(operand, float):
                operand = round(operand, 3)
            elif isinstance(operand, list):
                operand = [round(number, 3) if isinstance(number, float) else number for number in operand]
            short = condition["operator"] in ("eq", "in", "contains", "contains_any")
            when[condition["fact"]] = operand if short else {condition["operator"]: operand}
        rule["when"] = when
        if not rule["redact"]:
            del rule["redact"]
    return yaml.safe_dump(value, sort_keys=False)


@given(strategies.policies())
@settings(max_examples=150, deadline=None)
def test_what_the_loader_reads_the_schema_lets_pass(policy):
    text = written(policy)
    try:
        parse_policy(text)
    except PolicyFileError:
        assume(False)
    assert not findings(text)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_an_unknown_key_anywhere_fails_in_both(data):
    value = yaml.safe_load(WITH_EVERYTHING)
    mappings = [value, value["labels"], value["zones"]["site"], value["detectors"][1], value["rules"][0]]
    mappings += [value["rules"][0]["when"], value["guarantees"][0]]
    handled = yaml.safe_load(WITH_HANDLING)
    value |= {key: handled[key] for key in HANDLING_KEYS}
    value["rules"][0]["hedge"] = {}
    mappings += [value[key] for key in HANDLING_KEYS if key != "on_interrupt"] + [value["rules"][0]["hedge"]]
    data.draw(st.sampled_from(mappings))[data.draw(st.sampled_from(("nmae", "wehn", "x")))] = "local"
    text = yaml.safe_dump(value)
    assert findings(text)
    with pytest.raises(PolicyFileError, match="unknown"):
        parse_policy(text)
