"""A chunk of a prompt in one step with a decode, on a compiled model: everybody's logits are what they are alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.local_runtime.checkpoints import llama_config
from tests.local_runtime.test_runner import PLAINEST

SEED = 41
CONFIG = llama_config(vocab_size=331, max_position_embeddings=2048)
PROMPT = [(29 * place + 3) % 331 for place in range(60)]


@pytest.fixture
def runner(open_runner: Callable[..., Any]) -> Any:
    runner = open_runner(CONFIG, SEED, "q4", target=PLAINEST, context_tokens=96, max_sequences=4, total_tokens=256)
    yield runner
    assert runner.available_pages() == runner.total_pages


def fresh(runner: Any, tokens: list[int]) -> np.ndarray:
    runner.add_sequence(99)
    try:
        for start in range(0, len(tokens), 48):
            logits = runner.prefill(99, tokens[start : start + 48])
        return np.asarray(logits)
    finally:
        runner.remove_sequence(99)


@pytest.mark.parametrize("chunk", [1, 7, 16, 33])
@pytest.mark.parametrize("begun", [0, 5, 16])
def test_everybody_gets_the_logits_that_they_get_alone(runner: Any, chunk: int, begun: int) -> None:
    runner.add_sequence(1)
    runner.prefill(1, PROMPT[:20])
    runner.fork_sequence(1, 2, 18)  # shares a page, and has copied another one
    runner.add_sequence(3)
    if begun:
        runner.prefill(3, PROMPT[:begun])
    logits = runner.decode_with_chunk([2, 1], [7, 8], 3, PROMPT[begun : begun + chunk])
    after = runner.decode([1, 2, 3], [9, 10, 11])
    for sequence_id in (1, 2, 3):
        runner.remove_sequence(sequence_id)
    expected = [[*PROMPT[:18], 7], [*PROMPT[:20], 8], PROMPT[: begun + chunk]]
    np.testing.assert_allclose(logits, np.stack([fresh(runner, each) for each in expected]), atol=1e-4, rtol=0)
    later = [[*PROMPT[:20], 8, 9], [*PROMPT[:18], 7, 10], [*PROMPT[: begun + chunk], 11]]
    np.testing.assert_allclose(after, np.stack([fresh(runner, each) for each in later]), atol=1e-4, rtol=0)


def test_more_than_the_buffers_hold_is_refused(runner: Any) -> None:
    with pytest.raises(ValueError, match="5 sequences of one step: at least 1 and at most 4"):
        runner.decode_with_chunk([1, 2, 3, 4], [1] * 4, 5, [1])
    with pytest.raises(ValueError, match="98 tokens of one step: at least 1 and at most 96"):
        runner.decode_with_chunk([1], [1], 5, [1] * 97)
