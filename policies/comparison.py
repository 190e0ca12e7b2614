"""Whether a policy lets anything leave that another one keeps back: both decide the same request at the same moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from policies.facts import Place
from policies.findings import Finding
from policies.handling_keys import HANDLING_KEYS, RANGES, RULE_HANDLING_KEYS
from policies.outcomes import REFUSED, Outcomes
from policies.reach import FULL, NOTHING, REDACTED, ceilings, location_of, name_of, reach, remotes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from policies.outcomes import Witness
    from policies.request_fold import Budget, RequestState
    from policies.schema import Policy

__all__ = ["compare"]

_Way = tuple[str, str, bool]
"""A place, the zone that it is in, and whether its address is a public one."""

_SETTINGS = ("limits", "retries", "breaker")
"""Keys of which each value is named that is another one."""

_GETS = {NOTHING: "nothing", REDACTED: "the redacted text", FULL: "the whole text"}


def compare(old: Policy, new: Policy, budget: Budget) -> Iterator[Finding]:
    """Every rule of the new policy by which a zone gets what it did not get, or gets it less redacted; and the reverse.

    Last comes what is no question of who gets something: guarantees that are gone, and other limits, retries or hedges.

    Two detectors are the same if name, words and pattern are; the same request means the same labels said, the same tags, the same
    finds and the same measured facts, places included. A request that a policy refuses, for a label that it does not know, goes
    nowhere under it.

    Raises:
        TooManyStatesError: The budget is spent.
    """
    widened = _Comparison(old, new, budget)
    for outcome, way, got, before, old_outcome, witness in widened.more():
        place, zone, public = way
        facts = witness.facts(new, [Place(place, zone)])
        old_facts = witness.facts(old, [Place(place, zone)])
        yield Finding(
            kind="widening",
            severity="error",
            location=location_of(new, outcome),
            subject=name_of(new, outcome),
            message=(
                f"zone {zone!r}{' at a public address' if public else ''} gets {_GETS[got]} of a request for which "
                f"{_before(old, old_outcome, before)}."
            ),
            mend="If that is not meant, take the change back.",
            facts=facts,
            old_facts=old_facts,
            request=str(witness.request),
        )
    narrowed = _Comparison(new, old, budget)
    for outcome, way, got, after, new_outcome, witness in narrowed.more():
        place, zone, public = way
        facts = witness.facts(new, [Place(place, zone)])
        yield Finding(
            kind="narrowing",
            severity="information",
            location=location_of(old, outcome),
            subject=name_of(old, outcome),
            message=(
                f"zone {zone!r}{' at a public address' if public else ''} no longer gets {_GETS[got]} of a request for "
                f"which {_before(new, new_outcome, after)}."
            ),
            facts=facts,
            old_facts=witness.facts(old, [Place(place, zone)]),
            request=str(witness.request),
        )
    yield from _dropped_guarantees(old, new)
    yield from _other_handling(old, new)


def _before(policy: Policy, outcome: int | None, got: int) -> str:
    where = policy.file or policy.name
    if outcome == REFUSED:
        return f"{where} knows no such label, so it was refused"
    less = " with more taken out" if got == REDACTED else ""
    return f"{name_of(policy, outcome)!r} of {where} gives it {_GETS[got]}{less}"


def _dropped_guarantees(old: Policy, new: Policy) -> Iterator[Finding]:
    kept = {(frozenset(guarantee.when), frozenset(guarantee.never)) for guarantee in new.guarantees}
    for guarantee in old.guarantees:
        if (frozenset(guarantee.when), frozenset(guarantee.never)) not in kept:
            yield Finding(
                "dropped_guarantee", "warning", guarantee.location, guarantee.name,
                f"the guarantee {guarantee.name!r} is gone, or is another one now.",
                "Put it back, unless it is no longer meant.",
            )  # fmt: skip


def _other_handling(old: Policy, new: Policy) -> Iterator[Finding]:
    before, after = _handling(old), _handling(new)
    # A rule that only one of them has is a change of its own.
    other = [name for name, said in after.items() if name in before and before[name] != said]
    if other:
        yield Finding(
            "handling", "information", new.default_location, "",
            f"requests are handled otherwise, which changes nothing of what may leave: {', '.join(other)}.",
        )  # fmt: skip


def _handling(policy: Policy) -> dict[str, object]:
    said = policy.to_dict()
    found: dict[str, object] = {}
    for key in HANDLING_KEYS:
        names = RANGES[key] if key in _SETTINGS else ()
        found |= {f"{key}.{name}": said.get(key, {}).get(name) for name in names} or {key: said.get(key)}
    for rule in said["rules"]:
        found |= {f"{key} of {rule['name']!r}": rule.get(key) for key in RULE_HANDLING_KEYS}
    return found


class _Comparison:
    """Two policies side by side: the first one is the measure of what the second one gives."""

    def __init__(self, first: Policy, second: Policy, budget: Budget) -> None:
        self._first, self._second = first, second
        self._outcomes = Outcomes([first, second], budget)
        self._ceilings = (ceilings(first), ceilings(second))
        self._same_view = self._outcomes.same_labels and _zones(first) == _zones(second)
        self._firsts: list[int | None] = [*range(len(first.rules)), None]
        if not set(second.labels.order) <= set(first.labels.order):
            self._firsts.append(REFUSED)

    def more(self) -> Iterator[tuple[int | None, _Way, int, int, int | None, Witness]]:
        """For each rule of the second policy each way by which it gives more, what it gives, and what the first one's rule does."""
        for outcome in (*range(len(self._second.rules)), None):
            ways = {
                (place, zone, public)
                for place in remotes(self._second, outcome)
                for zone in self._ceilings[1]
                for public in (False, True)
            }
            for first in self._firsts:
                found = self._found(first, outcome, ways)
                best: dict[_Way, tuple[int, int, Witness]] = {}
                for (place, zone, public, got, before), witness in found.items():
                    best.setdefault((place, zone, public), (got, before, witness))
                for way in sorted(best):
                    ways.discard(way)
                    place, zone, public = way
                    if not public or (place, zone, False) not in best:
                        got, before, witness = best[way]
                        yield outcome, way, got, before, first, witness

    def _found(
        self, first: int | None, second: int | None, ways: set[_Way]
    ) -> dict[tuple[str, str, bool, int, int], Witness]:
        policies = (self._first, self._second)
        refused = first == REFUSED
        on_route = frozenset() if refused else frozenset(remotes(self._first, first))
        if not ways or (self._same_view and self._redact(first, 0) == self._redact(second, 1) and not (
            {place for place, _, _ in ways} - on_route
        )):  # fmt: skip
            return {}

        def more(state: RequestState) -> Iterator[tuple[str, str, bool, int, int]]:
            before_seen, seen = state.views
            if before_seen.refused != refused:
                return
            for place, zone, public in ways:
                if public and policies[1].addresses_of(zone) != "any":
                    continue
                got = reach(self._ceilings[1][zone], seen)
                before = NOTHING
                private_only = policies[0].addresses_of(zone) != "any"
                if place in on_route and zone in self._ceilings[0] and not (public and private_only):
                    before = reach(self._ceilings[0][zone], before_seen)
                if got > before or (got == before == REDACTED and state.stays):
                    yield place, zone, public, got, before

        return self._outcomes.explore([first, second], more)

    def _redact(self, outcome: int | None, view: int) -> frozenset[str]:
        if outcome is None or outcome == REFUSED:
            return frozenset()
        return frozenset((self._first, self._second)[view].rules[outcome].redact)


def _zones(policy: Policy) -> dict[str, tuple[str, str]]:
    return {zone: (ceiling, policy.addresses_of(zone)) for zone, ceiling in policy.zones.items()}
