"""Who is blamed for deaths, when a worker is started again, and what is said when it isn't; plain values, no process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_runtime import deaths
from local_runtime.crash_loop import CrashLoop
from local_runtime.deaths import Death, how_it_ended, memory_kills
from local_runtime.errors import ProtocolError
from local_runtime.options import GenerateRequest
from local_runtime.roster import Roster
from local_runtime.supervision import Supervision
from local_runtime.underway import Answer

LIMITS = Supervision()
CRASH = Death("by signal SIGSEGV")
KILL = Death("by signal SIGKILL", killed=True)
FOR_MEMORY = Death("by signal SIGKILL", killed=True, for_memory=True)
KNOBS = ("context_tokens", "max_sequences", "memory_mib")


def never() -> float:
    return 0.0


def always() -> float:
    return 1.0


def test_the_first_restart_is_immediate_and_each_further_one_waits_twice_as_long() -> None:
    limits = Supervision(deaths_in_a_row=10)
    shortest, longest = CrashLoop(limits, never), CrashLoop(limits, always)
    assert [longest.died(CRASH) for _ in range(10)] == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, None]
    assert [shortest.died(CRASH) for _ in range(4)] == [0.0, 0.25, 0.5, 1.0]
    longest.worked()
    assert longest.died(CRASH) == 0.0


def test_it_is_given_up_for_ever_longer_until_it_works() -> None:
    loop = CrashLoop(LIMITS)
    waits = [loop.died(CRASH) for _ in range(5)]
    assert waits[-1] is None
    now_s = 1000.0
    for round_, cool_down_s in enumerate((30.0, 60.0, 120.0, 240.0, 300.0, 300.0)):
        error = loop.give_up(CRASH, "loaded the model", now_s)
        assert error.retry_after_s == cool_down_s
        assert f"died {5 + round_} times in a row" in error.message
        halfway = loop.refusal(now_s + cool_down_s / 2)
        assert halfway is not None
        assert halfway.message == error.message
        assert halfway.retry_after_s == cool_down_s / 2
        now_s += cool_down_s
        assert loop.refusal(now_s) is None
        assert loop.died(CRASH) is None  # one probe, not five
    loop.worked()
    assert loop.refusal(now_s) is None
    assert loop.died(CRASH) == 0.0
    assert loop.give_up(CRASH, "loaded the model", now_s).retry_after_s == 30.0


def test_deaths_that_are_held_against_requests_do_not_give_it_up() -> None:
    loop = CrashLoop(LIMITS, always)
    assert [loop.died(CRASH, blamed=True) for _ in range(7)] == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0]
    assert [loop.died(CRASH) for _ in range(4)] == [30.0] * 4
    assert loop.died(CRASH, blamed=True) == 30.0
    assert [loop.died(CRASH) for _ in range(5)] == [*[30.0] * 4, None]
    assert "died 17 times in a row" in loop.give_up(CRASH, "loaded the model", 0.0).message


def test_a_convicted_request_takes_its_deaths_along() -> None:
    loop = CrashLoop(LIMITS)
    for others_wait in (True, True, True):
        for _ in range(3):
            assert loop.died(CRASH) is not None
        error, give_up = loop.convict(CRASH, others_wait=others_wait)
        assert "3 times while it worked on this request" in error.message
        assert not give_up
    for _ in range(3):
        loop.died(CRASH)
    assert loop.convict(CRASH, others_wait=False)[1]
    assert "died 12 times" in loop.give_up(CRASH, "worked", 0.0).message


@pytest.mark.parametrize(
    ("deaths_", "knobs", "said"),
    [
        ([CRASH], False, ""),
        ([CRASH, KILL], False, ""),
        ([KILL, KILL], True, "If the system runs short of memory: free memory"),
        ([KILL, CRASH, KILL], False, ""),
        ([CRASH, FOR_MEMORY], True, "Free memory"),
    ],
    ids=["crash", "killed once", "killed twice", "not in a row", "the kernel says so"],
)
def test_the_knobs_of_memory_are_named_where_it_may_be_that(deaths_: list[Death], knobs: bool, said: str) -> None:
    loop = CrashLoop(LIMITS)
    for death in deaths_:
        loop.died(death)
    given_up = loop.give_up(deaths_[-1], "loaded the model", 0.0)
    convicted, _ = loop.convict(deaths_[-1], others_wait=True)
    for error in (given_up, convicted):
        assert [knob in error.mend for knob in KNOBS] == [knobs] * 3
        assert error.mend.startswith(said)
        assert ("short of memory" in error.message) == (deaths_[-1] is FOR_MEMORY)


def test_how_a_process_ended_in_words() -> None:
    assert how_it_ended(7) == "with exit code 7"
    assert how_it_ended(-11) == "by signal SIGSEGV"
    assert how_it_ended(-250) == "by signal 250"
    assert Death.by(ProtocolError("A frame is not JSON.")).words == "because of an error (A frame is not JSON)."
    assert "Its last words: no such device" in Death("with exit code 1", "no such device").error().message


def test_kills_for_memory_are_counted_where_the_kernel_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "vmstat"
    monkeypatch.setattr(deaths, "_VMSTAT", told)
    assert memory_kills() == 0
    told.write_text("pgfault 12\noom_kill 3\ndrop_slab 0\n", encoding="ascii")
    assert memory_kills() == 3
    told.write_text("pgfault 12\n", encoding="ascii")
    assert memory_kills() == 0


# ---- who is to blame ----


class Lives:
    """A roster with a worker that dies when it is told to."""

    def __init__(self, suspected_after: int | None = 2) -> None:
        self.roster = Roster(suspected_after)
        self.names: dict[int, str] = {}

    def add(self, *names: str) -> None:
        for name in names:
            request = GenerateRequest(messages=[{"role": "user", "content": name}])
            task = Answer(len(self.names), request, lambda event: None)
            self.names[task.id] = name
            self.roster.add(task)

    def send(self) -> list[str]:
        due = self.roster.due()
        for task in due:
            task.sent = True
        return [self.names[task.id] for task in due]

    def move(self, name: str) -> bool:
        return self.roster.moved(next(task for task in self.roster if self.names[task.id] == name))

    def remove(self, name: str) -> bool:
        return self.roster.remove(next(task for task in self.roster if self.names[task.id] == name))

    def die(self, *, was_ready: bool = True) -> dict[str, int]:
        """Kill the worker; returns how many deaths are held against whom."""
        left = {task.id for task in self.roster if task.sent}
        return {self.names[task.id]: task.deaths for task in self.roster.died(left, was_ready=was_ready)}


def test_whoever_was_under_way_twice_is_tried_alone_and_the_others_wait_no_longer_than_that() -> None:
    lives = Lives()
    lives.add("poison", "innocent", "moving")
    assert lives.send() == ["poison", "innocent", "moving"]
    lives.move("moving")
    assert lives.die() == {"poison": 1, "innocent": 1, "moving": 1}
    assert lives.send() == ["poison", "innocent", "moving"]
    lives.move("moving")
    lives.add("newcomer")
    assert lives.die() == {"poison": 2, "innocent": 2, "moving": 1}
    assert lives.send() == ["poison"]
    assert lives.send() == []
    assert lives.die() == {"poison": 3}
    lives.remove("poison")
    assert lives.send() == ["innocent"]
    assert lives.move("innocent")  # got further: now the others may come
    assert lives.send() == ["moving", "newcomer"]
    assert lives.die() == {"innocent": 1, "moving": 2, "newcomer": 1}
    assert lives.send() == ["moving"]
    assert lives.remove("moving")
    assert lives.send() == ["innocent", "newcomer"]


def test_a_death_while_loading_is_nobodys_fault() -> None:
    lives = Lives()
    lives.add("one")
    for _ in range(4):
        assert lives.die(was_ready=False) == {}
    assert lives.send() == ["one"]


def test_what_has_ended_is_not_sent_again_though_its_message_comes_late() -> None:
    lives = Lives()
    lives.add("one", "two")
    lives.send()
    (one, two) = lives.roster
    assert lives.roster.died({two.id}, was_ready=True) == [two]
    assert list(lives.roster) == [two]
    assert one not in lives.roster


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_the_innocent_are_never_convicted_whatever_else_happens(data: st.DataObject) -> None:
    """Poisons kill the worker whenever it has them; everybody else finishes, and nobody waits for ever."""
    lives = Lives()
    poisons = {f"poison {number}" for number in range(data.draw(st.integers(0, 3)))}
    innocents = {f"innocent {number}" for number in range(data.draw(st.integers(0, 4)))}
    lives.add(*data.draw(st.permutations(sorted(poisons | innocents))))
    convicted: set[str] = set()
    finished: set[str] = set()
    sent: set[str] = set()
    for _ in range(200):
        sent |= set(lives.send())
        if not lives.roster:
            break
        if sent & poisons and data.draw(st.booleans()):
            blamed = lives.die()
            assert set(blamed) == sent
            for name, count in blamed.items():
                if len(blamed) == 1 and count >= 3:
                    convicted.add(name)
                    lives.remove(name)
            sent = set()
        elif sent & innocents:
            name = data.draw(st.sampled_from(sorted(sent & innocents)))
            act: Callable[[str], bool] = data.draw(st.sampled_from([lives.move, lives.remove]))
            act(name)
            if act == lives.remove:
                finished.add(name)
                sent.discard(name)
    assert convicted <= poisons
    assert not lives.roster or sent, "something waits though the worker has nothing to do"
    assert finished <= innocents
