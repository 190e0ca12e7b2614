"""What may leave, worked out from scratch in the documentation's words, without the code under test."""

from __future__ import annotations

from dataclasses import dataclass

from policies import Policy
from tests.prove.asked import ORDER, Asked, Known

__all__ = ["Expected", "expected", "highest", "may_see", "rank"]

_RUN = 50
"""Characters of a text that is recognised within another one."""


def rank(label: str) -> int:
    return ORDER.index(label)


def highest(*said: str | None) -> str:
    return max((label for label in said if label is not None), key=rank, default=ORDER[0])


@dataclass(frozen=True)
class Expected:
    """The label of a request under one policy."""

    label: str
    declared: str


def expected(policy: Policy, asked: Asked, known: list[Known], *floors: str | None) -> Expected:
    """The join, worked out again."""
    for_all = [label for label in (asked.privacy,) if label is not None]
    for tag in asked.tags:
        rule_words = {
            str(condition.operand) for rule in policy.rules for condition in rule.when if condition.fact == "tags"
        }
        if tag in policy.labels.tags:
            for_all.append(policy.labels.tags[tag])
        elif tag not in rule_words:
            for_all.append(policy.labels.unlabeled)
    said: list[str | None] = [*for_all, *floors]
    said += [part.label for part in asked.parts]
    if not for_all and (asked.extras or any(part.label is None for part in asked.parts)):
        said.append(policy.labels.unlabeled)
    for copy in known:
        for part in asked.parts:
            whole = copy.text == part.text and part.role == "assistant"
            if whole or (copy.text in part.text and len(copy.text) >= _RUN):
                said.append(copy.label)
    declared = highest(*said)
    found = [policy.detector_labels["email"]] if asked.mails and "email" in policy.detector_labels else []
    return Expected(highest(declared, *found), declared)


def may_see(policy: Policy, zone: str, label: str) -> bool:
    return zone in policy.zones and rank(label) <= rank(policy.zones[zone]) and label != ORDER[-1]
