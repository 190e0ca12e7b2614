"""An answer that breaks off: the next place goes on from the text that was given out, or begins anew, or the caller is told."""

import asyncio
from dataclasses import replace

import pytest

from hybridllm import AsyncHybridClient, load_policy
from hybridllm.errors import Cancelled, CannotServe, DeadlineExceeded, RemoteError, StreamInterrupted
from hybridllm.testing import ScriptedBackend, ScriptedReply
from tests.hybridllm.faces import text_of
from tests.hybridllm.loopback import answer, chunk, reset, stalls_after, status, stream

PUBLIC = {"privacy": "public"}
WORDS = ["The", " café", " opens", " at", " nine", " 🙂", " every", " day."]
WHOLE = "".join(WORDS)


def cut_after(pieces):
    return stream(chunk("", role="assistant") + b"".join(map(chunk, WORDS[:pieces])))


@pytest.fixture
def broken(face, serve, remote_at):
    """A client whose remote is asked first, and whose device knows the whole answer."""

    def make(*behaviours, how="continue", local=None, remote=None, **handling):
        server = serve(*behaviours)
        local = ScriptedBackend(lambda _: WHOLE, continues=True) if local is None else local
        policy = replace(load_policy("cloud-assist"), hedge=None, on_interrupt=how, **handling)
        return face(local=local, remote=remote_at(server, max_retries=0, **(remote or {})), policy=policy), local

    return make


@pytest.mark.parametrize("pieces", range(len(WORDS) + 1))
def test_a_stream_cut_at_every_piece_goes_on_on_the_device(broken, question, pieces):
    client, local = broken(cut_after(pieces))
    chunks, opened = client.read(messages=question, stream_options={"include_usage": True}, **PUBLIC)
    assert text_of(chunks) == WHOLE
    first, second = opened.route.attempts
    assert (first.place, first.outcome, first.error_type) == ("remote", "failed", "RemoteError")
    assert (second.place, second.outcome) == ("local", "served")
    assert second.why == ("continue" if pieces else "fallback")
    assert opened.route.served_by == "local"
    assert local.calls[0].begun == "".join(WORDS[:pieces])
    told = [one.handover for one in chunks if one.handover is not None]
    assert [(one.kind, one.from_place, one.to_place) for one in told] == (
        [("continue", "remote", "local")] if pieces else []
    )
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage.completion_tokens == pieces + len(WORDS) - pieces
    assert (first.usage is None) == (pieces == 0)
    assert second.usage.completion_tokens == len(WORDS) - pieces


@pytest.mark.parametrize(
    "behaviour",
    [
        stalls_after(b"".join(map(chunk, WORDS[:3]))),
        reset(b"".join(map(chunk, WORDS[:3]))),
        stream(b"".join(map(chunk, WORDS[:3])) + b'data: {"error": {"code": "overloaded"}}\n\n'),
        stream(b"".join(map(chunk, WORDS[:3])) + b"data: nonsense\n\n"),
        stream(b"".join(map(chunk, WORDS[:3])) + b"data: \xff\n\n", piece=40),
    ],
    ids=["stalls", "reset", "error event", "nonsense", "invalid utf-8"],
)
def test_every_way_to_break_off_is_followed(broken, question, behaviour):
    client, _ = broken(behaviour)
    reply = client.final(messages=question, **PUBLIC)
    assert reply.choices[0].message.content == WHOLE
    assert [attempt.why for attempt in reply.route.attempts] == ["first", "continue"]
    assert "remote broke off; local went on with the answer" in reply.route.reason


def test_a_whole_answer_is_asked_for_anew(broken, question):
    client, local = broken(cut_after(4))
    reply = client.create(messages=question, **PUBLIC)
    assert reply.choices[0].message.content == WHOLE
    assert local.calls[0].begun == ""
    assert [attempt.why for attempt in reply.route.attempts] == ["first", "fallback"]
    assert reply.usage.completion_tokens == len(WORDS)


def test_restart_tells_the_consumer_that_what_it_has_is_void(broken, question):
    client, local = broken(cut_after(4), how="restart", local=ScriptedBackend(lambda _: "At nine."))
    chunks, opened = client.read(messages=question, **PUBLIC)
    at = next(index for index, one in enumerate(chunks) if one.handover is not None)
    handover = chunks[at].handover
    assert (handover.kind, handover.reason, chunks[at].choices) == ("restart", "RemoteError", [])
    assert text_of(chunks[:at]) == "".join(WORDS[:4])
    assert text_of(chunks[at:]) == "At nine."
    assert local.calls[0].begun == ""
    assert opened.route.attempts[1].why == "restart"


def test_the_final_completion_of_a_restart_has_the_new_text_only(broken, question):
    client, _ = broken(cut_after(4), how="restart", local=ScriptedBackend(lambda _: "At nine."))
    assert client.final(messages=question, **PUBLIC).choices[0].message.content == "At nine."


def test_who_does_not_know_of_restarts_gets_the_error(serve, remote_at, question):
    async def go():
        policy = replace(load_policy("cloud-assist"), hedge=None, on_interrupt="restart")
        remote = remote_at(serve(cut_after(4)), max_retries=0)
        async with AsyncHybridClient(local=ScriptedBackend(["no"]), remote=remote, policy=policy) as client:
            _, run = await client.start_run(question, "public", (), None, {"stream": True}, may_restart=False)
            with pytest.raises(StreamInterrupted):
                async for _ in run.stream():
                    pass

    asyncio.run(go())


def test_error_leaves_it_to_the_caller(broken, question):
    client, local = broken(cut_after(4), how="error")
    with pytest.raises(StreamInterrupted) as caught:
        client.read(messages=question, **PUBLIC)
    assert isinstance(caught.value.__cause__, RemoteError)
    assert local.calls == []


def test_a_place_that_cannot_continue_is_not_asked_to(broken, question):
    client, local = broken(cut_after(4), local=ScriptedBackend(lambda _: WHOLE))
    with pytest.raises(StreamInterrupted):
        client.read(messages=question, **PUBLIC)
    assert local.calls == []


def test_a_refusal_that_breaks_off_is_not_continued(broken, question):
    refusal = b'data: {"choices": [{"index": 0, "delta": {"refusal": "I may"}}]}\n\n'
    client, local = broken(stream(refusal))
    with pytest.raises(StreamInterrupted):
        client.read(messages=question, **PUBLIC)
    assert local.calls == []


def test_what_was_given_out_counts_towards_the_limit(broken, question):
    client, local = broken(cut_after(3))
    chunks, opened = client.read(messages=question, max_tokens=5, stream_options={"include_usage": True}, **PUBLIC)
    assert text_of(chunks) == "".join(WORDS[:5])
    assert local.requests[0].token_limit == 2
    assert chunks[-1].usage.completion_tokens == 5
    assert opened.route.attempts[1].usage.completion_tokens == 2


def test_an_answer_that_breaks_off_at_its_limit_is_whole(broken, question):
    client, local = broken(cut_after(3))
    reply = client.final(messages=question, max_tokens=3, **PUBLIC)
    assert reply.choices[0].message.content == "".join(WORDS[:3])
    assert reply.choices[0].finish_reason == "length"
    assert local.calls == []


def test_both_break_off(broken, question):
    local = ScriptedBackend(
        lambda _: ScriptedReply(WHOLE, error=RemoteError("the device broke off"), fail_after=2), continues=True
    )
    client, _ = broken(cut_after(3), local=local)
    with pytest.raises(StreamInterrupted, match="local failed in the middle") as caught:
        client.read(messages=question, **PUBLIC)
    assert [attempt.outcome for attempt in caught.value.attempts] == ["failed", "failed"]


def test_the_device_is_asked_again_where_it_never_failed(broken, question):
    """It is last in the row and not asked yet when the remote breaks off after the device's first answer failed to come."""
    client, _ = broken(status(500), cut_after(2))
    assert client.create(messages=question, **PUBLIC).route.served_by == "local"
    assert client.final(messages=question, **PUBLIC).choices[0].message.content == WHOLE


def test_a_conversation_remembers_the_text_that_counts(broken):
    client, local = broken(cut_after(4), answer("next"), how="restart", local=ScriptedBackend(lambda _: "At nine."))
    conversation = client.client.conversation()
    if client.name == "blocking":
        with conversation.create("When?", stream=True, **PUBLIC) as opened:
            opened.get_final_completion()
    else:

        async def go():
            async with await conversation.create("When?", stream=True, **PUBLIC) as opened:
                await opened.get_final_completion()

        client._runner.run(go())
    assert conversation.messages[-1]["content"] == "At nine."
    assert local.calls[0].conversation.startswith("dialogue-")


# ---- time ----


def test_a_whole_answer_that_trickles_leaves_time_for_the_device(broken, question):
    def trickle(exchange):
        exchange.head()
        while not exchange.server.stopping.is_set():
            exchange.send(chunk(" and"))
            exchange.wait(0.05)

    client, _ = broken(trickle)
    reply = client.create(messages=question, deadline_s=3.0, **PUBLIC)
    assert reply.choices[0].message.content == WHOLE
    assert reply.route.attempts[0].error.startswith("RemoteError: remote's answer was not whole in its share")


def test_a_device_that_loads_too_long_leaves_time_for_the_remote(face, serve, remote_at, question):
    local = ScriptedBackend(["late"], start_s=30.0)
    policy = replace(load_policy("offline-first"), hedge=None)
    client = face(local=local, remote=remote_at(serve(answer("From afar."))), policy=policy)
    reply = client.create(messages=question, deadline_s=2.0, **PUBLIC)
    assert reply.route.served_by == "remote"
    assert reply.route.attempts[0].error_type == "EngineError"


def test_the_deadline_is_the_end_also_in_mid_answer(broken, question):
    client, _ = broken(stalls_after(chunk("a")), remote={"gap_timeout_s": 30.0})
    with pytest.raises(DeadlineExceeded):
        client.read(messages=question, deadline_s=0.6, **PUBLIC)


def test_whole_answers_that_both_fail_name_both(broken, question):
    client, _ = broken(cut_after(4), local=ScriptedBackend([RemoteError("nothing here")], continues=True))
    with pytest.raises(CannotServe) as caught:
        client.create(messages=question, **PUBLIC)
    assert "remote:" in str(caught.value)
    assert "local:" in str(caught.value)


# ---- the end of the client ----


def test_closing_the_client_in_mid_answer_ends_it_in_the_same_way_in_both_faces(face, question):
    client = face(local=ScriptedBackend(lambda _: ScriptedReply(WHOLE, token_s=0.05)))
    if client.name == "blocking":
        opened = client.client.chat.completions.create(messages=question, stream=True)
        next(opened)
        client.close()
        with pytest.raises(Cancelled, match="closed"):
            list(opened)
        return

    async def go():
        opened = await client.client.chat.completions.create(messages=question, stream=True)
        await anext(opened)
        waiting = asyncio.create_task(opened.get_final_completion())
        whole = asyncio.create_task(client.client.chat.completions.create(messages=question))
        await asyncio.sleep(0.01)
        await client.client.close()
        for one in (waiting, whole):
            with pytest.raises(Cancelled, match="closed before"):
                await one

    client._runner.run(go())
