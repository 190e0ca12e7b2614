"""Answers that misbehave below the level of chat: bounded, refused, or without effect; never a surprise, never followed."""

import gzip
import time
import tracemalloc
import zlib

import pytest

import hybridllm.egress.transport  # noqa: F401 - here, so that the memory of importing httpx is not measured
from hybridllm import Remote
from hybridllm.egress.exchange import HEAD_BYTES
from hybridllm.errors import RemoteError, RemoteUnreachable
from tests.hybridllm.gate_harness import BODY, Sender, send_to
from tests.hybridllm.loopback import answer, endless, raw, status

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
MAX_MIB = 1 / 16
MOST_MEMORY_BYTES = 4 << 20


def remote_at(server, **more):
    return Remote(
        **{
            "base_url": server.base_url,
            "model": "m",
            "first_token_timeout_s": 1.0,
            "gap_timeout_s": 1.0,
            "max_response_mib": MAX_MIB,
            **more,
        }
    )


ENDLESS = {
    "a status line": endless(b"HTTP/1.1 200 ", b"k"),
    "no status line": endless(b"", b"k"),
    "a header's name": endless(OK, b"k"),
    "a header's value": endless(OK + b"X: ", b"v"),
    "headers": endless(OK, b"X: y\r\n"),
    "folded lines": endless(OK + b"X: y\r\n", b" y\r\n"),
    "informational answers": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "early hints": endless(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n"),
    "the body, until closed": endless(OK + b"\r\n", b"data: x\n\n"),
    "a chunk's size": endless(CHUNKED, b"1"),
    "a chunk's extension": endless(CHUNKED + b"1;", b"x"),
    "chunks": endless(CHUNKED, b"40\r\n" + b"x" * 64 + b"\r\n"),
    "extensions of many chunks": endless(CHUNKED, b"1;" + b"e" * 1000 + b"\r\nx\r\n"),
    "trailers": endless(CHUNKED + b"1\r\nx\r\n0\r\n", b"X: y\r\n"),
    "an error's body": endless(b"HTTP/1.1 400 Bad\r\n\r\n", b"x"),
}


@pytest.mark.parametrize("behaviour", ENDLESS.values(), ids=ENDLESS.keys())
def test_what_never_ends_is_bounded_in_memory_and_time(serve, behaviour):
    server = serve(behaviour)
    with Sender(remote_at(server)) as sender:
        began = time.monotonic()
        tracemalloc.start()
        try:
            with pytest.raises(RemoteError):
                sender.send()
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak_bytes < MOST_MEMORY_BYTES
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "head",
    [
        OK + b"X: " + b"v" * (1 << 20) + b"\r\n\r\n",
        OK + b"X: y\r\n" * 200_000 + b"\r\n",
        b"HTTP/1.1 100 C\r\n\r\n" * 10_000 + OK + b"\r\n",
    ],
    ids=["one of a MiB", "200,000", "10,000 informational answers"],
)
def test_a_head_that_is_too_large_is_an_error_even_if_it_ends(serve, head):
    assert len(head) > HEAD_BYTES
    with pytest.raises(RemoteError):
        send_to(remote_at(serve(raw(head))))


def test_a_large_head_and_a_few_informational_answers_are_fine(serve):
    head = b"HTTP/1.1 100 Continue\r\n\r\n" * 20 + OK + b"X: " + b"v" * 30_000 + b"\r\nContent-Length: 2\r\n\r\nab"
    sent = send_to(remote_at(serve(raw(head))))
    assert (sent.status, sent.body) == (200, b"ab")


def test_one_byte_for_each_chunk_is_fine(serve):
    body = b"".join(b"1\r\nx\r\n" for _ in range(4000))
    assert send_to(remote_at(serve(raw(CHUNKED, body, b"0\r\n\r\n")))).body == b"x" * 4000


@pytest.mark.parametrize("extra_bytes", [0, 1])
def test_the_largest_body(serve, extra_bytes):
    largest = int(MAX_MIB * (1 << 20)) + extra_bytes
    server = serve(raw(OK + f"Content-Length: {largest}\r\n\r\n".encode(), b"x" * largest))
    if extra_bytes:
        with pytest.raises(RemoteError, match=r"larger than 0\.0625 MiB"):
            send_to(remote_at(server))
    else:
        assert len(send_to(remote_at(server)).body) == largest


GARBAGE = {
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": b"<html>canary</html>\r\n\r\n",
    "a version of its own": b"HTTP/3.7 200 OK\r\n\r\n".replace(b"3.7", b"x.y"),
    "a status of letters": b"HTTP/1.1 abc OK\r\n\r\n",
    "a header without a colon": OK + b"canary\r\n\r\n",
    "a header with a space before the colon": OK + b"X : canary\r\n\r\n",
    "a zero byte in a header": OK + b"X: can\0ary\r\n\r\n",
    "a folded line first": b"HTTP/1.1 200 OK\r\n X: canary\r\n\r\n",
    "two lengths": OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "a length of letters": OK + b"Content-Length: canary\r\n\r\n",
    "a negative length": OK + b"Content-Length: -1\r\n\r\n",
    "a length of 5,000 digits": OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
    "fewer bytes than promised": OK + b"Content-Length: 10\r\n\r\ncanary",
    "transfer in gzip": OK + b"Transfer-Encoding: gzip\r\n\r\n" + gzip.compress(b"canary"),
    "transfer in gzip and chunks": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a chunk's size of letters": CHUNKED + b"canary\r\n",
    "a negative chunk": CHUNKED + b"-1\r\nx\r\n",
    "a chunk's size of 30 digits": CHUNKED + b"f" * 30 + b"\r\nx",
    "a chunk that is longer than it says": CHUNKED + b"2\r\ncanary\r\n0\r\n\r\n",
    "a chunk that is cut": CHUNKED + b"ff\r\ncanary",
    "no last chunk": CHUNKED + b"6\r\ncanary\r\n",
    "trailers that are none": CHUNKED + b"0\r\ncanary\r\n\r\n",
    "switching protocols": b"HTTP/1.1 101 Switching\r\nUpgrade: canary\r\nConnection: Upgrade\r\n\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("answered", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_is_a_clean_error_that_quotes_nothing(serve, answered):
    server = serve(raw(answered))
    with pytest.raises(RemoteError) as raised:
        send_to(remote_at(server))
    assert not isinstance(raised.value, RemoteUnreachable)
    error, texts = raised.value, []
    while error is not None:
        texts.append(f"{error!r} {error}")
        error = error.__cause__ or error.__context__
    assert "canary" not in " ".join(texts).lower()


COMPRESSED = {
    "gzip": gzip.compress(b"data: x\n\n"),
    "deflate": zlib.compress(b"data: x\n\n"),
    "br": b"\x0b\x04\x80data: x\n\n\x03",
    "zstd": b"\x28\xb5\x2f\xfd\x04\x58",
    "identity, gzip": gzip.compress(b"data: x\n\n"),
    "x-gzip": gzip.compress(b"data: x\n\n"),
    "GZIP": gzip.compress(b"\0" * (10 << 20)),
}


@pytest.mark.parametrize(("coding", "body"), COMPRESSED.items(), ids=COMPRESSED.keys())
def test_a_compressed_answer_is_not_unpacked(serve, coding, body):
    server = serve(raw(OK + f"Content-Encoding: {coding}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body))
    tracemalloc.start()
    try:
        with pytest.raises(RemoteError, match="compressed answer"):
            send_to(remote_at(server))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < MOST_MEMORY_BYTES
    assert server.exchanges[0].headers["accept-encoding"] == "identity"


def test_two_codings_in_two_headers(serve):
    server = serve(raw(OK + b"Content-Encoding: identity\r\nContent-Encoding: gzip\r\n\r\nx"))
    with pytest.raises(RemoteError, match="compressed answer"):
        send_to(remote_at(server))


@pytest.mark.parametrize("code", [300, 301, 302, 303, 305, 307, 308])
def test_nothing_arrives_where_a_redirect_leads(serve, code):
    elsewhere = serve(answer("From elsewhere."))
    server = serve(
        status(
            code, headers={"Location": f"{elsewhere.base_url}/chat/completions", "Refresh": f"0; {elsewhere.base_url}"}
        )
    )
    with Sender(remote_at(server)) as sender:
        sent = sender.send()
        assert sent.status == code
        assert sent.header("location") == ""
        assert sender.send().status == code
    assert len(server.exchanges) == 2
    assert elsewhere.connections == 0


@pytest.mark.parametrize("location", ["http://[", "//", "\x01", "http://h:99999", "x" * 10_000])
def test_a_location_that_is_none_is_no_harm(serve, location):
    assert send_to(remote_at(serve(status(302, headers={"Location": location})))).status == 302


def test_headers_that_ask_for_something_are_without_effect(serve):
    elsewhere = serve(answer())
    asking = {
        "Set-Cookie": "id=canary; Path=/",
        "Alt-Svc": f'http/1.1="127.0.0.1:{elsewhere.port}"; ma=86400, h2="127.0.0.1:{elsewhere.port}"; ma=86400',
        "Strict-Transport-Security": "max-age=86400; includeSubDomains",
        "Link": f"<{elsewhere.base_url}>; rel=preconnect",
        "Content-Location": elsewhere.base_url,
        "Proxy-Authenticate": "Basic realm=x",
        "WWW-Authenticate": "Basic realm=x",
        "Upgrade": "h2c",
        "Connection": "keep-alive",
        "Retry-After": "7",
    }
    head = OK + "".join(f"{name}: {value}\r\n" for name, value in asking.items()).encode()
    trailers = f"Set-Cookie: id=canary\r\nLocation: {elsewhere.base_url}\r\nContent-Type: text/html\r\n".encode()
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n" + trailers + b"\r\n"
    server = serve(raw(chunked))
    with Sender(remote_at(server)) as sender:
        for _ in range(2):
            sent = sender.send()
            assert (sent.status, sent.body) == (200, b"hello")
            assert sent.header("retry-after") == "7"
            assert sent.header("content-type") == "text/event-stream"
            assert sent.header("set-cookie") == sent.header("alt-svc") == ""
    assert elsewhere.connections == 0
    first, second = server.exchanges
    assert first.headers == second.headers
    assert set(first.headers) <= {
        "host", "accept", "accept-encoding", "connection", "user-agent", "content-type", "content-length",
    }  # fmt: skip
    assert first.body == second.body == BODY


def test_a_connection_is_used_again(serve):
    def behave(exchange):
        for number in range(3):
            asked = b"" if number else BODY
            while not asked.endswith(BODY):
                asked += exchange.connection.recv(65536)
            exchange.send(OK + b"Content-Length: 1\r\n\r\n" + str(number).encode())

    server = serve(behave)
    with Sender(remote_at(server)) as sender:
        assert [sender.send().body for _ in range(3)] == [b"0", b"1", b"2"]
    assert server.connections == 1


def test_401_does_not_make_httpx_send_the_body_again(serve):
    server = serve(status(401, headers={"WWW-Authenticate": 'Digest realm="x", nonce="y", qop="auth"'}))
    assert send_to(remote_at(server)).status == 401
    assert len(server.exchanges) == 1
