"""Guessing: what the index finds, what guessing may cost, and that an engine that guesses says what one that doesn't says."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_runtime.engine import Engine
from local_runtime.events import Event, Failed, Finished, TextDelta
from local_runtime.options import GenerateRequest, SamplingOptions
from local_runtime.speculation import NgramIndex, Speculation, StepCosts, clear_lead, rounding_is_known
from tests.local_runtime.scripted_runner import END, Script, ScriptedModel, make_model

GREEDY = SamplingOptions(temperature=0)
EPS = float(np.finfo(np.float32).eps)


class Cheap(StepCosts):
    """Passes that cost nothing to speak of, so that whatever can be guessed is."""

    def of_pass(self, tokens: int) -> float:
        return 1.0


# ---- the index ----


def longest_by_hand(tokens: Sequence[int]) -> list[tuple[int, int]]:
    """Every place after an earlier occurrence of the list's last two tokens, the newest first, with the match's length."""
    last, found = len(tokens) - 1, []
    for place in range(last - 1, 0, -1):
        length = 0
        while length <= min(place, 15) and tokens[place - length] == tokens[last - length]:
            length += 1
        if length >= 2:
            found.append((place + 1, length))
    return found


@given(st.lists(st.integers(0, 3), max_size=60), st.lists(st.integers(1, 7), max_size=10))
@settings(max_examples=300)
def test_the_index_finds_the_longest_of_the_newest_occurrences_wherever_the_list_has_grown(
    tokens: list[int], growth: list[int]
) -> None:
    grown: list[int] = []
    index = NgramIndex(grown)
    for count in [*growth, len(tokens)]:
        grown.extend(tokens[len(grown) : len(grown) + count])
        candidates = longest_by_hand(grown)[:8]
        assert index.longest() == max(candidates, key=lambda found: found[1], default=(0, 0))


def test_a_guess_repeats_what_followed_and_goes_on_in_a_circle_at_the_end() -> None:
    speculation = Speculation([5, 1, 2, 3, 4, 9, 9, 8, 1, 2, 3], Cheap())
    assert speculation.guess(16) == [4, 9, 9, 8, 1, 2, 3, 4, 9, 9, 8, 1, 2, 3, 4]
    assert speculation.guess(5) == [4, 9, 9]
    assert Speculation([7, 7, 7], Cheap()).guess(16) == [7] * 15


def test_nothing_is_guessed_without_room_or_without_an_earlier_occurrence() -> None:
    assert Speculation([1, 2, 1, 2], Cheap()).guess(0) == []
    for tokens in ([], [1], [1, 1], [1, 2, 3, 4]):
        assert Speculation(tokens, Cheap()).guess(16) == []


# ---- what it costs ----


def spend(costs: StepCosts, right: Callable[[int], int], pass_cost: Callable[[int], float], tokens: int) -> float:
    """Time that so many tokens take, in decodes, where everything repeats but ``right`` says how much of a guess is."""
    sequence = [1, 2, 3] * 10
    speculation = Speculation(sequence, costs)
    took, said = 0.0, 0
    while said < tokens:
        guessed = speculation.guess(15)
        if guessed:
            came_true = right(len(guessed))
            speculation.note(len(guessed), came_true)
            costs.note_pass(1 + len(guessed), pass_cost(1 + len(guessed)), came_true + 1)
            took, gained = took + pass_cost(1 + len(guessed)), came_true + 1
        else:
            costs.note_decode(1.0)
            took, gained = took + 1.0, 1
        said += gained
        sequence += [sequence[len(sequence) % 3]] * gained
    return took


@pytest.mark.parametrize("per_token", [0.1, 0.3, 1.0, 3.0])
def test_guesses_that_never_come_true_cost_little(per_token: float) -> None:
    tokens = 2000
    took = spend(StepCosts(), lambda count: 0, lambda count: 1 + per_token * (count - 1), tokens)
    assert took <= 1.03 * tokens + 5


@pytest.mark.parametrize("seed", range(4))
def test_whatever_comes_true_the_loss_is_bounded(seed: int) -> None:
    draw, tokens = random.Random(seed), 1000
    shares = [draw.random() for _ in range(40)]
    calls = iter(range(10_000_000))

    def right(count: int) -> int:
        share = shares[next(calls) // 20 % len(shares)]
        return next((place for place in range(count) if draw.random() > share), count)

    took = spend(StepCosts(), right, lambda count: 1 + 0.4 * (count - 1), tokens)
    assert took <= 1.03 * tokens + 5


def test_guesses_that_come_true_pay() -> None:
    took = spend(StepCosts(), lambda count: count, lambda count: 1 + 0.15 * (count - 1), 2000)
    assert took < 2000 / 3


def test_a_step_that_took_long_once_is_no_measure_and_is_forgotten() -> None:
    costs = StepCosts()
    for _ in range(20):
        costs.note_decode(1.0)
    costs.note_decode(100.0)
    before = costs.of_pass(4)
    costs.note_pass(4, 500.0, 4)
    after = costs.of_pass(4)
    assert before < after < 1.5 * before
    for _ in range(2000):
        costs.note_decode(1.0)
    assert costs.of_pass(4) == pytest.approx(before, rel=0.02)
    assert costs.credit == 4.0


def test_a_clear_lead_grows_with_the_logits_and_the_format() -> None:
    logits = np.array([-30.0, 10.0, 2.0], dtype=np.float32)
    assert clear_lead(logits, EPS) == pytest.approx(1000 * EPS * 30)
    assert clear_lead(-logits, EPS) == clear_lead(logits, EPS)
    assert rounding_is_known(EPS)
    assert not rounding_is_known(float(np.finfo(np.float16).eps))


# ---- the engine ----

PERIOD = 23


def says(tokens: Sequence[int]) -> int:
    """A model that repeats itself, with a slip now and then and an end."""
    place = len(tokens)
    if place % 211 == 0:
        return END
    return ord("a") + (place * place if place % 37 == 0 else place) % PERIOD


class Asked:
    """An engine over a scripted model, and what it said."""

    def __init__(self, model: ScriptedModel, *, speculate: bool) -> None:
        self.runner = model.runner
        with patch("local_runtime.engine.StepCosts", Cheap):
            self.engine = Engine(model, speculate=speculate)
        self._ids = iter(range(1, 10_000))

    def all(self, *requests: GenerateRequest) -> list[list[Event]]:
        heard: list[list[Event]] = [[] for _ in requests]
        for request, events in zip(requests, heard, strict=True):
            self.engine.submit(next(self._ids), request, events.append)
        while self.engine.has_work:
            self.engine.step()
        return heard

    def one(self, **fields: Any) -> tuple[str, list[int], Finished]:
        (events,) = self.all(request(**fields))
        return said(events)

    def steps(self, kind: str) -> int:
        return sum(name == kind for name, _ in self.runner.calls)


def request(**fields: Any) -> GenerateRequest:
    defaults: dict[str, Any] = {"raw_token_ids": list(range(40, 60)), "sampling": GREEDY}
    return GenerateRequest(**(defaults | fields))


def said(events: list[Event]) -> tuple[str, list[int], Finished]:
    *deltas, end = events
    assert isinstance(end, Finished), end
    pieces = [event for event in deltas if isinstance(event, TextDelta)]
    assert all(piece.tokens == len(piece.ids) >= 1 for piece in pieces)
    return "".join(piece.text for piece in pieces), [token for piece in pieces for token in piece.ids], end


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Asked]:
    def make(speculate: bool, say: Callable[[Sequence[int]], int] = says, **script: Any) -> Asked:
        sizes: dict[str, Any] = {"context_tokens": 512} | script
        return Asked(make_model(Script(**sizes), tmp_path, say), speculate=speculate)

    return make


Build = Callable[..., Asked]

FIELDS: dict[str, dict[str, Any]] = {
    "to the end": {},
    "cut": {"max_tokens": 61},
    "stop string": {"stop": ("mnopqrst", "never")},
    "late stop string": {"stop": ("mnopqrst",), "min_tokens": 70},
    "stop token": {"stop_token_ids": (ord("p"),), "min_tokens": 57},
    "penalised": {"sampling": SamplingOptions(temperature=0, frequency_penalty=1.5, repetition_penalty=1.3)},
    "biased": {"logit_bias": {str(ord("c")): -100.0}, "max_tokens": 90},
    "begun": {"answer_begun": "abcabcab", "max_tokens": 80},
    "log probabilities": {"logprobs": 2, "max_tokens": 70},
    "one token": {"max_tokens": 1},
    "two tokens": {"max_tokens": 2},
}


@pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS)
def test_what_is_guessed_changes_nothing_but_the_steps(build: Build, fields: dict[str, Any]) -> None:
    plain, guessing = build(False), build(True)
    text, ids, end = plain.one(**fields)
    assert guessing.one(**fields)[:2] == (text, ids)
    (events,) = guessing.all(request(**fields))
    assert said(events)[:2] == (text, ids)
    assert (said(events)[2].reason, said(events)[2].usage.completion_tokens) == (
        end.reason,
        end.usage.completion_tokens,
    )
    if len(ids) > 80:
        assert guessing.steps("score") > 0
        assert sum(guessing.steps(kind) for kind in ("score", "decode")) < 2 * len(ids) * 0.7
    if "logprobs" in fields:
        deltas = [event for event in events if isinstance(event, TextDelta)]
        assert any(delta.tokens > 1 for delta in deltas)
        assert all([entry.id for entry in delta.logprobs] == delta.ids for delta in deltas)


def test_an_answer_that_is_replayed_in_the_middle_of_a_guess_goes_on_exactly(build: Build) -> None:
    text, ids, end = build(False).one(max_tokens=100)
    guessing = build(True)
    for cut in range(1, len(ids), 7):
        rest, rest_ids, rest_end = guessing.one(max_tokens=100, answer_begun_ids=ids[:cut])
        assert ids[:cut] + rest_ids == ids
        assert text.endswith(rest)
        assert (rest_end.reason, rest_end.usage.completion_tokens) == (end.reason, end.usage.completion_tokens)


def test_draws_that_are_random_are_not_guessed(build: Build) -> None:
    guessing = build(True)
    assert (
        guessing.one(sampling=SamplingOptions(temperature=1.0, seed=3))[:2] == build(False).one()[:2]
    )  # one is certain
    assert guessing.steps("score") == 0


def test_several_answers_at_once_are_decoded_together(build: Build) -> None:
    guessing, plain = build(True), build(False)
    requests = [request(raw_token_ids=[number, *range(10, 25)], max_tokens=50) for number in range(3)]
    assert [said(events)[:2] for events in guessing.all(*requests)] == [
        said(events)[:2] for events in plain.all(*requests)
    ]
    together = [sequences for kind, sequences in guessing.runner.calls if kind == "decode" and len(sequences) > 1]
    assert len(together) > 20


def test_a_guess_takes_no_page_that_was_not_kept_for_the_answer(build: Build) -> None:
    # Open-ended: what is reserved grows as it goes; the pages of the context are all there are.
    plain, guessing = (
        build(False, context_tokens=400, total_pages=100),
        build(True, context_tokens=400, total_pages=100),
    )
    requests = [request(raw_token_ids=[number, *range(10, 25)]) for number in range(2)]
    assert [said(events)[:2] for events in guessing.all(*requests)] == [
        said(events)[:2] for events in plain.all(*requests)
    ]
    assert guessing.steps("score") > 0


def test_where_no_token_is_clearly_ahead_the_model_decodes(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    text, ids, _ = build(False).one(max_tokens=100)
    guessing = build(True)
    runner = guessing.runner
    score = runner.score

    def unclear(sequence_id: int, token_ids: Sequence[int]) -> Any:
        logits = score(sequence_id, token_ids)
        for row in logits[2::3]:  # a tie within rounding, and the wrong one is ahead
            row[7] = row.max() + 1e-4
        return logits

    monkeypatch.setattr(runner, "score", unclear)
    assert guessing.one(max_tokens=100)[:2] == (text, ids)
    assert guessing.steps("score") > 3


def test_a_pass_that_fails_costs_a_guess_and_no_answer(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    guessing = build(True)
    calls = iter(range(1000))

    def fail(*_: Any) -> Any:
        next(calls)
        raise MemoryError("no room for the logits")

    monkeypatch.setattr(guessing.runner, "score", fail)
    assert guessing.one(max_tokens=100)[:2] == build(False).one(max_tokens=100)[:2]
    assert next(calls) == 1


def test_a_draw_that_fails_in_a_pass_ends_that_answer(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    guessing = build(True)
    score = guessing.runner.score

    def not_a_number(sequence_id: int, token_ids: Sequence[int]) -> Any:
        logits = score(sequence_id, token_ids)
        logits[1:] = np.nan
        return logits

    monkeypatch.setattr(guessing.runner, "score", not_a_number)
    (events,) = guessing.all(request(max_tokens=100))
    assert isinstance(events[-1], Failed)
    monkeypatch.setattr(guessing.runner, "score", score)
    assert guessing.one(max_tokens=100)[:2] == build(False).one(max_tokens=100)[:2]


def test_activations_whose_rounding_was_not_measured_are_not_guessed_with(tmp_path: Path) -> None:
    model = make_model(Script(context_tokens=512), tmp_path, says)
    model.runner.activation_eps = float(np.finfo(np.float16).eps)
    asked = Asked(model, speculate=True)
    asked.one(max_tokens=100)
    assert asked.steps("score") == 0
