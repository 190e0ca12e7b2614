"""The worker as a process, spoken to with frames and nothing else."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

import psutil
import pytest

from local_runtime.errors import WorkerDiedError
from local_runtime.options import GenerateRequest, LoadOptions, SamplingOptions
from local_runtime.protocol import (
    PROTOCOL_VERSION,
    Cancel,
    Command,
    CountPromptTokens,
    DeltaReply,
    FailedReply,
    FinishedReply,
    Generate,
    Hello,
    HelloReply,
    Load,
    ProgressReply,
    PromptTokensReply,
    ReadyReply,
    Reply,
    Shutdown,
    Stats,
    StatsReply,
    decode_reply,
    encode,
    read_frame,
    write_frame,
)
from local_runtime.transport import default_worker_command, worker_environment
from tests.local_runtime.scripted_runner import Script

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPTED = [sys.executable, str(Path(__file__).with_name("scripted_runner.py"))]
REQUEST = GenerateRequest(
    messages=[{"role": "user", "content": "hello"}], max_tokens=5, sampling=SamplingOptions(temperature=0)
)
ENDLESS = GenerateRequest(
    messages=[{"role": "user", "content": "hello"}], sampling=SamplingOptions(temperature=0), ignore_eos=True
)


class Wire:
    """Both ends of a worker's pipes."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=worker_environment(1),
            start_new_session=os.name == "posix",
        )

    @property
    def stdin(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def stdout(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def send(self, *commands: Command) -> None:
        for command in commands:
            write_frame(self.stdin, encode(command))  # type: ignore[arg-type]

    def receive(self) -> Reply:
        payload = read_frame(self.stdout)  # type: ignore[arg-type]
        assert payload is not None, "the worker closed its pipe"
        return decode_reply(payload)

    def rest(self) -> list[Reply]:
        replies = []
        while (payload := read_frame(self.stdout)) is not None:  # type: ignore[arg-type]
            replies.append(decode_reply(payload))
        return replies

    def load(self, script: Script, *, prefix_cache: bool = True) -> None:
        self.send(Hello(), Load(1, LoadOptions(script.as_model(), prefix_cache=prefix_cache)))
        while not isinstance(self.receive(), ReadyReply):
            pass

    def errors(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

    def close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None and not stream.closed:
                stream.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@pytest.fixture
def wire() -> Iterator[Wire]:
    worker = Wire(SCRIPTED)
    yield worker
    worker.close()


def test_a_whole_conversation_on_the_wire(wire: Wire) -> None:
    wire.send(Hello(), Load(1, LoadOptions(Script().as_model())))
    assert wire.receive() == HelloReply(PROTOCOL_VERSION, wire.process.pid)
    progress = []
    while isinstance(reply := wire.receive(), ProgressReply):
        progress.append(reply.progress.stage)
    assert progress == ["resolve", "ready"]
    assert isinstance(reply, ReadyReply)
    assert reply.info.name == "scripted"

    wire.send(Generate(2, REQUEST))
    text = ""
    while isinstance(reply := wire.receive(), DeltaReply):
        assert reply.id == 2
        text += reply.text
    assert isinstance(reply, FinishedReply)
    assert (reply.id, reply.reason, reply.usage.completion_tokens) == (2, "length", 5)
    assert text

    wire.send(Stats(3), CountPromptTokens(4, REQUEST.messages))
    stats, count = wire.receive(), wire.receive()
    assert isinstance(stats, StatsReply)
    assert (stats.stats.state, stats.stats.running, stats.stats.pages_free) == ("ready", 0, 256)
    assert stats.stats.requests_total == 1
    assert count == PromptTokensReply(4, reply.usage.prompt_tokens)

    wire.send(Load(5, LoadOptions("another")))
    again = wire.receive()
    assert isinstance(again, FailedReply)
    assert again.code == "protocol"

    wire.send(Generate(6, ENDLESS), Shutdown())
    last = wire.rest()[-1]
    assert isinstance(last, FinishedReply)
    assert (last.id, last.reason) == (6, "cancelled")
    assert wire.process.wait(5) == 0
    assert wire.errors() == ""


def test_a_library_that_prints_does_not_tear_a_frame(wire: Wire) -> None:
    wire.load(Script(noise=True))
    wire.send(Generate(2, REQUEST), Shutdown())
    assert isinstance(wire.rest()[-1], FinishedReply)
    printed = wire.errors()
    assert "a library prints" in printed
    assert "another one prints" in printed


def test_cancel_on_the_wire_ends_one_answer_and_frees_its_pages(wire: Wire) -> None:
    wire.load(Script(step_s=0.005, context_tokens=1000))
    wire.send(Generate(2, ENDLESS))
    assert isinstance(wire.receive(), DeltaReply)
    wire.send(Cancel(2), Cancel(77))
    while isinstance(reply := wire.receive(), DeltaReply):
        pass
    assert isinstance(reply, FinishedReply)
    assert reply.reason == "cancelled"
    assert 0 < reply.usage.completion_tokens < 500
    wire.send(Stats(3))
    stats = wire.receive()
    assert isinstance(stats, StatsReply)
    assert stats.stats.pages_free == 256


def test_a_request_is_cancelled_while_the_model_is_being_loaded(wire: Wire) -> None:
    wire.send(Hello(), Load(1, LoadOptions(Script(load_s=1.5).as_model())), Generate(2, REQUEST), Generate(3, REQUEST))
    while not isinstance(wire.receive(), ProgressReply):
        pass
    wire.send(Cancel(2))
    reply = wire.receive()
    assert isinstance(reply, FinishedReply)  # long before the model is ready
    assert (reply.id, reply.reason) == (2, "cancelled")
    wire.send(Shutdown())
    wire.rest()


@pytest.mark.parametrize("script", [Script(), Script(load_s=30)], ids=["idle", "loading"])
def test_the_end_of_its_input_ends_the_worker_at_once(wire: Wire, script: Script) -> None:
    wire.send(Hello(), Load(1, LoadOptions(script.as_model())))
    while not isinstance(wire.receive(), ProgressReply):
        pass
    started = time.monotonic()
    wire.stdin.close()
    assert wire.process.wait(20) == 0
    assert time.monotonic() - started < 5


def test_the_end_of_its_input_ends_the_worker_in_mid_answer(wire: Wire) -> None:
    wire.load(Script(context_tokens=100_000, total_pages=100_000))
    wire.send(Generate(2, ENDLESS))
    assert isinstance(wire.receive(), DeltaReply)
    wire.process.stdin.close()  # type: ignore[union-attr]
    assert wire.process.wait(5) == 0


def test_shutdown_while_loading_does_not_wait_for_the_model(wire: Wire) -> None:
    wire.send(Hello(), Load(1, LoadOptions(Script(load_s=30).as_model())))
    while not isinstance(wire.receive(), ProgressReply):
        pass
    wire.send(Shutdown())
    assert wire.process.wait(5) == 0


@pytest.mark.parametrize("how", ["shutdown", "end of input"])
def test_what_loading_has_started_does_not_outlive_the_worker(wire: Wire, how: str) -> None:
    wire.send(Hello(), Load(1, LoadOptions(Script(load_s=30, child_process=True).as_model())))
    while not (isinstance(reply := wire.receive(), ProgressReply) and reply.progress.stage == "compile"):
        pass
    child = psutil.Process(int(reply.progress.detail))
    if how == "shutdown":
        wire.send(Shutdown())
    else:
        wire.stdin.close()
    assert wire.process.wait(5) == 0
    with contextlib.suppress(psutil.NoSuchProcess):
        child.wait(3)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


@pytest.mark.skipif(os.name != "posix", reason="signals of this kind are POSIX's")
def test_ctrl_c_is_the_parents_business(wire: Wire) -> None:
    wire.load(Script())
    os.kill(wire.process.pid, signal.SIGINT)
    wire.send(Generate(2, REQUEST))
    while isinstance(reply := wire.receive(), DeltaReply):
        pass
    assert isinstance(reply, FinishedReply)


@pytest.mark.parametrize(
    ("load_error", "code", "said"),
    [("checkpoint", "checkpoint", "There is no config.json"), ("unexpected", "internal", "KeyError: 'surprise'")],
)
def test_a_failed_load_is_a_coded_error_and_the_end(wire: Wire, load_error: str, code: str, said: str) -> None:
    wire.send(Hello(), Load(1, LoadOptions(Script(load_error=load_error).as_model())))
    failed = wire.rest()[-1]
    assert isinstance(failed, FailedReply)
    assert (failed.id, failed.code) == (1, code)
    assert said in failed.message
    assert wire.process.wait(5) == 0
    assert ("Traceback" in wire.errors()) == (code == "internal")


def test_what_comes_before_a_model_is_refused(wire: Wire) -> None:
    wire.send(Hello(), Generate(2, REQUEST), Stats(3), CountPromptTokens(4, REQUEST.messages), Shutdown())
    replies = wire.rest()
    assert [(type(reply), getattr(reply, "id", None)) for reply in replies[1:]] == [
        (FailedReply, 2),
        (FailedReply, 3),
        (FailedReply, 4),
    ]


@pytest.mark.parametrize(
    "payload",
    [b"not json", b'{"type": "hello", "version": 999}', b'{"type": "stats"}'],
    ids=["json", "version", "field"],
)
def test_a_frame_that_is_not_understood_is_said_so_and_ends_the_worker(wire: Wire, payload: bytes) -> None:
    write_frame(wire.stdin, payload)  # type: ignore[arg-type]
    (reply,) = wire.rest()
    assert isinstance(reply, FailedReply)
    assert (reply.id, reply.code) == (0, "protocol")
    assert wire.process.wait(5) == 2


def test_a_value_out_of_range_is_refused_and_the_worker_goes_on(wire: Wire) -> None:
    wire.load(Script())
    write_frame(
        wire.stdin,  # type: ignore[arg-type]
        b'{"type": "generate", "id": 7, "request": {"raw_token_ids": [1], "max_tokens": 0}}',
    )
    reply = wire.receive()
    assert isinstance(reply, FailedReply)
    assert (reply.id, reply.code) == (7, "invalid_request")
    wire.send(Generate(8, REQUEST), Shutdown())
    assert isinstance(wire.rest()[-1], FinishedReply)


def test_a_runner_that_cannot_let_go_ends_the_worker_with_its_last_words(wire: Wire) -> None:
    wire.load(Script(remove_error=True), prefix_cache=False)  # which would keep what has ended
    wire.send(Generate(2, ENDLESS), Generate(3, REQUEST))
    rest = wire.rest()
    assert rest
    assert all(isinstance(reply, DeltaReply) for reply in rest)  # nobody is told that somebody cancelled
    assert wire.process.wait(5) == 70
    errors = wire.errors().rstrip()
    assert re.search(r"\nThe engine failed with RuntimeError at scripted_runner\.py:\d+\.$", errors)
    assert "in remove_sequence" in errors
    assert "the device is gone" not in errors.replace(
        'raise RuntimeError("the device is gone")', ""
    )  # the source's line


def test_a_frozen_application_does_not_start_itself_as_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_worker_command()[1:] == ["-P", "-m", "local_runtime.worker"]
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(WorkerDiedError, match=r"frozen into one executable, .* it would start itself") as caught:
        default_worker_command()
    assert "in_process=True" in caught.value.mend


def test_the_real_worker_imports_nothing_heavy_before_a_load() -> None:
    program = (
        "import sys, local_runtime.worker\n"
        "print([name for name in ('numpy', 'tvm', 'tvm_ffi', 'tokenizers', 'psutil') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_real_worker_names_a_model_that_is_not_there() -> None:
    worker = Wire(default_worker_command())
    try:
        worker.send(Hello(), Load(1, LoadOptions("no-such-model")))
        failed = worker.rest()[-1]
        assert isinstance(failed, FailedReply)
        assert failed.code == "checkpoint"
        assert "no-such-model" in failed.message
        assert worker.process.wait(5) == 0
    finally:
        worker.close()
