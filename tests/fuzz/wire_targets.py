"""What reads a server: its stream of events, and how long it asks us to wait."""

from __future__ import annotations

import math

from hybridllm.backends.retry_after import retry_after_s
from hybridllm.backends.sse import EventReader
from hybridllm.errors import RemoteError
from tests.fuzz.target import Target, check_message, promise
from tests.hybridllm.loopback import DONE, USAGE, chunk, whole_stream

_CUT_BYTES = 8
_NOW_S = 1_700_000_000.0


def _read(pieces):
    reader = EventReader()
    try:
        return [(event.name, event.data) for piece in pieces for event in reader.feed(piece)]
    except RemoteError as error:
        check_message(str(error), most_characters=200)
        return None


def check_sse(data):
    """The first bytes say where the stream is cut; the events may not depend on it."""
    cuts, stream = data[:_CUT_BYTES], data[_CUT_BYTES:]
    whole = _read([stream])
    pieces, at, index = [], 0, 0
    while at < len(stream):
        step = 1 + (cuts[index % len(cuts)] if cuts else 0)
        pieces.append(stream[at : at + step])
        at, index = at + step, index + 1
    promise(_read(pieces) == whole, "the events depend on where the stream was cut")
    promise(_read([bytes([byte]) for byte in stream]) == whole, "the events depend on where the stream was cut")
    for name, value in whole or ():
        promise(name and "\r" not in value, "an event has no name, or a line end in it")


def check_retry_after(data):
    seconds = retry_after_s(data.decode("utf-8", "surrogateescape"), _NOW_S)
    if seconds is not None:
        promise(isinstance(seconds, float) and math.isfinite(seconds) and seconds >= 0, "it is no time to wait")


def sse_seeds():
    streams = (
        whole_stream("Hello", " wörld"), USAGE + DONE, chunk("a", finish="stop").replace(b"\n", b"\r\n"), b"\xef\xbb\xbfdata: x\r\r",
        b": comment\nevent: error\ndata: a\ndata: b\n\n", b"data\n\ndata:\n\nid: 1\nretry: 5\n\n", b"data: \xff\n\n",
    )  # fmt: skip
    return [bytes([2, 0, 6, 1, 0, 0, 3, 9]) + stream for stream in streams]


def retry_after_seeds():
    return [
        b"0", b"120", b"999999999", b"1e3", b"-1", b" 5 ", b"Wed, 21 Oct 2015 07:28:00 GMT", b"Sun, 06 Nov 1994 08:49:37 -0000",
        b"Sunday, 06-Nov-94 08:49:37 GMT", b"Sun Nov  6 08:49:37 1994", b"Mon, 01 Jan 0001 00:00:00 +2359",
        b"Fri, 31 Dec 9999 23:59:59 -2359", "٣".encode(),
    ]  # fmt: skip


TARGETS = (
    Target(
        "sse",
        check_sse,
        sse_seeds,
        ("data: ", "event: ", "\r\n", "\n\n", "\r", ":", "[DONE]", "\ufeff", "\u2028", "\x0b"),
    ),
    Target(
        "retry-after",
        check_retry_after,
        retry_after_seeds,
        ("GMT", "-0000", "+2359", "Mon, ", " Jan ", "9999", "0000", "23:59:60"),
        most_bytes=128,
    ),
)
