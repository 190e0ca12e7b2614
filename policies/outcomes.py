"""Which rule can decide which requests: exact, without going through all combinations of facts.

Two things make it quick. A condition on an unknown fact never holds, so a rule that asks for a fact that the rule in question does
not ask for need not match: leave the fact unknown. What remains are the few facts of the rule itself, and of them only the cells
that keep it matching. Those are gone through fact by fact; all that has to be remembered of the way is which earlier rules are
out already, and of two cells the one counts that rules out more.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

from policies.facts import FACT_KINDS, Facts
from policies.partition import REQUEST_FACTS, FactCells
from policies.request_fold import fold
from policies.request_space import RequestSpace, said_in
from policies.word_conditions import RequestTest

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from policies.condition import Condition
    from policies.facts import Place
    from policies.request_fold import Budget, RequestState
    from policies.request_space import Request
    from policies.schema import Policy

__all__ = ["REFUSED", "Clause", "Outcomes", "Witness"]

K = TypeVar("K", bound="Hashable")

REFUSED = -1
"""In the place of a rule: the policy refuses the request, since it does not know a label that was said."""


@dataclass(frozen=True)
class Clause:
    """Conditions that hold together, sorted by what they ask for."""

    measured: dict[str, int]
    """For each fact that is measured the cells on which all conditions on it hold."""

    request: RequestTest
    """The conditions on the request's own facts."""


@dataclass(frozen=True)
class Witness:
    """A request at a moment for which something is so."""

    request: Request
    """The request."""

    declared_known: bool
    """Whether the fact ``declared_label`` is known."""

    measured: dict[str, Any]
    """Facts that are measured; all others are unknown."""

    def facts(self, policy: Policy, places: Iterable[Place] = ()) -> Facts | None:
        """The facts under a policy; None if it refuses the request."""
        said = said_in(policy, self.request)
        if said is None:
            return None
        return Facts(
            label=said.label,
            declared_label=said.declared if self.declared_known else None,
            tags=frozenset(self.request.tags) or None,
            detected=said.detected or None,
            capabilities=frozenset(self.request.capabilities) or None,
            places=tuple(places),
            **self.measured,
        )


@dataclass(frozen=True)
class _Rival:
    """A rule that must not match, as far as that is still open."""

    measured: dict[str, int]
    request: RequestTest


class Outcomes:
    """The outcomes of one policy, or of two side by side.

    Args:
        policies: The policies.
        budget: Bounds the work.
    """

    def __init__(self, policies: Sequence[Policy], budget: Budget) -> None:
        self.policies = tuple(policies)
        self._budget = budget
        self._space = RequestSpace(policies)
        self.same_labels = self._space.same_labels
        """Whether every request has the same labels under all policies."""
        conditions: dict[str, list[Condition]] = defaultdict(list)
        for policy in policies:
            whens = (*(rule.when for rule in policy.rules), *(guarantee.when for guarantee in policy.guarantees))
            for condition in chain.from_iterable(whens):
                conditions[condition.fact].append(condition)
        self._cells = {
            fact: FactCells(fact, conditions[fact])
            for fact in FACT_KINDS
            if fact in conditions and fact not in REQUEST_FACTS
        }
        self.rules = [
            tuple(self.clause(rule.when, view) for rule in policy.rules) for view, policy in enumerate(policies)
        ]
        """The conditions of each policy's rules."""

    def clause(self, conditions: Iterable[Condition], view: int = 0) -> Clause:
        """Sort conditions, which have to be of a rule or a guarantee of one of the policies."""
        measured: dict[str, int] = {}
        rest = []
        for condition in conditions:
            cells = self._cells.get(condition.fact)
            if cells is None:
                rest.append(condition)
            else:
                measured[condition.fact] = measured.get(condition.fact, cells.all) & cells.where(condition)
        return Clause(measured, RequestTest.of(view, self.policies[view], rest))

    def explore(
        self,
        outcomes: Sequence[int | None],
        classify: Callable[[RequestState], Iterable[K]],
        *,
        also: Clause | None = None,
        rivals: Iterable[int] | None = None,
        finds: bool = True,
        declared_known: Sequence[bool] = (True, False),
    ) -> dict[K, Witness]:
        """What is true of the requests that certain rules decide.

        Args:
            outcomes: For each policy the rule that decides; None for the default, ``REFUSED`` where it refuses.
            classify: What is true of a class of requests, as any number of keys.
            also: Further conditions that hold, on the first policy's facts.
            rivals: Earlier rules of the first policy that count; all if left out.
            finds: Whether detectors may find something.
            declared_known: Whether the fact ``declared_label``, where a condition asks for it, is known.

        Returns:
            A witness for every key that is true of some request.

        Raises:
            TooManyStatesError: The budget is spent.
        """
        wanted: list[RequestTest] = []
        must: dict[str, int] = {}
        redact: list[tuple[str, ...]] = []
        for view, outcome in enumerate(outcomes):
            decided = outcome is not None and outcome != REFUSED
            clause = self.rules[view][outcome] if decided and outcome is not None else Clause({}, RequestTest(view))
            redact.append(self.policies[view].rules[outcome].redact if decided and outcome is not None else ())
            both = [clause] if also is None or view else [clause, also]
            test = RequestTest(view)
            for part in both:
                test = test.joined(part.request)
                for fact, cells in part.measured.items():
                    must[fact] = must.get(fact, self._cells[fact].all) & cells
            wanted.append(test)
        if not all(must.values()):
            return {}
        open_rivals = self._rivals(outcomes, must, wanted, rivals)
        if open_rivals is None:
            return {}
        states = fold(
            self._space,
            wanted,
            [rival.request for rival in open_rivals],
            redact,
            self._budget,
            finds=finds,
            declared_known=declared_known,
        )
        by_key: dict[K, list[RequestState]] = defaultdict(list)
        for state in states:
            for key in classify(state):
                by_key[key].append(state)
        search = _Search(must, open_rivals, self._budget)
        found = {}
        for key, group in by_key.items():
            for state in group:
                chosen = search.run(state.dead)
                if chosen is not None:
                    measured = {fact: self._cells[fact].first(cells) for fact, cells in chosen.items()}
                    found[key] = Witness(state.request, state.declared_known, measured)
                    break
        return found

    def in_the_way(self, outcome: int) -> list[int]:
        """Earlier rules of the first policy that can match where a rule does, whatever is unknown besides."""
        must = self.rules[0][outcome].measured
        return [
            at
            for at, clause in enumerate(self.rules[0][:outcome])
            if clause.measured.keys() <= must.keys()
            and all(must[fact] & cells for fact, cells in clause.measured.items())
        ]

    def _rivals(
        self,
        outcomes: Sequence[int | None],
        must: dict[str, int],
        wanted: Sequence[RequestTest],
        only: Iterable[int] | None,
    ) -> list[_Rival] | None:
        """The earlier rules that could match as well; None if one of them does whatever the rest may be."""
        found: list[_Rival] = []
        held = {self._key(test.view, condition) for test in wanted for condition in test.words}
        for view, outcome in enumerate(outcomes):
            if outcome == REFUSED:
                continue
            clauses = self.rules[view][:outcome] if only is None else [self.rules[view][at] for at in only]
            for clause in clauses:
                if not clause.measured.keys() <= must.keys():
                    continue  # it asks for a fact that may as well be unknown
                if not all(must[fact] & cells for fact, cells in clause.measured.items()):
                    continue
                if not wanted[view].labels & clause.request.labels:
                    continue
                still = {fact: cells for fact, cells in clause.measured.items() if must[fact] & ~cells}
                if not still and self._implied(clause.request, wanted, held):
                    return None
                found.append(_Rival(still, clause.request))
        return found

    def _implied(self, test: RequestTest, wanted: Sequence[RequestTest], held: set[Hashable]) -> bool:
        """Whether what is wanted alone makes a test hold."""
        views = wanted if self.same_labels else wanted[test.view : test.view + 1]
        return (
            all(self._key(test.view, condition) in held for condition in test.words)
            and (test.labels == -1 or any(not other.labels & ~test.labels for other in views))
            and (test.declared == -1 or any(not other.declared & ~test.declared for other in views))
        )

    def _key(self, view: int, condition: Condition) -> Hashable:
        """What tells conditions on words apart; what is found depends on the policy, the words of a request do not."""
        own = condition.fact == "detected" and not self._space.same_detectors
        return (view if own else 0, condition)


class _Search:
    """Looks for cells, one of each fact, that rule out all rivals that a request does not rule out by itself."""

    def __init__(self, must: dict[str, int], rivals: Sequence[_Rival], budget: Budget) -> None:
        self._all = (1 << len(rivals)) - 1
        self._budget = budget
        self._must = must
        self._facts: list[str] = []
        self._choices: list[list[tuple[int, int]]] = []
        """For each fact with a choice the sets of cells, with the rivals that they rule out."""
        for fact, cells in must.items():
            masks = {rival.measured[fact] for rival in rivals if fact in rival.measured}
            if masks:
                self._facts.append(fact)
                self._choices.append(_best(_parts(cells, masks), fact, rivals))
        self._reachable = [0] * (len(self._facts) + 1)
        for at in reversed(range(len(self._facts))):
            here = 0
            for dead, _ in self._choices[at]:
                here |= dead
            self._reachable[at] = self._reachable[at + 1] | here
        self._failed: set[tuple[int, int]] = set()

    def run(self, dead: int) -> dict[str, int] | None:
        """Cells of each fact, given the rivals that are out already; None if there are none."""
        chosen: list[int] = []
        if not self._from(0, dead, chosen):
            return None
        return {**self._must, **dict(zip(self._facts, chosen, strict=False))}

    def _from(self, at: int, dead: int, chosen: list[int]) -> bool:
        if dead == self._all:
            return True
        if dead | self._reachable[at] != self._all or (at, dead) in self._failed:
            return False
        self._budget.spend(1)
        for more, cells in self._choices[at]:
            chosen.append(cells)
            if self._from(at + 1, dead | more, chosen):
                return True
            chosen.pop()
        self._failed.add((at, dead))
        return False


def _parts(cells: int, masks: Iterable[int]) -> list[int]:
    """A set of cells, cut by every mask."""
    parts = [cells]
    for mask in masks:
        parts = [piece for part in parts for piece in (part & mask, part & ~mask) if piece]
    return parts


def _best(parts: Iterable[int], fact: str, rivals: Sequence[_Rival]) -> list[tuple[int, int]]:
    """The parts that rule out something that no other part rules out together with all the rest of it."""
    best: list[tuple[int, int]] = []
    for part in parts:
        dead = 0
        for at, rival in enumerate(rivals):
            mask = rival.measured.get(fact)
            if mask is not None and not part & mask:
                dead |= 1 << at
        if any(not dead & ~other for other, _ in best):
            continue
        best = [choice for choice in best if choice[0] & ~dead]
        best.append((dead, part))
    return best
