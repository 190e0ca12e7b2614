"""Conditions on a request's own facts: its labels as sets of ranks, its words as one bit for each condition."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from policies.partition import holds
from policies.request_space import words_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from policies.condition import Condition
    from policies.schema import Policy

__all__ = ["RequestTest", "WordConditions"]


@dataclass(frozen=True)
class RequestTest:
    """The conditions on a request's own facts that one rule has."""

    view: int
    """For which of the policies."""

    words: tuple[Condition, ...] = ()
    """Conditions on tags, finds and capabilities."""

    labels: int = -1
    """Ranks of the label that the conditions allow, one bit for each; -1 without a condition."""

    declared: int = -1
    """The same for the declared label."""

    @classmethod
    def of(cls, view: int, policy: Policy, conditions: Iterable[Condition]) -> RequestTest:
        """Sort conditions."""
        rank = policy.labels.rank
        words: list[Condition] = []
        masks = {"label": -1, "declared_label": -1}
        for condition in conditions:
            if condition.fact in masks:
                masks[condition.fact] &= sum(1 << at for label, at in rank.items() if holds(condition, label, rank))
            else:
                words.append(condition)
        return cls(view, tuple(words), masks["label"], masks["declared_label"])

    def joined(self, other: RequestTest) -> RequestTest:
        """Both together; they are for the same policy."""
        words = (*self.words, *other.words)
        return RequestTest(self.view, words, self.labels & other.labels, self.declared & other.declared)

    @property
    def asks(self) -> bool:
        """Whether there is any condition."""
        return bool(self.words) or self.labels != -1 or self.declared != -1

    def allows(self, label: int, declared: int) -> bool:
        """Whether the conditions on labels hold for these ranks."""
        return bool(self.labels >> label & self.declared >> declared & 1)


class WordConditions:
    """One bit for each condition on words.

    For ``contains`` and ``contains_any`` the bit says that one of the words is there, for ``contains_all`` that one is missing:
    both can only become true while one word after another is looked at.

    Args:
        policies: The policies that the conditions are of.
        wanted: What has to hold.
        rivals: What should rather not hold.
    """

    def __init__(
        self, policies: Sequence[Policy], wanted: Iterable[RequestTest], rivals: Iterable[RequestTest]
    ) -> None:
        self._bits: dict[object, int] = {}
        self._inside: dict[tuple[int, str, str], int] = defaultdict(int)
        self._outside: dict[tuple[int, str, str], int] = defaultdict(int)
        self._detectors = [frozenset(detector.name for detector in policy.detectors) for policy in policies]
        self.at_first = 0
        """Bits that are set whatever a request holds: finds of a detector that there is none of cannot all be there."""
        self.needed = self.forbidden = 0
        """Bits that have to be set, and that must not be, for what is wanted."""
        for test in wanted:
            needed, forbidden = self._add(test)
            self.needed |= needed
            self.forbidden |= forbidden
        self.rivals: list[tuple[int, int]] = [self._add(test) for test in rivals]
        """For each rival the bits that have to be set, and that must not be, for it to hold."""
        self.good = self.needed
        """Bits that are rather set than not; all others are rather not. What is wanted counts first."""
        for _, forbidden in self.rivals:
            self.good |= forbidden & ~self.forbidden

    def bits_of(self, view: int, fact: str, word: str) -> tuple[int, int]:
        """The bits that a word sets by being there, and those that it sets by being absent."""
        key = (view, fact, word)
        return self._inside.get(key, 0), self._outside.get(key, 0)

    def named(self, fact: str) -> list[str]:
        """The words of a fact that the conditions name."""
        return sorted({word for table in (self._inside, self._outside) for _, other, word in table if other == fact})

    def _add(self, test: RequestTest) -> tuple[int, int]:
        needed = forbidden = 0
        for condition in test.words:
            view = test.view if condition.fact == "detected" else -1
            every = condition.operator == "contains_all"
            key = (view, condition.fact, every, frozenset(words_of(condition)))
            bit = self._bits.get(key)
            if bit is None:
                bit = self._bits[key] = 1 << len(self._bits)
                for word in words_of(condition):
                    (self._outside if every else self._inside)[view, condition.fact, word] |= bit
                    if every and view >= 0 and word not in self._detectors[view]:
                        self.at_first |= bit
            if every:
                forbidden |= bit
            else:
                needed |= bit
        return needed, forbidden
