"""What a verification finds, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from policies.facts import Facts

__all__ = ["Finding", "FindingKind", "MayLeave", "Severity", "UnknownSignal", "Verification"]

Severity = Literal["error", "warning", "information"]
"""How bad a finding is. An error fails the verification, a warning only a strict one."""

FindingKind = Literal[
    "leak",
    "decision",
    "guarantee",
    "empty_guarantee",
    "impossible_rule",
    "contradiction",
    "shadowed_rule",
    "undecided",
    "widening",
    "unused_candidate",
    "dropped_guarantee",
    "default_not_reached",
    "narrowing",
    "handling",
]
"""What was found, for programs; docs/policies.md says what each of them means."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found."""

    kind: FindingKind
    """What it is, for programs."""

    severity: Severity
    """How bad it is."""

    location: str
    """Where, as ``file:line``."""

    subject: str
    """The rule or guarantee that it is about; ``default`` for the default, empty for the policy as a whole."""

    message: str
    """What was found, one sentence."""

    mend: str = ""
    """What to do about it, one sentence; may be empty."""

    facts: Facts | None = None
    """A counterexample; decide on it to see what was found."""

    old_facts: Facts | None = None
    """In a comparison the same request's facts under the other policy; None if that one refuses the request."""

    request: str = ""
    """In a comparison, the request in words."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values; the facts in the shape of ``Facts.to_dict``."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "location": self.location,
            "subject": self.subject,
            "message": self.message,
            "mend": self.mend,
            "facts": None if self.facts is None else self.facts.to_dict(),
            "old_facts": None if self.old_facts is None else self.old_facts.to_dict(),
            "request": self.request,
        }


@dataclass(frozen=True, slots=True)
class MayLeave:
    """What may reach one zone with one label."""

    zone: str
    """The zone."""

    label: str
    """The request's label."""

    rules: tuple[str, ...]
    """Rules by which such a request may reach the zone as it is; ``default`` is the default."""

    redacted: tuple[str, ...]
    """Rules by which it may reach the zone without what their detectors find."""


@dataclass(frozen=True, slots=True)
class UnknownSignal:
    """What happens while one fact is unknown."""

    fact: str
    """The fact."""

    cannot_match: tuple[str, ...]
    """Rules that then cannot match."""

    counts_as: str
    """What it counts as; empty where it simply matches nothing."""

    remaining: Mapping[str, tuple[tuple[str, tuple[str, ...]], ...]]
    """For each label of a request the rules that can still decide, with their routes."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What is true of a policy over all facts."""

    findings: tuple[Finding, ...]
    """What was found, the worst first."""

    may_leave: tuple[MayLeave, ...]
    """For each zone and each label what may leave the device."""

    unknown_signals: tuple[UnknownSignal, ...]
    """For each fact that rules ask for what happens while it is unknown."""

    states: int
    """States that were looked at."""

    def passes(self, *, strict: bool = False) -> bool:
        """Whether there is no error, and with ``strict`` no warning either."""
        failing = ("error", "warning") if strict else ("error",)
        return not any(finding.severity in failing for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "findings": [finding.to_dict() for finding in self.findings],
            "may_leave": [
                {"zone": row.zone, "label": row.label, "rules": list(row.rules), "redacted": list(row.redacted)}
                for row in self.may_leave
            ],
            "unknown_signals": [
                {
                    "fact": signal.fact,
                    "cannot_match": list(signal.cannot_match),
                    "counts_as": signal.counts_as,
                    "remaining": {
                        label: [{"rule": rule, "route": list(route)} for rule, route in rules]
                        for label, rules in signal.remaining.items()
                    },
                }
                for signal in self.unknown_signals
            ],
            "states": self.states,
        }
