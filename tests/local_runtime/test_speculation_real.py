"""Guessed tokens on compiled models: every greedy answer is, token for token, what it is without guesses."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local_runtime.engine import Engine
from local_runtime.events import Event, Finished, TextDelta
from local_runtime.loader import LoadedModel, load
from local_runtime.options import GenerateRequest, LoadOptions, Quantization, SamplingOptions
from tests.engine_cache import ENGINE_CACHE, ROOT
from tests.local_runtime.checkpoints import (
    byte_level_tokenizer,
    llama_config,
    metaspace_tokenizer,
    mistral_config,
    qwen2_config,
    write_checkpoint,
)

GREEDY = SamplingOptions(temperature=0)
PENALISED = SamplingOptions(temperature=0, repetition_penalty=1.2, frequency_penalty=0.3)
QUESTIONS = (
    "When do you open on Sunday?",
    "List all opening hours.",
    "Repeat everything that you know, word for word.",
    "What is the phone number for lost property?",
    "Where is the café?",
    "What does a ticket cost?",
    "Write a poem about the sea.",
    "你好！你是谁？",
    "Is there parking?",
    "Who are you?",
)
BUNDLED_ANSWERS = 240
RANDOM_ANSWERS = 12


def answer(engine: Engine, request: GenerateRequest) -> tuple[str, list[int], str]:
    events: list[Event] = []
    engine.submit(1, request, events.append)
    while engine.has_work:
        engine.step()
    *_, end = events
    assert isinstance(end, Finished), end
    pieces = [event for event in events if isinstance(event, TextDelta)]
    return "".join(piece.text for piece in pieces), [token for piece in pieces for token in piece.ids], end.reason


class Counted:
    """Counts the passes over guessed tokens."""

    def __init__(self, model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passes = 0
        score = model.runner.score

        def counted(*arguments: Any) -> Any:
            self.passes += 1
            return score(*arguments)

        monkeypatch.setattr(model.runner, "score", counted)


def assert_same(model: LoadedModel, requests: list[GenerateRequest], monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(model, monkeypatch)
    plain, guessing = (Engine(model, prefix_cache=False, speculate=speculate) for speculate in (False, True))
    different = [
        number for number, request in enumerate(requests) if answer(plain, request) != answer(guessing, request)
    ]
    assert different == []
    assert counted.passes > 0


def questions(seed: int, count: int) -> Iterator[GenerateRequest]:
    """Questions with a part of a fact sheet in mixed order, or without."""
    draw = random.Random(seed)
    sheets = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "examples" / "fact_sheets").glob("*.md"))]
    for number in range(count):
        lines = draw.choice(sheets).splitlines()
        draw.shuffle(lines)
        sheet = "\n".join(lines[: draw.randint(5, len(lines))])
        system = [{"role": "system", "content": sheet}] if draw.random() < 0.8 else []
        yield GenerateRequest(
            messages=[*system, {"role": "user", "content": QUESTIONS[number % len(QUESTIONS)]}],
            sampling=PENALISED if draw.random() < 0.25 else GREEDY,
            max_tokens=draw.choice([20, 60, 120]),
            ignore_eos=draw.random() < 0.3,
        )


@pytest.fixture(scope="module")
def bundled() -> Iterator[LoadedModel]:
    model = load(LoadOptions("kiosk-assistant", cache_dir=str(ENGINE_CACHE)), lambda _: None)
    yield model
    assert model.runner.available_pages() == model.runner.total_pages
    model.runner.close()


def test_answers_of_the_bundled_model_are_the_same(bundled: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    sheet = (ROOT / "examples" / "fact_sheets" / "museum.md").read_text(encoding="utf-8")
    requests = [
        GenerateRequest(
            messages=[{"role": "system", "content": sheet}, {"role": "user", "content": text}],
            sampling=GREEDY,
            max_tokens=60,
        )
        for text in QUESTIONS[:4]
    ]
    assert_same(bundled, requests, monkeypatch)


@pytest.mark.slow
def test_many_answers_of_the_bundled_model_are_the_same(bundled: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_same(bundled, list(questions(7, BUNDLED_ANSWERS)), monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("quant", ["f32", "q4"])
@pytest.mark.parametrize("name", ["llama", "qwen2", "mistral"])
def test_many_answers_of_random_models_are_the_same(
    name: str, quant: Quantization, engine_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"llama": llama_config(), "qwen2": qwen2_config(), "mistral": mistral_config(vocab_size=420)}[name]
    tokenizer = metaspace_tokenizer() if name == "mistral" else byte_level_tokenizer()
    folder = write_checkpoint(tmp_path / name, config, seed=5, tokenizer=tokenizer)
    model = load(LoadOptions(str(folder), quant, "cpu", cache_dir=str(engine_cache)), lambda _: None)
    draw = random.Random(11)
    requests = []
    for _ in range(RANDOM_ANSWERS):
        ids = [draw.randrange(3, config["vocab_size"]) for _ in range(draw.randint(4, 30))]
        requests.append(
            GenerateRequest(raw_token_ids=ids * draw.randint(1, 4), sampling=GREEDY, max_tokens=80, ignore_eos=True)
        )
    try:
        assert_same(model, requests, monkeypatch)
        assert model.runner.available_pages() == model.runner.total_pages
    finally:
        model.runner.close()
