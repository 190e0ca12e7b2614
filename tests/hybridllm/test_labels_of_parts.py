"""Labels of everything that a request can have beside plain messages: tools, calls, results, schemas, pictures, metadata."""

import base64
import json
import re

import pytest

from hybridllm.errors import BadRequest
from hybridllm.label_memory import LabelMemory
from hybridllm.labels import join_labels, remember_labelled
from hybridllm.types import ChatRequest
from policies import load_policy
from tests.hybridllm.everything import PLAIN, STRUCTURE, everything_asked, strings_in

POLICY, WITH_DETECTORS = load_policy("offline-first"), load_policy("kiosk")
HELLO = [{"role": "user", "content": "hello", "privacy": "public"}]


def request(label, **fields):
    return ChatRequest.parse([{"role": "user", "content": "hello", "privacy": label}], **fields)


def join(asked, privacy=None, policy=POLICY):
    return join_labels(policy, asked, privacy=privacy, tags=())


@pytest.mark.parametrize("more", [{}, {"grammar": True}], ids=["response_format", "grammar"])
def test_every_text_that_a_remote_would_get_is_looked_at(more):
    """The list of texts that labels and detectors read has everything that stands in the bytes."""
    given = []

    def text():
        given.append(f"canary-{len(given):03}")
        return given[-1]

    asked = everything_asked(text, **PLAIN, **more)
    body = json.loads(asked.remote_body("m", capabilities={"reasoning_content"}))
    written = json.dumps(body).replace("_", "-")
    assert [canary for canary in given if canary not in written] == []
    read = "\n".join(text for _, text in asked.texts()).replace("_", "-")
    assert [canary for canary in given if canary not in read] == []
    # No text of a body is anything else, so that a new field cannot be forgotten here.
    assert [text for text in strings_in(body) if "canary" not in text and text not in STRUCTURE] == []
    assert not re.search("canary", "".join(path for path, _ in asked.texts()))


def test_everything_has_every_field():
    names = iter(range(1000))
    with_form = everything_asked(lambda: f"x-{next(names)}", **PLAIN)
    with_grammar = everything_asked(lambda: f"x-{next(names)}", **PLAIN, grammar=True)
    assert with_form.model_fields_set | with_grammar.model_fields_set | {"max_tokens"} == set(ChatRequest.model_fields)


TOOL = {"type": "function", "function": {"name": "look", "description": "Looks it up."}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [TOOL]},
        {"tools": [{**TOOL, "privacy": "public"}, {"type": "function", "function": {"name": "other"}}]},
        {"response_format": SCHEMA},
        {"grammar": {"type": "regex", "text": "x"}},
        {"metadata": {"a": "b"}},
        {"chat_template_kwargs": {"a": "b"}},
        {"logit_bias": {"5": 1}},
        {"stop_token_ids": [5]},
    ],
)
def test_whatever_says_something_is_a_part_that_has_to_be_labelled(more):
    assert join(request("public", **more)).label == "private"
    assert join(request("public", **more), "public").label == "public"


def test_a_tool_has_a_label_of_its_own():
    assert join(request("public", tools=[{**TOOL, "privacy": "public"}])).label == "public"
    joined = join(request("public", tools=[{**TOOL, "privacy": "internal"}]), "public")
    assert joined.label == "internal"
    assert [source.said_by for source in joined.sources] == ["privacy", "messages[0].privacy", "tools[0].privacy"]
    with pytest.raises(BadRequest) as raised:
        join(request("public", tools=[{**TOOL, "privacy": "pubilc"}]), "public")
    assert raised.value.field == "tools[0].privacy"


@pytest.mark.parametrize(
    "plain", [{"response_format": {"type": "json_object"}}, {"n": 2}, {"logprobs": True}, {"min_tokens": 2}]
)
def test_what_says_nothing_needs_no_label(plain):
    assert join(request("public", **plain)).label == "public"


CALL = {"id": "call-1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
LONG = "The blood test of last Tuesday shows a slightly raised cholesterol level"


def loop(result=None, arguments="{}", **labels):
    """A question, a call of a tool, and its result."""
    call = {**CALL, "function": {**CALL["function"], "arguments": arguments}}
    return [
        {"role": "user", "content": "What does it say?", "privacy": "public"},
        {"role": "assistant", "content": None, "tool_calls": [call], "privacy": labels.get("call", "public")},
        {
            "role": "tool",
            "tool_call_id": "call-1",
            "content": result or "Nothing.",
            "privacy": labels.get("tool", "public"),
        },
    ]


def remembered(*requests, said_for_all=None):
    memory = LabelMemory()
    for asked in requests:
        remember_labelled(memory, POLICY, asked, said_for_all)
    return memory


def test_the_label_of_a_tools_result_counts_and_comes_back_with_a_copy():
    first = ChatRequest.parse(loop(LONG, tool="internal"))
    assert join(first).label == "internal"
    memory = remembered(first)
    for copy in (loop(LONG), loop(f"It said: {LONG}."), loop(arguments=json.dumps({"query": LONG}))):
        joined = join_labels(POLICY, ChatRequest.parse(copy), privacy="public", tags=(), memory=memory)
        assert joined.label == "internal"
    assert join_labels(POLICY, ChatRequest.parse(loop()), privacy="public", tags=(), memory=memory).label == "public"


def test_a_short_result_comes_back_as_a_whole():
    memory = remembered(ChatRequest.parse(loop("HIV: positive", tool="internal")))
    again = ChatRequest.parse(loop("hiv positive"))
    assert join_labels(POLICY, again, privacy="public", tags=(), memory=memory).label == "internal"


def test_arguments_come_back_also_when_they_are_escaped_in_another_way():
    text = "Die Blutprobe von Frau M\u00fcller ist leider verlorengegangen"
    memory = remembered(ChatRequest.parse(loop(arguments=json.dumps({"text": text}), call="internal")))
    for copy in (json.dumps({"text": text}, ensure_ascii=False), json.dumps(json.dumps({"x": text}))):
        asked = ChatRequest.parse(loop(arguments=copy))
        assert join_labels(POLICY, asked, privacy="public", tags=(), memory=memory).label == "internal"


def test_names_of_tools_are_not_remembered():
    memory = remembered(ChatRequest.parse(loop(call="internal", tool="internal", result="One thing")))
    other = [*loop("Another thing"), {"role": "assistant", "content": "look"}]
    other[1]["tool_calls"][0]["function"]["arguments"] = '{"of": "today"}'
    assert join_labels(POLICY, ChatRequest.parse(other), privacy="public", tags=(), memory=memory).label == "public"


def test_a_call_s_label_is_remembered_of_users_and_tools_messages_and_a_tool_s_of_its_schema():
    asked = ChatRequest.parse(
        loop(LONG.upper()), tools=[{"type": "function", "function": {"name": "look", "description": LONG}}]
    )
    plain = asked.model_copy(update={"messages": [m.model_copy(update={"privacy": None}) for m in asked.messages]})
    memory = remembered(plain, said_for_all="internal")
    assert (
        join_labels(POLICY, ChatRequest.parse(loop(LONG)), privacy="public", tags=(), memory=memory).label == "internal"
    )
    labelled = ChatRequest.parse(
        HELLO, tools=[{**TOOL, "function": {"name": "a", "description": LONG}, "privacy": "internal"}]
    )
    memory = remembered(labelled)
    copy = ChatRequest.parse([{"role": "user", "content": f"So: {LONG}?"}])
    assert join_labels(POLICY, copy, privacy="public", tags=(), memory=memory).label == "internal"


PICTURE = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(range(256))).decode()


def test_a_copy_of_a_labelled_picture_is_recognised():
    def shown(url, **label):
        content = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}}]
        return ChatRequest.parse([{"role": "user", "content": content, **label}])

    memory = remembered(shown(PICTURE, privacy="internal"))
    assert join_labels(POLICY, shown(PICTURE), privacy="public", tags=(), memory=memory).label == "internal"
    other = PICTURE[:-4] + "AAAA"
    assert join_labels(POLICY, shown(other), privacy="public", tags=(), memory=memory).label == "public"


@pytest.mark.parametrize(
    "asked",
    [
        loop(arguments=json.dumps({"to": "m\u00fcller@example.com"})),
        loop(json.dumps({"found": ["Dr. M\u00fcller <m\u00fcller@example.com>"]})),
        loop(json.dumps(json.dumps({"found": "m\u00fcller@example.com"}))),
        loop('Cut off: {"found": "m\\u00fcller\\u0040example.com'),
    ],
)
def test_detectors_read_what_escaped_texts_say(asked):
    joined = join(ChatRequest.parse(asked), "public", WITH_DETECTORS)
    assert joined.detected == {"email"}
    assert joined.label == "private"


@pytest.mark.parametrize(
    "function",
    [
        {"name": "look", "description": "Ask jane@example.com"},
        {"name": "look", "parameters": {"type": "object", "properties": {"to": {"enum": ["jane@example.com"]}}}},
        {"name": "look", "parameters": {"type": "object", "properties": {"jane@example.com": {}}}},
        {
            "name": "look",
            "parameters": {"type": "object", "properties": {"to": {"default": [{"x": "jane@example.com"}]}}},
        },
    ],
)
def test_detectors_read_every_text_of_a_schema(function):
    tool = {"type": "function", "function": function, "privacy": "public"}
    assert join(request("public", tools=[tool]), policy=WITH_DETECTORS).detected == {"email"}
