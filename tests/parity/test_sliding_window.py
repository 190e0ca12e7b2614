"""A sequence that lets go of its beginning again and again, against the real ``transformers`` over all tokens: ``make parity``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.local_runtime.checkpoints import mistral_config, write_checkpoint
from tests.local_runtime.conftest import engine_cache, open_runner  # noqa: F401  fixtures

pytestmark = pytest.mark.parity
SEED = 3
TOKENS = 4000
DECODED = 1100
CONFIG = mistral_config(sliding_window=100, max_position_embeddings=8192)
IDS = [int(token) for token in np.random.RandomState(1).randint(0, 320, TOKENS)]


def transformers_logits(folder: Path) -> np.ndarray:
    """Logits float32 ``[TOKENS, vocab]``."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    with torch.no_grad():
        logits: np.ndarray = model(torch.tensor([IDS]), use_cache=False).logits[0].numpy()
    return logits


def test_logits_of_a_sequence_that_moves_equal_transformers(
    open_runner: Callable[..., Any],  # noqa: F811
    tmp_path: Path,
) -> None:
    expected = transformers_logits(write_checkpoint(tmp_path, CONFIG, seed=SEED))
    runner = open_runner(CONFIG, SEED, context_tokens=8000, total_tokens=8000)
    runner.add_sequence(0)
    done = held = moves = 0
    worst = 0.0
    while done < TOKENS:
        count = 1 if done >= TOKENS - DECODED else 200
        if held + count > runner.window.most_tokens:
            unseen = runner.window.unseen(held)
            runner.drop_first(0, unseen)
            held, moves = held - unseen, moves + 1
        logits = runner.prefill(0, IDS[done : done + count])
        done, held = done + count, held + count
        worst = max(worst, float(np.abs(logits - expected[done - 1]).max()))
    runner.remove_sequence(0)
    sys.stderr.write(f"largest difference of a logit over {moves} moves {worst:.2e}\n")
    assert moves > 6
    assert worst <= 1e-4
