"""Bodies in chunks, read by the gate's connection, against h11 alone: however they are cut, and whatever is wrong with them."""

import asyncio

import h11
import httpcore
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridllm.egress.http11 import DirectConnection

ORIGIN = httpcore.Origin(b"http", b"10.0.0.7", 80)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
TIMEOUTS = {"connect": 1.0, "read": 1.0, "write": 1.0, "pool": 1.0}


class Played(httpcore.AsyncNetworkBackend, httpcore.AsyncNetworkStream):
    """A connection over which these pieces come."""

    def __init__(self, pieces):
        self.pieces = [piece for piece in pieces if piece]

    async def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None):
        return self

    async def read(self, max_bytes, timeout=None):
        return self.pieces.pop(0) if self.pieces else b""

    async def write(self, buffer, timeout=None):
        pass

    async def aclose(self):
        pass

    def get_extra_info(self, info):
        return bool(self.pieces)


def ours(pieces):
    """The body, whether it is whole, and whether the connection can be used again."""

    async def go():
        over = []

        async def note(connection):
            over.append(connection)

        connection = DirectConnection(ORIGIN, Played(pieces), None, 5.0, note)
        request = httpcore.Request("POST", "http://10.0.0.7/", headers=[("host", "10.0.0.7")], content=b"")
        request.headers.append((b"content-length", b"0"))
        request.extensions = {"timeout": TIMEOUTS}
        body = b""
        try:
            response = await connection.handle_async_request(request)
            async for piece in response.stream:
                body += piece
            await response.aclose()
        except httpcore.RemoteProtocolError:
            return body, False, False
        assert over == [connection]
        return body, True, connection.is_idle() and not connection.has_expired()

    return asyncio.run(go())


def by_h11_alone(wire):
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="POST", target="/", headers=[("host", "h"), ("content-length", "0")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(wire)
    ended, body = False, b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Data):
                body += event.data
            elif event is h11.NEED_DATA:
                connection.receive_data(b"")
            elif isinstance(event, h11.EndOfMessage):
                ended = True
                break
            elif not isinstance(event, h11.Response):
                break
    except h11.RemoteProtocolError:
        return body, False, False
    reusable = ended and connection.their_state is h11.DONE and not connection.trailing_data[0]
    return body, ended, reusable


def cut(wire, sizes):
    pieces, at = [], 0
    for size in sizes:
        pieces.append(wire[at : at + size])
        at += size
    return [*pieces, wire[at:]]


chunks = st.lists(st.binary(min_size=1, max_size=40), max_size=8)
sizes = st.lists(st.integers(1, 30), max_size=30)


def framed(contents, last=b"0\r\n\r\n"):
    return HEAD + b"".join(b"%x\r\n%b\r\n" % (len(content), content) for content in contents) + last


@given(chunks, sizes)
def test_chunks_however_they_are_cut(contents, sizes):
    wire = framed(contents)
    assert ours(cut(wire, sizes)) == (b"".join(contents), True, True) == by_h11_alone(wire)


@given(chunks, sizes, st.integers(0, 400), st.sampled_from([b"", b"0", b"\r", b"\n", b"x", b";e=1", b"\r\n", b"fff"]))
def test_one_mistake_somewhere_is_what_h11_says_it_is(contents, sizes, where, mistake):
    whole = framed(contents)
    at = len(HEAD) + where % (len(whole) - len(HEAD))
    wire = whole[:at] + mistake + whole[at + (0 if mistake else 1) :]
    body, is_whole, again = ours(cut(wire, sizes))
    expected, should_be_whole, may_be_used = by_h11_alone(wire)
    assert is_whole == should_be_whole
    assert again == may_be_used
    assert body == expected if is_whole else body.startswith(expected) or expected.startswith(body)


@pytest.mark.parametrize(
    "last",
    [
        b"0\r\nX: y\r\nZ: 1\r\n\r\n",
        b"000\r\n\r\n",
        b"0;last\r\n\r\n",
        b"3;ext=1\r\nabc\r\n0\r\n\r\n",
        b"00000003\r\nabc\r\n0\r\n\r\n",
    ],
)
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_what_is_not_plain_is_h11s(last, step):
    wire = framed([b"one", b"two"], last)
    assert ours(cut(wire, [step] * len(wire))) == by_h11_alone(wire)
    assert by_h11_alone(wire)[1]


@pytest.mark.parametrize("more", [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"x"])
def test_a_connection_over_which_more_came_than_was_asked_for_is_not_used_again(more):
    assert ours([framed([b"one"]) + more]) == (b"one", True, False)


def test_informational_answers_and_a_head_in_single_bytes():
    wire = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + framed([b"one", b"two"])
    assert ours(cut(wire, [1] * len(wire))) == (b"onetwo", True, True)
    assert ours([wire.replace(b"\r\n\r\n", b"\n\n", 2).replace(b"\r\n", b"\n", 2), b""])[0] == b"onetwo"
