"""The criterion by which answers are judged."""

from __future__ import annotations

import random

import pytest

from training.criterion import contains, is_right, says_unknown
from training.dialogues import Dialogue, draw_dialogue
from training.exchange import Exchange, unknown
from training.lexicon import Draw
from training.things import tickets


@pytest.mark.parametrize("split", ["train", "held"])
def test_the_references_are_right(split: str) -> None:
    for seed in range(400):
        dialogue = draw_dialogue(seed, "train" if split == "train" else "held")
        for exchange in dialogue.exchanges:
            assert is_right(dialogue, exchange, exchange.answer), (seed, exchange)


def test_a_refusal_is_wrong_where_the_sheet_says_and_right_where_it_does_not() -> None:
    refused = {"fact": 0, "unknown": 0}
    for seed in range(100):
        dialogue = draw_dialogue(seed, "held")
        for exchange in dialogue.exchanges:
            if exchange.category in refused:
                refused[exchange.category] += 1
                assert is_right(dialogue, exchange, "I don't know that.") == (exchange.category == "unknown")
    assert min(refused.values()) > 20


@pytest.mark.parametrize(
    ("answer", "value", "found"),
    [
        ("It costs 12 EUR.", "12 EUR", True),
        ("It costs 112 EUR.", "12 EUR", False),
        ("It costs 12.50 EUR.", "12", False),
        ("from 9:00 to 17:30.", "9:00", True),
        ("from 19:00 to 17:30.", "9:00", False),
        ("Room 204.", "room 204", True),
        ("Room 2041.", "room 204", False),
        ("Call 555-0142.", "555-0142", True),
        ("Call 555-0142-7.", "555-0142", False),
        ("at 2 p.m.", "2 p.m.", True),
        ("电话是5741475。", "5741475", True),
        ("在一楼大厅左侧。", "一楼", True),
    ],
)
def test_values_are_found_as_a_whole(answer: str, value: str, found: bool) -> None:
    assert contains(answer, value) is found


def test_another_value_of_the_same_kind_makes_an_answer_wrong() -> None:
    section = tickets(Draw(random.Random(3), "train"), 4)
    facts = [record[0] for record in section.records]
    first, second = facts[0], next(fact for fact in facts[1:] if fact.printed != facts[0].printed)
    dialogue = Dialogue(None, [], None, {"money": {fact.printed for fact in facts}})
    exchange = Exchange("How much?", "", "fact", first.must, "money", first)
    assert is_right(dialogue, exchange, f"It is {first.printed}.")
    assert not is_right(dialogue, exchange, f"It is {second.printed}.")
    assert not is_right(dialogue, exchange, f"It is {first.printed} or {second.printed}.")


def test_yes_and_no_come_first() -> None:
    dialogue = Dialogue(None, [])
    exchange = Exchange("Is it so?", "", "policy", ("No", "on a leash"))
    assert is_right(dialogue, exchange, "No, only on a leash.")
    assert not is_right(dialogue, exchange, "Yes, on a leash.")
    assert not is_right(dialogue, exchange, "Nobody comes on a leash.")


def test_saying_unknown() -> None:
    assert says_unknown(unknown("where the café is", Draw(random.Random(0), "train")))
    assert says_unknown("I don’t know.")
    assert says_unknown("我不知道。")
    assert not says_unknown("The café is upstairs.")
