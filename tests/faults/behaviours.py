"""HTTP servers' misbehaviour beyond that of ``tests.hybridllm.loopback``."""

from __future__ import annotations

import gzip
import json
import time
from email.utils import formatdate

from tests.hybridllm.loopback import Behaviour, Exchange, status

EMPTY = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": null}]}\n\n'
COMMENT = b": still here\n\n"
ERROR_EVENT = b'event: error\ndata: {"error": {"message": "said by the server", "code": "overloaded"}}\n\n'


def trickle(beginning: bytes, piece: bytes, every_s: float = 0.02) -> Behaviour:
    """A beginning, and then for ever the same piece, slowly."""

    def behave(exchange: Exchange) -> None:
        exchange.head()
        exchange.send(beginning)
        while not exchange.server.stopping.is_set():
            exchange.send(piece)
            exchange.wait(every_s)

    return behave


def flood(beginning: bytes, piece: bytes) -> Behaviour:
    """A beginning, and then for ever the same piece, as fast as it is read."""

    def behave(exchange: Exchange) -> None:
        exchange.head()
        exchange.send(beginning)
        many = piece * max(1, 65536 // len(piece))
        while not exchange.server.stopping.is_set():
            exchange.send(many)

    return behave


def late(behaviour: Behaviour, seconds: float) -> Behaviour:
    """A behaviour that begins later."""

    def behave(exchange: Exchange) -> None:
        exchange.wait(seconds)
        if not exchange.server.stopping.is_set():
            behaviour(exchange)

    return behave


def bomb(mib: int = 16) -> Behaviour:
    """A compressed body that nobody asked for; unpacked it has so many MiB."""
    packed = gzip.compress(b"data: " + b"x" * (mib << 20))

    def behave(exchange: Exchange) -> None:
        exchange.head(headers={"Content-Encoding": "gzip", "Content-Length": str(len(packed))})
        exchange.send(packed)

    return behave


def refused_with(code: int, error: str, headers: dict[str, str] | None = None) -> Behaviour:
    """A status with an error's code in the body, and a message that must appear nowhere."""
    return status(code, json.dumps({"error": {"message": "said by the server", "code": error}}).encode(), headers)


def in_a_second(code: int) -> Behaviour:
    """A status whose ``Retry-After`` is a date, a second or two from now."""

    def behave(exchange: Exchange) -> None:
        status(code, headers={"Retry-After": formatdate(time.time() + 1.5, usegmt=True)})(exchange)

    return behave


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> Behaviour:
    """A body in HTTP's chunked coding; with another ``end`` it was cut (RFC 9112, section 7.1)."""

    def behave(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in pieces:
            exchange.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        exchange.send(end)

    return behave


def shorter_than_said(data: bytes, missing: int) -> Behaviour:
    """A body that ends so many bytes before the length that its head gave."""

    def behave(exchange: Exchange) -> None:
        exchange.head(headers={"Content-Length": str(len(data) + missing)})
        exchange.send(data)

    return behave
