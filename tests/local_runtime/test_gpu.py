"""The same numbers on a CUDA device. Skipped by name where none answers; compiling for one is tested wherever nvcc is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from local_runtime.models.config import ModelConfig
from local_runtime.state_file import read_state, write_state
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
        ids, chunk = case.prompt_ids(), runner.prefill_chunk_tokens  # with a sliding window, no longer than that
        for start in range(0, len(ids), chunk):
            prefill = runner.prefill(0, ids[start : start + chunk])
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


@pytest.mark.gpu
@needs_cuda
def test_a_state_saved_on_the_gpu_goes_on_bit_for_bit(open_runner: Callable[..., Any], tmp_path: Path) -> None:
    case = PARITY_CASES[0]
    runner, ids = open_runner(case.config, case.seed, "f16", target="cuda"), case.prompt_ids()
    for other in (5, 0):
        runner.add_sequence(other)
        runner.prefill(other, ids[:10])
    runner.prefill(5, ids[:20])
    runner.prefill(0, ids[10:32])
    path = tmp_path / "state.kv"
    write_state(path, runner.state_identity, runner.state_shape, ids[:32], runner.read_pages(0, 32))
    expected = runner.prefill(0, ids[32:])
    runner.remove_sequence(0)
    state = read_state(path, runner.state_identity, runner.state_shape, runner.total_pages)
    runner.restore_sequence(1, state.layers)
    np.testing.assert_array_equal(runner.prefill(1, ids[32:]), expected)
    for sequence in (1, 5):
        runner.remove_sequence(sequence)


@pytest.mark.parametrize("case", PARITY_CASES, ids=lambda case: case.name)
def test_the_gpu_s_cache_turns_by_the_reference_s_angles(case: ParityCase) -> None:
    """TVM's rotary kernel, given what the GPU's cache gives it, but built for this processor."""
    import tvm
    from tvm.relax.frontend.nn.llm.position_embedding import llama_rope_with_position_map

    from local_runtime.kernels.gpu.ops import rope_arguments

    config = ModelConfig.from_dict(case.config)
    size, half, heads = config.head_dim, config.head_dim // 2, config.num_heads + 2 * config.num_kv_heads
    scale, scaling = rope_arguments(config.rope)
    kernel = llama_rope_with_position_map(
        config.rope.theta, scale, size, config.num_heads, config.num_kv_heads, "float32", scaling, size
    )
    rotate = tvm.compile(tvm.IRModule({"main": kernel.with_attr("global_symbol", "main")}), target={"kind": "llvm"})[
        "main"
    ]
    positions = np.array([0, 1, 7, 100, 1500], dtype=np.int32)
    x = np.random.default_rng(5).normal(size=(len(positions), heads, size)).astype(np.float32)
    shapes = [(len(positions), count, size) for count in (config.num_heads, config.num_kv_heads, config.num_kv_heads)]
    q, k, v = (tvm.runtime.tensor(np.full(shape, np.nan, dtype=np.float32)) for shape in shapes)
    rotate(tvm.runtime.tensor(x), tvm.runtime.tensor(positions), q, k, v, 1)

    angles = positions[:, None, None] * REFERENCES[case.name].inverse_frequencies.astype(np.float64)
    cos, sin = np.concatenate([np.cos(angles)] * 2, -1), np.concatenate([np.sin(angles)] * 2, -1)
    expected = x * cos + np.concatenate([-x[..., half:], x[..., :half]], -1) * sin
    got = np.concatenate([part.numpy() for part in (q, k)], axis=1)
    np.testing.assert_allclose(
        got, expected[:, : -config.num_kv_heads], atol=2e-3
    )  # float32 angles up to 1,500 radians
    assert (v.numpy() == x[:, -config.num_kv_heads :]).all()


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
