"""Recorded requests decided again under another policy, and what that would change. Pure: entries in, a report out.

The facts count as they were recorded, the label among them: the other policy's tags and detectors are not asked again, since
what was said is not in the log.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from policies import LOCAL, decide

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hybridllm.logged_decision import LoggedDecision
    from policies import Decision, Policy

__all__ = ["Assumptions", "Latency", "Replay", "Side", "SimulationReport", "Tokens", "Transition", "simulate"]

_LINES_NAMED = 10


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What the log does not say, or what shall hold in the place of what it says."""

    local_ttft_ms: float | None = None
    """The device's time to first token, in milliseconds; None for what the log knows."""

    local_tokens_per_s: float | None = None
    """The device's speed after the first token; None for what the log knows."""

    remote_ttft_ms: float | None = None
    """The time to first token of every place but the device, in milliseconds; None for what the log knows."""

    remote_tokens_per_s: float | None = None
    """The speed after the first token of every place but the device; None for what the log knows."""

    price_prompt: float | None = None
    """Price of a million prompt tokens at every place but the device, in any unit; None if it does not matter."""

    price_completion: float | None = None
    """Price of a million generated tokens there, in the same unit."""


@dataclass(frozen=True, slots=True)
class Latency:
    """How long whole answers take."""

    median_s: float | None
    """The middle one, in seconds; None if all are unknown."""

    p95_s: float | None
    """Nineteen of twenty take at most this long, in seconds (nearest rank)."""

    known: int
    """Requests that it is about."""

    unknown: int
    """Requests without an estimate: nobody would be asked, or a speed or the answer's length is not in the log."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens at one place."""

    prompt: int
    """Tokens of prompts: counted where they were, else estimated."""

    completion: int
    """Tokens generated, taking an answer to be as long elsewhere as where it was given."""

    unknown: int
    """Requests whose answer's length is not in the log; their prompts are counted."""


@dataclass(frozen=True, slots=True)
class Side:
    """The requests under one policy."""

    places: Mapping[str, int]
    """Requests by the place that is asked first; the empty name is nobody."""

    rules: Mapping[str, int]
    """Requests by the rule that decides."""

    could_leave: int
    """Requests with any candidate besides the device, the first or a later one."""

    redacted: int
    """Requests of which some place may see the redacted text only."""

    latency: Latency
    """How long the answers of the places asked first take."""

    tokens: Mapping[str, Tokens]
    """Tokens by the place that is asked first."""

    cost: float | None
    """What the tokens outside the device cost, in the unit of the prices; None without prices."""


@dataclass(frozen=True, slots=True)
class Transition:
    """Requests that one rule decided and another one would, or that would go elsewhere."""

    old_rule: str
    """The rule that decided."""

    new_rule: str
    """The rule that would."""

    old_place: str
    """The place of before; empty for nobody."""

    new_place: str
    """The place that would be asked first; empty for nobody."""

    newly_leaves: bool
    """No place but the device was a candidate, and now one is."""

    no_longer_leaves: bool
    """A place besides the device was a candidate, and now none is."""

    requests: int
    """How many."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Entries that this very policy decided, compared with what it decides now."""

    compared: int
    """Entries with this policy's hash."""

    identical: int
    """Those whose decision has the same bytes."""

    moved: int
    """Those that differ only in the file or line where the rule stands."""

    differing: int
    """The rest: these facts gave another decision once."""

    differing_lines: tuple[int, ...]
    """The first lines of the log where that is so."""


@dataclass(frozen=True, slots=True)
class SimulationReport:
    """What a policy would change."""

    policy: str
    """Name of the policy."""

    policy_hash: str
    """Its hash."""

    requests: int
    """Entries of the log."""

    recorded_policies: Mapping[str, int]
    """Entries by the policy that decided them, as ``name hash``."""

    against: str
    """What ``old`` is: the recorded ``decision``, or what ``happened``."""

    old: Side
    """As it was."""

    new: Side
    """As it would be."""

    changed_place: int
    """Requests that would go to another place."""

    newly_leave: int
    """Requests that no place but the device could see, and that one could now."""

    no_longer_leave: int
    """Requests that a place besides the device could see, and that none could now."""

    transitions: tuple[Transition, ...]
    """What became of which requests, most first; those that stay as they are are left out."""

    unknown_labels: int
    """Requests whose recorded label this policy does not know: they count as its top label."""

    replay: Replay
    """Whether deciding again gives what was decided."""


def simulate(
    policy: Policy,
    entries: Iterable[LoggedDecision],
    assumptions: Assumptions | None = None,
    *,
    against_happened: bool = False,
) -> SimulationReport:
    """Decide recorded requests again.

    Args:
        policy: The policy to decide them under.
        entries: The requests, such as ``read_decision_log`` gives them.
        assumptions: Speeds and prices; None for the log's own speeds and no prices.
        against_happened: Compare with who answered and how long that took, not with the decisions of then.
    """
    assumed = assumptions or Assumptions()
    old, new, replay = _Tally(assumed), _Tally(assumed), _ReplayTally(policy)
    policies: Counter[str] = Counter()
    transitions: Counter[tuple[str, str, str, str, bool, bool]] = Counter()
    changed = unknown_labels = 0
    ranks = policy.labels.rank
    for entry in entries:
        decision = decide(policy, entry.facts)
        replay.compare(entry, decision)
        recorded = entry.decision
        policies[f"{recorded['policy']} {recorded['policy_hash']}"] += 1
        unknown_labels += entry.facts.label not in ranks
        new_place = decision.candidates[0] if decision.candidates else ""
        old_place = recorded["candidates"][0] if recorded["candidates"] else ""
        old_leaves, new_leaves = _leaves(recorded["candidates"]), _leaves(decision.candidates)
        if against_happened:
            old_place = entry.served_by
            old.add(entry, old_place, recorded["rule"], old_leaves, bool(recorded["redact"]), _measured_s(entry))
        else:
            expected_s = _expected_s(entry, old_place, assumed)
            old.add(entry, old_place, recorded["rule"], old_leaves, bool(recorded["redact"]), expected_s)
        expected_s = _expected_s(entry, new_place, assumed)
        new.add(entry, new_place, decision.rule, new_leaves, bool(decision.redact), expected_s)
        changed += old_place != new_place
        if (recorded["rule"], old_place, old_leaves) != (decision.rule, new_place, new_leaves):
            key = (recorded["rule"], decision.rule, old_place, new_place)
            transitions[(*key, new_leaves and not old_leaves, old_leaves and not new_leaves)] += 1
    most_first = sorted(transitions.items(), key=lambda item: (-item[1], item[0]))
    rows = tuple(Transition(*key, requests=count) for key, count in most_first)
    return SimulationReport(
        policy=policy.name,
        policy_hash=policy.hash,
        requests=policies.total(),
        recorded_policies=_most_first(policies),
        against="happened" if against_happened else "decision",
        old=old.side(),
        new=new.side(),
        changed_place=changed,
        newly_leave=sum(row.requests for row in rows if row.newly_leaves),
        no_longer_leave=sum(row.requests for row in rows if row.no_longer_leaves),
        transitions=rows,
        unknown_labels=unknown_labels,
        replay=replay.result(),
    )


def _leaves(candidates: Iterable[str]) -> bool:
    return any(place != LOCAL for place in candidates)


def _measured_s(entry: LoggedDecision) -> float | None:
    """How long the answer took, failed attempts before it included."""
    # One that was cancelled although somebody answered ran beside that one.
    durations_s = [attempt.duration_s for attempt in entry.attempts if attempt.outcome != "cancelled"]
    return None if not entry.served_by or None in durations_s else math.fsum(filter(None, durations_s))


def _expected_s(entry: LoggedDecision, place: str, assumed: Assumptions) -> float | None:
    """How long a whole answer of a place takes: what is assumed, else what was measured there, else what was known then."""
    answer_tokens = entry.completion_tokens
    if not place or answer_tokens is None:
        return None
    facts = entry.facts
    if place == LOCAL:
        ttft_ms, tokens_per_s = assumed.local_ttft_ms, assumed.local_tokens_per_s
        known_ttft_ms, known_tokens_per_s = facts.local_ttft_ms, facts.local_tokens_per_s
    else:
        ttft_ms, tokens_per_s = assumed.remote_ttft_ms, assumed.remote_tokens_per_s
        known_ttft_ms, known_tokens_per_s = facts.remote_ttft_ms, facts.remote_tokens_per_s
    if place == entry.served_by and entry.attempts:
        served = next((one for one in entry.attempts if one.outcome == "served"), entry.attempts[-1])
        known_ttft_ms = known_ttft_ms if served.ttft_ms is None else served.ttft_ms
        known_tokens_per_s = known_tokens_per_s if served.tokens_per_s is None else served.tokens_per_s
    ttft_ms = known_ttft_ms if ttft_ms is None else ttft_ms
    tokens_per_s = known_tokens_per_s if tokens_per_s is None else tokens_per_s
    if ttft_ms is None:
        return None
    if answer_tokens <= 1:
        return ttft_ms / 1000
    return ttft_ms / 1000 + (answer_tokens - 1) / tokens_per_s if tokens_per_s else None


def _most_first(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


@dataclass(slots=True)
class _Tally:
    """Adds up one side."""

    assumed: Assumptions
    places: Counter[str] = field(default_factory=Counter)
    rules: Counter[str] = field(default_factory=Counter)
    could_leave: int = 0
    redacted: int = 0
    known_s: list[float] = field(default_factory=list)
    unknown: int = 0
    tokens: dict[str, list[int]] = field(default_factory=dict)

    def add(
        self, entry: LoggedDecision, place: str, rule: str, leaves: bool, redacted: bool, expected_s: float | None
    ) -> None:
        self.places[place] += 1
        self.rules[rule] += 1
        self.could_leave += leaves
        self.redacted += redacted
        if expected_s is None:
            self.unknown += 1
        else:
            self.known_s.append(expected_s)
        if place:
            counts = self.tokens.setdefault(place, [0, 0, 0])
            counts[0] += _prompt_tokens(entry)
            counts[1] += entry.completion_tokens or 0
            counts[2] += entry.completion_tokens is None

    def side(self) -> Side:
        places = _most_first(self.places)
        tokens = {place: Tokens(*self.tokens[place]) for place in places if place}
        self.known_s.sort()
        count = len(self.known_s)
        return Side(
            places=places,
            rules=_most_first(self.rules),
            could_leave=self.could_leave,
            redacted=self.redacted,
            latency=Latency(
                median_s=round(median(self.known_s), 6) if count else None,
                p95_s=round(self.known_s[math.ceil(0.95 * count) - 1], 6) if count else None,
                known=count,
                unknown=self.unknown,
            ),
            tokens=tokens,
            cost=self._cost(tokens),
        )

    def _cost(self, tokens: Mapping[str, Tokens]) -> float | None:
        prompt, completion = self.assumed.price_prompt, self.assumed.price_completion
        if prompt is None and completion is None:
            return None
        paid = [count for place, count in tokens.items() if place != LOCAL]
        millionths = math.fsum(
            count.prompt * (prompt or 0.0) + count.completion * (completion or 0.0) for count in paid
        )
        return round(millionths / 1e6, 6)


def _prompt_tokens(entry: LoggedDecision) -> int:
    """As counted by whoever answered or by the device, else as estimated; 0 if that is unknown as well."""
    known = (entry.prompt_tokens, entry.facts.local_prompt_tokens, entry.facts.prompt_tokens)
    first = next((count for count in known if count is not None and math.isfinite(count)), 0)
    return round(first)


@dataclass(slots=True)
class _ReplayTally:
    """Compares decisions of the same policy."""

    policy: Policy
    compared: int = 0
    identical: int = 0
    moved: int = 0
    differing: int = 0
    lines: list[int] = field(default_factory=list)

    def compare(self, entry: LoggedDecision, decision: Decision) -> None:
        recorded: dict[str, Any] = entry.decision
        if recorded["policy_hash"] != self.policy.hash:
            return
        self.compared += 1
        now = decision.to_json()
        if now == entry.decision_json():
            self.identical += 1
        elif now == entry.decision_json(location=decision.location):
            self.moved += 1
        else:
            self.differing += 1
            if len(self.lines) < _LINES_NAMED:
                self.lines.append(entry.line)

    def result(self) -> Replay:
        return Replay(self.compared, self.identical, self.moved, self.differing, tuple(self.lines))
