"""A remote's answer, read within bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from hybridllm.egress.exchange import too_large
from hybridllm.egress.failures import mapped
from hybridllm.errors import HybridLLMError, RemoteError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator

    import httpcore

    from hybridllm.egress.exchange import Exchange

__all__ = ["KEPT_HEADERS", "EgressResponse"]

KEPT_HEADERS = frozenset({b"content-type", b"content-encoding", b"retry-after"})
"""Headers of an answer that somebody reads; without the others there is no redirect, cookie or other service to act on."""


class EgressResponse:
    """A remote's answer, read within bounds. Close it in any case.

    Args:
        response: The answer, whose head is there.
        exchange: Counts what is read for it.
        max_bytes: The largest body.

    Attributes:
        status: HTTP status.
    """

    def __init__(self, response: httpcore.Response, exchange: Exchange, max_bytes: int) -> None:
        self.status = response.status
        self._headers: dict[bytes, bytes] = {}
        for name, value in response.headers:
            name = name.lower()
            if name in KEPT_HEADERS:
                self._headers[name] = self._headers[name] + b", " + value if name in self._headers else value
        self._response = response
        self._exchange = exchange
        self._max_bytes = max_bytes
        self._read_bytes = 0
        self._body: AsyncIterator[bytes] | None = None

    def header(self, name: str) -> str:
        """A header's value, or an empty text. Only those of ``KEPT_HEADERS`` are kept."""
        return self._headers.get(name.encode("ascii"), b"").decode("utf-8", "replace")

    async def read(self) -> bytes:
        """What comes next of the body; nothing at its end.

        Raises:
            RemoteError: The connection broke before the body was whole, or the body is larger than allowed.
        """
        if self._body is None:
            if self.header("content-encoding").strip().lower() not in ("", "identity"):
                raise RemoteError(
                    "The remote sent a compressed answer that it was not asked for.", "Switch compression off there."
                )
            self._body = cast("AsyncIterable[bytes]", self._response.stream).__aiter__()
        token = self._exchange.begin()
        try:
            piece = await anext(self._body, b"")
        except Exception as error:  # noqa: BLE001 - raised again, a defect as it is
            raise mapped(error) from None
        finally:
            self._exchange.pause(token)
        self._read_bytes += len(piece)
        if self._read_bytes > self._max_bytes:
            raise too_large(self._max_bytes)
        return piece

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body as it arrives; raises as ``read`` does."""
        while piece := await self.read():
            yield piece

    async def beginning(self, max_bytes: int) -> bytes:
        """At most the first ``max_bytes`` of the body, for an error's code."""
        read = b""
        while len(read) < max_bytes and (piece := await self.read()):
            read += piece
        return read[:max_bytes]

    async def aclose(self) -> None:
        """Give the connection back if the body was read to its end, or else close it."""
        token = self._exchange.begin()
        try:
            # A broken connection may fail to close as well; the answer's own error is the one that counts.
            await self._response.aclose()
        except Exception as error:
            failure = mapped(error)
            if not isinstance(failure, HybridLLMError):
                raise
        finally:
            self._exchange.pause(token)
