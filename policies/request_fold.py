"""Classes of requests that the rules in question cannot tell apart, made atom by atom instead of subset by subset.

Everything that an atom does only ever grows: labels rise, words appear. So after every atom, of two states with the same labels the
one is dropped that meets fewer of the wanted conditions and more of those that had better fail: whatever can still be added to
it can be added to the other one as well.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from policies.request_space import DECLARED, FOUND, REFUSED, REST, SLOTS, STATED, Request
from policies.word_conditions import WordConditions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from policies.request_space import Atom, RequestSpace
    from policies.word_conditions import RequestTest

__all__ = ["Budget", "Labelled", "RequestState", "TooManyStatesError", "fold"]


class TooManyStatesError(Exception):
    """The bound on states is reached, so nothing is decided."""


@dataclass
class Budget:
    """Counts states against a bound."""

    limit: int
    """Most states."""

    spent: int = 0
    """States so far."""

    def spend(self, states: int) -> None:
        """Count some states.

        Raises:
            TooManyStatesError: There were too many.
        """
        self.spent += states
        if self.spent > self.limit:
            raise TooManyStatesError


@dataclass(frozen=True, slots=True)
class Labelled:
    """What one policy makes of a request, in ranks."""

    label: int
    """Rank of the label."""

    redacted: int | None
    """Rank of what is left when the rule's finds are taken out; None where that is not to be had or changes nothing."""

    refused: bool
    """Whether a label was said that the policy does not know."""


@dataclass(frozen=True, slots=True)
class RequestState:
    """A class of requests."""

    views: tuple[Labelled, ...]
    """What each policy makes of it."""

    stays: bool
    """Whether the first policy's rule takes a find out that the second one's leaves in."""

    dead: int
    """Rivals that do not match such a request, one bit for each."""

    declared_known: bool
    """Whether the fact ``declared_label`` is known."""

    atoms: tuple[Atom, ...]
    """What there is."""

    @property
    def request(self) -> Request:
        """One request of the class."""
        names: dict[str, list[str]] = defaultdict(list)
        for atom in self.atoms:
            names[atom.kind].append(atom.name)
        return Request(
            said=tuple(names["said"]),
            floors=tuple(names["floor"]),
            tags=tuple(sorted(names["tag"])),
            found=tuple(atom.detector for atom in self.atoms if atom.detector is not None),
            capabilities=tuple(sorted(names["capability"])),
        )


_Entry = tuple[int, int, tuple["Atom", ...]]
"""How bad the bits are, the bits, and what there is."""


def fold(
    space: RequestSpace,
    wanted: Sequence[RequestTest],
    rivals: Sequence[RequestTest],
    redact: Sequence[Sequence[str]],
    budget: Budget,
    *,
    finds: bool = True,
    declared_known: Sequence[bool] = (True, False),
) -> list[RequestState]:
    """The classes of requests for which what is wanted holds; in each the fewest rivals hold that can.

    Args:
        space: The atoms.
        wanted: For each policy what has to hold.
        rivals: Conditions of rules that had better not match.
        redact: For each policy the detectors whose finds its rule takes out.
        budget: Counts the states.
        finds: Whether detectors may find something.
        declared_known: Whether the fact ``declared_label``, where a condition asks for it, is known.

    Raises:
        TooManyStatesError: The budget is spent.
    """
    words = WordConditions(space.policies, wanted, rivals)
    on_declared = [test.view for test in (*wanted, *rivals) if test.declared != -1]
    tracked = [bool(names) or view in on_declared for view, names in enumerate(redact)]
    if words.at_first & words.forbidden:
        return []
    states: dict[tuple[int, ...], list[_Entry]] = {space.nothing: [(words.at_first ^ words.good, words.at_first, ())]}
    for atom in space.atoms(words, redact, tracked, finds=finds):
        states = _with(atom, states, words, budget)
    classes = []
    for numbers, entries in states.items():
        for _, bits, atoms in entries:
            if bits & words.needed != words.needed:
                continue
            for known in declared_known if on_declared else (True,):
                made = _class(space, wanted, rivals, words, redact, numbers, bits, atoms, declared_known=known)
                if made is not None:
                    classes.append(made)
    return classes


def _with(
    atom: Atom, states: dict[tuple[int, ...], list[_Entry]], words: WordConditions, budget: Budget
) -> dict[tuple[int, ...], list[_Entry]]:
    """The states with and without one more atom."""
    found: dict[tuple[int, ...], list[_Entry]] = {}
    for numbers, entries in states.items():
        for _, bits, atoms in entries:
            if not (bits | atom.outside) & words.forbidden:
                _keep(found.setdefault(numbers, []), bits | atom.outside, atoms, words.good)
    for numbers, entries in states.items():
        raised = tuple(map(max, numbers, atom.effect))
        kept = found.setdefault(raised, [])
        for _, bits, atoms in entries:
            _keep(kept, bits | atom.inside, (*atoms, atom), words.good)
    budget.spend(sum(map(len, found.values())))
    return found


def _keep(entries: list[_Entry], bits: int, atoms: tuple[Atom, ...], good: int) -> None:
    bad = bits ^ good
    if any(not other & ~bad for other, _, _ in entries):
        return
    entries[:] = [entry for entry in entries if bad & ~entry[0]]
    entries.append((bad, bits, atoms))


def _class(
    space: RequestSpace,
    wanted: Sequence[RequestTest],
    rivals: Sequence[RequestTest],
    words: WordConditions,
    redact: Sequence[Sequence[str]],
    numbers: tuple[int, ...],
    bits: int,
    atoms: tuple[Atom, ...],
    *,
    declared_known: bool,
) -> RequestState | None:
    views: list[Labelled] = []
    declared: list[int] = []
    for view, policy in enumerate(space.policies):
        own = numbers[view * SLOTS : (view + 1) * SLOTS]
        rank = own[DECLARED] if own[STATED] else max(own[DECLARED], policy.labels.rank[policy.labels.unlabeled])
        label = max(rank, own[FOUND])
        if not declared_known:
            rank = len(policy.labels.order) - 1  # it counts as the top label
        rest = max(rank, own[REST])
        changes = bool(redact[view]) and own[FOUND] >= 0 and rest != label
        views.append(Labelled(label, rest if changes else None, bool(own[REFUSED])))
        declared.append(rank)
    if not all(test.allows(views[test.view].label, declared[test.view]) for test in wanted):
        return None
    dead = 0
    for at, (test, (needed, forbidden)) in enumerate(zip(rivals, words.rivals, strict=True)):
        holds = bits & needed == needed and not bits & forbidden
        if not holds or not test.allows(views[test.view].label, declared[test.view]):
            dead |= 1 << at
    return RequestState(tuple(views), bool(numbers[-1]), dead, declared_known, atoms)
