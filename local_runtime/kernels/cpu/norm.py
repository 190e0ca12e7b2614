"""Root-mean-square normalisation for CPUs (Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019)."""

from __future__ import annotations

from typing import Any

from local_runtime.kernels.cpu.linear_ir import (
    Lanes,
    RegisterArray,
    bind,
    broadcast,
    emit_rows,
    f32,
    finish,
    i64,
    load,
    open_function,
    scratch,
    store,
    symbolic,
    tensor_arg,
)
from local_runtime.tvm_compat import T, tirx

__all__ = ["rms_norm"]

# Independent sums of squares, so that additions don't wait for each other.
_CHAINS = 4
_PARALLEL_ROWS = 8


def rms_norm(k: int, eps: float, *, vector_lanes: int = 8) -> Any:
    """Return the PrimFunc of ``y = x / sqrt(mean(x²) + eps) · weight`` over the last dimension.

    Its parameters, in order: ``x`` float32 ``[m, k]``, ``weight`` float32 ``[k]``, ``y`` float32 ``[m, k]``; ``m`` is
    symbolic.

    Args:
        k: Width of a row.
        eps: Added to the mean of squares.
        vector_lanes: float32 lanes of the target's vectors: 4, 8 or 16.

    Raises:
        ValueError: For a width below 1 or an impossible number of lanes.
    """
    if k < 1:
        raise ValueError(f"a normalised row needs at least one element, not {k}")
    width = Lanes(vector_lanes).width
    with open_function(f"rms_norm_{k}") as function:
        m = symbolic("m")
        x = tensor_arg("x", (m, k))
        weight = tensor_arg("weight", (k,))
        y = tensor_arg("y", (m, k))

        def emit_row(row: Any) -> None:
            scale = _emit_scale(x, row, k, eps, width)
            vectors = k // width
            with T.serial(i64(0), i64(vectors)) as vector:
                at = vector * i64(width)
                value = load(x, row, at, lanes=width) * broadcast(scale, width) * load(weight, at, lanes=width)
                store(y, value, row, at, lanes=width)
            for column in range(vectors * width, k):
                store(y, load(x, row, i64(column)) * scale * load(weight, i64(column)), row, i64(column))

        emit_rows(m, emit_row, parallel_from=_PARALLEL_ROWS)
    return finish(function)


def _emit_scale(x: Any, row: Any, k: int, eps: float, width: int) -> Any:
    squares = RegisterArray("squares", _CHAINS, width)
    squares.clear()
    vectors = k // width

    def add_square(at: Any, chain: int) -> None:
        value = load(x, row, at, lanes=width)
        squares[chain] = squares[chain] + value * value

    whole = vectors // _CHAINS
    with T.serial(i64(0), i64(whole)) as block:
        for chain in range(_CHAINS):
            add_square((block * i64(_CHAINS) + i64(chain)) * i64(width), chain)
    for vector in range(whole * _CHAINS, vectors):
        add_square(i64(vector * width), vector % _CHAINS)
    lanes_sum = scratch("lanes_sum", (width,))
    store(lanes_sum, squares[0] + squares[1] + (squares[2] + squares[3]), i64(0), lanes=width)
    total: Any = f32(0.0)
    for lane in range(width):
        total = total + load(lanes_sum, i64(lane))
    for column in range(vectors * width, k):
        total = total + load(x, row, i64(column)) * load(x, row, i64(column))
    return bind("scale", f32(1.0) / tirx.sqrt(total * f32(1.0 / k) + f32(eps)))
