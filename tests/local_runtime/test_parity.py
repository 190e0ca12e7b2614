"""The compiled models' numbers against those that ``transformers`` computed for the same random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, cast

import numpy as np
import pytest

from tests.lanes import some_every_day
from tests.local_runtime.parity_cases import (
    DECODE_COLUMN_STRIDE,
    GREEDY_TOKENS,
    PARITY_CASES,
    ParityCase,
    load_references,
)

LOGITS_TOLERANCE = 1e-4
REFERENCES = load_references()
_sequence_numbers = count()


@contextmanager
def sequence(runner: Any) -> Iterator[int]:
    """A fresh sequence that gives its pages back."""
    number = next(_sequence_numbers)
    runner.add_sequence(number)
    try:
        yield number
    finally:
        runner.remove_sequence(number)


def prefill_in_chunks(runner: Any, number: int, ids: Sequence[int], chunk: int) -> np.ndarray:
    logits = np.empty(0)
    for start in range(0, len(ids), chunk):
        logits = runner.prefill(number, ids[start : start + chunk])
    return logits


EVERYDAY = ("llama-gqa", "llama-llama3-rope-bias", "qwen2-gqa-tied", "mistral-window")


@pytest.fixture(params=some_every_day(PARITY_CASES, lambda case: case.name in EVERYDAY), ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> ParityCase:
    return cast("ParityCase", request.param)


@pytest.fixture
def runner(case: ParityCase, open_runner: Callable[..., Any]) -> Any:
    return open_runner(case.config, case.seed)


def test_the_stored_reference_is_of_these_weights(case: ParityCase) -> None:
    assert REFERENCES[case.name].weights_sha256 == case.weights_sha256()


def test_prefill_and_64_decode_steps_match_the_reference(case: ParityCase, runner: Any) -> None:
    reference = REFERENCES[case.name]
    with sequence(runner) as number:
        prefill = runner.prefill(number, case.prompt_ids())
        steps = [runner.decode([number], [token])[0] for token in case.forced_ids()]
    assert np.abs(prefill - reference.prefill_logits).max() <= LOGITS_TOLERANCE
    sampled = np.stack(steps)[:, ::DECODE_COLUMN_STRIDE]
    assert sampled.shape == reference.decode_logits.shape
    assert np.abs(sampled - reference.decode_logits).max() <= LOGITS_TOLERANCE


def test_128_greedy_tokens_are_the_references(case: ParityCase, runner: Any) -> None:
    with sequence(runner) as number:
        token = int(np.argmax(runner.prefill(number, case.prompt_ids())))
        greedy = [token]
        while len(greedy) < GREEDY_TOKENS:
            token = int(np.argmax(runner.decode([number], [token])[0]))
            greedy.append(token)
    assert greedy == REFERENCES[case.name].greedy_ids


@pytest.mark.parametrize("chunk", [1, 7, 16, 33])
def test_prefill_in_chunks_equals_prefill_at_once(case: ParityCase, runner: Any, chunk: int) -> None:
    ids = case.prompt_ids() + case.forced_ids()
    with sequence(runner) as whole, sequence(runner) as chunked:
        at_once = runner.prefill(whole, ids)
        in_chunks = prefill_in_chunks(runner, chunked, ids, chunk)
        after_whole = runner.decode([whole], [5])[0]
        after_chunks = runner.decode([chunked], [5])[0]
    np.testing.assert_allclose(in_chunks, at_once, atol=LOGITS_TOLERANCE, rtol=0)
    np.testing.assert_allclose(after_chunks, after_whole, atol=LOGITS_TOLERANCE, rtol=0)


def test_sequences_decoded_together_give_what_they_give_alone(case: ParityCase, runner: Any) -> None:
    prompts = [case.prompt_ids()[:9], case.prompt_ids(), case.forced_ids()[:23]]
    alone = []
    for prompt in prompts:
        with sequence(runner) as number:
            runner.prefill(number, prompt)
            alone.append(runner.decode([number], [7])[0])
    with sequence(runner) as a, sequence(runner) as b, sequence(runner) as c:
        for number, prompt in zip((a, b, c), prompts, strict=True):
            runner.prefill(number, prompt)
        together = runner.decode([a, b, c], [7, 7, 7])
    np.testing.assert_allclose(together, np.stack(alone), atol=LOGITS_TOLERANCE, rtol=0)


def test_every_page_comes_back(case: ParityCase, runner: Any) -> None:
    free = runner.available_pages()
    with sequence(runner) as number:
        runner.prefill(number, case.prompt_ids())
        assert runner.available_pages() == free - -(-len(case.prompt_ids()) // runner.page_tokens)
    assert runner.available_pages() == free
