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
    # 40 ms a step, so 30 ms for a chunk; one of n takes 10 + n ms: at most 16 of the powers of two fit.
    chosen = settle(measured(0.04, 0.01, 0.001), 0.01, 0.001, 0.04)
    assert max(chosen) == 16
    assert chosen[-1] == 16


def test_where_several_arrive_chunks_are_larger() -> None:
    pace = measured(0.04, 0.01, 0.001, sizes=(4, 8, 16, 32, 64, 128, 512))
    assert [pace.chunk_tokens(arriving) for arriving in (1, 2, 4)] == [16, 32, 64]
    for size in (4, 8, 16, 32, 64, 128):
        pace.rode(size, 0.04 + 0.001 * size)
    assert [pace.riding_tokens(arriving) for arriving in (1, 2, 5)] == [16, 32, 128]


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


def test_a_chunk_that_rides_doubles_a_decode_at_most_and_grows_step_by_step() -> None:
    pace = Pace(512)
    assert pace.riding_tokens() == LEAST_CHUNK_TOKENS
    pace.decoded(0.03)
    chosen = []
    for _ in range(40):
        chosen.append(pace.riding_tokens())
        pace.rode(chosen[-1], 0.03 + 0.0005 * chosen[-1])
    assert chosen[0] == LEAST_CHUNK_TOKENS
    assert all(later <= 2 * earlier for earlier, later in itertools.pairwise(chosen))
    assert chosen[-1] == 32  # 46 ms; with 64 it would be 62
