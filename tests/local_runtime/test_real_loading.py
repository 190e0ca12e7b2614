"""The whole way on this machine: a checkpoint folder, the real build process, the real worker, real answers."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from local_runtime.client import LocalEngine
from local_runtime.errors import (
    ContextLengthExceededError,
    InvalidRequestError,
    LocalRuntimeError,
    OutOfMemoryError,
    TargetError,
    UnsupportedModelError,
)
from local_runtime.events import Event, Failed, Finished, TextDelta
from local_runtime.options import GenerateRequest, LoadOptions, Progress, SamplingOptions
from local_runtime.tokenizer import ChatTokenizer
from local_runtime.tvm_compat import T, tvm
from local_runtime.tvm_runtime import set_threads
from tests.local_runtime.checkpoints import llama_config, write_checkpoint
from tests.local_runtime.numpy_llama import numpy_logits
from tests.local_runtime.test_runner import ODD_ROWS, PLAINEST, SEED, rounded

GREEDY = SamplingOptions(temperature=0)


@pytest.fixture(scope="module")
def options(engine_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> LoadOptions:
    folder = write_checkpoint(tmp_path_factory.mktemp("checkpoint"), ODD_ROWS, seed=SEED)
    return LoadOptions(
        str(folder), quant="q4", target=PLAINEST, context_tokens=1400, max_sequences=6, cache_dir=str(engine_cache)
    )


@pytest.fixture(scope="module")
def engine(options: LoadOptions) -> Iterator[LocalEngine]:
    with LocalEngine(options) as engine:
        engine.start()
        yield engine
        stats = engine.stats()
        assert (stats.running, stats.waiting, stats.pages_free) == (0, 0, stats.pages_total)


def random_ids(count: int, seed: int = 0) -> list[int]:
    return [int(token) for token in np.random.RandomState(seed).randint(3, 331, size=count)]


def ask(engine: LocalEngine, prompt: list[int], max_tokens: int | None = None) -> list[Event]:
    return list(
        engine.generate(GenerateRequest(raw_token_ids=prompt, max_tokens=max_tokens, sampling=GREEDY, ignore_eos=True))
    )


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def test_a_second_start_prepares_nothing(options: LoadOptions, engine: LocalEngine) -> None:
    stages: list[str] = []
    with LocalEngine(options, on_progress=lambda progress: stages.append(progress.stage)) as second:
        info = second.start()
    assert not info.compiled
    assert set(stages) == {"resolve", "load", "ready"}
    assert info.quant == "q4"
    assert info.target == engine.info.target


@pytest.mark.parametrize("length", [1, 511, 512, 513, 1299])  # whose next tokens are whole characters
def test_prompts_of_more_than_one_chunk_are_read_whole(engine: LocalEngine, options: LoadOptions, length: int) -> None:
    prompt = random_ids(length, seed=length)
    best = int(np.argmax(numpy_logits(ODD_ROWS, rounded(ODD_ROWS, "q4"), prompt)[-1]))
    events = ask(engine, prompt, max_tokens=1)
    tokenizer = ChatTokenizer.from_folder(options.model, 331)
    assert text_of(events) == tokenizer.decode([best])
    assert isinstance(events[-1], Finished)
    assert events[-1].usage.prompt_tokens == length


@pytest.mark.parametrize(
    ("prompt", "asked", "generated"), [(1399, None, 1), (1399, 9, 1), (1390, 10, 10), (1390, 11, 10)]
)
def test_prompt_and_answer_fill_the_context_to_its_last_token(
    engine: LocalEngine, prompt: int, asked: int | None, generated: int
) -> None:
    end = ask(engine, random_ids(prompt), asked)[-1]
    assert isinstance(end, Finished)
    assert (end.reason, end.usage.completion_tokens) == ("length", generated)


@pytest.mark.parametrize("length", [1400, 1401, 5000])
def test_a_prompt_that_leaves_no_room_is_refused(engine: LocalEngine, length: int) -> None:
    (failed,) = ask(engine, random_ids(length))
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, ContextLengthExceededError)
    assert f"{length} tokens" in failed.error.message
    assert f"at least {length - 1399} tokens" in failed.error.mend


def test_a_token_beyond_the_vocabulary_is_named(engine: LocalEngine) -> None:
    (failed,) = ask(engine, [5, 330, 331])
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, InvalidRequestError)
    assert "raw_token_ids[2] is 331" in failed.error.message


def test_six_answers_at_once_are_those_of_six_alone(engine: LocalEngine) -> None:
    prompts = [random_ids(20 + 90 * number, seed=number) for number in range(6)]
    alone = [text_of(ask(engine, prompt, 24)) for prompt in prompts]
    requests = [
        GenerateRequest(raw_token_ids=prompt, max_tokens=24, sampling=GREEDY, ignore_eos=True) for prompt in prompts
    ]
    streams = [engine.generate(request) for request in requests]
    assert [text_of(list(stream)) for stream in streams] == alone


def test_in_process_gives_the_same_answer(engine: LocalEngine, options: LoadOptions) -> None:
    prompt = random_ids(60)
    with LocalEngine(options, in_process=True) as inside:
        assert inside.worker_pid is None
        assert not inside.start().compiled
        assert inside.worker_pid == os.getpid()
        assert text_of(ask(inside, prompt, 16)) == text_of(ask(engine, prompt, 16))


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two processors")
def test_kernels_run_on_as_many_threads_as_asked(options: LoadOptions) -> None:
    started = {}
    for threads in (1, 2, 3):
        with LocalEngine(
            LoadOptions(options.model, "q4", PLAINEST, threads, 256, cache_dir=options.cache_dir)
        ) as engine:
            assert f"{threads} thread" in engine.start().device
            ask(engine, random_ids(200), 4)
            started[threads] = psutil.Process(engine.worker_pid).num_threads()
    assert started[2] == started[1] + 1
    assert started[3] == started[1] + 2


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_parallel_kernel_is_shared_among_the_threads_that_were_set(threads: int) -> None:
    seen: list[int] = []

    @tvm.register_global_func("tests.local_runtime.thread", override=True)
    def record() -> None:
        seen.append(threading.get_native_id())

    @T.prim_func(s_tir=True)
    def parallel(var_x: T.handle) -> None:
        T.func_attr({"tirx.is_scheduled": True, "global_symbol": "parallel"})
        x = T.match_buffer(var_x, (8,), "float32")
        for i in T.parallel(8):
            T.evaluate(T.call_packed("tests.local_runtime.thread"))
            x[i] = T.float32(1)

    compiled = tvm.tirx.build(tvm.IRModule({"parallel": parallel}), target={"kind": "llvm"})
    allowed: list[set[int]] = []

    def run() -> None:
        set_threads(threads)
        compiled["parallel"](tvm.runtime.tensor(np.zeros(8, np.float32)))
        if hasattr(os, "sched_getaffinity"):
            allowed.append(os.sched_getaffinity(threading.get_native_id()))

    caller = threading.Thread(target=run)  # each calling thread has a pool of its own
    caller.start()
    caller.join()
    assert len(seen) == 8
    assert len(set(seen)) == threads
    assert all(processors == os.sched_getaffinity(0) for processors in allowed)  # not tied to the first ones


HEADS_24 = llama_config(hidden_size=96)
ROWS_48 = llama_config(hidden_size=48, num_attention_heads=2, num_key_value_heads=1, head_dim=16)


@pytest.mark.parametrize(
    ("config", "quant", "target", "error", "said"),
    [
        (HEADS_24, "f32", "cpu", UnsupportedModelError, "head_dim 24 is not a multiple of 16"),
        (ROWS_48, "q4", "cpu", UnsupportedModelError, "model.embed_tokens.weight has 48"),
        (ROWS_48, "f16", '{"kind": "llvm", "mcpu": "pentium9"}', TargetError, "pentium9"),
    ],
    ids=["heads", "groups", "processor"],
)
def test_what_the_kernels_cannot_serve_is_refused_before_any_work(
    config: dict[str, object], quant: str, target: str, error: type[LocalRuntimeError], said: str, tmp_path: Path
) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", config)
    stages: list[Progress] = []
    options = LoadOptions(str(folder), quant, target, cache_dir=str(tmp_path / "cache"))  # type: ignore[arg-type]
    with LocalEngine(options, on_progress=stages.append) as engine, pytest.raises(error, match=said) as caught:
        engine.start()
    assert caught.value.mend
    assert {progress.stage for progress in stages} == {"resolve"}
    assert not (tmp_path / "cache" / "weights").exists()
    assert not (tmp_path / "cache" / "artifacts").exists()


def test_a_build_that_is_killed_is_told_and_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", llama_config())

    def kill_it(progress: Progress) -> None:
        if progress.stage == "compile" and engine.worker_pid is not None:
            for child in psutil.Process(engine.worker_pid).children():
                child.send_signal(signal.SIGKILL)

    engine = LocalEngine(LoadOptions(str(folder), "f32", cache_dir=str(tmp_path / "cache")), on_progress=kill_it)
    with engine, pytest.raises(OutOfMemoryError, match="killed"):
        engine.start()
    left = [path.name for path in (tmp_path / "cache" / "artifacts").iterdir()]
    assert all(name.startswith(".") or name.endswith(".lock") for name in left)
