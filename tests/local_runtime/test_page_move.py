"""Sequences that let go of what no layer sees any more: the numbers stay, and so do the pages of those they share with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from local_runtime.errors import OutOfMemoryError
from local_runtime.models.config import ModelConfig
from local_runtime.page_move import move_pages
from local_runtime.sliding import SlidingWindow, sliding_window, window_of_all_layers
from tests.local_runtime.checkpoints import checkpoint_tensors, llama_config, qwen2_config
from tests.local_runtime.numpy_llama import numpy_logits
from tests.local_runtime.parity_cases import DECODE_COLUMN_STRIDE, PARITY_CASES, WINDOW_TOKENS, load_references

OpenRunner = Callable[..., Any]

SEED = 31
PAGE = 16
WINDOW = WINDOW_TOKENS  # no multiple of a page
CASE = next(case for case in PARITY_CASES if case.name == "mistral-window")
MISTRAL = CASE.config
OTHER_WINDOW = 40
OTHER = qwen2_config(
    sliding_window=OTHER_WINDOW,
    use_sliding_window=True,
    layer_types=["sliding_attention"] * 2,
    num_key_value_heads=1,
    head_dim=48,
    rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.5},
)
IDS = [int(token) for token in np.random.RandomState(9).randint(0, 320, size=250)]
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def mistral(open_runner: OpenRunner) -> tuple[Any, np.ndarray]:
    """A runner, and what NumPy says after each of `IDS`."""
    expected = numpy_logits(MISTRAL, checkpoint_tensors(MISTRAL, CASE.seed), IDS)
    return open_runner(MISTRAL, CASE.seed, context_tokens=256, total_tokens=1024), expected


@pytest.fixture
def runner(mistral: tuple[Any, np.ndarray]) -> Iterator[Any]:
    runner = mistral[0]
    yield runner
    assert runner.available_pages() == runner.total_pages


def assert_near(got: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(got, wanted, atol=TOLERANCE, rtol=0)


def feed(runner: Any, sequence_id: int, start: int, end: int) -> np.ndarray:
    logits: np.ndarray = runner.prefill(sequence_id, IDS[start:end])
    return logits


def pages(tokens: int) -> int:
    return -(-tokens // PAGE)


# ---- the numbers ----


def test_a_sequence_goes_on_as_if_nothing_had_moved(open_runner: OpenRunner) -> None:
    """Chunks and single tokens over several moves, against a sequence that keeps all of its pages."""
    runner = open_runner(OTHER, SEED, context_tokens=256, total_tokens=1024)
    slide = SlidingWindow(OTHER_WINDOW, 30, PAGE)
    for sequence_id in (0, 1):
        runner.add_sequence(sequence_id)
    cached = held = moves = 0
    most = 0
    while cached < len(IDS):
        count = 1 if cached > 120 else min(30, len(IDS) - cached)
        if held + count > slide.most_tokens:
            runner.drop_first(1, slide.unseen(held))
            held -= slide.unseen(held)
            moves += 1
        before = runner.available_pages()
        kept = feed(runner, 0, cached, cached + count)
        grown = before - runner.available_pages()
        assert_near(feed(runner, 1, cached, cached + count), kept)
        cached, held = cached + count, held + count
        most = max(most, held)
        assert runner.total_pages - runner.available_pages() == pages(cached) + pages(held)
        assert grown >= 0
    assert moves == 4
    assert most <= slide.most_tokens
    for sequence_id in (0, 1):
        runner.remove_sequence(sequence_id)
    assert runner.available_pages() == runner.total_pages


def test_moved_sequences_say_what_numpy_says_in_batches_and_after_tokens_taken_back(
    runner: Any, mistral: tuple[Any, np.ndarray]
) -> None:
    expected = mistral[1]
    for sequence_id, length in ((0, 100), (1, 57), (2, 9)):
        runner.add_sequence(sequence_id)
        assert_near(feed(runner, sequence_id, 0, length), expected[length - 1])
    runner.drop_first(0, 64)
    runner.drop_first(1, 32)
    for step in range(20):
        logits = runner.decode([0, 1, 2], [IDS[100 + step], IDS[57 + step], IDS[9 + step]])
        for row, length in zip(logits, (100, 57, 9), strict=True):
            assert_near(row, expected[length + step])
    assert_near(runner.score(0, IDS[120:140]), expected[120:140])
    runner.pop(0, 12)
    runner.drop_first(0, 32)
    assert_near(feed(runner, 0, 128, 200), expected[199])
    for sequence_id in (0, 1, 2):
        runner.remove_sequence(sequence_id)


def test_moved_sequences_say_what_transformers_says(runner: Any) -> None:
    reference = load_references()[CASE.name]
    assert reference.weights_sha256 == CASE.weights_sha256()
    runner.add_sequence(0)
    runner.prefill(0, CASE.prompt_ids())
    held, moves = len(CASE.prompt_ids()), 0
    for token, wanted in zip(CASE.forced_ids(), reference.decode_logits, strict=True):
        if held - PAGE >= WINDOW:
            runner.drop_first(0, PAGE)
            held, moves = held - PAGE, moves + 1
        assert_near(runner.decode([0], [token])[0][::DECODE_COLUMN_STRIDE], wanted)
        held += 1
    assert moves == 5
    runner.remove_sequence(0)


# ---- pages ----


def test_a_full_cache_is_no_obstacle_where_nothing_is_shared(runner: Any, mistral: tuple[Any, np.ndarray]) -> None:
    """Other sequences lie between the pages, and hold all that are free."""
    runner.add_sequence(0)
    for number, start in enumerate(range(0, 90, 30), start=1):
        feed(runner, 0, start, start + 30)
        runner.add_sequence(number)
        feed(runner, number, 0, 40)
    runner.add_sequence(9)
    while runner.available_pages():
        runner.prefill(9, [1] * min(PAGE * runner.available_pages(), 64))
    runner.drop_first(0, 48)
    assert runner.available_pages() == 3
    assert_near(feed(runner, 0, 90, 100), mistral[1][99])
    assert_near(runner.decode([2], [IDS[40]])[0], mistral[1][40])
    for number in (0, 1, 2, 3, 9):
        runner.remove_sequence(number)


@pytest.mark.parametrize("at", [96, 80, 71, 32])
def test_what_is_shared_stays_with_the_others(runner: Any, mistral: tuple[Any, np.ndarray], at: int) -> None:
    """The window begins within the shared pages, or after them; either of the two moves."""
    expected = mistral[1]
    runner.add_sequence(0)
    feed(runner, 0, 0, 96)
    runner.fork_sequence(0, 1, at)
    runner.fork_sequence(0, 2, at)
    if at < 96:
        feed(runner, 1, at, 96)
    runner.drop_first(1, 64)
    assert_near(feed(runner, 1, 96, 110), expected[109])
    assert_near(feed(runner, 2, at, 130), expected[129])
    runner.drop_first(0, 48)
    assert_near(feed(runner, 0, 96, 120), expected[119])
    runner.drop_first(2, 96)
    assert_near(runner.decode([0, 1, 2], [IDS[120], IDS[110], IDS[130]]), expected[[120, 110, 130]])
    for sequence_id in (0, 1, 2):
        runner.remove_sequence(sequence_id)


def test_where_what_was_shared_finds_no_pages_the_sequence_can_be_removed(runner: Any) -> None:
    runner.add_sequence(0)
    feed(runner, 0, 0, 96)
    runner.fork_sequence(0, 1, 96)
    runner.add_sequence(9)
    while runner.available_pages():
        runner.prefill(9, [1] * min(PAGE * runner.available_pages(), 64))
    with pytest.raises(OutOfMemoryError, match="cache is full"):
        runner.drop_first(1, 48)
    for sequence_id in (0, 1, 9):
        runner.remove_sequence(sequence_id)


def test_only_whole_pages_that_leave_something_are_let_go_of(runner: Any) -> None:
    runner.add_sequence(0)
    feed(runner, 0, 0, 48)
    for tokens in (0, 8, 48, 64, -16):
        with pytest.raises(ValueError, match="can do without"):
            runner.drop_first(0, tokens)
    runner.remove_sequence(0)


def test_models_that_see_further_back_let_go_of_nothing() -> None:
    some = qwen2_config(
        sliding_window=WINDOW, use_sliding_window=True, layer_types=["sliding_attention", "full_attention"]
    )
    for config in (some, llama_config()):
        parsed = ModelConfig.from_dict(config).to_dict()
        assert window_of_all_layers(parsed) is None
        assert sliding_window(parsed, 16, PAGE, 10_000) is None
    parsed = ModelConfig.from_dict(MISTRAL).to_dict()
    assert window_of_all_layers(parsed) == WINDOW
    assert sliding_window(parsed, 16, PAGE, 64) == SlidingWindow(WINDOW, 16, PAGE)
    assert sliding_window(parsed, 16, PAGE, 63) is None


# ---- how much ----


@pytest.mark.parametrize("window_tokens", [1, 15, 16, 17, 23, 64])
@pytest.mark.parametrize("chunk_tokens", [1, 7, 16, 30])
def test_after_letting_go_a_whole_step_fits_and_the_window_is_whole(window_tokens: int, chunk_tokens: int) -> None:
    slide = SlidingWindow(window_tokens, chunk_tokens, PAGE)
    assert slide.most_tokens % PAGE == 0
    assert slide.most_tokens < window_tokens + chunk_tokens + 2 * PAGE
    assert slide.unseen(window_tokens) == 0
    for held in range(1, slide.most_tokens + 1):
        left = held - slide.unseen(held)
        assert slide.unseen(held) % PAGE == 0
        assert left >= min(held, window_tokens)
        assert left + chunk_tokens <= slide.most_tokens


def test_pages_trade_places() -> None:
    """A permutation that no copy in order would survive."""
    layers = [np.random.RandomState(seed).standard_normal((6, 2, 3, PAGE, 8)) for seed in range(2)]
    before = [layer.copy() for layer in layers]
    move_pages(layers, [4, 0, 2], [0, 2, 4])
    for layer, was in zip(layers, before, strict=True):
        np.testing.assert_array_equal(layer, was[[4, 1, 0, 3, 2, 5]])
