"""Saved states through the engine, and through real workers that are closed, killed and started again; the model is scripted."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from local_runtime.client import LocalEngine, Supervision
from local_runtime.engine import Engine
from local_runtime.errors import InvalidRequestError, LocalRuntimeError, OutOfMemoryError, SavedStateError
from local_runtime.events import Event, Finished, StateKept, TextDelta
from local_runtime.options import GenerateRequest, LoadOptions, SamplingOptions
from local_runtime.protocol import SaveState
from local_runtime.saved_state import shared_tokens
from tests.local_runtime.dying_worker import COMMAND, Life, Plan
from tests.local_runtime.scripted_runner import Script, ScriptedModel, make_model

SCRIPTED = [sys.executable, str(Path(__file__).with_name("scripted_runner.py"))]
SYSTEM = [{"role": "system", "content": "You answer for a museum. It opens at nine."}]
GREEDY = SamplingOptions(temperature=0)


def question(text: str, **fields: Any) -> GenerateRequest:
    return GenerateRequest([*SYSTEM, {"role": "user", "content": text}], GREEDY, max_tokens=3, **fields)


# ---- the engine ----


class Harness:
    """An engine with a scripted model of its own."""

    def __init__(self, folder: Path, **script: Any) -> None:
        self.model: ScriptedModel = make_model(Script(**script), folder)
        self.engine = Engine(self.model)
        self.runner = self.model.runner
        self.worked = 0

    def save(self, path: Path, messages: list[dict[str, Any]] | None = None) -> StateKept | LocalRuntimeError:
        outcomes: list[StateKept | LocalRuntimeError] = []
        command = SaveState(1, str(path), SYSTEM if messages is None else messages)
        self.engine.save_state(command, outcomes.append, self._work)
        self.run()
        assert len(outcomes) == 1
        return outcomes[0]

    def _work(self) -> None:
        self.worked += 1

    def run(self) -> None:
        while self.engine.has_work:
            self.engine.step()

    def ask(self, text: str) -> tuple[list[int], int]:
        """The answer's tokens, and how many of the prompt's were computed for it."""
        events: list[Event] = []
        self.runner.calls.clear()
        before = self.engine.stats().prompt_tokens_total
        self.engine.submit(7, question(text), events.append)
        self.run()
        assert isinstance(events[-1], Finished)
        said = [token for event in events if isinstance(event, TextDelta) for token in event.ids]
        return said, self.engine.stats().prompt_tokens_total - before


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Harness]:
    return lambda **script: Harness(tmp_path, **script)


def kept(outcome: StateKept | LocalRuntimeError) -> StateKept:
    assert isinstance(outcome, StateKept), outcome
    return outcome


def test_an_engine_that_restores_computes_only_what_the_file_lacks(
    build: Callable[..., Harness], tmp_path: Path
) -> None:
    first = build()
    saved = kept(first.save(tmp_path / "state.kv"))
    shared = shared_tokens(first.model.tokenizer, SYSTEM, {}, [])
    assert saved.tokens == len(shared) // 4 * 4 > 40
    assert saved.file_bytes == (tmp_path / "state.kv").stat().st_size
    assert first.worked == saved.tokens // 4

    plain, restored = build(), build()
    read = restored.engine.restore_state(str(tmp_path / "state.kv"))
    assert (kept(read).tokens, kept(read).file_bytes) == (saved.tokens, saved.file_bytes)
    for text in ("Where is the exit?", "0", "§"):
        whole = len(plain.model.tokenizer.encode_chat(question(text).messages))
        fresh = build()
        expected, computed = fresh.ask(text)
        assert computed == whole
        answer, computed = restored.ask(text)
        assert answer == expected
        assert computed <= whole - saved.tokens


def test_what_is_there_already_is_neither_computed_nor_read_again(
    build: Callable[..., Harness], tmp_path: Path
) -> None:
    harness = build()
    harness.ask("Where is the exit?")
    harness.runner.calls.clear()
    kept(harness.save(tmp_path / "state.kv"))
    assert [kind for kind, _ in harness.runner.calls] == ["read_pages"]
    harness.runner.calls.clear()
    kept(harness.engine.restore_state(str(tmp_path / "state.kv")))
    assert harness.runner.calls == []


def test_a_state_takes_the_place_of_what_nobody_needs_but_of_nothing_else(
    build: Callable[..., Harness], tmp_path: Path
) -> None:
    saved = kept(build().save(tmp_path / "state.kv"))
    pages = saved.tokens // 4
    harness = build(total_pages=pages + 20, context_tokens=256)
    for number in range(6):  # their pages stay, idle
        ids = [number] * 30
        harness.engine.submit(number, GenerateRequest(raw_token_ids=ids, sampling=GREEDY, max_tokens=2), lambda _: None)
        harness.run()
    kept(harness.engine.restore_state(str(tmp_path / "state.kv")))
    assert harness.ask("Hello")[1] < saved.tokens

    busy = build(total_pages=pages + 4, context_tokens=256)
    events: list[Event] = []
    busy.engine.submit(
        1, GenerateRequest(raw_token_ids=[9] * 24, sampling=GREEDY, max_tokens=4, ignore_eos=True), events.append
    )
    for _ in range(3):
        busy.engine.step()
    refused = busy.engine.restore_state(str(tmp_path / "state.kv"))
    assert isinstance(refused, OutOfMemoryError)
    busy.run()
    assert isinstance(events[-1], Finished)


@pytest.mark.parametrize("prefix_cache", [True, False])
def test_what_cannot_be_saved_is_an_error_and_no_file(
    build: Callable[..., Harness], tmp_path: Path, prefix_cache: bool
) -> None:
    harness = build(context_tokens=64)
    harness.engine = Engine(harness.model, prefix_cache=prefix_cache)
    path = tmp_path / "state.kv"
    long = [{"role": "system", "content": "x" * 100}]
    outcome = harness.save(path, long)
    if not prefix_cache:
        assert isinstance(outcome, SavedStateError)
        assert isinstance(harness.engine.restore_state(str(path)), SavedStateError)
    else:
        assert isinstance(outcome, LocalRuntimeError)
        assert outcome.code == "context_length_exceeded"
        kept(harness.save(path, [{"role": "system", "content": "x" * 20}]))
        smaller = build(context_tokens=24)
        assert isinstance(smaller.engine.restore_state(str(path)), SavedStateError)
        path.unlink()
    assert not path.exists()


def test_a_prompt_within_a_page_is_not_worth_a_file(build: Callable[..., Harness], tmp_path: Path) -> None:
    harness = build()
    harness.runner.page_tokens = 1000
    outcome = harness.save(tmp_path / "state.kv")
    assert isinstance(outcome, InvalidRequestError)
    assert "fewer tokens than a page" in outcome.message


def test_a_whole_prompt_can_be_saved_too(build: Callable[..., Harness]) -> None:
    tokenizer = build().model.tokenizer
    asked = [*SYSTEM, {"role": "user", "content": "When?"}]
    assert shared_tokens(tokenizer, asked, {}, []) == tokenizer.encode_chat(asked)
    shared = shared_tokens(tokenizer, SYSTEM, {}, [])
    assert tokenizer.encode_chat(asked)[: len(shared)] == shared


# ---- workers ----

Make = Callable[..., LocalEngine]


@pytest.fixture
def make() -> Iterator[Make]:
    engines: list[LocalEngine] = []

    def build(saved_state: Path | None = None, **script: Any) -> LocalEngine:
        options = LoadOptions(
            Script(**script).as_model(), saved_state=None if saved_state is None else str(saved_state)
        )
        engines.append(LocalEngine(options, worker_command=SCRIPTED, supervision=Supervision(backoff_s=0.01)))
        return engines[-1]

    yield build
    for engine in engines:
        engine.close()


def computed(engine: LocalEngine, text: str) -> int:
    """Prompt tokens that the present worker computed for a question."""
    before = engine.stats().prompt_tokens_total
    with engine.generate(question(text)) as events:
        assert isinstance(list(events)[-1], Finished)
    return engine.stats().prompt_tokens_total - before


def kill_and_wait(engine: LocalEngine) -> None:
    pid = engine.worker_pid
    assert pid is not None
    process = psutil.Process(pid)
    process.kill()
    process.wait(30)
    engine.start(60)


def test_a_state_survives_the_end_of_the_program_and_a_crash(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "kiosk.kv"
    with make() as first:
        saved = first.save_state(path, SYSTEM, timeout_s=60)
        assert saved.file_bytes == path.stat().st_size
        whole = first.count_prompt_tokens(question("Hello?").messages)
    second = make()
    second.start()
    assert computed(second, "Hello?") == whole
    third = make()
    assert third.restore_state(path, timeout_s=60).tokens == saved.tokens
    assert computed(third, "Hello?") <= whole - saved.tokens
    kill_and_wait(third)
    assert computed(third, "Hello?") <= whole - saved.tokens
    fourth = make(path)
    assert computed(fourth, "Hello?") <= whole - saved.tokens
    kill_and_wait(fourth)
    assert computed(fourth, "Hello?") <= whole - saved.tokens


def test_a_state_that_cannot_be_used_costs_a_line_in_the_log_and_no_answer(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "torn.kv").write_bytes(b"HLLMKV\r\n" + bytes(30))
    for name in ("missing.kv", "torn.kv"):
        caplog.clear()
        engine = make(tmp_path / name)
        with caplog.at_level(logging.WARNING, "local_runtime.client"):
            assert computed(engine, "Hello?") > 0
        assert [name in record.getMessage() for record in caplog.records] == [True]
        with pytest.raises(SavedStateError, match=name):
            engine.restore_state(tmp_path / name, timeout_s=60)


@pytest.mark.skipif(os.name != "posix", reason="the worker is stopped by a signal")
def test_saving_goes_on_in_the_next_worker(make: Make, tmp_path: Path) -> None:
    engine = make(step_s=0.2, prefill_chunk_tokens=4)
    engine.start()
    pid = engine.worker_pid
    assert pid is not None
    timer = threading.Timer(0.3, os.kill, (pid, signal.SIGKILL))
    timer.start()
    saved = engine.save_state(tmp_path / "kiosk.kv", SYSTEM, timeout_s=60)
    timer.join()
    assert engine.stats().restarts == 1
    assert saved.file_bytes == (tmp_path / "kiosk.kv").stat().st_size


# ---- workers that die of a state ----

dies = pytest.mark.skipif(os.name != "posix", reason="the scripted workers end by signals")
PATIENT = Supervision(backoff_s=0.01)


@dies
def test_a_state_that_kills_every_worker_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plan = Plan(str(tmp_path), [Life("restore")])
    options = replace(plan.options(), saved_state=str(tmp_path / "kiosk.kv"))
    with LocalEngine(options, worker_command=COMMAND, supervision=PATIENT) as engine:
        with engine.generate(question("Hello?")) as events:
            assert isinstance(list(events)[-1], Finished)
        assert engine.stats().restarts == 3
    assert sum("A saved state is not restored" in record.getMessage() for record in caplog.records) == 1


@dies
def test_a_worker_that_only_restores_and_dies_is_not_started_for_ever(tmp_path: Path) -> None:
    """Restoring what nobody asked for is no work, so it does not start the count of deaths anew."""
    plan = Plan(str(tmp_path), [Life("restored")])
    options = replace(plan.options(), saved_state=str(tmp_path / "kiosk.kv"))
    with LocalEngine(options, worker_command=COMMAND, supervision=PATIENT) as engine:
        engine.start(60)
        deadline = time.monotonic() + 60
        while engine.state != "stopped":
            assert time.monotonic() < deadline, "it goes in circles"
            time.sleep(0.01)
    assert len(plan.seen()) == 2
