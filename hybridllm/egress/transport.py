"""Requests over httpcore: to checked addresses only, and next to nothing of an answer's head is passed on.

httpcore is the layer that httpx itself sends through. What httpx would add is redirects, cookies, authentication, decoding
and the environment's proxies, of which nothing may happen here.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote_to_bytes, urlsplit

import httpcore

from hybridllm.egress.exchange import Exchange
from hybridllm.egress.failures import mapped, unreachable
from hybridllm.egress.pool import DirectPool
from hybridllm.egress.response import EgressResponse
from hybridllm.egress.trust import tls_context
from hybridllm.egress.wire import open_stream
from hybridllm.errors import PrivacyViolation

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Iterable

    from hybridllm.addresses import IPAddress
    from hybridllm.egress.destination import Destination
    from hybridllm.remote import Remote
    from policies import Limits

__all__ = ["CheckedTransport"]

_MAX_CONNECTIONS = 200
_MAX_IDLE_CONNECTIONS = 8
_IDLE_S = 5.0
_DEFAULT_PORTS = {"http": 80, "https": 443}
# What a path may hold as it is (WHATWG URL, "path percent-encode set"); a percent sign is one that encodes already.
_SAFE_IN_PATHS = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"#<>?`{}')


class CheckedTransport:
    """Sends to one remote over connections to its first hop.

    Args:
        remote: The remote.
        hop: Its first hop.
        max_body_bytes: The largest body of an answer.

    Attributes:
        origin: Scheme, host and port of what is sent, written as ``Remote.origin`` writes it, and read from the URL that is used.

    Raises:
        BadRequest: The file with certificate authorities cannot be read.
    """

    def __init__(self, remote: Remote, hop: Destination, max_body_bytes: int) -> None:
        parts = urlsplit(remote.chat_url)
        host, default = parts.hostname or "", _DEFAULT_PORTS[parts.scheme]
        shown = f"[{host}]" if ":" in host else host
        port = parts.port or default
        self.origin = f"{parts.scheme}://{shown}:{port}"
        self._url = httpcore.URL(
            scheme=parts.scheme, host=host, port=port, target=quote(parts.path, safe=_SAFE_IN_PATHS).encode("ascii")
        )
        self._headers = [
            (b"host", (shown if port == default else f"{shown}:{port}").encode("ascii")),
            (b"user-agent", b"hybridllm"),
            (b"content-type", b"application/json"),
            (b"accept", b"text/event-stream"),
            (b"accept-encoding", b"identity"),
        ]
        self._max_body_bytes = max_body_bytes
        self._pool = _pool(remote, _CheckedBackend(hop))

    async def send(
        self, body: AsyncIterable[bytes], headers: Iterable[tuple[bytes, bytes]], limits: Limits
    ) -> EgressResponse:
        """Send a body and read the head of the answer.

        Args:
            body: The bytes, asked for when the connection stands.
            headers: Further headers, the body's length among them.
            limits: How long it may take.

        Raises:
            AddressRefused: The connection would go to an address that is not allowed.
            RemoteUnreachable: There is no connection.
            RemoteError: The connection broke, or the head is larger than allowed.
        """
        # The caller watches first token and gaps; this only catches a connection that nobody watches.
        longest_s = limits.first_token_s + limits.gap_s
        timeouts = {"connect": limits.connect_s, "read": longest_s, "write": longest_s, "pool": longest_s}
        request = httpcore.Request(b"POST", self._url, extensions={"timeout": timeouts})
        request.headers = [*self._headers, *headers]
        request.stream = body
        exchange = Exchange(self._max_body_bytes)
        token = exchange.begin()
        try:
            response = await self._pool.handle_async_request(request)
        except Exception as error:  # noqa: BLE001 - raised again, a defect as it is
            raise mapped(error) from None
        finally:
            exchange.pause(token)
        exchange.head_is_whole()
        return EgressResponse(response, exchange, self._max_body_bytes)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()


class _CheckedBackend(httpcore.AsyncNetworkBackend):
    """Opens connections to one host and port, at addresses that were checked."""

    def __init__(self, hop: Destination) -> None:
        self._hop = hop

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
            return await self._hop.connect(self._open_at, timeout or 0.0)
        except OSError as error:
            raise unreachable(error) from None

    async def _open_at(self, address: IPAddress, timeout_s: float) -> httpcore.AsyncNetworkStream:
        return await open_stream(self._hop, address, timeout_s)

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Never: a remote is reached over TCP."""
        raise PrivacyViolation("Nothing was sent: the connection would go to a socket file.")

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


def _pool(remote: Remote, backend: httpcore.AsyncNetworkBackend) -> DirectPool | httpcore.AsyncHTTPProxy:
    # Where no TLS is spoken, none is prepared: reading authorities for nothing would cost 30 ms.
    context = None if remote.plain_http else tls_context(remote.ca_file)
    if remote.proxy is None:
        return DirectPool(backend, context, most=_MAX_CONNECTIONS, most_idle=_MAX_IDLE_CONNECTIONS, idle_s=_IDLE_S)
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
