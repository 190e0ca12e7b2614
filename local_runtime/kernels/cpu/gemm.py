"""Matrix times many vectors: prefill, which is bound by arithmetic.

Tokens are taken in blocks of 128, columns in slices of at most 256. Both factors are first laid out as the inner loop
reads them: the block's activations once, slice by slice, and, for each tile of 32 weight rows, one slice of it as float32.
Then a few tokens times a few rows are summed up in registers over the slice. (Goto and van de Geijn, "Anatomy of
High-Performance Matrix Multiplication", 2008.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local_runtime.kernels.cpu.linear_ir import RegisterArray, bind, broadcast, f32, i64, load, scratch, store
from local_runtime.kernels.cpu.linear_weights import GROUP_SIZE, Q4_STEPS, Q4_ZERO, TILE_ROWS, tiles_of
from local_runtime.tvm_compat import T, tirx

if TYPE_CHECKING:
    from local_runtime.kernels.cpu.linear_epilogue import Epilogue
    from local_runtime.kernels.cpu.linear_ir import Lanes
    from local_runtime.kernels.cpu.linear_weights import TiledWeight

__all__ = ["emit_gemm"]

# Tokens that share one unpacking of a weight tile. A block's sums (16 KiB) and the unpacked slice stay in the L2 cache.
_BLOCK_TOKENS = 128
# Columns of a slice: half a tile of it (16 KiB) fits the L1 cache beside the activations of a register block.
_SLICE_COLUMNS = 256


@dataclass(frozen=True)
class _Blocking:
    """How the product is cut up.

    Attributes:
        k: Columns of the matrix.
        width: Vector lanes.
        tokens: Tokens of the sums held in registers.
        rows: Weight rows of the sums held in registers; divides 32.
        slices: Slices of columns.
        slice_columns: Columns of a slice, a multiple of 32; the last slice may have fewer.
    """

    k: int
    width: int
    tokens: int
    rows: int
    slices: int
    slice_columns: int

    @staticmethod
    def choose(k: int, lanes: Lanes) -> _Blocking:
        tokens, rows = {(4, 16): (3, 16), (8, 16): (6, 16), (4, 32): (6, 16), (8, 32): (6, 32), (16, 32): (12, 32)}.get(
            (lanes.width, lanes.registers), (6, 16)
        )
        slices = -(-k // _SLICE_COLUMNS)
        slice_columns = -(-k // (slices * GROUP_SIZE)) * GROUP_SIZE
        # Rounding up may have made a slice superfluous.
        return _Blocking(k, lanes.width, tokens, rows, -(-k // slice_columns), slice_columns)

    @property
    def padded_tokens(self) -> int:
        """Tokens of a block, rounded up to whole register blocks."""
        return -(-_BLOCK_TOKENS // self.tokens) * self.tokens

    def columns_of(self, piece: Any) -> Any:
        """Return how many columns slice ``piece`` has."""
        return tirx.min(i64(self.k) - piece * i64(self.slice_columns), i64(self.slice_columns))


def emit_gemm(x: Any, weight: TiledWeight, epilogue: Epilogue, *, m: Any, n: int, k: int, lanes: Lanes) -> None:
    """Emit ``y = x · Wᵀ`` for any number ``m`` of tokens, parallel over weight tiles.

    Args:
        x: Activations, float32 ``[m, k]``.
        weight: The matrix.
        epilogue: What is added to the product and where it goes.
        m: Tokens, an int64 expression, at least 1.
        n: Rows of the matrix.
        k: Columns of the matrix.
        lanes: The target's vector unit.
    """
    blocking = _Blocking.choose(k, lanes)
    activations = scratch("activations", (blocking.slices, blocking.padded_tokens, blocking.slice_columns))
    with T.serial(i64(0), tirx.floordiv(m + i64(_BLOCK_TOKENS - 1), i64(_BLOCK_TOKENS))) as block:
        first_token = bind("first_token", block * i64(_BLOCK_TOKENS))
        tokens = bind("tokens", tirx.min(m - first_token, i64(_BLOCK_TOKENS)))
        groups = bind("groups", tirx.floordiv(tokens + i64(blocking.tokens - 1), i64(blocking.tokens)))
        with T.parallel(i64(0), groups * i64(blocking.tokens)) as token:
            # A block that is not full is filled up with its last token; what comes of that is never written.
            _emit_lay_out_row(x, activations, tirx.min(first_token + token, m - i64(1)), token, blocking)
        with T.parallel(i64(0), i64(tiles_of(n))) as tile:
            sums = scratch("sums", (blocking.padded_tokens, TILE_ROWS))
            unpacked = scratch("unpacked", (TILE_ROWS // blocking.rows, blocking.slice_columns, blocking.rows))
            with T.serial(i64(0), i64(blocking.slices)) as piece:
                columns = bind("columns", blocking.columns_of(piece))
                _emit_unpack(weight, unpacked, tile, piece, columns, blocking)
                with T.serial(i64(0), groups) as group:
                    for part in range(TILE_ROWS // blocking.rows):
                        _emit_register_block(activations, unpacked, sums, piece, columns, group, part, blocking)
            with T.serial(i64(0), tokens) as token:
                epilogue.emit(sums, token, first_token + token, tile)


def _emit_lay_out_row(x: Any, activations: Any, source: Any, token: Any, blocking: _Blocking) -> None:
    width = blocking.width
    with T.serial(i64(0), i64(blocking.slices)) as piece:
        first = bind("first", piece * i64(blocking.slice_columns))
        columns = bind("columns", blocking.columns_of(piece))
        vectors = bind("vectors", tirx.floordiv(columns, i64(width)))
        with T.serial(i64(0), vectors) as vector:
            at = vector * i64(width)
            store(activations, load(x, source, first + at, lanes=width), piece, token, at, lanes=width)
        with T.serial(i64(0), columns - vectors * i64(width)) as rest:
            at = vectors * i64(width) + rest
            store(activations, load(x, source, first + at), piece, token, at)


def _emit_register_block(
    activations: Any, unpacked: Any, sums: Any, piece: Any, columns: Any, group: Any, part: int, blocking: _Blocking
) -> None:
    """Sum up one group of tokens times one part of the tile's rows over a slice; the first slice starts from zero."""
    width = blocking.width
    vectors = blocking.rows // width
    registers = RegisterArray("registers", blocking.tokens * vectors, width)
    registers.clear()
    first_token = group * i64(blocking.tokens)
    with T.serial(i64(0), columns) as column:
        for i in range(blocking.tokens):
            activation = broadcast(load(activations, piece, first_token + i64(i), column), width)
            for v in range(vectors):
                values = load(unpacked, i64(part), column, i64(v * width), lanes=width)
                at = i * vectors + v
                registers[at] = registers[at] + values * activation

    def write(add: bool) -> None:
        for i in range(blocking.tokens):
            for v in range(vectors):
                at = (first_token + i64(i), i64(part * blocking.rows + v * width))
                value = registers[i * vectors + v]
                store(sums, load(sums, *at, lanes=width) + value if add else value, *at, lanes=width)

    with T.If(piece == i64(0)):
        with T.Then():
            write(add=False)
        with T.Else():
            write(add=True)


def _emit_unpack(weight: TiledWeight, unpacked: Any, tile: Any, piece: Any, columns: Any, blocking: _Blocking) -> None:
    width = blocking.width
    first_column = piece * i64(blocking.slice_columns)

    def put(value: Any, column: Any, row: int) -> None:
        store(unpacked, value, i64(row // blocking.rows), column, i64(row % blocking.rows), lanes=width)

    if weight.weight_format != "q4":
        with T.serial(i64(0), columns) as column:
            for bundle in weight.row_vectors(width):
                vectors = weight.column(tile, first_column + column, bundle, width)
                for row, values in zip(bundle, vectors, strict=True):
                    put(values, column, row)
        return
    with T.serial(i64(0), tirx.floordiv(columns, i64(GROUP_SIZE))) as group:
        scales = RegisterArray("scales", TILE_ROWS // width, width)
        offsets = RegisterArray("offsets", TILE_ROWS // width, width)
        weight_group = piece * i64(blocking.slice_columns // GROUP_SIZE) + group
        for v in range(TILE_ROWS // width):
            scales[v] = weight.scales(tile, weight_group, v * width, width) * broadcast(f32(Q4_STEPS), width)
            offsets[v] = scales[v] * broadcast(f32(-Q4_ZERO), width)
        with T.serial(i64(0), i64(GROUP_SIZE)) as step:
            column = group * i64(GROUP_SIZE) + step
            for bundle in weight.row_vectors(width):
                vectors = weight.column(tile, first_column + column, bundle, width)
                for row, values in zip(bundle, vectors, strict=True):
                    # Exact in float32, fused or not: a nibble times a float16 scale has at most 15 bits.
                    put(values * scales[row // width] + offsets[row // width], column, row)
