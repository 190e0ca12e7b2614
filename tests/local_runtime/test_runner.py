"""Compiled models at their edges: odd sizes, the plainest processor, full caches, and steps that fail half-way."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pytest

from local_runtime.errors import OutOfMemoryError
from local_runtime.quantization import dequantize_q4, quantize_q4
from local_runtime.speculation import clear_lead
from tests.lanes import some_every_day
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
    some_every_day([(ODD, "f16", "cpu"), (ODD_ROWS, "q4", PLAINEST)], lambda it: it[0] is ODD),
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


# ---- forks ----


@pytest.fixture
def forking(open_runner: OpenRunner) -> Any:
    """A model whose cache holds forty pages; every test leaves it empty."""
    runner = open_runner(ODD_ROWS, SEED, "q4", target=PLAINEST, context_tokens=96, max_sequences=4, total_tokens=640)
    free = runner.available_pages()
    yield runner
    assert runner.available_pages() == free == runner.total_pages


def fresh(runner: Any, tokens: list[int]) -> np.ndarray:
    """The logits after ``tokens``, computed in a sequence that shares nothing."""
    runner.add_sequence(-1)
    try:
        for start in range(0, len(tokens), 48):
            logits = runner.prefill(-1, tokens[start : start + 48])
        return np.asarray(logits)
    finally:
        runner.remove_sequence(-1)


@pytest.mark.parametrize("at_tokens", [None, 0, 1, 15, 16, 17, 32, 44, 45])
def test_a_fork_goes_on_as_its_parent_would_and_the_parent_too(forking: Any, at_tokens: int | None) -> None:
    expected = {tail: fresh(forking, [*PROMPT[:at_tokens], tail]) for tail in (7, 8)}
    parent_expected = fresh(forking, [*PROMPT, 11])
    forking.add_sequence(0)
    forking.prefill(0, PROMPT)
    taken = forking.available_pages()
    forking.fork_sequence(0, 1, at_tokens)
    forking.fork_sequence(0, 2, at_tokens)
    copied = 2 if (len(PROMPT) if at_tokens is None else at_tokens) % 16 else 0
    assert taken - forking.available_pages() == copied  # whole pages are shared
    together = forking.decode([1, 2, 0], [7, 8, 11])
    np.testing.assert_allclose(together, np.stack([expected[7], expected[8], parent_expected]), atol=1e-4, rtol=0)
    forking.remove_sequence(0)  # what the others share outlives it
    forking.remove_sequence(2)
    np.testing.assert_allclose(
        forking.decode([1], [12])[0], fresh(forking, [*PROMPT[:at_tokens], 7, 12]), atol=1e-4, rtol=0
    )
    forking.remove_sequence(1)


@pytest.mark.parametrize("at_tokens", [-1, 46])
def test_a_fork_outside_of_its_parent_is_refused(forking: Any, at_tokens: int) -> None:
    forking.add_sequence(0)
    forking.prefill(0, PROMPT)
    with pytest.raises(ValueError, match=f"a fork at token {at_tokens} of a sequence of 45 tokens"):
        forking.fork_sequence(0, 1, at_tokens)
    forking.remove_sequence(0)


def test_a_fork_that_finds_no_page_costs_nothing(forking: Any) -> None:
    forking.add_sequence(0)
    forking.prefill(0, PROMPT)
    forking.add_sequence(1)
    while forking.available_pages():
        forking.prefill(1, [3] * min(16 * forking.available_pages(), 96))
    with pytest.raises(OutOfMemoryError, match="all of its"):
        forking.fork_sequence(0, 2)
    forking.fork_sequence(0, 2, 32)  # at a page's end it needs none
    for sequence_id in (0, 1, 2):
        forking.remove_sequence(sequence_id)


def test_ten_thousand_random_starts_steps_forks_and_ends_leak_no_page(forking: Any) -> None:
    random = Random(4)
    alive: dict[int, list[int]] = {}
    ids = iter(range(100_000))
    counts = Counter[str]()
    compared = 0

    def end(sequence_id: int) -> None:
        forking.remove_sequence(sequence_id)
        del alive[sequence_id]

    def compare(sequence_id: int, logits: np.ndarray) -> None:
        nonlocal compared
        if forking.available_pages() >= 6:  # a whole context
            np.testing.assert_allclose(logits, fresh(forking, alive[sequence_id]), atol=1e-3, rtol=0)
            compared += 1

    def step(sequence_ids: list[int], count: int) -> None:
        tokens = [[random.randrange(331) for _ in range(count)] for _ in sequence_ids]
        try:
            if count == 1:
                rows = forking.decode(sequence_ids, [one for (one,) in tokens])
            else:
                rows = [forking.prefill(sequence_ids[0], tokens[0])]
        except OutOfMemoryError:
            counts["full"] += 1
            for sequence_id in sequence_ids:
                end(sequence_id)
            return
        for sequence_id, more in zip(sequence_ids, tokens, strict=True):
            alive[sequence_id] += more
        if random.random() < 0.02:
            compare(sequence_ids[-1], rows[-1])

    def fork(parent: int) -> None:
        length = len(alive[parent])
        at_tokens = random.choice([None, random.randint(0, length), length // 16 * 16])
        child = next(ids)
        try:
            forking.fork_sequence(parent, child, at_tokens)
        except OutOfMemoryError:
            counts["full"] += 1
            return
        alive[child] = alive[parent][:at_tokens]

    operations = 0
    while operations < 10_000:
        kind = random.choice(["start", "prefill", "decode", "decode", "decode", "fork", "fork", "end", "end"])
        unfinished = [sequence_id for sequence_id, tokens in alive.items() if len(tokens) < 96]
        if kind == "start" and len(alive) < 24:
            alive[started := next(ids)] = []
            forking.add_sequence(started)
        elif kind == "prefill" and unfinished:
            chosen = random.choice(unfinished)
            step([chosen], max(1, min(random.choice([2, 15, 16, 17, 33]), 96 - len(alive[chosen]))))
        elif kind == "decode" and unfinished:
            step(random.sample(unfinished, min(len(unfinished), random.randint(1, 4))), 1)
        elif kind == "fork" and alive and len(alive) < 24:
            fork(random.choice(list(alive)))
        elif kind == "end" and alive:
            end(random.choice(list(alive)))
        else:
            continue
        counts[kind] += 1
        operations += 1
    assert min(counts[kind] for kind in ("start", "prefill", "decode", "fork", "end")) > 500
    assert counts["full"] > 3
    assert compared > 20
    for sequence_id in list(alive):
        end(sequence_id)
    assert forking.available_pages() == forking.total_pages


def test_scored_tokens_are_what_numpy_computes_and_can_be_taken_back(runner: Any) -> None:
    expected = numpy_logits(ODD_ROWS, rounded(ODD_ROWS, "q4"), PROMPT)
    for sequence_id in (1, 2):
        runner.add_sequence(sequence_id)
    try:
        free = runner.available_pages()
        scored = np.concatenate([runner.score(1, PROMPT[start : start + 16]) for start in range(0, len(PROMPT), 16)])
        first = runner.prefill(2, PROMPT[:1])
        stepped = np.stack([first, *(runner.decode([2], [token])[0] for token in PROMPT[1:])])
        pages = runner.available_pages()
        runner.pop(1, 9)
        again = runner.score(1, PROMPT[-9:])
        assert runner.available_pages() == pages
        runner.pop(1, len(PROMPT))
        runner.pop(2, 40)
        assert runner.available_pages() == free - 1  # the first tokens of sequence 2 are still there
        from_the_start = runner.score(1, PROMPT[:16])
        for tokens in (17, -1):
            with pytest.raises(ValueError, match="cannot be taken back"):
                runner.pop(1, tokens)
        with pytest.raises(ValueError, match="tokens to score"):
            runner.score(1, [1] * (runner.score_tokens + 1))
    finally:
        runner.remove_sequence(1)
        runner.remove_sequence(2)
    np.testing.assert_allclose(scored, expected, atol=1e-4, rtol=0)
    np.testing.assert_allclose(again, scored[-9:], atol=1e-4, rtol=0)
    np.testing.assert_array_equal(from_the_start, scored[:16])
    for row, other in zip(scored, stepped, strict=True):  # what guesses are checked with, against what they stand for
        assert np.abs(row - other).max() < clear_lead(other, runner.activation_eps) / 2
