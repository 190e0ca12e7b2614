"""A policy's own detectors: lists of words, and patterns. RE2 reads both, in time in proportion to the text, whatever they say."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from hybridllm.detectors.errors import DetectorError
from hybridllm.detectors.normalize import normalized

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hybridllm.detectors.reading import Find, Finder, Reading
    from policies import Detector

__all__ = ["pattern_finder", "word_finder"]

_PATTERN_MEMORY_BYTES = 8 << 20
_WORDS_MEMORY_BYTES = 64 << 20
# Scripts that write words without spaces between them, or with endings that a list of words has not: there a word counts
# wherever it stands.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Bopomofo}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_EDGE = rf"(?:[^\pL\pN\pM_]|[{_UNSPACED}])"


def word_finder(detector: Detector) -> Finder:
    """Look for words and phrases in any case: whole words in scripts that separate them, anywhere in the others.

    Raises:
        DetectorError: A word has nothing to look for, or ``google-re2`` is not installed.
    """
    re2 = _re2(detector)
    words = []
    for word in detector.words:
        plain = " ".join(normalized(word).split())
        if not plain:
            raise DetectorError(
                detector.name, "has a word with nothing in it that can be seen.", "Leave that word out of words."
            )
        words.append(plain)
    unspaced = re2.compile(f"[{_UNSPACED}]")
    by_edges: dict[tuple[str, str], list[str]] = {}
    # The longest first, so that a find covers as much as it can.
    for word in sorted(set(words), key=len, reverse=True):
        left = "" if not _is_letter(word[0]) or unspaced.match(word[0]) else f"(?:^|{_EDGE})"
        right = "" if not _is_letter(word[-1]) or unspaced.match(word[-1]) else f"(?:$|{_EDGE})"
        escaped = r"\s+".join(re2.escape(part) for part in word.split(" "))
        by_edges.setdefault((left, right), []).append(escaped)
    return _joined(
        [
            _finder(_compiled(re2, detector, f"(?i){left}({'|'.join(escaped)}){right}", _WORDS_MEMORY_BYTES), 1)
            for (left, right), escaped in by_edges.items()
        ]
    )


def _is_letter(character: str) -> bool:
    return character.isalnum() or character == "_"


def pattern_finder(detector: Detector) -> Finder:
    """Look for a pattern in RE2's syntax, in normalised text.

    Raises:
        DetectorError: RE2 refuses the pattern, it can find nothing or everything, or ``google-re2`` is not installed.
    """
    plain = normalized(detector.pattern)
    if plain != detector.pattern:
        raise DetectorError(
            detector.name,
            "has a pattern with characters that no text has once it is normalised (NFKC, ASCII digits, plain hyphens).",
            f"Write {plain!r}.",
        )
    compiled = _compiled(_re2(detector), detector, detector.pattern, _PATTERN_MEMORY_BYTES)
    if compiled.search(b"") is not None:
        raise DetectorError(
            detector.name,
            "has a pattern that matches the empty text, so it would find something in every request.",
            "Ask for at least one character.",
        )
    return _finder(compiled)


def _re2(detector: Detector) -> Any:
    try:
        import re2
    except ImportError:
        raise DetectorError(
            detector.name,
            "needs the package google-re2, which is not installed.",
            "Install it: pip install google-re2.",
        ) from None
    return re2


def _compiled(re2: Any, detector: Detector, expression: str, memory_bytes: int) -> Any:
    options = re2.Options()
    options.max_mem = memory_bytes
    options.log_errors = False  # it would write to standard error
    try:
        return re2.compile(expression, options)
    except re2.error as error:
        said = error.args[0] if error.args else "no reason given"
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        shown = re.sub(r"[^ -~]", "?", text)[:160]
        raise DetectorError(
            detector.name,
            f"has {'a pattern' if detector.pattern else 'words'} that RE2 refuses: {shown}.",
            "Write it in RE2's syntax (https://github.com/google/re2/wiki/Syntax), without look-around and back-references."
            if detector.pattern
            else "Give it fewer or shorter words.",
        ) from None


def _finder(compiled: Any, group: int = 0) -> Finder:
    """Every find of a group that is not empty, in characters; RE2 itself counts the bytes of UTF-8."""

    def find(reading: Reading) -> Iterator[Find]:
        encoded = reading.encoded
        at = counted = characters = 0
        while at <= len(encoded) and (match := compiled.search(encoded, at)):
            start, end = match.span(group)
            at = max(end, at + 1)
            if start < end:
                characters += len(encoded[counted:start].decode("utf-8", "ignore"))
                counted = start
                yield characters, characters + len(encoded[start:end].decode("utf-8", "ignore"))

    return find


def _joined(finders: list[Finder]) -> Finder:
    def find(reading: Reading) -> Iterator[Find]:
        for finder in finders:
            yield from finder(reading)

    return find
