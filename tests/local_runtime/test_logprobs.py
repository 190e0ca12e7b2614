"""Log probabilities: the figures against a reference in double precision, and what an engine tells of answers and prompts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_runtime.engine import Engine
from local_runtime.errors import InvalidRequestError
from local_runtime.events import Event, Finished, TextDelta, TokenLogprob
from local_runtime.logprobs import LEAST_LOGPROB, Logprobs, PromptLogprobs
from local_runtime.options import GenerateRequest, SamplingOptions
from local_runtime.tokenizer import ChatTokenizer
from tests.local_runtime.scripted_runner import ASSISTANT, Script, ScriptedModel, make_model, make_tokenizer

GREEDY = SamplingOptions(temperature=0)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64)
    shifted = wide - wide.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))


def check(entry: TokenLogprob, logits: np.ndarray, token: int, top: int) -> None:
    expected = log_softmax(logits)
    order = np.argsort(-logits, kind="stable")[:top].tolist()
    assert (entry.id, [likely.id for likely in entry.top]) == (token, order)
    for likely in (entry, *entry.top):
        assert likely.logprob == pytest.approx(max(expected[likely.id], LEAST_LOGPROB), abs=2e-5)


@given(
    st.lists(st.floats(-80, 80, width=32), min_size=1, max_size=200),
    st.integers(0, 20),
    st.floats(-1e4, 1e4, width=32),
    st.data(),
)
def test_they_are_the_log_softmax_of_the_logits_the_likeliest_first(
    tokenizer: ChatTokenizer, values: list[float], top: int, offset: float, data: st.DataObject
) -> None:
    logits = np.array(values, dtype=np.float32) + np.float32(offset)
    token = data.draw(st.integers(0, logits.size - 1))
    before = logits.copy()
    check(Logprobs(tokenizer.token_bytes, top).of(logits, token), logits, token, top)
    np.testing.assert_array_equal(logits, before)


def test_of_a_large_vocabulary_the_sum_loses_nothing(tokenizer: ChatTokenizer) -> None:
    logits = np.random.RandomState(3).normal(0, 0.01, 152_064).astype(np.float32)
    check(Logprobs(tokenizer.token_bytes, 5).of(logits, 77), logits, 77, 5)


def test_what_the_model_excludes_is_told_as_a_number(tokenizer: ChatTokenizer) -> None:
    logits = np.array([0.0, -np.inf, -3e38], dtype=np.float32)
    entry = Logprobs(tokenizer.token_bytes, 3).of(logits, 1)
    assert [likely.logprob for likely in (entry, *entry.top)] == [LEAST_LOGPROB, 0.0, LEAST_LOGPROB, LEAST_LOGPROB]
    json.dumps(entry.logprob, allow_nan=False)


def test_a_token_is_told_as_its_bytes_and_as_text(tokenizer: ChatTokenizer) -> None:
    entry = Logprobs(tokenizer.token_bytes, 1).of(np.arange(262, dtype=np.float32), 0xE4)
    assert (entry.token, entry.bytes) == ("\ufffd", [0xE4])
    assert entry.top[0].token.encode() == bytes(entry.top[0].bytes)
    assert Logprobs(tokenizer.token_bytes, 0).of(np.zeros(300, np.float32), ASSISTANT).token == "<|assistant|>"
    assert (
        Logprobs(tokenizer.token_bytes, 0).of(np.zeros(300, np.float32), 290).bytes == []
    )  # padding of the vocabulary


@given(st.integers(1, 40), st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(0, 39))
def test_a_prompt_is_told_once_in_whatever_chunks_it_is_read(
    tokenizer: ChatTokenizer, tokens: int, chunks: list[int], again_at: int
) -> None:
    ids = [(7 * place) % 250 for place in range(tokens)]
    logits = np.random.RandomState(1).normal(0, 3, (tokens + 5, 262)).astype(np.float32)
    collected = PromptLogprobs(Logprobs(tokenizer.token_bytes, 2), ids)
    sizes, start, restarted = cycle(chunks), 0, False
    while start < tokens + 5:  # tokens of the answer follow when a sequence reads itself again
        end = min(start + next(sizes), tokens + 5)
        if collected.wants(start, end):
            collected.take(start, logits[start:end])
        start = end
        if not restarted and start > again_at:
            restarted, start, sizes = True, 0, cycle(reversed(chunks))
    assert len(collected.entries) == tokens - 1
    assert not collected.wants(0, tokens)
    for place, entry in enumerate(collected.entries):
        check(entry, logits[place], ids[place + 1], 2)


# ---- an engine with a scripted model ----


def says(tokens: Sequence[int]) -> int:
    return ord("a") + len(tokens) % 26


def asked(engine: Engine, request: GenerateRequest) -> tuple[list[TextDelta], Finished]:
    events: list[Event] = []
    engine.submit(1, request, events.append)
    while engine.has_work:
        engine.step()
    *deltas, end = events
    assert isinstance(end, Finished), end
    return [delta for delta in deltas if isinstance(delta, TextDelta)], end


@pytest.fixture
def model(tmp_path: Path) -> ScriptedModel:
    return make_model(Script(score_tokens=4), tmp_path, says)


def test_without_being_asked_an_engine_tells_none(model: ScriptedModel) -> None:
    deltas, end = asked(Engine(model), GenerateRequest(raw_token_ids=[1] * 9, max_tokens=5, sampling=GREEDY))
    assert all(delta.logprobs == [] for delta in deltas)
    assert end.prompt_logprobs == []
    assert not any(kind == "score" for kind, _ in model.runner.calls)


def test_they_are_the_models_own_whatever_is_done_to_the_draw(model: ScriptedModel) -> None:
    expected = log_softmax(np.array([50.0] + [0.0] * (model.runner.vocab_size - 1)))
    request = GenerateRequest(
        raw_token_ids=[1] * 9,
        max_tokens=3,
        sampling=SamplingOptions(temperature=0, presence_penalty=2.0),
        logit_bias={"65": 100.0},
        logprobs=1,
    )
    deltas, _ = asked(Engine(model), request)
    assert [delta.ids for delta in deltas] == [[65]] * 3
    for place, delta in enumerate(deltas):
        (entry,) = delta.logprobs
        assert (entry.id, entry.token) == (65, "A")
        assert entry.logprob == pytest.approx(expected[1])
        (likeliest,) = entry.top
        assert likeliest.id == ord("a") + (9 + place) % 26
        assert likeliest.logprob == pytest.approx(expected[0])


def test_a_prompts_are_read_in_chunks_of_what_logits_there_is_memory_for(model: ScriptedModel) -> None:
    engine = Engine(model)
    prompt = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]
    for _ in range(2):  # the second finds all of it in the prefix cache, and wants it read all the same
        _, end = asked(engine, GenerateRequest(raw_token_ids=prompt, max_tokens=2, sampling=GREEDY, prompt_logprobs=1))
        assert [entry.id for entry in end.prompt_logprobs] == prompt[1:]
        assert [entry.top[0].id for entry in end.prompt_logprobs] == [says(prompt[:n]) for n in range(1, len(prompt))]
        assert end.usage.cached_tokens == 0
    scored = [call[1] for kind, call in model.runner.calls if kind == "score"]
    assert max(scored) == 4
    assert sum(scored) == 2 * len(prompt)


def test_a_prompt_of_one_token_has_none(model: ScriptedModel) -> None:
    _, end = asked(Engine(model), GenerateRequest(raw_token_ids=[3], max_tokens=2, sampling=GREEDY, prompt_logprobs=5))
    assert end.prompt_logprobs == []


def test_they_go_on_after_an_answer_was_begun_elsewhere(model: ScriptedModel) -> None:
    fields: dict[str, Any] = {"raw_token_ids": [1] * 9, "max_tokens": 8, "sampling": GREEDY, "logprobs": 1}
    engine = Engine(model)
    whole = [entry for delta in asked(engine, GenerateRequest(**fields))[0] for entry in delta.logprobs]
    begun = [entry.id for entry in whole[:3]]
    deltas, end = asked(engine, GenerateRequest(**fields, answer_begun_ids=begun, prompt_logprobs=0))
    assert [entry for delta in deltas for entry in delta.logprobs] == whole[3:]
    assert len(end.prompt_logprobs) == 8


@pytest.mark.parametrize("field", ["stop_token_ids", "logit_bias"])
def test_an_id_beyond_the_vocabulary_is_named(model: ScriptedModel, field: str) -> None:
    events: list[Event] = []
    beyond: dict[str, Any] = (
        {"stop_token_ids": (3, 5000)} if field == "stop_token_ids" else {"logit_bias": {"5000": 1.0}}
    )
    Engine(model).submit(1, GenerateRequest(raw_token_ids=[1], **beyond), events.append)
    error = getattr(events[0], "error", None)
    assert isinstance(error, InvalidRequestError)
    assert field in error.message
    assert "5000" in error.message
