"""Matrix times a few vectors: decoding, which is bound by how fast the weights can be read.

Every weight is read once, in the order it lies in memory, and meets all tokens while it is in a register.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local_runtime.kernels.cpu.linear_ir import RegisterArray, broadcast, f32, i64, load, scratch, store
from local_runtime.kernels.cpu.linear_weights import GROUP_SIZE, Q4_STEPS, Q4_SUM_START, TILE_ROWS, tiles_of
from local_runtime.tvm_compat import T

if TYPE_CHECKING:
    from local_runtime.kernels.cpu.linear_epilogue import Epilogue
    from local_runtime.kernels.cpu.linear_ir import Lanes
    from local_runtime.kernels.cpu.linear_weights import TiledWeight

__all__ = ["emit_gemv"]


def emit_gemv(x: Any, weight: TiledWeight, epilogue: Epilogue, *, n: int, k: int, tokens: int, lanes: Lanes) -> None:
    """Emit ``y = x · Wᵀ`` for exactly ``tokens`` rows of ``x``, parallel over tiles of 32 weight rows.

    Columns are taken in groups of 32, whose sums are then added to the totals. For q4 that is where zero point and scale
    come in, once a group. The sums of ``x`` that the zero point needs are the same for all tiles and are made once,
    before the parallel region.

    Args:
        x: Activations, float32 ``[tokens, k]``.
        weight: The matrix.
        epilogue: What is added to the product and where it goes.
        n: Rows of the matrix.
        k: Columns of the matrix.
        tokens: Rows of ``x``, known here; 1 to 4 make sense.
        lanes: The target's vector unit.
    """
    groups = k // GROUP_SIZE
    x_sums = scratch("offsets", (tokens, groups)) if weight.weight_format == "q4" else None
    if x_sums is not None:
        for token in range(tokens):
            _emit_group_sums(x, x_sums, token, groups, lanes.width)
    with T.parallel(i64(0), i64(tiles_of(n))) as tile:
        product = _TileProduct(x, weight, x_sums, tile, tokens, lanes)
        product.totals.clear()
        with T.serial(i64(0), i64(groups)) as group:
            product.emit_group(group, GROUP_SIZE)
        if k % GROUP_SIZE:
            product.emit_group(i64(groups), k % GROUP_SIZE)
        result = scratch("result", (tokens, TILE_ROWS))
        for token in range(tokens):
            for v in range(TILE_ROWS // lanes.width):
                total = product.totals[token * (TILE_ROWS // lanes.width) + v]
                if weight.weight_format == "q4":
                    total = total * broadcast(f32(Q4_STEPS), lanes.width)
                store(result, total, i64(token), i64(v * lanes.width), lanes=lanes.width)
            epilogue.emit(result, i64(token), i64(token), tile)


def _emit_group_sums(x: Any, x_sums: Any, token: int, groups: int, width: int) -> None:
    """Fill ``x_sums[token, g]`` with the sum of group ``g`` of a row of ``x``."""
    with T.serial(i64(0), i64(groups)) as group:
        partial = scratch("partial", (width,))
        base = group * i64(GROUP_SIZE)
        total = load(x, i64(token), base, lanes=width)
        for part in range(1, GROUP_SIZE // width):
            total = total + load(x, i64(token), base + i64(part * width), lanes=width)
        store(partial, total, i64(0), lanes=width)
        lane_sum = load(partial, i64(0))
        for lane in range(1, width):
            lane_sum = lane_sum + load(partial, i64(lane))
        store(x_sums, lane_sum, i64(token), group)


@dataclass
class _TileProduct:
    """The product of one tile with all tokens while it is being summed up."""

    x: Any
    weight: TiledWeight
    x_sums: Any
    tile: Any
    tokens: int
    lanes: Lanes

    def __post_init__(self) -> None:
        width = self.lanes.width
        self.totals = RegisterArray("totals", self.tokens * (TILE_ROWS // width), width)

    def emit_group(self, group: Any, columns: int) -> None:
        """Add ``columns`` columns, from 32 · ``group`` on, to the totals."""
        for bundles in self.weight.passes(self.tokens, self.lanes.width, self.lanes.registers):
            self._emit_pass(bundles, group, columns)

    def _emit_pass(self, bundles: list[list[int]], group: Any, columns: int) -> None:
        width = self.lanes.width
        rows = [row for bundle in bundles for row in bundle]
        cells = [(token, v) for token in range(self.tokens) for v in range(len(rows))]
        # With few sums, two columns are in flight, each with its own: one chain of additions would wait for itself.
        chains = 2 if 2 * len(cells) <= self.weight.sums_in_registers(self.lanes.registers) else 1
        sums = RegisterArray("sums", chains * len(cells), width)
        sums.clear()
        if self.x_sums is not None:
            for at, (token, v) in enumerate(cells):
                start = load(self.x_sums, i64(token), group) * f32(Q4_SUM_START[v % 2])
                sums[at] = broadcast(start, width)

        def add_column(column: Any, chain: int) -> None:
            for first, bundle in enumerate(bundles):
                vectors = self.weight.column_for_sums(self.tile, column, bundle, width)
                for token in range(self.tokens):
                    activation = broadcast(load(self.x, i64(token), column), width)
                    for v, values in enumerate(vectors):
                        at = chain * len(cells) + token * len(rows) + first * len(bundle) + v
                        sums[at] = sums[at] + values * activation

        # Columns per turn of the loop: enough to hide its overhead, few enough to stay in registers and compile fast.
        unroll = 4 if self.tokens == 1 else 2
        base = group * i64(GROUP_SIZE)
        with T.serial(i64(0), i64(columns // unroll)) as block:
            for step in range(unroll):
                add_column(base + block * i64(unroll) + i64(step), step % chains)
        for column in range(columns // unroll * unroll, columns):
            add_column(base + i64(column), 0)
        for token in range(self.tokens):
            for first, bundle in enumerate(bundles):
                at = token * len(rows) + first * len(bundle)
                ends = [
                    sums[at + v] + sums[at + v + len(cells)] if chains == 2 else sums[at + v]
                    for v in range(len(bundle))
                ]
                parts = self.weight.settle_sums(ends, self.tile, group, bundle, width)
                for row, part in zip(bundle, parts, strict=True):
                    into = token * (TILE_ROWS // width) + row // width
                    self.totals[into] = self.totals[into] + part
