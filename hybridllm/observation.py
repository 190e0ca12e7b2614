"""What metrics and telemetry may learn of a request: numbers, words from closed sets, and names that the operator wrote.

Nothing else of an ``Ended`` gets past this module, so neither of them can show what was asked or answered, whatever a place, a
remote or somebody else's code put where.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, get_args

from hybridllm import errors
from hybridllm.backends.base import FinishReason
from hybridllm.signals import REMOTE
from hybridllm.types.route import Why
from policies import LOCAL
from policies.decision import StruckOutCode

if TYPE_CHECKING:
    from hybridllm.router import Ended
    from hybridllm.types.completion_usage import CompletionUsage
    from hybridllm.types.route import Attempt
    from policies import Decision

__all__ = [
    "ATTEMPT_OUTCOMES",
    "DENIALS",
    "ERRORS",
    "FINISH_REASONS",
    "NOBODY",
    "OTHER",
    "OUTCOMES",
    "PLACES",
    "REASONS",
    "ROUTES",
    "RULED_OUT",
    "WHYS",
    "ObservedAttempt",
    "ObservedMove",
    "ObservedRequest",
    "ObservedTokens",
    "observed",
]

OTHER: Final = "other"
"""Stands for every word that is not in its closed set."""

NOBODY: Final = "none"
"""The route of a request for which no place was asked."""

PLACES: Final = (LOCAL, REMOTE, OTHER)
"""Places that can be asked."""

ROUTES: Final = (*PLACES, NOBODY)
"""Places that a request can have ended at."""

REASONS: Final = (
    "preferred",
    "only_candidate",
    "fallback",
    "hedge",
    "continued",
    "restarted",
    "denied",
    "nobody",
    OTHER,
)
"""Why a request ended where it did: the place stood first; there was no other; the one before it failed before its first token;
the one before it was late; it went on with, or began anew, an answer that broke off; the request was refused for privacy; no
place was asked."""

OUTCOMES: Final = ("answered", "cancelled", "denied", "failed")
"""What became of a request: a whole answer; stopped by whoever asked; refused for privacy; any other error."""

WHYS: Final = (*get_args(Why), OTHER)
"""Why a place was asked; see ``hybridllm.types.route.Why``."""

ATTEMPT_OUTCOMES: Final = ("served", "failed", "cancelled", OTHER)
"""What became of an attempt."""

ERRORS: Final = (*errors.__all__, OTHER)
"""Classes of errors."""

FINISH_REASONS: Final = (*get_args(FinishReason), OTHER)
"""Why an answer ended."""

RULED_OUT: Final = (*get_args(StruckOutCode), OTHER)
"""Why a place was no candidate; see ``policies.decision.StruckOutCode``."""

_DENYING_ERRORS: Final = {
    "PolicyDenied": "policy_denied",
    "PrivacyViolation": "privacy_violation",
    "PolicyTightened": "policy_tightened",
    "RedactionFailed": "redaction_failed",
    "AddressRefused": "address_refused",
    "AuditError": "audit_error",
}
_DENYING_CODES: Final = ("label", "zone")

DENIALS: Final = (*_DENYING_CODES, *_DENYING_ERRORS.values())
"""Why something was not allowed: a place's zone may not see the label, or has no ceiling; a request was refused; bytes had no
permit that fits; a new policy forbade what the old one allowed; a text could not be redacted; a remote's address is not one that
its zone allows; the audit log could not record what was about to leave."""

_REASON_OF_WHY: Final = {"fallback": "fallback", "hedge": "hedge", "continue": "continued", "restart": "restarted"}
_MOVES: Final = ("fallback", "continue", "restart")
_DENIED: Final = ("PolicyDenied", "PrivacyViolation")
# What a remote says of its tokens is only a number that somebody wrote; beyond this it is not one of tokens.
_MOST_TOKENS: Final = 2**31
_MOST_ANSWERS: Final = 16
_LONGEST_S: Final = 2.0**26  # two years; no request takes longer
_LATEST_S: Final = 2.0**33  # Unix seconds; in 2242


@dataclass(frozen=True, slots=True)
class ObservedTokens:
    """Tokens of one place, or of a whole request."""

    prompt: int
    """Of the prompt."""

    cached: int
    """Of these, the ones that needed no prefill."""

    completion: int
    """Of the answer."""


@dataclass(frozen=True, slots=True)
class ObservedAttempt:
    """One place that was asked."""

    place: str
    """One of ``PLACES``."""

    why: str
    """One of ``WHYS``."""

    outcome: str
    """One of ``ATTEMPT_OUTCOMES``."""

    error: str
    """One of ``ERRORS``; empty where there was none."""

    started_s: float
    """When it began, in seconds after the request came in."""

    duration_s: float
    """How long it took, in seconds."""

    first_token_s: float | None
    """Seconds from its beginning to its first token; None if there was none."""

    tokens: ObservedTokens | None
    """Its tokens; None where they are unknown."""

    tries: int
    """How often the place was asked, retries included; at least 1."""

    egress_bytes: int
    """Bytes of request bodies that left the device."""

    @property
    def token_s(self) -> float | None:
        """Mean seconds from one token to the next; None for an answer that is not whole, or has fewer than two."""
        if self.outcome != "served" or self.first_token_s is None or self.tokens is None or self.tokens.completion < 2:
            return None
        return max(0.0, self.duration_s - self.first_token_s) / (self.tokens.completion - 1)


@dataclass(frozen=True, slots=True)
class ObservedMove:
    """A request, or an answer in the middle, moved from a place that failed to the next one."""

    origin: str
    """Who failed, one of ``PLACES``."""

    target: str
    """Who was asked next, one of ``PLACES``."""

    error: str
    """What the first one failed with, one of ``ERRORS``."""


@dataclass(frozen=True, slots=True)
class ObservedRequest:
    """A request that is over."""

    request_id: str
    """Its name, which the client made."""

    route: str
    """Who answered, or was asked last: one of ``ROUTES``."""

    reason: str
    """Why that one: one of ``REASONS``."""

    outcome: str
    """One of ``OUTCOMES``."""

    error: str
    """What it ended with, one of ``ERRORS``; empty where it was answered."""

    finish_reasons: tuple[str, ...]
    """Why each answer ended, of ``FINISH_REASONS``; empty where they did not become whole."""

    rule: str
    """Name of the policy's rule that decided; ``default`` if none matched."""

    label: str
    """The request's label, one of the policy's."""

    streamed: bool
    """Whether the answer was asked for piece by piece."""

    began_at_s: float
    """When it came in, in Unix seconds."""

    duration_s: float
    """How long it took, in seconds."""

    first_token_s: float | None
    """Seconds from the request to its first token, everything included; None if there was none."""

    tokens: ObservedTokens | None
    """Tokens of the answer, all places together; None where they are unknown."""

    egress_bytes: int
    """Bytes of request bodies that left the device."""

    attempts: tuple[ObservedAttempt, ...]
    """Every place that was asked, in order."""

    moves: tuple[ObservedMove, ...]
    """Every time that a failure was followed by another place."""

    denials: tuple[str, ...]
    """What was not allowed, each one of ``DENIALS``."""

    ruled_out: tuple[tuple[str, str], ...]
    """Places that the policy named and that were no candidates, with why: of ``PLACES`` and of ``RULED_OUT``."""


def observed(ended: Ended) -> ObservedRequest:
    """What may be said of a request."""
    route, labelled, decision = ended.route, ended.assessment.labelled, ended.assessment.decision
    attempts = tuple([_attempt(attempt) for attempt in route.attempts])
    error = _one_of(ERRORS, ended.error_type) if ended.error_type else ""
    outcome = _outcome(error)
    served_by = _one_of(PLACES, route.served_by) if route.served_by else NOBODY
    return ObservedRequest(
        request_id=ended.request_id,
        route=served_by,
        reason=_reason(served_by, outcome, attempts, len(decision.candidates)),
        outcome=outcome,
        error=error,
        finish_reasons=_finish_reasons(ended),
        rule=decision.rule,
        label=decision.label,
        streamed=labelled.request.stream,
        began_at_s=_seconds(ended.began_at_s, _LATEST_S) or 0.0,
        duration_s=_seconds(ended.duration_s) or 0.0,
        first_token_s=_from_ms(route.ttft_ms),
        tokens=_tokens(ended.usage),
        egress_bytes=max(0, route.egress_bytes),
        attempts=attempts,
        moves=_moves(attempts),
        denials=_denials(decision, attempts, error),
        ruled_out=tuple([(_one_of(PLACES, out.place), _one_of(RULED_OUT, out.code)) for out in decision.struck_out]),
    )


def _finish_reasons(ended: Ended) -> tuple[str, ...]:
    reasons = ended.finish_reasons or ((ended.finish_reason,) if ended.finish_reason else ())
    return tuple([_one_of(FINISH_REASONS, reason) for reason in reasons[:_MOST_ANSWERS]])


def _attempt(attempt: Attempt) -> ObservedAttempt:
    return ObservedAttempt(
        place=_one_of(PLACES, attempt.place),
        why=_one_of(WHYS, attempt.why),
        outcome=_one_of(ATTEMPT_OUTCOMES, attempt.outcome),
        error=_one_of(ERRORS, attempt.error_type) if attempt.error_type else "",
        started_s=_seconds(attempt.started_s) or 0.0,
        duration_s=_seconds(attempt.duration_s) or 0.0,
        first_token_s=_from_ms(attempt.ttft_ms),
        tokens=_tokens(attempt.usage),
        tries=max(1, attempt.tries),
        egress_bytes=max(0, attempt.egress_bytes),
    )


def _outcome(error: str) -> str:
    if not error:
        return "answered"
    if error == "Cancelled":
        return "cancelled"
    return "denied" if error in _DENIED else "failed"


def _reason(route: str, outcome: str, attempts: tuple[ObservedAttempt, ...], candidates: int) -> str:
    if outcome == "denied":
        return "denied"
    asked = [attempt for attempt in attempts if attempt.place == route]
    if not asked:
        return "nobody"
    serving = next((attempt for attempt in asked if attempt.outcome == "served"), asked[-1])
    if serving.why == "first":
        return "preferred" if candidates > 1 else "only_candidate"
    return _REASON_OF_WHY.get(serving.why, OTHER)


def _moves(attempts: tuple[ObservedAttempt, ...]) -> tuple[ObservedMove, ...]:
    moves = []
    failed: ObservedAttempt | None = None
    for attempt in attempts:
        if attempt.why in _MOVES and failed is not None:
            moves.append(ObservedMove(failed.place, attempt.place, failed.error or OTHER))
        if attempt.outcome == "failed":
            failed = attempt
    return tuple(moves)


def _denials(decision: Decision, attempts: tuple[ObservedAttempt, ...], error: str) -> tuple[str, ...]:
    denials: list[str] = [out.code for out in decision.struck_out if out.code in _DENYING_CODES]
    failures = [attempt.error for attempt in attempts]
    if error not in failures:  # an attempt's failure can be what the request ended with
        failures.append(error)
    denials += [_DENYING_ERRORS[failure] for failure in failures if failure in _DENYING_ERRORS]
    return tuple(denials)


def _tokens(usage: CompletionUsage | None) -> ObservedTokens | None:
    if usage is None:
        return None
    prompt = _count(usage.prompt_tokens)
    details = usage.prompt_tokens_details
    cached = 0 if details is None else min(prompt, _count(details.cached_tokens))
    return ObservedTokens(prompt, cached, _count(usage.completion_tokens))


def _one_of(words: tuple[str, ...], word: object) -> str:
    return word if isinstance(word, str) and word in words else OTHER


def _count(number: int) -> int:
    return min(max(0, number), _MOST_TOKENS)


def _seconds(value: float | None, most: float = _LONGEST_S) -> float | None:
    return value if value is not None and 0 <= value <= most else None


def _from_ms(value_ms: float | None) -> float | None:
    return None if value_ms is None else _seconds(value_ms / 1000)
