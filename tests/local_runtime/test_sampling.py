"""Sampling: greedy exactness, reproducibility, what each option keeps, and that draws follow the distribution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_runtime.errors import EngineInternalError, InvalidRequestError
from local_runtime.options import SamplingOptions
from local_runtime.sampling import Limits, Sampler

LOGITS = np.array([1.0, 3.0, 2.0, 3.0, -1.0, 0.5], dtype=np.float32)

vocabulary_logits = st.lists(st.floats(-20, 20, width=32, allow_subnormal=False), min_size=1, max_size=60).map(
    lambda values: np.array(values, dtype=np.float32)
)


def draw_many(options: SamplingOptions, logits: np.ndarray, count: int) -> list[int]:
    sampler = Sampler(options, [])
    return [sampler.sample(logits) for _ in range(count)]


def probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    scaled = logits.astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max())
    return np.asarray(weights / weights.sum())


@given(vocabulary_logits)
def test_temperature_zero_is_argmax_with_the_first_index_on_ties(logits: np.ndarray) -> None:
    assert Sampler(SamplingOptions(temperature=0), []).sample(logits) == int(np.argmax(logits))


def test_ties_go_to_the_lowest_id() -> None:
    assert Sampler(SamplingOptions(temperature=0), []).sample(LOGITS) == 1
    assert Sampler(SamplingOptions(top_k=1), []).sample(LOGITS) == 1


def test_a_seed_makes_draws_reproducible_and_two_seeds_differ() -> None:
    first = draw_many(SamplingOptions(seed=7), LOGITS, 200)
    assert first == draw_many(SamplingOptions(seed=7), LOGITS, 200)
    assert first != draw_many(SamplingOptions(seed=8), LOGITS, 200)
    assert draw_many(SamplingOptions(seed=-5), LOGITS, 5) == draw_many(SamplingOptions(seed=-5), LOGITS, 5)


def test_without_a_seed_two_samplers_differ() -> None:
    flat = np.zeros(1000, dtype=np.float32)
    assert draw_many(SamplingOptions(), flat, 20) != draw_many(SamplingOptions(), flat, 20)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_softmax(temperature: float) -> None:
    count = 20_000
    drawn = draw_many(SamplingOptions(temperature=temperature, seed=1), LOGITS, count)
    observed = np.bincount(drawn, minlength=LOGITS.size) / count
    expected = probabilities(LOGITS, temperature)
    standard_error = np.sqrt(expected * (1 - expected) / count)
    assert np.all(np.abs(observed - expected) < 5 * standard_error + 1e-9)


@given(vocabulary_logits, st.floats(0.01, 0.999), st.floats(0.3, 3.0), st.integers(0, 2**32))
def test_top_p_keeps_the_smallest_set_that_reaches_it(
    logits: np.ndarray, top_p: float, temperature: float, seed: int
) -> None:
    expected = probabilities(logits, temperature)
    order = np.argsort(-logits, kind="stable")
    reached = np.cumsum(expected[order])
    # Float rounding may move the border by one entry where the sum nearly equals top_p.
    last = int(np.searchsorted(reached, top_p + 1e-5))
    allowed = set(order[: last + 1].tolist())
    if last < order.size:  # which of several that are equal in 32 bits comes first is the sampler's choice
        allowed |= set(np.flatnonzero(expected >= expected[order[last]] * (1 - 1e-6)).tolist())
    assert set(draw_many(SamplingOptions(top_p=top_p, temperature=temperature, seed=seed), logits, 20)) <= allowed


def test_top_p_reaches_every_entry_of_the_set_and_no_other() -> None:
    logits = np.log(np.array([0.4, 0.3, 0.15, 0.1, 0.05], dtype=np.float32))
    assert set(draw_many(SamplingOptions(top_p=0.8, seed=3), logits, 500)) == {0, 1, 2}
    assert set(draw_many(SamplingOptions(top_p=0.3, seed=3), logits, 500)) == {0}


def test_top_p_over_equal_logits_keeps_exactly_the_first_ones() -> None:
    flat = np.zeros(10_000, dtype=np.float32)
    drawn = set(draw_many(SamplingOptions(top_p=0.001, seed=3), flat, 500))
    assert drawn == set(range(10))


@given(vocabulary_logits, st.integers(1, 70), st.integers(0, 2**32))
def test_top_k_draws_only_from_the_k_highest(logits: np.ndarray, top_k: int, seed: int) -> None:
    lowest_kept = np.sort(logits)[::-1][min(top_k, logits.size) - 1]
    assert all(logits[token] >= lowest_kept for token in draw_many(SamplingOptions(top_k=top_k, seed=seed), logits, 20))


@given(vocabulary_logits, st.floats(0.01, 1.0), st.integers(0, 2**32))
def test_min_p_draws_only_tokens_likely_enough(logits: np.ndarray, min_p: float, seed: int) -> None:
    expected = probabilities(logits)
    for token in draw_many(SamplingOptions(min_p=min_p, seed=seed), logits, 20):
        assert expected[token] >= min_p * expected.max() * (1 - 1e-5)


def test_top_p_looks_at_what_top_k_left() -> None:
    logits = np.log(np.array([0.3, 0.3, 0.2, 0.2], dtype=np.float32))
    # Of the two kept tokens each weighs one half, so 0.5 is reached by the first alone; without top_k it takes two.
    assert len(set(draw_many(SamplingOptions(top_k=2, top_p=0.49, seed=5), logits, 200))) == 1
    assert set(draw_many(SamplingOptions(top_p=0.49, seed=5), logits, 200)) == {0, 1}


def test_forbidden_tokens_are_never_drawn() -> None:
    logits = np.full(1000, -np.inf, dtype=np.float32)
    logits[[3, 700]] = 0.0
    assert set(draw_many(SamplingOptions(temperature=5.0, seed=2), logits, 300)) == {3, 700}


def test_repetition_penalty_counts_prompt_and_answer() -> None:
    logits = np.array([2.0, 1.9, -1.0, -1.1], dtype=np.float32)
    greedy = SamplingOptions(temperature=0, repetition_penalty=1.5)
    assert Sampler(greedy, [0]).sample(logits) == 1  # 2.0 / 1.5 < 1.9
    sampler = Sampler(greedy, [])
    assert [sampler.sample(logits) for _ in range(3)] == [0, 1, 0]  # then both are divided, and 0 leads again
    negative = np.array([-1.0, -1.1], dtype=np.float32)
    assert Sampler(greedy, [0]).sample(negative) == 1  # -1.0 * 1.5 < -1.1


def test_frequency_and_presence_penalties_count_the_answer_only() -> None:
    logits = np.array([2.0, 1.0], dtype=np.float32)
    frequency = Sampler(SamplingOptions(temperature=0, frequency_penalty=0.4), [0, 0, 0, 0, 0, 0])
    assert [frequency.sample(logits) for _ in range(4)] == [0, 0, 0, 1]  # 2.0, 1.6, 1.2, then 0.8 < 1.0
    presence = Sampler(SamplingOptions(temperature=0, presence_penalty=0.6), [0])
    assert [presence.sample(logits) for _ in range(3)] == [0, 0, 0]  # 1.4 stays above 1.0 however often
    stronger = Sampler(SamplingOptions(temperature=0, presence_penalty=1.2), [])
    assert [stronger.sample(logits) for _ in range(2)] == [0, 1]


EVERY_OPTION = [
    SamplingOptions(temperature=0),
    SamplingOptions(top_k=1, seed=5),
    SamplingOptions(seed=5),
    SamplingOptions(temperature=2.0, top_k=3, top_p=0.9, min_p=0.01, seed=5),
    SamplingOptions(repetition_penalty=1.3, frequency_penalty=0.5, presence_penalty=-0.4, seed=5),
]


@pytest.mark.parametrize("options", EVERY_OPTION)
def test_after_tokens_that_were_drawn_elsewhere_the_draws_go_on(options: SamplingOptions) -> None:
    prompt = [0, 3]
    whole = Sampler(options, prompt)
    logits = [LOGITS + np.float32(0.3) * np.roll(LOGITS, step) for step in range(30)]
    drawn = [whole.sample(row) for row in logits]
    for cut in range(len(drawn)):
        resumed = Sampler(options, prompt)
        resumed.continue_after(drawn[:cut], drawn=True)
        assert [resumed.sample(row) for row in logits[cut:]] == drawn[cut:]


def test_tokens_that_somebody_else_said_count_for_the_penalties_and_cost_no_randomness() -> None:
    flat = np.zeros(50, dtype=np.float32)
    fresh, after = (Sampler(SamplingOptions(seed=9), []) for _ in range(2))
    after.continue_after([1, 2, 3], drawn=False)
    assert after.sample(flat) == fresh.sample(flat)
    logits = np.array([2.0, 1.5, 0.0], dtype=np.float32)
    for options in (
        SamplingOptions(temperature=0, frequency_penalty=0.3),
        SamplingOptions(temperature=0, presence_penalty=0.6),
        SamplingOptions(temperature=0, repetition_penalty=1.5),
    ):
        sampler = Sampler(options, [])
        sampler.continue_after([0, 0], drawn=False)
        assert sampler.sample(logits) == 1


@settings(max_examples=60, deadline=None)
@given(vocabulary_logits, st.data())
def test_only_what_is_allowed_is_drawn_and_filters_see_nothing_else(logits: np.ndarray, data: st.DataObject) -> None:
    allowed = np.array(sorted(data.draw(st.sets(st.integers(0, logits.size - 1), min_size=1))), dtype=np.int64)
    options = data.draw(st.sampled_from(EVERY_OPTION))
    before = logits.copy()
    sampler = Sampler(options, [0])
    among = Sampler(options, [0] if 0 in allowed else [])
    for _ in range(5):
        token = sampler.sample(logits, Limits(allowed))
        assert token in allowed
        # The same as if the vocabulary had these tokens only (among the top k, numpy's order decides who is laid first).
        if options.repetition_penalty is None and options.top_k in (None, 1):
            assert token == allowed[among.sample(logits[allowed])]
    np.testing.assert_array_equal(logits, before)


def test_the_callers_logits_are_left_alone() -> None:
    logits = LOGITS.copy()
    sampler = Sampler(
        SamplingOptions(top_p=0.5, min_p=0.1, repetition_penalty=1.3, frequency_penalty=1.0, seed=1), [1, 2]
    )
    for _ in range(5):
        sampler.sample(logits)
    np.testing.assert_array_equal(logits, LOGITS)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_a_defect_with_a_name(bad: float) -> None:
    logits = LOGITS.copy()
    logits[2] = bad
    with pytest.raises(EngineInternalError, match="not finite"):
        Sampler(SamplingOptions(), []).sample(logits)
    with pytest.raises(EngineInternalError, match="not finite"):
        Sampler(SamplingOptions(), []).sample(np.full(4, -np.inf, dtype=np.float32))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.05, 0.99))
def test_large_vocabularies_agree_with_the_plain_definition(seed: int, top_p: float) -> None:
    logits = (np.random.RandomState(seed % 2**32).standard_normal(30_000) * 2).astype(np.float32)
    expected = probabilities(logits)
    order = np.argsort(-logits, kind="stable")
    count = int(np.searchsorted(np.cumsum(expected[order]), top_p + 1e-5)) + 1
    drawn = draw_many(SamplingOptions(top_p=top_p, seed=seed), logits, 30)
    assert set(drawn) <= set(order[:count].tolist())


def test_a_bias_is_added_before_anything_else() -> None:
    bias = {0: 2.5, 4: -100.0}
    assert Sampler(SamplingOptions(temperature=0), [], bias).sample(LOGITS) == 0  # 1 + 2.5 is the highest
    # The repetition penalty divides what the bias has made of the logit: (1 + 2.5) / 1.1 > 3, (1 + 2.5) / 1.2 < 3.
    for penalty, token in ((1.1, 0), (1.2, 1)):
        options = SamplingOptions(temperature=0, repetition_penalty=penalty)
        assert Sampler(options, [0], bias).sample(LOGITS) == token
    assert set(draw_many_with(SamplingOptions(seed=3, temperature=2.0), {4: 100.0})) == {4}
    assert 1 not in draw_many_with(SamplingOptions(seed=3, temperature=2.0), {1: -100.0})


def draw_many_with(options: SamplingOptions, bias: dict[int, float]) -> list[int]:
    sampler = Sampler(options, [], bias)
    return [sampler.sample(LOGITS) for _ in range(200)]


@given(vocabulary_logits, st.data())
def test_every_limit_holds_and_nothing_else_is_excluded(logits: np.ndarray, data: st.DataObject) -> None:
    ids = st.sets(st.integers(0, logits.size - 1), min_size=1)
    allowed, forbidden, masked = data.draw(ids), data.draw(ids), data.draw(ids)
    options = data.draw(st.sampled_from(EVERY_OPTION))

    def mask(changed: np.ndarray) -> None:
        changed[sorted(masked)] = -np.inf

    limits = Limits(np.array(sorted(allowed)), forbidden | {10**6}, mask)
    before = logits.copy()
    left = allowed - forbidden - masked
    sampler = Sampler(options, [0])
    if left:
        assert sampler.sample(logits, limits) in left
        best = max(sorted(left), key=lambda token: logits[token])
        assert Sampler(SamplingOptions(temperature=0), []).sample(logits, limits) == best
    else:
        with pytest.raises(InvalidRequestError, match="No token is left"):
            sampler.sample(logits, limits)
    np.testing.assert_array_equal(logits, before)


@given(vocabulary_logits, st.floats(0.001, 5), st.sampled_from([1.0, 1.5, 0.6]), st.integers(0, 99))
def test_what_is_clearly_best_stays_best_whatever_the_rounding(
    logits: np.ndarray, lead: float, penalty: float, seed: int
) -> None:
    options = SamplingOptions(temperature=0, repetition_penalty=penalty, presence_penalty=0.3)
    sampler, other = Sampler(options, [0, 2]), Sampler(options, [0, 2])
    before = logits.copy()
    token = sampler.clearly_best(logits, lead)
    np.testing.assert_array_equal(logits, before)
    if token is not None:
        off = np.random.RandomState(seed).uniform(-0.499, 0.499, logits.size).astype(np.float32) * np.float32(lead)
        assert other.sample(logits + off) == token
        assert sampler.sample(logits) == other.sample(logits)  # both remember it


def test_near_or_random_draws_are_never_clear_and_leave_no_trace() -> None:
    sampler = Sampler(SamplingOptions(temperature=0, presence_penalty=2.0), [])
    assert sampler.clearly_best(LOGITS, 1e-6) is None  # a tie
    assert sampler.sample(LOGITS) == 1
    assert Sampler(SamplingOptions(seed=1), []).clearly_best(np.array([0.0, 99.0], np.float32), 1.0) is None
    assert Sampler(SamplingOptions(temperature=0), []).clearly_best(np.array([5.0], np.float32), 1.0) == 0
    limits = Limits(forbidden={1})
    assert Sampler(SamplingOptions(temperature=0), []).clearly_best(LOGITS, 0.5, limits) == 3
    with pytest.raises(EngineInternalError, match="not finite"):
        sampler.clearly_best(np.array([0.0, np.nan], np.float32), 1.0)
