"""The inner loops of CPU attention, shared by the prefill and decode kernels.

Attention of a block of query rows against a block of keys, with the softmax running along (Milakov and Gimelshein, "Online
normalizer calculation for softmax", 2018; tiled as in Dao et al., "FlashAttention", 2022):

1. scores: a tile of query rows times 16 keys in registers, keys transposed, so lanes are keys;
2. softmax: row maximum, rescaling of what was accumulated, ``p = 2^(score - maximum)`` and its sum per lane;
3. output: a tile of query rows times a slice of head_dim in registers, lanes are dimensions.

Queries are scaled by ``sm_scale · log2 e`` beforehand, so that powers of two serve, and the log-sum-exp that is handed to the
runtime is binary as well, as TVM's own kernels have it.
"""

# mypy: disable-error-code="untyped-decorator,no-redef"
# (TVMScript functions are parsed by TVM, not run: its decorators have no types, and names are bound per block.)

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from local_runtime.kernels.cpu.attention_math import exp2_f32, log2_f32
from local_runtime.kernels.limits import PAGE_TOKENS
from local_runtime.tvm_compat import T, tvm

__all__ = ["KEY_TILE", "LOG2_E", "LOWEST", "AttentionTiling", "decode_tiling", "prefill_tiling", "tile_macros"]

KEY_TILE = PAGE_TOKENS
LOG2_E = 1.4426950408889634
LOWEST = -3.0e38
"""Score of a hidden key and maximum of an empty row: finite, so that differences of two of them are not NaN."""


@dataclass(frozen=True)
class AttentionTiling:
    """How a kernel cuts its work.

    Attributes:
        head_dim: Dimensions of a head, a multiple of 16.
        row_tile: Query rows whose sums are in registers at once.
        row_tiles: Row tiles of a task.
        key_tiles: Tiles of 16 keys between two updates of the running softmax.
        slice_dim: Dimensions of the output in registers at once; divides ``head_dim``.
        score_chains: Independent partial sums of one score, to hide the latency of multiply-add when there are few rows.
    """

    head_dim: int
    row_tile: int
    row_tiles: int
    key_tiles: int
    slice_dim: int
    score_chains: int = 1

    @property
    def rows(self) -> int:
        """Query rows of a task."""
        return self.row_tile * self.row_tiles

    @property
    def keys(self) -> int:
        """Keys between two updates of the running softmax."""
        return self.key_tiles * KEY_TILE


def _accumulator_vectors(target: Any) -> tuple[int, int]:
    """Vector registers that sums may take, and registers of a tile of 16 lanes, on an LLVM target."""
    # Asked by feature: ``llvm_get_vector_width`` says 512 bits of every x86 processor.
    has = tvm.target.codegen.target_has_features
    if has("avx512f", target):
        registers, width = 32, 16
    elif has("avx", target):
        registers, width = 16, 8
    else:
        registers, width = (32 if has("neon", target) else 16), 4
    vectors_per_tile = KEY_TILE // width
    # One tile of keys or values and a broadcast query or probability need registers beside the sums.
    return registers - vectors_per_tile - 1, vectors_per_tile


def prefill_tiling(head_dim: int, target: Any) -> AttentionTiling:
    """Cut prefill: as many rows a register tile as the target holds, about 24 rows a task."""
    budget, vectors_per_tile = _accumulator_vectors(target)
    row_tile = min(8, budget // vectors_per_tile)
    return AttentionTiling(head_dim, row_tile, max(1, 24 // row_tile), key_tiles=8, slice_dim=KEY_TILE)


def decode_tiling(head_dim: int, group: int, target: Any) -> AttentionTiling:
    """Cut decode: the rows are the ``group`` query heads; registers they leave free hold more dimensions or partial sums."""
    budget, vectors_per_tile = _accumulator_vectors(target)
    row_tiles = -(-group // min(8, budget // vectors_per_tile))
    row_tile = -(-group // row_tiles)
    spare = max(1, budget // (row_tile * vectors_per_tile))
    slice_dim = max(d for d in (16, 32, 64) if head_dim % d == 0 and (d == KEY_TILE or d <= KEY_TILE * spare))
    chains = max(c for c in (1, 2, 4) if c <= spare)
    return AttentionTiling(head_dim, row_tile, row_tiles, 16, slice_dim, chains)


def tile_macros(tiling: AttentionTiling, *, windowed: bool = False) -> SimpleNamespace:
    """Return the TVMScript macros ``reset``, ``attend`` and ``finish`` for one tiling.

    Args:
        tiling: How the work is cut.
        windowed: Whether keys may be hidden because they are too old.

    Buffers of a task: ``queries [rows, head_dim]`` (scaled), ``scores [rows, keys]``, ``out [rows, head_dim]``,
    ``sums [rows, 16]`` (per lane) and ``maxima [rows]``.
    """
    head_dim, row_tile, chains = tiling.head_dim, tiling.row_tile, tiling.score_chains
    slice_dim = tiling.slice_dim

    @T.macro
    def reset(out: T.Buffer, sums: T.Buffer, maxima: T.Buffer) -> None:
        for r in T.serial(tiling.rows):
            maxima[r] = T.float32(LOWEST)
            for lane in T.vectorized(KEY_TILE):
                sums[r, lane] = T.float32(0)
            for c in T.serial(head_dim // KEY_TILE):
                for lane in T.vectorized(KEY_TILE):
                    out[r, c * KEY_TILE + lane] = T.float32(0)

    @T.macro
    def score_tile(
        queries: T.Buffer, scores: T.Buffer, keys: T.Buffer, key_base: T.int64, first_row: T.int32, t: T.int32
    ) -> None:
        acc = T.alloc_buffer((chains * row_tile, KEY_TILE), "float32")
        for r in T.unroll(chains * row_tile):
            for lane in T.vectorized(KEY_TILE):
                acc[r, lane] = T.float32(0)
        for c in T.serial(head_dim // chains):
            for u in T.unroll(chains):
                for r in T.unroll(row_tile):
                    for lane in T.vectorized(KEY_TILE):
                        acc[u * row_tile + r, lane] += (
                            queries[first_row + r, c * chains + u] * keys[key_base + (c * chains + u) * KEY_TILE + lane]
                        )
        for u in T.unroll(1, chains):
            for r in T.unroll(row_tile):
                for lane in T.vectorized(KEY_TILE):
                    acc[r, lane] += acc[u * row_tile + r, lane]
        for r in T.unroll(row_tile):
            for lane in T.vectorized(KEY_TILE):
                scores[first_row + r, t * KEY_TILE + lane] = acc[r, lane]

    @T.macro
    def hide_keys(scores: T.Buffer, row: T.int32, visible: T.int32, tiles: T.int32) -> None:
        # Only the tiles from the first that is not wholly visible on.
        first_tile: T.let[T.int32] = T.max(visible, 0) // KEY_TILE
        for i in T.serial(T.max(tiles - first_tile, 0)):
            for lane in T.vectorized(KEY_TILE):
                scores[row, (first_tile + i) * KEY_TILE + lane] = T.Select(
                    (first_tile + i) * KEY_TILE + lane < visible,
                    scores[row, (first_tile + i) * KEY_TILE + lane],
                    T.float32(LOWEST),
                )

    @T.macro
    def hide_old_keys(scores: T.Buffer, row: T.int32, first: T.int32, tiles: T.int32) -> None:
        # A row that sees nothing of this block adds weights of 1 to its sums, which its first real maximum makes 0.
        for i in T.serial(T.min((T.max(first, 0) + (KEY_TILE - 1)) // KEY_TILE, tiles)):
            for lane in T.vectorized(KEY_TILE):
                scores[row, i * KEY_TILE + lane] = T.Select(
                    i * KEY_TILE + lane >= first, scores[row, i * KEY_TILE + lane], T.float32(LOWEST)
                )

    @T.macro
    def softmax_row(
        scores: T.Buffer, out: T.Buffer, sums: T.Buffer, maxima: T.Buffer, row: T.int32, tiles: T.int32
    ) -> None:
        peak = T.alloc_buffer((KEY_TILE,), "float32")
        total = T.alloc_buffer((KEY_TILE,), "float32")
        for lane in T.vectorized(KEY_TILE):
            peak[lane] = scores[row, lane]
        for t in T.serial(1, tiles):
            for lane in T.vectorized(KEY_TILE):
                peak[lane] = T.max(peak[lane], scores[row, t * KEY_TILE + lane])
        for lane in T.vectorized(8):
            peak[lane] = T.max(peak[lane], peak[lane + 8])
        for lane in T.vectorized(4):
            peak[lane] = T.max(peak[lane], peak[lane + 4])
        block_maximum: T.let[T.float32] = T.max(T.max(peak[0], peak[1]), T.max(peak[2], peak[3]))
        maximum: T.let[T.float32] = T.max(maxima[row], block_maximum)
        kept: T.let[T.float32] = exp2_f32(maxima[row] - maximum)
        maxima[row] = maximum
        for c in T.serial(head_dim // KEY_TILE):
            for lane in T.vectorized(KEY_TILE):
                out[row, c * KEY_TILE + lane] = out[row, c * KEY_TILE + lane] * kept
        for lane in T.vectorized(KEY_TILE):
            total[lane] = sums[row, lane] * kept
        for t in T.serial(tiles):
            for lane in T.vectorized(KEY_TILE):
                scores[row, t * KEY_TILE + lane] = exp2_f32(scores[row, t * KEY_TILE + lane] - maximum)
            for lane in T.vectorized(KEY_TILE):
                total[lane] = total[lane] + scores[row, t * KEY_TILE + lane]
        for lane in T.vectorized(KEY_TILE):
            sums[row, lane] = total[lane]

    @T.macro
    def output_slice(
        scores: T.Buffer,
        out: T.Buffer,
        values: T.Buffer,
        value_bases: T.Buffer,
        value_stride: int,
        first_row: T.int32,
        first_dim: T.int32,
        tiles: T.int32,
        num_keys: T.int32,
    ) -> None:
        acc = T.alloc_buffer((row_tile, slice_dim), "float32")
        for r in T.unroll(row_tile):
            for lane in T.vectorized(slice_dim):
                acc[r, lane] = out[first_row + r, first_dim + lane]
        for t in T.serial(tiles):
            base: T.let[T.int64] = value_bases[t] + first_dim
            # Keys that do not exist are not touched: their memory may hold anything.
            for j in T.serial(T.min(KEY_TILE, num_keys - t * KEY_TILE)):
                for r in T.unroll(row_tile):
                    for lane in T.vectorized(slice_dim):
                        acc[r, lane] += scores[first_row + r, t * KEY_TILE + j] * values[base + j * value_stride + lane]
        for r in T.unroll(row_tile):
            for lane in T.vectorized(slice_dim):
                out[first_row + r, first_dim + lane] = acc[r, lane]

    @T.macro
    def attend(
        queries: T.Buffer,
        scores: T.Buffer,
        out: T.Buffer,
        sums: T.Buffer,
        maxima: T.Buffer,
        visible: T.Buffer,
        oldest: T.Buffer,
        keys: T.Buffer,
        key_bases: T.Buffer,
        values: T.Buffer,
        value_bases: T.Buffer,
        value_stride: int,
        num_rows: T.int32,
        first_key: T.int32,
        num_keys: T.int32,
    ) -> None:
        """Take one block of keys into account: ``num_keys`` from ``first_key`` on; row r may see keys below ``visible[r]``.

        If ``windowed``, it sees none before ``oldest[r]`` either; else that buffer is not read.
        """
        tiles: T.let[T.int32] = (num_keys + (KEY_TILE - 1)) // KEY_TILE
        used_row_tiles: T.let[T.int32] = (num_rows + (row_tile - 1)) // row_tile
        for t in T.serial(tiles):
            for i in T.serial(used_row_tiles):
                score_tile(queries, scores, keys, key_bases[t], i * row_tile, t)
        for row in T.serial(num_rows):
            hide_keys(scores, row, visible[row] - first_key, tiles)
            if windowed:
                hide_old_keys(scores, row, oldest[row] - first_key, tiles)
            softmax_row(scores, out, sums, maxima, row, tiles)
        for i in T.serial(used_row_tiles):
            for c in T.serial(head_dim // slice_dim):
                output_slice(
                    scores, out, values, value_bases, value_stride, i * row_tile, c * slice_dim, tiles, num_keys
                )

    @T.macro
    def finish(
        out: T.Buffer,
        sums: T.Buffer,
        maxima: T.Buffer,
        output: T.Buffer,
        lse: T.Buffer,
        row: T.int32,
        visible: T.int32,
        token: T.int32,
        head: T.int32,
    ) -> None:
        """Divide one row by its sum and write it with its log-sum-exp; a row that saw no key gives zeros and ``LOWEST``."""
        part = T.alloc_buffer((KEY_TILE,), "float32")
        for lane in T.vectorized(KEY_TILE):
            part[lane] = sums[row, lane]
        for lane in T.vectorized(8):
            part[lane] = part[lane] + part[lane + 8]
        for lane in T.vectorized(4):
            part[lane] = part[lane] + part[lane + 4]
        total: T.let[T.float32] = (part[0] + part[1]) + (part[2] + part[3])
        factor: T.let[T.float32] = T.Select(visible > 0, T.float32(1) / total, T.float32(0))
        for c in T.serial(head_dim // KEY_TILE):
            for lane in T.vectorized(KEY_TILE):
                output[token, head, c * KEY_TILE + lane] = out[row, c * KEY_TILE + lane] * factor
        lse[token, head] = T.Select(visible > 0, maxima[row] + log2_f32(total), T.float32(LOWEST))

    return SimpleNamespace(reset=reset, attend=attend, finish=finish)
