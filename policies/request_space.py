"""What a request can say and hold, as atoms: a label that somebody says, a tag, a find, a capability that is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from policies.condition import Condition
    from policies.schema import Detector, Policy
    from policies.word_conditions import WordConditions

__all__ = [
    "DECLARED",
    "FOUND",
    "REFUSED",
    "REST",
    "SLOTS",
    "STATED",
    "Atom",
    "Request",
    "RequestSpace",
    "Said",
    "said_in",
    "words_of",
]

SLOTS = 5
"""Numbers that a class of requests has for each policy; each only grows with what is said and held."""

DECLARED, STATED, FOUND, REST, REFUSED = range(SLOTS)
"""Rank of what everybody but the detectors says; whether anybody made a statement; rank of the most sensitive find, and of the
most sensitive one that stays after redaction, -1 if there is none; whether a label was said that the policy does not know."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a request says and holds."""

    said: tuple[str, ...] = ()
    """Labels that somebody gave it, by the call or its messages."""

    floors: tuple[str, ...] = ()
    """Labels that only raise: the client's or the conversation's floor, what its history carries."""

    tags: tuple[str, ...] = ()
    """Its tags."""

    found: tuple[Detector, ...] = ()
    """Detectors that find something in it."""

    capabilities: tuple[str, ...] = ()
    """What a place has to be able to do for it."""

    def __str__(self) -> str:
        finds = [detector.name for detector in self.found]
        parts = [
            f"labelled {' and '.join(self.said)}" if self.said else "labelled by nobody",
            f"a floor of {' and '.join(self.floors)}" if self.floors else "",
            f"tagged {', '.join(self.tags)}" if self.tags else "",
            f"with finds of {', '.join(finds)}" if finds else "",
        ]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class Said:
    """What a request's labels are under one policy."""

    label: str
    """The label after joining everything."""

    declared: str
    """The label that everybody but the detectors gives."""

    detected: frozenset[str]
    """Names of the policy's detectors that find something."""


def said_in(policy: Policy, request: Request) -> Said | None:
    """The labels of a request under a policy; None if it refuses the request for a label that it does not know.

    A tag that neither the labels nor a rule of the policy knows counts as unlabelled, one that only rules know says nothing, and
    a floor that the policy does not know counts as the top label.
    """
    labels, rank = policy.labels, policy.labels.rank
    if any(label not in rank for label in request.said):
        return None
    sources = list(request.said)
    for tag in request.tags:
        if tag in labels.tags:
            sources.append(labels.tags[tag])
        elif tag not in policy.tags_in_rules:
            sources.append(labels.unlabeled)
    joined = reduce(labels.join, (*(sources or [labels.unlabeled]), *request.floors), labels.order[0])
    found = [detector for detector in policy.detectors if any(same_finds(detector, other) for other in request.found)]
    return Said(
        label=reduce(labels.join, (policy.detector_labels[detector.name] for detector in found), joined),
        declared=joined,
        detected=frozenset(detector.name for detector in found),
    )


def same_finds(first: Detector, second: Detector) -> bool:
    """Whether two detectors find the same, whatever label they raise to."""
    return (first.name, first.words, first.pattern) == (second.name, second.words, second.pattern)


def words_of(condition: Condition) -> tuple[str, ...]:
    """The words that a condition on words names."""
    operand = condition.operand
    return tuple(map(str, operand)) if isinstance(operand, tuple) else (str(operand),)


@dataclass(frozen=True, slots=True)
class Atom:
    """Something that a request has or has not."""

    kind: str
    """``said``, ``floor``, ``tag``, ``detector`` or ``capability``."""

    name: str
    """Its name."""

    effect: tuple[int, ...]
    """What it raises the numbers of a class to."""

    inside: int = 0
    """Bits of word conditions that it sets by being there."""

    outside: int = 0
    """Bits of word conditions that it sets by being absent."""

    detector: Detector | None = None
    """The detector."""


class RequestSpace:
    """The atoms of the requests to one or two policies.

    Args:
        policies: The policies.
    """

    def __init__(self, policies: Sequence[Policy]) -> None:
        self.policies = tuple(policies)
        self.nothing = (0, 0, -1, -1, 0) * len(policies) + (0,)
        """The numbers of a request that says and holds nothing; the last one is for ``Atom``s whose finds the first policy's rule
        takes out and the second one's leaves in."""
        known = {tag for policy in policies for tag in (*policy.tags_in_rules, *policy.labels.tags, *_promised(policy))}
        nobody_knows = "unknown-tag"
        while nobody_knows in known:
            nobody_knows += "-"
        self._tags = [Atom("tag", tag, self._tag_effect(tag)) for tag in (*sorted(known), nobody_knows)]
        self._detectors: list[Detector] = []
        for policy in policies:
            for detector in policy.detectors:
                if not any(same_finds(detector, other) for other in self._detectors):
                    self._detectors.append(detector)
        self._labels = tuple(self._label_atoms())
        self.same_detectors = all(_finds(policy) == _finds(policies[0]) for policy in policies)
        """Whether all policies look for the same, and raise the same labels for it."""
        effects = [atom.effect[:-1] for atom in (*self._labels, *self._tags)]
        self.same_labels = (
            self.same_detectors
            and all(effect == effect[:SLOTS] * len(policies) for effect in effects)
            and len({(policy.labels.order, policy.labels.unlabeled) for policy in policies}) == 1
        )
        """Whether every request has the same labels under all policies."""

    def atoms(
        self, words: WordConditions, redact: Sequence[Sequence[str]], tracked: Sequence[bool], *, finds: bool
    ) -> list[Atom]:
        """The atoms that can make a difference.

        Args:
            words: The conditions on words that are asked for.
            redact: For each policy the detectors whose finds its rule takes out.
            tracked: For each policy whether the declared label is told from the label.
            finds: Whether detectors may find something.
        """
        asked_for = set(words.named("tags"))
        atoms = list(self._labels)
        for tag in self._tags:
            asked = tag.name in asked_for
            atoms.append(Atom("tag", tag.name, tag.effect, *words.bits_of(-1, "tags", tag.name)) if asked else tag)
        for detector in self._detectors if finds else ():
            effect, views = self._detector_effect(detector, redact, tracked)
            bits = [words.bits_of(view, "detected", detector.name) for view in views]
            inside, outside = (reduce(or_, side, 0) for side in zip(*bits, strict=True))
            atoms.append(Atom("detector", detector.name, effect, inside, outside, detector))
        for word in words.named("capabilities"):
            atoms.append(Atom("capability", word, self.nothing, *words.bits_of(-1, "capabilities", word)))
        chosen: dict[object, Atom] = {}
        for at, atom in enumerate(atoms):
            if atom.effect != self.nothing or atom.inside or atom.outside:
                # Of several that do the same one is enough, unless all of them are needed together.
                chosen.setdefault((atom.effect, atom.inside, at if atom.outside else -1), atom)
        return list(chosen.values())

    def _label_atoms(self) -> Iterator[Atom]:
        names = dict.fromkeys(label for policy in self.policies for label in policy.labels.order)
        # To one policy alone, a floor is a label that is said: that nobody said anything makes it the unlabelled one at least.
        for kind in ("said",) if len(self.policies) == 1 else ("said", "floor"):
            for name in names:
                effect = list(self.nothing)
                for view, policy in enumerate(self.policies):
                    labels = policy.labels
                    known = name in labels.rank
                    effect[view * SLOTS + DECLARED] = labels.rank[name if known else labels.top]
                    effect[view * SLOTS + STATED] = int(kind == "said")
                    effect[view * SLOTS + REFUSED] = int(kind == "said" and not known)
                yield Atom(kind, name, tuple(effect))

    def _tag_effect(self, tag: str) -> tuple[int, ...]:
        effect = list(self.nothing)
        for view, policy in enumerate(self.policies):
            labels = policy.labels
            if tag in labels.tags or tag not in policy.tags_in_rules:
                effect[view * SLOTS + DECLARED] = labels.rank[labels.tags.get(tag, labels.unlabeled)]
                effect[view * SLOTS + STATED] = 1
        return tuple(effect)

    def _detector_effect(
        self, detector: Detector, redact: Sequence[Sequence[str]], tracked: Sequence[bool]
    ) -> tuple[tuple[int, ...], list[int]]:
        """What a find raises, and in which policies it is one."""
        effect = list(self.nothing)
        views = [
            view
            for view, policy in enumerate(self.policies)
            if any(same_finds(detector, own) for own in policy.detectors)
        ]
        for view in views:
            policy = self.policies[view]
            rank = policy.labels.rank[policy.detector_labels[detector.name]]
            effect[view * SLOTS + (FOUND if tracked[view] else DECLARED)] = rank
            if tracked[view] and detector.name not in redact[view]:
                effect[view * SLOTS + REST] = rank
        taken_out = [view in views and detector.name in names for view, names in enumerate(redact)]
        effect[-1] = int(len(taken_out) > 1 and taken_out[0] and not taken_out[1])
        return tuple(effect), views


def _finds(policy: Policy) -> set[tuple[object, ...]]:
    labels = policy.detector_labels
    return {(detector.name, detector.words, detector.pattern, labels[detector.name]) for detector in policy.detectors}


def _promised(policy: Policy) -> Iterator[str]:
    """Tags that guarantees name."""
    for guarantee in policy.guarantees:
        for condition in guarantee.when:
            if condition.fact == "tags":
                yield from words_of(condition)
