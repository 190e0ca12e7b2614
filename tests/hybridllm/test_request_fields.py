"""Tools, pictures, forms of answers and the other fields of a request: what is taken, what goes out, and what each mistake is told."""

import base64
import json

import pytest

from hybridllm.capabilities import CAPABILITIES, OPENAI_CAPABILITIES
from hybridllm.errors import BadRequest
from hybridllm.types import ChatCompletionMessage, ChatRequest, FunctionCall, ToolCall
from tests.hybridllm.everything import PLAIN, everything_asked

HELLO = [{"role": "user", "content": "hello"}]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string", "default": None}}}
TOOL = {"type": "function", "function": {"name": "weather", "description": "Of a city.", "parameters": PARAMETERS}}
STRICT = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
CALL = {"id": "call-1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Köln"}'}}
RESULT = {"role": "tool", "tool_call_id": "call-1", "content": "Rain."}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
PICTURE = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(40)).decode()


def tool(**function):
    return {"type": "function", "function": {"name": "weather", **function}}


def strict(**parameters):
    return {"tools": [tool(strict=True, parameters={**STRICT, **parameters})]}


def called(**changes):
    return [*HELLO, {**CALLING, "tool_calls": [{**CALL, **changes}]}, RESULT]


def picture(**image_url):
    return [{"role": "user", "content": [{"type": "image_url", "image_url": image_url}]}]


def mistake(messages, **fields):
    with pytest.raises(BadRequest) as raised:
        ChatRequest.parse(messages, **fields)
    said = str(raised.value)
    assert "\n" not in said
    return raised.value.field, said


@pytest.mark.parametrize(
    ("fields", "field", "part"),
    [
        ({"tools": []}, "tools", "is empty"),
        ({"tools": {"type": "function"}}, "tools", "expected a list of tools"),
        ({"tools": [TOOL] * 129}, "tools", "at most 128"),
        ({"tools": ["weather"]}, "tools[0]", "expected a mapping"),
        ({"tools": [{"function": {}}]}, "tools[0].type", "is missing, and only 'function'"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "is 'web_search', and only 'function'"),
        ({"tools": [{**TOOL, "strict": True}]}, "tools[0].strict", "not a field of a tool"),
        ({"tools": [{**TOOL, "privacy": 3}]}, "tools[0].privacy", "expected text"),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "is missing"),
        ({"tools": [tool(name="two words")]}, "tools[0].function.name", "a text of 9 characters"),
        ({"tools": [tool(name="x" * 65)]}, "tools[0].function.name", "1 to 64"),
        ({"tools": [tool(descripton="x")]}, "tools[0].function.descripton", "Did you mean 'description'?"),
        ({"tools": [tool(description=3)]}, "tools[0].function.description", "expected text"),
        ({"tools": [tool(strict="yes")]}, "tools[0].function.strict", "true or false"),
        ({"tools": [tool(parameters="{}")]}, "tools[0].function.parameters", "a JSON Schema"),
        ({"tools": [tool(parameters={"type": "array"})]}, "tools[0].function.parameters.type", "not 'object'"),
        ({"tools": [tool(parameters={"x": {1}})]}, "tools[0].function.parameters", "has a set"),
        ({"tools": [tool(parameters={"x": float("nan")})]}, "tools[0].function.parameters", "NaN"),
        ({"tools": [tool(parameters={"x": 10**400})]}, "tools[0].function.parameters", "64 bits"),
        ({"tools": [tool(parameters={1: 2})]}, "tools[0].function.parameters", "key that is a int"),
        ({"tools": [tool(parameters={"x": "\ud83d"})]}, "tools[0].function.parameters", "surrogate"),
        ({"tools": [TOOL, TOOL]}, "tools[1].function.name", "an earlier tool"),
        (strict(additionalProperties=True), "tools[0].function.parameters", "additionalProperties: false"),
        (strict(required=[]), "tools[0].function.parameters.required", "does not name city"),
        (strict(allOf=[]), "tools[0].function.parameters.allOf", "cannot be part of a strict schema"),
        (strict(anyOf=[{}]), "tools[0].function.parameters", "root is not an object"),
        (
            strict(properties={"city": {"anyOf": [{"type": "null"}, {"properties": {"x": {}}}]}}),
            "tools[0].function.parameters.properties.city.anyOf[1]",
            "without additionalProperties",
        ),
        ({"tool_choice": "auto"}, "tool_choice", "without tools"),
        ({"tools": [TOOL], "tool_choice": "any"}, "tool_choice", "a text of 3 characters"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}}, "tool_choice.type", "is 'allowed_tools'"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "wether"}}},
            "tool_choice.function.name",
            "no tool in tools",
        ),
        ({"parallel_tool_calls": False}, "parallel_tool_calls", "without tools"),
        ({"tools": [TOOL], "parallel_tool_calls": 1}, "parallel_tool_calls", "boolean"),
        ({"top_logprobs": 3}, "top_logprobs", "without logprobs=True"),
        ({"top_logprobs": 3, "logprobs": False}, "top_logprobs", "without logprobs=True"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs", "less than or equal to 20"),
        ({"logprobs": 3}, "logprobs", "boolean"),
        ({"prompt_logprobs": True}, "prompt_logprobs", "integer"),
        ({"min_tokens": -1}, "min_tokens", "greater than or equal to 1"),
        ({"min_tokens": 9, "max_tokens": 8}, "min_tokens", "more than the most tokens"),
        ({"stop": [17]}, "stop[0]", "Give token ids as stop_token_ids"),
        ({"stop_token_ids": 17}, "stop_token_ids", "expected a list of token ids"),
        ({"stop_token_ids": ["17"]}, "stop_token_ids[0]", "no token id"),
        ({"stop_token_ids": [True]}, "stop_token_ids[0]", "no token id"),
        ({"stop_token_ids": list(range(17))}, "stop_token_ids", "at most 16"),
        ({"logit_bias": [1]}, "logit_bias", "expected a mapping"),
        ({"logit_bias": {}}, "logit_bias", "1 to 1024"),
        ({"logit_bias": {"hello": 1}}, "logit_bias", "no token id"),
        ({"logit_bias": {"-1": 1}}, "logit_bias", "no token id"),
        ({"logit_bias": {"²": 1}}, "logit_bias", "no token id"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5", "-100 to 100"),
        ({"logit_bias": {"5": float("nan")}}, "logit_bias.5", "-100 to 100"),
        ({"response_format": "json"}, "response_format", "expected a mapping"),
        ({"response_format": {"type": "json"}}, "response_format.type", "expected one of"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "is missing"),
        ({"grammar": "root ::= x"}, "grammar", "expected a mapping"),
        (
            {"grammar": {"type": "regex", "text": "x"}, "response_format": {"type": "json_object"}},
            "grammar",
            "response_format both say",
        ),
        (
            {"grammar": {"type": "regex", "text": "x"}, "tools": [TOOL], "tool_choice": "required"},
            "grammar",
            "tool_choice both",
        ),
        ({"chat_template_kwargs": "x"}, "chat_template_kwargs", "expected a mapping"),
        ({"chat_template_kwargs": {}}, "chat_template_kwargs", "is empty"),
        ({"chat_template_kwargs": {"a b": 1}}, "chat_template_kwargs", "no name of a variable"),
        ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs.messages", "given to the template already"),
        ({"metadata": {}}, "metadata", "1 to 16"),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata", "1 to 16"),
        ({"metadata": {"x" * 65: "y"}}, "metadata", "1 to 64 characters"),
        ({"metadata": {"x": "y" * 513}}, "metadata.x", "at most 512"),
        ({"metadata": {"x": 1}}, "metadata.x", "at most 512"),
        ({"metadata": {"privacy": "private"}}, "metadata.privacy", "Give privacy as an argument of its own"),
    ],
)
def test_fields_that_cannot_be_used(fields, field, part):
    where, said = mistake(HELLO, **fields)
    assert where == field
    assert part in said


@pytest.mark.parametrize(
    ("messages", "field", "part"),
    [
        ([*HELLO, RESULT], "messages[1].tool_call_id", "the id of no call"),
        ([*HELLO, CALLING, {**RESULT, "tool_call_id": "x"}], "messages[2].tool_call_id", "the id of no call"),
        ([*HELLO, CALLING, RESULT, RESULT], "messages[3].tool_call_id", "the id of no call"),
        ([*HELLO, CALLING], "messages[1].tool_calls[0]", "no tool message with its result"),
        ([*HELLO, CALLING, *HELLO, RESULT], "messages[1].tool_calls[0]", "no tool message with its result"),
        ([*HELLO, CALLING, {"role": "tool", "content": "x"}], "messages[2].tool_call_id", "is missing"),
        ([*HELLO, CALLING, {**RESULT, "tool_call_id": "x" * 257}], "messages[2].tool_call_id", "at most 256"),
        ([*HELLO, CALLING, {**RESULT, "content": None}], "messages[2].content", "is missing"),
        ([*HELLO, CALLING, {**RESULT, "refusal": "x"}], "messages[2].refusal", "not a field of a tool message"),
        ([{**HELLO[0], "tool_calls": [CALL]}], "messages[0].tool_calls", "Only assistant messages"),
        ([{**HELLO[0], "tool_call_id": "x"}], "messages[0].tool_call_id", "not a field of a user message"),
        ([*HELLO, {**CALLING, "tool_calls": CALL}], "messages[1].tool_calls", "expected a list of calls"),
        ([*HELLO, {**CALLING, "tool_calls": [CALL, CALL]}, RESULT], "messages[1].tool_calls[1].id", "an earlier call"),
        ([*HELLO, {**CALLING, "function_call": CALL}], "messages[1].function_call", "not supported"),
        ([*HELLO, {**CALLING, "reasoning_content": 1}], "messages[1].reasoning_content", "expected text"),
        (called(id=""), "messages[1].tool_calls[0].id", "is empty"),
        (called(type="custom"), "messages[1].tool_calls[0].type", "is 'custom'"),
        (called(name="x"), "messages[1].tool_calls[0].name", "not a field of a call"),
        (called(function=None), "messages[1].tool_calls[0].function", "is missing"),
        (
            called(function={"name": "a b", "arguments": ""}),
            "messages[1].tool_calls[0].function.name",
            "function's name",
        ),
        (
            called(function={"name": "a", "arguments": {"x": 1}}),
            "messages[1].tool_calls[0].function.arguments",
            "Write them as JSON in a text",
        ),
        (called(function={"name": "a"}), "messages[1].tool_calls[0].function.arguments", "is missing"),
        (picture(), "messages[0].content[0].image_url.url", "is missing"),
        (picture(url="ftp://x/y.png"), "messages[0].content[0].image_url.url", "not an address"),
        (picture(url="https://u:p@x/y.png"), "messages[0].content[0].image_url.url", "not an address"),
        (picture(url="https://" + "x" * 2048), "messages[0].content[0].image_url.url", "not an address"),
        (picture(url="file:///etc/passwd"), "messages[0].content[0].image_url.url", "not an address"),
        (
            picture(url="data:text/plain;base64,aGVsbG8h"),
            "messages[0].content[0].image_url.url",
            "not a picture in base64",
        ),
        (picture(url="data:image/svg+xml;base64,aGVsbG8h"), "messages[0].content[0].image_url.url", "not a picture"),
        (
            picture(url="data:image/png;base64,aGVsbG8h"),
            "messages[0].content[0].image_url.url",
            "no picture of the kind",
        ),
        (picture(url=PICTURE[:-1]), "messages[0].content[0].image_url.url", "no picture of the kind"),
        (picture(url=PICTURE, detail="best"), "messages[0].content[0].image_url.detail", "auto, low, high"),
        (picture(url=PICTURE, size=3), "messages[0].content[0].image_url.size", "not a field of image_url"),
        (
            [{**picture(url=PICTURE)[0], "role": "assistant"}],
            "messages[0].content[0].type",
            "Put the picture into a user message",
        ),
    ],
)
def test_messages_that_cannot_be_used(messages, field, part):
    where, said = mistake(messages)
    assert where == field
    assert part in said


def test_what_is_nested_too_deep_is_refused():
    value = "x"
    for _ in range(200):
        value = [value]
    assert "nested more than" in mistake(HELLO, tools=[tool(parameters={"x": value})])[1]


def test_no_mistake_quotes_what_it_is_about():
    secret = "the blood test of last Tuesday"
    for fields in (
        {"tools": [tool(name=secret)]},
        {"tools": [{secret: 1, **TOOL}]},
        {"tools": [tool(parameters={"type": secret})]},
        strict(properties={secret: {}}, required=[]),
        {"tools": [TOOL], "tool_choice": secret},
        {"metadata": {secret: 3}},
        {"metadata": {secret * 9: ""}},
        {"chat_template_kwargs": {secret: 1}},
        {"logit_bias": {secret: 1}},
        {"stop_token_ids": [secret]},
        {"response_format": {"type": secret}},
        {"grammar": {"type": secret, "text": secret}},
    ):
        where, said = mistake(HELLO, **fields)
        assert secret[:12] not in f"{where} {said}", fields


def test_a_body_has_exactly_what_was_given():
    asked = ChatRequest.parse(
        [
            {
                "role": "user",
                "content": [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": PICTURE}}],
            },
            {**CALLING, "reasoning_content": "Hm.", "privacy": "public", "name": "bot"},
            {**RESULT, "privacy": "internal"},
        ],
        tools=[{**TOOL, "privacy": "public"}, tool(name="other", strict=False)],
        tool_choice={"type": "function", "function": {"name": "weather"}},
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "a", "schema": {"default": None}, "strict": False},
        },
        metadata={"a": "b"},
        n=2,
        logit_bias={17: -1},
        user="jane",
        stream=False,
        seed=0,
    )
    body = {
        "model": "m",
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": PICTURE}}],
            },
            {"role": "assistant", "content": None, "name": "bot", "tool_calls": [CALL]},
            RESULT,
        ],
        "tools": [TOOL, tool(name="other", strict=False)],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "a", "schema": {"default": None}, "strict": False},
        },
        "metadata": {"a": "b"},
        "n": 2,
        "logit_bias": {"17": -1.0},
        "user": "jane",
        "seed": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert json.loads(asked.remote_body("m")) == body
    body["messages"][1]["reasoning_content"] = "Hm."
    assert json.loads(asked.remote_body("m", capabilities={"reasoning_content"})) == body
    grammar = {"type": "regex", "text": "[a-z]+"}
    assert json.loads(ChatRequest.parse(HELLO, grammar=grammar).remote_body("m"))["grammar"] == grammar


def test_every_field_is_sent_but_those_that_are_ours_to_handle():
    names = iter(range(1000))
    bodies = [
        json.loads(everything_asked(lambda: f"x-{next(names)}", **PLAIN, **more).remote_body("m"))
        for more in ({}, {"grammar": True})
    ]
    sent = set().union(*bodies)
    assert sent == {"model", *ChatRequest.model_fields} - {"max_tokens"}
    assert not [key for body in bodies for key in body if key not in {"model", *ChatRequest.model_fields}]
    assert json.loads(ChatRequest.parse(HELLO, max_tokens=3).remote_body("m"))["max_tokens"] == 3


def test_nobody_can_change_a_request_that_was_checked():
    schema = {"type": "object", "properties": {"x": {"enum": ["a"]}}}
    metadata, variables, bias, ids = {"a": "b"}, {"a": ["b"]}, {"5": 1}, [5]
    asked = ChatRequest.parse(
        HELLO, tools=[tool(parameters=schema)], metadata=metadata, chat_template_kwargs=variables, logit_bias=bias,
        stop_token_ids=ids, response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    )  # fmt: skip
    before = asked.remote_body("m")
    schema["properties"]["x"]["enum"].append("canary")
    metadata["a"] = variables["a"][0] = "canary"
    bias["5"], ids[0] = 2, 6
    assert asked.remote_body("m") == before


@pytest.mark.parametrize(
    ("messages", "fields", "needed"),
    [
        (HELLO, {"max_tokens": 5, "user": "x", "stop": "x", "metadata": {"a": "b"}, "response_format": {"type": "text"}}, set()),
        (HELLO, {"logprobs": False, "min_tokens": 0, "n": 1}, set()),
        (HELLO, {"top_k": 3}, {"extended_sampling"}),
        (HELLO, {"min_tokens": 3}, {"min_tokens"}),
        (HELLO, {"stop_token_ids": [3]}, {"stop_token_ids"}),
        (HELLO, {"logit_bias": {"3": 1}}, {"logit_bias"}),
        (HELLO, {"logprobs": True}, {"logprobs"}),
        (HELLO, {"prompt_logprobs": 0}, {"prompt_logprobs"}),
        (HELLO, {"n": 2}, {"n"}),
        (HELLO, {"grammar": {"type": "regex", "text": "x"}}, {"grammar"}),
        (HELLO, {"response_format": {"type": "json_object"}}, {"response_format"}),
        (HELLO, {"chat_template_kwargs": {"enable_thinking": False}}, {"chat_template_kwargs"}),
        (HELLO, {"tools": [TOOL], "tool_choice": "none", "parallel_tool_calls": True}, {"tools"}),
        (HELLO, {"tools": [TOOL], "tool_choice": "required"}, {"tools", "tool_choice"}),
        (HELLO, {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "weather"}}}, {"tools", "tool_choice"}),
        ([*HELLO, CALLING, RESULT], {}, {"tools"}),
        ([{"role": "assistant", "content": "x", "reasoning_content": "y"}], {}, set()),
        (picture(url=PICTURE), {}, {"vision"}),
    ],
)  # fmt: skip
def test_what_a_place_must_be_able_to_do(messages, fields, needed):
    assert ChatRequest.parse(messages, **fields).capabilities == needed
    assert needed <= CAPABILITIES


def test_everything_needs_every_capability():
    names = iter(range(1000))
    needed = set()
    for more in ({}, {"grammar": True}):
        needed |= everything_asked(lambda: f"x-{next(names)}", **PLAIN, **more).capabilities
    assert needed == CAPABILITIES
    assert OPENAI_CAPABILITIES < CAPABILITIES


def test_an_answer_that_calls_tools_can_be_put_back_as_it_is():
    answer = ChatCompletionMessage(
        reasoning_content="Hm.",
        tool_calls=[ToolCall(id="call-1", function=FunctionCall(name="weather", arguments='{"city": "Köln"}'))],
        privacy="public",
    )
    asked = ChatRequest.parse([*HELLO, answer, RESULT])
    assert asked.messages[1].privacy == "public"
    assert json.loads(asked.remote_body("m"))["messages"][1] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [CALL],
    }


def test_answers_of_openais_library_can_be_put_back():
    openai = pytest.importorskip("openai.types.chat")
    message = openai.ParsedChatCompletionMessage[dict].model_construct(
        role="assistant",
        content=None,
        parsed={"a": 1},
        refusal=None,
        annotations=[],
        tool_calls=[
            openai.ParsedFunctionToolCall.model_validate(
                {**CALL, "function": {**CALL["function"], "parsed_arguments": {"city": "Köln"}}}
            )
        ],
    )
    asked = ChatRequest.parse([*HELLO, message, RESULT])
    assert json.loads(asked.remote_body("m"))["messages"][1]["tool_calls"] == [CALL]
    assert json.loads(asked.remote_body("m"))["messages"][1]["content"] is None
