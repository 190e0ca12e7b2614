"""What policies let leave, by brute force: every request and every moment there is, one after another, through the real decision.

It shares nothing with the verifier: values are listed, not cut; labels are joined by sets, not by ranks that grow; nothing is left
out because something else is as good. It is slow, and so only for small policies.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from itertools import combinations, pairwise, product

from policies import CONNECTIVITY, FACT_KINDS, WEEKDAYS, Facts, Place, decide

WORDS = ("tags", "detected", "capabilities")
LABELS = ("label", "declared_label")


def conditions_of(policy):
    for owner in (*policy.rules, *policy.guarantees):
        yield from owner.when


def constants_of(condition):
    return condition.operand if isinstance(condition.operand, tuple) else (condition.operand,)


def subsets(items, most=None):
    items = list(items)
    for size in range(len(items) + 1 if most is None else most + 1):
        yield from combinations(items, size)


def identity(detector):
    return detector.name, detector.words, detector.pattern


def values_of(fact, constants):
    """Unknown, and enough values that each way a condition can come out is among them."""
    kind = FACT_KINDS[fact]
    if kind == "number":
        ordered = sorted(constants)
        around = {ordered[0] - 3, ordered[-1] + 3, *ordered}
        around.update((low + high) / 2 for low, high in pairwise(ordered))
        return [None, *sorted(around)]
    if kind == "time":
        minutes = {int(time[:2]) * 60 + int(time[3:]) for time in constants}
        near = {minute + step for minute in minutes for step in (-1, 0, 1)}
        return [None, *(f"{at // 60:02d}:{at % 60:02d}" for at in sorted(near) if 0 <= at < 1440)]
    return [None, *{"boolean": (False, True), "connectivity": CONNECTIVITY, "weekday": WEEKDAYS}[kind]]


def labels_of(policy, said, floors, tags, found):
    """Label, declared label and finds under a policy; None if it refuses a label."""
    order = policy.labels.order
    if not set(said) <= set(order):
        return None
    statements = set(said)
    for tag in tags:
        if tag in policy.labels.tags:
            statements.add(policy.labels.tags[tag])
        elif not any(one.fact == "tags" and tag in constants_of(one) for rule in policy.rules for one in rule.when):
            statements.add(policy.labels.unlabeled)
    everything = (statements or {policy.labels.unlabeled}) | {
        floor if floor in order else order[-1] for floor in floors
    }
    declared = next(label for label in reversed(order) if label in everything)
    own = [detector for detector in policy.detectors if identity(detector) in found]
    everything |= {detector.label or order[-1] for detector in own}
    label = next(label for label in reversed(order) if label in everything)
    return label, declared, frozenset(detector.name for detector in own)


class Oracle:
    """Everything that can happen under one policy, or under two.

    Args:
        policies: One or two policies with few facts, tags and detectors.
    """

    def __init__(self, *policies):
        self.policies = policies
        self.zones = sorted({zone for policy in policies for zone in policy.zones})

    @cached_property
    def moments(self):
        """Every combination of the measured facts that occur, unknown included."""
        constants = {}
        for policy in self.policies:
            for condition in conditions_of(policy):
                if condition.fact not in (*WORDS, *LABELS):
                    constants.setdefault(condition.fact, set()).update(constants_of(condition))
        listed = [values_of(fact, found) for fact, found in constants.items()]
        return [dict(zip(constants, values, strict=True)) for values in product(*listed)]

    @cached_property
    def requests(self):
        """Every request, as its facts under each policy and its finds; one for all that are alike in what anybody looks at."""
        names = list(dict.fromkeys(label for policy in self.policies for label in policy.labels.order))
        named = {fact: set() for fact in WORDS}
        for policy in self.policies:
            for condition in conditions_of(policy):
                if condition.fact in WORDS:
                    named[condition.fact].update(constants_of(condition))
        tags = sorted(named["tags"] | {tag for policy in self.policies for tag in policy.labels.tags})
        finds = sorted({identity(detector) for policy in self.policies for detector in policy.detectors})
        taken_out = {name for policy in self.policies for rule in policy.rules for name in rule.redact}
        seen_finds = named["detected"] | taken_out
        asks_declared = any(one.fact == "declared_label" for policy in self.policies for one in conditions_of(policy))
        most = len(self.policies)  # each policy's joined label is that of one label that was said
        requests = {}
        for said, floors, chosen, found in product(
            subsets(names, most), subsets(names, most), subsets([*tags, "tag-of-nobody"]), subsets(finds)
        ):
            looked_at = []
            for policy in self.policies:
                joined = labels_of(policy, said, floors, chosen, found)
                if joined is not None:
                    label, declared, detected = joined
                    # Redaction looks at everything; without it, only what a condition names can make a difference.
                    declared = declared if taken_out or asks_declared else None
                    joined = label, declared, detected if taken_out else detected & seen_finds
                looked_at.append(joined)
            finds_seen = frozenset(found) if taken_out else frozenset()
            requests[tuple(looked_at), frozenset(chosen) & named["tags"], finds_seen] = None
        wanted = [frozenset(some) for some in subsets(sorted(named["capabilities"]))]
        return [
            (
                [
                    one
                    and {
                        "label": one[0],
                        "declared_label": None if hidden else one[1],
                        "tags": seen_tags,
                        "detected": one[2],
                        "capabilities": capabilities,
                    }
                    for one in joined
                ],
                found,
            )
            for joined, seen_tags, found in requests
            for capabilities in wanted
            for hidden in ((False, True) if asks_declared else (False,))
        ]

    def cases(self):
        """For every request and moment: each policy's facts, None if it refuses, and the finds."""
        for sides, found in self.requests:
            for moment in self.moments:
                yield [side and {**side, **moment} for side in sides], found

    def widens(self):
        """Whether the second policy gives any zone more of any request than the first one."""
        for facts, found in self.cases():
            for zone in self.zones:
                now = self._given(1, facts[1], found, zone)
                if now and self._more(self._given(0, facts[0], found, zone), now):
                    return True
        return False

    @staticmethod
    def _more(before, now):
        for public in (False, True):
            for place, what in now.items():
                if not what[public]:
                    continue
                had = before.get(place, (None, None))[public]
                # What is given is the finds that are taken out of it; "whole" is told from "nothing to take out".
                if (
                    not had
                    or (what[public] == "whole" != had)
                    or (had != "whole" != what[public] and had - what[public])
                ):
                    return True
        return False

    def _given(self, at, facts, found, zone):
        """What each place gets if it is in a zone: ``whole``, or the finds that are taken out; at private and public addresses."""
        policy = self.policies[at]
        if facts is None:
            return {}
        names = [place for route in routes_of(policy) for place in route if place != "local"]
        decision = decide(policy, Facts(**facts, places=tuple(Place(name, zone) for name in set(names))))
        given = {}
        for place in decision.candidates:
            if place == "local":
                continue
            what = "whole"
            if place in decision.redacted_places:
                own = {identity(detector) for detector in policy.detectors if detector.name in decision.redact}
                what = frozenset(found & own) or frozenset({"nothing was found"})
            given[place] = (what, what if policy.addresses_of(zone) == "any" else None)
        return given

    def outcomes(self):
        """Of a single policy: rules that decide something, the table of what may leave, guarantees broken, by rule and zone."""
        (policy,) = self.policies
        deciding, leaves, broken = set(), set(), set()
        for (facts,), _ in self.cases():
            values = known_labels(policy, Facts(**facts)).values()
            promised = [one for one in policy.guarantees if all(each.test(values) for each in one.when)]
            for zone in policy.zones or ("cloud",):
                decision = decide(policy, Facts(**facts, places=(Place("remote", zone),)))
                deciding.add(decision.rule)
                if "remote" in decision.candidates:
                    redacted = "remote" in decision.redacted_places
                    leaves.add((zone, decision.label, decision.rule, redacted))
                    broken.update((one.name, decision.rule, zone) for one in promised if zone in one.never)
        return deciding, leaves, broken


def known_labels(policy, facts):
    """The facts as conditions read them: a label that is unknown counts as the top label."""
    top = policy.labels.order[-1]
    return replace(facts, label=facts.label or top, declared_label=facts.declared_label or top)


def routes_of(policy):
    return [policy.default, *(rule.route for rule in policy.rules)]
