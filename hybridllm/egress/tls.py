"""TLS as a layer over a connection, or over another layer of TLS: through a proxy that is itself reached over TLS.

asyncio's own can be laid over itself too, but not in every release of Python that is supported.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Channel", "TlsChannel"]

_READ_BYTES = 64 * 1024


class Channel(Protocol):
    """Bytes that come and go."""

    @property
    def ssl_object(self) -> ssl.SSLObject | None:
        """The TLS that they go through; None in clear."""

    async def receive(self, timeout_s: float | None) -> bytes:
        """What came, at least one byte; none at the end."""

    async def send(self, data: bytes, timeout_s: float | None) -> None:
        """Send all of it."""


class TlsChannel:
    """A channel under TLS; made by ``opened``.

    Args:
        below: What it goes over.
        context: Whom to trust.
        server_hostname: Whose certificate it has to be.

    Attributes:
        ssl_object: Its state.
    """

    def __init__(self, below: Channel, context: ssl.SSLContext, server_hostname: str | None) -> None:
        self._below = below
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.ssl_object: ssl.SSLObject = context.wrap_bio(
            self._incoming, self._outgoing, server_hostname=server_hostname
        )

    @classmethod
    async def opened(cls, below: Channel, context: ssl.SSLContext, server_hostname: str | None) -> Self:
        """Shake hands.

        Raises:
            OSError: Something is wrong, with the certificate for example; ``ssl.SSLError`` is one.
        """
        channel = cls(below, context, server_hostname)
        try:
            while True:
                try:
                    channel.ssl_object.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    await channel._exchange(None)
        finally:
            # The last of ours, or the alert that says why there is none.
            await channel._flush(None)
        return channel

    async def receive(self, timeout_s: float | None) -> bytes:
        """What came; nothing at the end, also where the other side did not say goodbye: HTTP knows how long an answer is."""
        while True:
            try:
                return self.ssl_object.read(_READ_BYTES)
            except ssl.SSLWantReadError:
                await self._exchange(timeout_s)
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    async def send(self, data: bytes, timeout_s: float | None) -> None:
        """Send all of it."""
        unsent = memoryview(data)
        while unsent:
            unsent = unsent[self.ssl_object.write(unsent) :]
        await self._flush(timeout_s)

    async def _exchange(self, timeout_s: float | None) -> None:
        """Send what TLS itself has to say, and take what the other side says."""
        await self._flush(timeout_s)
        came = await self._below.receive(timeout_s)
        if came:
            self._incoming.write(came)
        else:
            self._incoming.write_eof()

    async def _flush(self, timeout_s: float | None) -> None:
        if self._outgoing.pending:
            await self._below.send(self._outgoing.read(), timeout_s)
