"""Connections: uvicorn's, with a limit of time for heads and for what a client leaves unread, and with errors as JSON."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, cast

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

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
            h11_max_incomplete_event_size=settings.head_limit_bytes,
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


class Connection(H11Protocol):
    """One connection."""

    config: ConnectionConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None

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
        super().data_received(data)
        self._watch_for_a_head()

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
        """Answer what is no HTTP, or a head that is too long; the connection ends with it."""
        error = sys.exc_info()[1]
        if isinstance(error, h11.RemoteProtocolError) and error.error_status_hint == 431:
            limit_bytes = self.config.settings.head_limit_bytes
            self._refuse(Problem(431, f"The request's head is larger than {limit_bytes} bytes.", code="head_too_large"))
        else:
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
        begun, _closed = self.conn.trailing_data
        if begun and self.conn.our_state is h11.IDLE:
            seconds = self.config.settings.head_timeout_s
            self._refuse(Problem(408, f"The head was not whole within {seconds:g} s.", code="request_timeout"))
        else:
            self.transport.close()

    def _refuse(self, problem: Problem) -> None:
        body = problem.body()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            response = h11.Response(
                status_code=problem.status, headers=headers, reason=STATUS_PHRASES.get(problem.status, b"")
            )
            for event in (response, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    @staticmethod
    def _cancel(*timers: asyncio.TimerHandle | None) -> None:
        for timer in timers:
            if timer is not None:
                timer.cancel()
