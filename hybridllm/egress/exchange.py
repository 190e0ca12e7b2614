"""One request and its answer on the wire: how much may still be read of it, and that nothing of it is logged.

httpcore writes the headers of answers, and what it could not parse, to its loggers at the level DEBUG. While one of our own
exchanges is under way, those loggers drop what they are given, whatever the application's logging is set to; other users of
httpcore in the same program are not touched.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar, Token

from hybridllm.errors import RemoteError

__all__ = ["HEAD_BYTES", "Exchange", "count_read"]

HEAD_BYTES = 128 * 1024
"""Most bytes that are read before an answer's head is whole, with the informational answers before it."""

# What chunks of one byte each cost beside that byte, and no more: "1", the byte, and two line ends.
_WIRE_PER_BODY_BYTE = 8
_LOGGERS = tuple(
    logging.getLogger(name)
    for name in (
        "httpcore", "httpcore.connection", "httpcore.http11", "httpcore.http2", "httpcore.proxy", "httpcore.socks",
    )
)  # fmt: skip

_under_way: ContextVar[Exchange | None] = ContextVar("hybridllm_exchange", default=None)


class Exchange:
    """Counts what is read for one request.

    Args:
        max_body_bytes: The largest body.
    """

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._left_bytes = HEAD_BYTES
        self._in_head = True
        for logger in _LOGGERS:
            if _not_ours not in logger.filters:
                logger.addFilter(_not_ours)

    def begin(self) -> Token[Exchange | None]:
        """From now on what is read is counted here, and httpcore logs nothing; until ``pause`` gets what this returns."""
        return _under_way.set(self)

    def pause(self, token: Token[Exchange | None]) -> None:
        """The end of that."""
        try:
            _under_way.reset(token)
        except (
            ValueError
        ):  # a read that was dropped is ended by whoever collects it, in a context in which nothing is set
            return

    def head_is_whole(self) -> None:
        """From now on the body is read."""
        self._in_head = False
        self._left_bytes = HEAD_BYTES + _WIRE_PER_BODY_BYTE * self._max_body_bytes

    def count(self, read_bytes: int) -> None:
        """Note that so many bytes came.

        Raises:
            RemoteError: They are too many.
        """
        self._left_bytes -= read_bytes
        if self._left_bytes >= 0:
            return
        if self._in_head:
            raise RemoteError(
                f"The remote sent more than {HEAD_BYTES // 1024} KiB of headers before its answer.",
                "Check that remote.base_url is a server of chat completions.",
            )
        raise too_large(self._max_body_bytes)


def count_read(read_bytes: int) -> None:
    """Note that so many bytes came for the exchange that is under way."""
    exchange = _under_way.get()
    if exchange is not None:
        exchange.count(read_bytes)


def too_large(max_bytes: int) -> RemoteError:
    """The error of a body that is larger than allowed."""
    return RemoteError(
        f"The remote's answer is larger than {max_bytes / (1 << 20):g} MiB.", "Raise max_response_mib if that is right."
    )


def _not_ours(record: logging.LogRecord) -> bool:
    return _under_way.get() is None
