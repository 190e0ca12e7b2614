"""Estimates: what is measured, what is forgotten, what stays unknown, and what a wait that was cut short says."""

import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridllm.latency import DeviceLatency, Latency, MovingEstimate
from hybridllm.percentiles import RecentPercentiles
from policies.handling import PERCENTILES
from tests.hybridllm.remote_harness import Clock


@pytest.fixture
def clock():
    return Clock()


def test_estimates_move_and_are_forgotten(clock):
    estimate = MovingEstimate(clock)
    assert estimate.value is None
    estimate.add(100)
    assert estimate.value == 100
    for _ in range(30):
        estimate.add(200)
    assert 199 < estimate.value < 200
    clock.now_s += 1000
    assert estimate.value is None
    estimate.add(50)
    assert estimate.value == 50


def test_latency_of_a_place(clock):
    latency = Latency(clock)
    assert latency.expected_s(10) is None
    latency.note_first_token(500)
    assert latency.expected_s(1) == 0.5
    assert latency.expected_s(10) is None
    latency.note_speed(2, 1.0)
    assert latency.tokens_per_s is None
    latency.note_speed(20, 1.0)
    assert latency.expected_s(101) == 0.5 + 100 / 20
    assert latency.expected_s(101, ttft_ms=2000) == 2.0 + 100 / 20
    latency.note_failure(100)
    assert latency.ttft_ms == 500
    latency.note_failure(10_000)
    assert latency.ttft_ms > 500
    assert latency.answered_ttft_ms == 500


def test_a_quick_failure_of_an_unknown_place_does_not_make_it_fast(clock):
    latency = Latency(clock)
    latency.note_failure(3)
    assert latency.ttft_ms is None
    latency.note_failure(10_000)
    assert (latency.ttft_ms, latency.answered_ttft_ms) == (10_000, None)


# ---- percentiles ----


def test_percentiles_are_unknown_until_enough_was_measured(clock):
    latency = Latency(clock)
    known_after = {}
    for count in range(1, 121):
        latency.note_first_token(float(count))
        for name in PERCENTILES:
            if latency.percentile_ms(name) is not None:
                known_after.setdefault(name, count)
    assert known_after == {"p50": 8, "p75": 8, "p90": 10, "p95": 20, "p99": 100}


@given(st.lists(st.floats(0.0, 1e6), min_size=100, max_size=256), st.sampled_from([0.5, 0.75, 0.9, 0.95, 0.99]))
def test_of_durations_that_all_ended_they_are_the_order_statistic(durations, share):
    recent = RecentPercentiles(Clock())
    for duration in durations:
        recent.add(duration)
    found = recent.value(share)
    within = sum(duration <= found for duration in durations) / len(durations)
    below = sum(duration < found for duration in durations) / len(durations)
    assert below < share <= within + 1e-9


def test_a_textbook_example_with_durations_that_were_cut_short(clock):
    # Leukaemia patients under 6-MP, in weeks of remission (Gehan 1965; Freireich et al. 1963): the share still in remission after
    # 23 weeks is 0.4482, and the median is 23 weeks.
    recent = RecentPercentiles(clock)
    for ended in (6, 6, 6, 7, 10, 13, 16, 22, 23):
        recent.add(ended)
    for open_then in (6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35):
        recent.add(open_then, ended=False)
    assert recent.value(0.5) == 23
    assert recent.value(0.2) == 10
    assert recent.value(0.5518) == 23
    assert recent.value(0.6) == 35  # beyond what ended: the longest of all that is known


def test_waits_that_a_hedge_cut_short_do_not_make_a_place_look_fast(clock):
    """Times with a long tail, all of which are stopped after 1 s: the percentiles below that are right, and the rest is 1 s."""
    chance = random.Random(7)
    times = [chance.lognormvariate(-0.7, 0.8) for _ in range(256)]
    recent, naive = RecentPercentiles(clock), []
    for seconds in times:
        recent.add(min(seconds, 1.0), ended=seconds <= 1.0)
        naive += [seconds] if seconds <= 1.0 else []
    true_p75 = statistics.quantiles(times, n=20)[14]
    assert recent.value(0.75) == pytest.approx(true_p75, rel=0.03)
    assert statistics.quantiles(naive, n=20)[14] < 0.85 * true_p75
    assert recent.value(0.95) == 1.0


def test_where_nearly_all_were_cut_short_nothing_is_known(clock):
    recent = RecentPercentiles(clock)
    for _ in range(60):
        recent.add(1.0, ended=False)
    for _ in range(9):
        recent.add(0.5)
    assert recent.value(0.5) == 1.0
    assert recent.value(0.95) is None
    recent.add(0.5)
    assert recent.value(0.95) == 1.0


def test_old_measurements_are_forgotten_and_only_the_last_256_count(clock):
    recent = RecentPercentiles(clock)
    for _ in range(50):
        recent.add(9.0)
    clock.now_s += 600
    for _ in range(20):
        recent.add(1.0)
    assert recent.value(0.5) == 9.0
    clock.now_s += 400
    assert recent.value(0.95) == 1.0
    clock.now_s += 600
    assert recent.value(0.5) is None
    for duration in range(1000):
        recent.add(float(duration))
    assert recent.value(0.5) == pytest.approx(1000 - 128, abs=1)


def test_failures_count_as_waits_that_were_cut_short(clock):
    latency = Latency(clock)
    for _ in range(20):
        latency.note_first_token(100)
    for _ in range(6):
        latency.note_at_least(2000)
    assert latency.percentile_ms("p50") == 100
    assert latency.percentile_ms("p95") == 2000


# ---- the device ----


def measured(clock, pairs, **more):
    device = DeviceLatency(clock)
    for tokens, ms in pairs:
        device.note_first_token(ms, tokens, **more)
    return device


def test_what_is_not_measured_is_unknown(clock):
    device = DeviceLatency(clock)
    assert (device.expected_ttft_ms(100), device.ms_per_token) == (None, None)
    device.note_first_token(100, 0)
    device.note_first_token(100, 10, queue_s=0.2)
    assert device.expected_ttft_ms(100) is None


def test_prompts_of_different_lengths_tell_the_prefill_from_the_rest(clock):
    device = measured(clock, [(tokens, 40 + 2.5 * tokens) for tokens in (20, 400, 90, 700, 30)])
    assert device.ms_per_token == pytest.approx(2.5)
    assert device.expected_ttft_ms(1000) == pytest.approx(2540)
    assert device.expected_ttft_ms(1000, 1.5) == pytest.approx(4040)
    assert device.expected_ttft_ms(1000, cached_tokens=900) == pytest.approx(290)


def test_prompts_of_one_length_are_taken_in_proportion(clock):
    device = measured(clock, [(100, 250), (101, 252), (99, 248)])
    assert device.expected_ttft_ms(200) == pytest.approx(500, rel=0.01)


def test_what_was_in_the_prefix_cache_and_the_queue_does_not_count_as_prefill(clock):
    device = DeviceLatency(clock)
    for tokens, cached, queue_s in ((100, 0, 0.0), (800, 700, 3.0), (600, 100, 0.5), (50, 25, 0.0)):
        device.note_first_token(30 + 2 * (tokens - cached) + 1000 * queue_s, tokens, cached, queue_s)
    assert device.ms_per_token == pytest.approx(2.0)
    assert device.expected_ttft_ms(400, cached_tokens=0) == pytest.approx(830)


def test_the_usual_share_of_the_prefix_cache_is_expected_again(clock):
    device = DeviceLatency(clock)
    for tokens in (100, 200, 400, 800):
        device.note_first_token(10 + 2 * tokens * 0.1, tokens, int(tokens * 0.9))
    assert device.expected_ttft_ms(1000) == pytest.approx(210, rel=0.02)


@pytest.mark.parametrize(
    ("pairs", "tokens", "expected_ms"),
    [
        ([(100, 300), (400, 200), (800, 250)], 2000, 250),  # noise: longer ones were not slower
        ([(100, 100), (200, 400), (400, 1600)], 300, 1092.4),  # more than in proportion
        ([(0.4, 50)], 1, 50),
    ],
)
def test_no_cost_is_ever_negative(clock, pairs, tokens, expected_ms):
    device = measured(clock, [(max(1, int(tokens)), ms) for tokens, ms in pairs])
    assert device.expected_ttft_ms(tokens) == pytest.approx(expected_ms, rel=0.05)


@given(
    st.lists(st.tuples(st.integers(1, 10_000), st.floats(0.01, 1e6)), min_size=1, max_size=40), st.integers(1, 10_000)
)
def test_expectations_are_finite_and_grow_with_the_prompt(pairs, tokens):
    device = measured(Clock(), pairs)
    shorter, longer = device.expected_ttft_ms(tokens), device.expected_ttft_ms(2 * tokens)
    assert 0 <= shorter <= longer < 1e12


def test_a_device_that_becomes_slower_is_found_out(clock):
    device = measured(clock, [(tokens, 2 * tokens) for tokens in (100, 400, 800) * 10])
    for tokens in (100, 400, 800) * 20:
        device.note_first_token(6.0 * tokens, tokens)
    assert device.ms_per_token == pytest.approx(6.0, rel=0.1)


def test_costs_are_forgotten(clock):
    device = measured(clock, [(100, 200), (500, 1000)])
    clock.now_s += 1000
    assert (device.expected_ttft_ms(100), device.ms_per_token) == (None, None)
    device.note_first_token(50, 100)
    assert device.expected_ttft_ms(100, cached_tokens=0) == pytest.approx(50)
