"""Redaction: the finds of detectors are replaced by typed placeholders on the way out, and put back on the way in.

It is the only way in which text can become less sensitive, and a policy has to ask for it in a rule. What was found stays in
this process: the place gets ``[EMAIL_1]`` and the caller gets the address.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hybridllm.redactable import rewritten

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from hybridllm.detectors import DetectorSet, Span
    from hybridllm.types.chat_request import ChatRequest

__all__ = ["Redaction", "Restorer", "redacted"]

_PLACEHOLDER = re.compile(r"\[([A-Z0-9_.-]{1,64})_([1-9][0-9]{0,8})\]", re.IGNORECASE)
_LONGEST_PLACEHOLDER = 64 + 1 + 9 + 2
_LARGEST_TAKEN = 1_000_000  # a larger number is nobody's placeholder, and ours must not grow beyond their own pattern


@dataclass(frozen=True, slots=True)
class Redaction:
    """A request with placeholders, and what they stand for."""

    request: ChatRequest = field(repr=False)
    """The request as the place gets it."""

    originals: dict[str, str] = field(repr=False)
    """What each placeholder stands for, by the placeholder in capitals."""


def redacted(request: ChatRequest, detectors: DetectorSet, names: Collection[str]) -> Redaction:
    """Replace what some detectors find in the texts of a request that may be written anew (see ``redactable``).

    Args:
        request: The request.
        detectors: The policy's detectors.
        names: Those whose finds are replaced.

    Raises:
        DetectorFailedError: A detector failed; then nothing may be taken for redacted.
    """
    texts: list[str] = []

    def collected(text: str) -> str:
        texts.append(text)
        return text

    rewritten(request, collected, str)
    # A placeholder that stands in any other part, a schema for instance, is not ours either.
    placeholders = _Placeholders([*texts, *(text for _, text in request.texts())], names)
    done: Iterator[str] = (
        placeholders.put_into(text, [span for span in spans if span.detector in names])
        for text, spans in zip(texts, detectors.spans_of(texts), strict=True)
    )
    return Redaction(rewritten(request, lambda _: next(done), _bare), placeholders.originals)


def _bare(text: str) -> str:
    """Placeholders without brackets, for fields in which servers want plain words."""
    return _PLACEHOLDER.sub(lambda match: match.group()[1:-1], text)


class _Placeholders:
    """Gives equal finds equal placeholders, and none that stands in the request already."""

    def __init__(self, texts: Sequence[str], names: Collection[str]) -> None:
        self.originals: dict[str, str] = {}
        self._numbers: dict[tuple[str, str], int] = {}
        self._counts: Counter[str] = Counter()
        capitals = {name.upper() for name in names}
        taken = [
            int(match.group(2))
            for text in texts
            for match in _PLACEHOLDER.finditer(text)
            if match.group(1).upper() in capitals and int(match.group(2)) <= _LARGEST_TAKEN
        ]
        self._offset = max(taken, default=0)

    def put_into(self, text: str, spans: Sequence[Span]) -> str:
        """The text with placeholders where the spans are."""
        pieces = []
        at = 0
        for span in _merged(spans):
            pieces += [text[at : span.start], self._placeholder(span.detector, text[span.start : span.end])]
            at = span.end
        return "".join((*pieces, text[at:]))

    def _placeholder(self, detector: str, found: str) -> str:
        kind = detector.upper()  # placeholders are read in any case, so names that differ in it count together
        number = self._numbers.get((kind, found))
        if number is None:
            self._counts[kind] += 1
            number = self._numbers[kind, found] = self._offset + self._counts[kind]
        placeholder = f"[{kind}_{number}]"
        self.originals[placeholder] = found
        return placeholder


def _merged(spans: Sequence[Span]) -> list[Span]:
    """Spans in order, those that overlap made one under the name of the longest."""
    merged: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        last = merged[-1] if merged else None
        if last is None or span.start >= last.end:
            merged.append(span)
        elif span.end > last.end:
            longest = max(last, span, key=lambda one: one.end - one.start)
            merged[-1] = type(span)(longest.detector, last.start, span.end)
    return merged


class Restorer:
    """Puts originals back into an answer that comes in pieces; a placeholder may be cut anywhere.

    Args:
        redaction: What was replaced.

    Attributes:
        restored: Whether an original was put back so far.
    """

    def __init__(self, redaction: Redaction) -> None:
        self._redaction = redaction
        self._held = ""
        self.restored = False

    def push(self, text: str) -> str:
        """The next piece as the caller may have it; what could be the beginning of a placeholder is held back."""
        text = self._held + text
        opened = text.rfind("[", max(0, len(text) - _LONGEST_PLACEHOLDER))
        # Whatever closes the last bracket decides about it; a new line or a space inside means that it is none.
        if opened >= 0 and re.fullmatch(r"\[[A-Za-z0-9_.-]*", text[opened:]):
            text, self._held = text[:opened], text[opened:]
        else:
            self._held = ""
        return _PLACEHOLDER.sub(self._original, text)

    def rest(self) -> str:
        """What was held back, at the end of the answer."""
        held, self._held = self._held, ""
        return held

    def _original(self, match: re.Match[str]) -> str:
        original = self._redaction.originals.get(match.group().upper())
        if original is None:
            return match.group()
        self.restored = True
        return original
