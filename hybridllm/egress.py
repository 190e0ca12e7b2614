"""The one way out: the only module that can reach a network.

``EgressGate.send`` wants a permit for the exact bytes and checks it twice: before it connects, and again at the moment
when the connection asks for the body. It follows no redirect, reads no variable of the environment (proxies, certificate
authorities), keeps no cookies, asks for no compression, and bounds what it reads.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from hybridllm.errors import (
    BadRequest,
    Cancelled,
    HybridLLMError,
    PrivacyViolation,
    RemoteError,
    RemoteUnreachable,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping

    import httpx

    from hybridllm.backends.base import Ledger
    from hybridllm.permits import Permit, PermitOffice
    from hybridllm.remote import Remote
    from policies import Policy

__all__ = ["EgressGate", "EgressResponse"]

_MAX_CONNECTIONS = 200


class EgressGate:
    """The gate to one remote.

    Args:
        remote: The only endpoint that it can reach.
        policy: The policy in force.
        office: Who minted the permits.
    """

    def __init__(self, remote: Remote, policy: Policy, office: PermitOffice) -> None:
        self._remote = remote
        self._policy = policy
        self._office = office
        self._client: httpx.AsyncClient | None = None
        self._closed = False

    @asynccontextmanager
    async def send(
        self, permit: Permit, body: bytes, headers: Mapping[str, str], ledger: Ledger
    ) -> AsyncIterator[EgressResponse]:
        """Send ``body`` to the remote's chat endpoint; the answer is read inside the ``async with`` block.

        Args:
            permit: Minted for exactly this body and this try.
            body: The bytes.
            headers: Further headers, none of which may come from a request's content.
            ledger: Gets the bytes added when they really leave.

        Raises:
            PrivacyViolation: The permit does not fit, or httpx would connect to another origin; nothing was sent.
            RemoteUnreachable: There is no connection to the remote.
            RemoteError: The connection broke, or the answer is larger than allowed.
        """
        self._office.check(permit, self._policy, self._remote, body)
        self._office.redeem(permit)
        client = self._open_client()
        request = client.build_request(
            "POST",
            self._remote.chat_url,
            content=self._checked_body(permit, body, ledger),
            headers={**headers, **self._fixed_headers(), "content-length": str(len(body))},
        )
        if _origin(request.url) != permit.origin:
            raise PrivacyViolation(
                "Nothing was sent: the URL leads to another origin.", label=permit.label, place=permit.place
            )
        with _mapped_errors():
            response = await client.send(request, stream=True)
        try:
            yield EgressResponse(response, int(self._remote.max_response_mib * (1 << 20)))
        finally:
            # A broken connection may fail to close as well; the answer's own error is the one that counts.
            with contextlib.suppress(HybridLLMError), _mapped_errors():
                await response.aclose()
            client.cookies.clear()

    async def probe(self, timeout_s: float) -> bool:
        """Whether a connection to the remote's host and port comes about; not a single byte is sent over it."""
        host, port = self._remote.first_hop
        try:
            async with asyncio.timeout(timeout_s):
                _, writer = await asyncio.open_connection(host, port)
        except (OSError, TimeoutError, UnicodeError):
            return False
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True

    async def aclose(self) -> None:
        """Close all connections; afterwards nothing can be sent."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _checked_body(self, permit: Permit, body: bytes, ledger: Ledger) -> AsyncIterator[bytes]:
        self._office.check(permit, self._policy, self._remote, body)
        ledger.egress_bytes += len(body)
        yield body

    def _fixed_headers(self) -> dict[str, str]:
        headers = {"content-type": "application/json", "accept": "text/event-stream", "accept-encoding": "identity"}
        if self._remote.api_key:
            headers["authorization"] = f"Bearer {self._remote.api_key}"
        return headers

    def _open_client(self) -> httpx.AsyncClient:
        if self._closed:
            raise Cancelled("The client is closed.", "Make a new one.")
        if self._client is None:
            import httpx

            self._client = httpx.AsyncClient(
                verify=self._trusted(),
                proxy=self._remote.proxy,
                trust_env=False,
                follow_redirects=False,
                limits=httpx.Limits(max_connections=_MAX_CONNECTIONS, max_keepalive_connections=8),
                # The caller watches first token and gaps; this only catches a connection that nobody watches.
                timeout=httpx.Timeout(
                    self._remote.first_token_timeout_s + self._remote.gap_timeout_s,
                    connect=self._remote.connect_timeout_s,
                ),
            )
        return self._client

    def _trusted(self) -> ssl.SSLContext:
        """Whom to trust over TLS: the operator's file, else the public authorities that httpx brings along."""
        import ssl

        import certifi

        # Made by hand, since `ssl.create_default_context` writes session keys to the file that SSLKEYLOGFILE names. This
        # one checks certificates and host names too (Python's documentation, "SSLContext", PROTOCOL_TLS_CLIENT).
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self._remote.origin.startswith("http:") and self._remote.proxy is None:
            return context  # No TLS is spoken, and reading authorities for nothing would cost 30 ms.
        try:
            context.load_verify_locations(cafile=self._remote.ca_file or certifi.where())
        except (OSError, ssl.SSLError):
            raise BadRequest(
                f"remote.ca_file cannot be read: {self._remote.ca_file!r}.",
                "Give a PEM file with certificates.",
                field="remote.ca_file",
            ) from None
        return context


class EgressResponse:
    """A remote's answer, read within bounds."""

    def __init__(self, response: httpx.Response, max_bytes: int) -> None:
        self._response = response
        self._max_bytes = max_bytes

    @property
    def status(self) -> int:
        """HTTP status."""
        return self._response.status_code

    def header(self, name: str) -> str:
        """A header's value, or an empty text."""
        return str(self._response.headers.get(name, ""))

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body as it arrives.

        Raises:
            RemoteError: The connection broke before the body was whole, or the body is larger than allowed.
        """
        if self.header("content-encoding").strip().lower() not in ("", "identity"):
            raise RemoteError(
                "The remote sent a compressed answer that it was not asked for.", "Switch compression off there."
            )
        total = 0
        with _mapped_errors():
            async for piece in self._response.aiter_raw():
                total += len(piece)
                if total > self._max_bytes:
                    raise RemoteError(
                        f"The remote's answer is larger than {self._max_bytes / (1 << 20):g} MiB.",
                        "Raise max_response_mib if that is right.",
                    )
                yield piece

    async def beginning(self, max_bytes: int) -> bytes:
        """At most the first ``max_bytes`` of the body, for an error's code."""
        read = b""
        async for piece in self.pieces():
            read += piece
            if len(read) >= max_bytes:
                break
        return read[:max_bytes]


def _origin(url: httpx.URL) -> str:
    """Where httpx is about to connect, written as ``Remote.origin`` writes it."""
    host = url.host.lower()
    host = f"[{host}]" if ":" in host else host
    return f"{url.scheme}://{host}:{url.port or {'http': 80, 'https': 443}[url.scheme]}"


@contextlib.contextmanager
def _mapped_errors() -> Iterator[None]:
    """Turn httpx's errors into ours. Their texts are not passed on: they can quote what a server said."""
    import httpx

    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
        waited = isinstance(error, httpx.ConnectTimeout)
        what = "did not answer in time" if waited else "cannot be connected to"
        reason = _connect_reason(error)
        raise RemoteUnreachable(f"The remote {what}{reason}.", "Check the network and remote.base_url.") from None
    except httpx.TimeoutException:
        raise RemoteError("The remote was silent for too long.", "Try again later.") from None
    except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL) as error:
        raise RemoteError(f"The connection to the remote broke ({type(error).__name__}).", "Try again later.") from None


def _connect_reason(error: BaseException) -> str:
    """Why a connection failed, from the operating system's error or TLS's, in words of our own."""
    import socket
    import ssl

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return ": its certificate is not valid"
        if isinstance(cause, ssl.SSLError):
            return ": TLS failed"
        if isinstance(cause, socket.gaierror):
            return ": its name is unknown"
        if isinstance(cause, ConnectionRefusedError):
            return ": it refused the connection"
        cause = cause.__cause__ or cause.__context__
    return ""
