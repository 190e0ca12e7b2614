"""Text as detectors read it: NFKC, nothing invisible, ASCII digits, plain hyphens and spaces; and the way back.

A text is taken apart into clusters (a character and the marks that may compose with it), and each is replaced for itself. So a
place in the normalised text has a place in the original one, whatever lengths the replacements have.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right

__all__ = ["Origin", "normalized"]

# Characters that stay what they are, in the scripts that most texts are written in. Everything else is looked up one by one.
_SAFE = (
    "\x00-\x7f\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u0131\u0134-\u013e\u0141-\u0148\u014a-\u017e\u0391-\u03a1\u03a3-\u03a9\u03ac-\u03ce"
    "\u0400-\u0481\u05d0-\u05ea\u0621-\u064a\u0e01-\u0e30\u2018-\u201a\u201c-\u201e\u20ac\u3001-\u3007\u300a-\u3011"
    "\u3041-\u3096\u30a1-\u30fa\u30fc\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3"
)
# Marks that compose with what stands before them, or that are written over it. Not every mark of every script: those that
# detectors never meet stay as they are.
_MARKS = (
    "\u0300-\u036f\u0483-\u0489\u0653-\u0655\u093c\u09be\u09d7\u0b3e\u0b56\u0b57\u0bbe\u0bd7\u0cc2\u0cd5\u0cd6\u0d3e\u0d57\u0dca"
    "\u0dcf\u0ddf\u102e\u1160-\u11ff\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\u3099\u309a\ufe00-\ufe0f\ufe20-\ufe2f\uff9e\uff9f"
    "\U000e0100-\U000e01ef"
)
# Invisible, though not of the category Cf: joiners, fillers, the empty pattern of Braille.
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
# Dots that people put between groups of digits.
_DOTS = frozenset("\u00b7\u2022\u2027\u2219\u22c5\u30fb")
_DASHES = frozenset("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u02d7\u2043\u30a0")
_SLASHES = frozenset("\u2044\u2215\u29f8")

_ODD = re.compile(f"[^{_SAFE}]")
_MARK = re.compile(f"[{_MARKS}]")
_CLUSTER = re.compile(f"[{_SAFE}][{_MARKS}]+|[^{_SAFE}][{_MARKS}]*")
_MOST_CLUSTERS = 65_536
# Unicode's own normalisation sorts the marks behind a character, for which long runs of them take the square of their number.
_MOST_MARKS = 32


class _Replacements(dict[str, str]):
    """What stands for each cluster; filled as texts need it, and bounded."""

    def __missing__(self, cluster: str) -> str:
        replacement = _replacement(cluster)
        if len(self) >= _MOST_CLUSTERS:
            self.clear()
        if len(cluster) <= _MOST_MARKS:
            self[cluster] = replacement
        return replacement


def _replacement(cluster: str) -> str:
    composed = "".join(
        unicodedata.normalize("NFKC", cluster[at : at + _MOST_MARKS]) for at in range(0, len(cluster), _MOST_MARKS)
    )
    return "".join(map(_plain, composed))


def _plain(character: str) -> str:
    if character.isascii():
        return character
    if character in _DASHES:
        return "-"
    if character in _DOTS:
        return "."
    if character in _SLASHES:
        return "/"
    if character in _INVISIBLE or "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef":
        return ""
    if "\u0300" <= character <= "\u036f":
        return ""  # a mark that composed with nothing: struck through, underlined, stacked
    match unicodedata.category(character):
        case "Cf" | "Me":
            return ""
        case "Nd":
            return str(unicodedata.decimal(character))
        case "Pd":
            return "-"
        case "Zs":
            return " "
        case "Zl" | "Zp":
            return "\n"
    return "\n" if character == "\x85" else character


_REPLACEMENTS = _Replacements()


def _replace(match: re.Match[str]) -> str:
    return _REPLACEMENTS[match[0]]


def normalized(text: str) -> str:
    """Text as detectors read it; an ASCII text is that already."""
    if text.isascii() or _ODD.search(text) is None:
        return text
    if _MARK.search(text) is None:
        return _ODD.sub(_replace, text)
    return _CLUSTER.sub(_replace, text)


class Origin:
    """The way from places in ``normalized(text)`` back to places in the text itself.

    Args:
        text: The original text.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.normalized = normalized(text)
        # Where replacements begin and end: positions in the normalised text, and the same in the original one.
        self._plain: list[int] = [0]
        self._original: list[int] = [0]
        if self.normalized is text:
            return
        moved = 0
        for match in _CLUSTER.finditer(text):
            length = len(_REPLACEMENTS[match[0]])
            self._plain += (match.start() + moved, match.start() + moved + length)
            self._original += (match.start(), match.end())
            moved += length - (match.end() - match.start())

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The original characters of ``normalized[start:end]``, which is not empty; a replaced cluster counts as a whole."""
        at = bisect_right(self._plain, start) - 1
        first = self._original[at] + (0 if at % 2 else start - self._plain[at])
        at = bisect_right(self._plain, end - 1) - 1
        last = self._original[at + 1] if at % 2 else self._original[at] + end - self._plain[at]
        return first, last
