"""The table of the chat API says what is so: every field and part is in it, and what it says of ours is tried."""

import inspect
import re

import pytest

from hybridllm import AsyncHybridClient
from hybridllm.async_completions import AsyncCompletions
from hybridllm.errors import BadRequest
from hybridllm.request_fields import RequestFields
from hybridllm.types import (
    AssistantMessageParam,
    ChatRequest,
    DeveloperMessageParam,
    SystemMessageParam,
    ToolMessageParam,
    UserMessageParam,
)
from hybridllm.types.chat_request import _OPENAI_UNSUPPORTED
from tests.docs.pages import page_named

TOOL = {"type": "function", "function": {"name": "look"}}
CALL = {"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}
HELLO = {"role": "user", "content": "hello"}
CALLING, RESULT = {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "a", "content": "x"}
CLASSES = (SystemMessageParam, DeveloperMessageParam, UserMessageParam, AssistantMessageParam, ToolMessageParam)
OURS = ("privacy", "tags", "deadline_s")

# What each row is tried with, and what has to be given beside it.
PARTS = {
    "role `tool`": [HELLO, CALLING, RESULT],
    "role `function`": [{"role": "function", "name": "look", "content": "x"}],
    "`content` as text": [HELLO],
    "`text` parts": [{"role": "user", "content": [{"type": "text", "text": "x"}]}],
    "`image_url` parts": [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.example/y.png"}}]}
    ],
    "`input_audio` parts": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}],
    "`file` parts": [{"role": "user", "content": [{"type": "file", "file": {}}]}],
    "`name`": [{**HELLO, "name": "jane"}],
    "`privacy`": [{**HELLO, "privacy": "public"}],
    "`refusal`": [{"role": "assistant", "refusal": "no"}],
    "`reasoning_content`": [{"role": "assistant", "content": "x", "reasoning_content": "y"}],
    "`tool_calls`": [HELLO, CALLING, RESULT],
    "`tool_call_id`": [HELLO, CALLING, RESULT],
    "`function_call`": [{"role": "assistant", "content": "x", "function_call": {"name": "look"}}],
    "`audio`": [{"role": "assistant", "content": "x", "audio": {"id": "a"}}],
    **{f"role `{role}`": [{"role": role, "content": "x"}] for role in ("system", "developer", "user", "assistant")},
}
FIELDS = {
    "max_tokens": 5, "max_completion_tokens": 5, "min_tokens": 5, "n": 16, "stop": ["x"] * 16, "stop_token_ids": [5] * 16,
    "temperature": 2, "top_p": 0.5, "top_k": 5, "min_p": 0.5, "frequency_penalty": -2, "presence_penalty": 2, "repetition_penalty": 10,
    "logit_bias": {"5": 100}, "seed": 5, "logprobs": True, "top_logprobs": 20, "prompt_logprobs": 20, "stream": True,
    "stream_options": {"include_usage": True}, "response_format": {"type": "json_object"}, "grammar": {"type": "regex", "text": "x"},
    "tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": False, "chat_template_kwargs": {"x": 1}, "metadata": {"x": "y"},
    "user": "x", "store": True,
}  # fmt: skip
BESIDE = {
    "top_logprobs": {"logprobs": True}, "stream_options": {"stream": True}, "tool_choice": {"tools": [TOOL]},
    "parallel_tool_calls": {"tools": [TOOL]},
}  # fmt: skip


def rows(heading):
    page = page_named("chat-api.md").read_text(encoding="utf-8")
    section = re.split(r"^## ", page, flags=re.MULTILINE)
    table = next(part for part in section if part.startswith(heading))
    lines = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith("|---")]
    return {
        cells[0]: cells[1:] for cells in ([cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:])
    }


MESSAGE_ROWS, FIELD_ROWS = rows("Messages"), rows("Fields")


def test_every_part_of_a_message_and_every_field_has_its_row():
    assert set(MESSAGE_ROWS) == set(PARTS)
    named = {word for part in MESSAGE_ROWS for word in re.findall(r"`(\w+)`", part)}
    roles = {cls.model_fields["role"].annotation.__args__[0] for cls in CLASSES}
    assert named >= roles | {name for cls in CLASSES for name in cls.model_fields if name != "role"}
    fields = {name.strip("`") for name in FIELD_ROWS}
    unsent = {"extra_body", "extra_headers", "extra_query"}  # arguments of OpenAI's library, not of its API
    assert fields == {*ChatRequest.model_fields, "model", *OURS, *_OPENAI_UNSUPPORTED} - unsent
    assert all(
        len(cells) == 6 and all(cells[:1] + cells[2:]) for cells in (*MESSAGE_ROWS.values(), *FIELD_ROWS.values())
    )


def test_both_faces_name_every_field():
    assert set(RequestFields.__annotations__) == {*ChatRequest.model_fields, "model"} - {"messages", "stream"}
    assert set(OURS) <= set(inspect.signature(AsyncCompletions.create).parameters)
    assert set(OURS) <= set(inspect.signature(AsyncHybridClient.explain).parameters)


def tried(messages, **fields):
    try:
        return ChatRequest.parse(messages, **fields), None
    except BadRequest as error:
        return None, error


@pytest.mark.parametrize("part", MESSAGE_ROWS)
def test_what_it_says_of_messages_is_so(part):
    here, needs = MESSAGE_ROWS[part][:2]
    request, error = tried(PARTS[part])
    assert re.match(r"(yes|no)\b", here)
    if here.startswith("no"):
        assert error is not None
        assert re.search(r"role|content|function_call|audio", error.field)
    else:
        assert error is None
        assert request.capabilities == set(re.findall(r"`(\w+)`", needs))


@pytest.mark.parametrize("name", [name.strip("`") for name in FIELD_ROWS])
def test_what_it_says_of_fields_is_so(name):
    here, needs = FIELD_ROWS[f"`{name}`"][:2]
    assert re.match(r"(yes|no)\b", here)
    if name in ("messages", "model", *OURS):
        assert here.startswith("yes")
        return
    request, error = tried([HELLO], **BESIDE.get(name, {}), **{name: FIELDS.get(name, "x")})
    if here.startswith("no"):
        assert error is not None
        assert (error.field, f"{name} is not supported." in str(error)) == (name, True)
        return
    assert error is None
    beside = tried([HELLO], **BESIDE.get(name, {}))[0].capabilities
    own = request.capabilities - beside
    said = set(re.findall(r"`(\w+)`", needs))
    assert own <= said
    assert own or not said - beside - {"tool_choice"}, "it needs what it is said to need"


@pytest.mark.parametrize(
    ("name", "beyond"),
    [
        ("n", 17), ("stop", ["x"] * 17), ("stop_token_ids", [5] * 17), ("temperature", 2.1), ("frequency_penalty", 2.1),
        ("presence_penalty", -2.1), ("repetition_penalty", 10.1), ("logit_bias", {"5": 101}), ("top_logprobs", 21),
        ("prompt_logprobs", 21), ("metadata", {str(number): "x" for number in range(17)}), ("tools", [TOOL] * 129),
        ("response_format", {"type": "xml"}), ("grammar", {"type": "gbnf", "text": "x"}), ("tool_choice", "any"),
    ],
)  # fmt: skip
def test_its_bounds_are_so(name, beyond):
    request, error = tried([HELLO], **BESIDE.get(name, {}), **{name: beyond})
    assert request is None
    assert error.field.startswith(name)


def test_every_form_of_a_choice_and_an_answer_that_it_names_is_taken():
    forms = re.findall(r"`(\w+)`", FIELD_ROWS["`response_format`"][0])
    schema = {"json_schema": {"name": "x", "schema": {"type": "object"}}}
    for form in forms:
        assert tried([HELLO], response_format={"type": form, **(schema if form == "json_schema" else {})})[1] is None
    for choice in re.findall(r"`(\w+)`", FIELD_ROWS["`tool_choice`"][0]):
        assert tried([HELLO], tools=[TOOL], tool_choice=choice)[1] is None
    assert tried([HELLO], tools=[TOOL], tool_choice=TOOL)[1] is None
    for kind in ("lark", "regex"):
        assert tried([HELLO], grammar={"type": kind, "text": "x"})[1] is None
