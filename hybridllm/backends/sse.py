"""Server-sent events, as far as chat completions use them (WHATWG HTML, section 9.2.6, "Interpreting an event stream")."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, NamedTuple

from hybridllm.errors import RemoteError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["EventReader", "ServerEvent"]

_MAX_LINE_CHARACTERS = 1 << 20


class ServerEvent(NamedTuple):
    """One event of a stream."""

    name: str
    """Its type; ``message`` where the stream names none."""

    data: str
    """Its data, lines joined."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r})"


class EventReader:
    """Takes events out of bytes that may be cut anywhere, also inside a character or between CR and LF.

    An event that the stream ends in the middle of is dropped, as the specification says.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._at_start = True
        self._begun: list[
            str
        ] = []  # of a line without an end so far; joined once, so that many small pieces cost no more than one
        self._begun_characters = 0
        self._after_cr = False
        self._name = ""
        self._data: list[str] = []

    def feed(self, piece: bytes) -> Iterator[ServerEvent]:
        """The events that end in a piece.

        Raises:
            RemoteError: The bytes are not UTF-8, or a line has no end; after the events before that.
        """
        whole = True
        try:
            text = self._decoder.decode(piece)
        except UnicodeDecodeError as error:
            text, whole = bytes(error.object[: error.start]).decode(), False
        if self._at_start and text:
            text = text.removeprefix("\ufeff")
            self._at_start = False
        for line in self._lines(text):
            if line.startswith("data:"):
                self._data.append(line[6:] if line[5:6] == " " else line[5:])
            elif not line:
                if self._data:
                    event = ServerEvent(self._name or "message", "\n".join(self._data))
                    self._name, self._data = "", []
                    yield event
                self._name = ""
            else:
                key, _, value = line.partition(":")
                if key == "data":
                    self._data.append("")
                elif key == "event":
                    self._name = value.removeprefix(" ")
        if not whole:
            raise RemoteError("The remote's answer is not UTF-8.")
        if self._begun_characters > _MAX_LINE_CHARACTERS:
            raise RemoteError("The remote's answer has a line without an end.")

    def _lines(self, text: str) -> list[str]:
        """The lines that end in a text, with CR, LF or both."""
        if not text:
            return []
        if self._after_cr:
            text = text.removeprefix("\n")
        self._after_cr = text.endswith("\r")
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        lines = text.split("\n")
        rest = lines.pop()
        if lines and self._begun:
            lines[0] = "".join((*self._begun, lines[0]))
        if lines:
            self._begun, self._begun_characters = [], 0
        if rest:
            self._begun.append(rest)
            self._begun_characters += len(rest)
        return lines
