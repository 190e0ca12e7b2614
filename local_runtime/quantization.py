"""Quantisation and memory layouts of the model's matrices.

``q4`` is symmetric 4-bit quantisation in groups of 32 along the input dimension: a value is
``(nibble - 8) * scale`` with one float16 scale per group. A scale may be negative: the codes reach from -8 to 7,
and the sign decides which end of the weights gets the longer side.

Two layouts. ``row-major`` (GPU) keeps ``[N, K]``. ``cpu-tiled`` puts 32 output rows side by side, ``[N/32, K, 32]``, so
that a processor's vector registers hold 32 outputs while it walks along K; N is padded with zero rows.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from local_runtime.errors import UnsupportedModelError

__all__ = [
    "GROUP_SIZE",
    "LAYOUTS",
    "QUANTIZATIONS",
    "TILE_ROWS",
    "Layout",
    "Quantization",
    "dequantize_q4",
    "pack_q4_row_major",
    "pack_q4_tiled",
    "padded_rows",
    "quantize_q4",
    "tile_rows",
    "unpack_q4_row_major",
    "unpack_q4_tiled",
    "untile_rows",
]

Quantization = Literal["q4", "f16", "f32"]
Layout = Literal["cpu-tiled", "row-major"]
QUANTIZATIONS: tuple[Quantization, ...] = ("q4", "f16", "f32")
LAYOUTS: tuple[Layout, ...] = ("cpu-tiled", "row-major")

GROUP_SIZE = 32
TILE_ROWS = 32

# Trial scales: how many steps the group's largest magnitude lies from zero. 8 puts it exactly on the lowest code, fewer
# give it a coarser step with room to spare, more clip it in favour of a finer step for the rest.
_EXTREME_STEPS = (7.2, 7.6, 8.0, 8.4, 8.8, 9.3)
# Values quantised at once, so that the float32 temporaries stay in a processor's caches.
_BLOCK_VALUES = 128 * 1024


def padded_rows(rows: int) -> int:
    """Rows of the cpu-tiled layout for ``rows`` rows: the next multiple of 32."""
    return -(-rows // TILE_ROWS) * TILE_ROWS


def quantize_q4(matrix: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float16]]:
    """Quantise rows to 4 bits, choosing every group's scale by a small search for the least squared error.

    For each of a few trial scales the codes are rounded, then the scale that fits these codes best in the least-squares
    sense is computed; the trial with the smallest squared error wins. The codes are rounded once more with the winning
    scale after it became float16, so the stored pair is consistent.

    Args:
        matrix: float32 ``[N, K]`` with K a multiple of 32, finite.

    Returns:
        Codes uint8 ``[N, K]`` in 0..15 (8 is zero) and scales float16 ``[N, K/32]``.

    Raises:
        ValueError: K is not a multiple of 32.
        UnsupportedModelError: A group's values are so large that its scale is beyond the range of float16.
    """
    rows, columns = matrix.shape
    if columns % GROUP_SIZE:
        raise ValueError(f"the row length {columns} is not a multiple of the group size {GROUP_SIZE}")
    groups = matrix.reshape(-1, GROUP_SIZE)
    codes = np.empty(groups.shape, dtype=np.uint8)
    scales = np.empty(len(groups), dtype=np.float16)
    step = _BLOCK_VALUES // GROUP_SIZE
    for start in range(0, len(groups), step):
        block = slice(start, start + step)
        codes[block], scales[block] = _quantize_groups(groups[block])
    return codes.reshape(rows, columns), scales.reshape(rows, columns // GROUP_SIZE)


@np.errstate(over="ignore")  # what overflows ends as an infinite scale, which is refused by name
def _quantize_groups(
    groups: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float16]]:
    lowest, highest = groups.min(axis=1), groups.max(axis=1)
    extreme = np.where(-lowest >= highest, lowest, highest)
    # A group of zeros, or of values that float16 scales cannot reach, has the inverse 0: every code is zero.
    inverse_extreme = np.divide(-1.0, extreme, out=np.zeros_like(extreme), where=np.abs(extreme) > 1e-30)

    best_gain = np.zeros_like(extreme)
    best_scale = np.zeros_like(extreme)
    steps = np.empty_like(groups)
    for extreme_steps in _EXTREME_STEPS:
        np.multiply(groups, (inverse_extreme * np.float32(extreme_steps))[:, None], out=steps)
        np.rint(steps, out=steps)
        np.clip(steps, -8, 7, out=steps)
        correlation = np.einsum("gk,gk->g", groups, steps)
        energy = np.einsum("gk,gk->g", steps, steps)
        # The squared error at the least-squares scale c/e is |w|^2 - c^2/e: the largest c^2/e is the best.
        fitted = np.divide(correlation, energy, out=np.zeros_like(energy), where=energy > 0)
        gain = fitted * correlation
        better = gain > best_gain
        np.copyto(best_gain, gain, where=better)
        np.copyto(best_scale, fitted, where=better)

    scales = best_scale.astype(np.float16)
    if np.isinf(scales).any():
        raise UnsupportedModelError(
            f"A matrix of the model holds a value near {float(np.abs(extreme).max()):.3g}, beyond the range of q4 "
            "with its float16 scales.",
            "Choose f32 for this model.",
        )
    stored = scales.astype(np.float32)
    inverse = np.divide(1.0, stored, out=np.zeros_like(stored), where=stored != 0)
    np.multiply(groups, inverse[:, None], out=steps)
    np.rint(steps, out=steps)
    np.clip(steps, -8, 7, out=steps)
    steps += 8
    return steps.astype(np.uint8), scales


def dequantize_q4(
    codes: npt.NDArray[np.uint8], scales: npt.NDArray[np.float16], dtype: npt.DTypeLike = np.float32
) -> npt.NDArray[Any]:
    """Values of quantised rows: codes uint8 ``[N, K]`` and scales float16 ``[N, K/32]`` give ``dtype`` ``[N, K]``."""
    rows, columns = codes.shape
    values = (codes.astype(dtype) - 8).reshape(rows, columns // GROUP_SIZE, GROUP_SIZE)
    return np.asarray(values * scales.astype(dtype)[:, :, None]).reshape(rows, columns)


def tile_rows(matrix: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Lay ``[N, K]`` out as ``[ceil(N/32), K, 32]``, zero-padded: ``[t, k, j]`` is ``matrix[t*32 + j, k]``."""
    rows, columns = matrix.shape
    padding = padded_rows(rows) - rows
    if padding:
        matrix = np.concatenate([matrix, np.zeros((padding, columns), dtype=matrix.dtype)])
    return np.ascontiguousarray(matrix.reshape(-1, TILE_ROWS, columns).transpose(0, 2, 1))


def untile_rows(tiled: npt.NDArray[Any], rows: int) -> npt.NDArray[Any]:
    """Undo `tile_rows`: ``[ceil(rows/32), K, 32]`` gives ``[rows, K]``."""
    return np.ascontiguousarray(tiled.transpose(0, 2, 1).reshape(-1, tiled.shape[1])[:rows])


def pack_q4_tiled(
    codes: npt.NDArray[np.uint8], scales: npt.NDArray[np.float16]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float16]]:
    """Pack quantised rows for the CPU kernels.

    Args:
        codes: uint8 ``[N, K]`` in 0..15.
        scales: float16 ``[N, K/32]``.

    Returns:
        ``qweight`` uint8 ``[ceil(N/32), K, 16]``: byte ``[t, k, j]`` holds row ``t*32 + j`` in its low nibble and row
        ``t*32 + 16 + j`` in its high nibble; ``scale`` float16 ``[ceil(N/32), K/32, 32]``. Padding rows are zero.
    """
    rows = len(codes)
    padding = padded_rows(rows) - rows
    if padding:
        codes = np.concatenate([codes, np.full((padding, codes.shape[1]), 8, dtype=np.uint8)])
    tiled = codes.reshape(-1, TILE_ROWS, codes.shape[1])
    half = TILE_ROWS // 2
    packed = tiled[:, :half] | (tiled[:, half:] << np.uint8(4))
    return np.ascontiguousarray(packed.transpose(0, 2, 1)), tile_rows(scales)


def unpack_q4_tiled(
    qweight: npt.NDArray[np.uint8], scale: npt.NDArray[np.float16], rows: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float16]]:
    """Undo `pack_q4_tiled`: codes uint8 ``[rows, K]`` and scales float16 ``[rows, K/32]``."""
    tiled = np.concatenate([qweight & np.uint8(15), qweight >> np.uint8(4)], axis=2)
    return untile_rows(tiled, rows), untile_rows(scale, rows)


def pack_q4_row_major(
    codes: npt.NDArray[np.uint8], scales: npt.NDArray[np.float16]
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.float16]]:
    """Pack quantised rows for the GPU kernels.

    Args:
        codes: uint8 ``[N, K]`` in 0..15.
        scales: float16 ``[N, K/32]``.

    Returns:
        ``qweight`` uint32 ``[N, K/8]``: nibble i of a word (bits 4i..4i+3) is column ``8*word + i``; ``scale`` float16
        ``[N, K/32]``, unchanged.
    """
    octets = codes[:, 0::2] | (codes[:, 1::2] << np.uint8(4))
    # Four little-endian bytes make one word, so its nibbles come out lowest column first on any host.
    words = np.ascontiguousarray(octets).view(np.dtype("<u4")).astype(np.uint32, copy=False)
    return words, np.ascontiguousarray(scales)


def unpack_q4_row_major(qweight: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint8]:
    """Undo `pack_q4_row_major`'s words: codes uint8 ``[N, K]`` in 0..15."""
    rows, words = qweight.shape
    shifts = np.arange(0, 32, 4, dtype=np.uint32)
    nibbles = (qweight[:, :, None] >> shifts) & np.uint32(15)
    return nibbles.astype(np.uint8).reshape(rows, words * 8)
