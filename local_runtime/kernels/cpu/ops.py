"""The operators on a CPU: tiled weights, float32 activations, and the kernels of this package."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from local_runtime.kernels.cpu import activation, embedding, linear, norm
from local_runtime.kernels.cpu.linear_ir import Lanes
from local_runtime.kernels.cpu.paged_cache import CpuPagedKVCache
from local_runtime.kernels.ops import CacheShape, Matrix, Ops, Vector, WeightFormat
from local_runtime.quantization import GROUP_SIZE, TILE_ROWS, padded_rows
from local_runtime.tvm_compat import nn

if TYPE_CHECKING:
    import numpy as np

    from local_runtime.models.config import ModelConfig

__all__ = ["CpuOps"]

_linear = cache(linear.linear)
_rms_norm = cache(norm.rms_norm)
_silu_mul = cache(activation.silu_mul)
_embedding = cache(embedding.embedding)
_gather_rows = cache(embedding.gather_rows)


class CpuOps(Ops):
    """Operators for an LLVM target.

    Args:
        weight_format: How matrices are stored.
        target: TVM's target; its vector width shapes the kernels.
    """

    dtype = "float32"

    def __init__(self, weight_format: WeightFormat, target: Any) -> None:
        self.weight_format = weight_format
        self.target = target
        unit = Lanes.of_target(target)
        self.vector_lanes, self.vector_registers = unit.width, unit.registers

    def matrix(self, rows: int, columns: int) -> Matrix:
        tiles = padded_rows(rows) // TILE_ROWS
        parts: dict[str, tuple[tuple[int, ...], str]]
        if self.weight_format == "q4":
            parts = {
                "qweight": ((tiles, columns, TILE_ROWS // 2), "uint8"),
                "scale": ((tiles, columns // GROUP_SIZE, TILE_ROWS), "float16"),
            }
        else:
            dtype = "float16" if self.weight_format == "f16" else "float32"
            parts = {"weight": ((tiles, columns, TILE_ROWS), dtype)}
        return Matrix(parts, rows, columns)

    def vector(self, size: int) -> Vector:
        return Vector(size, "float32")

    def embedding(self, table: Matrix, ids: nn.Tensor) -> nn.Tensor:
        kernel = _embedding(table.rows, table.columns, self.weight_format)
        return self._call(kernel, "embedding", [ids, *table.parts], (ids.shape[0], table.columns))

    def linear(
        self, x: nn.Tensor, weight: Matrix, bias: Vector | None = None, residual: nn.Tensor | None = None
    ) -> nn.Tensor:
        kernel = _linear(
            weight.rows,
            weight.columns,
            self.weight_format,
            bias=bias is not None,
            residual=residual is not None,
            vector_lanes=self.vector_lanes,
            vector_registers=self.vector_registers,
        )
        args = [x, *weight.parts]
        if bias is not None:
            args.append(bias.weight)
        if residual is not None:
            args.append(residual)
        return self._call(kernel, f"linear_{weight.rows}x{weight.columns}", args, (x.shape[0], weight.rows))

    def rms_norm(self, x: nn.Tensor, weight: Vector, eps: float) -> nn.Tensor:
        return self._call(
            _rms_norm(int(x.shape[1]), eps, vector_lanes=self.vector_lanes), "rms_norm", [x, weight.weight], x.shape
        )

    def silu_mul(self, gate_up: nn.Tensor) -> nn.Tensor:
        width = int(gate_up.shape[1]) // 2
        return self._call(
            _silu_mul(width, vector_lanes=self.vector_lanes), "silu_mul", [gate_up], (gate_up.shape[0], width)
        )

    def gather_rows(self, x: nn.Tensor, positions: nn.Tensor) -> nn.Tensor:
        return self._call(
            _gather_rows(int(x.shape[1]), vector_lanes=self.vector_lanes),
            "gather_rows",
            [x, positions],
            (positions.shape[0], x.shape[1]),
        )

    def logits(self, x: nn.Tensor, head: Matrix) -> nn.Tensor:
        return self.linear(x, head)

    def paged_cache(self, shape: CacheShape, config: ModelConfig, inv_freq: np.ndarray) -> Any:
        return CpuPagedKVCache(
            max_batch_size=shape.max_sequences,
            max_total_seq_len=shape.max_tokens,
            prefill_chunk_size=shape.prefill_chunk_tokens,
            page_size=shape.page_tokens,
            support_sliding_window=0,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            inv_freq=inv_freq,
            target=self.target,
            window=config.sliding_window,
        )

    def attention_scale(self, config: ModelConfig, layer: int) -> float:
        scale = float(config.head_dim**-0.5)
        return -scale if config.is_windowed(layer) else scale

    @staticmethod
    def _call(kernel: Any, name: str, args: list[Any], shape: Any) -> nn.Tensor:
        return nn.op.tensor_ir_op(kernel, name, args, nn.Tensor.placeholder(list(shape), "float32"))
