"""Proves what a policy lets leave the device, over all facts that its language allows, and finds what cannot be meant.

The facts are those of a request: its label is the join of what is said, of its tags and of what is found in it. Between facts that
are measured no connection is assumed, and each of them may be unknown; a remote place may be in any zone. So what is proven holds
for more than can happen, never for less.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from policies.comparison import compare
from policies.decision_check import DecisionCheck
from policies.facts import FACT_KINDS, Facts
from policies.findings import Finding, MayLeave, UnknownSignal, Verification
from policies.outcomes import Outcomes
from policies.reach import FULL, NOTHING, REDACTED, ceilings, location_of, name_of, reach, remotes, route_of
from policies.request_fold import Budget, Labelled, TooManyStatesError
from policies.request_space import words_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from policies.condition import Condition
    from policies.outcomes import Witness
    from policies.request_fold import RequestState
    from policies.schema import Guarantee, Policy, Rule

__all__ = ["MAX_STATES", "verify"]

MAX_STATES = 5_000_000
"""States after which a verification gives up and says so."""

_RANKS = {"error": 0, "warning": 1, "information": 2}

_Class = tuple[int, int | None]
"""Rank of a request's label, and of what redaction leaves of it."""


def verify(policy: Policy, *, against: Policy | None = None, max_states: int = MAX_STATES) -> Verification:
    """Decide over all facts what a policy lets leave the device.

    Args:
        policy: The policy.
        against: Another policy, such as the one in use: whatever zone would get what it did not get under that one is found.
        max_states: Bound on the work; beyond it the verdict is "not decided", which is an error.

    Returns:
        The findings, what may leave, and what happens while facts are unknown. What is not decided is left out of the tables.
    """
    budget = Budget(max_states)
    verifier = _Verifier(policy, budget)
    findings: list[Finding] = []
    try:
        findings += verifier.rules()
        findings += verifier.guarantees()
        signals = tuple(verifier.unknown_signals())
        if against is not None:
            findings += compare(against, policy, budget)
    except TooManyStatesError:
        signals = ()
        findings.append(
            Finding(
                "undecided", "error", policy.default_location, "",
                f"after {max_states} states it is not decided what may leave.",
                "Give the rules fewer conditions in common, or allow more states.",
            )
        )  # fmt: skip
    findings.sort(key=lambda finding: _RANKS[finding.severity])
    return Verification(tuple(findings), tuple(verifier.may_leave()), signals, budget.spent)


class _Verifier:
    """One policy's verification."""

    def __init__(self, policy: Policy, budget: Budget) -> None:
        self._policy = policy
        self._outcomes = Outcomes([policy], budget)
        self._check = DecisionCheck(policy)
        self._ceilings = ceilings(policy)
        self._classes: dict[int | None, dict[_Class, Witness]] = {}
        """For each rule the classes of requests that it decides."""

    def rules(self) -> Iterator[Finding]:
        """What is found of rules: leaks, rules that never decide, candidates that are never used."""
        for outcome in (*range(len(self._policy.rules)), None):
            classes = self._explore(outcome)
            self._classes[outcome] = classes
            if not classes:
                yield self._never(outcome)
                continue
            for (label, redacted), witness in classes.items():
                yield from self._check.findings(_facts(witness, self._policy), outcome, label, redacted)
            yield from self._unused(outcome, classes)

    def guarantees(self) -> Iterator[Finding]:
        """What is found of guarantees."""
        for guarantee in self._policy.guarantees:
            broken = list(self._broken(guarantee))
            yield from broken
            if not broken and not self._possible(guarantee.when):
                yield Finding(
                    "empty_guarantee", "error", guarantee.location, guarantee.name,
                    f"it promises nothing, since no request meets it: {self._conflict(guarantee.when)}.",
                    self._mend_conflict(guarantee.when),
                )  # fmt: skip

    def may_leave(self) -> Iterator[MayLeave]:
        """The table of what may leave, as far as it is known."""
        for zone, ceiling in self._ceilings.items():
            for rank, label in enumerate(self._policy.labels.order):
                by: dict[int, list[str]] = {NOTHING: [], REDACTED: [], FULL: []}
                for outcome, classes in self._classes.items():
                    if not remotes(self._policy, outcome):
                        continue
                    for got in {reach(ceiling, _seen(key)) for key in classes if key[0] == rank}:
                        by[got].append(name_of(self._policy, outcome))
                yield MayLeave(zone, label, tuple(by[FULL]), tuple(by[REDACTED]))

    def unknown_signals(self) -> Iterator[UnknownSignal]:
        """For each fact in conditions what happens while it is unknown."""
        policy = self._policy
        for fact in FACT_KINDS:
            asking = {at for at, rule in enumerate(policy.rules) if any(one.fact == fact for one in rule.when)}
            if not asking:
                continue
            # An unknown label counts as the top label; then rules that ask for it can match.
            counts_as = policy.labels.top if FACT_KINDS[fact] == "label" else ""
            remaining: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {}
            deciding: dict[int | None, set[int]] = {}
            for outcome, classes in self._classes.items():
                if outcome in asking and not counts_as:
                    continue
                # A rule that does not ask for the fact decides as well while it is unknown. Only finds and the declared label
                # have a say in more than the conditions on them.
                if fact == "detected":
                    classes = self._explore(outcome, finds=False)
                elif fact == "declared_label":
                    classes = self._explore(outcome, declared_known=(False,))
                deciding[outcome] = {label for label, _ in classes}
            for rank, label in enumerate(policy.labels.order):
                if fact != "label" or label == counts_as:
                    remaining[label] = tuple(
                        (name_of(policy, outcome), route_of(policy, outcome))
                        for outcome, ranks in deciding.items()
                        if rank in ranks
                    )
            cannot = () if counts_as else tuple(policy.rules[at].name for at in sorted(asking))
            yield UnknownSignal(fact, cannot, counts_as, remaining)

    def _explore(
        self, outcome: int | None, *, finds: bool = True, declared_known: Sequence[bool] = (True, False)
    ) -> dict[_Class, Witness]:
        found = self._outcomes.explore([outcome], _label_class, finds=finds, declared_known=declared_known)
        return dict(sorted(found.items(), key=lambda item: (item[0][0], -1 if item[0][1] is None else item[0][1])))

    def _never(self, outcome: int | None) -> Finding:
        policy = self._policy
        if outcome is None:
            return Finding(
                "default_not_reached", "information", policy.default_location, "default",
                "the default never decides, since some rule always matches.",
            )  # fmt: skip
        rule = policy.rules[outcome]
        if not self._possible(rule.when):
            return Finding(
                "impossible_rule", "error", rule.location, rule.name,
                f"it can never match: {self._conflict(rule.when)}.", self._mend_conflict(rule.when),
            )  # fmt: skip
        shadowing = self._shadowing(outcome)
        before = [policy.rules[at] for at in shadowing]
        names = _and(f"{other.name!r} ({other.location})" for other in before)
        other_ways = [other for other in before if (other.route, other.redact) != (rule.route, rule.redact)]
        if other_ways:
            ways = _and(f"{other.name!r} {_way(other)}" for other in other_ways)
            return Finding(
                "contradiction", "error", rule.location, rule.name,
                f"it {_way(rule)}, but never decides: all that it matches is decided before by {names}, and {ways}.",
                f"Move it above {_and(repr(other.name) for other in other_ways)}, or take it out.",
            )  # fmt: skip
        alike = all(_handling(policy, at) == _handling(policy, outcome) for at in shadowing)
        return Finding(
            "shadowed_rule", "error", rule.location, rule.name,
            f"it never decides: all that it matches is decided before, and {'in the same way' if alike else 'routed alike'}, "
            f"by {names}.",
            "Take it out.",
        )  # fmt: skip

    def _shadowing(self, outcome: int) -> list[int]:
        """Earlier rules that together match all that a rule matches, none of which can be left out."""
        needed = self._outcomes.in_the_way(outcome)
        for at in needed:
            if not self._outcomes.explore([outcome], _anything, rivals=[at]):
                return [at]
        for at in list(needed):
            fewer = [other for other in needed if other != at]
            if not self._outcomes.explore([outcome], _anything, rivals=fewer):
                needed = fewer
        return needed

    def _possible(self, conditions: Iterable[Condition]) -> bool:
        clause = self._outcomes.clause(conditions)
        return bool(self._outcomes.explore([None], _anything, also=clause, rivals=()))

    def _conflicting(self, conditions: Sequence[Condition]) -> list[Condition]:
        """Conditions that nothing meets together, none of which can be left out."""
        needed = list(conditions)
        for condition in conditions:
            fewer = [other for other in needed if other is not condition]
            if fewer and not self._possible(fewer):
                needed = fewer
        return needed

    def _conflict(self, conditions: Sequence[Condition]) -> str:
        needed = self._conflicting(conditions)
        if len(needed) == 1:
            return f"nothing meets {str(needed[0])!r}"
        return f"{_and(repr(str(condition)) for condition in needed)} exclude each other"

    def _mend_conflict(self, conditions: Sequence[Condition]) -> str:
        known = [detector.name for detector in self._policy.detectors]
        for condition in self._conflicting(conditions):
            if condition.fact == "detected" and (unknown := set(words_of(condition)) - set(known)):
                return f"The policy has no detector {min(unknown)!r}; {_listed(known)}."
        return "Change one of the conditions, or take it out."

    def _unused(self, outcome: int | None, classes: Iterable[_Class]) -> Iterator[Finding]:
        zones = self._ceilings.values()
        if any(reach(ceiling, _seen(key)) != NOTHING for key in classes for ceiling in zones):
            return
        policy = self._policy
        for place in remotes(policy, outcome):
            labels = _and(dict.fromkeys(policy.labels.order[label] for label, _ in classes))
            why = f"no zone may see what is decided here, which is {labels}" if zones else "the policy has no zones"
            yield Finding(
                "unused_candidate", "warning", location_of(policy, outcome), name_of(policy, outcome),
                f"the candidate {place!r} can never be used: {why}.", f"Take {place!r} out of the route.",
            )  # fmt: skip

    def _broken(self, guarantee: Guarantee) -> Iterator[Finding]:
        clause = self._outcomes.clause(guarantee.when)
        policy = self._policy

        def reached(state: RequestState) -> Iterator[tuple[str, int, int]]:
            for zone in guarantee.never:
                got = reach(self._ceilings.get(zone, -1), state.views[0])
                if got != NOTHING:
                    yield zone, got, state.views[0].label

        for outcome in (*range(len(policy.rules)), None):
            if not remotes(policy, outcome):
                continue
            found = self._outcomes.explore([outcome], reached, also=clause)
            for zone in guarantee.never:
                cases = sorted((-got, label) for at, got, label in found if at == zone)
                if not cases:
                    continue
                got, label = -cases[0][0], cases[0][1]
                facts = self._check.in_zone(_facts(found[zone, got, label], policy), zone)
                what = "a request" if got == FULL else "the redacted text of a request"
                yield Finding(
                    "guarantee", "error", location_of(policy, outcome), name_of(policy, outcome),
                    f"it breaks the guarantee {guarantee.name!r} ({guarantee.location}): zone {zone!r} gets {what} "
                    f"labelled {policy.labels.order[label]!r} that it must never get.",
                    "Put a rule with route [local] above it for such requests, label them higher, or lower the zone's ceiling.",
                    facts=facts,
                )  # fmt: skip


def _seen(key: _Class) -> Labelled:
    return Labelled(key[0], key[1], refused=False)


def _label_class(state: RequestState) -> tuple[_Class]:
    seen = state.views[0]
    return ((seen.label, seen.redacted),)


def _anything(_state: RequestState) -> tuple[bool]:
    return (True,)


def _facts(witness: Witness, policy: Policy) -> Facts:
    facts = witness.facts(policy)
    assert facts is not None, "a request to one policy says only labels that it knows"
    return facts


def _way(rule: Rule) -> str:
    redaction = f" without finds of {', '.join(rule.redact)}" if rule.redact else ""
    return f"routes to {', '.join(rule.route)}{redaction}"


def _handling(policy: Policy, outcome: int) -> tuple[object, object]:
    return policy.on_interrupt_of(outcome), policy.hedge_of(outcome)


def _listed(names: Sequence[str]) -> str:
    return f"it has {', '.join(names)}" if names else "it has none"


def _and(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
