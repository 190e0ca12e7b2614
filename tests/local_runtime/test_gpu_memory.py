"""What a CUDA card is short of while a model is in use, predicted and measured. ``-s`` shows the figures."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks._engine import random_checkpoint
from benchmarks.memory_plan import build_peak_mib, run_case
from local_runtime.card_context import context_bytes, hold_context, release_context
from local_runtime.memory import accelerator_headroom_mib
from local_runtime.options import LoadOptions, Quantization
from local_runtime.target import cuda_devices

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not cuda_devices(), reason="no CUDA device answers on this machine"),
]

MIB = 1 << 20
BUNDLED, HALF_BILLION = "kiosk-assistant", "random-0.5B"
CASES: tuple[tuple[str, Quantization, int, int], ...] = (
    (BUNDLED, "f16", 2048, 4),
    (BUNDLED, "f16", 512, 1),
    (BUNDLED, "q4", 1024, 8),
    (BUNDLED, "f32", 1024, 2),
    (HALF_BILLION, "q4", 512, 1),
    (HALF_BILLION, "q4", 4096, 4),
    (HALF_BILLION, "f16", 512, 1),
    (HALF_BILLION, "f16", 4096, 4),
    (HALF_BILLION, "f16", 1024, 16),
    (HALF_BILLION, "f32", 1024, 2),
)
"""Model, weight format, context, answers at a time."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the models are converted and compiled, all of them at the same time."""
    folder = tmp_path_factory.mktemp("models")
    model = str(random_checkpoint(folder / HALF_BILLION))

    def build(name: str, quant: Quantization) -> None:
        options = LoadOptions(BUNDLED, quant=quant, target="cuda", cache_dir=str(folder / "cache"))
        build_peak_mib(options if name == BUNDLED else replace(options, model=model))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(build, *zip(*sorted({case[:2] for case in CASES}), strict=True)))
    return folder


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_a_card_holds_what_is_predicted(case: tuple[str, Quantization, int, int], folder: Path) -> None:
    name, quant, context_tokens, sequences = case
    model = name if name == BUNDLED else str(folder / name)
    record = run_case(model, quant, context_tokens, sequences, "cuda", folder)
    print(f"\n{case} {record}")
    assert abs(record["card"]["error_percent"]) <= 2, record


def test_a_context_is_given_back_where_nobody_uses_it() -> None:
    predicted_bytes = context_bytes(0)
    assert predicted_bytes is not None
    before_mib = accelerator_headroom_mib(0)
    assert before_mib is not None
    assert hold_context(0)
    within_mib = accelerator_headroom_mib(0)
    release_context(0)
    after_mib = accelerator_headroom_mib(0)
    assert within_mib is not None
    assert after_mib is not None
    # What the driver itself takes, a few MiB, stays with a process that has initialised it.
    assert before_mib - within_mib == pytest.approx(predicted_bytes / MIB, abs=8)
    assert before_mib - after_mib < 8
