"""The same numbers on a CUDA device. Skipped by name where none answers; compiling for one is tested wherever nvcc is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from local_runtime.models.config import ModelConfig
from local_runtime.target import ResolvedTarget, cuda_devices
from tests.local_runtime.parity_cases import DECODE_COLUMN_STRIDE, PARITY_CASES, ParityCase, load_references

REFERENCES = load_references()
needs_cuda = pytest.mark.skipif(not cuda_devices(), reason="no CUDA device answers on this machine")
SM_90 = {
    "kind": "cuda",
    "arch": "sm_90",
    "max_threads_per_block": 1024,
    "max_shared_memory_per_block": 49152,
    "thread_warp_size": 32,
}


def logits_of(runner: Any, case: ParityCase) -> tuple[np.ndarray, np.ndarray]:
    runner.add_sequence(0)
    try:
        prefill = runner.prefill(0, case.prompt_ids())
        steps = [runner.decode([0], [token])[0] for token in case.forced_ids()]
    finally:
        runner.remove_sequence(0)
    return prefill, np.stack(steps)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("case", PARITY_CASES, ids=lambda case: case.name)
def test_f32_on_the_gpu_matches_the_reference(case: ParityCase, open_runner: Callable[..., Any]) -> None:
    prefill, steps = logits_of(open_runner(case.config, case.seed, "f32", target="cuda"), case)
    reference = REFERENCES[case.name]
    assert np.abs(prefill - reference.prefill_logits).max() <= 1e-4
    assert np.abs(steps[:, ::DECODE_COLUMN_STRIDE] - reference.decode_logits).max() <= 1e-4


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("quant", ["f16", "q4"])
@pytest.mark.parametrize("case", PARITY_CASES[1::2], ids=lambda case: case.name)
def test_the_gpu_agrees_with_the_cpu(case: ParityCase, quant: str, open_runner: Callable[..., Any]) -> None:
    on_gpu = logits_of(open_runner(case.config, case.seed, quant, target="cuda"), case)
    on_cpu = logits_of(open_runner(case.config, case.seed, quant), case)
    for gpu, cpu in zip(on_gpu, on_cpu, strict=True):
        # Activations are float16 there (11 bits: 5e-4 a rounding, a few dozen roundings deep) and float32 here.
        assert np.linalg.norm(gpu - cpu) <= 0.01 * np.linalg.norm(cpu)


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed, and TVM needs it to emit CUDA code")
def test_a_model_compiles_for_another_machines_gpu(tmp_path: Path) -> None:
    from local_runtime.compiler.compile import compile_model

    # As many key heads as query heads, and narrow ones: the hardest for TVM's attention kernels to lay out.
    (case,) = [case for case in PARITY_CASES if case.name == "llama-mha-tied"]
    config = ModelConfig.from_dict(case.config)
    steps: list[float] = []
    program = compile_model(
        config, "q4", ResolvedTarget("cuda", 0, "H100", SM_90), tmp_path, lambda done, _: steps.append(done)
    )
    assert sorted(program["objects"]) == ["model.o", "program.o"]
    assert all((tmp_path / name).stat().st_size > 1000 for name in program["objects"])
    assert steps == sorted(steps)
    assert steps[-1] == 1.0
