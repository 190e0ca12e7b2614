from __future__ import annotations

import itertools

from local_runtime.pace import LEAST_CHUNK_TOKENS, Pace


def measured(decode_s: float, fixed_s: float, token_s: float, most: int = 512, sizes: tuple[int, ...] = (512,)) -> Pace:
    pace = Pace(most)
    pace.decoded(decode_s)
    for size in sizes:
        pace.prefilled(size, fixed_s + token_s * size)
    return pace


def settle(pace: Pace, fixed_s: float, token_s: float, decode_s: float) -> list[int]:
    chosen = []
    for _ in range(40):
        chosen.append(pace.chunk_tokens())
        pace.prefilled(chosen[-1], fixed_s + token_s * chosen[-1])
        pace.decoded(decode_s)
    return chosen


def test_nothing_is_known_before_anything_ran() -> None:
    assert Pace(512).chunk_tokens() == 512
    pace = Pace(512)
    pace.decoded(0.03)
    assert pace.chunk_tokens() == LEAST_CHUNK_TOKENS


def test_a_chunk_comes_to_take_about_as_long_as_a_decode_and_never_much_longer() -> None:
    # 50 ms a step, so 30 ms for a chunk; one of n takes 10 + n ms: at most 16 of the powers of two fit.
    chosen = settle(measured(0.05, 0.01, 0.001), 0.01, 0.001, 0.05)
    assert max(chosen) == 16
    assert chosen[-1] == 16


def test_where_several_arrive_chunks_are_larger() -> None:
    pace = measured(0.05, 0.01, 0.001, sizes=(4, 8, 16, 32, 64, 128, 512))
    assert [pace.chunk_tokens(arriving) for arriving in (1, 2, 4)] == [16, 32, 64]
    for size in (4, 8, 16, 32, 64, 128):
        pace.rode(size, 0.05 + 0.001 * size)
    assert [pace.riding_tokens(arriving) for arriving in (1, 2, 5)] == [
        128,
        256,
        256,
    ]  # at most twice what was measured


def test_a_slow_prefill_still_goes_on_in_small_chunks() -> None:
    assert set(settle(measured(0.01, 0.05, 0.01), 0.05, 0.01, 0.01)) == {LEAST_CHUNK_TOKENS}


def test_where_decodes_are_slow_chunks_are_whole() -> None:
    assert settle(measured(2.0, 0.01, 0.001), 0.01, 0.001, 2.0)[-1] == 512
    assert Pace(2).chunk_tokens() == 2
    small = Pace(3)
    small.decoded(1.0)
    assert small.chunk_tokens() == 3


def test_one_odd_measurement_is_tried_again_in_the_end() -> None:
    pace = measured(0.03, 0.0, 0.001, sizes=(4, 8, 16, 512))
    assert pace.chunk_tokens() == 16
    for _ in range(8):
        pace.prefilled(16, 1.0)  # the machine did something else
    assert pace.chunk_tokens() == 8
    chosen = [pace.chunk_tokens() for _ in range(1500)]
    assert chosen[-1] >= 16


def test_a_prompt_of_an_odd_length_tells_as_much_as_it_can() -> None:
    pace = Pace(512)
    pace.prefilled(37, 0.4)
    pace.decoded(0.05)
    assert pace._alone.expected_s(32, 0.05) == 0.4
    assert pace.chunk_tokens() == LEAST_CHUNK_TOKENS
    pace.prefilled(3, 0.1)
    pace.prefilled(32, 0.2)
    assert pace._alone.expected_s(32, 0.05) < 0.4


def test_a_chunk_that_rides_makes_a_decode_four_times_as_long_at_most_and_grows_step_by_step() -> None:
    pace = Pace(512)
    assert pace.riding_tokens() == LEAST_CHUNK_TOKENS
    pace.decoded(0.03)
    chosen = []
    for _ in range(40):
        chosen.append(pace.riding_tokens())
        pace.rode(chosen[-1], 0.03 + 0.0005 * chosen[-1])
    assert chosen[0] == LEAST_CHUNK_TOKENS
    assert all(later <= 2 * earlier for earlier, later in itertools.pairwise(chosen))
    assert chosen[-1] == 128  # 94 ms; with 256 it would be 158


def between_tokens(pace: Pace, decode_s: float, fixed_s: float, token_s: float, arriving: int = 1) -> tuple[float, int]:
    """The mean time between tokens, in decodes, over many steps while prompts arrive; and how many of their tokens were computed."""
    took_s = 0.0
    computed = 0
    pace.decoded(decode_s)
    for _ in range(600):
        chunk = 0 if pace.rests else pace.riding_tokens(arriving)
        step_s = decode_s + (fixed_s + token_s * chunk if chunk else 0.0)
        if chunk:
            pace.rode(chunk, step_s)
        else:
            pace.decoded(step_s)
        took_s += step_s
        computed += chunk
    return took_s / 600 / decode_s, computed


def test_what_runs_is_never_slowed_down_by_more_than_its_share_on_average() -> None:
    for fixed_s, token_s in ((0.0, 0.0005), (0.003, 0.0006), (0.006, 0.001), (0.0, 0.003)):
        mean, computed = between_tokens(Pace(512), 0.0026, fixed_s, token_s)
        assert mean < 1.8
        assert computed > 600 / 4
    mean, _ = between_tokens(Pace(512), 0.0026, 0.003, 0.0006, arriving=3)
    assert 2.0 < mean < 3.4


def test_one_step_that_took_very_long_is_made_good_within_a_few_steps() -> None:
    pace = Pace(512)
    pace.decoded(0.01)
    pace.riding_tokens()
    pace.rode(4, 5.0)
    rests = 0
    while pace.rests:
        pace.decoded(0.01)
        rests += 1
    assert 1 < rests < 12


def test_decodes_right_after_a_chunk_do_not_pass_for_usual_ones() -> None:
    pace = Pace(512)
    for _ in range(10):
        pace.decoded(0.01)
    for _ in range(50):
        pace.rode(8, 0.03)
        pace.decoded(0.015)
    assert pace.decode_s == 0.01
    for _ in range(30):  # now they take longer indeed
        pace.decoded(0.02)
    assert pace.decode_s is not None
    assert abs(pace.decode_s - 0.02) < 0.001
    pace.rode(8, 0.03)
    pace.decoded(0.01)
    assert pace.decode_s < 0.0185
