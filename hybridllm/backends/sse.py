"""Server-sent events, as far as chat completions use them (WHATWG HTML, section 9.2.6, "Interpreting an event stream")."""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hybridllm.errors import RemoteError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable

__all__ = ["ServerEvent", "server_events"]

_MAX_LINE_CHARACTERS = 1 << 20


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event of a stream."""

    name: str
    """Its type; ``message`` where the stream names none."""

    data: str = field(repr=False)
    """Its data, lines joined."""


async def server_events(pieces: AsyncIterable[bytes]) -> AsyncGenerator[ServerEvent, None]:
    """Take events out of bytes that may be cut anywhere, also inside a character or between CR and LF.

    An event that the stream ends in the middle of is dropped, as the specification says.

    Raises:
        RemoteError: The bytes are not UTF-8, or a line has no end.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    pending = ""
    at_start = True
    name, data = "", list[str]()
    async for piece in pieces:
        try:
            pending += decoder.decode(piece)
        except UnicodeDecodeError:
            raise RemoteError("The remote's answer is not UTF-8.") from None
        if at_start and pending:
            pending = pending.removeprefix("\ufeff")
            at_start = False
        lines, pending = _complete_lines(pending)
        if len(pending) > _MAX_LINE_CHARACTERS:
            raise RemoteError("The remote's answer has a line without an end.")
        for line in lines:
            if not line:
                if data:
                    yield ServerEvent(name or "message", "\n".join(data))
                name, data = "", []
                continue
            key, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if key == "data":
                data.append(value)
            elif key == "event":
                name = value


def _complete_lines(text: str) -> tuple[list[str], str]:
    """Lines that have ended with CR, LF or both, and the rest. A CR at the very end waits: an LF may follow."""
    held = "\r" if text.endswith("\r") else ""
    lines = text.removesuffix("\r").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines[:-1], lines[-1] + held
