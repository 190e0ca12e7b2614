"""4-bit quantisation: error bounds in float64, the scale search, and both layouts bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_runtime.errors import UnsupportedModelError
from local_runtime.quantization import (
    dequantize_q4,
    pack_q4_row_major,
    pack_q4_tiled,
    padded_rows,
    quantize_q4,
    tile_rows,
    unpack_q4_row_major,
    unpack_q4_tiled,
    untile_rows,
)

shapes = st.tuples(st.integers(1, 70), st.integers(1, 4).map(lambda groups: groups * 32))


def random_matrix(shape: tuple[int, int], seed: int, scale: float = 1.0) -> np.ndarray:
    return (np.random.RandomState(seed).standard_normal(shape) * scale).astype(np.float32)


def squared_errors(matrix: np.ndarray, codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Sum of squared errors per group, in float64."""
    difference = dequantize_q4(codes, scales, np.float64) - matrix.astype(np.float64)
    return np.asarray((difference**2).reshape(-1, 32).sum(axis=1))


@settings(deadline=None, max_examples=60)
@given(shape=shapes, seed=st.integers(0, 2**31), exponent=st.integers(-4, 3))
def test_every_value_comes_back_within_its_scale(shape: tuple[int, int], seed: int, exponent: int) -> None:
    matrix = random_matrix(shape, seed, 10.0**exponent)
    codes, scales = quantize_q4(matrix)
    assert codes.dtype == np.uint8
    assert codes.max() <= 15
    assert scales.dtype == np.float16
    assert scales.shape == (shape[0], shape[1] // 32)
    # Half a step where a value was only rounded; what the narrowest range clips is at most 1.8 steps away: the finest
    # trial puts the extreme at 9.3 steps, of which 8 are kept, and the fitted scale is wider still.
    step = np.abs(scales.astype(np.float64)).repeat(32, axis=1)
    assert np.all(np.abs(dequantize_q4(codes, scales, np.float64) - matrix) <= 1.8 * step + 1e-9)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**31), heavy_tails=st.booleans())
def test_the_search_is_never_worse_than_the_plain_rule(seed: int, heavy_tails: bool) -> None:
    matrix = random_matrix((16, 128), seed)
    if heavy_tails:
        matrix = matrix**3
    codes, scales = quantize_q4(matrix)
    groups = matrix.reshape(-1, 32)
    extreme = np.take_along_axis(groups, np.abs(groups).argmax(axis=1)[:, None], axis=1)
    plain_scales = (extreme / -8).astype(np.float16)
    plain_codes = (np.clip(np.rint(groups / plain_scales.astype(np.float32)), -8, 7) + 8).astype(np.uint8)
    plain = squared_errors(matrix, plain_codes.reshape(matrix.shape), plain_scales.reshape(16, 4))
    searched = squared_errors(matrix, codes, scales)
    assert searched.sum() <= plain.sum()
    assert np.all(searched <= plain * 1.02)  # a group may lose a little to the rounding of its scale


def test_gaussian_weights_lose_less_than_seven_thousandths_of_their_energy() -> None:
    matrix = random_matrix((256, 512), 1, 0.02)
    codes, scales = quantize_q4(matrix)
    assert squared_errors(matrix, codes, scales).sum() / (matrix.astype(np.float64) ** 2).sum() < 0.007


def test_values_on_the_grid_come_back_exactly() -> None:
    codes = np.tile(np.arange(16, dtype=np.uint8), (4, 4))
    scales = np.full((4, 2), 0.25, dtype=np.float16)
    matrix = dequantize_q4(codes, scales)
    again, fitted = quantize_q4(matrix)
    np.testing.assert_array_equal(dequantize_q4(again, fitted), matrix)


@pytest.mark.parametrize("value", [0.0, 1e-38, 5e-8, 1e-3, 60000.0])
def test_constant_groups_of_any_size_are_kept(value: float) -> None:
    matrix = np.full((2, 64), value, dtype=np.float32)
    restored = dequantize_q4(*quantize_q4(matrix), np.float64)
    # Below float16's smallest step a scale cannot be written; the error stays below that step.
    np.testing.assert_allclose(restored, value, rtol=2e-3, atol=6e-8)


@pytest.mark.parametrize("value", [1e6, -1e6, 3e38])
def test_values_beyond_the_range_of_the_scales_are_refused(value: float) -> None:
    matrix = random_matrix((4, 64), 5)
    matrix[2, 40] = value
    with pytest.raises(UnsupportedModelError, match=r"holds a value near .*, beyond the range of q4") as caught:
        quantize_q4(matrix)
    assert caught.value.mend == "Choose f32 for this model."


def test_a_group_of_zeros_stays_zero_beside_others() -> None:
    matrix = random_matrix((4, 64), 3)
    matrix[1, 32:] = 0
    codes, scales = quantize_q4(matrix)
    assert np.all(codes[1, 32:] == 8)
    assert np.all(dequantize_q4(codes, scales)[1, 32:] == 0)


def test_large_matrices_are_quantised_as_their_parts_are() -> None:
    matrix = random_matrix((300, 1024), 4)
    codes, scales = quantize_q4(matrix)
    part_codes, part_scales = quantize_q4(matrix[100:200])
    np.testing.assert_array_equal(codes[100:200], part_codes)
    np.testing.assert_array_equal(scales[100:200], part_scales)


def test_row_lengths_must_be_whole_groups() -> None:
    with pytest.raises(ValueError, match="48 is not a multiple"):
        quantize_q4(np.zeros((2, 48), dtype=np.float32))


@given(shape=shapes, seed=st.integers(0, 2**31))
def test_tiles_hold_what_the_layout_says(shape: tuple[int, int], seed: int) -> None:
    matrix = random_matrix(shape, seed)
    tiled = tile_rows(matrix)
    assert tiled.shape == (padded_rows(shape[0]) // 32, shape[1], 32)
    for t, k, j in np.random.RandomState(seed).randint(0, tiled.shape, size=(20, 3)):
        row = t * 32 + j
        assert tiled[t, k, j] == (matrix[row, k] if row < shape[0] else 0)
    np.testing.assert_array_equal(untile_rows(tiled, shape[0]), matrix)


@given(shape=shapes, seed=st.integers(0, 2**31))
def test_packed_tiles_hold_what_the_layout_says(shape: tuple[int, int], seed: int) -> None:
    random = np.random.RandomState(seed)
    codes = random.randint(0, 16, size=shape).astype(np.uint8)
    scales = random.standard_normal((shape[0], shape[1] // 32)).astype(np.float16)
    qweight, scale = pack_q4_tiled(codes, scales)
    assert qweight.shape == (padded_rows(shape[0]) // 32, shape[1], 16)
    assert scale.shape == (padded_rows(shape[0]) // 32, shape[1] // 32, 32)
    for t, k, j in random.randint(0, qweight.shape, size=(20, 3)):
        low, high = t * 32 + j, t * 32 + 16 + j
        assert qweight[t, k, j] & 15 == (codes[low, k] if low < shape[0] else 8)
        assert qweight[t, k, j] >> 4 == (codes[high, k] if high < shape[0] else 8)
    for t, g, j in random.randint(0, scale.shape, size=(20, 3)):
        row = t * 32 + j
        assert scale[t, g, j] == (scales[row, g] if row < shape[0] else 0)
    unpacked_codes, unpacked_scales = unpack_q4_tiled(qweight, scale, shape[0])
    np.testing.assert_array_equal(unpacked_codes, codes)
    np.testing.assert_array_equal(unpacked_scales, scales)


@given(shape=shapes, seed=st.integers(0, 2**31))
def test_packed_rows_hold_what_the_layout_says(shape: tuple[int, int], seed: int) -> None:
    random = np.random.RandomState(seed)
    codes = random.randint(0, 16, size=shape).astype(np.uint8)
    scales = random.standard_normal((shape[0], shape[1] // 32)).astype(np.float16)
    qweight, scale = pack_q4_row_major(codes, scales)
    assert qweight.dtype == np.uint32
    assert qweight.shape == (shape[0], shape[1] // 8)
    for n, k in random.randint(0, shape, size=(20, 2)):
        assert (int(qweight[n, k // 8]) >> (4 * (k % 8))) & 15 == codes[n, k]
    np.testing.assert_array_equal(unpack_q4_row_major(qweight), codes)
    np.testing.assert_array_equal(scale, scales)
