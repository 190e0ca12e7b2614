"""Whether what came is right: the device's own answer, the cloud's, or the beginning of one and another's end. Never less."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hybridllm.errors import (
    Cancelled,
    CannotServe,
    ContentFiltered,
    ContextLengthExceeded,
    DeadlineExceeded,
    EngineError,
    HybridLLMError,
    RemoteError,
)
from tests.faults.cells import Outcome
from tests.soak.questions import CONTINUED, Question, cloud_pieces

__all__ = ["Asked", "Tally", "wrong_with"]

LONGEST_S = 120.0
"""What an answer without a deadline may take: an engine that hangs is found out in ten seconds, and may hang again."""
MARGIN_S = 5.0
"""What a busy machine may add to a deadline."""
# With a deadline the request may be over before anybody could answer; these say so, and who was in the way.
_IN_TIME_TROUBLE = (DeadlineExceeded, CannotServe, EngineError, RemoteError, ContextLengthExceeded)


@dataclass(frozen=True)
class Asked:
    """How a question was asked."""

    question: Question
    deadline_s: float | None = None
    """Its deadline."""

    stop_after: int | None = None
    """Pieces after which the stream was closed; None for a whole answer."""


@dataclass
class Tally:
    """What came of everything that was asked."""

    outcomes: Counter[str] = field(default_factory=Counter)
    """Answers by who gave them and how, errors by class, streams that were closed."""

    wrong: list[str] = field(default_factory=list)
    """What was wrong with each that was."""

    slowest_s: float = 0.0
    """The longest that anything took."""

    def note(self, asked: Asked, outcome: Outcome, right: str) -> None:
        """Judge one outcome and count it."""
        self.slowest_s = max(self.slowest_s, outcome.took_s)
        wrong = wrong_with(asked, outcome, right)
        if wrong:
            ways = ", ".join(f"{one.place} {one.why} {one.outcome} {one.error or ''}" for one in outcome.attempts)
            self.wrong.append(
                f"{wrong}; question {asked.question.number}, {asked}, {outcome.took_s:.1f} s: {ways}; {outcome}"
            )
        self.outcomes[_kind(asked, outcome)] += 1


def wrong_with(asked: Asked, outcome: Outcome, right: str) -> str:
    """What is wrong with an outcome; empty where nothing is.

    Args:
        asked: What was asked.
        outcome: What came of it.
        right: What the device says to it when it is not disturbed.
    """
    limit_s = LONGEST_S if asked.deadline_s is None else asked.deadline_s + MARGIN_S
    if outcome.took_s > limit_s:
        return f"took {outcome.took_s:.1f} s"
    if asked.question.private and any(attempt.place != "local" for attempt in outcome.attempts):
        return "a private question went elsewhere"
    if outcome.error is not None:
        return _wrong_with_error(asked, outcome, right)
    if outcome.finish_reason is None:
        if asked.stop_after is None:
            return "an answer without an end, and no error"
        return "" if _may_begin_so(asked, outcome, right) else "not the beginning of any answer"
    # Beginnings that are not its own can make a small model talk until its limit.
    went_on_here = outcome.handed_over_at is not None and outcome.served_by == "local"
    if outcome.finish_reason not in (("stop", "length") if went_on_here else ("stop",)):
        return f"ended with {outcome.finish_reason}"
    return _wrong_with_text(asked, outcome, right)


def _wrong_with_text(asked: Asked, outcome: Outcome, right: str) -> str:
    cloud = "".join(cloud_pieces(str(asked.question.request["user"])))
    if outcome.handed_over_at is None:
        return "" if outcome.text == (right if outcome.served_by == "local" else cloud) else "not the right answer"
    before = "".join(outcome.pieces[: outcome.handed_over_at])
    after = "".join(outcome.pieces[outcome.handed_over_at :])
    if outcome.served_by == "local":
        return "" if before and cloud.startswith(before) else "the beginning of the cloud's answer was not kept"
    if not before or not right.startswith(before):
        return "the beginning of the device's answer was not kept"
    return "" if after == CONTINUED else "not what the cloud adds"


def _wrong_with_error(asked: Asked, outcome: Outcome, right: str) -> str:
    error = outcome.error
    if not isinstance(error, HybridLLMError):
        return f"an error that is not one of ours: {type(error).__name__}"
    if outcome.finish_reason is not None:
        return "an end, and an error"
    if not _may_begin_so(asked, outcome, right):
        return "not the beginning of any answer"
    if isinstance(error, Cancelled):
        return "stopped by nobody"
    in_time_trouble = isinstance(error, _IN_TIME_TROUBLE) and not isinstance(error, ContentFiltered)
    if asked.deadline_s is None or not in_time_trouble:
        return f"no answer: {type(error).__name__}: {error}"
    return ""


def _may_begin_so(asked: Asked, outcome: Outcome, right: str) -> bool:
    """Whether a text could be the beginning of a right one."""
    cloud = "".join(cloud_pieces(str(asked.question.request["user"])))
    at = outcome.handed_over_at
    if at is None:
        return any(text.startswith(outcome.text) for text in (right, cloud))
    before = "".join(outcome.pieces[:at])
    return any(text.startswith(before) for text in (right, cloud))


def _kind(asked: Asked, outcome: Outcome) -> str:
    if outcome.error is not None:
        return type(outcome.error).__name__
    if outcome.finish_reason is None:
        return "closed"
    return f"{outcome.served_by} {outcome.attempts[-1].why if outcome.attempts else ''}".strip()
