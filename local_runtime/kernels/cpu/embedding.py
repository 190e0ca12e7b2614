"""Picking rows for CPUs: token embeddings out of a tiled matrix, and the positions that need logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from local_runtime.kernels.cpu.linear_ir import (
    Lanes,
    bind,
    emit_rows,
    f32,
    finish,
    i64,
    load,
    open_function,
    store,
    symbolic,
    tensor_arg,
)
from local_runtime.kernels.cpu.linear_weights import GROUP_SIZE, TILE_ROWS, TiledWeight, check_shape
from local_runtime.tvm_compat import T, tirx

if TYPE_CHECKING:
    from local_runtime.kernels.cpu.linear_weights import WeightFormat

__all__ = ["embedding", "gather_rows"]

_PARALLEL_ROWS = 8


def embedding(vocab: int, k: int, weight_format: WeightFormat) -> Any:
    """Return the PrimFunc that looks token embeddings up.

    Its parameters, in order: ``ids`` int32 ``[m]``, each from 0 to ``vocab`` − 1 (not checked here), the tiled matrix's
    tensors as in ``linear`` (so that an output head may share them), ``y`` float32 ``[m, k]``; ``m`` is symbolic.

    Args:
        vocab: Rows of the matrix.
        k: Width of an embedding; a multiple of 32 for q4.
        weight_format: ``q4``, ``f16`` or ``f32``.

    Raises:
        ValueError: If the layout cannot hold such a matrix.
    """
    check_shape(vocab, k, weight_format)
    with open_function(f"embedding_{weight_format}_{vocab}x{k}") as function:
        m = symbolic("m")
        ids = tensor_arg("ids", (m,), "int32")
        weight = TiledWeight.declare(vocab, k, weight_format)
        y = tensor_arg("y", (m, k))

        def emit_row(row: Any) -> None:
            token = bind("token", load(ids, row).astype("int64"))
            tile = bind("tile", tirx.floordiv(token, i64(TILE_ROWS)))
            member = bind("member", tirx.floormod(token, i64(TILE_ROWS)))
            if weight_format == "q4":
                _emit_q4_row(weight, y, row, tile, member, k)
            else:
                with T.serial(i64(0), i64(k)) as column:
                    store(y, load(weight.values, tile, column, member).astype("float32"), row, column)

        emit_rows(m, emit_row, parallel_from=_PARALLEL_ROWS)
    return finish(function)


def _emit_q4_row(weight: TiledWeight, y: Any, row: Any, tile: Any, member: Any, k: int) -> None:
    half = i64(TILE_ROWS // 2)
    byte = bind("byte", tirx.floormod(member, half))
    shift = bind("shift", (tirx.floordiv(member, half) * i64(4)).astype("int32"))
    with T.serial(i64(0), i64(k // GROUP_SIZE)) as group:
        scale = bind("scale", load(weight.scale, tile, group, member).astype("float32"))
        with T.serial(i64(0), i64(GROUP_SIZE)) as step:
            column = group * i64(GROUP_SIZE) + step
            packed = load(weight.values, tile, column, byte).astype("int32")
            nibble = (packed >> shift) & tirx.const(15, "int32")
            store(y, (nibble.astype("float32") - f32(8.0)) * scale, row, column)


def gather_rows(k: int, *, vector_lanes: int = 8) -> Any:
    """Return the PrimFunc that copies some rows: ``y[i] = x[positions[i]]``.

    Its parameters, in order: ``x`` float32 ``[m, k]``, ``positions`` int32 ``[b]``, each from 0 to ``m`` − 1 (not
    checked here), ``y`` float32 ``[b, k]``; ``m`` and ``b`` are symbolic.

    Args:
        k: Width of a row.
        vector_lanes: float32 lanes of the target's vectors: 4, 8 or 16.

    Raises:
        ValueError: For a width below 1 or an impossible number of lanes.
    """
    if k < 1:
        raise ValueError(f"a row needs at least one element, not {k}")
    width = Lanes(vector_lanes).width
    with open_function(f"gather_rows_{k}") as function:
        m = symbolic("m")
        b = symbolic("b")
        x = tensor_arg("x", (m, k))
        positions = tensor_arg("positions", (b,), "int32")
        y = tensor_arg("y", (b, k))
        with T.serial(i64(0), b) as row:
            source = bind("source", load(positions, row).astype("int64"))
            vectors = k // width
            with T.serial(i64(0), i64(vectors)) as vector:
                at = vector * i64(width)
                store(y, load(x, source, at, lanes=width), row, at, lanes=width)
            with T.serial(i64(vectors * width), i64(k)) as column:
                store(y, load(x, source, column), row, column)
    return finish(function)
