"""Logits of every number of rows: what TVM keeps of them stays within its bound, and nothing that is in use is lost."""

from __future__ import annotations

import sys
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import psutil
import pytest

from local_runtime.logits_memory import LogitsMemory
from local_runtime.memory_plan import kept_logits_rows, score_tokens
from tests.local_runtime.checkpoints import llama_config

MIB = 1 << 20
VOCAB = 16_384
WIDE = llama_config(
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=16,
    vocab_size=VOCAB,
)


def rss_bytes() -> int:
    return int(psutil.Process().memory_info().rss)


def test_buffers_are_let_go_of_before_they_are_too_many() -> None:
    memory = LogitsMemory(10, on_host=True)
    kept: set[int] = set()
    most = cleared = 0

    def clear() -> None:
        nonlocal cleared
        kept.clear()
        cleared += 1

    memory._clear = clear
    random = Random(5)
    for _ in range(500):
        rows = random.randrange(1, 6)
        memory.reserve(rows)
        kept.add(rows)
        most = max(most, sum(kept))
    assert most <= 10
    assert 0 < cleared < 250
    cleared = 0
    for _ in range(100):
        memory.reserve(5)
    assert cleared <= 1
    memory.reserve(11)  # the bound is below one step's own needs: it is computed nevertheless
    memory.reserve(11)
    assert cleared <= 2


@pytest.mark.skipif(sys.platform != "linux", reason="how free memory goes back to the system was measured on Linux")
def test_every_number_of_rows_stays_within_the_bound(open_runner: Callable[..., Any]) -> None:
    runner = open_runner(WIDE, 3, "f32", max_sequences=8)
    most = runner.score_tokens
    assert most == score_tokens(8, VOCAB) == 64
    tokens = [int(token) for token in np.random.RandomState(4).randint(0, VOCAB, size=64)]
    for sequence_id in range(8):
        runner.add_sequence(sequence_id)
        runner.prefill(sequence_id, tokens[:16])
    pages = [piece.copy() for piece in runner.read_pages(0, 16)]
    whole = runner.score(0, tokens)
    runner.pop(0, len(tokens))
    kept = [whole]
    before = rss_bytes()
    highest = 0
    for rows in (*range(1, most + 1), *range(most, 0, -1)):
        scored = runner.score(0, tokens[:rows])
        runner.pop(0, rows)
        np.testing.assert_allclose(scored[-1], whole[rows - 1], atol=1e-4, rtol=0)
        if rows % 8 == 0:
            assert runner.decode(range(rows // 8), [3] * (rows // 8)).shape == (rows // 8, VOCAB)
            for sequence_id in range(rows // 8):
                runner.pop(sequence_id, 1)
        del scored
        highest = max(highest, rss_bytes() - before)
    row_bytes = VOCAB * 4
    bound_bytes = (kept_logits_rows(8, VOCAB) + most) * row_bytes  # and the copy that is given
    every_bytes = most * (most + 1) // 2 * row_bytes
    assert highest < bound_bytes + 16 * MIB < every_bytes / 4
    # Logits and pages that somebody holds are what they were.
    again = runner.score(0, tokens)
    np.testing.assert_allclose(kept[0], again, atol=1e-4, rtol=0)
    for piece, other in zip(runner.read_pages(0, 16), pages, strict=True):
        np.testing.assert_array_equal(piece, other)
    for sequence_id in range(8):
        runner.remove_sequence(sequence_id)
    assert runner.available_pages() == runner.total_pages
