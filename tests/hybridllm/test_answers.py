"""What an answer can have beside text, whole and streamed, from either place: calls of tools, thoughts, log probabilities, several."""

import json
from dataclasses import replace

import pytest

from hybridllm import load_policy
from hybridllm.errors import EngineError, StreamInterrupted
from hybridllm.testing import ScriptedBackend, ScriptedCall, ScriptedReply
from tests.hybridllm.faces import text_of
from tests.hybridllm.loopback import DONE, chunk, delta, stalls_after, stream
from tests.hybridllm.test_chunks import TOKEN, call

PUBLIC = {"privacy": "public"}
DAY = {"type": "object", "properties": {"day": {"type": "string"}}}
HOURS = {"type": "function", "function": {"name": "hours", "parameters": DAY}}
ASKS_TWICE = ScriptedReply(
    "Let me see.",
    reasoning="Two days, two calls.",
    tool_calls=[ScriptedCall("hours", {"day": "Samstag früh"}), ScriptedCall("hours", '{"day": ', id="mine")],
)
CALLS = [
    {"id": "call_1_0_0", "type": "function", "function": {"name": "hours", "arguments": '{"day": "Samstag früh"}'}},
    {"id": "mine", "type": "function", "function": {"name": "hours", "arguments": '{"day": '}},
]


def many(*choices, **more):
    """One chunk with several choices."""
    return b"data: " + json.dumps({"choices": list(choices), **more}).encode() + b"\n\n"


@pytest.fixture
def device(face):
    return lambda *replies, **more: face(local=ScriptedBackend(replies, **more))


@pytest.fixture
def remote(face, serve, remote_at):
    """A client whose remote is asked first; with ``how`` for what happens in mid-answer."""

    def make(*behaviours, how="continue", local=None, **more):
        local = ScriptedBackend(lambda _: "From the device.", continues=True) if local is None else local
        policy = replace(load_policy("cloud-assist"), hedge=None, on_interrupt=how)
        made = face(local=local, remote=remote_at(serve(*behaviours), max_retries=0, **more), policy=policy)
        return made, local

    return make


# ---- calls of tools, thoughts ----


@pytest.mark.parametrize("streamed", [False, True])
def test_calls_and_thoughts_are_in_the_message(device, question, streamed):
    client = device(ASKS_TWICE)
    reply = (client.final if streamed else client.create)(messages=question, tools=[HOURS])
    (one,) = reply.choices
    assert (one.finish_reason, one.message.content) == ("tool_calls", "Let me see.")
    assert one.message.reasoning_content == "Two days, two calls."
    assert [made.model_dump() for made in one.message.tool_calls] == CALLS
    assert reply.usage.completion_tokens_details.reasoning_tokens == 4


def test_a_message_that_only_calls_has_no_content(device, question):
    reply = device(replace(ASKS_TWICE, text="")).create(messages=question, tools=[HOURS])
    assert reply.choices[0].message.content is None


def test_pieces_of_calls_have_openais_shape(device, question):
    chunks, _ = device(ASKS_TWICE).read(messages=question, tools=[HOURS])
    deltas = [one.choices[0].delta for one in chunks]
    assert deltas[0].role == "assistant"
    assert [one.role for one in deltas[1:]] == [None] * len(deltas[1:])
    assert "".join(one.reasoning_content or "" for one in deltas) == "Two days, two calls."
    pieces = [piece for one in deltas for piece in one.tool_calls or ()]
    begun = [piece for piece in pieces if piece.id]
    assert [(one.index, one.type, one.function.name, one.function.arguments) for one in begun] == [
        (0, "function", "hours", ""),
        (1, "function", "hours", ""),
    ]
    for index, whole in enumerate(CALLS):
        arguments = "".join(one.function.arguments for one in pieces if one.index == index)
        assert arguments == whole["function"]["arguments"]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_an_answer_can_be_put_back_and_its_calls_answered(device, question):
    client = device(ASKS_TWICE, "At nine.", "At nine.")
    said = client.create(messages=question, tools=[HOURS]).choices[0].message
    for message in (said, said.model_dump()):
        results = [{"role": "tool", "tool_call_id": one["id"], "content": "nine"} for one in CALLS]
        reply = client.create(messages=[*question, message, *results], tools=[HOURS])
        assert reply.choices[0].message.content == "At nine."


def test_calls_from_a_remote(remote, question):
    client, _ = remote(
        stream(
            delta(reasoning="Hm.")
            + delta(tool_calls=[call(0, "a", "hours", '{"day"')])
            + delta(tool_calls=[call(0, arguments=': "Mon"}')])
            + chunk(finish="tool_calls")
            + DONE
        )
    )
    for reply in (
        client.create(messages=question, tools=[HOURS], **PUBLIC),
        client.final(messages=question, tools=[HOURS], **PUBLIC),
    ):
        assert reply.route.served_by == "remote"
        assert reply.choices[0].message.reasoning_content == "Hm."
        assert reply.choices[0].message.tool_calls[0].function.arguments == '{"day": "Mon"}'


def test_a_call_that_was_not_offered_is_not_given_out(remote, question):
    client, _ = remote(stream(delta(tool_calls=[call(0, "a", "weather", "{}")]) + chunk(finish="tool_calls") + DONE))
    chunks, opened = client.read(messages=question, tools=[HOURS], **PUBLIC)
    assert (text_of(chunks), opened.route.served_by) == ("From the device.", "local")
    assert "did not offer" in opened.route.attempts[0].error


# ---- log probabilities ----


@pytest.mark.parametrize("streamed", [False, True])
def test_log_probabilities_of_the_device(device, question, streamed):
    client = device(ScriptedReply("At nine.", logprob=-0.25))
    reply = (client.final if streamed else client.create)(messages=question, logprobs=True, top_logprobs=1)
    tokens = reply.choices[0].logprobs.content
    assert [(one.token, one.logprob, len(one.top_logprobs)) for one in tokens] == [
        ("At", -0.25, 1),
        (" nine.", -0.25, 1),
    ]
    assert "".join(bytes(one.bytes).decode() for one in tokens) == "At nine."
    assert reply.prompt_logprobs is None


def test_log_probabilities_of_a_remote_come_with_their_piece(remote, question):
    said = {"index": 0, "delta": {"content": "é"}, "logprobs": {"content": [TOKEN]}}
    client, _ = remote(stream(many(said) + chunk(finish="stop") + DONE))
    chunks, _ = client.read(messages=question, logprobs=True, **PUBLIC)
    assert chunks[0].choices[0].logprobs.content[0].logprob == -0.5
    assert chunks[1].choices[0].logprobs is None


def test_log_probabilities_of_the_prompt(device, question):
    more = {"capabilities": {"prompt_logprobs"}}
    reply = device("Yes.", **more).create(messages=question, prompt_logprobs=0)
    assert [one.token for one in reply.prompt_logprobs] == [" do", " you", " open?"]
    chunks, _ = device("Yes.", **more).read(messages=question, prompt_logprobs=0)
    assert [one.prompt_logprobs is not None for one in chunks] == [False, True]


# ---- several answers ----


@pytest.mark.parametrize("streamed", [False, True])
def test_several_answers_of_the_device(device, question, streamed):
    client = device("One answer.", ScriptedReply("Another and longer one.", finish_reason="length"), "Third.")
    reply = (client.final if streamed else client.create)(messages=question, n=3)
    assert [(one.index, one.message.content, one.finish_reason) for one in reply.choices] == [
        (0, "One answer.", "stop"),
        (1, "Another and longer one.", "length"),
        (2, "Third.", "stop"),
    ]
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (4, 7)


def test_several_answers_of_a_remote_in_any_order(remote, question):
    client, _ = remote(
        stream(
            many({"index": 1, "delta": {"role": "assistant", "content": "b"}})
            + many({"index": 0, "delta": {"content": "a"}}, {"index": 1, "delta": {"content": "B"}})
            + many({"index": 1, "delta": {}, "finish_reason": "length"})
            + many({"index": 0, "delta": {"content": "A"}, "finish_reason": "stop"})
            + DONE
        )
    )
    chunks, _ = client.read(messages=question, n=2, **PUBLIC)
    assert ["".join(one.choices[0].delta.content or "" for one in chunks if one.choices[0].index == index) for index in (0, 1)] == [
        "aA",
        "bB",
    ]  # fmt: skip
    assert [one.choices[0].delta.role for one in chunks[:3]] == ["assistant", "assistant", None]
    assert [(one.choices[0].index, one.choices[0].finish_reason) for one in chunks[-2:]] == [(0, "stop"), (1, "length")]


def test_one_of_several_that_does_not_end_is_a_cut(remote, question):
    client, _ = remote(stream(chunk("a", finish="stop") + DONE))
    assert client.create(messages=question, n=2, **PUBLIC).route.served_by == "local"
    with pytest.raises(StreamInterrupted):
        client.read(messages=question, n=2, **PUBLIC)


# ---- in mid-answer ----

CALL = delta(tool_calls=[call(0, "a", "hours", '{"day"')])
TEXT = chunk("From the")
THOUGHT = delta(reasoning_content="Hm.")


@pytest.mark.parametrize(
    ("behaviour", "fields"),
    [
        (TEXT + CALL, {"tools": [HOURS]}), (CALL, {"tools": [HOURS]}), (THOUGHT + CALL, {"tools": [HOURS]}),
        (THOUGHT + TEXT, {}), (TEXT + THOUGHT, {}), (TEXT, {"n": 2}), (THOUGHT, {"n": 2}),
    ],
    ids=["text and a call", "a call", "thoughts and a call", "thoughts and text", "text and thoughts", "text of one of two",
         "thoughts of one of two"],
)  # fmt: skip
def test_what_cannot_be_gone_on_from(remote, question, behaviour, fields):
    client, local = remote(stream(behaviour))
    with pytest.raises(StreamInterrupted):
        client.read(messages=question, **fields, **PUBLIC)
    assert local.calls == []
    # Begun anew, and wanted whole, it is the device's answer.
    client, _ = remote(stream(behaviour), how="restart")
    reply = client.final(messages=question, **fields, **PUBLIC)
    assert [one.message.content for one in reply.choices] == ["From the device."] * fields.get("n", 1)
    assert reply.choices[0].message.tool_calls is None
    client, _ = remote(stream(behaviour))
    reply = client.create(messages=question, **fields, **PUBLIC)
    assert [one.message.content for one in reply.choices] == ["From the device."] * fields.get("n", 1)
    assert reply.choices[0].message.reasoning_content is None


@pytest.mark.parametrize("behaviour", [stream(THOUGHT * 3), stalls_after(THOUGHT)], ids=["cut", "stalled"])
@pytest.mark.parametrize("continues", [False, True])
def test_thoughts_alone_are_no_answer_yet_so_the_next_place_just_answers(remote, question, behaviour, continues):
    client, local = remote(behaviour, local=ScriptedBackend(lambda _: "From the device.", continues=continues))
    usage = {"stream_options": {"include_usage": True}}
    chunks, opened = client.read(messages=question, max_tokens=50, **usage, **PUBLIC)
    assert text_of(chunks) == "From the device."
    assert [one.handover.kind for one in chunks if one.handover is not None] == ["continue"]
    assert [one.why for one in opened.route.attempts] == ["first", "continue"]
    assert local.calls[0].begun == ""
    assert chunks[-1].usage.prompt_tokens == 4
    thoughts = sum(one.choices != [] and one.choices[0].delta.reasoning_content == "Hm." for one in chunks)
    assert chunks[-1].usage.completion_tokens == thoughts + 3
    assert local.requests[0].max_tokens == 50 - thoughts


def test_a_place_that_thinks_for_too_long_leaves_time_for_the_next(remote, question):
    def thinks(exchange):
        exchange.head()
        while not exchange.server.stopping.is_set():
            exchange.send(THOUGHT)
            exchange.wait(0.05)

    client, _ = remote(thinks, first_token_timeout_s=60.0)
    chunks, opened = client.read(messages=question, deadline_s=3.0, **PUBLIC)
    assert text_of(chunks) == "From the device."
    assert opened.route.attempts[0].error.startswith("RemoteError: remote's answer had no token in its share")


def test_what_is_left_of_min_tokens_goes_with_it(remote, question):
    local = ScriptedBackend(lambda _: "From the device.", continues=True, capabilities={"min_tokens"})
    client, _ = remote(stream(TEXT), local=local, capabilities={"min_tokens"})
    client.read(messages=question, min_tokens=3, max_tokens=9, **PUBLIC)
    assert (local.requests[0].min_tokens, local.requests[0].max_tokens) == (2, 8)


# ---- labels ----


def asked_again(client, text):
    return client.create(messages=[{"role": "user", "content": text}], **PUBLIC).route.label


LONG = 'The code word of the night porter is "heliotrope"\nand it changes on Sunday.'
PARTS = {
    "thoughts": ScriptedReply("Yes.", reasoning=LONG),
    "arguments": ScriptedReply(tool_calls=[ScriptedCall("hours", {"day": LONG})]),
    "the second answer": LONG,
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_copy_of_any_part_of_an_answer_has_its_label(device, part, streamed):
    fields = {"n": 2} if part == "the second answer" else {"tools": [HOURS]}
    client = device("First.", PARTS[part], "x", "y") if "n" in fields else device(PARTS[part], "x", "y")
    (client.final if streamed else client.create)(messages=[{"role": "user", "content": "Who?"}], **fields)
    assert asked_again(client, "Is it open today at all, and until when is it?") == "public"
    assert asked_again(client, f"He says: {LONG[:60]}") == "private"


@pytest.mark.parametrize("part", PARTS)
def test_a_copy_of_what_came_before_a_failure_has_its_label_too(device, part):
    fields = {"n": 2} if part == "the second answer" else {"tools": [HOURS]}
    reply = PARTS[part] if isinstance(PARTS[part], ScriptedReply) else ScriptedReply(PARTS[part])
    cut = replace(reply, error=EngineError("It died."), fail_after=13)
    client = device("First.", cut, "x") if "n" in fields else device(cut, "x")
    with pytest.raises(StreamInterrupted):
        client.read(messages=[{"role": "user", "content": "Who?"}], **fields)
    assert asked_again(client, f"He says: {LONG[:60]}") == "private"
