"""Keys and values of a compiled model, read out of its cache, kept in a file and put back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from local_runtime.errors import OutOfMemoryError
from local_runtime.state_file import read_state, write_state
from tests.local_runtime.checkpoints import llama_config

OpenRunner = Callable[..., Any]

SEED = 5
CONFIG = llama_config(vocab_size=331, max_position_embeddings=2048)
PROMPT = [int(token) for token in np.random.RandomState(3).randint(0, 331, size=80)]
SAVED = 64


@pytest.fixture
def runner(open_runner: OpenRunner) -> Iterator[Any]:
    """A small model; every test leaves its cache empty."""
    runner = open_runner(CONFIG, SEED, "q4", context_tokens=128, max_sequences=3, total_tokens=192)
    free = runner.available_pages()
    yield runner
    assert runner.available_pages() == free == runner.total_pages


def answer(runner: Any, sequence_id: int) -> np.ndarray:
    """Logits after the rest of the prompt and after some more tokens; ends the sequence."""
    said = [runner.prefill(sequence_id, PROMPT[SAVED:])]
    said += [runner.decode([sequence_id], [token])[0] for token in (7, 8, 9)]
    runner.remove_sequence(sequence_id)
    return np.stack(said)


def save(runner: Any, sequence_id: int, path: Path) -> int:
    pages = runner.read_pages(sequence_id, SAVED)
    return write_state(path, runner.state_identity, runner.state_shape, PROMPT[:SAVED], pages)


def test_a_restored_sequence_goes_on_bit_for_bit_like_the_one_that_was_saved(
    runner: Any, open_runner: OpenRunner, tmp_path: Path
) -> None:
    # Pages that lie apart, among those of others, and that the sequence took in two turns.
    for other in (10, 11):
        runner.add_sequence(other)
    runner.add_sequence(1)
    runner.prefill(10, [1] * 20)
    runner.prefill(1, PROMPT[:30])
    runner.prefill(11, [2] * 10)
    runner.prefill(1, PROMPT[30:SAVED])
    file_bytes = save(runner, 1, tmp_path / "state.kv")
    expected = answer(runner, 1)
    for other in (10, 11):
        runner.remove_sequence(other)

    # Another process would open the same model anew.
    reloaded = open_runner(CONFIG, SEED, "q4", context_tokens=128, max_sequences=2, total_tokens=192)
    state = read_state(tmp_path / "state.kv", reloaded.state_identity, reloaded.state_shape, reloaded.total_pages)
    assert (state.tokens, state.file_bytes) == (PROMPT[:SAVED], file_bytes)
    reloaded.add_sequence(4)
    reloaded.prefill(4, [5] * 3)
    reloaded.restore_sequence(0, state.layers)
    np.testing.assert_array_equal(answer(reloaded, 0), expected)
    reloaded.remove_sequence(4)


def test_what_was_restored_can_be_shared_and_saved_again(runner: Any, tmp_path: Path) -> None:
    runner.add_sequence(1)
    runner.prefill(1, PROMPT[:SAVED])
    save(runner, 1, tmp_path / "first.kv")
    state = read_state(tmp_path / "first.kv", runner.state_identity, runner.state_shape, runner.total_pages)
    runner.restore_sequence(2, state.layers)
    runner.remove_sequence(1)
    save(runner, 2, tmp_path / "second.kv")
    assert (tmp_path / "second.kv").read_bytes() == (tmp_path / "first.kv").read_bytes()
    runner.fork_sequence(2, 3)
    np.testing.assert_array_equal(answer(runner, 3), answer(runner, 2))


def test_a_state_without_room_leaves_nothing_behind(runner: Any) -> None:
    shape = runner.state_shape
    layers = [np.zeros((4, *shape.page), shape.dtype)] * shape.num_layers
    for other in (1, 9):
        runner.add_sequence(other)
        for start in range(0, 96, 48):
            runner.prefill(other, [start] * 48)
    with pytest.raises(OutOfMemoryError, match="cache is full"):
        runner.restore_sequence(2, layers)
    runner.remove_sequence(9)
    runner.remove_sequence(1)
    runner.add_sequence(2)  # the number is free
    runner.remove_sequence(2)


@pytest.mark.parametrize("tokens", [0, 15, 96])
def test_only_whole_pages_that_are_there_are_read(runner: Any, tokens: int) -> None:
    runner.add_sequence(1)
    runner.prefill(1, PROMPT)
    with pytest.raises(ValueError, match="no whole pages"):
        next(runner.read_pages(1, tokens))
    runner.remove_sequence(1)


def test_other_weights_are_another_model(runner: Any, open_runner: OpenRunner) -> None:
    other = open_runner(CONFIG, SEED, "f16", context_tokens=128)
    assert other.state_identity["quant"] != runner.state_identity["quant"]
    assert {name for name, value in other.state_identity.items() if value != runner.state_identity[name]} == {"quant"}
