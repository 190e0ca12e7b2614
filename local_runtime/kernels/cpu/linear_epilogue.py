"""The end of every matrix product: add what is to be added and write the rows that exist."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from local_runtime.kernels.cpu.linear_ir import i64, load, store
from local_runtime.kernels.cpu.linear_weights import TILE_ROWS
from local_runtime.tvm_compat import T

__all__ = ["Epilogue"]


@dataclass(frozen=True)
class Epilogue:
    """Where a product goes.

    Attributes:
        n: Rows of the matrix, the last dimension of ``y``.
        y: Output, float32 ``[m, n]``.
        bias: float32 ``[n]`` or None.
        residual: float32 ``[m, n]`` or None.
        width: Vector lanes.
    """

    n: int
    y: Any
    bias: Any
    residual: Any
    width: int

    def emit(self, result: Any, result_row: Any, token: Any, tile: Any) -> None:
        """Write row ``result_row`` of ``result [·, 32]`` to the columns of ``tile`` in row ``token`` of ``y``."""
        ragged = self.n % TILE_ROWS
        if not ragged:
            self._vectors(result, result_row, token, tile)
            return
        with T.If(tile < i64(self.n // TILE_ROWS)):
            with T.Then():
                self._vectors(result, result_row, token, tile)
            with T.Else(), T.serial(i64(0), i64(ragged)) as j:
                self._add_and_store(load(result, result_row, j), token, tile * i64(TILE_ROWS) + j, 1)

    def _vectors(self, result: Any, result_row: Any, token: Any, tile: Any) -> None:
        for first in range(0, TILE_ROWS, self.width):
            value = load(result, result_row, i64(first), lanes=self.width)
            self._add_and_store(value, token, tile * i64(TILE_ROWS) + i64(first), self.width)

    def _add_and_store(self, value: Any, token: Any, row: Any, lanes: int) -> None:
        if self.bias is not None:
            value = value + load(self.bias, row, lanes=lanes)
        if self.residual is not None:
            value = value + load(self.residual, token, row, lanes=lanes)
        store(self.y, value, token, row, lanes=lanes)
