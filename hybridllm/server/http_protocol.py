"""Connections: uvicorn's, with a limit of time for heads and for what a client leaves unread, and with errors as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from hybridllm.server.problems import Problem

if TYPE_CHECKING:
    import asyncio

    from starlette.types import ASGIApp

    from hybridllm.server.settings import ServerSettings

__all__ = ["Connection", "ConnectionConfig"]

_MOST_GATHERED_BYTES = 64 * 1024


class ConnectionConfig(uvicorn.Config):
    """Uvicorn's configuration with the server's settings in it.

    Nothing is taken from proxies' headers, nothing is logged by uvicorn, whose log could quote a request, and the server does
    not say what it is made of.

    Args:
        app: The application.
        settings: The server's settings.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self.settings = settings
        super().__init__(
            app,
            host="127.0.0.1" if settings.host == "localhost" else settings.host,
            port=settings.port,
            http=Connection,
            ws="none",
            lifespan="off",
            loop="none",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=settings.keep_alive_s,
            timeout_graceful_shutdown=1,  # the running answers have had their time by then
        )


class _GatheringTransport:
    """A transport that sends together what is written in one turn of the event loop: the head of a response, its body, its end.

    Args:
        below: Sends it.
        loop: Whose turns are meant.
    """

    def __init__(self, below: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._below = below
        self._loop = loop
        self._written = bytearray()

    def write(self, data: bytes) -> None:
        """Send at the end of this turn; or now, if it is so much that the client's pace should be felt."""
        if data and not self._written:
            self._loop.call_soon(self._flush)
        self._written += data
        if len(self._written) > _MOST_GATHERED_BYTES:
            self._flush()

    def close(self) -> None:
        """End the connection when everything was sent."""
        self._flush()
        self._below.close()

    def abort(self) -> None:
        """End it at once."""
        self._written.clear()
        self._below.abort()

    def get_write_buffer_size(self) -> int:
        """Bytes that were not sent yet."""
        return len(self._written) + self._below.get_write_buffer_size()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._below, name)

    def _flush(self) -> None:
        if self._written and not self._below.is_closing():
            self._below.write(bytes(self._written))
        self._written.clear()


class Connection(HttpToolsProtocol):
    """One connection."""

    config: ConnectionConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._in_head = False
        self._heads = 0
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the base class
        """Take it, unless there are too many."""
        super().connection_made(cast("asyncio.Transport", _GatheringTransport(transport, self.loop)))
        if len(self.connections) > self.config.settings.max_connections:
            transport.abort()
            return
        self._watch_for_a_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._cancel(self._head_timer, self._unread_timer)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; a head that has begun has its time to become whole, and so has what follows a request that was refused."""
        heads = self._heads
        super().data_received(data)
        if self.transport.is_closing():
            return
        # Where a head begins in what was read with the end of a body, only what comes from then on is counted.
        self._head_bytes = self._head_bytes + len(data) if self._in_head and heads == self._heads else 0
        limit_bytes = self.config.settings.head_limit_bytes
        if self._head_bytes > limit_bytes:
            self._refuse(Problem(431, f"The request's head is larger than {limit_bytes} bytes.", code="head_too_large"))
            return
        self._watch_for_a_head()

    def on_message_begin(self) -> None:
        """A head begins."""
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """A head is whole."""
        self._in_head = False
        self._heads += 1
        super().on_headers_complete()

    def pause_writing(self) -> None:
        """The client does not read what it is sent."""
        super().pause_writing()
        self._cancel(self._unread_timer)
        self._unread_timer = self.loop.call_later(self.config.settings.send_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads again."""
        self._cancel(self._unread_timer)
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """End an idle connection; one whose client has not even read the last response is not waited for."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP; the connection ends with it."""
        self._refuse(Problem(400, "What came is not an HTTP request.", code="invalid_http"))

    def _watch_for_a_head(self) -> None:
        waits = self.cycle is None or self.cycle.response_complete
        if not waits:
            self._cancel(self._head_timer)
            self._head_timer = None
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(self.config.settings.head_timeout_s, self._no_head)

    def _no_head(self) -> None:
        if self.transport.is_closing():
            return
        if self._in_head:
            seconds = self.config.settings.head_timeout_s
            self._refuse(Problem(408, f"The head was not whole within {seconds:g} s.", code="request_timeout"))
        else:
            self.transport.close()

    def _refuse(self, problem: Problem) -> None:
        if self.cycle is None or self.cycle.response_complete:  # else it would stand in the middle of another response
            body = problem.body()
            head = [
                STATUS_LINE[problem.status],
                b"content-type: application/json\r\n",
                b"content-length: %d\r\n" % len(body),
                b"connection: close\r\n\r\n",
            ]
            self.transport.write(b"".join(head) + body)
        self.transport.close()

    @staticmethod
    def _cancel(*timers: asyncio.TimerHandle | None) -> None:
        for timer in timers:
            if timer is not None:
                timer.cancel()
