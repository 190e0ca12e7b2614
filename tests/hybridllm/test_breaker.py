"""The circuit breaker, with a clock and a chance of its own: whom it lets through, and when."""

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hybridllm.breaker import LONGEST_WAIT_S, CircuitBreaker
from hybridllm.errors import BreakerOpen
from policies import Breaker
from tests.hybridllm.remote_harness import Clock

SETTINGS = Breaker(failures=3, open_s=10.0, successes=2)


@pytest.fixture
def clock():
    return Clock()


def breaker_of(clock, settings=SETTINGS, chance=0.0):
    return CircuitBreaker(lambda: settings, clock=clock, chance=lambda: chance)


def fail(breaker, times=1, **how):
    for _ in range(times):
        breaker.admit().failed(**how)


def half_open(clock, **how):
    breaker = breaker_of(clock)
    fail(breaker, 3, **how)
    clock.now_s += 10
    return breaker


def test_failures_in_a_row_open_it_and_a_success_between_them_does_not(clock):
    breaker = breaker_of(clock)
    fail(breaker, 2)
    breaker.admit().succeeded()
    fail(breaker, 2)
    assert (breaker.state, breaker.open_for_s) == ("closed", 0.0)
    fail(breaker)
    assert (breaker.state, breaker.open_for_s) == ("open", 10.0)
    with pytest.raises(BreakerOpen, match=r"failed 3 times in a row and is left alone for another 10 s") as raised:
        breaker.admit()
    assert raised.value.retry_after_s == 10.0


def test_a_try_that_says_nothing_counts_for_nothing(clock):
    breaker = breaker_of(clock)
    fail(breaker, 2)
    breaker.admit().release()
    fail(breaker)
    assert breaker.state == "open"


def test_one_probe_at_a_time_and_successes_in_a_row_close_it(clock):
    breaker = half_open(clock)
    assert breaker.state == "half_open"
    first = breaker.admit()
    with pytest.raises(BreakerOpen, match="another request is just finding out"):
        breaker.admit()
    first.succeeded()
    assert breaker.state == "half_open"
    second = breaker.admit()
    second.succeeded()
    assert breaker.state == "closed"
    assert [breaker.admit() for _ in range(5)]


def test_a_probe_whose_first_token_is_there_lets_the_next_one_go(clock):
    breaker = half_open(clock)
    first = breaker.admit()
    first.answering()
    second = breaker.admit()
    with pytest.raises(BreakerOpen):
        breaker.admit()
    first.succeeded()
    second.succeeded()
    assert breaker.state == "closed"


def test_a_probe_that_is_stopped_makes_room_for_another(clock):
    breaker = half_open(clock)
    breaker.admit().release()
    assert breaker.state == "half_open"
    breaker.admit().succeeded()


def test_each_failed_probe_doubles_the_wait_up_to_ten_times(clock):
    breaker = half_open(clock)
    waits = []
    for _ in range(6):
        breaker.admit().failed()
        waits.append(breaker.open_for_s)
        clock.now_s += waits[-1]
    assert waits == [20.0, 40.0, 80.0, 100.0, 100.0, 100.0]
    breaker.admit().succeeded()
    breaker.admit().succeeded()
    fail(breaker, 3)
    assert breaker.open_for_s == 10.0


def test_a_failure_after_one_success_opens_it_again(clock):
    breaker = half_open(clock)
    breaker.admit().succeeded()
    breaker.admit().failed()
    assert (breaker.state, breaker.open_for_s) == ("open", 20.0)
    clock.now_s += 20
    breaker.admit().succeeded()
    assert breaker.state == "half_open"


def test_chance_makes_the_wait_longer_and_never_shorter(clock):
    breaker = breaker_of(clock, chance=0.8)
    fail(breaker, 3)
    assert breaker.open_for_s == pytest.approx(12.0)


def test_what_began_before_a_change_says_nothing_about_after(clock):
    breaker = breaker_of(clock)
    slow_success, slow_failure, very_slow = breaker.admit(), breaker.admit(), breaker.admit()
    fail(breaker, 3)
    slow_success.succeeded()
    assert breaker.state == "open"
    clock.now_s += 10
    slow_failure.failed()
    assert breaker.state == "half_open"
    breaker.admit().succeeded()
    breaker.admit().succeeded()
    very_slow.failed()
    fail(breaker, 2)
    assert breaker.state == "closed"


def test_an_end_is_said_once(clock):
    breaker = breaker_of(clock)
    passage = breaker.admit()
    for _ in range(5):
        passage.failed()
    passage.succeeded()
    assert breaker.state == "closed"
    fail(breaker, 2)
    assert breaker.state == "open"


@pytest.mark.parametrize(
    ("asked_s", "state", "open_s"),
    [(LONGEST_WAIT_S, "closed", 0.0), (6.0, "open", 10.0), (60.0, "open", 60.0), (86400.0, "open", 100.0)],
)
def test_a_long_pause_that_the_remote_asks_for_is_kept_by_everybody(clock, asked_s, state, open_s):
    breaker = breaker_of(clock)
    fail(breaker, retry_after_s=asked_s)
    assert (breaker.state, breaker.open_for_s) == (state, open_s)


def test_an_empty_connection_ends_a_wait_for_a_connection_and_no_other(clock):
    breaker = breaker_of(clock)
    fail(breaker, 3, unreachable=True)
    assert breaker.waits_for_connection
    breaker.note_probe(True)
    assert (breaker.state, breaker.waits_for_connection) == ("half_open", False)
    breaker.admit().failed(unreachable=True)
    assert breaker.waits_for_connection
    breaker.note_probe(True)
    breaker.admit().failed()
    breaker.note_probe(True)
    assert (breaker.state, breaker.open_for_s) == ("open", 40.0)


def test_an_empty_connection_that_fails_spares_a_request_the_probe(clock):
    breaker = half_open(clock, unreachable=True)
    breaker.note_probe(False)
    assert (breaker.state, breaker.open_for_s, breaker.waits_for_connection) == ("open", 20.0, True)
    breaker.note_probe(False)
    assert breaker.open_for_s == 20.0
    clock.now_s += 20
    probing = breaker.admit()
    breaker.note_probe(False)  # a request is finding out already
    assert breaker.state == "half_open"
    probing.succeeded()


def test_empty_connections_change_nothing_while_it_is_closed(clock):
    breaker = breaker_of(clock)
    for _ in range(10):
        breaker.note_probe(False)
    assert breaker.state == "closed"


def test_settings_that_change_count_from_then_on(clock):
    current = [Breaker(failures=2, open_s=10.0)]
    breaker = CircuitBreaker(lambda: current[0], clock=clock, chance=lambda: 0.0)
    fail(breaker)
    current[0] = Breaker(failures=4, open_s=3.0, successes=1)
    fail(breaker, 2)
    assert breaker.state == "closed"
    fail(breaker)
    assert breaker.open_for_s == 3.0
    clock.now_s += 3
    breaker.admit().succeeded()
    assert breaker.state == "closed"


def test_who_subscribed_is_told_of_changes(clock):
    breaker = breaker_of(clock)
    told = []
    breaker.subscribe(lambda: told.append(breaker.state))
    fail(breaker, 3, unreachable=True)
    breaker.note_probe(True)
    breaker.admit().succeeded()
    breaker.admit().succeeded()
    assert told == ["open", "half_open", "closed"]


class Traffic(RuleBasedStateMachine):
    """Any order of tries, ends and time: what holds whatever happens."""

    def __init__(self):
        super().__init__()
        self.clock = Clock()
        self.breaker = CircuitBreaker(lambda: SETTINGS, clock=self.clock, chance=lambda: 1.0)
        self.open = []
        self.probe = None

    @rule(seconds=st.floats(0.0, 150.0))
    def time_passes(self, seconds):
        self.clock.now_s += seconds

    @rule()
    def a_try_begins(self):
        state = self.breaker.state
        if state == "open" or self.probe is not None:
            with pytest.raises(BreakerOpen) as refused:
                self.breaker.admit()
            assert refused.value.retry_after_s > 0
            return
        self.open.append(self.breaker.admit())
        if state == "half_open":
            self.probe = self.open[-1]

    @precondition(lambda self: self.open)
    @rule(data=st.data(), how=st.sampled_from(["succeeded", "failed", "release", "answering"]))
    def a_try_ends(self, data, how):
        passage = data.draw(st.sampled_from(self.open))
        getattr(passage, how)()
        if how != "answering":
            self.open.remove(passage)
        if passage is self.probe or self.breaker.state != "half_open":
            self.probe = None

    @rule(connected=st.booleans())
    def an_empty_connection(self, connected):
        self.breaker.note_probe(connected)
        if self.breaker.state != "half_open":
            self.probe = None

    @invariant()
    def it_never_waits_for_ever(self):
        assert 0.0 <= self.breaker.open_for_s <= 125.0
        assert (self.breaker.state == "open") == (self.breaker.open_for_s > 0)


TestTraffic = Traffic.TestCase
TestTraffic.settings = hypothesis_settings(max_examples=60, stateful_step_count=30, deadline=None)
