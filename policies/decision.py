"""The decision: facts in, candidates out. Pure, so the same facts give the same decision, byte for byte.

What stands above every policy is here and in ``Policy.may_see``, not in any file:

- a place whose zone may not see the request's label is struck out, whatever the rule said;
- the most sensitive label never goes to a zone other than the device;
- a rule that redacts lets a place see what is left when the finds of the named detectors are taken out, and for that the
  label counts that everybody else gives: what a caller labelled cannot be redacted away;
- the device is always a candidate, the last one where a route leaves it out, unless it cannot serve the request at all:
  the prompt leaves no room for a single token, or a capability is lacking.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

from policies.facts import FACT_KINDS, Facts, FactValues, Place
from policies.schema import DEVICE_ZONE, LOCAL, Policy

__all__ = ["Decision", "RuleVerdict", "StruckOut", "StruckOutCode", "decide"]

StruckOutCode = Literal["label", "zone", "not_configured", "unavailable", "context", "capability"]
"""Why a place was struck out, for programs."""

_DEVICE = Place(LOCAL, DEVICE_ZONE)
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_LABEL_AT = tuple(FACT_KINDS).index("label")
_DECLARED_LABEL_AT = tuple(FACT_KINDS).index("declared_label")


@dataclass(frozen=True, slots=True)
class StruckOut:
    """A place that the route named and that cannot be a candidate."""

    place: str
    """Its name."""

    why: str
    """The reason, one sentence."""

    code: StruckOutCode
    """The reason, for programs. ``label`` and ``zone`` are refusals for privacy."""


@dataclass(frozen=True, slots=True)
class RuleVerdict:
    """What became of one rule."""

    rule: str
    """Name of the rule, ``default`` for the default."""

    verdict: Literal["matched", "failed", "not reached"]
    """Whether all conditions held, one did not, or an earlier rule had decided already."""

    condition: str
    """The first condition that did not hold; empty if all did."""

    facts: dict[str, Any]
    """The facts that were read, None where unknown; the label is the one that was decided for."""

    location: str
    """Where the rule stands, as ``file:line``."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a request may go, in order, and why."""

    candidates: tuple[str, ...]
    """Places to ask, in order. Empty only if the device cannot serve the request and nobody else may."""

    rule: str
    """Name of the rule that decided; ``default`` if none matched."""

    rule_index: int | None
    """Its position in the policy, counted from 0; None for the default."""

    location: str
    """Where it stands, as ``file:line``."""

    label: str
    """The label that was decided for; the top label where the facts had none, or one that the policy does not know."""

    struck_out: tuple[StruckOut, ...]
    """Places that the route named and that were struck out."""

    redact: tuple[str, ...]
    """Detectors whose finds are replaced by placeholders for the places in ``redacted_places``."""

    redacted_places: tuple[str, ...]
    """Candidates that may see the redacted text only."""

    redacted_label: str
    """The label of that text; empty where nothing is redacted."""

    policy_name: str
    """Name of the policy."""

    policy_hash: str
    """SHA-256 of the policy's meaning."""

    _policy: Policy = field(repr=False, compare=False)
    _facts: Facts = field(repr=False, compare=False)

    def label_for(self, place: str) -> str:
        """The label of what a candidate gets to see."""
        return self.redacted_label if place in self.redacted_places else self.label

    @property
    def trace(self) -> tuple[RuleVerdict, ...]:
        """Every rule's verdict and the facts that it read; made when asked for, since a decision is made more often."""
        verdicts = []
        values = _values(self._policy, self._facts)
        known = dict(zip(FACT_KINDS, values, strict=True))
        for index, rule in enumerate(self._policy.rules):
            if self.rule_index is not None and index > self.rule_index:
                verdicts.append(RuleVerdict(rule.name, "not reached", "", {}, rule.location))
                continue
            read: dict[str, Any] = {}
            failed = ""
            for condition in rule.when:
                value = known[condition.fact]
                read[condition.fact] = sorted(value) if isinstance(value, frozenset) else value
                if not condition.test(values):
                    failed = str(condition)
                    break
            verdicts.append(RuleVerdict(rule.name, "failed" if failed else "matched", failed, read, rule.location))
        matched: Literal["matched", "not reached"] = "matched" if self.rule_index is None else "not reached"
        verdicts.append(RuleVerdict("default", matched, "", {}, self._policy.default_location))
        return tuple(verdicts)

    def to_dict(self) -> dict[str, Any]:
        """Plain values in a fixed order, without the trace."""
        return {
            "policy": self.policy_name,
            "policy_hash": self.policy_hash,
            "label": self.label,
            "rule": self.rule,
            "rule_index": self.rule_index,
            "location": self.location,
            "candidates": list(self.candidates),
            "redact": list(self.redact),
            "redacted_places": list(self.redacted_places),
            "redacted_label": self.redacted_label,
            "struck_out": [{"place": out.place, "why": out.why, "code": out.code} for out in self.struck_out],
        }

    def to_json(self) -> str:
        """``to_dict`` as one line of JSON; equal facts and an equal policy give equal bytes."""
        return _encode(self.to_dict())


def decide(policy: Policy, facts: Facts) -> Decision:
    """Decide who may answer a request.

    Args:
        policy: The policy.
        facts: What is known. A fact that is unknown never matches; a label that is unknown counts as the top label.

    Returns:
        The first matching rule's candidates, or the default's, less those that are struck out.
    """
    label = _known_label(policy, facts.label)
    rule_index = None
    values = _values(policy, facts)
    for index, tests in enumerate(policy.tests):
        for test in tests:
            if not test(values):
                break
        else:
            rule_index = index
            break
    if rule_index is None:
        name, route, location = "default", policy.default, policy.default_location
        redact: tuple[str, ...] = ()
    else:
        rule = policy.rules[rule_index]
        name, route, location, redact = rule.name, rule.route, rule.location, rule.redact
    redacted_label = _redacted_label(policy, facts, redact) if redact and facts.detected else label
    candidates: list[str] = []
    struck_out: list[StruckOut] = []
    redacted_places: list[str] = []
    for place_name in route if LOCAL in route else (*route, LOCAL):
        reason = _reason_against(policy, facts, label, place_name)
        if reason is not None and reason.code == "label" and redacted_label != label:
            reason = _reason_against(policy, facts, redacted_label, place_name)
            if reason is None:
                redacted_places.append(place_name)
        if reason is None:
            candidates.append(place_name)
        else:
            struck_out.append(reason)
    return Decision(
        candidates=tuple(candidates),
        rule=name,
        rule_index=rule_index,
        location=location,
        label=label,
        struck_out=tuple(struck_out),
        redact=redact if redacted_places else (),
        redacted_places=tuple(redacted_places),
        redacted_label=redacted_label if redacted_places else "",
        policy_name=policy.name,
        policy_hash=policy.hash,
        _policy=policy,
        _facts=facts,
    )


def _redacted_label(policy: Policy, facts: Facts, redact: tuple[str, ...]) -> str:
    """The label of a request without what some of the policy's detectors found in it."""
    labels, raises_to = policy.labels, policy.detector_labels
    label = _known_label(policy, facts.declared_label)
    for name in facts.detected or ():
        if name not in redact:
            label = labels.join(label, raises_to.get(name, labels.top))
    return label


def _known_label(policy: Policy, label: str | None) -> str:
    """The label, or the top label where it is unknown."""
    return label if label is not None and label in policy.labels.rank else policy.labels.top


def _values(policy: Policy, facts: Facts) -> FactValues:
    """All facts with labels that the policy knows, so that no rule can take an unknown label for a harmless one."""
    values = facts.values()
    rank = policy.labels.rank
    if values[_LABEL_AT] in rank and values[_DECLARED_LABEL_AT] in rank:
        return values
    known = list(values)
    for at in (_LABEL_AT, _DECLARED_LABEL_AT):
        known[at] = _known_label(policy, values[at])
    return tuple(known)


def _reason_against(policy: Policy, facts: Facts, label: str, name: str) -> StruckOut | None:
    place = next((place for place in facts.places if place.name == name), None)
    if name == LOCAL:
        place = place or _DEVICE
    elif place is None:
        return StruckOut(name, f"no place named {name!r} is configured.", "not_configured")
    elif place.zone not in policy.zones or place.zone == DEVICE_ZONE:
        return StruckOut(name, f"the policy gives the zone {place.zone!r} of {name} no ceiling.", "zone")
    elif not policy.may_see(place.zone, label):
        ceiling = policy.zones[place.zone]
        return StruckOut(
            name, f"its zone {place.zone!r} may see {ceiling!r} at most, and the request is {label!r}.", "label"
        )
    # The device is the last resort: what hinders it at the moment may be over when it is asked, so it stays.
    if place.unavailable and name != LOCAL:
        return StruckOut(name, f"{place.unavailable}.", "unavailable")
    # Only an exact count may rule the device out. Elsewhere another tokenizer counts, so an estimate is all there is.
    # The device shortens an answer to the room that is left; another server may refuse to, so there both have to fit.
    prompt = facts.local_prompt_tokens if name == LOCAL else facts.prompt_tokens
    wanted = None if name == LOCAL else facts.max_tokens
    limit = place.context_tokens
    if limit is not None and prompt is not None and prompt + (wanted or 1) > limit:
        answer = f" and an answer of {wanted}" if wanted else ""
        shared = "" if wanted else ", which has to hold an answer too"
        why = f"a prompt of {prompt:.0f} tokens{answer} does not fit its context of {limit}{shared}."
        return StruckOut(name, why, "context")
    if facts.capabilities and place.capabilities is not None and not facts.capabilities <= place.capabilities:
        lacking = ", ".join(sorted(facts.capabilities - place.capabilities))
        return StruckOut(name, f"it lacks {lacking}.", "capability")
    return None


assert set(FACT_KINDS) == set(Facts.__dataclass_fields__) - {"places"}, "every fact has a kind"
