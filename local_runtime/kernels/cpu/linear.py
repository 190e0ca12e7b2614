"""The linear layer ``y = x · Wᵀ (+ bias) (+ residual)`` for CPUs, one function for decoding and prefill.

Weights are in the tiled layout of ``linear_weights``; activations and sums are float32. The code is plain vector
arithmetic without intrinsics, so that LLVM can compile it for any instruction set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from local_runtime.kernels.cpu.gemm import emit_gemm
from local_runtime.kernels.cpu.gemv import emit_gemv
from local_runtime.kernels.cpu.linear_epilogue import Epilogue
from local_runtime.kernels.cpu.linear_ir import Lanes, finish, i64, open_function, symbolic, tensor_arg
from local_runtime.kernels.cpu.linear_weights import TiledWeight, check_shape
from local_runtime.tvm_compat import T

if TYPE_CHECKING:
    from local_runtime.kernels.cpu.linear_weights import WeightFormat

__all__ = ["linear"]

# Up to this many tokens the weights are read straight from memory; above, unpacking them first pays.
_GEMV_TOKENS = 4


def linear(
    n: int,
    k: int,
    weight_format: WeightFormat,
    *,
    bias: bool = False,
    residual: bool = False,
    vector_lanes: int = 8,
    vector_registers: int | None = None,
) -> Any:
    """Return the PrimFunc of one linear layer.

    Its parameters, in order: ``x`` float32 ``[m, k]``; the weight's tensors (``qweight`` and ``scale`` for q4, else
    ``weight``); ``bias`` float32 ``[n]`` if asked for; ``residual`` float32 ``[m, n]`` if asked for; ``y`` float32
    ``[m, n]``. ``m`` is symbolic and at least 1. All tensors are compact and aligned to 64 bytes. ``y`` may not share
    memory with any other.

    Args:
        n: Rows of the matrix (outputs).
        k: Columns of the matrix (inputs); a multiple of 32 for q4.
        weight_format: ``q4``, ``f16`` or ``f32``.
        bias: Add a bias.
        residual: Add a residual.
        vector_lanes: float32 lanes of the target's vectors: 4, 8 or 16.
        vector_registers: The target's vector registers; None means 32 with 16 lanes (AVX-512), else 16. NEON has 32.

    Raises:
        ValueError: If the layout cannot hold such a matrix.
    """
    check_shape(n, k, weight_format)
    lanes = Lanes(vector_lanes, vector_registers or (32 if vector_lanes == 16 else 16))
    added = ("_bias" if bias else "") + ("_residual" if residual else "")
    with open_function(f"linear_{weight_format}_{n}x{k}{added}") as function:
        m = symbolic("m")
        x = tensor_arg("x", (m, k))
        weight = TiledWeight.declare(n, k, weight_format)
        bias_buffer = tensor_arg("bias", (n,)) if bias else None
        residual_buffer = tensor_arg("residual", (m, n)) if residual else None
        epilogue = Epilogue(n, tensor_arg("y", (m, n)), bias_buffer, residual_buffer, lanes.width)

        def by_tokens(tokens: int) -> None:
            if tokens > _GEMV_TOKENS:
                emit_gemm(x, weight, epilogue, m=m, n=n, k=k, lanes=lanes)
                return
            with T.If(m == i64(tokens)):
                with T.Then():
                    emit_gemv(x, weight, epilogue, n=n, k=k, tokens=tokens, lanes=lanes)
                with T.Else():
                    by_tokens(tokens + 1)

        by_tokens(1)
    return finish(function)
