"""httpx's transport over httpcore: connects to checked addresses only, and passes on next to nothing of an answer's head."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote_to_bytes, urlsplit

import httpcore
import httpx

from hybridllm.egress.exchange import Exchange, count_read
from hybridllm.egress.failures import mapped_errors, unreachable
from hybridllm.egress.trust import tls_context
from hybridllm.errors import AddressRefused, PolicyTightened, PrivacyViolation

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable

    from hybridllm.addresses import IPAddress
    from hybridllm.egress.destination import Destination
    from hybridllm.remote import Remote

__all__ = ["KEPT_HEADERS", "CheckedTransport"]

KEPT_HEADERS = frozenset({b"content-type", b"content-encoding", b"retry-after"})
"""Headers of an answer that somebody reads; without the others there is no redirect, cookie or other service to act on."""

_MAX_CONNECTIONS = 200
_MAX_IDLE_CONNECTIONS = 8
_IDLE_S = 5.0


class CheckedTransport(httpx.AsyncBaseTransport):
    """Sends to one remote over connections to its first hop.

    Args:
        remote: The remote.
        hop: Its first hop.
        max_body_bytes: The largest body of an answer.

    Raises:
        BadRequest: The file with certificate authorities cannot be read.
    """

    def __init__(self, remote: Remote, hop: Destination, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._pool = _pool(remote, _CheckedBackend(hop))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and read the head of the answer.

        Raises:
            AddressRefused: The connection would go to an address that is not allowed.
            RemoteUnreachable: There is no connection.
            RemoteError: The connection broke, or the head is larger than allowed.
        """
        exchange = Exchange(self._max_body_bytes)
        sent = httpcore.Request(
            method=request.method,
            url=httpcore.URL(
                scheme=request.url.raw_scheme,
                host=request.url.raw_host,
                port=request.url.port,
                target=request.url.raw_path,
            ),
            headers=request.headers.raw,
            content=request.stream,
            extensions={"timeout": request.extensions["timeout"]},
        )
        with mapped_errors(), exchange.under_way():
            response = await self._pool.handle_async_request(sent)
        exchange.head_is_whole()
        return httpx.Response(
            # Without the phrase that the server put beside the number, which httpx would log.
            status_code=response.status,
            headers=[(name, value) for name, value in response.headers if name.lower() in KEPT_HEADERS],
            stream=_Body(response, exchange),
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()


class _Body(httpx.AsyncByteStream):
    """An answer's body, counted."""

    def __init__(self, response: httpcore.Response, exchange: Exchange) -> None:
        self._response = response
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async with aclosing(cast("AsyncGenerator[bytes, None]", self._response.aiter_stream())) as pieces:
            while True:
                with mapped_errors(), self._exchange.under_way():
                    try:
                        piece = await anext(pieces)
                    except StopAsyncIteration:
                        return
                yield piece

    async def aclose(self) -> None:
        with mapped_errors(), self._exchange.under_way():
            await self._response.aclose()


class _CheckedBackend(httpcore.AsyncNetworkBackend):
    """Opens connections to one host and port, at addresses that were checked."""

    def __init__(self, hop: Destination) -> None:
        self._hop = hop
        self._below = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to an address that was checked."""
        if (host.lower(), port) != (self._hop.host, self._hop.port):
            raise PrivacyViolation("Nothing was sent: the connection would go to another host.")
        try:
            stream, address = await self._hop.connect(self._open_at, timeout or 0.0)
        except OSError as error:
            raise unreachable(error) from None
        return _CheckedStream(stream, self._hop, address)

    async def _open_at(self, address: str, timeout_s: float) -> httpcore.AsyncNetworkStream:
        try:
            return await self._below.connect_tcp(address, self._hop.port, timeout=timeout_s)
        except httpcore.ConnectTimeout as error:
            raise TimeoutError from error
        except httpcore.ConnectError as error:
            raise ConnectionError from error

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Never: a remote is reached over TCP."""
        raise PrivacyViolation("Nothing was sent: the connection would go to a socket file.")

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


class _CheckedStream(httpcore.AsyncNetworkStream):
    """A connection that is counted, and checked again whenever something is written: the policy may have become stricter."""

    def __init__(self, below: httpcore.AsyncNetworkStream, hop: Destination, address: IPAddress) -> None:
        self._below = below
        self._hop = hop
        self._address = address

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = await self._below.read(max_bytes, timeout)
        count_read(len(data))
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            self._hop.check(self._address)
        except AddressRefused as refused:  # it was allowed when the connection was made
            raise PolicyTightened(refused.message, refused.mend) from None
        await self._below.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._below.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        try:
            below = await self._below.start_tls(ssl_context, server_hostname, timeout)
        except BaseException:  # httpcore closes it for errors only, not where the handshake is cancelled
            await self._below.aclose()
            raise
        return _CheckedStream(below, self._hop, self._address)

    def get_extra_info(self, info: str) -> Any:
        return self._below.get_extra_info(info)


def _pool(remote: Remote, backend: httpcore.AsyncNetworkBackend) -> httpcore.AsyncConnectionPool:
    # Where no TLS is spoken, none is prepared: reading authorities for nothing would cost 30 ms.
    context = None if remote.plain_http else tls_context(remote.ca_file)
    if remote.proxy is None:
        return httpcore.AsyncConnectionPool(
            ssl_context=context,
            network_backend=backend,
            max_connections=_MAX_CONNECTIONS,
            max_keepalive_connections=_MAX_IDLE_CONNECTIONS,
            keepalive_expiry=_IDLE_S,
        )
    proxy = urlsplit(remote.proxy)
    host, port = remote.first_hop
    credentials = None
    if proxy.username is not None:
        credentials = unquote_to_bytes(proxy.username), unquote_to_bytes(proxy.password or "")
    return httpcore.AsyncHTTPProxy(
        proxy_url=httpcore.URL(scheme=proxy.scheme, host=host, port=port, target="/"),
        proxy_auth=credentials,
        # Without one of ours httpcore would make its own, which listens to the environment.
        proxy_ssl_context=tls_context(remote.ca_file) if proxy.scheme == "https" else None,
        ssl_context=context,
        network_backend=backend,
        max_connections=_MAX_CONNECTIONS,
        max_keepalive_connections=_MAX_IDLE_CONNECTIONS,
        keepalive_expiry=_IDLE_S,
    )
