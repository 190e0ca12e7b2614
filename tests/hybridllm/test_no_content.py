"""Whatever goes wrong, nothing that was asked or answered is in the error, its causes, or the variables of its frames."""

import asyncio
import dataclasses
import gc
import inspect
import json
import logging
import sys
import threading
import time

import pytest

from hybridllm import AsyncHybridClient, HybridClient
from hybridllm.boundary import content_free, content_free_init
from hybridllm.errors import (
    BadRequest,
    Cancelled,
    CannotServe,
    ConfigError,
    ContextLengthExceeded,
    DeadlineExceeded,
    EngineError,
    HybridLLMError,
    PolicyDenied,
    RemoteError,
    StreamInterrupted,
)
from hybridllm.testing import ScriptedBackend, ScriptedReply
from hybridllm.types import ChatRequest
from tests.hybridllm.leaks import MARK, TESTS, content, family, frames_of, leaks
from tests.hybridllm.loopback import chunk, reset, silent, stalls_after, status, stream

KEY = f"sk-{MARK}"


def request(**changes):
    return {
        "messages": [
            {"role": "system", "content": content("system")},
            {"role": "assistant", "content": None, "refusal": content("refusal")},
            {"role": "user", "content": [{"type": "text", "text": content("part")}], "name": content("name")},
        ],
        "stop": [content("stop")],
        "user": content("user"),
        **changes,
    }


def caught(kind, act):
    """The error that ``act`` ends with, which must be clean and must have come through one frame of ours at the most."""
    with pytest.raises(kind) as raised:
        act()
    assert_clean(raised.value)
    return raised.value


def assert_clean(error):
    assert leaks(error) == []
    ours = frames_of(error, foreign=False)
    assert {frame.f_code.co_filename.rpartition("/")[2] for frame in ours} == {"boundary.py"}
    assert all(isinstance(one, HybridLLMError) or one is error for one in family(error))


def failing(make_error, *, after=0):
    """A place that fails with an error that quotes the request, having given some of an answer or none."""

    def reply(asked: ChatRequest):
        quoted = " ".join(text for _, text in asked.texts())
        answer = f"{content('answer')} and more"
        return ScriptedReply(answer, error=make_error(quoted), fail_after=after)

    return ScriptedBackend(reply)


# ---- requests that cannot be used ----


@pytest.mark.parametrize(
    "changes",
    [
        {"messages": content("messages")},
        {"messages": [content("message")]},
        {"messages": [{"role": content("role"), "content": "x"}]},
        {"messages": [{"role": MARK, "content": "x"}]},
        {"messages": [{"role": "user", "content": {"text": content("dict")}}]},
        {"messages": [{"role": "user", "content": content("half \ud83d")}]},
        {"messages": [{"role": "user", content("key"): "x"}]},
        {"messages": [{"role": "user", "content": "x", content("key"): "y"}]},
        {"messages": [{"role": "user", "content": [content("part")]}]},
        {"messages": [{"role": "user", "content": [{"type": content("type")}]}]},
        {"messages": [{"role": "user", "content": [{"type": MARK}]}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": [content("text")]}]}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", content("key"): 1}]}]},
        {"messages": [{"role": "user", "content": "x", "name": [content("name")]}]},
        {"messages": [{"role": "user", "content": "x", "tool_calls": [content("tool")]}]},
        {"stop": [content("stop"), 5]},
        {"stop": [content("half \ud83d")]},
        {"user": content("half \ud83d")},
        {"user": [content("user")]},
        {"temperature": content("temperature")},
        {"seed": content("seed")},
        {"n": content("n")},
        {"stream_options": {content("option"): True}, "stream": True},
        {"tools": [content("tool")]},
        {"response_format": {"type": content("format")}},
        {"model": content("model")},
        {"temprature": content("value")},
        {"deadline_s": content("deadline")},
        {"tags": content("tags")},
        {"tags": [content("tag"), 5]},
    ],
    ids=lambda changes: json.dumps(changes)[:60],
)
def test_a_request_that_cannot_be_used(face, changes):
    client = face()
    caught(BadRequest, lambda: client.create(**request(**changes)))


def test_a_call_that_does_not_fit_the_signature_is_the_callers_mistake(face):
    client = face()
    error = caught(TypeError, lambda: client.create())
    assert "messages" in str(error)


# ---- requests that nobody serves ----


def test_a_request_that_is_too_long_for_the_device_and_too_private_for_the_remote(face, serve, remote_at):
    server = serve()
    client = face(local=ScriptedBackend(["never"], context_tokens=2), remote=remote_at(server, api_key=KEY))
    caught(PolicyDenied, lambda: client.create(**request()))
    client = face(local=ScriptedBackend(["never"], context_tokens=2))
    caught(ContextLengthExceeded, lambda: client.create(**request()))


@pytest.mark.parametrize("make_error", [RuntimeError, KeyError, lambda text: OSError(5, text), TypeError])
@pytest.mark.parametrize("whole", [True, False])
def test_a_place_that_quotes_the_request(face, make_error, whole):
    client = face(local=failing(make_error))
    ask = client.create if whole else client.read
    caught(EngineError, lambda: ask(**request()))


def test_a_script_that_has_come_to_its_end(face):
    client = face(local=ScriptedBackend([]))
    caught(CannotServe, lambda: client.create(**request()))


@pytest.mark.parametrize("read", ["read", "final"])
def test_an_answer_that_is_interrupted(face, read):
    client = face(local=failing(RuntimeError, after=2))
    error = caught(StreamInterrupted, lambda: getattr(client, read)(**request()))
    assert isinstance(error.__cause__, EngineError)  # errors of our own are kept as causes, without their past


def test_a_stream_that_is_read_on_after_it_was_interrupted():
    with HybridClient(local=failing(RuntimeError, after=1)) as client:
        opened = client.chat.completions.create(stream=True, **request())
        for _ in range(3):
            caught(StreamInterrupted, lambda: list(opened))


def test_time_that_is_over(face):
    slow = ScriptedReply(content("answer"), first_token_s=0.0, token_s=1.0)
    client = face(local=ScriptedBackend(lambda _: slow))
    caught(DeadlineExceeded, lambda: client.create(deadline_s=0.1, **request()))
    caught(DeadlineExceeded, lambda: client.read(deadline_s=0.1, **request()))


# ---- the remote ----


def echoes(exchange):
    """A server that says everything that it was told, in whatever part of an answer."""
    said = exchange.body.decode()
    exchange.head(418, {"Location": "/elsewhere", "Content-Type": "application/json", "X-Echo": MARK})
    exchange.send(json.dumps({"error": {"message": said, "code": said, "type": said, "param": said}}).encode())


def echoes_in_the_stream(exchange):
    exchange.head()
    exchange.send(b"data: " + json.dumps({"error": {"message": exchange.body.decode(), "code": 7}}).encode() + b"\n\n")


@pytest.mark.parametrize(
    "behaviour",
    [
        echoes,
        echoes_in_the_stream,
        status(500, content("body").encode()),
        status(307, headers={"Location": f"/{MARK}"}),
        status(429, content("body").encode(), headers={"Retry-After": MARK}),
        stream(content("html").encode(), headers={"Content-Type": f"text/html; {MARK}"}),
        stream(b"data: " + content("no JSON").encode() + b"\n\n"),
        stream(b"data: " + json.dumps({"choices": [content("choice")]}).encode() + b"\n\n"),
        stream(b"data: " + json.dumps({"choices": [{"delta": {"content": [content("list")]}}]}).encode() + b"\n\n"),
        stream(chunk(content("cut"))),
        stream(chunk(content("odd end"), finish=content("finish"))),
        stalls_after(chunk(content("stalled"))),
        reset(),
        reset(after=chunk(content("reset"))),
        silent(),
        stream(content("not UTF-8").encode("utf-16")),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_a_remote_that_fails_and_a_device_that_fails_too(face, serve, remote_at, behaviour, whole):
    remote = remote_at(
        serve(behaviour),
        api_key=KEY,
        first_token_timeout_s=0.2,
        gap_timeout_s=0.1,
        max_retries=0,
        connect_timeout_s=0.5,
    )
    client = face(local=failing(RuntimeError), remote=remote, policy="cloud-assist")
    ask = client.create if whole else client.read
    error = caught(HybridLLMError, lambda: ask(privacy="public", **request()))
    assert isinstance(error, CannotServe | RemoteError | EngineError)
    assert error.attempts[0].place == "remote"


# ---- ends that come from outside ----


def test_a_client_that_is_closed(face):
    client = face()
    client.client.close() if client.name == "blocking" else client._runner.run(client.client.close())
    caught(Cancelled, lambda: client.create(**request()))


def test_a_client_that_is_closed_while_it_answers():
    client = HybridClient(local=ScriptedBackend([ScriptedReply(content("answer"), first_token_s=30)]))
    failures = []

    def ask():
        try:
            client.chat.completions.create(**request())
        except Cancelled as error:
            failures.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.2)
    client.close()
    asking.join(timeout=5)
    assert_clean(failures[0])


@pytest.mark.parametrize("begun", [True, False])
def test_a_task_that_is_cancelled(begun):
    async def go():
        async with AsyncHybridClient(local=ScriptedBackend([ScriptedReply("never", first_token_s=30)])) as client:
            task = asyncio.create_task(client.chat.completions.create(**request()))
            if begun:
                await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError) as raised:
                await task
            assert leaks(raised.value) == []
            return frames_of(raised.value)

    assert asyncio.run(go())


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_ctrl_c_and_the_end_of_the_program_pass_on_without_their_past(monkeypatch, kind):
    def interrupted(*_):
        raise kind

    with HybridClient(local=ScriptedBackend(["Here."])) as client:
        monkeypatch.setattr("hybridllm.loop_thread._wait", interrupted)
        with pytest.raises(kind) as raised:
            client.chat.completions.create(**request())
        monkeypatch.undo()
        assert leaks(raised.value) == []
        assert {frame.f_code.co_filename.rpartition("/")[2] for frame in frames_of(raised.value)} == {"boundary.py"}


def test_a_place_that_ends_the_program_ends_one_answer_only():
    replies = iter([SystemExit(1), "Still here."])
    with HybridClient(local=ScriptedBackend(lambda _: next(replies))) as client:
        with pytest.raises(SystemExit) as raised:
            client.chat.completions.create(**request())
        assert leaks(raised.value) == []
        assert client.chat.completions.create(**request()).choices[0].message.content == "Still here."


def test_a_place_that_asks_the_blocking_client_would_wait_for_itself():
    def asks_again(_):
        return client.chat.completions.create(**request()).choices[0].message.content

    with HybridClient(local=ScriptedBackend(asks_again)) as client:
        error = caught(BadRequest, lambda: client.chat.completions.create(**request()))
        assert "own event loop" in str(error)


# ---- defects ----


def quoting(*arguments, **named):
    raise RuntimeError(f"{content('defect')} {arguments} {named}")


@pytest.mark.parametrize(
    "inner",
    [
        "hybridllm.types.chat_request.ChatRequest.parse",
        "hybridllm.async_client.AsyncHybridClient.start_run",
        "hybridllm.async_completions.completion",
        "hybridllm.router.RequestRun.whole",
        "hybridllm.router.RequestRun.route",
    ],
)
def test_a_defect_is_told_by_its_class_and_place(face, monkeypatch, inner):
    client = face()
    monkeypatch.setattr(inner, quoting)
    error = caught(EngineError, lambda: client.create(**request()))
    assert "RuntimeError at test_no_content.py:" in str(error)
    monkeypatch.undo()


@pytest.mark.parametrize("inner", ["_take", "_chunk", "_next_event"])
@pytest.mark.parametrize("read", ["read", "final"])
def test_a_defect_in_a_stream(face, monkeypatch, inner, read):
    client = face()
    monkeypatch.setattr(f"hybridllm.streams.AsyncChatStream.{inner}", quoting)
    caught(EngineError, lambda: getattr(client, read)(**request()))
    monkeypatch.undo()


@pytest.mark.parametrize("act", ["explain", "load", "close"])
def test_a_defect_in_another_method(face, monkeypatch, act):
    client = face()
    monkeypatch.setattr("hybridllm.async_client.AsyncHybridClient._parsed", quoting)
    monkeypatch.setattr(ScriptedBackend, "start", quoting)
    monkeypatch.setattr(ScriptedBackend, "aclose", quoting)
    acts = {
        "explain": lambda: client.client.explain(**request()),
        "load": client.load,
        "close": client.client.close
        if client.name == "blocking"
        else lambda: client._runner.run(client.client.close()),
    }
    caught(EngineError, acts[act])
    monkeypatch.undo()


def test_facts_that_fail_with_content(face, caplog):
    reply = face(facts=quoting).create(**request())
    assert reply.route.served_by == "local"
    assert "failed with RuntimeError" in caplog.text
    assert MARK not in caplog.text


@pytest.mark.parametrize(
    "lines", ["api_key: [KEY]", "api_key: K E Y KEY", "api_key: KEY\n  api_key_env: HOME", "zone: 3"]
)
def test_a_configuration_that_cannot_be_used(tmp_path, lines):
    path = tmp_path / "hybridllm.yaml"
    path.write_text(
        f"remote:\n  base_url: https://h.example/v1\n  model: m\n  {lines.replace('KEY', KEY)}\n", encoding="utf-8"
    )
    with pytest.raises(ConfigError) as raised:
        HybridClient.from_config(path)
    assert leaks(raised.value) == []


def test_whoever_looks_for_a_defect_sees_everything(face, monkeypatch):
    """A positive control: each of the tools does show content where nothing keeps it away."""
    client = face()
    monkeypatch.setenv("HYBRIDLLM_DEBUG", "1")
    monkeypatch.setattr("hybridllm.types.chat_request.ChatRequest.parse", quoting)
    with pytest.raises(EngineError) as raised:
        client.create(**request())
    monkeypatch.undo()
    assert isinstance(raised.value.__cause__, RuntimeError)
    tools = {tool for tool, _ in leaks(raised.value)}
    assert tools >= {"str", "repr", "args", "traceback", "rich"}
    assert "cgitb" in tools or sys.version_info >= (3, 13)
    monkeypatch.setenv("HYBRIDLLM_DEBUG", "0")
    assert MARK in str(raised.value.__cause__)


def test_the_boundary_frame_shows_nothing_of_a_call():
    @content_free
    def fails(first, *, second):
        raise ValueError(first + second)

    @content_free
    async def fails_later(first, *, second):
        raise ValueError(first + second)

    assert_clean(caught(EngineError, lambda: fails(content("a"), second=content("b"))))
    assert_clean(caught(EngineError, lambda: asyncio.run(fails_later(content("a"), second=content("b")))))
    never = fails_later(content("a"), second=content("b"))
    assert MARK not in repr(never)
    assert never.__qualname__.endswith("fails_later")
    never.close()


def test_a_value_whose_making_fails_does_not_show_what_it_was_given():
    @content_free_init
    @dataclasses.dataclass(frozen=True, slots=True)
    class Place:
        key: str = dataclasses.field(repr=False)

        def __post_init__(self):
            key = self.key
            if " " in key:
                raise BadRequest("key is not a key.", field="key")

    assert Place(KEY) == Place(key=KEY)
    assert list(inspect.signature(Place).parameters) == ["key"]
    caught(BadRequest, lambda: Place(f"{KEY} {KEY}"))
    caught(TypeError, lambda: Place(KEY, KEY))


def test_whoever_asks_while_handling_an_error_of_their_own_keeps_it_as_context(face):
    client = face(local=ScriptedBackend([]))
    own = LookupError("the caller's own")
    try:
        raise own
    except LookupError:
        with pytest.raises(CannotServe) as raised:
            client.create(**request())
    assert raised.value.__context__ is own
    assert leaks(raised.value) == []


# ---- where nobody waits ----


class ComplainingBackend(ScriptedBackend):
    """One that fails with content when its answer is stopped."""

    async def stream(self, call):
        try:
            async for event in super().stream(call):
                yield event
        finally:
            quoting(call.request.messages)


def unread_stream_of(client):
    opened = client.chat.completions.create(stream=True, **request())
    next(opened)


def test_a_stream_that_is_dropped_and_fails_to_stop(caplog):
    caplog.set_level(logging.DEBUG)
    local = ComplainingBackend(lambda _: ScriptedReply(content("a b c"), token_s=30))
    with HybridClient(local=local) as client:
        unread_stream_of(client)
        gc.collect()
        deadline = time.monotonic() + 5
        while "background" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.01)
    told = [record for record in caplog.records if record.name == "hybridllm"]
    assert "StreamInterrupted" in told[0].getMessage() or "in the middle" in told[0].getMessage()
    assert all(record.exc_info is None for record in told)
    assert MARK not in caplog.text


def test_a_stream_that_is_dropped_in_somebody_elses_loop():
    told = []

    async def go():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        async with AsyncHybridClient(
            local=ComplainingBackend(lambda _: ScriptedReply(content("a b"), token_s=30))
        ) as client:
            opened = await client.chat.completions.create(stream=True, **request())
            await anext(opened)
            del opened
            gc.collect()
            for _ in range(20):
                await asyncio.sleep(0.01)

    asyncio.run(go())
    assert told
    for context in told:
        assert MARK not in repr(context)
        assert_clean(context["exception"])


def test_a_client_that_is_closed_while_a_stream_is_read(caplog):
    caplog.set_level(logging.DEBUG)
    client = HybridClient(local=ComplainingBackend(lambda _: ScriptedReply(content("a b c"), token_s=30)))
    opened = client.chat.completions.create(stream=True, **request())
    next(opened)
    failures = []

    def read():
        try:
            next(opened)
        except HybridLLMError as error:
            failures.append(error)

    reading = threading.Thread(target=read)
    reading.start()
    time.sleep(0.2)
    client.close()
    reading.join(timeout=5)
    assert_clean(failures[0])
    assert MARK not in caplog.text


def test_a_look_for_the_remote_that_fails(serve, remote_at, monkeypatch):
    told = []

    async def broken(*_):
        raise RuntimeError("a defect of the gate")

    async def go():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        monkeypatch.setattr("hybridllm.egress.EgressGate.probe", broken)
        local = ScriptedBackend(lambda _: content("answer"))
        client = AsyncHybridClient(local=local, remote=remote_at(serve(), api_key=KEY))
        await client.chat.completions.create(privacy="public", **request())
        with pytest.warns(ResourceWarning):  # noqa: PT031 - closing it would take the failure back
            del client
            gc.collect()

    asyncio.run(go())
    assert told
    for context in told:
        assert MARK not in repr(context)
        assert leaks(context["exception"]) == []


def test_the_tests_own_frames_are_left_out_and_only_those():
    assert TESTS.endswith("tests")
    with pytest.raises(ValueError) as raised:
        json.loads("{")
    assert [frame.f_code.co_name for frame in frames_of(raised.value)] == ["loads", "decode", "raw_decode"]
