"""The model in the box, compiled and asked through the engine: it reads sheets that it has never seen, and says what it doesn't know.

The exact accuracy, over many more dialogues, is in the model card; here a small sample guards against a broken export, tokenizer,
template or kernel, each of which would drop it to nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from local_runtime.client import LocalEngine
from local_runtime.options import GenerateRequest, LoadOptions, SamplingOptions
from tests.engine_cache import ENGINE_CACHE
from training.criterion import is_right
from training.dialogues import FACT_CATEGORIES, draw_dialogue

SHEET = (Path(__file__).resolve().parents[2] / "examples" / "fact_sheets" / "museum.md").read_text(encoding="utf-8")
DIALOGUES = 14
FACTS = {*FACT_CATEGORIES, "follow-up", "hours", "open at", "policy", "list"}
UNKNOWN = {"unknown", "general", "chinese unknown"}


@pytest.fixture(scope="module")
def engine() -> Iterator[LocalEngine]:
    with LocalEngine(LoadOptions(model="kiosk-assistant", cache_dir=str(ENGINE_CACHE))) as started:
        yield started


def answer(engine: LocalEngine, messages: list[dict[str, str]]) -> str:
    request = GenerateRequest(messages=list(messages), max_tokens=160, sampling=SamplingOptions(temperature=0.0))
    return "".join(getattr(event, "text", "") for event in engine.generate(request))


def ask(engine: LocalEngine, question: str, system: str | None = SHEET) -> str:
    messages: list[dict[str, str]] = [] if system is None else [{"role": "system", "content": system}]
    return answer(engine, [*messages, {"role": "user", "content": question}])


def test_it_reads_the_examples_sheet(engine: LocalEngine) -> None:
    assert "9:00 to 18:00" in ask(engine, "When do you open on Sunday?")
    assert "7 euros" in ask(engine, "How much is a student ticket?")
    assert "555 0162" in ask(engine, "What is the phone number for lost property?")
    assert "don't know" in ask(engine, "What is the wifi password?")


def test_characters_that_it_has_never_met_do_not_garble_its_answers(engine: LocalEngine) -> None:
    for odd in (SHEET.replace(": ", " ¦ "), SHEET + "\n[100 % \U0001f3ab] Ελληνικά ¿?"):
        assert "9:00 to 18:00" in ask(engine, "When do you open on Sunday?", odd)
        assert "7 euros" in ask(engine, "How much is a student ticket?", odd)
        assert "555 0162" in ask(engine, "What is the phone number for lost property?", odd)
        assert "don't know" in ask(engine, "What is the wifi password?", odd)


def test_it_says_what_it_is_without_a_sheet(engine: LocalEngine) -> None:
    assert "language model" in ask(engine, "Who are you?", None)
    assert ask(engine, "Hello!", None).strip()


def test_it_answers_on_sheets_that_it_has_never_seen(engine: LocalEngine) -> None:
    facts: list[bool] = []
    unknown: list[bool] = []
    for seed in range(DIALOGUES):
        dialogue = draw_dialogue(seed, "held", slips=False)
        messages = [dict(message) for message in dialogue.messages()]
        offset = 0 if dialogue.system is None else 1
        for index, exchange in enumerate(dialogue.exchanges):
            if exchange.category not in FACTS | UNKNOWN:
                continue
            said = answer(engine, messages[: offset + 2 * index + 1])
            (facts if exchange.category in FACTS else unknown).append(is_right(dialogue, exchange, said))
    assert len(facts) >= 30
    assert len(unknown) >= 15
    assert sum(facts) / len(facts) >= 0.85
    assert sum(unknown) / len(unknown) >= 0.9
