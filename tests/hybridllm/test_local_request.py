"""What the engine is asked for a request."""

import pytest

from hybridllm.backends.base import BackendCall
from hybridllm.backends.local import LocalBackend
from hybridllm.backends.local_request import engine_capabilities, engine_request
from hybridllm.capabilities import CAPABILITIES
from hybridllm.types import ChatRequest
from local_runtime.options import GenerateRequest, Grammar, SamplingOptions
from tests.hybridllm.everything import PLAIN, everything_asked

HELLO = [{"role": "user", "content": "hello"}]
TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "default": None}, "strict": False},
}


def asked(messages=HELLO, begun="", **fields):
    return engine_request(BackendCall(ChatRequest.parse(messages, **fields), "req-1", begun=begun, conversation="c"))


def test_plain_text_asks_for_nothing_else():
    expected = GenerateRequest(messages=HELLO, conversation="c", answer_begun="x")
    assert asked(begun="x") == expected
    assert (
        asked(begun="x", response_format={"type": "text"}, logprobs=False, n=2, user="x", metadata={"a": "b"})
        == expected
    )


def test_every_field_arrives():
    fields = {
        name: value
        for name, value in PLAIN.items()
        if name not in ("n", "stream", "stream_options", "parallel_tool_calls")
    }
    got = asked(**fields, stop=["x"], chat_template_kwargs={"enable_thinking": False})
    assert got == GenerateRequest(
        messages=HELLO,
        sampling=SamplingOptions(
            temperature=0.5, top_p=0.5, top_k=3, min_p=0.1, repetition_penalty=1.5, frequency_penalty=0.5, presence_penalty=0.5,
            seed=7,
        ),
        max_tokens=9,
        min_tokens=1,
        stop=("x",),
        stop_token_ids=(17,),
        logit_bias={"17": -5.0},
        logprobs=2,
        prompt_logprobs=2,
        chat_template_kwargs={"enable_thinking": False},
        conversation="c",
    )  # fmt: skip
    assert asked(logprobs=True).logprobs == 0


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ("auto", ())),
        ("auto", ("auto", ())),
        ("none", ("none", ())),
        ("required", ("required", ())),
        ({"type": "function", "function": {"name": "weather"}}, ("required", ("weather",))),
    ],
)
def test_tools_and_the_choice_among_them(choice, expected):
    got = asked(tools=[{**TOOL, "privacy": "public"}], tool_choice=choice)
    assert got.tools == [TOOL]
    assert (got.tool_choice, got.callable_tools) == expected
    assert got.parallel_tool_calls
    assert not asked(tools=[TOOL], parallel_tool_calls=False).parallel_tool_calls


def test_messages_of_a_tool_loop():
    calls = [{"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]
    messages = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": calls, "reasoning_content": "Hm.", "privacy": "public"},
        {
            "role": "tool",
            "tool_call_id": "a",
            "content": [{"type": "text", "text": "Rain"}, {"type": "text", "text": "all day"}],
        },
    ]
    assert asked(messages).messages == [
        *HELLO,
        {"role": "assistant", "content": "", "reasoning_content": "Hm.", "tool_calls": calls},
        {"role": "tool", "content": "Rain\nall day", "tool_call_id": "a"},
    ]


@pytest.mark.parametrize(
    ("fields", "grammar"),
    [
        ({"response_format": {"type": "json_object"}}, Grammar("json_object")),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "string"}}}},
            Grammar("json_schema", '{"type": "string"}'),
        ),
        ({"grammar": {"type": "regex", "text": "[0-9]+"}}, Grammar("regex", "[0-9]+")),
        ({"response_format": {"type": "json_object"}, "tools": [TOOL], "tool_choice": "required"}, None),
        ({"response_format": {"type": "json_object"}, "tools": [TOOL]}, Grammar("json_object")),
    ],
)
def test_forms_of_an_answer(fields, grammar):
    assert asked(**fields).grammar == grammar


def test_whatever_can_be_asked_is_a_request_of_the_engines():
    names = iter(range(1000))
    for more in ({}, {"grammar": True}):
        request = everything_asked(lambda: f"x-{next(names)}", **PLAIN, **more)
        assert isinstance(engine_request(BackendCall(request, "req-1")), GenerateRequest)


def test_the_device_reads_no_pictures_and_keeps_to_a_form_only_with_the_package_for_it(monkeypatch):
    able = {"response_format", "grammar", "tool_choice"}
    engine_capabilities.cache_clear()
    monkeypatch.setattr("hybridllm.backends.local_request.find_spec", lambda name: None)
    assert engine_capabilities() == CAPABILITIES - {"vision"} - able
    engine_capabilities.cache_clear()
    monkeypatch.setattr("hybridllm.backends.local_request.find_spec", lambda name: name)
    assert engine_capabilities() == CAPABILITIES - {"vision"}
    assert LocalBackend("kiosk-assistant").capabilities == CAPABILITIES - {"vision"}
    engine_capabilities.cache_clear()
