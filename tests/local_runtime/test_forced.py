"""Tokens that a grammar leaves no choice about: taken without a draw, fed together, the same whoever else runs."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_runtime.engine import Engine
from local_runtime.errors import LocalRuntimeError
from local_runtime.events import Event, Failed, Finished, TextDelta
from local_runtime.options import GenerateRequest, Grammar, SamplingOptions
from local_runtime.preparation import Preparation
from tests.local_runtime.scripted_runner import END, Script, ScriptedModel, make_model

FORM = '{"name": "?????", "floor": "??", "opening hours": "???????"}' * 2
FORM_GRAMMAR = Grammar("regex", "form")
LETTERS = string.ascii_lowercase.encode()
SLOTS = FORM.count("?")
GREEDY = SamplingOptions(temperature=0)
DRAWN = SamplingOptions(temperature=40.0, seed=3)  # the automaton's favourite is 50 above all others


class Form:
    """A constraint: the text of a form, any small letter in place of each question mark, and then the end."""

    def __init__(self) -> None:
        self.place = 0
        self.asked: list[int] = []

    def mask(self, logits: np.ndarray) -> None:
        wanted = LETTERS if FORM[self.place] == "?" else FORM[self.place].encode()
        kept = logits[list(wanted)]
        logits.fill(-np.inf)
        logits[list(wanted)] = kept
        self.asked.append(self.place)

    def take(self, token: int) -> None:
        assert token in (LETTERS if FORM[self.place] == "?" else FORM[self.place].encode())
        self.place += 1

    def is_complete(self) -> bool:
        return self.place == len(FORM)

    def may_end(self) -> bool:
        return self.is_complete()

    def forced(self) -> list[int]:
        return list(FORM[self.place :].partition("?")[0].encode())


@pytest.fixture(autouse=True)
def forms(monkeypatch: pytest.MonkeyPatch) -> list[Form]:
    """Every answer with a grammar is a form."""
    made: list[Form] = []

    def make(preparation: Preparation, request: GenerateRequest, prompt: list[int], said: list[int]) -> Form | None:
        del preparation, prompt
        if request.grammar is None:
            return None
        form = Form()
        for token in said:
            form.take(token)
        made.append(form)
        return form

    monkeypatch.setattr(Preparation, "_constraint", make)
    return made


class Asked:
    """An engine, and what it was asked."""

    def __init__(self, model: ScriptedModel, **options: Any) -> None:
        self.runner = model.runner
        self.engine = Engine(model, **options)
        self.events: list[list[Event]] = []

    def ask(self, prompt: Sequence[int] = (40,) * 10, **fields: Any) -> None:
        defaults: dict[str, Any] = {"raw_token_ids": list(prompt), "sampling": GREEDY, "grammar": FORM_GRAMMAR}
        self.events.append([])
        self.engine.submit(len(self.events), GenerateRequest(**(defaults | fields)), self.events[-1].append)

    def run(self) -> int:
        """Steps until all have ended."""
        steps = 0
        while self.engine.has_work:
            self.engine.step()
            steps += 1
        return steps

    def ids(self, number: int = 0) -> list[int]:
        return [token for event in self.events[number] if isinstance(event, TextDelta) for token in event.ids]

    def text(self, number: int = 0) -> str:
        return "".join(event.text for event in self.events[number] if isinstance(event, TextDelta))

    def end(self, number: int = 0) -> Event:
        return self.events[number][-1]


@pytest.fixture
def engine(tmp_path: Path) -> Callable[..., Asked]:
    return lambda script=None, **options: Asked(make_model(script or Script(), tmp_path), **options)


Make = Callable[..., Asked]


def is_a_form(text: str) -> bool:
    return len(text) == len(FORM) and all(
        said in string.ascii_lowercase if wanted == "?" else said == wanted
        for said, wanted in zip(text, FORM, strict=True)
    )


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_what_has_to_come_is_neither_drawn_nor_decoded_by_itself(
    engine: Make, forms: list[Form], sampling: SamplingOptions
) -> None:
    asked = engine()
    asked.ask(sampling=sampling)
    steps = asked.run()
    assert is_a_form(asked.text())
    assert len(forms[0].asked) == SLOTS + 1  # and the first character, which the prompt's logits give
    # The prompt; each place with a choice; the longest run has 18 tokens, which are more than a chunk.
    assert steps <= 1 + SLOTS + 4
    end = asked.end()
    assert isinstance(end, Finished)
    assert (end.reason, end.usage.completion_tokens) == ("stop", len(FORM))
    assert asked.engine.stats().completion_tokens_total == len(FORM)


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_the_answer_is_the_same_beside_others(engine: Make, sampling: SamplingOptions) -> None:
    alone = engine()
    alone.ask(sampling=sampling)
    alone.run()
    together = engine()
    together.ask(sampling=sampling)
    together.ask(prompt=[50] * 30, grammar=None, max_tokens=90)
    together.ask(prompt=[41] * 10, sampling=sampling)
    together.run()
    assert together.ids(0) == alone.ids()
    assert is_a_form(together.text(2))
    assert together.text(2) != together.text(0)


def test_an_answer_that_lost_its_pages_in_between_is_the_same(engine: Make) -> None:
    asked = engine(Script(total_pages=60, page_tokens=4))
    alone = engine()
    for prompt in ([40] * 10, [41] * 10, [42] * 10):
        asked.ask(prompt=prompt, max_tokens=None)
        alone.ask(prompt=prompt)
        alone.run()
    asked.run()
    for number in range(3):
        assert asked.ids(number) == alone.ids(number)


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_a_replay_from_any_place_goes_on_as_the_answer_did(engine: Make, sampling: SamplingOptions) -> None:
    whole = engine()
    whole.ask(sampling=sampling)
    whole.run()
    ids = whole.ids()
    for cut in range(1, len(ids)):
        again = engine()
        again.ask(sampling=sampling, answer_begun_ids=ids[:cut])
        again.run()
        assert again.ids() == ids[cut:], f"cut after {cut}"


@pytest.mark.parametrize("most", range(1, 40))
def test_an_answer_is_cut_where_it_has_its_most_tokens(engine: Make, most: int) -> None:
    asked = engine()
    asked.ask(max_tokens=most)
    asked.run()
    end = asked.end()
    assert isinstance(end, Finished)
    assert (end.reason, len(asked.ids()), end.usage.completion_tokens) == ("length", most, most)


def test_guesses_change_nothing(engine: Make) -> None:
    plain, guessing = engine(), engine(speculate=True)
    for asked in (plain, guessing):
        asked.ask(prompt=FORM.replace("?", "a").encode())
        asked.run()
    assert guessing.ids() == plain.ids()
    assert is_a_form(guessing.text())


@pytest.mark.parametrize(
    "fields", [{"logprobs": 2}, {"logit_bias": {"97": 1.0}}], ids=["whose logits are wanted", "with a bias"]
)
def test_each_token_is_drawn(engine: Make, forms: list[Form], fields: dict[str, Any]) -> None:
    asked = engine()
    asked.ask(**fields)
    asked.run()
    assert len(forms[0].asked) == len(FORM)
    assert is_a_form(asked.text())
    if "logprobs" in fields:
        told = [entry for event in asked.events[0] if isinstance(event, TextDelta) for entry in event.logprobs]
        assert len(told) == len(FORM)


def test_a_stop_token_is_no_part_of_what_is_forced(engine: Make) -> None:
    asked = engine()
    asked.ask(stop_token_ids=(ord(":"),))
    asked.run()
    end = asked.end()
    assert isinstance(end, Failed)  # it may not end there, and nothing else may come
    assert isinstance(end.error, LocalRuntimeError)
    assert asked.text() == '{"name"'


def test_a_stop_string_within_it_ends_the_answer(engine: Make) -> None:
    asked = engine()
    asked.ask(stop=("opening",))
    asked.run()
    end = asked.end()
    assert isinstance(end, Finished)
    assert end.reason == "stop"
    assert asked.text().endswith('", "')


def test_one_that_is_cancelled_in_between_leaves_nothing(engine: Make) -> None:
    asked = engine(prefix_cache=False)
    asked.ask()
    asked.ask(prompt=[50] * 20, grammar=None, max_tokens=30)
    for _ in range(12):
        asked.engine.step()
    asked.engine.cancel(1)
    asked.run()
    assert asked.runner.sequences == {}
    assert asked.engine.stats().pages_free == asked.runner.total_pages


@given(
    st.lists(st.tuples(st.integers(40, 60), st.integers(1, 40), st.booleans()), min_size=1, max_size=5),
    st.integers(34, 120),
    st.integers(1, 4),
    st.sampled_from([None, 24]),
)
@settings(max_examples=60, deadline=None)
def test_whoever_runs_beside_whom_all_answers_are_forms_and_nothing_is_left(
    tmp_path_factory: pytest.TempPathFactory,
    asked_for: list[tuple[int, int, bool]],
    pages: int,
    places: int,
    window: int | None,
) -> None:
    script = Script(total_pages=pages * 2, page_tokens=4, max_sequences=places, window_tokens=window)
    asked = Asked(make_model(script, tmp_path_factory.mktemp("model")), prefix_cache=False)
    for token, length, held in asked_for:
        asked.ask(prompt=[token] * length, grammar=FORM_GRAMMAR if held else None, max_tokens=160 if held else 30)
    asked.run()
    for number, (_, _, held) in enumerate(asked_for):
        end = asked.end(number)
        if isinstance(end, Failed):
            assert "pages" in end.error.message or "context" in end.error.message or "fit" in end.error.message
        elif held:
            assert is_a_form(asked.text(number))
        else:
            assert len(asked.ids(number)) == 30 or asked.ids(number)[-1] == END
    assert asked.runner.sequences == {}
    assert asked.engine.stats().pages_free == asked.runner.total_pages
