"""What the server bears: long bodies and heads, slow clients, too many requests and connections."""

import contextlib
import socket
import time

import pytest

from hybridllm.testing import ScriptedReply
from tests.server.live_server import HELD, QUESTION, LiveServer, read_all, until

BODY = b'{"messages": [{"role": "user", "content": "x"}]}'
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def server():
    with LiveServer(lambda _: "At nine.", body_limit_bytes=20_000, head_limit_bytes=4096) as running:
        yield running


@pytest.fixture(scope="module")
def impatient():
    with LiveServer(lambda _: "At nine.", head_timeout_s=0.3, body_timeout_s=0.3, keep_alive_s=1) as running:
        yield running


def said(connection, data):
    """The whole answer to some bytes."""
    connection.sendall(data)
    return read_all(connection)


def answers(server):
    """Whether it answers on a further connection."""
    try:
        return server.request("GET", "/livez").status == 200
    except ConnectionError:
        return False


def test_a_body_up_to_the_limit(server):
    fits = b'{"messages": [{"role": "user", "content": "%s"}]}'
    body = fits % (b"x" * (20_000 - len(fits) + 2))
    assert len(body) == 20_000
    kind = {"Content-Type": "application/json"}
    assert server.request("POST", "/v1/chat/completions", body, kind).status == 200
    reply = server.request("POST", "/v1/chat/completions", body + b" ", kind)
    assert (reply.status, reply.error["code"]) == (413, "body_too_large")


def test_a_body_that_does_not_say_how_long_it_is_is_counted(server):
    piece = b"1000\r\n" + b" " * 0x1000 + b"\r\n"
    with server.connect() as connection:
        answer = said(connection, HEAD + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + piece * 8)
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_client_that_asks_first_is_told_before_it_sends_a_long_body(server):
    with server.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: 20001\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")
    with server.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(BODY))
        assert connection.recv(4096).startswith(b"HTTP/1.1 100 ")
        connection.sendall(BODY)
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "extra", [b"X-Long: " + b"x" * 5000 + b"\r\n", b"X-Long: x\r\n" * 101, b"X-Long: " + b"x" * 2**20]
)
@pytest.mark.parametrize("piece_bytes", [2**21, 1000])
def test_a_head_that_is_too_long_is_refused(server, extra, piece_bytes):
    data = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + extra + b"\r\n"
    with server.connect() as connection:
        with contextlib.suppress(ConnectionError):  # it need not listen to the end
            for start in range(0, len(data), piece_bytes):
                connection.sendall(data[start : start + piece_bytes])
        answer = read_all(connection)
    # Whoever goes on sending meanwhile may lose the answer, as a closed connection's other side resets it.
    assert answer.startswith(b"HTTP/1.1 431 ") or (answer == b"" and len(data) > min(piece_bytes, 2**16))
    assert server.request("GET", "/livez").status == 200


def test_a_long_address_is_too_long_a_head(server):
    assert server.request("GET", "/" + "x" * 5000).status == 431


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"HELLO\r\n\r\n",
                                  b"GET / HTTP/1.1\r\n\r\n", HEAD + b"Content-Length: x\r\n\r\n",
                                  HEAD + b"Host: other\r\n\r\n"])  # fmt: skip
def test_what_is_no_http_gets_one_answer(server, data):
    with server.connect() as connection:
        answer = said(connection, data)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"code": "invalid_http"' in answer


def test_a_head_that_does_not_come_ends_the_connection(impatient):
    with impatient.connect() as connection:
        assert read_all(connection) == b""
    with impatient.connect() as connection:
        answer = said(connection, b"GET /livez HTTP/1.1\r\nHost: lo")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"request_timeout" in answer


def test_a_head_that_comes_byte_by_byte_does_not_keep_the_connection(impatient):
    began_s = time.monotonic()
    with impatient.connect() as connection, contextlib.suppress(ConnectionError):
        for byte in b"GET /livez HTTP/1.1\r\nX-Slow: " + b"x" * 4000:
            connection.sendall(bytes([byte]))
            time.sleep(0.01)
    assert time.monotonic() - began_s < 30


def test_a_second_head_has_its_time_too(impatient):
    with impatient.connect() as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
        answer = said(connection, b"GET /livez HTTP/1.1\r\n")
    assert b"HTTP/1.1 408 " in answer


def test_an_idle_connection_ends(impatient):
    with impatient.connect() as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b'{"alive":true}' in read_all(connection)


def test_a_body_that_does_not_come_frees_its_place(impatient):
    with impatient.connect() as connection:
        answer = said(connection, HEAD + b"Content-Length: 100\r\n\r\n{")
        assert answer.startswith(b"HTTP/1.1 408 ")
    until(lambda: not impatient.work._slots, "the place's end")


def test_what_follows_a_refused_request_is_not_read_for_ever(impatient):
    with impatient.connect() as connection:
        connection.sendall(b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 404 ")
        began_s = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - began_s < 30:
                connection.sendall(b"x")
                time.sleep(0.02)
        assert time.monotonic() - began_s < 30


def test_one_more_request_than_there_may_be_is_told_to_come_back():
    held = [ScriptedReply("late", first_token_s=HELD)] * 2
    with LiveServer(held, max_requests=2) as server, contextlib.ExitStack() as stack:
        for _ in held:
            connection = stack.enter_context(server.connect())
            connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY))
        until(lambda: len(server.backend.requests) == 2, "two requests")
        reply = server.ask()
        assert (reply.status, reply.error["code"]) == (429, "overloaded")
        assert int(reply.headers["retry-after"]) >= 1
        assert [server.request("GET", path).status for path in ("/livez", "/readyz", "/v1/models")] == [200, 200, 200]
        stack.close()
        until(lambda: not server.work._slots, "the end of both")
        assert server.backend.cancelled == 2


def test_one_more_connection_than_there_may_be_is_closed():
    with LiveServer(lambda _: "x", max_connections=2) as server:
        with server.connect() as first, server.connect() as second, server.connect() as third:
            assert read_all(third) == b""
            for connection in (first, second):
                connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                assert b"alive" in read_all(connection)
        until(lambda: answers(server), "a connection")


def test_a_client_that_does_not_read_is_not_waited_for():
    endless = ScriptedReply("word " * 400_000)
    with LiveServer([endless], send_timeout_s=0.5) as server, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        body = b'{"stream": true, "messages": [{"role": "user", "content": "x"}]}'
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        until(lambda: server.backend.cancelled == 1, "the answer's end")
        until(lambda: not server.work._slots, "the place's end")


def test_pipelined_requests_are_answered_in_order(server):
    with server.connect() as connection:
        one = HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
        last = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        answer = said(connection, one + one + last)
    assert answer.count(b"HTTP/1.1 200 ") == 3
    assert answer.count(b"At nine.") == 2
    assert answer.index(b"alive") > answer.rindex(b"At nine.")


def test_a_question_on_each_of_many_connections(server):
    asked = len(server.backend.requests)
    for _ in range(50):
        assert server.ask(messages=QUESTION).status == 200
    assert len(server.backend.requests) == asked + 50


def test_a_client_that_goes_away_in_the_middle_of_its_body_frees_its_place(server):
    with server.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n{")
        until(lambda: len(server.work._slots) == 1, "the request")
    until(lambda: not server.work._slots, "its end")
    assert server.ask().status == 200
