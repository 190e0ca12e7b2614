"""Models with f16 and q4 weights compute exactly what the rounded weights say, and stay near the unrounded model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from local_runtime.quantization import dequantize_q4, quantize_q4
from tests.lanes import some_every_day
from tests.local_runtime.parity_cases import PARITY_CASES, ParityCase, load_references

BY_NAME = {case.name: case for case in PARITY_CASES}
TIED, BIASED = BY_NAME["qwen2-gqa-tied"], BY_NAME["llama-llama3-rope-bias"]
# Each format with tied embeddings, which are read as rows and as a matrix; q4 with every kind of bias as well.
COMBINATIONS = [(TIED, "f16"), (TIED, "q4"), (BIASED, "q4")]


def round_to_f16(name: str, values: np.ndarray) -> np.ndarray:
    return values if values.ndim == 1 else values.astype(np.float16).astype(np.float32)


def round_to_q4(name: str, values: np.ndarray) -> np.ndarray:
    return values if values.ndim == 1 else dequantize_q4(*quantize_q4(values)).astype(np.float32)


ROUND = {"f16": round_to_f16, "q4": round_to_q4}


def logits_of(runner: Any, case: ParityCase) -> np.ndarray:
    runner.add_sequence(0)
    try:
        rows = [runner.prefill(0, case.prompt_ids())]
        rows += [runner.decode([0], [token])[0] for token in case.forced_ids()[:16]]
    finally:
        runner.remove_sequence(0)
    return np.stack(rows)


@pytest.mark.parametrize(
    ("case", "quant"),
    some_every_day(COMBINATIONS, lambda it: it == (BIASED, "q4")),
    ids=lambda value: getattr(value, "name", value),
)
def test_a_rounded_model_computes_what_its_rounded_weights_say(
    case: ParityCase, quant: str, open_runner: Callable[..., Any]
) -> None:
    rounded = logits_of(open_runner(case.config, case.seed, quant), case)
    same_in_f32 = logits_of(open_runner(case.config, case.seed, transform=ROUND[quant]), case)
    np.testing.assert_allclose(rounded, same_in_f32, atol=2e-4, rtol=0)


@pytest.mark.parametrize(
    ("case", "quant", "largest_mean_error"),
    some_every_day([(TIED, "f16", 0.01), (BIASED, "q4", 1.0)], lambda it: it[0] == BIASED),
)
def test_rounding_moves_logits_by_little(
    case: ParityCase, quant: str, largest_mean_error: float, open_runner: Callable[..., Any]
) -> None:
    rounded = logits_of(open_runner(case.config, case.seed, quant), case)[0]
    error = np.abs(rounded - load_references()[case.name].prefill_logits).mean()
    assert 0 < error < largest_mean_error
