"""The application's half with real worker processes over real pipes; the model in them is scripted."""

from __future__ import annotations

import gc
import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from local_runtime import worker
from local_runtime.client import LocalEngine, Supervision
from local_runtime.errors import (
    CheckpointError,
    ContextLengthExceededError,
    EngineInternalError,
    InvalidRequestError,
    LocalRuntimeError,
    ProtocolError,
    WorkerDiedError,
)
from local_runtime.events import Event, Failed, Finished, TextDelta
from local_runtime.options import GenerateRequest, LoadOptions, Progress, SamplingOptions
from tests.local_runtime import scripted_runner
from tests.local_runtime.scripted_runner import CRASH, Script

SCRIPTED = [sys.executable, str(Path(__file__).with_name("scripted_runner.py"))]
GREEDY = SamplingOptions(temperature=0)
SHORT = GenerateRequest(messages=[{"role": "user", "content": "hello"}], max_tokens=3, sampling=GREEDY)
LONG = GenerateRequest(messages=[{"role": "user", "content": "hello"}], sampling=GREEDY, ignore_eos=True)
SLOW = Script(step_s=0.005, context_tokens=4000, total_pages=4000)

IMPATIENT = Supervision(backoff_s=0.01)

Make = Callable[..., LocalEngine]


@pytest.fixture
def make() -> Iterator[Make]:
    engines: list[LocalEngine] = []

    def build(script: Script | None = None, max_waiting: int = 32, **fields: Any) -> LocalEngine:
        options = LoadOptions((script or Script()).as_model(), max_waiting=max_waiting)
        engines.append(LocalEngine(options, worker_command=SCRIPTED, supervision=IMPATIENT, **fields))
        return engines[-1]

    yield build
    for engine in engines:
        engine.close()


class Receiver:
    """Collects one request's events and waits for the last."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.first = threading.Event()
        self.last = threading.Event()

    def __call__(self, event: Event) -> None:
        assert not self.last.is_set(), "an event after the last one"
        self.events.append(event)
        self.first.set()
        if isinstance(event, Finished | Failed):
            self.last.set()

    def end(self, timeout_s: float = 20) -> Finished | Failed:
        assert self.last.wait(timeout_s), "no last event"
        end = self.events[-1]
        assert isinstance(end, Finished | Failed)
        return end

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))


def is_gone(pid: int, within_s: float = 3.0) -> bool:
    """True once the process has ended (a zombie that nobody has waited for counts as ended)."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def test_start_generate_count_stats_and_close(make: Make) -> None:
    stages: list[Progress] = []
    engine = make(on_progress=stages.append)
    assert engine.worker_pid is None
    assert engine.stats().state == "stopped"
    info = engine.start()
    assert info == engine.info
    assert [progress.stage for progress in stages] == ["resolve", "ready"]
    pid = engine.worker_pid
    assert pid is not None
    assert pid != os.getpid()
    events = list(engine.generate(SHORT))
    assert isinstance(events[-1], Finished)
    assert events[-1].usage.prompt_tokens == engine.count_prompt_tokens(SHORT.messages)
    assert events[-1].usage.completion_tokens == 3
    assert all(isinstance(event, TextDelta) for event in events[:-1])
    stats = engine.stats()
    assert (stats.state, stats.running, stats.pages_free, stats.requests_total) == ("ready", 0, 256, 1)
    assert stats.rss_mib > 1
    started = time.monotonic()
    engine.close()
    assert time.monotonic() - started < 3
    assert is_gone(pid)
    engine.close()
    with pytest.raises(WorkerDiedError, match="closed"):
        engine.submit(SHORT, lambda event: None)


def test_the_worker_starts_with_the_first_request_and_submit_does_not_wait_for_it(make: Make) -> None:
    engine = make(Script(load_s=3.0))
    receiver = Receiver()
    started = time.monotonic()
    engine.submit(SHORT, receiver)
    assert time.monotonic() - started < 2
    assert engine.stats().state == "loading"
    assert isinstance(receiver.end(), Finished)
    assert engine.stats().state == "ready"


def test_many_threads_share_one_worker(make: Make) -> None:
    engine = make()
    ends: queue.SimpleQueue[tuple[int, str, Event]] = queue.SimpleQueue()

    def ask(number: int) -> None:
        events = list(
            engine.generate(
                GenerateRequest(raw_token_ids=[number] * 5, max_tokens=20, sampling=GREEDY, ignore_eos=True)
            )
        )
        text = "".join(event.text for event in events if isinstance(event, TextDelta))
        ends.put((number, text, events[-1]))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    results = {number: (text, end) for number, text, end in (ends.get(timeout=5) for _ in threads)}
    assert all(isinstance(end, Finished) and end.reason == "length" for _, end in results.values())
    for number, (text, _) in results.items():
        alone = [
            e
            for e in engine.generate(
                GenerateRequest(raw_token_ids=[number] * 5, max_tokens=20, sampling=GREEDY, ignore_eos=True)
            )
            if isinstance(e, TextDelta)
        ]
        assert text == "".join(event.text for event in alone)


def test_cancel_is_quick_and_frees_the_pages(make: Make) -> None:
    engine = make(SLOW)
    engine.start()
    latencies = []
    for _ in range(10):
        receiver = Receiver()
        handle = engine.submit(LONG, receiver)
        assert receiver.first.wait(10)
        started = time.monotonic()
        handle.cancel()
        end = receiver.end()
        latencies.append(time.monotonic() - started)
        assert isinstance(end, Finished)
        assert end.reason == "cancelled"
        handle.cancel()  # once more does nothing
    assert sorted(latencies)[5] < 0.1, latencies
    stats = engine.stats()
    assert (stats.running, stats.waiting, stats.pages_free) == (0, 0, stats.pages_total)


def test_closing_or_dropping_the_iterator_cancels(make: Make) -> None:
    engine = make(SLOW)
    stream = engine.generate(LONG)
    assert isinstance(next(stream), TextDelta)
    stream.close()
    assert list(stream) == []
    for _event in engine.generate(LONG):
        break
    with engine.generate(LONG) as stream:
        next(stream)
    del stream
    gc.collect()
    deadline = time.monotonic() + 5
    while (stats := engine.stats()).running and time.monotonic() < deadline:
        time.sleep(0.01)
    assert stats.pages_free == stats.pages_total


def test_a_cancel_during_loading_is_answered_at_once(make: Make) -> None:
    engine = make(Script(load_s=3.0))
    loading = threading.Event()
    engine._on_progress = lambda progress: loading.set()
    receiver = Receiver()
    handle = engine.submit(SHORT, receiver)
    assert loading.wait(10)
    handle.cancel()
    end = receiver.end(1.0)
    assert isinstance(end, Finished)
    assert end.reason == "cancelled"


def test_a_crash_inside_native_code_surfaces_and_the_engine_comes_back(make: Make) -> None:
    engine = make()
    events = list(engine.generate(GenerateRequest(raw_token_ids=[1, CRASH], sampling=GREEDY)))
    assert isinstance(events[-1], Failed)
    assert isinstance(events[-1].error, WorkerDiedError)
    if os.name == "posix":
        assert "SIGABRT" in events[-1].error.message
    assert isinstance(list(engine.generate(SHORT))[-1], Finished)
    assert engine.stats().restarts == 3


@pytest.mark.skipif(os.name != "posix", reason="sends SIGKILL")
def test_what_a_full_engine_had_accepted_is_accepted_by_the_next_one_too(make: Make) -> None:
    engine = make(Script(max_sequences=2, step_s=0.005), max_waiting=6)
    engine.start()
    asked = [GenerateRequest(raw_token_ids=[n] * 5, max_tokens=20, sampling=GREEDY, ignore_eos=True) for n in range(8)]
    receivers = [Receiver() for _ in asked]
    for request, receiver in zip(asked, receivers, strict=True):
        engine.submit(request, receiver)
        if receiver is receivers[1]:
            assert receiver.first.wait(20)  # two are being answered, and six may wait
    pid = engine.worker_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    for receiver in receivers:
        end = receiver.end()
        assert isinstance(end, Finished), end
        assert end.usage.completion_tokens == 20
    assert engine.stats().restarts == 1
    undisturbed = [Receiver() for _ in asked]
    for request, receiver, before in zip(asked, undisturbed, receivers, strict=True):
        engine.submit(request, receiver)
        receiver.end()
        assert receiver.text == before.text


def test_a_receiver_may_submit_again_when_its_request_fails(make: Make) -> None:
    engine = make()
    second = Receiver()

    def again(event: Event) -> None:
        if isinstance(event, Failed):
            engine.submit(SHORT, second)

    engine.submit(GenerateRequest(raw_token_ids=[1, CRASH], sampling=GREEDY), again)
    assert isinstance(second.end(), Finished)


def test_a_worker_that_dies_while_loading_tells_its_last_words(make: Make) -> None:
    engine = make(Script(load_error="exit"))
    receiver = Receiver()
    engine.submit(SHORT, receiver)
    with pytest.raises(WorkerDiedError, match=r"exit code 7.*last words of the worker"):
        engine.start()
    end = receiver.end()
    assert isinstance(end, Failed)
    assert isinstance(end.error, WorkerDiedError)


def test_a_model_that_cannot_be_loaded_is_that_error_everywhere(make: Make) -> None:
    engine = make(Script(load_error="checkpoint"))
    receiver = Receiver()
    engine.submit(SHORT, receiver)
    with pytest.raises(CheckpointError, match=r"config\.json") as caught:
        engine.start()
    assert caught.value.mend == "Give a checkpoint's folder."
    end = receiver.end()
    assert isinstance(end, Failed)
    assert isinstance(end.error, CheckpointError)
    with pytest.raises(CheckpointError):
        engine.count_prompt_tokens(SHORT.messages)
    assert engine.worker_pid is None


def test_an_unexpected_failure_of_loading_is_a_coded_error(make: Make) -> None:
    with pytest.raises(EngineInternalError, match="KeyError: 'surprise'"):
        make(Script(load_error="unexpected")).start()


def test_a_program_that_is_not_there_is_an_error_with_its_name() -> None:
    engine = LocalEngine(LoadOptions("m"), worker_command=["/no/such/program"])
    with pytest.raises(WorkerDiedError, match="/no/such/program"):
        engine.start()


def test_a_program_that_does_not_speak_the_protocol_is_found_out() -> None:
    chatter = [sys.executable, "-c", "print('Hello, I am something else entirely.', flush=True); input()"]
    with LocalEngine(LoadOptions("m"), worker_command=chatter) as engine:
        with pytest.raises(ProtocolError, match="frame"):
            engine.start(timeout_s=10)
        assert engine.stats().state == "stopped"


STRANGE_WORKER = """
import os, struct, sys, time
def say(text):
    sys.stdout.buffer.write(struct.pack("<I", len(text)) + text.encode())
    sys.stdout.buffer.flush()
{acts}
time.sleep(60)
"""
INFO = (
    '{"name":"","path":"","model_type":"","quant":"","target":"","device":"","context_tokens":1,"vocab_size":1,'
    '"parameters":1,"weights_mib":1,"kv_mib":1,"load_s":1,"compiled":false}'
)


@pytest.mark.parametrize(
    ("acts", "error", "said"),
    [
        ("""say('{"type":"hello","version":99,"pid":1}')""", ProtocolError, "version 99"),
        ("""sys.stdout.buffer.write(b"\\xff\\0\\0\\0half"); sys.stdout.buffer.flush(); os.kill(os.getpid(), 9)""",
         WorkerDiedError, "SIGKILL"),
    ],
    ids=["another version", "killed in mid-frame"],
)  # fmt: skip
def test_what_ends_a_connection_is_told_as_it_was(acts: str, error: type[LocalRuntimeError], said: str) -> None:
    command = [sys.executable, "-c", STRANGE_WORKER.format(acts=acts)]
    with (
        LocalEngine(LoadOptions("m"), worker_command=command, supervision=IMPATIENT) as engine,
        pytest.raises(error, match=said),
    ):
        engine.start(timeout_s=30)


def test_a_worker_that_says_ready_twice_leaves_nobody_waiting() -> None:
    ready = f'{{"type":"ready","id":1,"info":{INFO}}}'
    command = [sys.executable, "-c", STRANGE_WORKER.format(acts=f"say({ready!r}); time.sleep(0.2); say({ready!r})")]
    with LocalEngine(LoadOptions("m"), worker_command=command, supervision=IMPATIENT) as engine:
        engine.start(timeout_s=10)
        failed = list(engine.generate(SHORT))[-1]
    assert isinstance(failed, Failed)
    assert "said twice that it is ready" in failed.error.message


def test_a_requests_own_errors_come_as_its_events(make: Make) -> None:
    engine = make()
    (failed,) = engine.generate(GenerateRequest(raw_token_ids=[1] * 300))
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, ContextLengthExceededError)
    with pytest.raises(InvalidRequestError, match="no form"):
        engine.submit(GenerateRequest(raw_token_ids=[1], chat_template_kwargs={"x": {1, 2}}), lambda event: None)
    with pytest.raises(InvalidRequestError, match="messages"):
        engine.count_prompt_tokens([])
    assert isinstance(list(engine.generate(SHORT))[-1], Finished)


def test_a_receiver_that_raises_is_dropped_and_the_others_go_on(make: Make) -> None:
    engine = make(SLOW)
    calls = []

    def clumsy(event: Event) -> None:
        calls.append(event)
        raise RuntimeError("a mistake of the application")

    good = Receiver()
    engine.submit(LONG, clumsy)
    engine.submit(GenerateRequest(raw_token_ids=[3], max_tokens=60, sampling=GREEDY, ignore_eos=True), good)
    end = good.end()
    assert isinstance(end, Finished)
    assert end.usage.completion_tokens == 60
    assert len(calls) == 1
    assert engine.stats().pages_free == engine.stats().pages_total


def test_even_a_receiver_that_wants_to_exit_does_not_silence_the_others(make: Make) -> None:
    engine = make()
    engine.submit(SHORT, lambda event: sys.exit(1))
    assert isinstance(list(engine.generate(SHORT))[-1], Finished)


def test_waiting_for_the_engine_in_its_own_thread_is_refused_instead_of_hanging(make: Make) -> None:
    engine = make()
    caught: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def wait_inside(event: Event) -> None:
        if isinstance(event, Finished):
            for wait in (engine.stats, lambda: list(engine.generate(SHORT))):
                try:
                    wait()
                except LocalRuntimeError as error:
                    caught.put(error)
                else:
                    caught.put(None)

    engine.submit(SHORT, wait_inside)
    assert isinstance(caught.get(timeout=10), InvalidRequestError)
    assert isinstance(caught.get(timeout=10), InvalidRequestError)
    assert isinstance(list(engine.generate(SHORT))[-1], Finished)


def test_a_thousand_quick_requests_leak_nothing(make: Make) -> None:
    engine = make(Script(max_sequences=8), max_waiting=1000)
    engine.start()
    process, child = psutil.Process(), psutil.Process(engine.worker_pid)

    def resources() -> tuple[int, int, int, int]:
        fds = "num_fds" if os.name == "posix" else "num_handles"
        return threading.active_count(), getattr(process, fds)(), child.num_threads(), getattr(child, fds)()

    list(engine.generate(SHORT))
    before = resources()
    pending: list[Receiver] = []
    for number in range(1000):
        receiver = Receiver()
        handle = engine.submit(SHORT, receiver)
        if number % 5 == 0:
            handle.cancel()
        pending.append(receiver)
    for receiver in pending:
        assert isinstance(receiver.end(60), Finished)
    after = resources()  # fewer than before where a thread of an earlier test ended meanwhile
    assert all(now <= then for now, then in zip(after, before, strict=True)), (after, before)
    assert engine.stats().pages_free == engine.stats().pages_total
    assert engine.stats().requests_total <= 1001


def test_one_life_after_another_leaks_neither_threads_nor_descriptors_nor_processes() -> None:
    def live() -> None:
        with LocalEngine(LoadOptions(Script().as_model()), worker_command=SCRIPTED) as engine:
            assert isinstance(list(engine.generate(SHORT))[-1], Finished)

    process = psutil.Process()
    live()
    gc.collect()
    count = process.num_fds if os.name == "posix" else getattr(process, "num_handles")  # noqa: B009 - Windows only
    threads, descriptors, children = threading.active_count(), count(), len(process.children())
    for _ in range(5):
        live()
    gc.collect()
    deadline = time.monotonic() + 3
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.02)
    assert threading.active_count() <= threads
    assert count() <= descriptors
    assert len(process.children()) <= children


@pytest.mark.skipif(os.name != "posix", reason="needs SIGSTOP")
def test_close_ends_a_worker_that_hangs_within_three_seconds(make: Make) -> None:
    engine = make(SLOW)
    receiver = Receiver()
    engine.submit(LONG, receiver)
    assert receiver.first.wait(10)
    pid = engine.worker_pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(LocalRuntimeError, match="did not"):
        engine.stats(timeout_s=0.2)
    started = time.monotonic()
    engine.close()
    assert time.monotonic() - started < 3
    assert is_gone(pid, 0.5)
    end = receiver.end()
    assert isinstance(end, Failed)
    assert isinstance(end.error, WorkerDiedError)


def test_close_while_loading_and_in_mid_answer(make: Make) -> None:
    loading = make(Script(load_s=30))
    receiver = Receiver()
    loading.submit(SHORT, receiver)
    time.sleep(0.3)
    started = time.monotonic()
    loading.close()
    assert time.monotonic() - started < 3
    assert isinstance(receiver.end(), Failed)

    answering = make(SLOW)
    receiver = Receiver()
    answering.submit(LONG, receiver)
    assert receiver.first.wait(10)
    answering.close()
    end = receiver.end(1)
    assert isinstance(end, Finished)
    assert end.reason == "cancelled"


def test_dropping_the_engine_ends_its_worker(make: Make) -> None:
    engine = LocalEngine(LoadOptions(Script().as_model()), worker_command=SCRIPTED)
    engine.start()
    pid = engine.worker_pid
    assert pid is not None
    del engine
    gc.collect()
    assert is_gone(pid)


def run_script(body: str, *arguments: str) -> subprocess.Popen[str]:
    """Run a program as a user would write it: no main guard, and from another folder."""
    root = Path(__file__).parent.parent.parent
    program = f"import sys; sys.path.insert(0, {str(root)!r})\n" + textwrap.dedent(body)
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).anchor
    )


START = f"""
from local_runtime.client import LocalEngine, LoadOptions, GenerateRequest
engine = LocalEngine(LoadOptions({SLOW.as_model()!r}), worker_command={SCRIPTED!r})
engine.start()
stream = engine.generate(GenerateRequest(raw_token_ids=[1], ignore_eos=True))
next(stream)
print(engine.worker_pid, flush=True)
"""


@pytest.mark.parametrize("ending", ["", "sys.exit(3)", "raise KeyError", "import time; time.sleep(60)"])
def test_no_orphan_however_the_application_ends(ending: str) -> None:
    application = run_script(START + ending)
    assert application.stdout is not None
    pid = int(application.stdout.readline())
    if "sleep" in ending:
        application.kill()
    application.wait(10)
    application.stdout.close()
    assert is_gone(pid)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_of_the_application_does_not_take_the_worker() -> None:
    application = run_script(
        START
        + """
import os
child = os.fork()
if child == 0:
    assert engine.worker_pid is None
    sys.exit(0)  # runs the exit handlers, which must leave the parent's worker alone
os.waitpid(child, 0)
event = next(stream)
print(type(event).__name__, engine.stats().state, flush=True)
"""
    )
    assert application.stdout is not None
    lines = application.stdout.read().split("\n")
    assert application.wait(10) == 0
    application.stdout.close()
    assert lines[1] == "TextDelta ready"
    assert is_gone(int(lines[0]))


def test_in_process_is_the_same_in_a_thread(monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
    monkeypatch.setattr(worker, "load_model", scripted_runner.load)
    stages: list[str] = []
    threads = threading.active_count()
    with LocalEngine(
        LoadOptions(Script().as_model()), in_process=True, on_progress=lambda progress: stages.append(progress.stage)
    ) as engine:
        info = engine.start()
        assert stages == ["resolve", "ready"]
        assert engine.worker_pid == os.getpid()
        inside = list(engine.generate(SHORT))
        assert engine.stats().pages_free == 256
        receiver = Receiver()
        handle = engine.submit(LONG, receiver)
        handle.cancel()
        assert isinstance(receiver.end(), Finished)
    assert threading.active_count() == threads
    other = make()
    outside = list(other.generate(SHORT))
    assert [event for event in inside if isinstance(event, TextDelta)] == [
        event for event in outside if isinstance(event, TextDelta)
    ]
    assert other.info.name == info.name
    broken = LocalEngine(LoadOptions(Script(load_error="checkpoint").as_model()), in_process=True)
    with broken, pytest.raises(CheckpointError):
        broken.start()
