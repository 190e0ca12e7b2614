"""Streams as they come: keep-alives, the route, errors in the middle, handovers, and clients that go away."""

import asyncio
import contextlib
import http.client
import json
from dataclasses import replace

import openai
import pytest
from openai import OpenAI

from hybridllm import AsyncHybridClient, Remote, load_policy
from hybridllm.errors import EngineError
from hybridllm.server import create_app
from hybridllm.testing import ScriptedBackend, ScriptedReply
from tests.hybridllm.loopback import LoopbackServer, chunk, stream, whole_stream
from tests.server.live_server import HELD, QUESTION, LiveServer, until

WORDS = ["The", " café", " opens", " at", " nine", " 🙂", " every", " day."]
WHOLE = "".join(WORDS)
PUBLIC = {"X-Hybridllm-Privacy": "public"}
BODY = {"messages": QUESTION, "stream": True, "metadata": {"privacy": "public"}}
SCOPE = {
    "type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "path": "/v1/chat/completions",
    "raw_path": b"/v1/chat/completions", "query_string": b"", "root_path": "", "server": ("127.0.0.1", 8080),
    "client": ("127.0.0.1", 1), "headers": [(b"host", b"127.0.0.1:8080"), (b"content-type", b"application/json")],
}  # fmt: skip


def asked(server, **fields):
    """A connection on which a completion has been asked for."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request(
        "POST",
        "/v1/chat/completions",
        json.dumps({"messages": QUESTION, **fields}),
        {"Content-Type": "application/json"},
    )
    return contextlib.closing(connection)


def test_comments_keep_a_silent_stream_alive_before_and_between_the_pieces():
    reply = ScriptedReply("One two", first_token_s=0.8, token_s=0.8)
    with LiveServer([reply], ping_s=0.2) as server:
        answer = server.ask(stream=True)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.body.startswith(b": ping\n\n")
    between = answer.body.decode().split('"content":"One"')[1].split('"content":" two"')[0]
    assert ": ping\n\n" in between
    assert answer.events[-1] == "[DONE]"
    assert answer.events[-2]["route"]["served_by"] == "local"
    assert "x-hybridllm-route" not in answer.headers  # nobody knew it yet


def test_the_clients_do_not_mind_the_comments():
    reply = ScriptedReply("One two", first_token_s=0.5, token_s=0.5)
    with (
        LiveServer([reply], ping_s=0.1) as server,
        OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as client,
        client.chat.completions.create(model="hybridllm", messages=QUESTION, stream=True) as pieces,
    ):
        assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == "One two"


def test_a_busy_stream_gets_no_comments_and_says_its_route_in_the_headers():
    with LiveServer([WHOLE]) as server:
        answer = server.ask(stream=True)
    assert b"ping" not in answer.body
    assert answer.headers["x-hybridllm-route"] == "local"
    assert answer.headers["x-hybridllm-reason"] == "Rule 'default' asks local."
    assert answer.headers["x-hybridllm-rule"] == "default"
    assert answer.headers["x-hybridllm-label"] == "private"
    assert answer.headers["x-request-id"].startswith("req-")
    assert answer.headers["cache-control"] == "no-store"
    pieces = answer.events[:-1]
    assert "".join(piece["choices"][0]["delta"].get("content", "") for piece in pieces) == WHOLE
    assert all("finish_reason" in piece["choices"][0] for piece in pieces)
    assert [index for index, piece in enumerate(pieces) if "route" in piece] == [len(pieces) - 1]


def test_an_error_after_a_comment_is_an_event_and_the_stream_does_not_look_whole():
    soon = {"deadline_s": "0.6"}
    with LiveServer([ScriptedReply("late", first_token_s=HELD)] * 2, ping_s=0.1) as server:
        answer = server.ask(stream=True, metadata=soon)
        with (
            OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as client,
            client.chat.completions.create(model="hybridllm", messages=QUESTION, stream=True, metadata=soon) as pieces,
            pytest.raises(openai.APIError) as caught,
        ):
            next(pieces)
    assert answer.status == 200
    assert [event["error"]["code"] for event in answer.events] == ["deadline_exceeded"]
    assert caught.value.code == "deadline_exceeded"


def test_an_error_in_the_middle_is_the_last_thing_that_comes():
    broken = ScriptedReply(WHOLE, error=EngineError("It died."), fail_after=3)
    with LiveServer([broken]) as server:
        answer = server.ask(stream=True)
    assert answer.status == 200
    *pieces, last = answer.events
    assert "".join(piece["choices"][0]["delta"]["content"] for piece in pieces) == "".join(WORDS[:3])
    assert last["error"]["code"] == "stream_interrupted"
    assert "It died." in last["error"]["message"]


@pytest.fixture
def handing_over():
    """A server whose client's remote breaks off after some words; the device could say all of them."""

    @contextlib.contextmanager
    def opened(pieces, how):
        cut = stream(chunk("", role="assistant") + b"".join(map(chunk, WORDS[:pieces])))
        with LoopbackServer(cut) as remote:
            arguments = {
                "policy": replace(load_policy("cloud-assist"), hedge=None, on_interrupt=how),
                "remote": Remote(base_url=remote.base_url, model="large", max_retries=0),
            }
            local = ScriptedBackend(lambda _: WHOLE, continues=True)
            with LiveServer(local, client=arguments) as server:
                yield server

    return opened


def test_a_handover_that_goes_on_is_passed_on(handing_over):
    with handing_over(3, "continue") as server:
        answer = server.ask(PUBLIC, stream=True, stream_options={"include_usage": True})
        with (
            OpenAI(base_url=server.base_url, api_key="any", max_retries=0, default_headers=PUBLIC) as client,
            client.chat.completions.create(model="hybridllm", messages=QUESTION, stream=True) as pieces,
        ):
            read = list(pieces)
    assert answer.headers["x-hybridllm-route"] == "remote"
    told = [event["handover"] for event in answer.events[:-1] if "handover" in event]
    assert told == [{"kind": "continue", "from_place": "remote", "to_place": "local", "reason": "RemoteError"}]
    assert answer.events[-2]["route"]["served_by"] == "local"
    assert [attempt["why"] for attempt in answer.events[-2]["route"]["attempts"]] == ["first", "continue"]
    assert "".join(piece.choices[0].delta.content or "" for piece in read if piece.choices) == WHOLE
    assert sum(hasattr(piece, "handover") for piece in read) == 1


def test_an_answer_never_begins_anew_under_a_client_that_cannot_know_of_it(handing_over):
    with handing_over(3, "restart") as server:
        answer = server.ask(PUBLIC, stream=True)
    *pieces, last = answer.events
    assert "".join(piece["choices"][0]["delta"].get("content", "") for piece in pieces) == "".join(WORDS[:3])
    assert not [piece for piece in pieces if "handover" in piece]
    assert last["error"]["code"] == "stream_interrupted"


@pytest.mark.parametrize("whole", [True, False])
def test_an_answer_that_did_not_begin_may_begin_elsewhere(handing_over, whole):
    with handing_over(0, "restart") as server:
        answer = server.ask(PUBLIC, stream=not whole)
    document = answer.json if whole else answer.events[-2]
    assert [attempt["why"] for attempt in document["route"]["attempts"]] == ["first", "fallback"]


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    "reply",
    [ScriptedReply("late", first_token_s=HELD), ScriptedReply("One two", token_s=HELD)],
    ids=["first", "second"],
)
def test_a_client_that_goes_away_while_nothing_is_sent_cancels_the_work(streamed, reply):
    with LiveServer([reply]) as server:
        with asked(server, stream=streamed):
            until(lambda: server.backend.requests, "the request")
            assert server.backend.cancelled == 0
        until(lambda: server.backend.cancelled == 1, "the end of the work")
        until(lambda: not server.work._slots, "the end of the request")
        assert server.request("GET", "/readyz").status == 200


def test_a_client_that_goes_away_while_it_is_being_sent_cancels_the_work():
    with LiveServer([ScriptedReply("word " * 100_000, token_s=0.001)]) as server:
        with asked(server, stream=True) as connection, contextlib.closing(connection.getresponse()) as response:
            assert response.read(2000)
        until(lambda: server.backend.cancelled == 1, "the end of the work")


def test_the_official_client_closes_a_stream_and_the_work_ends():
    with (
        LiveServer([ScriptedReply("One two three", token_s=HELD)]) as server,
        OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as client,
    ):
        with client.chat.completions.create(model="hybridllm", messages=QUESTION, stream=True) as pieces:
            assert next(pieces).choices[0].delta.content == "One"
        until(lambda: server.backend.cancelled == 1, "the end of the work")


@pytest.mark.parametrize("streamed", [True, False])
def test_a_server_that_ends_says_so_to_whoever_waits(streamed):
    with LiveServer([ScriptedReply("One two", token_s=HELD)]) as server:
        with asked(server, stream=streamed) as connection:
            until(lambda: server.backend.requests, "the request")
            if streamed:
                response = connection.getresponse()  # headers come with the first piece
            server.call(server.work.stop_all)
            response = response if streamed else connection.getresponse()
            with contextlib.closing(response):
                body = response.read()
        assert response.status == (200 if streamed else 503)
        assert b'"code": "stopping"' in body
        assert b"[DONE]" not in body
        refused = server.ask()
        assert (refused.status, refused.error["code"], refused.headers["retry-after"]) == (503, "stopping", "1")
        assert server.backend.cancelled == 1


def test_many_streams_at_the_same_time_keep_apart():
    with LiveServer(lambda request: f"For {request.messages[0].text} alone.") as server:
        with contextlib.ExitStack() as stack:
            names = [f"caller-{number}" for number in range(32)]
            waiting = [
                stack.enter_context(asked(server, stream=True, messages=[{"role": "user", "content": name}]))
                for name in names
            ]
            for name, connection in zip(names, waiting, strict=True):
                with contextlib.closing(connection.getresponse()) as response:
                    events = [
                        json.loads(line[6:])
                        for line in response.read().decode().split("\n\n")
                        if line.startswith("data: {")
                    ]
                text = "".join(event["choices"][0]["delta"].get("content", "") for event in events)
                assert text == f"For {name} alone."
        assert len(server.backend.requests) == 32


def test_pieces_that_came_together_go_out_together():
    """Over one remote that sends all of its pieces at once; what is counted is how often the server sends something."""
    sent = []

    async def ask(remote_url):
        asked = iter([{"type": "http.request", "body": json.dumps(BODY).encode(), "more_body": False}])

        async def receive():
            message = next(asked, None)
            if message is None:
                await asyncio.sleep(60)
            return message

        async def send(message):
            sent.append(message)

        remote = Remote(base_url=remote_url, model="m")
        async with AsyncHybridClient(remote=remote, local=ScriptedBackend(["no"]), policy="cloud-assist") as client:
            await create_app(client)(SCOPE, receive, send)

    with LoopbackServer(stream(whole_stream(*WORDS))) as server:
        asyncio.run(ask(server.base_url))
    start, *bodies = sent
    assert start["status"] == 200
    events = b"".join(body["body"] for body in bodies).split(b"\n\n")
    pieces = [json.loads(event.removeprefix(b"data: ")) for event in events[:-2]]
    assert "".join(piece["choices"][0]["delta"].get("content", "") for piece in pieces) == WHOLE
    assert len(pieces) == len(WORDS) + 1
    assert len(bodies) < len(WORDS)
