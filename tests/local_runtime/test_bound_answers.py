"""Answers that are calls of tools or keep to a grammar, through the real engine and the real grammar library: always one of both."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from local_runtime.events import Event, Failed
from local_runtime.grammar_references import References
from local_runtime.options import Grammar
from tests.local_runtime.chat_templates import TEMPLATES
from tests.local_runtime.test_tool_answers import (
    ask,
    calls_of,
    deltas,
    error_of,
    reason_of,
    reasoning_of,
    text_of,
    wild,
)
from tests.local_runtime.tool_models import TOOLS, tool_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from local_runtime.tokenizer import ChatTokenizer

pytest.importorskip("llguidance")

MODELS: dict[str, tuple[str, list[str], list[str]]] = {
    # model: template, special tokens, other added tokens
    "hermes": ("qwen2.5", ["<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>"], []),
    "hermes, no tokens": ("qwen2.5", [], []),
    "hermes, thinks": ("qwen3", ["<|im_start|>", "<|im_end|>"], ["<tool_call>", "</tool_call>", "<think>", "</think>"]),
    "llama 3": ("llama 3.1", ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|python_tag|>"], []),
    "mistral": ("mistral v3", ["[INST]", "[/INST]", "[TOOL_CALLS]"], []),
    "mistral, named": ("mistral v11", ["[INST]", "[/INST]", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"], []),
}
_HERMES = '<tool_call>\n{{"name": "{0}", "arguments": {1}}}\n</tool_call>'
WRITTEN = {
    "hermes": _HERMES,
    "hermes, no tokens": _HERMES,
    "hermes, thinks": _HERMES,
    "llama 3": '{{"name": "{0}", "parameters": {1}}}',
    "mistral": '[TOOL_CALLS] [{{"name": "{0}", "arguments": {1}}}]',
    "mistral, named": "[TOOL_CALLS]{0}[ARGS]{1}",
}
DAY = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "opens": {"type": "integer"}},
    "required": ["name", "opens"],
    "additionalProperties": False,
}
ANSWER = '{"name": "now", "opens": 9}'  # it begins as a call of Llama 3's does
PARAMETERS = {tool["function"]["name"]: tool["function"].get("parameters", {}) for tool in TOOLS}
STRICT = [{**TOOLS[0], "function": {**TOOLS[0]["function"], "strict": True}}, TOOLS[1]]


def schema(value: Any) -> Grammar:
    return Grammar("json_schema", json.dumps(value))


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ChatTokenizer]:
    root = tmp_path_factory.mktemp("bound")
    return {
        name: tool_tokenizer(root / name.replace(" ", "-"), TEMPLATES[template].source, special, added, bos_token="<s>")
        for name, (template, special, added) in MODELS.items()
    }


def called(events: list[Event]) -> list[tuple[str, str]]:
    return [(name, arguments) for _, name, arguments in calls_of(events)]


def valid(arguments: str, name: str = "opening_hours") -> bool:
    jsonschema.validate(json.loads(arguments), PARAMETERS[name])
    return True


@pytest.mark.parametrize("model", MODELS)
def test_a_model_says_what_the_schema_wants_or_calls(
    tokenizers: dict[str, ChatTokenizer], tmp_path: Path, model: str
) -> None:
    said = ask(tokenizers[model], tmp_path, ANSWER, grammar=schema(DAY))
    assert (text_of(said), called(said), reason_of(said)) == (ANSWER, [], "stop")
    call = WRITTEN[model].format("opening_hours", '{"day": "today"}')
    done = ask(tokenizers[model], tmp_path, call, grammar=schema(DAY))
    assert (text_of(done), called(done)) == ("", [("opening_hours", '{"day": "today"}')])
    assert reason_of(done) == "tool_calls"


@pytest.mark.parametrize("model", MODELS)
def test_a_model_without_an_opinion_does_one_of_the_two(
    tokenizers: dict[str, ChatTokenizer], tmp_path: Path, model: str
) -> None:
    answer = {**DAY, "properties": {"name": {"enum": ["now", "nine"]}, "opens": {"type": "integer"}}}
    ways = set()
    for seed in range(5):
        events = wild(tokenizers[model], tmp_path, seed, grammar=schema(answer), tools=STRICT, max_tokens=400)
        ways.add(reason_of(events))
        if reason_of(events) == "stop":
            jsonschema.validate(json.loads(text_of(events)), answer)
            assert called(events) == []
        elif reason_of(events) == "tool_calls":
            assert text_of(events) == ""
            assert all(valid(arguments, name) for name, arguments in called(events))
    assert ways - {"length"}


@pytest.mark.parametrize("model", MODELS)
def test_either_goes_on_in_another_worker(tokenizers: dict[str, ChatTokenizer], tmp_path: Path, model: str) -> None:
    for answer in (ANSWER, WRITTEN[model].format("opening_hours", '{"day": "today"}')):
        whole = ask(tokenizers[model], tmp_path, answer, grammar=schema(DAY))
        said = deltas(whole)
        for place in range(1, len(said), 7):
            begun = [token for delta in said[:place] for token in delta.ids]
            rest = ask(tokenizers[model], tmp_path, answer, grammar=schema(DAY), answer_begun_ids=begun)
            assert [(d.text, d.tool_calls, d.ids) for d in deltas(rest)] == [
                (d.text, d.tool_calls, d.ids) for d in said[place:]
            ], place
            assert reason_of(rest) == reason_of(whole)


@pytest.mark.parametrize(
    ("model", "note"),
    [
        ("hermes, no tokens", '<tool_call>{\\"name\\": \\"now\\"}</tool_call>'),
        ("mistral", '[TOOL_CALLS] [{\\"name\\": \\"now\\"}]'),
        ("mistral, named", "[TOOL_CALLS]now[ARGS]{} [TOOL_CALLS]now{}"),
        ("llama 3", '<|python_tag|>{\\"name\\": \\"now\\", \\"parameters\\": {}}'),
    ],
)
def test_what_looks_like_a_call_within_a_bound_answer_belongs_to_it(
    tokenizers: dict[str, ChatTokenizer], tmp_path: Path, model: str, note: str
) -> None:
    notes = {
        "type": "object",
        "properties": {"note": {"type": "string"}},
        "required": ["note"],
        "additionalProperties": False,
    }
    answer = f'{{"note": "{note}"}}'
    # Bytes only: as tokens, the marks could not come in a text at all.
    plain = tool_tokenizer(tmp_path / "plain", TEMPLATES[MODELS[model][0]].source, bos_token="<s>")
    events = ask(plain, tmp_path, answer, grammar=schema(notes))
    assert (text_of(events), called(events), reason_of(events)) == (answer, [], "stop")


def test_after_a_thought_there_are_both(tokenizers: dict[str, ChatTokenizer], tmp_path: Path) -> None:
    model = "hermes, thinks"
    call = WRITTEN[model].format("now", "{}")
    for answer, text, calls in ((ANSWER, ANSWER, []), (call, "", [("now", "{}")])):
        events = ask(tokenizers[model], tmp_path, f"<think>\nhm {call}\n</think>\n\n{answer}", grammar=schema(DAY))
        assert (text_of(events), called(events)) == (text, calls)
        assert reasoning_of(events) == f"hm {call}"


def test_an_answer_that_was_begun_in_words_keeps_to_its_schema_alone(
    tokenizers: dict[str, ChatTokenizer], tmp_path: Path
) -> None:
    # As a remote that breaks off would have begun it: with space that this grammar would not write.
    for model in ("hermes", "mistral, named", "llama 3"):
        events = ask(tokenizers[model], tmp_path, ' "now","opens":9}', grammar=schema(DAY), answer_begun='{\n  "name":')
        assert (text_of(events), called(events), reason_of(events)) == (' "now","opens":9}', [], "stop")


@pytest.mark.parametrize("model", ["hermes", "hermes, no tokens", "mistral", "mistral, named"])
def test_a_pattern_that_allows_anything_does_not_allow_half_a_call(
    tokenizers: dict[str, ChatTokenizer], tmp_path: Path, model: str
) -> None:
    anything = Grammar("regex", r"(.|\n){1,200}")
    events = ask(tokenizers[model], tmp_path, "Nine <b>.", grammar=anything)
    assert (text_of(events), reason_of(events)) == ("Nine <b>.", "stop")
    wrong = WRITTEN[model].format("opening_hours", '{"when": "never"}')
    events = ask(tokenizers[model], tmp_path, wrong, grammar=anything, tools=STRICT, max_tokens=400)
    assert all(PARAMETERS[name] == {} or valid(arguments, name) for name, arguments in called(events))
    assert called(events) or not text_of(events).lstrip().startswith(("<tool_call>", "[TOOL_CALLS]"))


# ---- Llama 3 ----


def test_a_call_of_llamas_may_have_its_tag(tokenizers: dict[str, ChatTokenizer], tmp_path: Path) -> None:
    call = "<|python_tag|>" + WRITTEN["llama 3"].format("now", "{}")
    events = ask(tokenizers["llama 3"], tmp_path, call, grammar=schema(DAY))
    assert (text_of(events), called(events), reason_of(events)) == ("", [("now", "{}")], "tool_calls")


@pytest.mark.parametrize(
    "grammar",
    [Grammar("json_object"), schema({"type": "object"}), schema({"properties": {"name": {"type": "string"}}})],
)
def test_an_open_answer_of_llamas_leaves_out_what_would_make_it_a_call(
    tokenizers: dict[str, ChatTokenizer], tmp_path: Path, grammar: Grammar
) -> None:
    tokenizer = tokenizers["llama 3"]
    for answer in ('{"name": "now", "hours": {"day": 1}}', '{"name": "now"}', "{}"):
        events = ask(tokenizer, tmp_path, answer, grammar=grammar)
        assert (text_of(events), called(events), reason_of(events)) == (answer, [], "stop")
    # In another order it would be a call too, but its arguments would not have been held to their schema.
    wrong = '{"parameters": {"when": "never"}, "name": "opening_hours"}'
    events = ask(tokenizer, tmp_path, wrong, grammar=grammar, tools=STRICT, max_tokens=60)
    assert called(events) == []
    assert not text_of(events).startswith('{"parameters":')
    wrong = WRITTEN["llama 3"].format("opening_hours", '{"when": "never"}')
    (call,) = called(ask(tokenizer, tmp_path, wrong, grammar=grammar, tools=STRICT, max_tokens=400))
    assert call[0] == "opening_hours"
    assert valid(call[1])


def test_a_list_is_no_call_of_llamas(tokenizers: dict[str, ChatTokenizer], tmp_path: Path) -> None:
    answer = '[{"name": "now", "parameters": {}}]'
    events = ask(tokenizers["llama 3"], tmp_path, answer, grammar=schema({"type": "array"}))
    assert (text_of(events), called(events)) == (answer, [])


BOTH = {"name": {"type": "string"}, "parameters": {"type": "object"}}


@pytest.mark.parametrize(
    ("grammar", "said"),
    [
        (schema({"type": "object", "properties": BOTH}), "can't be told from an answer that keeps to this schema"),
        (schema({"type": "object", "properties": BOTH, "additionalProperties": False}), "keeps to this schema"),
        (schema({"anyOf": [{"type": "object"}, {"type": "null"}]}), "keeps to this schema"),
        (schema({"type": "object", "required": ["parameters"]}), "keeps to this schema"),
        (schema({"type": "object", "patternProperties": {"^p": {}}}), "keeps to this schema"),
        (schema(True), "keeps to this schema"),
        (Grammar("regex", "yes|no"), "keeps to a regex grammar"),
        (Grammar("lark", 'start: "nine"'), "keeps to a lark grammar"),
    ],
)
def test_what_cannot_be_told_from_a_call_of_llamas_is_refused(
    tokenizers: dict[str, ChatTokenizer], tmp_path: Path, grammar: Grammar, said: str
) -> None:
    events = ask(tokenizers["llama 3"], tmp_path, "nine", grammar=grammar)
    assert said in error_of(events)
    end = events[-1]
    assert isinstance(end, Failed)
    assert "tool_choice" in end.error.mend
    # Without a choice there is nothing to be told apart.
    without: list[dict[str, Any]] = [{"tool_choice": "none"}, {"tools": []}]
    for fields in without:
        alone = ask(tokenizers["llama 3"], tmp_path, "nine", grammar=grammar, max_tokens=20, **fields)
        assert not isinstance(alone[-1], Failed)


@pytest.mark.parametrize(
    "properties",
    [
        {"name": {"enum": ["nine"]}, "parameters": {"type": "object"}},  # no tool has this name
        {"name": {"type": "string"}, "parameters": {"type": "integer"}, "arguments": {"type": "array"}},
    ],
)
def test_a_schema_whose_objects_are_no_calls_is_taken(
    tokenizers: dict[str, ChatTokenizer], tmp_path: Path, properties: dict[str, Any]
) -> None:
    answer = {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
    first = '{"name": "nine", "parameters": '
    rest = "{}}" if len(properties) == 2 else '1, "arguments": []}'
    events = ask(tokenizers["llama 3"], tmp_path, first + rest, grammar=schema(answer))
    assert (text_of(events), called(events), reason_of(events)) == (first + rest, [], "stop")


def test_closed_objects_exclude_each_other_by_what_they_require() -> None:
    one = {"properties": {"a": {}}, "additionalProperties": False, "type": "object"}
    other = {"properties": {"b": {}}, "required": ["b"], "type": "object"}
    assert References(True).are_disjoint([one, other])
    assert not References(True).are_disjoint([{**one, "properties": {"a": {}, "b": {}}}, other])
    assert not References(True).are_disjoint([{**one, "additionalProperties": True}, other])
    assert not References(True).are_disjoint([{**one, "patternProperties": {"^b": {}}}, other])
    assert not References(True).are_disjoint([one, {**other, "required": []}])
    assert not References(True).are_disjoint([one, {**other, "type": ["object", "null"], "required": ["a"]}])
