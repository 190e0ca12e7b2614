"""Weight matrices in the tiled layout: their parameters, and how a kernel reads them.

A matrix ``W [n, k]`` is cut into tiles of 32 rows (``n`` padded with zero rows). Within a tile the 32 rows lie side by
side for each column, so that one column of a tile is one contiguous load and the whole tile is one contiguous stream:

- ``f32``, ``f16``: ``weight [tiles, k, 32]``.
- ``q4``: ``qweight`` uint8 ``[tiles, k, 16]``, rows 0–15 of the tile in the low nibbles and 16–31 in the high ones;
  ``scale`` float16 ``[tiles, k / 32, 32]``; the value is ``(nibble − 8) · scale``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from local_runtime.kernels.cpu.linear_ir import bind, broadcast, f32, i64, load, tensor_arg
from local_runtime.kernels.ops import WeightFormat
from local_runtime.quantization import GROUP_SIZE, TILE_ROWS, padded_rows
from local_runtime.tvm_compat import tirx

__all__ = [
    "GROUP_SIZE",
    "Q4_STEPS",
    "Q4_SUM_START",
    "Q4_ZERO",
    "TILE_ROWS",
    "TiledWeight",
    "WeightFormat",
    "check_shape",
    "tiles_of",
]

# A nibble becomes a float by standing in the top bits of the mantissa of 1.0, which is one operation cheaper than a
# conversion: v = 1 + nibble / 16, so that the weight is (v − Q4_ZERO) · Q4_STEPS · scale.
Q4_ZERO = 1.5
Q4_STEPS = 16.0
# What the sums of a q4 bundle begin at, times Σ x: see ``TiledWeight.settle_sums``.
Q4_SUM_START = (-Q4_ZERO, -136.0)
_MANTISSA_TOP = 0x00780000
_ONE_BITS = 0x3F800000


def tiles_of(n: int) -> int:
    """Return how many tiles ``n`` rows need."""
    return padded_rows(n) // TILE_ROWS


def check_shape(n: int, k: int, weight_format: str) -> None:
    """Refuse what the layout cannot hold.

    Raises:
        ValueError: For an unknown format, an empty matrix, or a ``k`` that q4's groups do not divide.
    """
    if weight_format not in get_args(WeightFormat):
        raise ValueError(f"weight format must be one of {', '.join(get_args(WeightFormat))}, not {weight_format!r}")
    if n < 1 or k < 1:
        raise ValueError(f"a weight matrix needs at least one row and one column, not {n} x {k}")
    if weight_format == "q4" and k % GROUP_SIZE:
        raise ValueError(f"q4 needs a number of columns that is a multiple of {GROUP_SIZE}, not {k}")


@dataclass(frozen=True)
class TiledWeight:
    """The buffers of one matrix inside an open function.

    Attributes:
        weight_format: ``q4``, ``f16`` or ``f32``.
        values: ``weight`` or ``qweight``.
        scale: ``scale`` for q4, else None.
    """

    weight_format: WeightFormat
    values: Any
    scale: Any

    @staticmethod
    def declare(n: int, k: int, weight_format: WeightFormat) -> TiledWeight:
        """Declare the matrix's tensors as the next parameters of the open function."""
        tiles = tiles_of(n)
        if weight_format == "q4":
            values = tensor_arg("qweight", (tiles, k, TILE_ROWS // 2), "uint8")
            return TiledWeight("q4", values, tensor_arg("scale", (tiles, k // GROUP_SIZE, TILE_ROWS), "float16"))
        dtype = "float16" if weight_format == "f16" else "float32"
        return TiledWeight(weight_format, tensor_arg("weight", (tiles, k, TILE_ROWS), dtype), None)

    def column(self, tile: Any, k: Any, rows: list[int], lanes: int) -> list[Any]:
        """Emit the load of column ``k`` for one bundle of vectors (see ``row_vectors``).

        Returns:
            One float32 vector for each entry of ``rows``; for q4 each holds ``1 + nibble / 16``, see ``Q4_ZERO``.
        """
        if self.weight_format != "q4":
            return [self._float_vector(tile, k, row, lanes) for row in rows]
        packed = self._packed_bytes(tile, k, rows[0], lanes)
        low, high = packed << _splat(19, lanes), (packed << _splat(15, lanes)) & _splat(_MANTISSA_TOP, lanes)
        # The high nibble, left above the low one, falls on bits of the exponent that are set anyway.
        return [_as_float(bits | _splat(_ONE_BITS, lanes), lanes) for bits in (low, high)]

    def column_for_sums(self, tile: Any, k: Any, rows: list[int], lanes: int) -> list[Any]:
        """Emit the same load, in the form that is cheapest to sum up; ``settle_sums`` makes the sums right.

        Returns:
            As ``column``, but the second vector of a q4 bundle holds the whole byte, 0 to 255.
        """
        if self.weight_format != "q4":
            return self.column(tile, k, rows, lanes)
        packed = self._packed_bytes(tile, k, rows[0], lanes)
        low = _as_float((packed << _splat(19, lanes)) | _splat(_ONE_BITS, lanes), lanes)
        return [low, packed.astype(f"float32x{lanes}")]

    def settle_sums(self, sums: list[Any], tile: Any, group: Any, rows: list[int], lanes: int) -> list[Any]:
        """Turn one bundle's sums over a column group into what the group adds to the product (for q4: a 16th of it).

        q4 sums must have begun at ``Q4_SUM_START`` times the group's Σ x. With l and h as the nibbles, they are then
        ``L = Σ (l − 8) · x / 16`` and ``B = Σ (l + 16 · h − 136) · x``, so ``Σ (h − 8) · x / 16 = B / 256 − L / 16``.
        """
        if self.weight_format != "q4":
            return sums
        low = bind("low", sums[0])
        high = sums[1] * broadcast(f32(1 / 256), lanes) - low * broadcast(f32(1 / 16), lanes)
        return [part * self.scales(tile, group, row, lanes) for part, row in zip((low, high), rows, strict=True)]

    def _float_vector(self, tile: Any, k: Any, row: int, lanes: int) -> Any:
        vector = load(self.values, tile, k, i64(row), lanes=lanes)
        return vector if self.weight_format == "f32" else vector.astype(f"float32x{lanes}")

    def _packed_bytes(self, tile: Any, k: Any, row: int, lanes: int) -> Any:
        # Bound, so that the widened bytes have two uses: LLVM would otherwise mask and shift before it widens, and
        # widen twice.
        return bind("packed", load(self.values, tile, k, i64(row), lanes=lanes).astype(f"int32x{lanes}"))

    def scales(self, tile: Any, group: Any, first_row: int, lanes: int) -> Any:
        """Return float32 lanes of q4's scales for rows ``first_row …`` of column group ``group``."""
        return load(self.scale, tile, group, i64(first_row), lanes=lanes).astype(f"float32x{lanes}")

    def row_vectors(self, lanes: int) -> list[list[int]]:
        """Return the first rows of a tile's vectors, in bundles that are best read together: q4's come in pairs."""
        if self.weight_format == "q4":
            return [[row, row + TILE_ROWS // 2] for row in range(0, TILE_ROWS // 2, lanes)]
        return [[row] for row in range(0, TILE_ROWS, lanes)]

    def sums_in_registers(self, registers: int) -> int:
        """Return how many running sums fit beside what one step needs; unpacking q4 needs more."""
        return registers - (8 if self.weight_format == "q4" else 4)

    def passes(self, tokens: int, lanes: int, registers: int) -> list[list[list[int]]]:
        """Split a tile's bundles of vectors so that ``tokens`` accumulators for each fit the registers."""
        bundles = self.row_vectors(lanes)
        budget = self.sums_in_registers(registers) // (tokens * len(bundles[0]))
        size = next(size for size in (8, 4, 2, 1) if size <= max(1, budget))
        return [bundles[i : i + size] for i in range(0, len(bundles), size)]


def _splat(value: int, lanes: int) -> Any:
    return broadcast(tirx.const(value, "int32"), lanes)


def _as_float(bits: Any, lanes: int) -> Any:
    return tirx.reinterpret(f"float32x{lanes}", bits)
