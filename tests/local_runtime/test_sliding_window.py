"""Models whose layers see only the last tokens, on prompts longer than that: however the tokens come, the numbers are NumPy's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from local_runtime.state_file import read_state, write_state
from tests.local_runtime.checkpoints import checkpoint_tensors, mistral_config, qwen2_config
from tests.local_runtime.numpy_llama import numpy_logits

OpenRunner = Callable[..., Any]

SEED = 31
WINDOW = 23  # no multiple of a page
MISTRAL = mistral_config(sliding_window=WINDOW, max_position_embeddings=400)
QWEN2 = qwen2_config(
    sliding_window=WINDOW,
    use_sliding_window=True,
    num_hidden_layers=3,
    layer_types=["sliding_attention", "full_attention", "sliding_attention"],
)
IDS = [int(token) for token in np.random.RandomState(9).randint(0, 320, size=170)]
PROMPT = 106
TOLERANCE = 1e-4


@pytest.fixture(scope="module", params=[MISTRAL, QWEN2], ids=["all layers", "some layers"])
def model(request: pytest.FixtureRequest, open_runner: OpenRunner) -> tuple[Any, np.ndarray]:
    """A runner, and what NumPy says after each of `IDS`."""
    expected = numpy_logits(request.param, checkpoint_tensors(request.param, SEED), IDS)
    return open_runner(request.param, SEED, context_tokens=256, total_tokens=1024), expected


@pytest.fixture
def runner(model: tuple[Any, np.ndarray]) -> Iterator[Any]:
    runner = model[0]
    yield runner
    assert runner.available_pages() == runner.total_pages


@pytest.fixture
def expected(model: tuple[Any, np.ndarray]) -> np.ndarray:
    return model[1]


def feed(runner: Any, sequence_id: int, start: int, end: int, chunk: int) -> np.ndarray:
    logits = np.empty(0)
    for first in range(start, end, chunk):
        logits = runner.prefill(sequence_id, IDS[first : min(first + chunk, end)])
    return logits


def assert_near(got: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(got, wanted, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("chunk", [1, 5, 16, WINDOW, 64, PROMPT])
def test_a_prompt_longer_than_the_window_is_computed_exactly(runner: Any, expected: np.ndarray, chunk: int) -> None:
    runner.add_sequence(0)
    assert_near(feed(runner, 0, 0, PROMPT, chunk), expected[PROMPT - 1])
    for place in range(PROMPT, len(IDS)):
        assert_near(runner.decode([0], [IDS[place]])[0], expected[place])
    runner.remove_sequence(0)


def test_forks_share_what_is_before_the_window_and_go_on_exactly(runner: Any, expected: np.ndarray) -> None:
    """The shared pages end anywhere: within the window of what follows, at its edge, far before it."""
    runner.add_sequence(0)
    feed(runner, 0, 0, 96, 48)
    children = {1: 96, 2: 80, 3: 71, 4: 48, 5: 16}
    for child, at in children.items():
        runner.fork_sequence(0, child, at)
        assert_near(feed(runner, child, at, PROMPT, 7), expected[PROMPT - 1])
    runner.remove_sequence(0)
    for place in range(
        PROMPT, PROMPT + 30
    ):  # all at once; some share pages with others, and keys that nobody sees any more
        four = list(children)[:4]
        logits = runner.decode(four, [IDS[place]] * 4)
        for row in logits:
            assert_near(row, expected[place])
        assert_near(runner.decode([5], [IDS[place]])[0], expected[place])
    for child in children:
        runner.remove_sequence(child)


def test_tokens_can_be_taken_back_and_scored_beyond_the_window(runner: Any, expected: np.ndarray) -> None:
    runner.add_sequence(0)
    feed(runner, 0, 0, 150, 50)
    runner.pop(0, 60)
    assert_near(runner.score(0, IDS[90:101]), expected[90:101])
    assert_near(runner.decode([0], [IDS[101]])[0], expected[101])
    runner.remove_sequence(0)


def test_a_saved_state_of_a_windowed_model_goes_on_exactly(runner: Any, expected: np.ndarray, tmp_path: Path) -> None:
    runner.add_sequence(0)
    feed(runner, 0, 0, 96, 48)
    path = tmp_path / "state.kv"
    write_state(path, runner.state_identity, runner.state_shape, IDS[:96], runner.read_pages(0, 96))
    runner.remove_sequence(0)
    runner.restore_sequence(1, read_state(path, runner.state_identity, runner.state_shape, 64).layers)
    assert_near(feed(runner, 1, 96, PROMPT, 10), expected[PROMPT - 1])
    runner.remove_sequence(1)


def test_short_and_long_sequences_decode_in_one_batch(runner: Any, expected: np.ndarray) -> None:
    lengths = {0: 3, 1: WINDOW - 1, 2: WINDOW, 3: 150}
    for number, length in lengths.items():
        runner.add_sequence(number)
        feed(runner, number, 0, length, 64)
    for step in range(12):
        logits = runner.decode(list(lengths), [IDS[length + step] for length in lengths.values()])
        for row, length in zip(logits, lengths.values(), strict=True):
            assert_near(row, expected[length + step])
    for number in lengths:
        runner.remove_sequence(number)
