"""What was asked is in nothing that a failing worker says, logs or leaves behind."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from local_runtime.client import LocalEngine
from local_runtime.errors import EngineInternalError, LocalRuntimeError
from local_runtime.events import Failed, Finished
from local_runtime.options import GenerateRequest, LoadOptions
from local_runtime.protocol import (
    FailedReply,
    FinishedReply,
    Generate,
    Hello,
    Load,
    ReadyReply,
    Reply,
    Shutdown,
    decode_reply,
    read_frame,
)
from local_runtime.transport import worker_environment
from local_runtime.worker import Worker
from tests.local_runtime import leaky_runner
from tests.local_runtime.leaky_runner import TEMPLATES
from tests.local_runtime.test_worker import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
LEAKY = [sys.executable, "-m", "tests.local_runtime.leaky_runner"]
MARK = "kanarienvogel"
REQUEST = GenerateRequest(
    messages=[{"role": "user", "content": f"{MARK} 4711"}], max_tokens=5, chat_template_kwargs={"mood": MARK}
)
ONE_FAILS = [*TEMPLATES, "tokenizer", "prefill", "decode"]
ALL_FAIL = ["remove", "panic"]
NONE_FAILS = ["prints", "thread", "nothing"]


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    monkeypatch.chdir(ROOT)
    worker = Wire(LEAKY)
    yield worker
    worker.close()


def load(wire: Wire, mode: str) -> None:
    # The prefix cache would keep what has ended, and nothing would be removed.
    wire.send(Hello(), Load(1, LoadOptions(mode, prefix_cache=False)))
    while not isinstance(wire.receive(), ReadyReply):
        pass


def end_of_the_answer(wire: Wire) -> list[Reply]:
    """The last reply to the one request; none if the worker ended without it."""
    while (payload := read_frame(wire.stdout)) is not None:  # type: ignore[arg-type]
        reply = decode_reply(payload)
        if isinstance(reply, FinishedReply | FailedReply):
            return [reply]
    return []


@pytest.mark.parametrize("mode", [*ONE_FAILS, *ALL_FAIL, *NONE_FAILS])
def test_nothing_on_the_wire_and_on_standard_error_quotes_a_request(wire: Wire, mode: str) -> None:
    load(wire, mode)
    wire.send(Generate(2, REQUEST))
    last = end_of_the_answer(wire)
    failed = [reply for reply in last if isinstance(reply, FailedReply)]
    assert len(failed) == (mode in ONE_FAILS)
    assert MARK not in repr(failed)
    if mode not in ALL_FAIL:
        wire.send(Shutdown())
    errors = wire.errors()
    assert MARK not in errors
    assert wire.process.wait(5) == (70 if mode in ALL_FAIL else 0)
    if mode not in (*TEMPLATES, *NONE_FAILS):
        assert "File " in errors  # the way is told, so that the defect can be found
    if mode == "thread":
        assert "nobody caught, in a thread: RuntimeError" in errors


@pytest.mark.parametrize("mode", [*ONE_FAILS, *ALL_FAIL, *NONE_FAILS])
def test_nothing_that_the_application_gets_or_logs_quotes_a_request(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, mode: str
) -> None:
    monkeypatch.chdir(ROOT)
    caplog.set_level(logging.DEBUG)
    with LocalEngine(LoadOptions(mode, prefix_cache=False), worker_command=LEAKY) as engine:
        last = list(engine.generate(REQUEST))[-1]
        if mode in NONE_FAILS:
            assert isinstance(last, Finished)
        else:
            assert isinstance(last, Failed)
            assert MARK not in "".join(traceback.format_exception(last.error))
            assert MARK not in repr(last)
        if mode in (*TEMPLATES, "tokenizer", "panic"):
            with pytest.raises(LocalRuntimeError) as raised:
                engine.count_prompt_tokens(REQUEST.messages, REQUEST.chat_template_kwargs)
            assert MARK not in "".join(traceback.format_exception(raised.value))
    assert MARK not in caplog.text


def test_a_panic_in_the_application_s_own_process_is_told_without_its_text(capfd: pytest.CaptureFixture[str]) -> None:
    worker = Worker(leaky_runner.load, lambda _: None)
    for command in (Load(1, LoadOptions("panic")), Generate(2, REQUEST)):
        worker.put(command)
    with pytest.raises(EngineInternalError, match=r"PanicException at leaky_runner\.py") as raised:
        worker.run()
    assert MARK not in "".join(traceback.format_exception(raised.value))
    said = capfd.readouterr().err
    assert "PanicException" in said
    # In the worker's own process, what a library in Rust writes by itself goes nowhere; here, standard error is not ours.
    assert MARK not in said.replace(next(line for line in said.splitlines() if "panicked" in line), "")


def test_whoever_looks_for_a_defect_may_hear_native_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A positive control: the worker of the tests above does write what it was asked."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HYBRIDLLM_DEBUG", "1")
    curious = Wire(LEAKY)
    try:
        load(curious, "prints")
        curious.send(Generate(2, REQUEST), Shutdown())
        curious.rest()
        assert curious.errors().count(f"{MARK} 4711") == 4
    finally:
        curious.close()


def test_what_a_program_s_own_functions_say_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(ROOT)
    caplog.set_level(logging.DEBUG)

    def complain(value: object) -> None:
        raise ValueError(f"{MARK} {value!r}")

    with LocalEngine(LoadOptions("progress"), worker_command=LEAKY, on_progress=complain) as engine:
        engine.submit(REQUEST, complain)
        assert isinstance(list(engine.generate(REQUEST))[-1], Finished)
    assert "a receiver of loading progress failed with ValueError at test_no_content.py:" in caplog.text
    assert "a receiver of engine events failed with ValueError at test_no_content.py:" in caplog.text
    assert MARK not in caplog.text


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="reads /proc")
def test_the_worker_leaves_no_core_dump(wire: Wire) -> None:
    load(wire, "nothing")
    limits = Path(f"/proc/{wire.process.pid}/limits").read_text(encoding="utf-8")
    core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
@pytest.mark.parametrize(("debug", "dumpable"), [("", "0"), ("1", "1")])
def test_a_process_that_forbids_its_inspection_is_not_dumpable(debug: str, dumpable: str) -> None:
    program = textwrap.dedent("""
        import ctypes
        from local_runtime.crash_reports import forbid_core_dumps, forbid_inspection
        forbid_core_dumps()
        forbid_inspection()
        print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))  # PR_GET_DUMPABLE
    """)
    environment = {**worker_environment(None), "HYBRIDLLM_DEBUG": debug}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == dumpable


@pytest.mark.skipif(os.name != "posix", reason="core files are POSIX's")
def test_a_process_that_crashes_leaves_no_core_file(tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import os, sys
        from local_runtime.crash_reports import forbid_core_dumps, forbid_inspection
        if sys.argv[1] == "ours":
            forbid_core_dumps()
            forbid_inspection()
        os.abort()
    """)

    def may_leave_a_core() -> None:
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (most, most))

    left = {}
    for name in ("control", "ours"):
        folder = tmp_path / name
        folder.mkdir()
        subprocess.run(
            [sys.executable, "-c", program, name], cwd=folder, env=worker_environment(None),
            preexec_fn=may_leave_a_core, capture_output=True, check=False,
        )  # fmt: skip
        left[name] = list(folder.iterdir())
    if not left["control"]:
        pytest.skip("this system keeps cores elsewhere, or keeps none")
    assert left["ours"] == []
