"""Memory: what is left, what a model is predicted to take, and what happens to a request when the two don't fit."""

from __future__ import annotations

import itertools
import json
import subprocess
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from typing import Any

import psutil
import pytest

import local_runtime.loader as loader
from local_runtime.admission import Admission
from local_runtime.build import BuildRequest
from local_runtime.child_process import python_command, python_environment
from local_runtime.compiler.compile import PREFILL_CHUNK_TOKENS
from local_runtime.engine import Engine
from local_runtime.errors import CompileError, OutOfMemoryError
from local_runtime.events import Event, Failed, Finished, TextDelta
from local_runtime.memory import Headroom, cgroup_headroom_mib
from local_runtime.memory_plan import (
    CHUNK_TOKENS,
    LEAST_CONTEXT_TOKENS,
    SPARE_MIB,
    MemoryNeeds,
    predict_needs,
    require_host_room,
    require_room_for_libraries,
    require_room_to_build,
)
from local_runtime.models.config import ModelConfig
from local_runtime.options import GenerateRequest, LoadOptions, Progress, SamplingOptions
from local_runtime.paths import model_folder
from tests.local_runtime.checkpoints import write_checkpoint
from tests.local_runtime.scripted_runner import POISON, Script, make_model, next_token
from tests.local_runtime.test_runner import ODD_ROWS, PLAINEST, SEED

MIB = 1 << 20


# ---- what is left ----


class Gauge:
    """Memory that is left as somebody says, and how often it was read."""

    def __init__(self, mib: float) -> None:
        self.mib = mib
        self.now_s = 50.0
        self.reads = 0

    def read(self) -> float:
        self.reads += 1
        return self.mib

    def headroom(self) -> Headroom:
        return Headroom(self.read, clock=lambda: self.now_s)


def test_headroom_is_read_once_a_second_and_counts_what_was_promised() -> None:
    gauge = Gauge(100)
    headroom = gauge.headroom()
    assert (headroom.mib(), headroom.covers(100 * MIB)) == (100, True)
    headroom.take(30 * MIB)
    assert (headroom.mib(), gauge.reads) == (70, 1)
    gauge.mib = 40
    gauge.now_s += 0.9
    assert headroom.mib() == 70
    gauge.now_s += 0.2
    assert (headroom.mib(), gauge.reads) == (40, 2)
    headroom.take(90 * MIB)
    assert headroom.mib() == 0


def test_no_is_said_only_after_a_fresh_look() -> None:
    gauge = Gauge(10)
    headroom = gauge.headroom()
    assert not headroom.covers(11 * MIB)
    gauge.mib = 20
    assert headroom.covers(11 * MIB)
    assert not headroom.covers(21 * MIB)
    assert gauge.reads == 4


def group(folder: Path, version: int, limit: object, usage: int, stat: str, high: object = "max") -> None:
    folder.mkdir(parents=True)
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{usage}\n")
    (folder / "memory.stat").write_text(stat)
    if version == 2:
        (folder / "memory.high").write_text(f"{high}\n")


@pytest.mark.parametrize("version", [1, 2])
def test_files_that_nobody_has_mapped_can_be_dropped(tmp_path: Path, version: int) -> None:
    membership = tmp_path / "cgroup"
    membership.write_text("0::/app\n" if version == 2 else "3:cpuset:/\n2:memory:/app\n")
    prefix, mapped = ("total_", "mapped_file") if version == 1 else ("", "file_mapped")
    stat = f"{prefix}inactive_file {30 * MIB}\n{prefix}active_file {25 * MIB}\n{prefix}{mapped} {20 * MIB}\n"
    folder = tmp_path / "fs" / ("app" if version == 2 else "memory/app")
    group(folder, version, 100 * MIB, 90 * MIB, stat)
    assert cgroup_headroom_mib(tmp_path / "fs", membership) == 100 - (90 - 35)


def test_the_limit_that_only_slows_counts_too(tmp_path: Path) -> None:
    membership = tmp_path / "cgroup"
    membership.write_text("0::/app\n")
    group(tmp_path / "fs/app", 2, "max", 10 * MIB, "", high=64 * MIB)
    assert cgroup_headroom_mib(tmp_path / "fs", membership) == 54


# ---- what a model takes ----

NEEDS = MemoryNeeds(runtime_bytes=32 * MIB, weights_bytes=100 * MIB, workspace_bytes=20 * MIB, token_bytes=1 << 14)
FIXED_MIB = 152 + SPARE_MIB


def planned(headroom_mib: float, **changes: Any) -> tuple[int, int]:
    arguments: dict[str, Any] = {
        "memory_mib": None, "context_tokens": 2048, "may_cut_context": True, "max_sequences": 4
    }  # fmt: skip
    plan = NEEDS.plan(headroom_mib=headroom_mib, **{**arguments, **changes})
    return plan.context_tokens, plan.total_tokens


def test_with_plenty_of_memory_every_sequence_has_room_at_full_length() -> None:
    assert planned(100_000) == (2048, 4 * 2048)
    assert planned(FIXED_MIB + 2 * 128.5) == (2048, 4 * 2048)  # 128.25 MiB of cache are half of what is left
    assert planned(FIXED_MIB + 2 * 128) == (2048, 4 * 2048 - 16)


def test_with_less_the_cache_shrinks_first_and_then_the_context() -> None:
    assert planned(FIXED_MIB + 100) == (2048, 3184)  # half of 100 MiB
    assert planned(FIXED_MIB + 40) == (2048, 2048)  # more than half, for one context has to fit
    context, total = planned(FIXED_MIB + 20)
    assert context == total == 20 * 64 - 16  # a page is the runtime's own
    assert planned(FIXED_MIB + 8.25) == (LEAST_CONTEXT_TOKENS, LEAST_CONTEXT_TOKENS)


def test_a_context_that_was_asked_for_is_not_cut() -> None:
    assert planned(FIXED_MIB + 40, may_cut_context=False) == (2048, 2048)
    with pytest.raises(OutOfMemoryError, match="a cache of 2048 tokens 32") as caught:
        planned(FIXED_MIB + 20, may_cut_context=False)
    assert "context_tokens of at most 1264" in caught.value.mend
    assert planned(FIXED_MIB + 20, may_cut_context=False, context_tokens=1264) == (1264, 1264)


def test_where_not_even_the_shortest_fits_the_numbers_and_the_knobs_are_named() -> None:
    with pytest.raises(OutOfMemoryError) as caught:
        planned(FIXED_MIB + 8)
    assert caught.value.message == (
        "The model needs 192 MiB (weights 100, workspace 20, a cache of 512 tokens 8, runtime and reserve 64), "
        "but 192 MiB can be taken."
    )
    with pytest.raises(OutOfMemoryError) as caught:
        planned(10)
    assert "but 10 MiB can be taken" in caught.value.message
    for knob in ("q4", "max_sequences", "more memory"):
        assert knob in caught.value.mend


def test_memory_mib_bounds_weights_cache_and_workspace_together() -> None:
    assert planned(100_000, memory_mib=120 + 2 * 129) == (2048, 4 * 2048)
    context, total = planned(100_000, memory_mib=160)
    assert (context, NEEDS.cache_bytes(total) <= 40 * MIB) == (2048, True)
    assert planned(100_000, memory_mib=129)[0] < 2048
    with pytest.raises(OutOfMemoryError, match="but memory_mib allows 128") as caught:
        planned(100_000, memory_mib=128)
    assert "a larger memory_mib" in caught.value.mend


def test_what_was_cut_is_told() -> None:
    def said(headroom_mib: float) -> str:
        plan = NEEDS.plan(
            headroom_mib=headroom_mib, memory_mib=None, context_tokens=2048, may_cut_context=True, max_sequences=4
        )
        return plan.said(2048)

    assert said(10_000) == ""
    assert said(FIXED_MIB + 100) == "memory is short: a cache of 3184 tokens instead of 8192"
    assert said(FIXED_MIB + 20).startswith("memory is short: a context of 1264 tokens instead of 2048")


def test_a_build_needs_room_too() -> None:
    require_room_to_build("cpu", 10_000)
    with pytest.raises(OutOfMemoryError, match=r"takes \d+ MiB once, but 100 MiB") as caught:
        require_room_to_build("cpu", 100)
    assert "hybridllm compile" in caught.value.mend
    require_room_for_libraries(100)
    with pytest.raises(OutOfMemoryError, match="before any model, but 5 MiB can be taken"):
        require_room_for_libraries(5)
    require_host_room("cuda", 10_000)
    with pytest.raises(OutOfMemoryError, match="but 100 MiB can be taken"):
        require_host_room("cuda", 100)


# ---- what it takes in truth ----


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"), ODD_ROWS, seed=SEED)


def test_a_chunk_is_what_models_are_compiled_for() -> None:
    assert CHUNK_TOKENS == PREFILL_CHUNK_TOKENS


def peak_mib(process: subprocess.Popen[str], finished: threading.Event) -> dict[str, float]:
    """The most that a process had of its own and of mapped files at a time, until it ends."""
    peaks = {"own": 0.0, "files": 0.0}
    watched = psutil.Process(process.pid)
    while not finished.is_set():
        try:
            memory = watched.memory_info()
        except psutil.NoSuchProcess:
            break
        files_mib = getattr(memory, "shared", 0) / MIB
        peaks["own"] = max(peaks["own"], memory.rss / MIB - files_mib)
        peaks["files"] = max(peaks["files"], files_mib)
        finished.wait(0.01)
    return peaks


@pytest.fixture(scope="module")
def built(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """A cache folder that a build process of its own has filled, and what memory that took."""
    cache = tmp_path_factory.mktemp("cache")
    environment = {name: value for name, value in python_environment().items() if name != "TVM_USE_RUNTIME_LIB"}
    process = subprocess.Popen(
        python_command("local_runtime.build"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        text=True,
    )
    finished = threading.Event()
    peaks: dict[str, float] = {}
    watcher = threading.Thread(target=lambda: peaks.update(peak_mib(process, finished)))
    watcher.start()
    told, _ = process.communicate(json.dumps(asdict(BuildRequest(str(tiny), "q4", PLAINEST, str(cache)))))
    finished.set()
    watcher.join()
    assert '"done"' in told
    return cache, peaks


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_DATA"), reason="memory of its own and of files is told apart on Linux")
def test_a_build_stays_within_what_is_predicted(built: tuple[Path, dict[str, float]]) -> None:
    _, peaks = built
    with pytest.raises(OutOfMemoryError) as caught:
        require_room_to_build("cpu", 0)
    needed_mib = int(caught.value.message.split(" MiB once")[0].split()[-1])
    assert 60 < peaks["own"] <= needed_mib - 100  # a part of the compiler's code has to fit beside it
    assert peaks["files"] > 100


def test_the_prediction_for_the_bundled_model_is_that_of_its_shape() -> None:
    config = ModelConfig.from_folder(model_folder("kiosk-assistant"))
    needs = predict_needs(config, target_kind="cpu", quant="f16", weights_bytes=1, context_tokens=2048, max_sequences=4)
    assert needs.token_bytes == 2 * config.num_layers * config.num_kv_heads * config.head_dim * 4
    on_card = predict_needs(
        config, target_kind="cuda", quant="f16", weights_bytes=1, context_tokens=2048, max_sequences=4
    )
    assert on_card.token_bytes == needs.token_bytes // 2
    assert (
        on_card.workspace_bytes - 128 * MIB < needs.workspace_bytes
    )  # a table of page numbers that a processor never fills


# ---- steps ----


def admission(gauge: Gauge, *, page_bytes: int = MIB, workspace_bytes: int = 8 * MIB) -> Admission:
    return Admission(gauge.headroom(), page_bytes=page_bytes, workspace_bytes=workspace_bytes, chunk_tokens=64)


def test_only_pages_that_were_never_in_use_take_memory() -> None:
    gauge = Gauge(100)
    watch = admission(gauge)
    assert watch.shortage(80) is None  # 80 pages, the workspace, and a reserve of 8
    refused = watch.shortage(85)
    assert refused is not None
    assert "need 93 MiB more for keys and values and 8 in reserve, but 100 MiB" in refused.message
    assert "max_tokens" in refused.mend
    watch.require_step(50, 64)
    gauge.mib = 10
    gauge.now_s += 5
    assert watch.shortage(50) is None  # all of it was in use once
    assert watch.shortage(52) is None
    assert watch.shortage(53) is not None
    watch.require_step(50, 64)


def test_a_step_that_finds_its_memory_gone_is_not_computed() -> None:
    gauge = Gauge(30)
    watch = admission(gauge)
    watch.require_step(10, 32)  # 10 pages and half of the workspace
    watch.require_step(20, 32)
    gauge.mib = 6
    with pytest.raises(OutOfMemoryError, match="tokens need: 8 MiB, but 6 MiB can be taken"):
        watch.require_step(28, 1)
    gauge.mib = 40
    watch.require_step(28, 1)
    gauge.mib = 0
    gauge.now_s += 5
    watch.require_step(28, 32)  # touches nothing new


@pytest.fixture
def limited(tiny: Path, built: tuple[Path, dict[str, float]], monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Gauge]:
    """A real runner whose memory is a gauge's, and whose pages are a MiB each for it."""
    options = LoadOptions(str(tiny), "q4", PLAINEST, context_tokens=96, cache_dir=str(built[0]))
    runner = loader.load(options, lambda _: None).runner
    gauge = Gauge(1000)
    monkeypatch.setattr(runner, "_admission", admission(gauge, workspace_bytes=0))
    return runner, gauge


def test_a_real_step_is_refused_before_it_touches_memory_that_is_gone(limited: tuple[Any, Gauge]) -> None:
    runner, gauge = limited
    free = runner.available_pages()
    runner.add_sequence(0)
    runner.prefill(0, [3] * 30)  # two pages
    gauge.mib = 1.0
    gauge.now_s += 5
    assert runner.shortage(2) is None
    assert isinstance(runner.shortage(3), OutOfMemoryError)
    assert runner.headroom_mib == 1.0
    runner.decode([0], [5])
    runner.decode([0], [5])  # the thirty-second token
    with pytest.raises(OutOfMemoryError, match="Another program"):
        runner.decode([0], [5])
    runner.remove_sequence(0)
    runner.add_sequence(1)
    runner.prefill(1, [3] * 32)  # the same pages again
    with pytest.raises(OutOfMemoryError):
        runner.fork_sequence(1, 2, 17)
    runner.fork_sequence(1, 2, 16)
    with pytest.raises(OutOfMemoryError):
        runner.prefill(2, [3])
    gauge.mib = 1000
    runner.remove_sequence(2)
    runner.fork_sequence(1, 2, 17)
    runner.remove_sequence(1)
    runner.remove_sequence(2)
    assert runner.available_pages() == free


# ---- loading ----


def load_with(
    monkeypatch: pytest.MonkeyPatch, headroom_mib: float, options: LoadOptions
) -> tuple[loader.LoadedModel, list[str]]:
    monkeypatch.setattr(loader, "system_headroom_mib", lambda: headroom_mib)
    said: list[Progress] = []
    model = loader.load(options, said.append)
    return model, [progress.detail for progress in said]


def test_a_model_is_loaded_with_as_much_cache_as_there_is_memory(
    tiny: Path, built: tuple[Path, dict[str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = LoadOptions(str(tiny), "q4", PLAINEST, cache_dir=str(built[0]), max_sequences=4)
    model, said = load_with(monkeypatch, 10_000, options)
    assert (model.info.context_tokens, model.runner.total_pages) == (2048, 4 * 128 + 1)
    assert not any("memory is short" in detail for detail in said)
    assert model.runner.headroom_mib is not None
    needs = predict_needs(
        ModelConfig.from_folder(tiny),
        target_kind="cpu",
        quant="q4",
        weights_bytes=int(model.info.weights_mib * MIB),
        context_tokens=2048,
        max_sequences=4,
    )
    model.runner.close()
    fixed_bytes = needs.runtime_bytes + needs.weights_bytes + needs.workspace_bytes
    # The weights' file is longer by what aligns its parts.
    headroom_mib = SPARE_MIB + (fixed_bytes + needs.cache_bytes(1200)) / MIB
    model, said = load_with(monkeypatch, headroom_mib, options)
    assert LEAST_CONTEXT_TOKENS <= model.info.context_tokens <= 1200
    assert model.runner.context_tokens == model.info.context_tokens
    assert any(f"a context of {model.info.context_tokens} tokens instead of 2048" in detail for detail in said)
    model.runner.add_sequence(0)
    model.runner.prefill(0, [5] * LEAST_CONTEXT_TOKENS)
    model.runner.remove_sequence(0)
    model.runner.close()
    with pytest.raises(OutOfMemoryError, match="The model needs"):
        load_with(monkeypatch, 40, options)
    with pytest.raises(OutOfMemoryError, match="memory_mib allows 1"):
        load_with(monkeypatch, 10_000, replace(options, memory_mib=1))


def test_a_first_start_with_too_little_memory_prepares_nothing(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = LoadOptions(str(tiny), "q4", PLAINEST, cache_dir=str(tmp_path / "cache"))
    for headroom_mib, said in ((40, "The model needs"), (200, "Preparing the model")):
        with pytest.raises(OutOfMemoryError, match=said):
            load_with(monkeypatch, headroom_mib, options)
        assert not (tmp_path / "cache" / "artifacts").exists()


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_DATA"), reason="memory of a process is limited on Linux only")
@pytest.mark.parametrize("limit_mib", [60, 110])
def test_a_build_that_is_refused_memory_says_so(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit_mib: int
) -> None:
    def limit(pid: int) -> int:
        psutil.Process(pid).rlimit(psutil.RLIMIT_DATA, (limit_mib * MIB, limit_mib * MIB))
        return limit_mib * MIB

    monkeypatch.setattr(loader, "_limit_memory", limit)
    with pytest.raises(OutOfMemoryError) as caught:
        loader.load(LoadOptions(str(tiny), "q4", "cpu", cache_dir=str(tmp_path)), lambda _: None)
    assert caught.value.mend
    assert not isinstance(caught.value, CompileError)


# ---- requests ----


def ask(engine: Engine, request_id: int, prompt: list[int], max_tokens: int | None = None) -> list[Event]:
    """Submit a request; the list that its events come to."""
    events: list[Event] = []
    request = GenerateRequest(
        raw_token_ids=prompt, max_tokens=max_tokens, sampling=SamplingOptions(temperature=0), ignore_eos=True
    )
    engine.submit(request_id, request, events.append)
    return events


def run(engine: Engine, most_steps: int = 5000) -> None:
    for _ in range(most_steps):
        if not engine.has_work:
            return
        engine.step()
    raise AssertionError("the engine does not come to an end")


def test_answers_without_a_limit_run_together_and_lose_nothing_when_one_has_to_wait(tmp_path: Path) -> None:
    script = Script(total_pages=40, page_tokens=16, context_tokens=640, prefill_chunk_tokens=128)
    engine = Engine(make_model(script, tmp_path))
    prompts = [[number + 1] * 30 for number in range(2)]
    both = [ask(engine, number, prompt) for number, prompt in enumerate(prompts)]
    for _ in range(50):
        engine.step()
    assert engine.stats().running == 2
    run(engine)
    for prompt, events in zip(prompts, both, strict=True):
        said = [token for event in events if isinstance(event, TextDelta) for token in event.ids]
        tokens = list(prompt)
        while len(tokens) < 640:
            tokens.append(next_token(tokens))
        assert said == tokens[30:]
        assert isinstance(events[-1], Finished)
        assert events[-1].reason == "length"
    assert engine._scheduler.evicted_total == 1
    assert engine.stats().pages_free == 40
    engine.close()


def test_a_request_that_finds_no_memory_waits_for_others_or_is_refused(tmp_path: Path) -> None:
    model = make_model(Script(total_pages=40, page_tokens=4), tmp_path)
    memory_pages = 12

    def shortage(pages: int) -> OutOfMemoryError | None:
        return OutOfMemoryError(f"no memory for {pages} pages", "Ask for less.") if pages > memory_pages else None

    vars(model.runner)["shortage"] = shortage
    engine = Engine(model)
    first, second, large = ask(engine, 0, [1] * 30, 10), ask(engine, 1, [2] * 30, 10), ask(engine, 2, [3] * 60, 10)
    engine.step()
    stats = engine.stats()
    assert (stats.running, stats.waiting) == (1, 2)
    run(engine)
    assert isinstance(first[-1], Finished)
    assert isinstance(second[-1], Finished)
    (failed,) = large
    assert isinstance(failed, Failed)
    assert (failed.error.code, failed.error.message) == ("out_of_memory", "no memory for 18 pages")
    engine.close()


# ---- ten thousand requests ----


def test_ten_thousand_random_starts_steps_and_cancels_leak_nothing(tmp_path: Path) -> None:
    random = Random(5)
    model = make_model(Script(total_pages=40, page_tokens=4, max_sequences=5, context_tokens=120), tmp_path)
    engine = Engine(model)
    ids = itertools.count()
    open_requests: set[int] = set()
    ends: dict[int, list[Event]] = {}

    def start() -> None:
        request_id = next(ids)
        open_requests.add(request_id)
        ends[request_id] = []

        def emit(event: Event) -> None:
            if isinstance(event, Finished | Failed):
                ends[request_id].append(event)
                open_requests.discard(request_id)

        prompt = [random.randrange(256) for _ in range(random.choice([1, 3, 20, 60, 119, 130]))]
        if random.random() < 0.05:
            prompt[0] = POISON
        request = GenerateRequest(
            raw_token_ids=prompt,
            max_tokens=random.choice([1, 2, 8, 30, None]),
            sampling=SamplingOptions(temperature=0),
            conversation=random.choice(["", "a", "b", "c"]),
        )
        engine.submit(request_id, request, emit)

    for _ in range(10_000):
        kind = random.choice(["start", "cancel", "step", "step", "step", "step"])
        if kind == "start" and len(open_requests) < 40:
            start()
        elif kind == "cancel" and open_requests:
            assert engine.cancel(random.choice(sorted(open_requests)))
        else:
            engine.step()
        stats = engine.stats()
        assert stats.running + stats.waiting == len(open_requests)
    deadline = time.monotonic() + 120
    while engine.has_work:
        engine.step()
        assert time.monotonic() < deadline
    stats = engine.stats()
    assert (stats.running, stats.waiting, stats.pages_free) == (0, 0, stats.pages_total)
    assert len(ends) > 1000
    assert all(len(events) == 1 for events in ends.values())
    assert not open_requests
    engine.close()
