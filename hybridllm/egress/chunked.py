"""Chunks of a body (RFC 9112, section 7.1), as far as they are plain, many at a time; h11 takes the rest.

h11 takes a body apart with some thirty calls for each chunk, and a server of chat completions sends one for each token. Plain is a
chunk whose size stands alone on its line. Whatever else stands where a chunk begins is h11's: an extension, the last chunk and the
trailers after it, and all that is wrong.
"""

from __future__ import annotations

import re

__all__ = ["PlainChunks"]

_SIZE = re.compile(rb"([1-9A-Fa-f][0-9A-Fa-f]{0,6})\r\n")
_SIZE_BEGUN = re.compile(rb"[1-9A-Fa-f][0-9A-Fa-f]{0,6}\r?")
_LINE_END = b"\r\n"


class PlainChunks:
    """Takes chunks apart.

    Attributes:
        broken: Whether a chunk was longer than it said.
        over: What came from the first chunk on that is not plain; empty before one. From then on nothing more is taken.
    """

    def __init__(self) -> None:
        self.broken = False
        self.over = b""
        self._left_bytes = 0  # of the present chunk, with its line end
        self._unread = b""  # less than a line

    def take(self, data: bytes) -> bytes:
        """The content of what came."""
        content: list[bytes] = []
        data, self._unread, at = self._unread + data, b"", 0
        while not self.over:
            if self._left_bytes > len(_LINE_END):
                part = data[at : at + self._left_bytes - len(_LINE_END)]
                content.append(part)
                at += len(part)
                self._left_bytes -= len(part)
                if self._left_bytes > len(_LINE_END):
                    break
            if self._left_bytes:
                end = data[at : at + len(_LINE_END)]
                if not _LINE_END.startswith(end):
                    self.broken = True
                    break
                if len(end) < len(_LINE_END):
                    self._unread = end
                    break
                at += len(end)
                self._left_bytes = 0
            size = _SIZE.match(data, at)
            if size is not None:
                at = size.end()
                self._left_bytes = int(size[1], 16) + len(_LINE_END)
            elif at == len(data) or _SIZE_BEGUN.fullmatch(data, at):
                self._unread = data[at:]
                break
            else:
                self.over = data[at:]
        return b"".join(content)
