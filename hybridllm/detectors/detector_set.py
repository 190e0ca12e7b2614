"""The detectors of one policy, ready to read: what they find in a request, and where it stands in a text."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from hybridllm.detectors.contact import find_emails, find_phones
from hybridllm.detectors.errors import DetectorError, DetectorFailedError
from hybridllm.detectors.iban import find_ibans
from hybridllm.detectors.national_ids import find_national_ids
from hybridllm.detectors.normalize import Origin, normalized
from hybridllm.detectors.passport import find_machine_readable_zones
from hybridllm.detectors.payment_card import find_payment_cards
from hybridllm.detectors.reading import Find, Finder, Reading, unbroken
from hybridllm.detectors.secrets import find_api_keys, find_private_keys
from hybridllm.detectors.worker import BusyError, run_with_timeout

if TYPE_CHECKING:
    from policies import Detector

__all__ = ["BUILT_IN", "DetectorSet", "Scan", "Span", "detector_set"]

BUILT_IN: dict[str, Finder] = {
    "payment_card": find_payment_cards,
    "iban": find_ibans,
    "national_id": find_national_ids,
    "passport": find_machine_readable_zones,
    "email": find_emails,
    "phone": find_phones,
    "api_key": find_api_keys,
    "private_key": find_private_keys,
}
"""The detectors that are part of this package; each takes time in proportion to the text."""

Across = Literal["digits", "tokens", "anything", "nothing"]
"""What a detector recognises across a line break, or across the end of a text and the beginning of the next: numbers, words
without blanks, whatever it looks for; nothing more where it looks over line breaks by itself."""

_ACROSS: dict[str, Across] = {
    "payment_card": "digits",
    "national_id": "digits",
    "phone": "digits",
    "email": "tokens",
    "api_key": "tokens",
}

SlowFinder = Callable[[str], list[Find]]
"""A detector that may take long: every find in a normalised text."""

TIMEOUT_S = 2.0
"""How long a slow detector may read one request."""


@dataclass(frozen=True, slots=True)
class Span:
    """Where a detector found something."""

    detector: str
    """Its name."""

    start: int
    """First character, in the original text."""

    end: int
    """The character after the last one."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What the detectors said about a request."""

    found: Mapping[str, str]
    """For each detector that found something the path of the text where its first find begins."""

    failed: Mapping[str, str]
    """For each detector that failed what happened, without anything that stood in a text: it may have missed something."""


class DetectorSet:
    """The detectors of a policy.

    Args:
        detectors: As the policy names them.
        timeout_s: How long a slow detector may read one request.

    Raises:
        DetectorError: One of them cannot be made: RE2 refuses its pattern, or a package is not installed.
    """

    def __init__(self, detectors: Sequence[Detector], *, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._finders: list[tuple[str, Finder, Across]] = []
        self._slow_finders: list[tuple[str, SlowFinder]] = []
        for detector in detectors:
            if detector.words or detector.pattern:
                from hybridllm.detectors import words

                make = words.word_finder if detector.words else words.pattern_finder
                self._finders.append((detector.name, make(detector), "anything"))
            elif detector.name == "presidio":
                from hybridllm.detectors.presidio import presidio_finder

                self._slow_finders.append((detector.name, presidio_finder(detector)))
            elif detector.name in BUILT_IN:
                self._finders.append((detector.name, BUILT_IN[detector.name], _ACROSS.get(detector.name, "nothing")))
            else:
                raise DetectorError(
                    detector.name, "is none that this release knows.", f"Use one of {', '.join(BUILT_IN)}, presidio."
                )
        self.slow = bool(self._slow_finders)
        """Whether a detector among them should not run in an event loop's thread."""

    def scan(self, texts: Sequence[tuple[str, str]]) -> Scan:
        """Read all texts of one request, with what begins in one of them and ends in the next.

        Args:
            texts: Path and text of each, in the order in which a model reads them.
        """
        plain = [normalized(text) for _, text in texts]
        joined = "\n".join(plain)
        first: dict[str, int] = {}
        failed: dict[str, str] = {}
        whole = Reading(joined)
        lines = _Unbroken(joined)
        for name, finder, across in self._finders:
            try:
                find = next(finder(whole), None)
                if find is None:
                    find = next(lines.finds(finder, across), None)
                if find is not None:
                    first[name] = find[0]
            except Exception as error:  # noqa: BLE001 - whatever went wrong, the caller has to take it for a find
                failed[name] = f"failed with {type(error).__name__}"
        for name, slow in self._slow_finders:
            try:
                finds = self._run(name, slow, joined)
            except DetectorFailedError as error:
                failed[name] = error.what
                continue
            if finds:
                first[name] = min(finds)[0]
        if not first:
            return Scan({}, failed)
        starts = [0]
        for text in plain:
            starts.append(starts[-1] + len(text) + 1)
        return Scan({name: texts[bisect_right(starts, at) - 1][0] for name, at in first.items()}, failed)

    def spans(self, text: str) -> list[Span]:
        """Every find of every detector in one text; those of one detector do not overlap. Sorted.

        Raises:
            DetectorFailedError: A detector failed; then nobody knows what else is in the text.
        """
        return self.spans_of([text])[0]

    def spans_of(self, texts: Sequence[str]) -> list[list[Span]]:
        """For each text what ``spans`` says of it, and its part of every find that begins in one text and ends in another.

        Args:
            texts: All texts of one request, in the order in which a model reads them.

        Raises:
            DetectorFailedError: A detector failed; then nobody knows what else is in the texts.
        """
        origins = [Origin(text) for text in texts]
        joined = "\n".join(origin.normalized for origin in origins)
        whole = Reading(joined)
        lines = _Unbroken(joined)
        spans: list[list[Span]] = [[] for _ in texts]
        for name, finder, across in self._finders:
            try:
                finds = [*finder(whole), *lines.finds(finder, across)]
            except Exception as error:  # noqa: BLE001 - an error of its own, since this one may show what was read
                raise DetectorFailedError(name, f"failed with {type(error).__name__}") from None
            _add_spans(spans, name, finds, origins)
        for name, slow in self._slow_finders:
            _add_spans(spans, name, self._run(name, slow, joined), origins)
        return [sorted(found, key=lambda span: (span.start, span.end, span.detector)) for found in spans]

    def _run(self, name: str, slow: SlowFinder, text: str) -> list[Find]:
        try:
            return run_with_timeout(lambda: slow(text), self._timeout_s, name=name)
        except TimeoutError:
            raise DetectorFailedError(name, f"took longer than {self._timeout_s:g} s") from None
        except BusyError:
            raise DetectorFailedError(name, "is still busy with earlier texts") from None
        except Exception as error:  # noqa: BLE001 - as above
            raise DetectorFailedError(name, f"failed with {type(error).__name__}") from None


class _Unbroken:
    """A text without its line breaks, read for what reaches over one of them."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._variants: dict[bool, tuple[Reading, list[int], list[int]] | None] = {}
        if "\n" not in text:
            self._variants = {True: None, False: None}

    def finds(self, finder: Finder, across: Across) -> Iterator[Find]:
        """Finds that reach over a line break, as places in the text with its line breaks."""
        if across == "nothing":
            return
        digits = across == "digits"
        if digits not in self._variants:
            text, starts, origins, breaks = unbroken(self._text, digits=digits)
            self._variants[digits] = (Reading(text, tuple(breaks)), starts, origins) if breaks else None
        variant = self._variants[digits]
        if variant is None:
            return
        reading, starts, origins = variant
        if across == "tokens" and "@" not in reading.text and not reading.has_long_token:
            return
        for start, end in finder(reading):
            if reading.reaches_over_a_break(start, end):
                yield _origin(start, starts, origins), _origin(end - 1, starts, origins) + 1


def _origin(at: int, starts: list[int], origins: list[int]) -> int:
    line = bisect_right(starts, at) - 1
    return origins[line] + at - starts[line]


def _add_spans(spans: list[list[Span]], name: str, finds: list[Find], origins: list[Origin]) -> None:
    """Add the finds of one detector in the joined texts to the spans of each original text, those that overlap made one."""
    starts = [0]
    for origin in origins:
        starts.append(starts[-1] + len(origin.normalized) + 1)
    begun = ended = 0
    merged: list[Find] = []
    for begin, end in sorted(finds):
        if merged and begin < ended:
            ended = max(ended, end)
        else:
            begun, ended = begin, end
            merged.append((begun, ended))
        merged[-1] = (begun, ended)
    for begin, end in merged:
        for at in range(bisect_right(starts, begin) - 1, bisect_left(starts, end)):
            first, last = max(0, begin - starts[at]), min(end - starts[at], starts[at + 1] - 1 - starts[at])
            if first < last:
                start, stop = origins[at].span(first, last)
                _append(spans[at], Span(name, start, stop))


def _append(spans: list[Span], span: Span) -> None:
    """Add a span that begins no earlier than the ones before it; one character may be part of two finds."""
    last = spans[-1] if spans else None
    if last is not None and last.detector == span.detector and span.start < last.end:
        spans[-1] = Span(span.detector, last.start, max(last.end, span.end))
    else:
        spans.append(span)


@lru_cache(maxsize=64)
def detector_set(detectors: tuple[Detector, ...]) -> DetectorSet:
    """The detectors of a policy; made once and kept.

    Raises:
        DetectorError: One of them cannot be made.
    """
    return DetectorSet(detectors)
