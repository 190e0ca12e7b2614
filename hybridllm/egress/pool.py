"""The connections straight to one remote, kept for the next request.

httpcore's own pool looks through all connections and locks twice for every request, for it serves many hosts and several versions
of HTTP: some 0.2 ms a request, where all that the client adds shall be 0.5. Requests through a proxy go through httpcore's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpcore

from hybridllm.egress.http11 import DirectConnection

if TYPE_CHECKING:
    import ssl

__all__ = ["DirectPool"]


class DirectPool:
    """Connections to one origin, over HTTP/1.1; of the idle ones, the one that was used last is used first.

    Args:
        backend: Makes the connections.
        context: Whom to trust over TLS; None for plain http.
        most: Requests that may be under way at a time; others wait.
        most_idle: Connections that are kept without a request.
        idle_s: Seconds for which one is kept.
    """

    def __init__(
        self,
        backend: httpcore.AsyncNetworkBackend,
        context: ssl.SSLContext | None,
        *,
        most: int,
        most_idle: int,
        idle_s: float,
    ) -> None:
        self._backend = backend
        self._context = context
        self._most_idle = most_idle
        self._idle_s = idle_s
        self._places = asyncio.Semaphore(most)
        self._idle: list[DirectConnection] = []
        self._active: set[DirectConnection] = set()
        self._closed = False

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        """Send a request and read the head of the answer, which has to be closed.

        Raises:
            httpcore.PoolTimeout: Too many others were under way for too long.
            httpcore.ConnectError: There is no connection, or everything was closed meanwhile.
        """
        await self._place(request.extensions["timeout"]["pool"])
        connection: DirectConnection | None = None
        try:
            if self._closed:
                raise httpcore.ConnectError
            connection = await self._kept()
            if connection is None:
                connection = DirectConnection(
                    request.url.origin, self._backend, self._context, self._idle_s, self._over
                )
            self._active.add(connection)
            return await connection.handle_async_request(request)
        except BaseException:
            if connection is not None:  # which has closed itself
                self._active.discard(connection)
            self._places.release()
            raise

    async def aclose(self) -> None:
        """Close all connections; afterwards none is made."""
        self._closed = True
        idle, self._idle = self._idle, []
        for connection in (*idle, *self._active):
            await connection.aclose()

    async def _place(self, timeout_s: float) -> None:
        if not self._places.locked():
            await self._places.acquire()  # is there at once
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self._places.acquire()
        except TimeoutError:
            raise httpcore.PoolTimeout from None

    async def _kept(self) -> DirectConnection | None:
        """The connection that was used last, if it can be used again."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.has_expired():
                return connection
            await connection.aclose()
        return None

    async def _over(self, connection: DirectConnection) -> None:
        """An answer is over, whatever became of it."""
        self._active.discard(connection)
        self._places.release()
        if connection.is_idle():
            self._idle.append(connection)
        while self._idle and (len(self._idle) > self._most_idle or self._idle[0].has_expired()):
            await self._idle.pop(0).aclose()
