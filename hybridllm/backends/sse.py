"""Server-sent events, as far as chat completions use them (WHATWG HTML, section 9.2.6, "Interpreting an event stream")."""

from __future__ import annotations

import codecs
import io
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
    lines = _Lines()
    at_start = True
    name, data = "", list[str]()
    async for piece in pieces:
        try:
            text = decoder.decode(piece)
        except UnicodeDecodeError:
            raise RemoteError("The remote's answer is not UTF-8.") from None
        if at_start and text:
            text = text.removeprefix("\ufeff")
            at_start = False
        ended = lines.add(text)
        if lines.begun_characters > _MAX_LINE_CHARACTERS:
            raise RemoteError("The remote's answer has a line without an end.")
        for line in ended:
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


class _Lines:
    """Lines out of text that arrives in pieces. It looks at each piece once, so that many small ones cost no more than one."""

    def __init__(self) -> None:
        self._begun = io.StringIO()
        self._after_cr = False

    @property
    def begun_characters(self) -> int:
        """Length of the line that has not ended yet."""
        return self._begun.tell()

    def add(self, text: str) -> list[str]:
        """The lines that end in ``text``, with CR, LF or both."""
        if not text:
            return []
        if self._after_cr:
            text = text.removeprefix("\n")
        self._after_cr = text.endswith("\r")
        *ended, rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        if ended:
            ended[0] = self._begun.getvalue() + ended[0]
            self._begun = io.StringIO()
        self._begun.write(rest)
        return ended
