"""One connection straight to a remote, speaking HTTP/1.1 with h11.

httpcore's own gives an answer's body out chunk by chunk, each through three generators. This one gives out at once what came at
once, and takes the plain chunks among it apart itself. Connections through a proxy are httpcore's.
"""

from __future__ import annotations

import contextlib
import re
import time
from enum import Enum
from typing import TYPE_CHECKING, cast

import h11
import httpcore

from hybridllm.egress.chunked import PlainChunks

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable

__all__ = ["DirectConnection"]

_READ_BYTES = 64 * 1024
_LONGEST_HEAD_BYTES = 100 * 1024
_BLANK_LINE = re.compile(rb"\n\r?\n")  # as h11 has it: it takes line ends without CR too
_LONGEST_BLANK_LINE = 2  # of which the last byte is still to come


class _State(Enum):
    NEW = "new"
    ACTIVE = "active"
    IDLE = "idle"
    CLOSED = "closed"


class DirectConnection:
    """A connection, made with the first request.

    Args:
        origin: Where it leads.
        backend: Makes it.
        context: Whom to trust over TLS; None for plain http.
        idle_s: Seconds for which it may be kept without a request.
        on_over: Told when an answer is over, read to its end or not.
    """

    def __init__(
        self,
        origin: httpcore.Origin,
        backend: httpcore.AsyncNetworkBackend,
        context: ssl.SSLContext | None,
        idle_s: float,
        on_over: Callable[[DirectConnection], Awaitable[None]],
    ) -> None:
        self._on_over = on_over
        self._origin = origin
        self._backend = backend
        self._context = context
        self._idle_s = idle_s
        self._state = _State.NEW
        self._stream: httpcore.AsyncNetworkStream | None = None
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_LONGEST_HEAD_BYTES)
        self._body_is_whole = False
        self._chunks: PlainChunks | None = None
        self._unread = b""
        self._head_tail = b""  # the last bytes that h11 got of a head
        self._idle_until_s = 0.0

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        """Send a request and read the head of the answer; closes the connection where that fails."""
        self._state, self._body_is_whole = _State.ACTIVE, False
        self._chunks, self._unread, self._head_tail = None, b"", b""
        timeouts = request.extensions["timeout"]
        try:
            if self._stream is None:
                self._stream = await self._connected(timeouts["connect"])
                self._require_open()
            # A server that refuses a request may close before all of it was sent, and its answer says why.
            with contextlib.suppress(httpcore.WriteError):
                await self._send(request, self._stream, timeouts["write"])
            head = await self._head(self._stream, timeouts["read"])
        except BaseException:
            await self.aclose()
            raise
        response = httpcore.Response(head.status_code, content=_Body(self, timeouts["read"]))
        response.headers = head.headers.raw_items()
        return response

    async def read_body(self, timeout_s: float) -> bytes:
        """What has come of the body, at least one byte; nothing at its end."""
        assert self._stream is not None
        if self._chunks is not None:
            content = await self._read_chunks(self._chunks, self._stream, timeout_s)
            if content:
                return content
        came: list[bytes] = []
        while not self._body_is_whole:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                if came:  # the same error comes with the next call
                    return b"".join(came)
                raise httpcore.RemoteProtocolError from error
            if isinstance(event, h11.Data):
                came.append(event.data)
            elif event is not h11.NEED_DATA:
                self._body_is_whole = True
            elif came:
                break
            else:
                self._http.receive_data(await self._stream.read(_READ_BYTES, timeout_s))
        return b"".join(came)

    async def _read_chunks(self, chunks: PlainChunks, stream: httpcore.AsyncNetworkStream, timeout_s: float) -> bytes:
        """The content of the chunks that have come, as long as they are plain; nothing where h11 has to go on."""
        while not chunks.broken:
            data, self._unread = self._unread or await stream.read(_READ_BYTES, timeout_s), b""
            content = chunks.take(data)
            if chunks.over or not data:
                self._chunks = None
                self._http.receive_data(chunks.over)  # to h11 the body begins here; without anything it was cut
            if content or self._chunks is None:
                return content
        raise httpcore.RemoteProtocolError

    async def end_response(self) -> None:
        """The answer was read, or nobody wants the rest: then the connection cannot be used again."""
        done = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        try:
            if self._state is _State.ACTIVE and done and not self._http.trailing_data[0]:
                self._http.start_next_cycle()
                self._state = _State.IDLE
                self._idle_until_s = time.monotonic() + self._idle_s
            else:
                await self.aclose()
        finally:
            await self._on_over(self)

    async def aclose(self) -> None:
        """Close at once."""
        self._state = _State.CLOSED
        if self._stream is not None:
            await self._stream.aclose()

    # ---- what the pool asks ----

    def has_expired(self) -> bool:
        """Whether it was kept too long, or the other side has closed it; between two answers there is nothing else to read."""
        if self._state is not _State.IDLE or self._stream is None:
            return False
        return time.monotonic() > self._idle_until_s or bool(self._stream.get_extra_info("is_readable"))

    def is_idle(self) -> bool:
        """Whether no request is under way."""
        return self._state is _State.IDLE

    # ---- the way ----

    async def _connected(self, timeout_s: float) -> httpcore.AsyncNetworkStream:
        host = self._origin.host.decode("ascii")
        stream = await self._backend.connect_tcp(host, self._origin.port, timeout=timeout_s)
        if self._context is None:
            return stream
        return await stream.start_tls(self._context, server_hostname=host, timeout=timeout_s)

    def _require_open(self) -> None:
        """Nothing is sent over a connection that came about after everything was closed."""
        if self._state is _State.CLOSED:
            raise httpcore.ConnectError

    async def _send(self, request: httpcore.Request, stream: httpcore.AsyncNetworkStream, timeout_s: float) -> None:
        head = h11.Request(method=request.method, target=request.url.target, headers=request.headers)
        await stream.write(self._http.send(head) or b"", timeout_s)
        async for piece in cast("AsyncIterable[bytes]", request.stream):
            await stream.write(self._http.send(h11.Data(data=piece)) or b"", timeout_s)
        await stream.write(self._http.send(h11.EndOfMessage()) or b"", timeout_s)

    async def _head(self, stream: httpcore.AsyncNetworkStream, timeout_s: float) -> h11.Response:
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                raise httpcore.RemoteProtocolError from error
            if isinstance(event, h11.Response):
                self._begin_body(event)
                return event
            if event is h11.NEED_DATA:
                await self._read_head(stream, timeout_s)
            elif not isinstance(event, h11.InformationalResponse):
                raise httpcore.RemoteProtocolError

    async def _read_head(self, stream: httpcore.AsyncNetworkStream, timeout_s: float) -> None:
        """Give h11 what came up to the end of a head, and keep what follows."""
        data = self._unread or await stream.read(_READ_BYTES, timeout_s)
        self._head_tail, tail = (self._head_tail + data)[-_LONGEST_BLANK_LINE:], self._head_tail
        blank = _BLANK_LINE.search(tail + data)
        end = len(data) if blank is None else blank.end() - len(tail)
        if blank is not None:
            self._head_tail = b""
        self._unread = data[end:]
        self._http.receive_data(data[:end])

    def _begin_body(self, head: h11.Response) -> None:
        plain = head.status_code == 200 and (b"transfer-encoding", b"chunked") in list(head.headers)
        self._chunks = PlainChunks() if plain else None
        if not plain and self._unread:
            self._http.receive_data(self._unread)
            self._unread = b""


class _Body:
    """An answer's body, as httpcore's pool hands it on."""

    def __init__(self, connection: DirectConnection, timeout_s: float) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._ended = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while piece := await self._connection.read_body(self._timeout_s):
                yield piece
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """The end of the answer."""
        if not self._ended:
            self._ended = True
            await self._connection.end_response()
