"""Reading a decision log: its lines' shape, checked, so that nothing but entries reaches a simulation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridllm.errors import HybridLLMError
from policies import FACT_KINDS, FactError, Facts
from policies.errors import printable

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from policies import Place
    from policies.facts import FactKind

__all__ = ["FORMAT", "DecisionLogError", "LoggedAttempt", "LoggedDecision", "read_decision_log"]

FORMAT = 1
"""Version of the lines' shape."""

_LONGEST_LINE_BYTES = 1 << 20
_as_a_decision = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class DecisionLogError(HybridLLMError):
    """A decision log cannot be read.

    Args:
        message: What is wrong, beginning with ``file:line``.
        mend: What to do about it.
        file: The file, as the user named it.
        line: Line, counted from 1; None if the file could not be read at all.
    """

    def __init__(self, message: str, mend: str = "", *, file: str = "", line: int | None = None) -> None:
        super().__init__(message, mend)
        self.file = file
        self.line = line


@dataclass(frozen=True, slots=True)
class LoggedAttempt:
    """One place that was asked, as the log has it."""

    place: str
    """Its name."""

    outcome: str
    """``served``, ``failed`` or ``cancelled``."""

    ttft_ms: float | None
    """Milliseconds from asking it to its first token, loading included; known for the last attempt only."""

    tokens_per_s: float | None
    """Tokens per second after the first one; known for the last attempt only."""

    duration_s: float | None
    """How long it took, in seconds."""


@dataclass(frozen=True, slots=True)
class LoggedDecision:
    """One entry of the log."""

    line: int
    """Its line, counted from 1."""

    time: str
    """When the request came in, UTC, ISO 8601."""

    request_id: str
    """The request's name."""

    facts: Facts
    """What was known."""

    decision: dict[str, Any]
    """What was decided, as ``Decision.to_dict`` gave it."""

    served_by: str
    """The place that answered; empty if none did."""

    attempts: tuple[LoggedAttempt, ...]
    """Every place that was asked, in order."""

    prompt_tokens: int | None
    """Tokens of the prompt, as the place that answered counted them."""

    completion_tokens: int | None
    """Tokens of the answer."""

    egress_bytes: int
    """Bytes of request bodies that left the device."""

    def decision_json(self, *, location: str | None = None) -> str:
        """The recorded decision in the bytes of ``Decision.to_json``; with a location, as if the rule had stood there."""
        decision = self.decision if location is None else {**self.decision, "location": location}
        return _as_a_decision(decision)


def read_decision_log(path: str | os.PathLike[str]) -> Iterator[LoggedDecision]:
    """Read a log from its beginning to its end; a last line that has no line break yet is still being written and left out.

    Raises:
        DecisionLogError: The file cannot be read, or a line is not an entry; the message begins with ``file:line``.
    """
    shown = printable(str(path))
    facts = _FactsReader()
    try:
        with Path(path).open("rb") as stream:
            number = 0
            while raw := stream.readline(_LONGEST_LINE_BYTES + 1):
                number += 1
                if len(raw) > _LONGEST_LINE_BYTES:
                    raise _bad_line(shown, number, "it is longer than 1 MiB")
                if not raw.endswith(b"\n"):
                    return
                try:
                    yield _entry_from(number, json.loads(raw), facts)
                except (_NotAnEntryError, FactError) as error:
                    raise _bad_line(shown, number, str(error).rstrip(".")) from None
                except (ValueError, RecursionError):
                    raise _bad_line(shown, number, "it is not JSON") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DecisionLogError(f"{shown} cannot be read: {reason}.", "Check the path.", file=str(path)) from None


def _bad_line(shown: str, line: int, why: str) -> DecisionLogError:
    return DecisionLogError(
        f"{shown}:{line}: this line is not an entry of a decision log: {why}.", "Remove it.", file=shown, line=line
    )


class _NotAnEntryError(Exception):
    """The sentence is about the line's place and shape only, never about what stands there."""


def _entry_from(line: int, entry: Any, facts: _FactsReader) -> LoggedDecision:
    if not isinstance(entry, dict):
        raise _NotAnEntryError("it is not an object")
    if entry.get("v") != FORMAT:
        raise _NotAnEntryError(f"its version v is not {FORMAT}, which is the one that this release understands")
    outcome = _field(entry, "outcome", dict)
    return LoggedDecision(
        line=line,
        time=_field(entry, "time", str),
        request_id=_field(entry, "request", str),
        facts=facts.read(_field(entry, "facts", dict)),
        decision=_checked_decision(_field(entry, "decision", dict)),
        served_by=_field(outcome, "served_by", str),
        attempts=tuple(map(_attempt_from, _field(outcome, "attempts", list))),
        prompt_tokens=_number(outcome, "prompt_tokens"),
        completion_tokens=_number(outcome, "completion_tokens"),
        egress_bytes=_number(outcome, "egress_bytes") or 0,
    )


class _FactsReader:
    """``Facts.from_dict`` for many lines: what stood in an earlier line already is not checked again.

    Words, places and times come back in line after line, and a log has a hundred thousand lines.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, Any], Any] = {}
        self._places: tuple[object, tuple[Place, ...]] = ([], ())

    def read(self, values: dict[str, Any]) -> Facts:
        """The facts of one line.

        Raises:
            FactError: As ``Facts.from_dict``.
        """
        known: dict[str, Any] = {}
        for name, value in values.items():
            kind = type(value)
            if kind is _PLAIN.get(name) or (kind is int and -_SMALL < value < _SMALL and _PLAIN.get(name) is float):
                known[name] = value
            elif name == "places":
                if value != self._places[0]:
                    self._places = (value, Facts.from_dict({name: value}).places)
                known[name] = self._places[1]
            elif value is not None:
                known[name] = self._remembered(name, value)
        return Facts(**known)

    def _remembered(self, name: str, value: Any) -> Any:
        try:
            key = (name, tuple(value) if type(value) is list else value)
            if key in self._known:
                return self._known[key]
        except TypeError:  # not hashable, so it is no fact's value either, and the next line says so
            key = (name, None)
        fact = getattr(Facts.from_dict({name: value}), name)
        if len(self._known) < _MOST_REMEMBERED:
            self._known[key] = fact
        return fact


# A value of exactly this type needs no further look; the rest is checked by `Facts.from_dict`.
_PLAIN_TYPES: dict[FactKind, type] = {"number": float, "boolean": bool, "label": str}
_PLAIN = {name: _PLAIN_TYPES[kind] for name, kind in FACT_KINDS.items() if kind in _PLAIN_TYPES}
_SMALL = 1 << 53
_MOST_REMEMBERED = 10_000


def _checked_decision(decision: dict[str, Any]) -> dict[str, Any]:
    """The parts of a recorded decision that a reader uses; the rest is only compared."""
    for name in ("policy", "policy_hash", "rule", "label"):
        if type(decision.get(name)) is not str:
            _field(decision, name, str)
    for name in ("candidates", "redact", "redacted_places"):
        for word in _field(decision, name, list):
            if type(word) is not str:
                raise _NotAnEntryError(f"{name} is not a list of words")
    return decision


def _attempt_from(attempt: Any) -> LoggedAttempt:
    if not isinstance(attempt, dict):
        raise _NotAnEntryError("attempts has an element that is not an object")
    return LoggedAttempt(
        place=_field(attempt, "place", str),
        outcome=_field(attempt, "outcome", str),
        ttft_ms=_number(attempt, "ttft_ms"),
        tokens_per_s=_number(attempt, "tokens_per_s"),
        duration_s=_number(attempt, "duration_s"),
    )


def _field(values: dict[str, Any], name: str, kind: type[dict[str, Any]] | type[list[Any]] | type[str]) -> Any:
    value = values.get(name)
    if type(value) is not kind:
        raise _NotAnEntryError(f"{name} is missing or not {_KIND_WORDS[kind]}")
    return value


_KIND_WORDS: dict[type, str] = {dict: "an object", list: "a list", str: "text"}


def _number(values: dict[str, Any], name: str) -> Any:
    value = values.get(name)
    if value is None or ((type(value) is int or type(value) is float) and value >= 0):
        return value
    raise _NotAnEntryError(f"{name} is not a number of at least 0")
