"""The gated activation of a feed-forward block for CPUs."""

from __future__ import annotations

from typing import Any

from local_runtime.kernels.cpu.exp import exp_f32
from local_runtime.kernels.cpu.linear_ir import (
    Lanes,
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
from local_runtime.tvm_compat import T

__all__ = ["silu_mul"]

_PARALLEL_ROWS = 4


def silu_mul(ffn: int, *, vector_lanes: int = 8) -> Any:
    """Return the PrimFunc of ``y = silu(gate) · up``, with ``silu(g) = g / (1 + exp(−g))``.

    Its parameters, in order: ``gate_up`` float32 ``[m, 2 · ffn]`` (gate in the first half of a row, up in the second),
    ``y`` float32 ``[m, ffn]``; ``m`` is symbolic.

    Args:
        ffn: Width of the feed-forward block.
        vector_lanes: float32 lanes of the target's vectors: 4, 8 or 16.

    Raises:
        ValueError: For a width below 1 or an impossible number of lanes.
    """
    if ffn < 1:
        raise ValueError(f"a feed-forward block needs at least one element, not {ffn}")
    width = Lanes(vector_lanes).width
    with open_function(f"silu_mul_{ffn}") as function:
        m = symbolic("m")
        gate_up = tensor_arg("gate_up", (m, 2 * ffn))
        y = tensor_arg("y", (m, ffn))

        def emit_columns(row: Any, column: Any, lanes: int) -> None:
            gate = load(gate_up, row, column, lanes=lanes)
            up = load(gate_up, row, column + i64(ffn), lanes=lanes)
            one = T.Broadcast(f32(1.0), lanes) if lanes > 1 else f32(1.0)
            store(y, gate * up / (one + exp_f32(-gate)), row, column, lanes=lanes)

        def emit_row(row: Any) -> None:
            vectors = ffn // width
            with T.serial(i64(0), i64(vectors)) as vector:
                emit_columns(row, vector * i64(width), width)
            with T.serial(i64(vectors * width), i64(ffn)) as column:
                emit_columns(row, column, 1)

        emit_rows(m, emit_row, parallel_from=_PARALLEL_ROWS)
    return finish(function)
