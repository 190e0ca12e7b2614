"""The official client gets all of an answer from the server: calls of tools in a loop, parsed output, log probabilities, n."""

import json

import pydantic
import pytest
from openai import OpenAI, pydantic_function_tool

from hybridllm.errors import EngineError
from hybridllm.testing import ScriptedBackend, ScriptedCall, ScriptedReply
from tests.server.live_server import QUESTION, LiveServer


class Hours(pydantic.BaseModel):
    """When it is open."""

    day: str


class Opening(pydantic.BaseModel):
    opens: int
    closes: int


def asks_then_answers(request):
    """Asks for two days' hours, and then says what it was told."""
    told = [message.text for message in request.messages if message.role == "tool"]
    if told:
        return f"Monday {told[0]}, Sunday {told[1]}."
    calls = [ScriptedCall("Hours", {"day": day}) for day in ("Monday", "Sunday")]
    return ScriptedReply("One moment.", reasoning="Two days.", tool_calls=calls)


@pytest.fixture
def connected():
    """Opens a server with these replies and the official client of it; both are closed at the end."""
    opened = []

    def make(replies, **more):
        server = LiveServer(ScriptedBackend(replies, **more)).__enter__()
        client = OpenAI(base_url=server.base_url, api_key="any", max_retries=0)
        opened.append((client, server))
        return client, server

    yield make
    for client, server in opened:
        client.close()
        server.__exit__()


def hours(call):
    """The tool."""
    return "nine" if json.loads(call.function.arguments)["day"] == "Monday" else "closed"


def test_a_loop_of_whole_answers(connected):
    client, server = connected(asks_then_answers)
    messages, tools = list(QUESTION), [pydantic_function_tool(Hours)]
    first = client.chat.completions.create(model="hybridllm", messages=messages, tools=tools)
    (choice,) = first.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.reasoning_content == "Two days."
    messages.append(choice.message)
    messages += [
        {"role": "tool", "tool_call_id": call.id, "content": hours(call)} for call in choice.message.tool_calls
    ]
    second = client.chat.completions.create(model="hybridllm", messages=messages, tools=tools)
    assert second.choices[0].message.content == "Monday nine, Sunday closed."
    assert second.choices[0].message.tool_calls is None
    assert [message.role for message in server.backend.requests[-1].messages] == ["user", "assistant", "tool", "tool"]


def test_a_loop_of_streams(connected):
    client, _ = connected(asks_then_answers)
    messages, tools = list(QUESTION), [pydantic_function_tool(Hours)]
    with client.chat.completions.stream(model="hybridllm", messages=messages, tools=tools) as stream:
        kinds = {event.type for event in stream}
        message = stream.get_final_completion().choices[0].message
    assert {"tool_calls.function.arguments.delta", "tool_calls.function.arguments.done", "content.delta"} <= kinds
    assert message.content == "One moment."
    assert [call.function.parsed_arguments for call in message.tool_calls] == [Hours(day="Monday"), Hours(day="Sunday")]
    messages.append(message.model_dump(exclude={"parsed"}))  # which the helper has added
    messages += [{"role": "tool", "tool_call_id": call.id, "content": hours(call)} for call in message.tool_calls]
    with client.chat.completions.create(model="hybridllm", messages=messages, tools=tools, stream=True) as stream:
        said = [chunk.choices[0].delta.content or "" for chunk in stream]
    assert "".join(said) == "Monday nine, Sunday closed."


def test_an_answer_is_parsed_into_its_type(connected):
    client, server = connected(lambda _: '{"opens": 9, "closes": 17}')
    reply = client.chat.completions.parse(model="hybridllm", messages=QUESTION, response_format=Opening)
    assert reply.choices[0].message.parsed == Opening(opens=9, closes=17)
    assert server.backend.requests[-1].response_format is not None
    with client.chat.completions.stream(model="hybridllm", messages=QUESTION, response_format=Opening) as stream:
        for _ in stream:
            pass
        assert stream.get_final_completion().choices[0].message.parsed == Opening(opens=9, closes=17)


def test_log_probabilities(connected):
    client, _ = connected(lambda _: ScriptedReply("At nine, Müller.", logprob=-0.5))
    asked = {"model": "hybridllm", "messages": QUESTION, "logprobs": True, "top_logprobs": 1}
    tokens = client.chat.completions.create(**asked).choices[0].logprobs.content
    assert "".join(bytes(token.bytes).decode() for token in tokens) == "At nine, Müller."
    assert [(token.logprob, token.top_logprobs[0].token == token.token) for token in tokens] == [(-0.5, True)] * 3
    with client.chat.completions.stream(**asked) as stream:
        for _ in stream:
            pass
        whole = stream.get_final_completion()
    assert [token.token for token in whole.choices[0].logprobs.content] == [token.token for token in tokens]


def test_log_probabilities_of_the_prompt(connected):
    client, _ = connected(lambda _: "Yes.", capabilities={"prompt_logprobs"})
    asked = {"model": "hybridllm", "messages": QUESTION, "extra_body": {"prompt_logprobs": 1}}
    assert len(client.chat.completions.create(**asked).prompt_logprobs) == 3
    with client.chat.completions.create(**asked, stream=True) as stream:
        chunks = list(stream)
    assert [token["token"] for token in chunks[-1].prompt_logprobs] == [" do", " you", " open?"]


def test_several_answers(connected):
    client, _ = connected(["One.", "Two and more.", "Three.", "Four and more."])
    asked = {"model": "hybridllm", "messages": QUESTION, "n": 2}
    whole = client.chat.completions.create(**asked)
    assert [(choice.index, choice.message.content) for choice in whole.choices] == [(0, "One."), (1, "Two and more.")]
    with client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}) as stream:
        chunks = list(stream)
    said = {0: "", 1: ""}
    for choice in (choice for chunk in chunks for choice in chunk.choices):
        said[choice.index] += choice.delta.content or ""
    assert said == {0: "Three.", 1: "Four and more."}
    ends = [choice.index for chunk in chunks for choice in chunk.choices if choice.finish_reason == "stop"]
    assert sorted(ends) == [0, 1]
    assert chunks[-1].usage.completion_tokens == 4
    assert chunks[-1].route["served_by"] == "local"


def test_a_stream_that_breaks_off_in_a_call_is_an_error(connected):
    call = ScriptedCall("Hours", {"day": "Monday"})
    client, _ = connected([ScriptedReply(tool_calls=[call], error=EngineError("It died."), fail_after=2)])
    with (
        client.chat.completions.create(
            model="hybridllm", messages=QUESTION, tools=[pydantic_function_tool(Hours)], stream=True
        ) as stream,
        pytest.raises(Exception, match="in the middle of its answer"),
    ):
        list(stream)
