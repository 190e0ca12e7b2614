"""What a policy is, once it has been read: frozen, hashable, free of I/O. ``Policy.hash`` is the hash of its meaning."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from policies.handling import Breaker, Hedge, Limits, OnInterrupt, Retries, differing, hedge_values

if TYPE_CHECKING:
    from collections.abc import Mapping

    from policies.condition import Condition

__all__ = [
    "ADDRESSES",
    "DETECTORS",
    "DEVICE_ZONE",
    "LOCAL",
    "SITE_ZONE",
    "Detector",
    "Guarantee",
    "Labels",
    "Policy",
    "Rule",
]

LOCAL = "local"
"""Name of the place on this device."""

DEVICE_ZONE = "device"
"""The zone of that place; it sees every label and no policy can say otherwise."""

SITE_ZONE = "site"
"""The zone of servers in the same building: only private addresses, unless the policy says otherwise."""

ADDRESSES = ("any", "private")
"""What a zone may say of its servers' addresses."""

DETECTORS = (
    "payment_card", "iban", "national_id", "passport", "email", "phone", "api_key", "private_key", "presidio",
)  # fmt: skip
"""Detectors that a policy may name; it can add word lists and patterns of its own."""


@dataclass(frozen=True)
class Labels:
    """How sensitive a request can be."""

    order: tuple[str, ...]
    """Labels from the least to the most sensitive."""

    unlabeled: str
    """What counts when nobody said anything."""

    tags: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Label of each tag that a caller may give."""

    @cached_property
    def rank(self) -> dict[str, int]:
        """Position of each label in ``order``."""
        return {label: index for index, label in enumerate(self.order)}

    @property
    def top(self) -> str:
        """The most sensitive label."""
        return self.order[-1]

    def join(self, first: str, second: str) -> str:
        """The more sensitive of two labels; one that is not in ``order`` counts as the top label."""
        highest = len(self.order) - 1
        return self.order[max(self.rank.get(first, highest), self.rank.get(second, highest))]


@dataclass(frozen=True)
class Detector:
    """Something to look for in a request's texts: one of ``DETECTORS``, or words or a pattern of the policy's own."""

    name: str
    """Name, unique in the policy."""

    label: str | None = None
    """The label that a find raises the request to; None for the top label."""

    words: tuple[str, ...] = ()
    """Words or phrases to look for, in any case; only with a name that is not one of ``DETECTORS``."""

    pattern: str = ""
    """Regular expression in RE2's syntax to look for; only with a name that is not one of ``DETECTORS``."""

    location: str = field(default="", compare=False)
    """Where it stands, as ``file:line``."""

    def to_dict(self) -> dict[str, Any]:
        """Its meaning as plain values."""
        return {"name": self.name, "label": self.label, "words": list(self.words), "pattern": self.pattern}


@dataclass(frozen=True)
class Guarantee:
    """Something that the rules are meant to ensure, for ``policies.verify`` to prove; it decides nothing itself."""

    name: str
    """Name, unique among the guarantees."""

    when: tuple[Condition, ...]
    """For requests where all of these hold."""

    never: tuple[str, ...]
    """Zones that such a request must not reach."""

    location: str = field(default="", compare=False)
    """Where it stands, as ``file:line``."""


@dataclass(frozen=True)
class Rule:
    """One rule: where to go when all its conditions hold."""

    name: str
    """Name, unique in the policy."""

    when: tuple[Condition, ...]
    """Conditions; all must hold."""

    route: tuple[str, ...]
    """Places in order of preference."""

    location: str = field(compare=False)
    """Where it stands, as ``file:line``."""

    redact: tuple[str, ...] = ()
    """Detectors whose finds may be replaced by placeholders, so that the rest can go where the whole may not."""

    on_interrupt: OnInterrupt | None = None
    """What happens when a place breaks off; None for what the policy says."""

    hedge: Hedge | Literal[False] | None = None
    """When the second candidate is asked early; False for never, None for what the policy says."""


@dataclass(frozen=True)
class Policy:
    """A whole policy. Make one with ``load_policy``; one that is made by hand has to be as consistent by itself."""

    name: str
    """Name, as the file gives it."""

    labels: Labels
    """The labels."""

    zones: Mapping[str, str] = field(hash=False)
    """The most sensitive label that each zone may see; a zone that is not here sees nothing."""

    rules: tuple[Rule, ...]
    """Rules; the first that matches decides."""

    default: tuple[str, ...]
    """Places in order of preference when no rule matches."""

    detectors: tuple[Detector, ...] = ()
    """Detectors that may raise a request's label."""

    addresses: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What a zone says of its servers' addresses, where it says something: one of ``ADDRESSES``."""

    guarantees: tuple[Guarantee, ...] = ()
    """What the rules are meant to ensure."""

    limits: Limits = field(default_factory=Limits)
    """How long a remote may take, where the remote itself says nothing else."""

    retries: Retries = field(default_factory=Retries)
    """What is repeated at a remote, where the remote itself says nothing else."""

    breaker: Breaker = field(default_factory=Breaker)
    """When a remote that fails is left alone."""

    on_interrupt: OnInterrupt = "continue"
    """What happens when a place breaks off in the middle of its answer, where the rule says nothing else."""

    hedge: Hedge | None = None
    """When the second candidate is asked early, where the rule says nothing else; None for never."""

    description: str = ""
    """What it is for."""

    file: str = field(default="", compare=False)
    """The file that it came from, as the user named it."""

    default_location: str = field(default="", compare=False)
    """Where ``default`` stands, as ``file:line``."""

    def may_see(self, zone: str, label: str) -> bool:
        """Whether a zone may see a request with this label.

        The device sees everything. Every other zone never sees the top label, nor one that is unknown, nor one above
        its ceiling, nor anything at all without a ceiling: whatever the file says.
        """
        if zone == DEVICE_ZONE:
            return True
        ceiling = self.zones.get(zone)
        rank = self.labels.rank
        if ceiling is None or label not in rank or ceiling not in rank:
            return False
        return rank[label] <= rank[ceiling] and rank[label] < len(self.labels.order) - 1

    def on_interrupt_of(self, rule_index: int | None) -> OnInterrupt:
        """What happens when a place breaks off, for a decision of this rule; None for the default's."""
        own = None if rule_index is None else self.rules[rule_index].on_interrupt
        return own or self.on_interrupt

    def hedge_of(self, rule_index: int | None) -> Hedge | None:
        """When the second candidate is asked early, for a decision of this rule; None for the default's."""
        own = None if rule_index is None else self.rules[rule_index].hedge
        return self.hedge if own is None else own or None

    def addresses_of(self, zone: str) -> str:
        """Which addresses the servers of a zone may have: ``private`` ones only, or ``any``."""
        return self.addresses.get(zone, "private" if zone == SITE_ZONE else "any")

    @cached_property
    def detector_labels(self) -> dict[str, str]:
        """The label that each detector raises to."""
        return {detector.name: detector.label or self.labels.top for detector in self.detectors}

    @cached_property
    def tags_in_rules(self) -> frozenset[str]:
        """Tags that conditions of rules name."""
        found: set[str] = set()
        for rule in self.rules:
            for condition in rule.when:
                if condition.fact == "tags":
                    operand = condition.operand
                    found.update(map(str, operand) if isinstance(operand, tuple) else (str(operand),))
        return frozenset(found)

    @cached_property
    def facts_in_rules(self) -> frozenset[str]:
        """Facts that conditions of rules name."""
        return frozenset(condition.fact for rule in self.rules for condition in rule.when)

    @cached_property
    def tests(self) -> tuple[tuple[Any, ...], ...]:
        """For each rule the compiled tests of its conditions, ready to be called."""
        return tuple(tuple(condition.test for condition in rule.when) for rule in self.rules)

    def to_dict(self) -> dict[str, Any]:
        """The policy's meaning as plain values, in the shape of its file.

        How requests are handled is in it where it is not the default, and in a rule where it is not what the policy says.
        """
        return {
            "version": 1,
            "name": self.name,
            "labels": {
                "order": list(self.labels.order),
                "unlabeled": self.labels.unlabeled,
                "tags": dict(sorted(self.labels.tags.items())),
            },
            "zones": {
                zone: {"ceiling": ceiling, "addresses": self.addresses_of(zone)}
                for zone, ceiling in sorted(self.zones.items())
            },
            "detectors": [detector.to_dict() for detector in self.detectors],
            "rules": [
                {
                    "name": rule.name,
                    "when": [condition.to_dict() for condition in rule.when],
                    "route": list(rule.route),
                    "redact": list(rule.redact),
                    **self._own_handling(index),
                }
                for index, rule in enumerate(self.rules)
            ],
            "default": list(self.default),
            **self._handling(),
        }

    def _handling(self) -> dict[str, Any]:
        """What the policy says of handling, without defaults: who writes one down says no more than who leaves it out."""
        said: dict[str, Any] = {
            "limits": differing(self.limits),
            "retries": differing(self.retries),
            "breaker": differing(self.breaker),
            "hedge": hedge_values(self.hedge),
        }
        if self.on_interrupt != "continue":
            said["on_interrupt"] = self.on_interrupt
        return {key: value for key, value in said.items() if value}

    def _own_handling(self, rule_index: int) -> dict[str, Any]:
        """What a rule says of it, where that is something else. On the device alone there is no second place to hedge with."""
        rule = self.rules[rule_index]
        said: dict[str, Any] = {}
        if self.on_interrupt_of(rule_index) != self.on_interrupt:
            said["on_interrupt"] = rule.on_interrupt
        hedge = self.hedge_of(rule_index)
        if hedge != self.hedge and rule.route != (LOCAL,):
            said["hedge"] = hedge_values(hedge)
        return said

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the policy's meaning as hexadecimal digits; comments and layout do not change it."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()
