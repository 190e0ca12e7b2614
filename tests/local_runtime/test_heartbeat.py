"""What is a hang and what is only slow, judged from plain values."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from local_runtime.heartbeat import Heartbeat, Sight, look_at
from local_runtime.protocol import PongReply
from local_runtime.supervision import Supervision

LIMITS = Supervision()  # a ping a second, 10 s of silence, steps of 30 s or 20 times the longest


class Machine:
    """A heartbeat with a clock that is told how long it ticks."""

    def __init__(self, sight: Sight | None = None) -> None:
        self.sight = sight if sight is not None else Sight(0.0)
        self.cpu_per_s = 0.0
        self.gone = False
        self.looks = 0
        self.heart = Heartbeat(LIMITS, self._look)
        self.frames = 0
        self.pong: PongReply | None = None

    def _look(self, pid: int) -> Sight | None:
        assert pid == 7
        self.looks += 1
        return None if self.gone else self.sight

    def silent(self, seconds: int, tick_s: float = 1.0, *, listening: bool = True) -> tuple[int, str | None]:
        """Tick without a frame; returns how many ticks it took to judge, and the judgement."""
        for number in range(seconds):
            self.sight = Sight(
                self.sight.cpu_s + self.cpu_per_s * tick_s, self.sight.stopped, self.sight.traced, self.sight.waiting
            )
            why = self.heart.tick(tick_s, 7, frames=self.frames, pong=self.pong, listening=listening, ready=True)
            if why is not None:
                return number + 1, why
        return seconds, None

    def beats(self, beat: int, busy_s: float, tick_s: float = 1.0, *, ready: bool = True) -> str | None:
        """Tick with a fresh pong."""
        self.frames += 1
        self.pong = PongReply(2, beat, busy_s)
        return self.heart.tick(tick_s, 7, frames=self.frames, pong=self.pong, listening=True, ready=ready)

    def step(self, beat: int, seconds: int) -> str | None:
        """One step of so many seconds, looked at every second."""
        for busy_s in range(1, seconds + 1):
            why = self.beats(beat, float(busy_s))
            if why is not None:
                return why
        return None


@pytest.mark.parametrize(
    ("sight", "cpu_per_s", "after_s"),
    [
        (Sight(1.0), 0.0, 10),
        (Sight(1.0, stopped=True), 0.0, 10),
        (Sight(1.0), 0.01, 10),
        (Sight(1.0), 0.5, 60),
        (Sight(1.0, waiting=True), 0.0, 60),
    ],
    ids=["sleeps", "stopped", "hardly computes", "computes", "waits for a disk"],
)
def test_silence_is_judged_by_what_the_process_does(sight: Sight, cpu_per_s: float, after_s: int) -> None:
    machine = Machine(sight)
    machine.cpu_per_s = cpu_per_s
    machine.beats(1, 0.0)
    ticks, why = machine.silent(200)
    assert why == f"by the supervisor's hand, for it had given no sign of life for {after_s} s"
    assert ticks == after_s


def test_any_frame_is_a_sign_of_life_and_nothing_is_looked_at_before_there_is_doubt() -> None:
    machine = Machine()
    for _ in range(10):
        machine.frames += 1
        assert machine.silent(5) == (5, None)
    assert machine.looks == 0


@pytest.mark.parametrize("state", ["traced", "gone"])
def test_a_process_that_is_held_by_a_debugger_or_gone_is_left_alone(state: str) -> None:
    machine = Machine(Sight(0.0, traced=state == "traced"))
    machine.gone = state == "gone"
    assert machine.silent(500) == (500, None)


def test_a_receiver_that_takes_its_time_is_no_silence() -> None:
    machine = Machine()
    machine.beats(1, 0.0)
    assert machine.silent(100, listening=False) == (100, None)
    ticks, why = machine.silent(100)
    assert ticks == 10
    assert why is not None


def test_the_sleep_of_the_whole_machine_is_nobodys_silence() -> None:
    machine = Machine()
    machine.beats(1, 0.0)
    assert machine.silent(4, tick_s=3600.0) == (4, None)


def test_a_step_is_stuck_after_half_a_minute_or_twenty_times_the_longest() -> None:
    machine = Machine()
    machine.heart.worked()
    assert machine.beats(1, 0.1) is None
    assert machine.step(2, 30) is None
    assert machine.step(2, 32) is not None
    slow = Machine()
    slow.heart.worked()
    assert slow.step(1, 5) is None
    assert slow.beats(2, 0.1) is None  # the step of 5 s has come to its end
    assert slow.step(3, 100) is None
    why = slow.step(3, 103)
    assert why is not None
    assert why.startswith("by the supervisor's hand, for one step had not come to an end for ")


def test_the_first_step_of_all_may_take_long_for_nobody_knows_this_machine() -> None:
    machine = Machine()
    assert machine.step(1, 300) is None
    assert machine.step(1, 302) is not None


def test_after_a_step_was_taken_for_stuck_more_patience_is_shown_until_a_request_has_finished() -> None:
    machine = Machine()
    machine.heart.worked()
    assert machine.step(1, 40) is not None
    machine.heart.new_worker()
    assert machine.step(1, 119) is None
    machine.heart.worked(finished=True)
    machine.heart.new_worker()
    assert machine.step(1, 40) is not None


def test_a_worker_that_was_stopped_for_a_while_is_not_stuck_for_so_long() -> None:
    machine = Machine()
    machine.heart.worked()
    machine.beats(1, 1.0)
    assert machine.beats(1, 500.0) is None  # it says so, but was asked twice only
    assert machine.beats(2, 0.1) is None


def test_loading_and_idling_are_no_steps() -> None:
    machine = Machine()
    machine.heart.worked()
    for second in range(500):
        assert machine.beats(1, float(second), ready=False) is None
    for _ in range(500):
        assert machine.beats(2, 0.0) is None


# ---- what the system tells ----


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    spinning = subprocess.Popen([sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE)
    assert spinning.stdout is not None
    spinning.stdout.readline()
    yield spinning
    spinning.kill()
    spinning.wait()
    spinning.stdout.close()


def test_the_system_is_asked_about_a_real_process(process: subprocess.Popen[bytes]) -> None:
    first = look_at(process.pid)
    assert first is not None
    deadline = time.monotonic() + 30
    while (sight := look_at(process.pid)) is not None and sight.cpu_s < first.cpu_s + 0.05:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert sight is not None
    assert not sight.stopped
    if os.name == "posix":
        os.kill(process.pid, signal.SIGSTOP)
        while (sight := look_at(process.pid)) is not None and not sight.stopped:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert sight is not None
        assert not sight.waiting
    process.kill()
    process.wait()
    assert look_at(process.pid) is None
