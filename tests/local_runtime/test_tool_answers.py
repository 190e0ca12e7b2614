"""Answers that call tools and think, through the real engine: token by token, replayed, forced, refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from local_runtime.engine import Engine
from local_runtime.errors import InvalidRequestError
from local_runtime.events import Event, Failed, Finished, TextDelta
from local_runtime.options import GenerateRequest, Grammar, SamplingOptions
from local_runtime.tokenizer import ChatTokenizer
from local_runtime.tool_calls.answers import answer_grammar, answer_parser, template_variables
from tests.local_runtime.chat_templates import TEMPLATES
from tests.local_runtime.tool_models import TOOLS, saying, tool_tokenizer

ASK: list[dict[str, Any]] = [{"role": "user", "content": "When do you open?"}]
GREEDY = SamplingOptions(temperature=0)
MODELS: dict[str, tuple[str, list[str], list[str]]] = {
    # model: template, special tokens, other added tokens
    "qwen2.5": ("qwen2.5", ["<|im_start|>", "<|im_end|>"], ["<tool_call>", "</tool_call>"]),
    "qwen2.5, special": ("qwen2.5", ["<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>"], []),
    "qwen2.5, no tokens": ("qwen2.5", [], []),
    "qwen3": ("qwen3", ["<|im_start|>", "<|im_end|>"], ["<tool_call>", "</tool_call>", "<think>", "</think>"]),
    "llama 3.1": ("llama 3.1", ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|python_tag|>"], []),
    "mistral v3": ("mistral v3", ["[INST]", "[/INST]", "[TOOL_CALLS]"], []),
    "mistral v11": ("mistral v11", ["[INST]", "[/INST]", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"], []),
    "magistral": ("magistral", ["[INST]", "[/INST]", "[THINK]", "[/THINK]"], []),
    "deepseek r1": ("deepseek r1", ["<｜User｜>", "<｜Assistant｜>"], ["<think>", "</think>"]),
    "chatml": ("chatml", ["<|im_start|>", "<|im_end|>"], []),
    "phi 4 mini": ("phi 4 mini", ["<|user|>"], []),
}
_HERMES = '<tool_call>\n{"name": "opening_hours", "arguments": {"day": "today"}}\n</tool_call>'
_HERMES_TWO = _HERMES + '\n<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
_CALLS = [("opening_hours", '{"day": "today"}'), ("now", "{}")]
SAID: list[tuple[str, str, str, str, int]] = [
    # model, answer, text, reasoning, calls
    ("qwen2.5", "Nine, I think: é 你好.", "Nine, I think: é 你好.", "", 0),
    ("qwen2.5", f"I look.\n{_HERMES_TWO}", "I look.", "", 2),
    ("qwen2.5, special", f"I look.\n{_HERMES_TWO}", "I look.", "", 2),
    ("qwen2.5, no tokens", _HERMES, "", "", 1),
    ("qwen3", f"<think>\nthey ask\n</think>\n\nI look.\n{_HERMES_TWO}", "I look.", "they ask", 2),
    ("llama 3.1", '{"name": "opening_hours", "parameters": {"day": "today"}}', "", "", 1),
    ("llama 3.1", '<|python_tag|>{"name": "opening_hours", "parameters": {"day": "today"}}', "", "", 1),
    (
        "mistral v3",
        '[TOOL_CALLS] [{"name": "opening_hours", "arguments": {"day": "today"}}, {"name": "now", "arguments": {}}]',
        "",
        "",
        2,
    ),
    ("mistral v11", 'Well. [TOOL_CALLS]opening_hours[ARGS]{"day": "today"}[TOOL_CALLS]now[ARGS]{}', "Well.", "", 2),
]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ChatTokenizer]:
    root = tmp_path_factory.mktemp("tools")
    return {
        name: tool_tokenizer(root / name.replace(" ", "-"), TEMPLATES[template].source, special, added, bos_token="<s>")
        for name, (template, special, added) in MODELS.items()
    }  # fmt: skip


def run(engine: Engine, request: GenerateRequest, request_id: int = 5) -> list[Event]:
    events: list[Event] = []
    engine.submit(request_id, request, events.append)
    steps = 0
    while engine.has_work:
        engine.step()
        steps += 1
        assert steps < 20_000
    return events


def ask(tokenizer: ChatTokenizer, folder: Path, answer: str, **fields: Any) -> list[Event]:
    fields = {"messages": ASK, "sampling": GREEDY, "tools": TOOLS, **fields}
    return run(Engine(saying(folder, tokenizer, answer)), GenerateRequest(**fields))


def deltas(events: list[Event]) -> list[TextDelta]:
    return [event for event in events if isinstance(event, TextDelta)]


def text_of(events: list[Event]) -> str:
    return "".join(delta.text for delta in deltas(events))


def reasoning_of(events: list[Event]) -> str:
    return "".join(delta.reasoning for delta in deltas(events))


def calls_of(events: list[Event]) -> list[tuple[str, str, str]]:
    calls: dict[int, tuple[str, str, str]] = {}
    for delta in deltas(events):
        for piece in delta.tool_calls:
            identity, name, arguments = calls.get(piece.index, ("", "", ""))
            calls[piece.index] = (identity + piece.id, name + piece.name, arguments + piece.arguments)
    return [calls[index] for index in sorted(calls)]


def reason_of(events: list[Event]) -> str:
    end = events[-1]
    assert isinstance(end, Finished), end
    return end.reason


def error_of(events: list[Event]) -> str:
    (end,) = events
    assert isinstance(end, Failed), end
    assert isinstance(end.error, InvalidRequestError)
    return str(end.error)


@pytest.mark.parametrize(("model", "answer", "text", "reasoning", "calls"), SAID)
def test_an_answer_is_taken_apart_while_it_is_streamed(
    tokenizers: dict[str, ChatTokenizer], tmp_path: Path, model: str, answer: str, text: str, reasoning: str, calls: int
) -> None:
    events = ask(tokenizers[model], tmp_path, answer)
    assert text_of(events) == text
    assert reasoning_of(events) == reasoning
    assert [call[1:] for call in calls_of(events)] == _CALLS[:calls]
    assert reason_of(events) == ("tool_calls" if calls else "stop")
    ids = [identity for identity, *_ in calls_of(events)]
    assert len(set(ids)) == calls
    shape = (9, True) if model.startswith("mistral") else (29, False)
    assert {(len(identity), identity.isalnum()) for identity in ids} <= {shape}
    assert all(delta.tokens == 1 for delta in deltas(events))


@pytest.mark.parametrize(("model", "answer"), [(model, answer) for model, answer, *_ in SAID])
def test_an_answer_goes_on_in_another_worker_as_if_nothing_had_happened(
    tokenizers: dict[str, ChatTokenizer], tmp_path: Path, model: str, answer: str
) -> None:
    whole = ask(tokenizers[model], tmp_path, answer)
    said = deltas(whole)
    for place in range(1, len(said), 4):
        begun = [token for delta in said[:place] for token in delta.ids]
        rest = ask(tokenizers[model], tmp_path, answer, answer_begun_ids=begun)
        assert [(d.text, d.reasoning, d.tool_calls, d.ids) for d in deltas(rest)] == [
            (d.text, d.reasoning, d.tool_calls, d.ids) for d in said[place:]
        ], place
        assert reason_of(rest) == reason_of(whole)


def test_an_answer_that_is_cut_off_in_a_call_keeps_what_was_told(
    tokenizers: dict[str, ChatTokenizer], tmp_path: Path
) -> None:
    events = ask(
        tokenizers["qwen2.5"], tmp_path, _HERMES, max_tokens=len(_HERMES) - len('<tool_call>y"}}\n</tool_call>') + 1
    )
    assert [call[1:] for call in calls_of(events)] == [("opening_hours", '{"day": "toda')]
    assert reason_of(events) == "length"


def test_one_call_is_enough_where_only_one_is_allowed(tokenizers: dict[str, ChatTokenizer], tmp_path: Path) -> None:
    events = ask(tokenizers["qwen2.5"], tmp_path, _HERMES_TWO, parallel_tool_calls=False)
    assert [call[1:] for call in calls_of(events)] == _CALLS[:1]
    assert reason_of(events) == "tool_calls"
    end = events[-1]
    assert isinstance(end, Finished)
    assert end.usage.completion_tokens == _HERMES.index("}}") + 2 - len("<tool_call>") + 1


def test_stop_strings_look_at_the_answer_only(tokenizers: dict[str, ChatTokenizer], tmp_path: Path) -> None:
    answer = f"<think>\nstop here? today?\n</think>\n\nNo, today we stop here.\n{_HERMES}"
    events = ask(tokenizers["qwen3"], tmp_path, answer, stop=("stop here",))
    assert (text_of(events), reasoning_of(events)) == ("No, today we ", "stop here? today?")
    assert (calls_of(events), reason_of(events)) == ([], "stop")
    events = ask(tokenizers["qwen3"], tmp_path, answer, stop=('{"day"',))
    assert len(calls_of(events)) == 1


def test_without_tools_the_same_text_is_text(tokenizers: dict[str, ChatTokenizer], tmp_path: Path) -> None:
    both: list[dict[str, Any]] = [{"tools": []}, {"tool_choice": "none"}]
    for fields in both:
        events = ask(tokenizers["qwen2.5"], tmp_path, _HERMES, **fields)
        assert (text_of(events), calls_of(events), reason_of(events)) == (_HERMES, [], "stop")
    request = GenerateRequest(messages=ASK)
    assert answer_parser(tokenizers["qwen2.5"], request, [], 1) is None
    assert answer_grammar(tokenizers["qwen2.5"], request, []) is None


def test_tools_that_must_not_be_called_are_not_shown(tokenizers: dict[str, ChatTokenizer], tmp_path: Path) -> None:
    def prompt_tokens(**fields: Any) -> int:
        end = ask(tokenizers["qwen2.5"], tmp_path, "hi", **fields)[-1]
        assert isinstance(end, Finished)
        return end.usage.prompt_tokens

    assert prompt_tokens(tool_choice="none") == prompt_tokens(tools=[]) < prompt_tokens()
    engine = Engine(saying(tmp_path, tokenizers["qwen2.5"], "hi"))
    assert engine.count_prompt_tokens(ASK, {}, TOOLS) == prompt_tokens()
    assert engine.count_prompt_tokens(ASK, {}) == prompt_tokens(tools=[])


# ---- thoughts ----


def test_a_thought_that_the_prompt_has_begun(tokenizers: dict[str, ChatTokenizer], tmp_path: Path) -> None:
    events = ask(tokenizers["deepseek r1"], tmp_path, "they ask\n</think>\n\nNine.", tools=[])
    assert (text_of(events), reasoning_of(events), reason_of(events)) == ("Nine.", "they ask", "stop")
    events = ask(tokenizers["deepseek r1"], tmp_path, "they ask and", tools=[], max_tokens=8)
    assert (text_of(events), reasoning_of(events), reason_of(events)) == ("", "they ask", "length")


def test_marks_that_are_special_tokens_are_seen(tokenizers: dict[str, ChatTokenizer], tmp_path: Path) -> None:
    events = ask(tokenizers["magistral"], tmp_path, "[THINK]they ask[/THINK]Nine.", tools=[])
    assert (text_of(events), reasoning_of(events)) == ("Nine.", "they ask")


def test_thinking_can_be_switched_off_where_the_template_can(
    tokenizers: dict[str, ChatTokenizer], tmp_path: Path
) -> None:
    tokenizer = tokenizers["qwen3"]
    off = {"enable_thinking": False}
    assert tokenizer.render(ASK, **template_variables(off, [])).endswith("<think>\n\n</think>\n\n")
    events = ask(tokenizer, tmp_path, "Nine.", chat_template_kwargs=off)
    assert (text_of(events), reasoning_of(events)) == ("Nine.", "")


def test_what_somebody_else_has_begun_is_no_thought(tokenizers: dict[str, ChatTokenizer], tmp_path: Path) -> None:
    tokenizer = tokenizers["deepseek r1"]
    prompt, said = tokenizer.encode_begun(ASK, "Ni")
    assert tokenizer.decode(prompt, skip_special_tokens=False).endswith("<think>\n\n</think>\n\n")
    assert tokenizer.decode(said) == "Ni"
    events = ask(tokenizer, tmp_path, "ne. <think>", tools=[], answer_begun="Ni")
    assert (text_of(events), reasoning_of(events)) == ("ne. <think>", "")
    call = '{"name": "now", "parameters": {}}'
    events = ask(tokenizers["llama 3.1"], tmp_path, call, answer_begun="Like this: ")
    assert (text_of(events), calls_of(events)) == (call, [])


# ---- refusals ----


@pytest.mark.parametrize(
    ("model", "fields", "said"),
    [
        ("chatml", {}, "can't call tools: its chat template has no place for them"),
        ("phi 4 mini", {"messages": [{"role": "system", "content": "x"}, *ASK]}, "in a format that is not implemented"),
        ("qwen2.5", {"tools": [{"type": "web_search"}]}, r"tools\[0\] is no function with a name"),
        ("qwen2.5", {"tools": [{"type": "function", "function": {"name": "f", "parameters": "x"}}]}, "is no JSON Schema"),
        ("qwen2.5", {"tool_choice": "required", "callable_tools": ("secret",)}, "names a tool that isn't among the tools"),
        ("qwen2.5", {"chat_template_kwargs": {"tools": []}}, "variable may not be called tools"),
        (
            "qwen2.5",
            {
                "tool_choice": "required",
                "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "not": {}}}}],
            },
            r"tools\[0\]\.function\.parameters\.not",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_by_name(
    tokenizers: dict[str, ChatTokenizer], tmp_path: Path, model: str, fields: dict[str, Any], said: str
) -> None:
    error = error_of(ask(tokenizers[model], tmp_path, "hi", **fields))
    assert re.search(said, error)
    assert "secret" not in error


# ---- forced calls ----

_TOOL_SCHEMAS = {tool["function"]["name"]: tool["function"].get("parameters", {"type": "object"}) for tool in TOOLS}


def wild(tokenizer: ChatTokenizer, folder: Path, seed: int, answer: str = "x", **fields: Any) -> list[Event]:
    """What a model says that has no opinion: every token that may come is about as likely as any other."""
    fields = {"messages": ASK, "tools": TOOLS, "sampling": SamplingOptions(temperature=100.0, seed=seed), **fields}
    return run(Engine(saying(folder, tokenizer, answer)), GenerateRequest(**fields))


@pytest.mark.parametrize(
    "model", ["qwen2.5", "qwen2.5, special", "qwen2.5, no tokens", "llama 3.1", "mistral v3", "mistral v11"]
)
def test_a_required_call_is_one_whatever_the_model_would_say(
    tokenizers: dict[str, ChatTokenizer], tmp_path: Path, model: str
) -> None:
    pytest.importorskip("llguidance")
    seen = set()
    for seed in range(6):
        named = ("opening_hours",) if seed % 2 else ()
        events = wild(
            tokenizers[model],
            tmp_path,
            seed,
            tool_choice="required",
            callable_tools=named,
            parallel_tool_calls=seed > 3,
        )
        assert text_of(events) == ""
        assert reason_of(events) == "tool_calls"
        calls = calls_of(events)
        assert calls
        assert len(calls) == 1 or seed > 3
        for _, name, arguments in calls:
            seen.add(name)
            assert not named or name in named
            jsonschema.validate(json.loads(arguments), _TOOL_SCHEMAS[name])
    assert "opening_hours" in seen


@pytest.mark.parametrize(
    "model", ["qwen2.5", "qwen2.5, special", "qwen2.5, no tokens", "llama 3.1", "mistral v3", "mistral v11"]
)
def test_strict_tools_bind_their_arguments_where_the_model_may_choose(
    tokenizers: dict[str, ChatTokenizer], tmp_path: Path, model: str
) -> None:
    pytest.importorskip("llguidance")
    strict = [{**TOOLS[0], "function": {**TOOLS[0]["function"], "strict": True}}, TOOLS[1]]
    # It says something, or begins a call and then wants to say what the schema doesn't allow.
    answers = {
        "llama 3.1": '{"name": "opening_hours", "parameters": {"when": "never"}}',
        "mistral v3": '[TOOL_CALLS] [{"name": "opening_hours", "arguments": {"when": "never"}}]',
        "mistral v11": '[TOOL_CALLS]opening_hours[ARGS]{"when": "never"}',
    }
    wrong = answers.get(model, '<tool_call>\n{"name": "opening_hours", "arguments": {"when": "never"}}\n</tool_call>')
    parameters = "{" + wrong.split("{")[-1].split("}")[0] + "}"
    loose = ask(tokenizers[model], tmp_path, wrong)
    assert calls_of(loose)[0][2] == parameters
    bound = ask(tokenizers[model], tmp_path, wrong, tools=strict, max_tokens=400)
    for _, name, arguments in calls_of(bound)[:1]:
        assert name == "opening_hours"
        jsonschema.validate(json.loads(arguments), _TOOL_SCHEMAS[name])
    said = ask(tokenizers[model], tmp_path, "Nine. <b>", tools=strict)
    assert (text_of(said), reason_of(said)) == ("Nine. <b>", "stop")


@pytest.mark.parametrize(
    ("model", "thought"), [("qwen3", "<think>\nhm <b>\n</think>\n\n"), ("qwen3", ""), ("deepseek r1", "hm\n</think>\n")]
)
def test_a_model_may_think_before_what_is_asked_of_its_answer(
    tokenizers: dict[str, ChatTokenizer], tmp_path: Path, model: str, thought: str
) -> None:
    pytest.importorskip("llguidance")
    schema = {
        "type": "object",
        "properties": {"open": {"type": "integer"}},
        "required": ["open"],
        "additionalProperties": False,
    }
    for grammar, answer in (
        (Grammar("json_schema", json.dumps(schema)), '{"open": 9}'),
        (Grammar("json_object"), '{"a": 1}'),
        (Grammar("regex", r"[0-9]/[0-9]\\?"), "9/5"),
        (Grammar("lark", 'start: "nine" | "ten"'), "ten"),
    ):
        events = ask(tokenizers[model], tmp_path, thought + answer, tools=[], grammar=grammar)
        assert (text_of(events), reason_of(events)) == (answer, "stop")
        assert reasoning_of(events) == thought.replace("<think>", "").replace("</think>", "").strip()
    if model == "qwen3":
        events = ask(tokenizers[model], tmp_path, f"{thought}{_HERMES}", tool_choice="required")
        assert [call[1:] for call in calls_of(events)] == _CALLS[:1]
        assert bool(reasoning_of(events)) == bool(thought)


@pytest.mark.parametrize("model", ["qwen3", "qwen2.5, no tokens", "mistral v3", "mistral v11"])
def test_an_answer_keeps_to_its_grammar_or_calls(
    tokenizers: dict[str, ChatTokenizer], tmp_path: Path, model: str
) -> None:
    pytest.importorskip("llguidance")
    grammar = Grammar("json_schema", json.dumps({"type": "object", "additionalProperties": {"type": "integer"}}))
    events = ask(tokenizers[model], tmp_path, '{"open": 9}', grammar=grammar)
    assert (text_of(events), reason_of(events)) == ('{"open": 9}', "stop")
    call = next(
        answer
        for name, answer, text, _, calls in SAID
        if name == model.replace("qwen3", "qwen2.5, no tokens") and calls
    )
    call = call.removeprefix("Well. ")
    events = ask(tokenizers[model], tmp_path, call, grammar=grammar)
    assert calls_of(events)[0][1] == "opening_hours"
    assert (text_of(events), reason_of(events)) == ("", "tool_calls")
    for seed in range(3):
        events = wild(tokenizers[model], tmp_path, seed, grammar=grammar, max_tokens=300)
        if reason_of(events) == "stop":
            assert all(isinstance(value, int) for value in json.loads(text_of(events)).values())


def test_calls_that_are_required_are_not_where_something_is_said_already(
    tokenizers: dict[str, ChatTokenizer], tmp_path: Path
) -> None:
    fields = {"tool_choice": "required", "answer_begun": "We "}
    assert "begun as text" in error_of(ask(tokenizers["qwen2.5"], tmp_path, "open", **fields))
