"""Puts the real decision to the test: what it does for facts against what the policy's values say that it has to do."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from policies import decision as decision_module
from policies.facts import Place
from policies.findings import Finding
from policies.reach import FULL, NOTHING, REDACTED, ceilings, location_of, name_of, reach, remotes
from policies.request_fold import Labelled
from policies.schema import DEVICE_ZONE, LOCAL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from policies.decision import Decision
    from policies.facts import Facts
    from policies.findings import FindingKind
    from policies.schema import Policy

__all__ = ["DecisionCheck"]


class DecisionCheck:
    """Asks the decision about facts, with the remote places in every zone there could be.

    Args:
        policy: The policy.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._ceilings = ceilings(policy)
        outcomes = (*range(len(policy.rules)), None)
        self._places = tuple(dict.fromkeys(place for outcome in outcomes for place in remotes(policy, outcome)))
        unnamed = "unnamed-zone"
        while unnamed in policy.zones:
            unnamed += "-"
        self._zones = dict.fromkeys((*policy.zones, unnamed, DEVICE_ZONE))

    def in_zone(self, facts: Facts, zone: str) -> Facts:
        """The facts with every remote place in one zone, with nothing known of it that could rule it out."""
        return replace(facts, places=tuple(Place(name, zone) for name in self._places))

    def findings(self, facts: Facts, outcome: int | None, label: int, redacted: int | None) -> Iterator[Finding]:
        """What the decision gets wrong.

        Args:
            facts: The facts, without places.
            outcome: The rule that has to decide.
            label: Rank of the request's label.
            redacted: Rank of what the rule's redaction leaves; None where there is nothing to take out.
        """
        for zone in self._zones:
            placed = self.in_zone(facts, zone)
            # By the module, so that what is tested is what everybody calls.
            decision = decision_module.decide(self._policy, placed)
            problem = self._problem(decision, outcome, zone, Labelled(label, redacted, refused=False))
            if problem is not None:
                kind, message = problem
                yield Finding(
                    kind=kind,
                    severity="error",
                    location=location_of(self._policy, outcome),
                    subject=name_of(self._policy, outcome),
                    message=message,
                    mend="This is a defect of the decision, not of the policy; do not use this release.",
                    facts=placed,
                )

    def _problem(
        self, decision: Decision, outcome: int | None, zone: str, seen: Labelled
    ) -> tuple[FindingKind, str] | None:
        policy, order = self._policy, self._policy.labels.order
        expected = reach(self._ceilings[zone], seen) if zone in self._ceilings else NOTHING
        for place in decision.candidates:
            if place == LOCAL:
                continue
            redacted = place in decision.redacted_places
            got = REDACTED if redacted else FULL
            if got > expected or (got == REDACTED and seen.redacted is None):
                what = "the redacted text" if redacted else "the text"
                return "leak", f"{place} in zone {zone!r} gets {what} of a request labelled {order[seen.label]!r}."
            shown = decision.label_for(place)
            true = seen.redacted if redacted and seen.redacted is not None else seen.label
            if policy.labels.rank.get(shown, -1) < true:
                return "leak", f"{place} in zone {zone!r} gets text labelled {order[true]!r} that counts as {shown!r}."
            if redacted and outcome is not None and decision.redact != policy.rules[outcome].redact:
                return "leak", f"{place} in zone {zone!r} gets text from which not every named find is taken out."
            if place not in remotes(policy, outcome):
                return "leak", f"{place} in zone {zone!r} is asked, which the route does not name."
        if decision.rule_index != outcome:
            return (
                "decision",
                f"{decision.rule!r} decides where {name_of(policy, outcome)!r} is the first that matches.",
            )
        if decision.label != order[seen.label]:
            return "decision", f"a request labelled {order[seen.label]!r} is decided for as {decision.label!r}."
        asked = [place for place in decision.candidates if place != LOCAL]
        if expected != NOTHING and asked != list(remotes(policy, outcome)):
            return "decision", f"a place in zone {zone!r} is struck out that may be asked."
        if LOCAL not in decision.candidates:
            return "decision", "the device is no candidate."
        return None
