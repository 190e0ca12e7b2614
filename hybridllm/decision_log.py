"""The decision log: what was known, decided and measured for each request, one JSON object a line, without any content.

``hybridllm policy simulate`` decides it again under another policy. Deciding an entry again under the policy that wrote it
gives the same decision, byte for byte.
"""

from __future__ import annotations

import json
import logging
import os
import stat
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridllm.logged_decision import FORMAT, DecisionLogError, LoggedAttempt, LoggedDecision, read_decision_log
from policies import CONNECTIVITY, WEEKDAYS
from policies.errors import printable
from policies.facts import TIME

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from hybridllm.types.completion_usage import CompletionUsage
    from hybridllm.types.route import Attempt, Route
    from policies import Decision, Facts, Policy

__all__ = [
    "MASKED",
    "DecisionLog",
    "DecisionLogError",
    "LoggedAttempt",
    "LoggedDecision",
    "entry_of",
    "read_decision_log",
]

MASKED = "other"
"""Stands in an entry for words of a caller that the policy does not know, such as a misspelt tag."""

_MAX_BYTES = 64 << 20
_ROTATED = ".1"
# What is beyond is written as a power of ten: a policy has no number that large, and JSON no infinity.
_HUGE, _HUGER = 10**18, 10**300
# O_NONBLOCK keeps a pipe without a reader from holding an answer up; Windows has neither it nor O_CLOEXEC, but O_BINARY.
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT
_FLAGS |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_log = logging.getLogger("hybridllm")
_as_a_line = json.JSONEncoder(separators=(",", ":")).encode  # made once: json.dumps would make one for every entry


class DecisionLog:
    """Appends entries to a file, one line and one write each.

    It never raises and never keeps an answer from coming: where the file cannot be written, one warning goes to the logger
    ``hybridllm``, and the next entry tries again. Several threads and processes may share a file. A new file is readable by its
    owner only.

    Args:
        path: The file; its folder has to exist.
        max_bytes: Before the file grows beyond this it becomes ``path`` + ``.1``, in the place of the one before it.
    """

    def __init__(self, path: str | os.PathLike[str], *, max_bytes: int = _MAX_BYTES) -> None:
        self.path = Path(path)
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._failing = False
        self._rotation_failing = False
        self._ends_whole = False

    def append(self, entry: dict[str, Any]) -> None:
        """Write an entry as one line; see ``entry_of``."""
        line = _as_a_line(entry).encode("ascii") + b"\n"
        with self._lock:
            try:
                self._write(line)
            except OSError as error:
                if not self._failing:
                    reason = error.strerror or type(error).__name__
                    shown = printable(str(self.path))
                    _log.warning("The decision log %s cannot be written: %s. Every entry tries again.", shown, reason)
                self._failing, self._ends_whole = True, False
            else:
                self._failing = False

    def _write(self, line: bytes) -> None:
        # Opened for each line: a file that was moved, removed or full a moment ago needs no special case.
        descriptor = os.open(self.path, _FLAGS, 0o600)
        try:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise OSError(0, "it is not a regular file")
            if about.st_size and about.st_size + len(line) > self._max_bytes:
                os.close(descriptor)  # Windows renames no file that is open
                descriptor = -1
                self._rotate(len(line))
                descriptor = os.open(self.path, _FLAGS, 0o600)
                about = os.fstat(descriptor)
            if not self._ends_whole and about.st_size:
                os.lseek(descriptor, -1, os.SEEK_END)
                if os.read(descriptor, 1) != b"\n":  # a full disk or a crash cut a line; it must not swallow this one
                    line = b"\n" + line
            self._ends_whole = True
            written = os.write(descriptor, line)
            if written < len(line):
                raise OSError(0, f"only {written} of {len(line)} bytes were taken")
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _rotate(self, more_bytes: int) -> None:
        """Move the full file away; where another process is at it, or it cannot be moved, the file grows on."""
        from filelock import FileLock, Timeout

        lock = FileLock(f"{self.path}.lock", timeout=0, mode=0o600)
        try:
            with lock:
                if self.path.stat().st_size + more_bytes > self._max_bytes:
                    self.path.replace(f"{self.path}{_ROTATED}")
                    self._ends_whole = True
        except Timeout:
            return
        except OSError as error:
            if not self._rotation_failing:
                reason = error.strerror or type(error).__name__
                _log.warning("The decision log %s cannot be rotated: %s.", printable(str(self.path)), reason)
            self._rotation_failing = True


def entry_of(
    policy: Policy,
    facts: Facts,
    decision: Decision,
    route: Route,
    usage: CompletionUsage | None,
    *,
    request_id: str,
    at_s: float | None = None,
) -> dict[str, Any]:
    """What the log keeps of a request, as plain values.

    Nothing in it was written by a caller or a model: labels, tags and detectors that the policy does not know are masked,
    of errors only the class is kept, and what is not a number is left out. None of that changes the decision.

    Args:
        policy: The policy that decided.
        facts: What was known.
        decision: What was decided.
        route: Which way it went.
        usage: Tokens as the place that answered counted them; None if nobody answered or it did not say.
        request_id: The request's name.
        at_s: When it came in, in Unix seconds; None for now.
    """
    served = any(attempt.outcome == "served" for attempt in route.attempts)
    attempts = [
        _attempt(attempt, route.tokens_per_s if attempt.outcome == "served" or not served else None)
        for attempt in route.attempts
    ]
    return {
        "v": FORMAT,
        "time": datetime.fromtimestamp(time.time() if at_s is None else at_s, UTC).isoformat(timespec="milliseconds"),
        "request": request_id,
        "facts": _content_free(policy, facts),
        "decision": decision.to_dict(),
        "outcome": {
            "served_by": route.served_by if served else "",
            "attempts": attempts,
            "prompt_tokens": None if usage is None else usage.prompt_tokens,
            "completion_tokens": None if usage is None else usage.completion_tokens,
            "egress_bytes": route.egress_bytes,
        },
    }


def _attempt(attempt: Attempt, tokens_per_s: float | None) -> dict[str, Any]:
    """One attempt, and the speed of the answer where it is this attempt's."""
    return {
        "place": attempt.place,
        "outcome": attempt.outcome,
        "error": (attempt.error or "").partition(":")[0],
        "ttft_ms": attempt.ttft_ms,
        "tokens_per_s": tokens_per_s,
        "duration_s": attempt.duration_s,
        "egress_bytes": attempt.egress_bytes,
    }


def _content_free(policy: Policy, facts: Facts) -> dict[str, Any]:
    known = facts.to_dict()
    for name in ("label", "declared_label"):
        if known.get(name) not in policy.labels.rank:
            known.pop(name, None)  # counts as the top label, as an unknown one does
    for name, words in (("tags", policy.labels.tags), ("detected", policy.detector_labels)):
        if name in known:
            known[name] = _masked(known[name], _words_of_conditions(policy, name).union(words))
    for name, choices in (("connectivity", CONNECTIVITY), ("weekday", WEEKDAYS)):
        if known.get(name) not in choices:
            known.pop(name, None)
    if not TIME.fullmatch(str(known.get("time_of_day"))):
        known.pop("time_of_day", None)
    for name, value in list(known.items()):
        if value != value:
            del known[name]  # not a number: it counts as unknown, and JSON has no word for it
        elif isinstance(value, int | float) and not -_HUGE < value < _HUGE:
            known[name] = float(max(-_HUGER, min(value, _HUGER)))  # still beyond every number of a policy
    return known


def _words_of_conditions(policy: Policy, fact: str) -> set[str]:
    words: set[str] = set()
    for rule in policy.rules:
        for condition in rule.when:
            if condition.fact == fact:
                operand = condition.operand
                words.update(map(str, operand if isinstance(operand, tuple) else (operand,)))
    return words


def _masked(words: Iterable[str], known: Collection[str]) -> list[str]:
    mask = MASKED
    while mask in known:  # a word of the policy's must not seem to have been said
        mask += "-"
    return sorted({word if word in known else mask for word in words})
