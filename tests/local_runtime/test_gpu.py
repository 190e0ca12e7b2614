"""The same numbers on a CUDA device. Skipped by name where none answers; compiling for one is tested wherever nvcc is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from local_runtime.engine import Engine
from local_runtime.models.config import ModelConfig
from local_runtime.options import GenerateRequest, ModelInfo, SamplingOptions
from local_runtime.state_file import read_state, write_state
from local_runtime.target import ResolvedTarget, cuda_devices
from local_runtime.tokenizer import ChatTokenizer
from tests.local_runtime.parity_cases import DECODE_COLUMN_STRIDE, PARITY_CASES, ParityCase, load_references
from tests.local_runtime.scripted_runner import write_tokenizer
from tests.local_runtime.test_prefix_cache_real import (
    CONFIG,
    CONTEXT_TOKENS,
    SEED,
    VOCAB_SIZE,
    Asked,
    RealModel,
    alone_after,
)
from tests.local_runtime.test_speculation_real import Counted, answer

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


@pytest.mark.gpu
@needs_cuda
def test_guesses_are_scored_and_taken_back_on_the_gpu(open_runner: Callable[..., Any]) -> None:
    case = PARITY_CASES[0]
    runner, forced = open_runner(case.config, case.seed, "f32", target="cuda"), case.forced_ids()[:6]
    runner.add_sequence(3)
    runner.prefill(3, case.prompt_ids())
    scored = runner.score(3, forced)
    runner.pop(3, len(forced))
    steps = np.stack([runner.decode([3], [token])[0] for token in forced])
    np.testing.assert_allclose(scored, steps, atol=1e-4, rtol=0)
    runner.pop(3, 2)
    np.testing.assert_allclose(runner.score(3, forced[-2:]), steps[-2:], atol=1e-4, rtol=0)
    runner.remove_sequence(3)
    assert runner.available_pages() == runner.total_pages


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("at_tokens", [16, 37, 40])
def test_a_fork_on_the_gpu_goes_on_as_its_parent_would(open_runner: Callable[..., Any], at_tokens: int) -> None:
    case = PARITY_CASES[0]
    runner, reference = open_runner(case.config, case.seed, "f32", target="cuda"), REFERENCES[case.name]
    ids, forced = case.prompt_ids(), case.forced_ids()
    runner.add_sequence(0)
    runner.prefill(0, ids)
    runner.fork_sequence(0, 1, at_tokens)
    if at_tokens < len(ids):
        last = runner.prefill(1, ids[at_tokens:])
        assert np.abs(last - reference.prefill_logits).max() <= 1e-4
    runner.add_sequence(2)
    # A decode of both and the beginning of a third in one step, which reads what the two share once for each.
    mixed = runner.decode_with_chunk([0, 1], [forced[0]] * 2, 2, ids[:5])
    assert np.abs(mixed[:2, ::DECODE_COLUMN_STRIDE] - reference.decode_logits[0]).max() <= 1e-4
    both = runner.decode([1, 0], [forced[1]] * 2)
    assert np.abs(both[:, ::DECODE_COLUMN_STRIDE] - reference.decode_logits[1]).max() <= 1e-4
    for sequence in (0, 2, 1):
        runner.remove_sequence(sequence)
    assert runner.available_pages() == runner.total_pages


@pytest.fixture
def on_gpu(open_runner: Callable[..., Any], tmp_path: Path) -> RealModel:
    """A model on the GPU that an engine can answer with; its cache has room for 17 pages."""
    runner = open_runner(
        CONFIG, SEED, "f32", target="cuda", context_tokens=CONTEXT_TOKENS, max_sequences=4, total_tokens=256
    )
    folder = write_tokenizer(tmp_path)
    info = ModelInfo(
        name="small",
        path=str(folder),
        model_type="llama",
        quant="f32",
        target="cuda",
        device="cuda",
        context_tokens=CONTEXT_TOKENS,
        vocab_size=VOCAB_SIZE,
        parameters=0,
        weights_mib=0.0,
        kv_mib=0.0,
        load_s=0.0,
        compiled=False,
    )
    return RealModel(runner, ChatTokenizer.from_folder(folder, VOCAB_SIZE), info, SamplingOptions())


@pytest.mark.gpu
@needs_cuda
def test_the_prefix_cache_on_the_gpu_changes_no_answer(on_gpu: RealModel) -> None:
    random = np.random.RandomState(5)
    system = random.randint(0, VOCAB_SIZE, size=37).tolist()  # parts in mid-page
    prompts = [[*system, *random.randint(0, VOCAB_SIZE, size=3 + number).tolist()] for number in range(4)]
    asked = Asked(on_gpu, prefix_cache=True)
    for prompt in prompts:
        asked.submit(prompt, 9)
    asked.run()
    turns = [[*prompt, *asked.said(number), 7, 8, 9] for number, prompt in enumerate(prompts)]
    for turn in turns:
        asked.submit(turn, 9)
    asked.run()
    assert [asked.cached(number) for number in range(8)] == [0, 37, 37, 37, *(len(prompt) + 8 for prompt in prompts)]
    for number, prompt in enumerate([*prompts, *turns]):
        assert asked.said(number) == alone_after(asked, on_gpu, prompt)
    asked.end()


@pytest.mark.gpu
@needs_cuda
def test_guesses_on_the_gpu_change_no_answer(on_gpu: RealModel, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(on_gpu, monkeypatch)
    plain, guessing = (Engine(on_gpu, prefix_cache=False, speculate=speculate) for speculate in (False, True))
    draw = np.random.RandomState(11)
    for _ in range(12):
        ids = draw.randint(3, VOCAB_SIZE, size=draw.randint(4, 14)).tolist() * 3
        request = GenerateRequest(
            raw_token_ids=ids, max_tokens=40, sampling=SamplingOptions(temperature=0), ignore_eos=True
        )
        assert answer(plain, request) == answer(guessing, request)
    assert counted.passes > 0


@pytest.mark.gpu
@needs_cuda
def test_a_windowed_model_shares_no_pages_on_the_gpu(open_runner: Callable[..., Any]) -> None:
    (case,) = [case for case in PARITY_CASES if case.name == "mistral-window"]
    runner = open_runner(case.config, case.seed, "f32", target="cuda")
    assert not runner.can_share
    assert runner.prefill_chunk_tokens <= case.config["sliding_window"]
    assert runner.score_tokens <= case.config["sliding_window"]


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


def test_whole_turns_are_taken_off_exactly() -> None:
    """The arithmetic of the kernels, in float32, against float64: no more is lost than the angle itself had."""
    from local_runtime.compiler.angles import TURN_PARTS, TURNS_PER_RADIAN

    angles = np.concatenate([np.linspace(-7, 7, 999), np.random.default_rng(3).uniform(0, 131072, 9999)]).astype(
        np.float32
    )
    high, low = (np.float32(part) for part in TURN_PARTS)
    turns = np.floor(angles * np.float32(TURNS_PER_RADIAN) + np.float32(0.5))
    rest = angles - turns * high - turns * low
    assert rest.dtype == np.float32
    assert np.abs(rest).max() < 3.2
    np.testing.assert_allclose(np.sin(rest.astype(np.float64)), np.sin(angles.astype(np.float64)), atol=3e-6)


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
