"""Cutting a stream of Markdown into finished blocks, so that only the unfinished one needs redrawing."""

from __future__ import annotations

import re

__all__ = ["MarkdownBlocks"]

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_LIST_ITEM = re.compile(r"(?:[-*+]|\d{1,9}[.)])(?:\s|$)")


class MarkdownBlocks:
    """Takes text in pieces and gives each top-level block once nothing can change it any more.

    A block ends at a blank line outside a fenced code block, when the next line neither is indented (it would go on with a
    list item) nor continues a list (CommonMark 0.31, sections 4.5 and 5.2).
    """

    def __init__(self) -> None:
        self._block: list[str] = []
        self._partial = ""
        self._fence = ""
        self._after_blank = False

    @property
    def tail(self) -> str:
        """The block that is not finished yet."""
        return "\n".join([*self._block, self._partial])

    def push(self, text: str) -> list[str]:
        """Add a piece of the stream; return the blocks that it finished."""
        finished: list[str] = []
        *lines, self._partial = (self._partial + text).split("\n")
        for line in lines:
            finished.extend(self._line(line))
        return finished

    def flush(self) -> str:
        """The last block, finished or not; empty if there is none."""
        rest = self.tail.strip("\n")
        self._block, self._partial, self._fence, self._after_blank = [], "", "", False
        return rest

    def _line(self, line: str) -> list[str]:
        finished = []
        if not line.strip():
            if self._block:
                self._block.append(line)
                self._after_blank = not self._fence
            return []
        if self._after_blank and self._starts_new_block(line):
            finished.append("\n".join(self._block).strip("\n"))
            self._block = []
        self._after_blank = False
        self._block.append(line)
        fence = _FENCE.match(line)
        if self._fence:
            closes = fence is not None and fence[1].startswith(self._fence) and not line.strip().strip(self._fence[0])
            self._fence = "" if closes else self._fence
        elif fence is not None:
            self._fence = fence[1]
        return finished

    def _starts_new_block(self, line: str) -> bool:
        if line[0] in " \t":
            return False
        return not (_LIST_ITEM.match(line) and _LIST_ITEM.match(self._block[0]))
