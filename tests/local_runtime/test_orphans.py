"""An application that is killed without a word leaves no process behind, whatever its engine was doing."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from local_runtime.child_process import parent_variable
from local_runtime.client import LocalEngine
from local_runtime.options import GenerateRequest, LoadOptions, Progress
from tests.local_runtime.checkpoints import llama_config, write_checkpoint
from tests.local_runtime.dying_worker import COMMAND, Life, Plan
from tests.local_runtime.scripted_runner import Script

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's part in it is Linux's")

ROOT = Path(__file__).parents[2]
SCRIPTED = [sys.executable, str(Path(__file__).with_name("scripted_runner.py"))]
GONE_S = 15.0
"""An upper bound for machines that are slow and busy; it takes some milliseconds."""

Start = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Run a program as a user would write it."""
    started: list[subprocess.Popen[str]] = []

    def run(body: str) -> subprocess.Popen[str]:
        program = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{textwrap.dedent(body)}"
        started.append(subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield run
    for application in started:
        application.kill()
        application.wait()
        assert application.stdout is not None
        application.stdout.close()


def engine(plan: Plan) -> str:
    return f"""
import os, threading, time
from local_runtime.client import LocalEngine, LoadOptions, GenerateRequest
engine = LocalEngine(LoadOptions({plan.options().model!r}), worker_command={COMMAND!r})
"""


def told(application: subprocess.Popen[str]) -> psutil.Process:
    """The process whose number the application prints next."""
    assert application.stdout is not None
    return psutil.Process(int(application.stdout.readline()))


def all_gone(processes: list[psutil.Process]) -> bool:
    """Whether they have ended; one that nobody has waited for counts as ended."""

    def gone(process: psutil.Process) -> bool:
        try:
            return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    deadline = time.monotonic() + GONE_S
    while not all(map(gone, processes)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


ASK = """
stream = engine.generate(GenerateRequest(messages=[{"role": "user", "content": "x"}]))
"""
WAIT = """
print(engine.worker_pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
@pytest.mark.parametrize("doing", ["loading", "idle", "answering"])
def test_a_worker_dies_with_its_application(start: Start, tmp_path: Path, doing: str, stopped: bool) -> None:
    plan = Plan(str(tmp_path), [Life(load_s=600.0 if doing == "loading" else 0.0, step_s=0.01)])
    acts = {
        "loading": ASK + "\nwhile engine.worker_pid is None: time.sleep(0.01)\n",
        "idle": "engine.start()\n",
        "answering": ASK + "next(stream)\n",
    }
    application = start(engine(plan) + acts[doing] + WAIT)
    worker = told(application)
    while not list(tmp_path.iterdir()):  # it has begun to load
        time.sleep(0.01)
    if stopped:
        worker.suspend()
    application.kill()
    assert all_gone([worker])


def test_not_even_a_fork_of_the_application_that_keeps_its_pipes_keeps_the_worker(start: Start, tmp_path: Path) -> None:
    application = start(
        engine(Plan(str(tmp_path)))
        + """
engine.start()
child = os.fork()
if child == 0:
    time.sleep(600)
print(child, flush=True)
"""
        + WAIT
    )
    child, worker = told(application), told(application)
    try:
        worker.suspend()
        application.kill()
        assert all_gone([worker])
        assert child.is_running()
    finally:
        child.kill()


def test_a_worker_outlives_the_thread_that_asked_first(start: Start, tmp_path: Path) -> None:
    application = start(
        engine(Plan(str(tmp_path), [Life("load"), Life()]))
        + """
for _ in range(2):
    thread = threading.Thread(target=engine.start)
    thread.start()
    thread.join()
pid = engine.worker_pid
time.sleep(0.2)
assert engine.worker_pid == pid and engine.stats().restarts == 1
"""
        + WAIT
    )
    worker = told(application)
    assert worker.is_running()
    application.kill()
    assert all_gone([worker])


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_the_compiler_dies_with_the_application(start: Start, tmp_path: Path, stopped: bool) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", llama_config())
    application = start(
        f"""
import time
from local_runtime.client import LocalEngine, LoadOptions
def tell(progress):
    if progress.stage in ("convert", "compile"):
        print(engine.worker_pid, flush=True)
engine = LocalEngine(LoadOptions({str(folder)!r}, "f32", cache_dir={str(tmp_path / "cache")!r}), on_progress=tell)
engine.start()
time.sleep(600)
"""
    )
    worker = told(application)
    compiling = worker.children(recursive=True)
    assert any("local_runtime.build" in process.cmdline() for process in compiling)
    try:
        if stopped:
            for process in (worker, *compiling):
                process.suspend()
        application.kill()
        assert all_gone([worker, *compiling])
    finally:
        for process in compiling:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def test_a_worker_whose_application_is_gone_before_it_begins_ends_at_once() -> None:
    """Between the start of a process and its word to the kernel, its parent may have ended."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    held, _ = os.pipe()  # so that no end of input tells it
    try:
        worker = subprocess.Popen(
            [sys.executable, "-m", "local_runtime.worker"],
            stdin=held,
            env={**os.environ, **dict.fromkeys(parent_variable(), str(gone.pid)), "PYTHONPATH": str(ROOT)},
        )
        assert worker.wait(30) == 0
    finally:
        os.close(held)
        os.close(_)


def test_what_a_killed_worker_had_started_is_killed_with_it() -> None:
    """The application lives, and its worker dies in the middle of a compilation."""
    compiling: queue.SimpleQueue[int] = queue.SimpleQueue()

    def tell(progress: Progress) -> None:
        if progress.stage == "compile":
            compiling.put(int(progress.detail))

    script = Script(load_s=600, child_process=True)
    with LocalEngine(LoadOptions(script.as_model()), worker_command=SCRIPTED, on_progress=tell) as engine:
        engine.submit(GenerateRequest(raw_token_ids=[1]), lambda event: None)
        children = []
        for _ in range(2):
            children.append(psutil.Process(compiling.get(timeout=30)))
            worker = engine.worker_pid
            assert worker is not None
            os.kill(worker, signal.SIGKILL)
            assert all_gone(children)
        children.append(psutil.Process(compiling.get(timeout=30)))
    assert all_gone(children)
