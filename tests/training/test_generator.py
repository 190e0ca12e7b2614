"""The generated dialogues: reproducible, consistent with their own criterion, and disjoint between the splits."""

from __future__ import annotations

import gc
import random
from collections import Counter

import pytest

from training import attributes as about
from training.attribute import Attribute
from training.dialogues import FACT_CATEGORIES, Dialogue, draw_dialogue
from training.lexicon import Draw, is_held_out
from training.phrasings import Phrasings, is_held_out_wording, phrasings
from training.schedules import draw_schedule
from training.sheets import HELD_BULLETS, HELD_COLONS, draw_sheet, made_up_mark

SEEDS = range(250)


@pytest.fixture(scope="module")
def dialogues() -> dict[str, list[Dialogue]]:
    return {
        "train": [draw_dialogue(seed, "train") for seed in SEEDS],
        "held": [draw_dialogue(seed, "held") for seed in SEEDS],
    }


def test_a_seed_gives_the_same_dialogue_again(dialogues: dict[str, list[Dialogue]]) -> None:
    for seed in range(0, 250, 25):
        assert draw_dialogue(seed, "train").messages() == dialogues["train"][seed].messages()
    assert draw_dialogue(1, "train").messages() != draw_dialogue(1, "held").messages()


def test_messages_alternate_and_hold_text(dialogues: dict[str, list[Dialogue]]) -> None:
    for dialogue in dialogues["train"] + dialogues["held"]:
        roles = [message["role"] for message in dialogue.messages()]
        if dialogue.system is not None:
            assert roles.pop(0) == "system"
        assert roles == ["user", "assistant"] * len(dialogue.exchanges)
        for exchange in dialogue.exchanges:
            assert exchange.question.strip()
            assert exchange.answer.strip()
            assert "{" not in exchange.answer
            assert "None" not in exchange.answer


def test_every_value_of_an_answer_stands_in_the_sheet(dialogues: dict[str, list[Dialogue]]) -> None:
    checked = 0
    for dialogue in dialogues["train"] + dialogues["held"]:
        if dialogue.sheet is None:
            continue
        for fact in dialogue.sheet.facts:
            for text in fact.must:
                assert text.lower() in dialogue.sheet.text.lower(), (fact, dialogue.sheet.text)
                checked += 1
    assert checked > 2000


def test_what_is_unknown_is_not_in_the_sheet_by_its_value(dialogues: dict[str, list[Dialogue]]) -> None:
    for dialogue in dialogues["train"]:
        for exchange in dialogue.exchanges:
            if exchange.category == "unknown":
                assert exchange.answer.startswith("I don't know")
                assert exchange.must == ()


def test_the_mix_of_questions(dialogues: dict[str, list[Dialogue]]) -> None:
    count = Counter(exchange.category for dialogue in dialogues["train"] for exchange in dialogue.exchanges)
    total = count.total()
    assert sum(count[category] for category in FACT_CATEGORIES) > 0.25 * total
    assert 0.2 * total < count["unknown"] < 0.4 * total
    expected = {
        *FACT_CATEGORIES,
        "unknown",
        "follow-up",
        "hours",
        "list",
        "policy",
        "greeting",
        "identity",
        "general",
        "chinese",
    }
    assert expected <= set(count)


# --- the splits ------------------------------------------------------------------------------------------------


def _values(dialogues: list[Dialogue]) -> set[str]:
    kinds = {"phone", "email", "code", "person", "address", "website"}
    return {
        text
        for dialogue in dialogues
        if dialogue.sheet
        for fact in dialogue.sheet.facts
        if fact.attribute.kind in kinds
        for text in fact.must
    }


def test_names_and_values_of_the_splits_are_disjoint(dialogues: dict[str, list[Dialogue]]) -> None:
    train, held = _values(dialogues["train"]), _values(dialogues["held"])
    assert len(train) > 300
    assert len(held) > 300
    assert not train & held


@pytest.mark.parametrize("split", ["train", "held"])
def test_drawn_values_belong_to_their_split(split: str) -> None:
    for seed in range(200):
        draw = Draw(random.Random(seed), "train" if split == "train" else "held")
        held = split == "held"
        assert is_held_out(draw.proper()) == held
        assert is_held_out(draw.phone()) == held
        assert is_held_out(draw.code()) == held
        assert is_held_out(draw.place().text) == held
        minutes = draw.clock()
        clock = f"{minutes // 60}:{minutes % 60:02d}"
        assert (is_held_out(clock) and minutes % 30 != 0) == held


def test_clock_times_of_the_evaluation_never_occur_in_training() -> None:
    train = {Draw(random.Random(seed), "train").clock() for seed in range(3000)}
    held = {Draw(random.Random(seed), "held").clock() for seed in range(3000)}
    assert not train & held


def test_wordings_of_the_splits_are_disjoint() -> None:
    wordings = phrasings("(a|b|c) (d|e|f) (g|h)\nplain\n* kept\n")
    rng = random.Random(0)
    train = {wordings.pick(rng, "train") for _ in range(2000)}
    held = {wordings.pick(rng, "held") for _ in range(2000)}
    assert not train & held
    assert "plain" in train
    assert "kept" in held
    assert {text for text in held if text != "kept"} == {text for text in held if is_held_out_wording(text)} - {"kept"}
    assert len(train | held) == 20


def test_no_list_brings_what_another_holds_out_into_training() -> None:
    lists = [
        value for value in gc.get_objects() if type(value) is Phrasings
    ]  # isinstance would wake lazy proxies of others
    assert len(lists) > 200
    trainable = frozenset().union(*(wordings.trainable() for wordings in lists))
    assert len(trainable) > 10_000
    held = 0
    for wordings in lists:
        whole, combined = wordings.held_out()
        held += len(whole) + len(combined)
        assert trainable.isdisjoint(whole)
        assert trainable.isdisjoint(combined)
    assert held > 5_000
    rng = random.Random(0)
    for wordings in (each for each in lists if each.train):  # what is drawn is what was enumerated
        assert {wordings.pick(rng, "train") for _ in range(20)} <= trainable


def test_every_attribute_keeps_questions_for_the_evaluation() -> None:
    attributes = [value for value in vars(about).values() if isinstance(value, Attribute)]
    assert len(attributes) > 20
    rng = random.Random(0)
    for attribute in attributes:
        train = {attribute.asks.pick(rng, "train") for _ in range(800)}
        held = {attribute.asks.pick(rng, "held") for _ in range(800)}
        assert len(held) > 5
        assert not train & held, attribute.name
        prose_train = {attribute.prose.pick(rng, "train") for _ in range(300)}
        assert not prose_train & {attribute.prose.pick(rng, "held") for _ in range(300)}, attribute.name


def test_made_up_separators_are_none_of_those_kept_for_the_evaluation() -> None:
    rng = random.Random(0)
    marks = {made_up_mark(rng, lead) for lead in ("", " ") for _ in range(5000)}
    assert len(marks) > 1000
    assert marks.isdisjoint(HELD_COLONS)
    assert marks.isdisjoint(HELD_BULLETS)


# --- parts -----------------------------------------------------------------------------------------------------


def test_a_schedule_answers_by_weekday() -> None:
    seen_closed = False
    for seed in range(100):
        schedule = draw_schedule(Draw(random.Random(seed), "train"), None)
        for day in range(7):
            entry = schedule.on(day)
            if entry is None:
                with pytest.raises(ValueError, match="says nothing"):
                    schedule.answer_day(day)
                continue
            answer = schedule.answer_day(day)
            if entry.opens is None:
                seen_closed = True
                assert "closed" in answer
            else:
                assert entry.opens in answer
                assert entry.opens in schedule.text
    assert seen_closed


def test_the_size_of_a_sheet_follows_the_wish() -> None:
    small = [len(draw_sheet(Draw(random.Random(seed), "train"), size=3).facts) for seed in range(50)]
    large = [len(draw_sheet(Draw(random.Random(seed), "train"), size=36).facts) for seed in range(50)]
    assert sum(large) > 5 * sum(small)
