"""The remote against a real server on loopback that misbehaves: a whole answer or a clean error, never a cut one."""

import asyncio
import gzip
import json
import logging
import threading
import time
from contextlib import aclosing
from functools import partial

import pytest

import hybridllm.connectivity
from hybridllm import HybridClient
from hybridllm.errors import CannotServe, ContentFiltered, RemoteError, RemoteUnreachable, StreamInterrupted
from hybridllm.testing import ScriptedBackend
from policies import Limits, Retries
from tests.hybridllm.faces import text_of
from tests.hybridllm.loopback import (
    DONE,
    EMPTY,
    THOUGHT,
    USAGE,
    LoopbackServer,
    answer,
    bomb,
    chunk,
    delta,
    free_port,
    kept,
    late,
    login_page,
    redirect,
    refused,
    reset,
    silent,
    stalls_after,
    status,
    stream,
    trickle,
    whole_stream,
)
from tests.hybridllm.remote_harness import Asker, pieces_of

SSE_ERROR = b'event: error\ndata: {"error": {"message": "the canary text", "code": "overloaded"}}\n\n'
PUBLIC = {"privacy": "public"}


@pytest.fixture
def cloud_first(face, serve, remote_at):
    """A client whose policy asks the remote first, at a server with these behaviours."""

    def make(*behaviours, local=None, remote=None, **arguments):
        server = serve(*behaviours)
        local = ScriptedBackend(lambda _: "From the device.") if local is None else local
        limits = {"first_token_timeout_s": 1.0, "gap_timeout_s": 0.6}
        there = remote_at(server, **{**limits, **(remote or {})})
        client = face(local=local, remote=there, policy="cloud-assist", **arguments)
        return client, server

    return make


def test_an_answer_from_the_remote(cloud_first, question):
    client, server = cloud_first(answer("Hello", " wörld", " 你好."))
    reply = client.create(messages=question, temperature=0.5, stop="END", user="u1", max_tokens=9, **PUBLIC)
    assert reply.choices[0].message.content == "Hello wörld 你好."
    assert reply.model == "cloud-model-7"
    assert reply.usage.total_tokens == 10
    route = reply.route
    assert (route.served_by, route.rule, route.label) == ("remote", "default", "public")
    exchange = server.exchanges[0]
    assert (exchange.method, exchange.path) == ("POST", "/v1/chat/completions")
    assert exchange.headers["authorization"] == "Bearer sk-canary-key"
    assert exchange.headers["accept-encoding"] == "identity"
    assert route.egress_bytes == len(exchange.body) == route.attempts[0].egress_bytes
    assert exchange.json == {
        "model": "cloud-model",
        "messages": question,
        "temperature": 0.5,
        "stop": ["END"],
        "user": "u1",
        "max_tokens": 9,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_a_stream_from_the_remote(cloud_first, question):
    client, _ = cloud_first(answer("a", "b", "c"))
    chunks, opened = client.read(messages=question, stream_options={"include_usage": True}, **PUBLIC)
    assert text_of(chunks) == "abc"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage.total_tokens == 10
    assert opened.route.served_by == "remote"


BEFORE_THE_FIRST_TOKEN = {
    "silent": silent(),
    "reset before the head": reset(),
    "closed without a word": lambda exchange: None,
    "500 for ever": status(500),
    "503 for ever": status(503),
    "429 for ever": status(429),
    "429 with a long wait": status(429, headers={"Retry-After": "600"}),
    "401": status(401, b'{"error": {"message": "canary", "code": "invalid_api_key"}}'),
    "404": status(404),
    "400": status(400, b"not json canary"),
    "redirect": status(307, headers={"Location": "http://127.0.0.1:9/elsewhere"}),
    "login page": stream(b"<html>canary</html>", headers={"Content-Type": "text/html"}),
    "json instead of a stream": stream(b"{}", headers={"Content-Type": "application/json"}),
    "no content type": stream(b"", headers={"Content-Type": ""}),
    "not json": stream(b"data: canary\n\n"),
    "json of the wrong shape": stream(b"data: [1]\n\n"),
    "no choices": stream(b'data: {"id": 1}\n\n'),
    "wrong delta": stream(b'data: {"choices": [{"delta": {"content": 5}}]}\n\n'),
    "a whole message instead of pieces": stream(
        b'data: {"choices": [{"message": {"content": "canary"}, "finish_reason": "stop"}]}\n\n'
    ),
    "empty body": stream(b""),
    "only done": stream(DONE),
    "only a role": stream(chunk("", role="assistant")),
    "error event": stream(SSE_ERROR),
    "error object": stream(b'data: {"error": {"type": "server_error"}}\n\n'),
    "invalid utf-8": stream(b"data: \xff\xfe\n\n"),
    "a line without an end": stream(b"data: " + b"x" * 3_000_000),
    "compressed": stream(gzip.compress(whole_stream("a")), headers={"Content-Encoding": "gzip"}),
    "unknown end": stream(chunk(finish="because") + DONE),
}


@pytest.mark.parametrize("behaviour", BEFORE_THE_FIRST_TOKEN.values(), ids=BEFORE_THE_FIRST_TOKEN.keys())
def test_before_the_first_token_the_device_takes_over(cloud_first, question, behaviour):
    client, server = cloud_first(behaviour)
    began = time.monotonic()
    chunks, opened = client.read(messages=question, **PUBLIC)
    assert text_of(chunks) == "From the device."
    assert time.monotonic() - began < 5
    route = opened.route
    assert route.served_by == "local"
    assert [(attempt.place, attempt.outcome) for attempt in route.attempts] == [
        ("remote", "failed"),
        ("local", "served"),
    ]
    assert "canary" not in route.model_dump_json()
    assert "remote failed; so local was asked" in route.reason
    assert server.exchanges[0].json["messages"] == question


def test_nobody_there(face, question, remote_at, serve):
    server = serve(answer())
    remote = remote_at(server, base_url=f"http://127.0.0.1:{free_port()}/v1")
    client = face(remote=remote, policy="cloud-assist")
    reply = client.create(messages=question, **PUBLIC)
    assert reply.route.served_by == "local"
    assert client.client.connectivity == "offline"
    assert reply.route.rule == "no-network"
    assert server.connections == 0


def test_a_name_that_nobody_knows(face, question, remote_at, serve):
    remote = remote_at(serve(answer()), base_url="http://no-such-host.invalid/v1")
    client = face(remote=remote, policy="cloud-assist")
    assert client.create(messages=question, **PUBLIC).route.served_by == "local"


def test_tls_that_fails(face, question, remote_at, serve):
    server = serve(answer())
    remote = remote_at(server, base_url=f"https://127.0.0.1:{server.port}/v1")
    client = face(remote=remote, policy="cloud-assist")
    reply = client.create(messages=question, **PUBLIC)
    assert reply.route.served_by == "local"
    assert "TLS failed" in reply.route.attempts[0].error
    assert reply.route.egress_bytes == 0
    assert b"open" not in server.received


TEXT = chunk("one") + chunk(" two")
IN_THE_MIDDLE = {
    "cut": stream(TEXT),
    "cut and done, without a reason": stream(TEXT + DONE),
    "reset": reset(after=TEXT),
    "stalls": stalls_after(TEXT),
    "error event": stream(TEXT + SSE_ERROR),
    "malformed": stream(TEXT + b"data: {\n\n"),
    "half an event": stream(TEXT + b"data: {}"),
    "half a character": stream(TEXT + "data: é".encode()[:-1]),
    "more after the end": stream(TEXT + chunk(finish="stop") + chunk(" more") + DONE),
    "a tool call": stream(TEXT + b'data: {"choices": [{"delta": {"tool_calls": [{"id": "x"}]}}]}\n\n'),
}


@pytest.mark.parametrize("behaviour", IN_THE_MIDDLE.values(), ids=IN_THE_MIDDLE.keys())
def test_a_cut_answer_never_looks_whole(cloud_first, question, behaviour):
    client, _ = cloud_first(behaviour)
    with pytest.raises(StreamInterrupted) as raised:
        client.read(messages=question, **PUBLIC)
    assert "one" not in str(raised.value)
    # Asked for whole, nothing was given out yet, so the device can begin anew.
    reply = client.create(messages=question, **PUBLIC)
    assert reply.choices[0].message.content == "From the device."


@pytest.mark.parametrize("cut", range(0, len(whole_stream("one", " two")), 61))
def test_cut_at_every_place(cloud_first, question, cut):
    data = whole_stream("one", " two")
    client, _ = cloud_first(stream(data[:cut]))
    reply = client.create(messages=question, **PUBLIC)
    whole_after = data.index(b'"finish_reason": "stop"')
    if reply.route.served_by == "remote":
        assert cut > whole_after
        assert reply.choices[0].message.content == "one two"
    else:
        assert reply.choices[0].message.content == "From the device."


def test_a_reason_to_end_is_enough_without_done(cloud_first, question):
    client, _ = cloud_first(stream(chunk("yes") + chunk(finish="length")))
    reply = client.create(messages=question, **PUBLIC)
    assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == ("yes", "length")
    assert reply.usage is None


def test_a_refusal_is_passed_on_and_nobody_else_is_asked(cloud_first, question):
    local = ScriptedBackend([])
    refusal = b'data: {"choices": [{"delta": {"refusal": "No."}}]}\n\n' + chunk(finish="content_filter") + DONE
    client, _ = cloud_first(stream(refusal), local=local)
    reply = client.create(messages=question, **PUBLIC)
    assert reply.choices[0].finish_reason == "content_filter"
    assert reply.choices[0].message.refusal == "No."
    assert reply.choices[0].message.content is None
    assert local.requests == []


def slowly(*pieces, wait_s=0.2):
    """One piece after the other, each later than the one before, but within the time between two pieces."""

    def behave(exchange):
        exchange.head()
        for piece in pieces:
            exchange.send(piece)
            exchange.wait(wait_s)

    return behave


def piece_of(delta):
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode() + b"\n\n"


def test_a_model_that_stops_thinking_is_followed_by_the_device(cloud_first, question):
    client, _ = cloud_first(stalls_after(piece_of({"reasoning_content": "Hm."})), remote={"first_token_timeout_s": 60})
    began = time.monotonic()
    reply = client.create(messages=question, **PUBLIC)
    assert reply.route.served_by == "local"
    assert "thought for" in reply.route.attempts[0].error
    assert time.monotonic() - began < 3


def test_thinking_leaves_the_device_half_of_the_time(cloud_first, question):
    client, _ = cloud_first(slowly(*[piece_of({"reasoning_content": "Hm."})] * 40, wait_s=0.05))
    reply = client.create(messages=question, deadline_s=1.0, **PUBLIC)
    assert [(one.place, one.outcome) for one in reply.route.attempts] == [("remote", "failed"), ("local", "served")]
    assert reply.route.attempts[0].duration_s < 0.9


def test_pieces_that_are_empty_from_the_start_are_no_token(cloud_first, question):
    client, _ = cloud_first(slowly(*[piece_of({"role": "assistant"})] * 40, wait_s=0.05))
    assert client.create(messages=question, **PUBLIC).route.served_by == "local"


@pytest.mark.parametrize("delta", ["", ', "delta": null'])
def test_a_last_piece_without_a_delta_ends_a_whole_answer(cloud_first, question, delta):
    last = f'data: {{"choices": [{{"index": 0, "finish_reason": "stop"{delta}}}]}}\n\n'.encode()
    client, _ = cloud_first(stream(chunk("yes") + last + DONE))
    reply = client.create(messages=question, **PUBLIC)
    assert (reply.choices[0].message.content, reply.route.served_by) == ("yes", "remote")


def test_a_try_that_may_help_is_repeated_with_the_same_key(cloud_first, question):
    client, server = cloud_first(status(503), answer("Second time."))
    reply = client.create(messages=question, **PUBLIC)
    assert reply.choices[0].message.content == "Second time."
    assert reply.route.attempts[0].tries == 2
    assert reply.route.egress_bytes == 2 * len(server.exchanges[0].body)
    first, second = server.exchanges
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert first.body == second.body


def test_a_try_that_cannot_help_is_not_repeated(cloud_first, question):
    client, server = cloud_first(status(404), answer())
    assert client.create(messages=question, **PUBLIC).route.served_by == "local"
    assert len(server.exchanges) == 1


def test_a_silent_remote_leaves_the_device_half_of_the_time(cloud_first, question):
    client, _ = cloud_first(silent(), remote={"first_token_timeout_s": 60, "max_retries": 2})
    reply = client.create(messages=question, deadline_s=1.0, **PUBLIC)
    assert [(one.place, one.outcome) for one in reply.route.attempts] == [("remote", "failed"), ("local", "served")]
    assert reply.route.attempts[0].duration_s < 0.9


def test_a_request_that_is_estimated_to_be_too_long_is_not_sent(cloud_first):
    client, server = cloud_first(answer(), remote={"context_tokens": 50})
    reply = client.create(messages=[{"role": "user", "content": "word " * 100}], **PUBLIC)
    assert reply.route.served_by == "local"
    assert "does not fit its context of 50" in reply.route.reason
    assert not server.received


def test_a_connection_error_is_only_tried_again_when_nobody_else_is_left(face, question, remote_at, serve, tmp_path):
    server = serve(answer())
    remote = remote_at(server, base_url=f"http://127.0.0.1:{free_port()}/v1", max_retries=2)
    for route, tries in (
        ("[local, remote]", {"local": 1, "remote": 3}),
        ("[remote, local]", {"remote": 1, "local": 1}),
    ):
        policy = tmp_path / "plain.yaml"
        policy.write_text(
            "version: 1\nname: plain\nlabels: {order: [public, private], unlabeled: private}\nzones: {cloud: public}\n"
            f"default: {route}\n",
            encoding="utf-8",
        )
        client = face(local=ScriptedBackend(lambda _: RuntimeError()), remote=remote, policy=policy)
        with pytest.raises(CannotServe) as raised:
            client.create(messages=question, **PUBLIC)
        assert {attempt.place: attempt.tries for attempt in raised.value.attempts} == tries
        assert all(attempt.egress_bytes == 0 for attempt in raised.value.attempts)


def test_when_everybody_failed_the_error_names_each(cloud_first, question):
    client, _ = cloud_first(status(404), local=ScriptedBackend(lambda _: RuntimeError("canary")))
    with pytest.raises(CannotServe, match=r"remote: RemoteError: .*404.*; local: EngineError") as raised:
        client.create(messages=question, **PUBLIC)
    assert [attempt.place for attempt in raised.value.attempts] == ["remote", "local"]
    assert "canary" not in str(raised.value)


def test_an_answer_without_end_is_bounded(cloud_first, question):
    def behave(exchange):
        exchange.head()
        while not exchange.server.stopping.is_set():
            exchange.send(chunk("x" * 10_000))

    client, _ = cloud_first(behave, remote={"max_response_mib": 0.5})
    with pytest.raises(StreamInterrupted, match=r"larger than 0\.5 MiB"):
        client.read(messages=question, **PUBLIC)


def test_sampling_that_openai_lacks_goes_only_where_it_is_understood(cloud_first, question):
    client, server = cloud_first(answer(), local=ScriptedBackend(lambda _: "Here.", capabilities=["extended_sampling"]))
    reply = client.create(messages=question, top_k=5, **PUBLIC)
    assert reply.route.served_by == "local"
    assert "it lacks extended_sampling" in reply.route.reason
    client, server = cloud_first(answer(), remote={"capabilities": {"extended_sampling"}})
    assert client.create(messages=question, top_k=5, **PUBLIC).route.served_by == "remote"
    assert server.exchanges[0].json["top_k"] == 5


def test_closing_a_stream_closes_the_connection(cloud_first, question):
    gone = []

    def behave(exchange):
        exchange.head()
        exchange.send(chunk("one"))
        try:
            while not exchange.server.stopping.is_set():
                exchange.send(b": keep-alive\n\n")
                time.sleep(0.01)
        except OSError:
            gone.append(True)

    client, _ = cloud_first(behave)
    chunks, opened = client.read(limit=1, messages=question, **PUBLIC)
    assert text_of(chunks) == "one"
    assert opened.route.attempts[0].outcome == "cancelled"
    deadline = time.monotonic() + 3
    while not gone and time.monotonic() < deadline:
        time.sleep(0.02)
    assert gone


def test_a_second_wind_comments_and_other_line_ends(cloud_first, question):
    data = b"\xef\xbb\xbf: hello\r\n\r\nid: 1\r\n" + whole_stream("a", "b").replace(b"\n", b"\r\n")
    client, _ = cloud_first(stream(data, piece=5))
    assert client.create(messages=question, **PUBLIC).choices[0].message.content == "ab"


def test_no_key_and_no_content_in_logs_representations_and_errors(cloud_first, caplog):
    caplog.set_level(logging.DEBUG)
    secret = [{"role": "user", "content": "canary-content"}]
    client, _ = cloud_first(answer("canary-answer"), status(401, b'{"error": {"message": "canary-content"}}'))
    first = client.create(messages=secret, **PUBLIC)
    second = client.create(messages=secret, **PUBLIC)
    assert (first.route.served_by, second.route.served_by) == ("remote", "local")
    remote = client.client.remote
    shown = caplog.text + repr(remote) + str(remote) + repr(client.client) + first.route.model_dump_json()
    shown += second.route.model_dump_json()
    assert "sk-canary-key" not in shown
    assert "canary-content" not in shown
    assert "canary-answer" not in shown


def test_proxy_and_certificate_variables_of_the_environment_change_nothing(cloud_first, serve, question, monkeypatch):
    proxy = serve(answer("From the proxy."))
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file")
    client, _ = cloud_first(answer("Directly."))
    assert client.create(messages=question, **PUBLIC).choices[0].message.content == "Directly."
    assert proxy.connections == 0


def test_a_redirect_is_not_followed(cloud_first, serve, question):
    elsewhere = serve(answer("From elsewhere."))
    client, _ = cloud_first(status(308, headers={"Location": f"{elsewhere.base_url}/chat/completions"}))
    reply = client.create(messages=question, **PUBLIC)
    assert reply.route.served_by == "local"
    assert "redirect" in reply.route.attempts[0].error
    assert elsewhere.connections == 0


def test_cookies_are_not_kept(cloud_first, question):
    client, server = cloud_first(stream(whole_stream("a"), headers={"Set-Cookie": "id=1"}), answer())
    client.create(messages=question, **PUBLIC)
    client.create(messages=question, **PUBLIC)
    assert "cookie" not in server.exchanges[1].headers


def test_offline_never_contacts_the_remote(cloud_first, question):
    client, server = cloud_first(answer(), offline=True)
    reply = client.create(messages=question, **PUBLIC)
    assert (reply.route.served_by, reply.route.rule) == ("local", "no-network")
    assert client.client.connectivity == "offline"
    time.sleep(0.2)
    assert server.connections == 0


def test_a_private_request_does_not_even_probe(cloud_first, question):
    client, server = cloud_first(answer())
    assert client.create(messages=question).route.served_by == "local"
    time.sleep(0.2)
    assert server.connections == 0


def test_the_probe_sends_nothing(face, serve, remote_at, question):
    server = serve(answer())
    client = face(remote=remote_at(server), policy="offline-first")
    assert client.create(messages=question, **PUBLIC).route.served_by == "local"
    assert client.client.connectivity == "online"
    deadline = time.monotonic() + 5
    while server.connections < 1 and time.monotonic() < deadline:
        time.sleep(0.01)  # the system accepts a connection before the server does
    assert server.connections == 1
    assert server.received == b""


def test_a_remote_that_comes_back_is_noticed(face, question, remote_at, serve, monkeypatch):
    monkeypatch.setattr(hybridllm.connectivity, "_RETRY_OFFLINE_S", 0.0)
    server = serve(answer("Still there."))
    client = face(remote=remote_at(server), policy="cloud-assist")
    assert client.create(messages=question, **PUBLIC).choices[0].message.content == "Still there."
    server.__exit__()
    gone = client.create(messages=question, **PUBLIC).route
    assert (gone.served_by, gone.attempts[0].outcome) == ("local", "failed")
    assert client.create(messages=question, **PUBLIC).route.rule == "no-network"
    serve(answer("Back."), port=server.port)
    assert client.create(messages=question, **PUBLIC).choices[0].message.content == "Back."


def test_usage_and_bodies_are_plain_json(cloud_first, question):
    client, server = cloud_first(stream(chunk("a") + chunk(finish="stop") + USAGE + DONE))
    client.create(messages=[{"role": "user", "content": 'quote " and \\ and \u2028 and 你好'}], **PUBLIC)
    assert json.loads(server.exchanges[0].body)["messages"][0]["content"] == 'quote " and \\ and \u2028 and 你好'


def test_half_a_character_from_a_remote_does_not_spoil_the_next_request(face, serve, remote_at):
    server = serve(
        stream(b'data: {"choices": [{"delta": {"content": "Hi \\ud83d"}, "finish_reason": "stop"}]}\n\n' + DONE)
    )
    made = face(policy="cloud-assist", remote=remote_at(server))
    question = [{"role": "user", "content": "x"}]
    message = made.create(messages=question, privacy="public").choices[0].message
    assert message.content == "Hi ?"
    again = [*question, message, {"role": "user", "content": "y"}]
    assert made.create(messages=again, privacy="public").route.served_by == "remote"
    assert message.model_dump_json()


def test_a_count_that_is_none_is_not_taken_for_one(face, serve, remote_at):
    usage = b'data: {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 1%s, "total_tokens": 10}}\n\n'
    server = serve(stream(chunk("a") + chunk("b") + chunk(finish="stop") + usage % (b"0" * 400) + DONE))
    made = face(policy="cloud-assist", remote=remote_at(server))
    reply = made.final(messages=[{"role": "user", "content": "x"}], privacy="public")
    assert (reply.route.served_by, reply.usage) == ("remote", None)


def test_a_request_that_the_remotes_filter_refuses_is_asked_nowhere_else(cloud_first, question):
    local = ScriptedBackend([])
    client, server = cloud_first(refused(400, "content_policy_violation"), local=local)
    for ask in (client.create, client.read):
        with pytest.raises(ContentFiltered) as raised:
            ask(messages=question, **PUBLIC)
        assert raised.value.code == "content_filter"
        assert question[0]["content"] not in str(raised.value)
    assert (local.requests, len(server.exchanges)) == ([], 2)


def test_a_request_that_is_too_long_for_the_remote_goes_where_it_fits(cloud_first, question):
    client, server = cloud_first(refused(400, "context_length_exceeded"))
    for _ in range(8):
        route = client.create(messages=question, **PUBLIC).route
        assert (route.served_by, route.attempts[0].error_type, route.attempts[0].tries) == (
            "local",
            "ContextLengthExceeded",
            1,
        )
    assert len(server.exchanges) == 8  # it is well, and other requests may be shorter
    assert client.client.connectivity == "online"


def test_a_revoked_key_is_not_shown_with_every_request(cloud_first, question):
    client, server = cloud_first(refused(401, "invalid_api_key"))
    errors = [client.create(messages=question, **PUBLIC).route.attempts[0].error for _ in range(3)]
    assert "status 401" in errors[0]
    assert all("refused the key (status 401) and is not asked for another" in error for error in errors[1:])
    assert len(server.exchanges) == 1


def test_a_remote_that_fails_is_left_alone(cloud_first, question):
    client, server = cloud_first(status(500), remote={"max_retries": 0})
    routes = [client.create(messages=question, **PUBLIC).route for _ in range(7)]
    assert {route.served_by for route in routes} == {"local"}
    assert len(server.exchanges) == 5
    assert "BreakerOpen" in routes[-1].attempts[0].error
    assert routes[-1].egress_bytes == 0


def test_coming_back_is_noticed_without_a_request(serve, remote_at, question):
    server = serve(answer("Back."))

    def until(state):
        ends_s = time.monotonic() + 30
        while client.connectivity != state and time.monotonic() < ends_s:
            time.sleep(0.01)
        assert client.connectivity == state

    with HybridClient(
        local=ScriptedBackend(lambda _: "Here."), remote=remote_at(server), policy="cloud-assist"
    ) as client:
        ask = partial(client.chat.completions.create, messages=question, **PUBLIC)
        assert ask().route.served_by == "remote"
        server.down()
        assert ask().route.served_by == "local"
        until("offline")
        received = bytes(server.received)
        server.up()
        until(None)
        assert server.received == received
        route = ask().route
        assert (route.served_by, [attempt.place for attempt in route.attempts]) == ("remote", ["remote"])


# ---- one remote, without a client: how long it may take ----


@pytest.fixture
def asked(serve):
    """Asks a remote with these behaviours once."""

    def ask(*behaviours, limits=None, **call):
        server = serve(*behaviours)
        with Asker(server, limits=limits or Limits(5.0, 5.0, 1.0), retries=Retries(most=0)) as asker:
            answered = asker.ask(**call)
            assert asker.backend.idle
            answered.connectivity = asker.connectivity.state
            return answered

    return ask


def test_a_reader_who_takes_his_time_is_not_taken_for_a_silent_remote(serve):
    back = threading.Event()

    def behave(exchange):
        exchange.head()
        exchange.send(chunk("One"))
        back.wait(60)
        exchange.send(chunk(" two") + END)

    async def read(asker):
        events = []
        async with aclosing(asker.backend.stream(asker.call())) as coming:
            async for event in coming:
                events.append(event)
                await asyncio.sleep(1.2)  # longer than the remote may be silent
                back.set()
        return events

    with Asker(serve(behave), limits=Limits(5.0, 5.0, 1.0), retries=Retries(most=0)) as asker:
        *pieces, end = asker.runner.run(read(asker))
    assert "".join(piece.text for came in pieces for piece in pieces_of(came)) == "One two"
    assert end.reason == "stop"


def test_a_first_token_that_is_late_but_in_time(asked):
    assert asked(late(0.2, "At last.")).text == "At last."


@pytest.mark.parametrize("behaviour", [silent(), late(30.0), trickle(b": still here\n\n"), trickle(EMPTY)])
def test_silence_ends_at_the_first_tokens_limit_however_long_a_connection_may_take(asked, behaviour):
    answered = asked(behaviour, limits=Limits(connect_s=30.0, first_token_s=0.3, gap_s=30.0))
    assert str(answered.error) == "The remote gave no token within 0.3 s. Try again later."
    assert 0.3 <= answered.took_s < 5
    assert answered.connectivity == "degraded"


def test_thoughts_end_after_a_multiple_of_the_first_tokens_limit(asked):
    answered = asked(trickle(THOUGHT, 0.02), limits=Limits(5.0, 0.4, 5.0))
    assert "thought for 2.4 s and gave no answer" in str(answered.error)
    assert 2.4 <= answered.took_s < 10


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_a_model_that_thinks_is_alive_before_and_within_its_answer(asked, name):
    thought = delta(**{name: "Hm.", "content": None})
    pieces = [thought] * 4 + [
        EMPTY,
        thought,
        chunk("Yes"),
        EMPTY,
        EMPTY,
        EMPTY,
        chunk("."),
        chunk(finish="stop") + DONE,
    ]
    answered = asked(slowly(*pieces, wait_s=0.08), limits=Limits(1.0, 0.3, 5.0))
    assert (answered.text, answered.error) == ("Yes.", None)


def test_thoughts_that_stop_end_after_a_gap(asked):
    answered = asked(stalls_after(THOUGHT), limits=Limits(1.0, 30.0, 0.2))
    assert "fell silent before its answer" in str(answered.error)
    assert answered.took_s < 5


@pytest.mark.parametrize("piece", [EMPTY, THOUGHT], ids=["empty", "thought"])
def test_an_answer_without_text_in_its_middle_ends_after_a_multiple_of_the_gap(asked, piece):
    answered = asked(trickle(piece, 0.02, beginning=chunk("So")), limits=Limits(5.0, 5.0, 0.4), whole=True)
    assert (answered.text, answered.finished) == ("So", None)
    assert "gave no text in the middle of its answer for 2.4 s" in str(answered.error)
    assert 2.4 <= answered.took_s < 10


def test_a_connection_that_nobody_accepts_is_no_connection(asked, monkeypatch):
    async def silent_resolver(loop, *arguments, **more):
        await asyncio.sleep(60)

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", silent_resolver)
    with Asker(base_url="https://llm.example/v1", limits=Limits(0.2, 30.0, 5.0), retries=Retries(most=0)) as asker:
        answered = asker.ask()
        assert isinstance(answered.error, RemoteUnreachable)
        assert answered.took_s < 5
        assert asker.connectivity.state == "offline"


END = chunk(finish="stop")
AFTER_THE_END = {
    "cut": stream(chunk("Whole.") + END),
    "reset": reset(after=chunk("Whole.") + END),
    "stall": stalls_after(chunk("Whole.") + END),
    "trickle": trickle(EMPTY, beginning=chunk("Whole.") + END),
    "a body without end": trickle(b": \n\n", 0.001, beginning=chunk("Whole.") + END + DONE),
    "a body that is too short": lambda exchange: (
        exchange.head(headers={"Content-Length": "99999"}),
        exchange.send(chunk("Whole.") + END),
    ),
    "kept": kept(whole_stream("Whole.")),
}


@pytest.mark.parametrize("behaviour", AFTER_THE_END.values(), ids=AFTER_THE_END.keys())
def test_what_happens_after_the_end_takes_nothing_from_a_whole_answer(asked, behaviour):
    answered = asked(behaviour)
    assert (answered.error, answered.text, answered.finished.reason) == (None, "Whole.", "stop")
    assert answered.took_s < 5
    assert answered.connectivity == "online"


def test_a_body_that_is_too_short_is_cut_where_no_end_was_said(asked):
    answered = asked(lambda exchange: (exchange.head(headers={"Content-Length": "999"}), exchange.send(chunk("Half"))))
    assert (answered.text, answered.finished) == ("Half", None)
    assert "broke" in str(answered.error)


@pytest.mark.parametrize(
    "behaviour",
    [login_page(), redirect("http://login.example/"), status(511), stream(b"", headers={"Content-Type": "text/html"})],
)
def test_somebody_who_answers_in_the_remotes_name(asked, behaviour):
    answered = asked(behaviour)
    assert isinstance(answered.error, RemoteError)
    assert answered.connectivity == "captive"


def test_a_bomb_is_not_unpacked(asked):
    answered = asked(bomb())
    assert "compressed" in str(answered.error)
    assert answered.text == ""


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/octet-stream", "canary canary"])
def test_another_content_type_is_no_answer(asked, kind):
    answered = asked(stream(whole_stream("a"), headers={"Content-Type": kind}))
    assert "instead of a stream of events" in str(answered.error)
    assert "canary" not in str(answered.error)
    assert answered.connectivity == "degraded"


@pytest.mark.parametrize("piece", [1, 2, 3, 7])
def test_pieces_cut_anywhere_also_inside_a_character(asked, piece):
    answered = asked(stream(whole_stream("grüße ", "你好 ", "🙂 \u2028"), piece=piece))
    assert (answered.text, answered.error) == ("grüße 你好 🙂 \u2028", None)


@pytest.mark.parametrize("end", ["cut", "reset"])
def test_a_stream_that_ends_after_any_token_is_never_taken_for_whole(serve, end):
    tokens = [chunk(f"{index} ") for index in range(12)]
    for count in range(len(tokens) + 1):
        sent = b"".join(tokens[:count])
        server = serve(stream(sent) if end == "cut" else reset(after=sent))
        with Asker(server, retries=Retries(most=0)) as asker:
            answered = asker.ask()
        assert answered.finished is None
        assert isinstance(answered.error, RemoteError)
        assert "".join(f"{index} " for index in range(count)).startswith(answered.text)


def test_a_server_that_goes_down_and_comes_back_on_the_same_port():
    with LoopbackServer(answer("Here.")) as server, Asker(server, retries=Retries(most=0)) as asker:
        assert asker.ask().text == "Here."
        server.down()
        assert isinstance(asker.ask().error, RemoteUnreachable)
        server.up()
        assert asker.ask().text == "Here."


def test_a_chunk_with_several_choices_or_none(asked):
    both = b'data: {"choices": [{"delta": {"content": "a"}}, {"delta": {"content": "b"}}]}\n\n'
    answered = asked(stream(b'data: {"choices": []}\n\n' + both + delta(content="c") + END + DONE))
    assert answered.text == "abc"
