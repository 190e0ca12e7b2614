"""What a request may look like, and the one sentence that each mistake gets."""

import ast
import inspect
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hybridllm
import hybridllm.types
from hybridllm.errors import BadRequest
from hybridllm.types import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionMessage,
    ChatRequest,
    Choice,
    ChoiceDelta,
    ChunkChoice,
    CompletionUsage,
)

HELLO = [{"role": "user", "content": "hello"}]


class Foreign:
    """Not a message."""


@pytest.mark.parametrize(
    ("messages", "field", "part"),
    [
        ("hello", "messages", "messages is a str, expected a list"),
        (None, "messages", "messages is a NoneType"),
        ({"role": "user"}, "messages", "messages is a dict"),
        ([], "messages", "empty"),
        (["hello"], "messages[0]", "is a str, expected a mapping"),
        ([Foreign()], "messages[0]", "is a Foreign, expected a mapping"),
        ([{}], "messages[0].role", "has no 'role'"),
        ([{"role": "usr", "content": ""}], "messages[0].role", "Did you mean 'user'?"),
        ([{"role": 3, "content": ""}], "messages[0].role", "is a int, expected one of"),
        ([{"role": "function", "content": ""}], "messages[0].role", "Write it as a tool message"),
        ([*HELLO, {"role": "user"}], "messages[1].content", "content is missing"),
        ([{"role": "user", "content": 5}], "messages[0].content", "is a int, expected text"),
        ([{"role": "user", "content": b"x"}], "messages[0].content", "is a bytes"),
        ([{"role": "user", "content": "\ud83d"}], "messages[0].content", "half of a surrogate pair"),
        ([{"role": "user", "content": ["x"]}], "messages[0].content[0]", "expected a part"),
        ([{"role": "user", "content": [{"type": "input_audio"}]}], "messages[0].content[0].type", "only 'text'"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text", "expected text"),
        (
            [{"role": "user", "content": [{"type": "text", "text": "x", "y": 1}]}],
            "messages[0].content[0].y",
            "not a field",
        ),
        ([{"role": "user", "content": "x", "contents": 1}], "messages[0].contents", "Did you mean 'content'?"),
        ([{"role": "user", "content": "x", "tool_calls": [1]}], "messages[0].tool_calls", "not supported"),
        ([{"role": "user", "content": "x", "refusal": "y"}], "messages[0].refusal", "not a field of a user message"),
        ([{"role": "user", "content": "x", "name": 1}], "messages[0].name", "expected text"),
        ([{"role": "user", "content": "x", "privacy": 1}], "messages[0].privacy", "expected text"),
        ([{"role": "user", "content": "x", "name": "\ud83d"}], "messages[0].name", "half of a surrogate pair"),
    ],
)
def test_messages_of_the_wrong_shape(messages, field, part):
    with pytest.raises(BadRequest) as raised:
        ChatRequest.parse(messages)
    assert raised.value.field == field
    assert part in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("fields", "field", "part"),
    [
        ({"functions": []}, "functions", "Use tools"),
        ({"reasoning_effort": "low"}, "reasoning_effort", "not supported"),
        ({"timeout": 3}, "timeout", "Use deadline_s"),
        ({"temprature": 1}, "temprature", "Did you mean 'temperature'?"),
        ({"temperature": 3}, "temperature", "less than or equal to 2"),
        ({"temperature": "1"}, "temperature", "number"),
        ({"temperature": float("nan")}, "temperature", "finite"),
        ({"top_p": 0}, "top_p", "greater than 0"),
        ({"top_k": 1.5}, "top_k", "integer"),
        ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ({"max_tokens": True}, "max_tokens", "integer"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens", "both given"),
        ({"n": 17}, "n", "less than or equal to 16"),
        ({"n": True}, "n", "integer"),
        ({"stop": 1}, "stop", "stop is a int"),
        ({"stop": [""]}, "stop[0]", "at least one character"),
        ({"stop": ["x"] * 17}, "stop", "at most 16"),
        ({"stream": "yes"}, "stream", "boolean"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "without stream=True"),
        ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x", "not supported"),
        ({"stream": True, "stream_options": {"include_usage": 3}}, "stream_options.include_usage", "boolean"),
        ({"seed": "x"}, "seed", "integer"),
        ({"seed": 2**63}, "seed", "less than"),
        ({"stop": ["ok", "\ud83d"]}, "stop[1]", "half of a surrogate pair"),
        ({"user": "\ud83d"}, "user", "half of a surrogate pair"),
    ],
)
def test_fields_that_cannot_be_used(fields, field, part):
    with pytest.raises(BadRequest) as raised:
        ChatRequest.parse(HELLO, **fields)
    assert raised.value.field == field
    assert part in str(raised.value)


def test_what_asks_for_what_happens_anyway_is_accepted():
    request = ChatRequest.parse(HELLO, n=1, logprobs=False, response_format={"type": "text"}, tools=None, stop="x")
    assert request.stop == ["x"]
    assert request.token_limit is None
    assert ChatRequest.parse(HELLO, max_completion_tokens=5).token_limit == 5


def test_messages_of_this_and_other_libraries():
    answer = ChatCompletionMessage(content="At nine.")
    dumped = {
        "role": "assistant",
        "content": "x",
        "tool_calls": None,
        "function_call": None,
        "audio": None,
        "refusal": None,
    }
    refused = {"role": "assistant", "content": None, "refusal": "No."}
    parts = {"role": "developer", "content": ({"type": "text", "text": "a"}, {"type": "text", "text": "b"})}
    request = ChatRequest.parse((*HELLO, answer, dumped, refused, parts))
    assert [message.text for message in request.messages] == ["hello", "At nine.", "x", "", "a\nb"]
    body = json.loads(request.remote_body("m"))
    assert body["messages"][3] == {"role": "assistant", "content": None, "refusal": "No."}


def test_the_types_have_openais_fields():
    """As OpenAI's API reference lists them for text answers; what is optional there and not supported here is left out."""
    fields = {cls: list(cls.model_fields) for cls in (ChatCompletion, Choice, ChatCompletionMessage, CompletionUsage)}
    assert fields == {
        # prompt_logprobs and route are ours
        ChatCompletion: [
            "id", "object", "created", "model", "choices", "usage", "prompt_logprobs", "system_fingerprint", "route",
        ],
        Choice: ["index", "message", "finish_reason", "logprobs"],
        # privacy is ours, reasoning_content that of servers whose models think
        ChatCompletionMessage: ["role", "content", "privacy", "refusal", "reasoning_content", "tool_calls"],
        CompletionUsage: [
            "prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "completion_tokens_details",
        ],
    }  # fmt: skip
    fields = {cls: list(cls.model_fields) for cls in (ChatCompletionChunk, ChunkChoice, ChoiceDelta)}
    assert fields == {
        ChatCompletionChunk: [
            "id",
            "object",
            "created",
            "model",
            "choices",
            "usage",
            "handover",
            "prompt_logprobs",
            "system_fingerprint",
        ],
        ChunkChoice: ["index", "delta", "finish_reason", "logprobs"],
        ChoiceDelta: ["role", "content", "refusal", "reasoning_content", "tool_calls"],
    }


def test_labels_are_not_part_of_what_is_sent():
    request = ChatRequest.parse([{"role": "user", "content": "x", "privacy": "public", "name": "jane"}])
    assert json.loads(request.remote_body("m"))["messages"] == [{"role": "user", "content": "x", "name": "jane"}]
    assert dict(request.texts()) == {"messages[0].content": "x", "messages[0].name": "jane"}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "type", "x"]), inner)
    ),
    max_leaves=8,
)


@given(_JSON)
@settings(max_examples=200, deadline=None)
def test_no_value_makes_the_parser_fail_in_another_way(value):
    with pytest.raises(BadRequest):
        ChatRequest.parse(value)


def test_every_field_of_every_type_has_its_docstring():
    missing = []
    folder = Path(hybridllm.types.__file__).parent
    for path in [*folder.glob("*.py"), folder.parent / "remote.py", folder.parent / "permits.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ClassDef):
                continue
            for field, after in zip(node.body, [*node.body[1:], None], strict=True):
                if isinstance(field, ast.AnnAssign) and not (
                    isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                ):
                    missing.append(f"{path.name}: {node.name}.{ast.unparse(field.target)}")
    assert missing == []


def test_everything_exported_is_there_and_documented():
    for name in hybridllm.__all__:
        exported = getattr(hybridllm, name)
        if name != "__version__":
            assert inspect.getdoc(exported), name
    assert set(hybridllm.__all__) == set(hybridllm._MODULE_OF) | {"__version__"}
    assert dir(hybridllm) == sorted(hybridllm.__all__)
    with pytest.raises(AttributeError, match="no attribute 'HybridKlient'"):
        hybridllm.HybridKlient  # noqa: B018
