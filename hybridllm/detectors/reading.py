"""A normalised text with what is cheap to know about it, so that a detector that cannot find anything costs next to nothing."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TypeAlias

__all__ = ["Find", "Finder", "Reading", "unbroken"]

Find: TypeAlias = tuple[int, int]
"""Where something was found: first character, and the one after the last, in the normalised text."""

# In UTF-8 every byte of a character beyond ASCII is above 127, so classes of bytes are as good as classes of characters here.
_SEPARATORS = b" \t\r\n.-_/()"
_DIGITS = bytes(ord("0") if chr(byte) in "0123456789" else ord("a") if chr(byte).isalpha() and byte < 128 else ord(".")
                for byte in range(256))  # fmt: skip
_TOKENS = bytes(ord("a") if byte < 128 and (chr(byte).isalnum() or chr(byte) in "_-+/=.") else ord(" ")
                for byte in range(256))  # fmt: skip
# Where line breaks were taken out, the dot at the end of a sentence would join two words.
_TOKENS_WITHOUT_DOT = _TOKENS[: ord(".")] + b" " + _TOKENS[ord(".") + 1 :]
_SIX_DIGITS = b"0" * 6
_LONG_TOKEN = b"a" * 16
_CODICE_FISCALE = b"a00a00a000a"

_WITH_DIGITS = frozenset("0123456789+-./() \t\r")

_AREA = re.compile(r"[0-9](?:[ \t\r\n.\-_/()]{0,4}[0-9]){5,}+")


class Reading:
    """A text, and lazily its classes of characters and its areas of digits.

    Args:
        text: Normalised text.
        breaks: Where line breaks were taken out of it. Then only what reaches over one of these places is of interest: the
            rest was read already, with its line breaks.
    """

    def __init__(self, text: str, breaks: tuple[int, ...] = ()) -> None:
        self.text = text
        self.breaks = breaks

    @cached_property
    def encoded(self) -> bytes:
        """The text in UTF-8; half of a surrogate pair, which no valid text has, becomes a question mark."""
        return self.text.encode("utf-8", "replace")

    @cached_property
    def _classes(self) -> bytes:
        return self.encoded.translate(_DIGITS, _SEPARATORS)

    @cached_property
    def has_long_token(self) -> bool:
        """Whether 16 letters, digits and signs of keys stand together somewhere."""
        return _LONG_TOKEN in self.encoded.translate(_TOKENS_WITHOUT_DOT if self.breaks else _TOKENS)

    @cached_property
    def may_have_codice_fiscale(self) -> bool:
        """Whether letters and digits alternate somewhere as in an Italian tax code."""
        return _CODICE_FISCALE in self._classes

    @cached_property
    def areas(self) -> list[Find]:
        """Where at least six digits stand together, with no more than a few separators between each two."""
        if _SIX_DIGITS not in self._classes:
            return []
        areas = [match.span() for match in _AREA.finditer(self.text)]
        return [area for area in areas if self.reaches_over_a_break(*area)] if self.breaks else areas

    def reaches_over_a_break(self, start: int, end: int) -> bool:
        """Whether a place where a line break was taken out lies within."""
        at = bisect_right(self.breaks, start)
        return at < len(self.breaks) and self.breaks[at] < end


Finder: TypeAlias = Callable[[Reading], Iterator[Find]]
"""A detector: every find in a text, in any order; takes time in proportion to the text's length."""


def unbroken(text: str, *, digits: bool) -> tuple[str, list[int], list[int], list[int]]:
    """A text without its line breaks and the blanks around them.

    Args:
        text: The text.
        digits: Take out those line breaks only that stand between digits, signs that go with digits, and blanks, which
            become one space. Words stay apart then.

    Returns:
        The text, where in it each line begins, where that line begins in the original one, and where line breaks were taken
        out. Empty lines are left out.
    """
    pieces: list[str] = []
    starts: list[int] = []
    origins: list[int] = []
    breaks: list[int] = []
    length = at = 0
    before = ""
    for line in text.split("\n"):
        kept = line.strip(" \t\r")
        if kept:
            blanks = len(line) - len(line.lstrip(" \t\r"))
            joint = ""
            if before:
                if digits and not (before[-1] in _WITH_DIGITS and kept[0] in _WITH_DIGITS):
                    joint = "\n"
                elif digits and (blanks or before[-1] == " "):
                    joint = " "
                length += len(joint)
                if joint != "\n":
                    breaks.append(length)
            pieces += (joint, kept)
            starts.append(length)
            origins.append(at + blanks)
            length += len(kept)
            before = line
        at += len(line) + 1
    return "".join(pieces), starts, origins, breaks
