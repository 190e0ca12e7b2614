"""Answers that were begun elsewhere, on compiled models: the one in the box, and one with a SentencePiece tokenizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import local_runtime.preparation
from local_runtime.detokenizer import IncrementalDetokenizer, StopStrings
from local_runtime.engine import Engine
from local_runtime.events import Event, Finished, TextDelta
from local_runtime.healing import BegunAnswer, take_back
from local_runtime.loader import LoadedModel, load
from local_runtime.options import GenerateRequest, LoadOptions, SamplingOptions
from tests.engine_cache import ENGINE_CACHE, ROOT
from tests.lanes import some_every_day
from tests.local_runtime.checkpoints import metaspace_tokenizer, mistral_config, write_checkpoint

GREEDY = SamplingOptions(temperature=0)
SAMPLINGS = {
    "greedy": GREEDY,
    "penalised": SamplingOptions(temperature=0, repetition_penalty=1.2, frequency_penalty=0.4, presence_penalty=0.2),
    "seeded": SamplingOptions(temperature=1.1, top_p=0.95, seed=11),
    "all of it": SamplingOptions(temperature=1.4, top_k=50, min_p=0.02, frequency_penalty=0.7, seed=2024),
}
SHEET = "\n".join(
    line
    for line in (ROOT / "examples" / "fact_sheets" / "museum.md").read_text(encoding="utf-8").splitlines()
    if any(word in line for word in ("café", "Café", "Sunday", "ost property"))
)
QUESTIONS = (
    (SHEET, "Where is the café?"),
    (SHEET, "What is the phone number for lost property?"),
    (None, "你好！你是谁？"),
)


class Asked:
    """An engine in this process, and what it said."""

    def __init__(self, model: LoadedModel) -> None:
        self.model = model
        self.engine = Engine(model)
        self._ids = 0

    def all(self, requests: list[GenerateRequest]) -> list[tuple[list[int], str, Finished]]:
        """The tokens, the text and the end of each answer, some made at the same time."""
        events: list[list[Event]] = [[] for _ in requests]
        for request, heard in zip(requests, events, strict=True):
            self._ids += 1
            self.engine.submit(self._ids, request, heard.append)
        while self.engine.has_work:
            self.engine.step()
        return [self._said(heard) for heard in events]

    def one(self, request: GenerateRequest) -> tuple[list[int], str, Finished]:
        (said,) = self.all([request])
        return said

    @staticmethod
    def _said(events: list[Event]) -> tuple[list[int], str, Finished]:
        pieces = [event for event in events if isinstance(event, TextDelta)]
        end = events[-1]
        assert isinstance(end, Finished), end
        return [token for piece in pieces for token in piece.ids], "".join(piece.text for piece in pieces), end


@pytest.fixture(scope="module")
def bundled() -> Iterator[Asked]:
    asked = Asked(load(LoadOptions("kiosk-assistant", cache_dir=str(ENGINE_CACHE), max_sequences=4), lambda _: None))
    yield asked
    assert asked.engine.stats().pages_free == asked.engine.stats().pages_total
    asked.engine.close()


@pytest.fixture(scope="module")
def sentencepiece(engine_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    folder = write_checkpoint(
        tmp_path_factory.mktemp("checkpoint"), mistral_config(vocab_size=420), seed=5, tokenizer=metaspace_tokenizer()
    )
    asked = Asked(load(LoadOptions(str(folder), "f32", "cpu", cache_dir=str(engine_cache)), lambda _: None))
    yield asked
    assert asked.engine.stats().pages_free == asked.engine.stats().pages_total
    asked.engine.close()


def question(sheet: str | None, text: str, **fields: Any) -> GenerateRequest:
    messages = [] if sheet is None else [{"role": "system", "content": sheet}]
    return GenerateRequest(messages=[*messages, {"role": "user", "content": text}], **fields)


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
@pytest.mark.parametrize("name", some_every_day(["bundled", "sentencepiece"], lambda name: name == "bundled"))
def test_after_any_of_its_tokens_an_answer_goes_on_as_it_would_have(
    request: pytest.FixtureRequest, name: str, sampling: SamplingOptions
) -> None:
    asked: Asked = request.getfixturevalue(name)
    asks = QUESTIONS if name == "bundled" else ((None, "When do you open?"),)
    for sheet, text in asks:
        fields: dict[str, Any] = {"sampling": sampling, "max_tokens": 40, "stop": ("555 ", "never said")}
        ids, said, end = asked.one(question(sheet, text, **fields))
        cuts = range(1, len(ids) + 1)
        resumed = asked.all([question(sheet, text, answer_begun_ids=ids[:cut], **fields) for cut in cuts])
        for cut, (rest_ids, rest, rest_end) in zip(cuts, resumed, strict=True):
            assert ids[:cut] + rest_ids == ids, cut
            assert said.endswith(rest)
            # How much of the prompt was there already depends on what was asked before.
            usage, rest_usage = (dataclasses.replace(one.usage, cached_tokens=0) for one in (end, rest_end))
            assert (rest_end.reason, rest_usage) == (end.reason, usage)
            # What the consumer had is what these tokens had come to, held back text not included.
            assert len(rest) == len(said) - len(
                as_given_out(asked.model, ids[:cut], fields["stop"], end, cut == len(ids))
            )


def as_given_out(model: LoadedModel, ids: list[int], stop: tuple[str, ...], end: Finished, is_all: bool) -> str:
    detokenizer, stops = IncrementalDetokenizer(model.tokenizer), StopStrings(stop)
    text, stopped = "", False
    for token in ids:
        if token in model.tokenizer.eos_ids:
            break
        piece, stopped = stops.push(detokenizer.push(token))
        text += piece
    if is_all and not stopped:
        text += stops.push(detokenizer.flush() if end.reason == "stop" else "")[0] + stops.flush()
    return text


@pytest.mark.parametrize("every", some_every_day([7, 1], lambda every: every == 7))
def test_a_greedy_answer_that_is_cut_at_any_character_is_finished_as_it_would_have_been(
    bundled: Asked, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asks = [
        (sheet, text, said)
        for sheet, text in QUESTIONS
        for _, said, _ in [bundled.one(question(sheet, text, sampling=GREEDY, max_tokens=120))]
    ]

    def share_without_a_seam(of: list[tuple[str | None, str, str]]) -> float:
        same = []
        for sheet, text, said in of:
            cuts = range(1, len(said) + 1, every)
            requests = [question(sheet, text, sampling=GREEDY, max_tokens=120, answer_begun=said[:cut]) for cut in cuts]
            same += [
                said[:cut] + rest == said and end.reason == "stop"
                for cut, (_, rest, end) in zip(cuts, bundled.all(requests), strict=True)
            ]
        return sum(same) / len(same)

    assert sum(len(said) for _, _, said in asks) > 100
    healed = share_without_a_seam(asks)
    monkeypatch.setattr(local_runtime.preparation, "take_back", lambda ids, *_: BegunAnswer(list(ids)))
    unhealed = share_without_a_seam(asks[:1])
    # Seen: 1.0 and 0.42.
    assert healed >= 0.97
    assert unhealed <= 0.75


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
def test_whatever_a_sentencepiece_model_draws_fits_the_begun_text(
    sentencepiece: Asked, sampling: SamplingOptions
) -> None:
    tokenizer = sentencepiece.model.tokenizer
    texts = ("The museum opens at ni", " Wait… 12.50 € ", "博物馆早上九点", "Größe \U0001f468‍\U0001f469", "\n\n")
    begun = [text[:cut] for text in texts for cut in range(1, len(text) + 1)]
    requests = [question(None, "?", sampling=sampling, max_tokens=6, answer_begun=text) for text in begun]
    for text, (ids, rest, end) in zip(begun, sentencepiece.all(requests), strict=True):
        prompt, said = tokenizer.encode_begun([{"role": "user", "content": "?"}], text)
        token_bytes = tokenizer.token_bytes
        kept = take_back(said, token_bytes.left_out_first + text.encode(), token_bytes.of, tokenizer.prefixes()).kept
        reader = IncrementalDetokenizer(tokenizer)
        read = "".join(map(reader.push, [*kept, *ids])) + (reader.flush() if end.reason == "stop" else "")
        assert read == tokenizer.decode(said) + rest  # a first space is not read, and not said twice
        usage = end.usage
        assert (usage.prompt_tokens, usage.begun_tokens + usage.completion_tokens) == (
            len(prompt), len(kept) + len(ids),
        )  # fmt: skip
        assert usage.completion_tokens == 6 or end.reason == "stop"
