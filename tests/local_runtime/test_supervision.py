"""The supervisor with real processes that die, hang and are killed in every place; what they answer is scripted."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from local_runtime.client import LocalEngine, Supervision
from local_runtime.errors import CheckpointError, InvalidRequestError, OverloadedError, WorkerDiedError
from local_runtime.events import Event, Failed, Finished, TextDelta
from local_runtime.options import GenerateRequest, Progress
from tests.local_runtime.dying_worker import COMMAND, Life, Plan, tokens_of, whole_text

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the scripted workers end by signals")

PATIENT = Supervision(backoff_s=0.01)
"""Nothing is taken for a hang."""
STRICT = Supervision(
    ping_s=0.05, hang_s=1.0, silence_s=2.0, step_s=1.0, first_step_s=1.0, step_factor=2.0, backoff_s=0.01
)
GIVING_UP = Supervision(backoff_s=0.01, cool_down_s=0.5, cool_down_limit_s=0.8)

Make = Callable[..., LocalEngine]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    engines: list[LocalEngine] = []

    def build(*lives: Life, limits: Supervision = PATIENT, without_ids: bool = False, **fields: Any) -> LocalEngine:
        plan = Plan(str(tmp_path), list(lives) or [Life()], without_ids)
        engines.append(LocalEngine(plan.options(), worker_command=COMMAND, supervision=limits, **fields))
        return engines[-1]

    yield build
    for engine in engines:
        engine.close()


@pytest.fixture
def seen(tmp_path: Path) -> Callable[[], list[list[dict[str, Any]]]]:
    """What each life of the worker was asked."""
    return Plan(str(tmp_path)).seen


Seen = Callable[[], list[list[dict[str, Any]]]]


def request(prompt: str = "hello", tokens: int | None = 6) -> GenerateRequest:
    return GenerateRequest(messages=[{"role": "user", "content": prompt}], max_tokens=tokens)


class Receiver:
    """Collects the events of one request."""

    def __init__(self, engine: LocalEngine, prompt: str = "hello", tokens: int | None = 6) -> None:
        self.events: list[Event] = []
        self.first, self.last = threading.Event(), threading.Event()
        self.handle = engine.submit(request(prompt, tokens), self)

    def __call__(self, event: Event) -> None:
        assert not self.last.is_set(), "an event after the last one"
        self.events.append(event)
        self.first.set()
        if isinstance(event, Finished | Failed):
            self.last.set()

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))

    @property
    def end(self) -> Event:
        assert self.last.wait(60), "no last event"
        return self.events[-1]

    @property
    def finished(self) -> Finished:
        end = self.end
        assert isinstance(end, Finished), end
        return end

    @property
    def error(self) -> WorkerDiedError:
        end = self.end
        assert isinstance(end, Failed), end
        assert isinstance(end.error, WorkerDiedError), end.error
        return end.error


def wait_until(condition: Callable[[], bool], within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


# ---- a death, wherever it comes ----


@pytest.mark.parametrize(
    "life",
    [
        Life("start"),
        Life("start", "exit"),
        Life("load"),
        Life("load", "abort"),
        Life("request"),
        *(Life("token", tokens=tokens) for tokens in range(6)),
        Life("token", "exit", tokens=3),
        Life("token", "babble", tokens=3),
        Life("frame", tokens=0),
        Life("frame", tokens=4),
        Life("flush"),
        Life("end"),
    ],
    ids=lambda life: f"{life.at}{life.tokens or ''}-{life.does}",
)
def test_an_answer_survives_a_death_in_any_place(make: Make, seen: Seen, life: Life) -> None:
    engine = make(life, Life())
    answer = Receiver(engine)
    finished = answer.finished
    assert answer.text == whole_text("hello", 6)
    assert (finished.reason, finished.usage.prompt_tokens, finished.usage.completion_tokens) == ("length", 5, 6)
    assert [token for event in answer.events if isinstance(event, TextDelta) for token in event.ids] == tokens_of(
        "hello", 6
    )
    before, after = seen()
    assert [asked["begun"] for asked in before] == ([] if life.at in ("start", "load") else [0])
    begun = {"token": life.tokens, "frame": life.tokens, "flush": 6, "end": 6}.get(life.at, 0)
    assert [asked["begun"] for asked in after] == [begun]
    assert (engine.stats().state, engine.stats().restarts) == ("ready", 1)


def test_an_answer_survives_a_death_after_each_of_its_tokens(make: Make, seen: Seen) -> None:
    tokens = 12
    answer = Receiver(make(Life("token", tokens=1)), "long", tokens)
    assert answer.finished.usage.completion_tokens == tokens
    assert answer.text == whole_text("long", tokens)
    assert [life[0]["begun"] for life in seen()] == list(range(tokens))


def test_others_notice_a_pause_only(make: Make, seen: Seen) -> None:
    engine = make(Life("token", tokens=10, step_s=0.005), Life("token", tokens=7), Life())
    answers = {name: Receiver(engine, name, 9) for name in ("one", "two", "three")}
    for name, answer in answers.items():
        assert answer.finished.usage.completion_tokens == 9
        assert answer.text == whole_text(name, 9)
    assert len(seen()) == 3
    assert engine.count_prompt_tokens([{"role": "user", "content": "1234"}]) == 4


def test_a_question_survives_a_death(make: Make, seen: Seen) -> None:
    engine = make(Life("count"), Life())
    assert engine.count_prompt_tokens([{"role": "user", "content": "seven.."}], timeout_s=60) == 7
    assert len(seen()) == 2


def test_a_question_that_nobody_waits_for_is_not_asked_again(make: Make, seen: Seen) -> None:
    engine = make(Life("count", "mute"), limits=PATIENT)
    engine.start()
    pid = engine.worker_pid
    assert pid is not None
    with pytest.raises(Exception, match="did not count the tokens within"):
        engine.count_prompt_tokens([{"role": "user", "content": "x"}], timeout_s=0.3)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: engine.worker_pid not in (None, pid) and engine.state == "ready")
    assert seen() == [[{"number": 4, "prompt": "x", "begun": -1}], []]


def test_the_time_of_an_answer_includes_what_dead_workers_took(make: Make) -> None:
    early = Receiver(make(Life("request"), Life(load_s=0.3)))
    timings = early.finished.timings
    assert timings.queue_s > 0.3
    assert timings.prefill_s == pytest.approx(0.02)
    assert timings.ttft_s > 0.3 + 0.02


def test_the_time_of_an_answer_that_had_begun_includes_it_too(make: Make) -> None:
    late = Receiver(make(Life("token", tokens=3), Life(load_s=0.3)))
    timings = late.finished.timings
    assert timings.decode_s > 0.3
    assert timings.ttft_s == timings.prefill_s
    assert timings.queue_s == 0.0


def test_an_answer_without_its_tokens_cannot_go_on_and_says_so(make: Make) -> None:
    engine = make(Life("token", tokens=3), Life(), without_ids=True)
    answer = Receiver(engine)
    assert "SIGKILL" in answer.error.message
    assert answer.text == whole_text("hello", 3)[:-1]
    assert Receiver(engine).finished.usage.completion_tokens == 6


def test_an_answer_that_was_accepted_once_waits_for_a_place_in_the_next_worker(make: Make, seen: Seen) -> None:
    engine = make(Life("token", tokens=4), Life(full=True, step_s=0.01))
    first, second = Receiver(engine, "first", 8), Receiver(engine, "second", 8)
    for answer, prompt in ((first, "first"), (second, "second")):
        assert answer.finished.usage.completion_tokens == 8
        assert answer.text == whole_text(prompt, 8)
    engine_full = [asked["prompt"] for asked in seen()[1]]
    assert engine_full.count("second") == 2
    busy = Receiver(engine, "busy", None)
    assert busy.first.wait(30)
    refused = Receiver(engine, "newcomer")
    assert isinstance(refused.end, Failed)
    assert isinstance(refused.end.error, OverloadedError)
    busy.handle.cancel()
    assert busy.finished.reason == "cancelled"


def test_an_idle_worker_is_replaced_once_and_then_when_it_is_needed(make: Make, seen: Seen) -> None:
    engine = make()
    engine.start()
    for lives in (2, 2):
        pid = engine.worker_pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: engine.worker_pid != pid and engine.state in ("ready", "stopped"))
        assert len(seen()) == lives
    assert engine.state == "stopped"
    assert Receiver(engine).finished.reason == "length"


# ---- who is to blame ----


def test_a_request_that_kills_the_worker_fails_alone(make: Make, seen: Seen) -> None:
    engine = make(Life("request", "abort", word="poison", step_s=0.01))
    innocent = [Receiver(engine, f"innocent {number}", 9) for number in range(2)]
    poison = Receiver(engine, "poison", 9)
    newcomer = Receiver(engine, "newcomer", 9)
    error = poison.error
    assert "died 3 times while it worked on this request, the last time on nothing else" in error.message
    assert "SIGABRT" in error.message
    assert "memory" not in error.mend
    assert poison.text == ""
    for answer in (*innocent, newcomer):
        assert answer.finished.usage.completion_tokens == 9
    assert [answer.text for answer in innocent] == [whole_text(f"innocent {number}", 9) for number in range(2)]
    lives = seen()
    assert "poison" in {asked["prompt"] for asked in lives[0]}
    last_with_poison = [life for life in lives if any(asked["prompt"] == "poison" for asked in life)][-1]
    assert last_with_poison[-1]["prompt"] == "poison"  # whatever was suspected beside it had its turn before
    assert engine.state == "ready"
    assert Receiver(engine, "later").finished.reason == "length"


def test_requests_that_kill_the_worker_one_after_another_are_a_broken_engine(make: Make, seen: Seen) -> None:
    engine = make(Life("request", "abort"), limits=GIVING_UP)
    errors = [Receiver(engine, f"request {number}").error for number in range(3)]
    assert all("3 times while it worked on this request" in error.message for error in errors)
    wait_until(lambda: engine.state == "failed")
    with pytest.raises(WorkerDiedError, match="died 9 times in a row"):
        Receiver(engine)
    assert len(seen()) == 9


def test_one_that_waits_is_tried_before_the_engine_is_given_up_for_others(make: Make) -> None:
    engine = make(Life("request", "abort", word="poison"))
    poison = [Receiver(engine, f"poison {number}") for number in range(4)]
    innocent = Receiver(engine, "innocent")
    assert all("on nothing else" in answer.error.message for answer in poison)
    assert innocent.finished.usage.completion_tokens == 6


# ---- crash loops ----


def test_a_worker_that_never_gets_ready_is_given_up_and_tried_again_after_a_while(make: Make, seen: Seen) -> None:
    doomed = Life("load", "exit", last_words="no such device")
    engine = make(*[doomed] * 6, Life(), limits=GIVING_UP)
    answer = Receiver(engine)
    with pytest.raises(WorkerDiedError) as refused:
        engine.start()
    for error in (answer.error, refused.value):
        assert "died 5 times in a row" in error.message
        assert "while it loaded the model, it ended with exit code 7. Its last words: no such device" in error.message
        assert "or later tries it again" in error.mend
        assert error.retry_after_s is not None
        assert 0 < error.retry_after_s <= 0.5
    assert engine.state == engine.stats().state == "failed"
    assert engine.worker_pid is None
    assert len(seen()) == 5
    time.sleep(answer.error.retry_after_s or 0)
    assert "died 6 times" in Receiver(engine).error.message  # one try, not five
    assert len(seen()) == 6
    with pytest.raises(WorkerDiedError) as refused:
        engine.generate(request())
    assert 0.5 < (refused.value.retry_after_s or 0) <= 0.8  # longer than the first time
    time.sleep(refused.value.retry_after_s or 0)
    assert engine.start().name == "dying"
    assert Receiver(engine).finished.reason == "length"
    assert (engine.state, engine.stats().restarts) == ("ready", 6)


def test_a_worker_that_gets_nothing_done_is_started_ever_more_slowly(make: Make, seen: Seen) -> None:
    limits = Supervision(backoff_s=0.2, backoff_limit_s=0.3)
    engine = make(Life("load"), limits=limits)
    started = time.monotonic()
    with pytest.raises(WorkerDiedError) as raised:
        engine.start()
    error = raised.value
    assert time.monotonic() - started > 0 + 0.1 + 0.15 + 0.15  # what jitter leaves of them
    assert "SIGKILL" in error.message
    for knob in ("context_tokens", "max_sequences", "memory_mib"):
        assert knob in error.mend
    assert len(seen()) == 5


def test_starting_waits_over_restarts(make: Make, seen: Seen) -> None:
    stages: list[Progress] = []
    engine = make(Life("load"), Life("start"), Life("load", "abort"), Life(), on_progress=stages.append)
    assert engine.start(timeout_s=60).name == "dying"
    assert len(seen()) == 4
    assert [progress.detail for progress in stages] == ["0", "2", "3"]
    assert engine.stats().restarts == 3


def test_a_load_error_is_final_and_not_tried_in_a_loop(make: Make, seen: Seen) -> None:
    engine = make(Life("load", "refuse"))
    answer = Receiver(engine)
    assert isinstance(answer.end, Failed)
    assert isinstance(answer.end.error, CheckpointError)
    assert engine.state == "stopped"
    with pytest.raises(CheckpointError):
        engine.start()
    assert len(seen()) == 2


# ---- hangs ----


@pytest.mark.parametrize(
    ("life", "said"),
    [
        (Life("token", "stop", tokens=3), "no sign of life"),
        (Life("token", "mute", tokens=3), "no sign of life"),
        (Life("token", "spin", tokens=3), "no sign of life"),
        (Life("token", "stick", tokens=3), "one step had not come to an end"),
        (Life("load", "stop"), "no sign of life"),
    ],
    ids=lambda value: f"{value.at}-{value.does}" if isinstance(value, Life) else "",
)
def test_a_worker_that_hangs_is_killed_and_its_answers_go_on(
    make: Make, caplog: pytest.LogCaptureFixture, life: Life, said: str
) -> None:
    engine = make(life, Life(), limits=STRICT)
    answer = Receiver(engine)
    assert answer.finished.usage.completion_tokens == 6
    assert answer.text == whole_text("hello", 6)
    assert said in caplog.text
    assert engine.stats().restarts == 1


def test_a_hang_is_told_when_it_is_the_end(make: Make) -> None:
    engine = make(Life("request", "stop"), limits=replace(STRICT, suspected_after=1, convicted_after=1))
    assert "by the supervisor's hand, for it had given no sign of life for" in Receiver(engine).error.message


def test_an_idle_worker_that_hangs_is_found_by_whoever_asks_for_its_state(make: Make) -> None:
    engine = make(limits=STRICT)
    engine.start()
    pid = engine.worker_pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    engine.stats(timeout_s=30)
    wait_until(lambda: engine.worker_pid not in (None, pid) and engine.stats().state == "ready")


def test_what_is_only_slow_is_not_taken_for_a_hang(make: Make, seen: Seen) -> None:
    def slow(event: Event) -> None:
        events.append(event)
        if len(events) == 2:
            time.sleep(1.2)  # longer than a worker may be silent; but it is not the worker that is
        if isinstance(event, Finished | Failed):
            over.set()

    events: list[Event] = []
    over = threading.Event()
    engine = make(Life(load_s=1.2, step_s=0.2), limits=STRICT)
    engine.submit(request(), slow)
    assert over.wait(60)
    assert isinstance(events[-1], Finished)
    assert len(seen()) == 1


def test_an_idle_engine_is_left_to_sleep(make: Make) -> None:
    engine = make(limits=Supervision(ping_s=0.01))
    assert Receiver(engine).finished
    supervisor = engine._present
    assert supervisor is not None
    wait_until(lambda: supervisor._watch.due_at is None)
    assert supervisor._keep_time() is None


# ---- ends that are wanted ----


def between_second_and_third(engine: LocalEngine, seen: Seen) -> None:
    wait_until(lambda: len(seen()) == 2 and engine.worker_pid is None)
    assert engine.state == "restarting"


SLOWLY = Supervision(backoff_s=60.0, backoff_limit_s=60.0)
TWICE = (Life("token", tokens=2), Life("load"), Life())


def test_a_cancel_between_two_workers_is_answered_at_once(make: Make, seen: Seen) -> None:
    engine = make(*TWICE, limits=SLOWLY)
    cancelled = Receiver(engine, "cancelled")
    between_second_and_third(engine, seen)
    assert engine.stats().state == "restarting"
    cancelled.handle.cancel()
    assert (cancelled.finished.reason, cancelled.finished.usage.completion_tokens) == ("cancelled", 2)
    assert [event for event in cancelled.events if isinstance(event, Finished)] == [cancelled.finished]
    assert len(seen()) == 2


def test_a_cancel_while_the_next_worker_loads_is_not_sent_to_it(make: Make, seen: Seen) -> None:
    engine = make(Life("token", tokens=2), Life(load_s=0.5), limits=PATIENT)
    cancelled, other = Receiver(engine, "cancelled"), Receiver(engine, "other")
    wait_until(lambda: len(seen()) == 2)
    cancelled.handle.cancel()
    assert cancelled.finished.reason == "cancelled"
    assert other.finished.reason == "length"
    assert [asked["prompt"] for asked in seen()[1]] == ["other"]


def test_a_receiver_that_failed_is_not_taken_along(make: Make, seen: Seen) -> None:
    def clumsy(event: Event) -> None:
        raise RuntimeError("a mistake of the application")

    engine = make(Life("token", tokens=3, step_s=0.01, word="other"), Life())
    engine.submit(request("clumsy", 10**6), clumsy)
    other = Receiver(engine, "other")
    assert other.finished.reason == "length"
    assert [asked["prompt"] for asked in seen()[1]] == ["other"]


def test_closing_between_two_workers_ends_everything(make: Make, seen: Seen) -> None:
    engine = make(*TWICE, limits=SLOWLY)
    answer = Receiver(engine)
    between_second_and_third(engine, seen)
    started = time.monotonic()
    engine.close()
    assert time.monotonic() - started < 3
    assert "closed" in answer.error.message
    assert len(seen()) == 2
    with pytest.raises(WorkerDiedError, match="closed"):
        engine.submit(request(), answer)


def test_a_receiver_may_close_the_engine(make: Make) -> None:
    over = threading.Event()

    def close(event: Event) -> None:
        if isinstance(event, Failed):
            engine.close()
            over.set()

    engine = make(Life("request", "abort"), limits=PATIENT)
    engine.submit(request(), close)
    assert over.wait(60)
    other = Receiver(make())
    assert other.end


def test_a_dropped_engine_takes_its_restart_along(tmp_path: Path, seen: Seen) -> None:
    engine = LocalEngine(Plan(str(tmp_path), [*TWICE]).options(), worker_command=COMMAND, supervision=SLOWLY)
    engine.submit(request(), lambda event: None)
    between_second_and_third(engine, seen)
    supervisor = engine._present
    assert supervisor is not None
    thread = supervisor._inbox._thread
    assert thread is not None
    del engine
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize("program", ["/no/such/program", str(Path(__file__))], ids=["missing", "not executable"])
def test_a_program_that_cannot_be_started_is_told_and_not_tried_in_a_loop(program: str) -> None:
    with LocalEngine(Plan("").options(), worker_command=[program], supervision=PATIENT) as engine:
        with pytest.raises(WorkerDiedError, match=program):
            engine.start()
        assert program in Receiver(engine).error.message
        assert engine.state == "stopped"


def test_fifty_restarts_leak_nothing(make: Make, seen: Seen) -> None:
    process = psutil.Process()
    engine = make(Life("token", tokens=1))
    assert Receiver(engine, "warm", 3).finished
    engine.start()

    def resources() -> tuple[int, int, int]:
        return threading.active_count(), process.num_fds(), len(process.children(recursive=True))

    wait_until(lambda: resources()[2] == 1)
    before, lives = resources(), len(seen())
    answer = Receiver(engine, "leak", 51)
    assert answer.finished.usage.completion_tokens == 51
    assert answer.text == whole_text("leak", 51)
    assert len(seen()) >= lives + 50
    engine.start()
    wait_until(lambda: resources() == before)


def test_wrong_limits_are_named() -> None:
    for name, value in (("hang_s", 0), ("deaths_in_a_row", 2.5), ("backoff_s", float("nan")), ("ping_s", True)):
        with pytest.raises(InvalidRequestError, match=name):
            Supervision(**{name: value})  # type: ignore[arg-type]
