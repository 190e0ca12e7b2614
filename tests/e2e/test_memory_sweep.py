"""The bundled model's engine in a memory cgroup, from plenty down to nearly nothing: it answers right or says what it lacks, and the
kernel never has to kill it. ``-s`` shows the table."""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from local_runtime.client import LocalEngine
from local_runtime.errors import OutOfMemoryError
from local_runtime.events import Event, Failed, Finished, TextDelta
from local_runtime.options import GenerateRequest, LoadOptions, ModelInfo, Progress, SamplingOptions
from local_runtime.transport import default_worker_command
from tests.e2e.memory_group import MemoryGroup, NoGroupError, forget_files, memory_group
from tests.engine_cache import ENGINE_CACHE, ROOT

pytestmark = pytest.mark.slow

SHEET = (ROOT / "examples" / "fact_sheets" / "museum.md").read_text(encoding="utf-8")
QUESTION = GenerateRequest(
    messages=[{"role": "system", "content": SHEET}, {"role": "user", "content": "When do you open on Sunday?"}],
    max_tokens=80,
    sampling=SamplingOptions(temperature=0),
)
RIGHT = "9:00 to 18:00"
WARM_MIB = (
    1500,
    800,
    500,
    420,
    380,
    340,
    300,
    270,
    240,
    220,
    200,
    190,
    180,
    170,
    165,
    160,
    155,
    150,
    140,
    120,
    100,
    80,
    60,
    40,
)
FIRST_START_MIB = (1500, 500, 380, 320, 290, 270, 260, 250, 220, 180, 140, 100, 60, 40)
LIBRARIES = ("tvm", "tvm_ffi", "tvm_ffi_orcjit", "numpy", "tokenizers", "safetensors")
# Takes what its cgroup has left but for some MiB, says so, and keeps it until its input ends.
HOG = """
import sys
from local_runtime.memory import cgroup_headroom_mib
taken = []
while (left := cgroup_headroom_mib()) > float(sys.argv[1]):
    taken.append(bytearray(b"x") * max(1 << 16, int((left - float(sys.argv[1])) * (1 << 19))))
print(left, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module", autouse=True)
def groups() -> None:
    try:
        with memory_group(64):
            pass
    except NoGroupError as error:
        pytest.skip(f"no memory cgroup: {error}")


@pytest.fixture(scope="module")
def warm_cache() -> Path:
    with LocalEngine(options(ENGINE_CACHE)) as engine:
        engine.start()
    return ENGINE_CACHE


def options(cache: Path) -> LoadOptions:
    return LoadOptions("kiosk-assistant", target="cpu", cache_dir=str(cache))


def forget_what_is_read(cache: Path) -> None:
    """A machine that has just started has none of these in memory, and the group pays for them."""
    found = (importlib.util.find_spec(name) for name in LIBRARIES)
    folders = [Path(place) for spec in found if spec is not None for place in spec.submodule_search_locations or ()]
    forget_files(*folders, cache)


@dataclass
class Step:
    """What became of one start within a limit."""

    limit_mib: int
    peak_mib: float
    start_s: float
    answered: bool
    said: str


def fill(engine: LocalEngine, info: ModelInfo, requests: int = 4, first_token: int = 7) -> list[Event]:
    """As many and as long requests at once as can be answered, none of which begins like another; their last events."""
    streams = [
        engine.generate(
            GenerateRequest(
                raw_token_ids=[first_token + number] * (info.context_tokens - 16),
                max_tokens=16,
                ignore_eos=True,
                sampling=SamplingOptions(temperature=0),
            )
        )
        for number in range(requests)
    ]
    return [list(stream)[-1] for stream in streams]


def answer(engine: LocalEngine) -> str:
    events = list(engine.generate(QUESTION))
    if isinstance(events[-1], Failed):
        raise events[-1].error
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def started_within(limit_mib: int, cache: Path) -> Step:
    forget_what_is_read(cache)
    said: list[Progress] = []
    with memory_group(limit_mib) as group:
        began = time.monotonic()
        command = group.command(default_worker_command())
        with LocalEngine(options(cache), on_progress=said.append, worker_command=command) as engine:
            try:
                info = engine.start()
                start_s = time.monotonic() - began
                assert RIGHT in answer(engine)
                ends = fill(engine, info)
                assert all(isinstance(end, Finished) and end.reason == "length" for end in ends), ends
                assert RIGHT in answer(engine)
                assert engine.stats().restarts == 0
            except OutOfMemoryError as error:
                outcome = Step(limit_mib, 0.0, time.monotonic() - began, answered=False, said=str(error))
            else:
                short = next((one.detail for one in said if "memory is short" in one.detail), "")
                text = f"context {info.context_tokens}, cache {info.kv_mib:.0f} MiB. {short}"
                outcome = Step(limit_mib, 0.0, start_s, answered=True, said=text)
        assert group.kills == 0
        outcome.peak_mib = group.peak_mib
    return outcome


def show(title: str, steps: list[Step]) -> None:
    print(f"\n{title}\n| limit MiB | peak MiB | start s | | |\n|---|---|---|---|---|")
    for step in steps:
        outcome = "answers" if step.answered else "refuses"
        print(
            f"| {step.limit_mib} | {step.peak_mib:.0f} | {step.start_s:.1f} | {outcome} | {step.said.split('Use ')[0]} |"
        )


def check(steps: list[Step]) -> None:
    answered = [step.limit_mib for step in steps if step.answered]
    refused = [step.limit_mib for step in steps if not step.answered]
    assert answered[0] == steps[0].limit_mib
    assert refused[-1] == steps[-1].limit_mib
    assert min(answered) > max(refused)


def test_a_prepared_model_answers_or_says_what_it_lacks(warm_cache: Path) -> None:
    steps = [started_within(limit_mib, warm_cache) for limit_mib in WARM_MIB]
    show("prepared before", steps)
    check(steps)
    assert any("a cache of" in step.said for step in steps if step.answered)
    assert any("a context of" in step.said for step in steps if step.answered)


def test_a_first_start_answers_or_says_what_it_lacks(tmp_path: Path) -> None:
    steps = [started_within(limit_mib, tmp_path / f"cache-{limit_mib}") for limit_mib in FIRST_START_MIB]
    show("first start", steps)
    check(steps)
    assert any("Preparing the model" in step.said for step in steps)


@contextlib.contextmanager
def hog(group: MemoryGroup, leave_mib: int) -> Iterator[None]:
    """Another program in the same group, which takes all but so many MiB until it is let go."""
    command = group.command([sys.executable, "-c", HOG, str(leave_mib)])
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert float(process.stdout.readline()) <= leave_mib
        yield
        process.communicate()
    assert process.returncode == 0


@pytest.fixture
def shared(warm_cache: Path) -> Iterator[tuple[MemoryGroup, LocalEngine, ModelInfo]]:
    """A group with room for a full cache, and an engine in it that has answered a question."""
    forget_what_is_read(warm_cache)
    with memory_group(400) as group:
        command = group.command(default_worker_command())
        with LocalEngine(options(warm_cache), worker_command=command) as engine:
            info = engine.start()
            assert RIGHT in answer(engine)
            yield group, engine, info
            assert RIGHT in answer(engine)
            stats = engine.stats()
            assert (group.kills, stats.restarts, stats.pages_free) == (0, 0, stats.pages_total)


def test_a_program_that_takes_the_rest_costs_answers_but_no_process(
    shared: tuple[MemoryGroup, LocalEngine, ModelInfo],
) -> None:
    group, engine, info = shared
    with hog(group, leave_mib=14):
        ends = fill(engine, info)
    errors = [end.error for end in ends if isinstance(end, Failed)]
    assert len(errors) == len(ends)
    assert all(isinstance(error, OutOfMemoryError) for error in errors)
    assert all(isinstance(end, Finished) for end in fill(engine, info))


def test_answers_wait_for_each_others_pages_where_there_is_no_memory_for_more(
    shared: tuple[MemoryGroup, LocalEngine, ModelInfo],
) -> None:
    group, engine, info = shared
    assert isinstance(fill(engine, info, requests=1, first_token=20)[0], Finished)
    with hog(group, leave_mib=14):
        time.sleep(1.1)  # what is left is read once a second
        ends = fill(engine, info)
    assert all(isinstance(end, Finished) for end in ends), ends
    queued_s = sorted(end.timings.queue_s for end in ends if isinstance(end, Finished))
    assert queued_s[1] > 0.1  # one after the other
