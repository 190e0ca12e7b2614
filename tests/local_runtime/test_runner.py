"""Compiled models at their edges: odd sizes, the plainest processor, full caches, and steps that fail half-way."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from local_runtime.errors import OutOfMemoryError
from local_runtime.quantization import dequantize_q4, quantize_q4
from tests.local_runtime.checkpoints import checkpoint_tensors, llama_config
from tests.local_runtime.numpy_llama import numpy_logits

OpenRunner = Callable[..., Any]

SEED = 41
# Nothing is a multiple of a tile, a group or a vector, and the heads' width is not the hidden size.
ODD = llama_config(
    hidden_size=50, intermediate_size=77, num_attention_heads=3, num_key_value_heads=1, head_dim=16, vocab_size=331
)
# Whole groups along the rows, as q4 needs; a vocabulary that ends in mid-tile.
ODD_ROWS = llama_config(vocab_size=331, max_position_embeddings=2048)
PLAIN_X86 = '{"kind": "llvm", "mcpu": "x86-64"}'  # no AVX, no FMA, no F16C
PLAINEST = PLAIN_X86 if platform.machine() in ("x86_64", "AMD64") else "cpu"
PROMPT = [int(token) for token in np.random.RandomState(7).randint(0, 331, size=45)]


def rounded(config: dict[str, Any], quant: str) -> dict[str, np.ndarray]:
    """The weights that a quantised model computes with."""

    def of(values: np.ndarray) -> np.ndarray:
        if values.ndim == 1:
            return values
        return dequantize_q4(*quantize_q4(values)) if quant == "q4" else values.astype(np.float16)

    return {name: of(values) for name, values in checkpoint_tensors(config, SEED).items()}


@pytest.mark.parametrize(
    ("config", "quant", "target"),
    [(ODD, "f16", "cpu"), (ODD_ROWS, "q4", PLAINEST)],
    ids=["odd sizes", "plainest processor"],
)
def test_any_size_and_processor_computes_what_numpy_does(
    config: dict[str, Any], quant: str, target: str, open_runner: OpenRunner
) -> None:
    runner = open_runner(config, SEED, quant, target=target)
    expected = numpy_logits(config, rounded(config, quant), [*PROMPT, 330, 0, 5])
    runner.add_sequence(1)
    try:
        got = [runner.prefill(1, PROMPT[:20]), runner.prefill(1, PROMPT[20:])]
        got += [runner.decode([1], [token])[0] for token in (330, 0, 5)]
    finally:
        runner.remove_sequence(1)
    assert got[0].shape == (331,)
    np.testing.assert_allclose(np.stack(got), expected[[19, 44, 45, 46, 47]], atol=1e-4, rtol=0)


@pytest.fixture
def runner(open_runner: OpenRunner) -> Any:
    """A model whose cache holds little; every test leaves it empty."""
    runner = open_runner(ODD_ROWS, SEED, "q4", target=PLAINEST, context_tokens=64, max_sequences=3, total_tokens=96)
    free = runner.available_pages()
    yield runner
    assert runner.available_pages() == free == runner.total_pages


def answer(runner: Any, sequence_id: int = 0) -> np.ndarray:
    """What the model says to a fixed prompt now."""
    runner.add_sequence(sequence_id)
    try:
        return np.stack([runner.prefill(sequence_id, PROMPT), runner.decode([sequence_id], [9])[0]])
    finally:
        runner.remove_sequence(sequence_id)


def test_a_full_cache_is_out_of_memory_and_the_engine_goes_on(runner: Any) -> None:
    before = answer(runner)
    sequences = list(range(runner.total_pages // 3 + 1))
    for sequence_id in sequences:
        runner.add_sequence(sequence_id)
        if runner.available_pages() >= 3:
            runner.prefill(sequence_id, [3] * 48)
    with pytest.raises(OutOfMemoryError, match=f"all of its {runner.total_pages} pages of 16 tokens") as caught:
        runner.prefill(sequences[-1], [3] * 48)
    assert caught.value.mend
    for sequence_id in sequences:
        runner.remove_sequence(sequence_id)
    np.testing.assert_array_equal(answer(runner), before)


def test_every_page_can_be_filled_to_its_last_token(runner: Any) -> None:
    runner.add_sequence(0)
    runner.add_sequence(1)
    first = runner.total_pages // 2
    runner.prefill(0, [3] * min(runner.prefill_chunk_tokens, first * 16))
    for _ in range(first * 16 - runner.prefill_chunk_tokens):
        runner.decode([0], [4])
    for start in range(0, (runner.total_pages - first) * 16, 16):
        runner.prefill(1, [start] * 16)
    assert runner.available_pages() == 0
    with pytest.raises(OutOfMemoryError):
        runner.decode([0, 1], [5, 5])
    runner.remove_sequence(0)
    runner.remove_sequence(1)


@pytest.mark.parametrize("step", ["prefill", "decode"])
def test_a_step_that_fails_half_way_costs_only_its_own_sequences(
    runner: Any, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = answer(runner)
    runner.add_sequence(7)  # a bystander, in mid-answer
    runner.prefill(7, PROMPT)
    runner.add_sequence(8)
    runner.prefill(8, PROMPT[:17])

    def fail(*_: Any) -> None:
        raise RuntimeError("the kernel met a defect")

    with monkeypatch.context() as patch:
        patch.setattr(runner, f"_{step}", fail)
        with pytest.raises(RuntimeError, match="defect"):
            runner.prefill(8, [1] * 20) if step == "prefill" else runner.decode([8], [1])
    runner.remove_sequence(8)
    np.testing.assert_allclose(runner.decode([7], [9])[0], before[1], atol=1e-6, rtol=0)
    runner.remove_sequence(7)
    np.testing.assert_array_equal(answer(runner), before)


@pytest.mark.parametrize("words", ["std::bad_alloc", "CUDA: out of memory", "Cannot allocate 12 bytes"])
def test_memory_that_runs_out_inside_a_kernel_is_named(
    runner: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError(f"Check failed: {words}")

    runner.add_sequence(0)
    with monkeypatch.context() as patch:
        patch.setattr(runner, "_prefill", fail)
        with pytest.raises(OutOfMemoryError, match="no memory left to compute"):
            runner.prefill(0, PROMPT)
    runner.remove_sequence(0)


def test_steps_beyond_what_the_program_was_compiled_for_are_refused(runner: Any) -> None:
    runner.add_sequence(0)
    with pytest.raises(ValueError, match="65 tokens of one prefill: at least 1 and at most 64"):
        runner.prefill(0, [1] * 65)
    with pytest.raises(ValueError, match="0 tokens of one prefill"):
        runner.prefill(0, [])
    with pytest.raises(ValueError, match="4 sequences of one decode: at least 1 and at most 3"):
        runner.decode([0, 0, 0, 0], [1, 1, 1, 1])
    runner.remove_sequence(0)


def test_more_sequences_than_the_context_has_tokens(open_runner: OpenRunner) -> None:
    """The cache's buffers are made for one chunk of a prompt; a decode of many sequences must fit into them too."""
    few = open_runner(ODD_ROWS, SEED, "q4", target=PLAINEST, context_tokens=64, max_sequences=3, total_tokens=96)
    many = open_runner(
        ODD_ROWS, SEED, "q4", target=PLAINEST, context_tokens=16, max_sequences=100, total_tokens=16 * 64
    )
    assert many.max_sequences == 64  # as many as the program was compiled for
    alone = []
    for number in range(64):
        few.add_sequence(number)
        few.prefill(number, [number, 5, 9])
        alone.append(few.decode([number], [300 - number])[0])
        few.remove_sequence(number)
    for number in range(64):
        many.add_sequence(number)
        many.prefill(number, [number, 5, 9])
    together = many.decode(list(range(64)), [300 - number for number in range(64)])
    for number in range(64):
        many.remove_sequence(number)
    np.testing.assert_allclose(together, np.stack(alone), atol=1e-4, rtol=0)
