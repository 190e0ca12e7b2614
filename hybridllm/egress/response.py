"""A remote's answer, read within bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridllm.egress.exchange import too_large
from hybridllm.errors import RemoteError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import httpx

__all__ = ["EgressResponse"]


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
        """A header's value, or an empty text. Only those of ``transport.KEPT_HEADERS`` are kept."""
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
        async for piece in self._response.aiter_raw():
            total += len(piece)
            if total > self._max_bytes:
                raise too_large(self._max_bytes)
            yield piece

    async def beginning(self, max_bytes: int) -> bytes:
        """At most the first ``max_bytes`` of the body, for an error's code."""
        read = b""
        async for piece in self.pieces():
            read += piece
            if len(read) >= max_bytes:
                break
        return read[:max_bytes]
