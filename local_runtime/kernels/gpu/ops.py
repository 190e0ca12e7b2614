"""The operators on a GPU: row-major weights, float16 activations (float32 with f32 weights), schedules by ``dlight``.

A product with 4-bit weights is one expression, dequantisation and reduction together, so that no dequantised matrix is ever written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from local_runtime.kernels.limits import PAGES_FUNCTION
from local_runtime.kernels.ops import CacheShape, Matrix, Ops, Vector, WeightFormat
from local_runtime.quantization import GROUP_SIZE
from local_runtime.tvm_compat import PagedKVCache, RopeMode, TIRPagedKVCache, nn, relax, te, tirx, tvm

if TYPE_CHECKING:
    import numpy as np

    from local_runtime.models.config import ModelConfig, RopeConfig

__all__ = ["GpuOps", "rope_arguments"]

_CODES_PER_WORD = 8  # 4-bit codes in a uint32

# TVM's decode attention gives a head ``head_dim / 4`` threads and fills a block of 512 along its third axis, which CUDA limits to 64.
_ATTENTION_BLOCK_THREADS = 512
_ATTENTION_VALUES_PER_THREAD = 4
_LONGEST_THIRD_AXIS = 64

_NO_WINDOW = 1  # any number will do where no layer has a window

_READ_BACK = 1 + 26  # of the call that creates a cache: the function's own name comes first


class GpuOps(Ops):
    """Operators for a GPU target.

    Args:
        weight_format: How matrices are stored.
        target: TVM's target.
    """

    def __init__(self, weight_format: WeightFormat, target: Any) -> None:
        self.weight_format = weight_format
        self.target = target
        self.dtype = "float32" if weight_format == "f32" else "float16"

    def matrix(self, rows: int, columns: int) -> Matrix:
        parts: dict[str, tuple[tuple[int, ...], str]]
        if self.weight_format == "q4":
            parts = {
                "qweight": ((rows, columns // _CODES_PER_WORD), "uint32"),
                "scale": ((rows, columns // GROUP_SIZE), "float16"),
            }
        else:
            parts = {"weight": ((rows, columns), self.dtype)}
        return Matrix(parts, rows, columns)

    def vector(self, size: int) -> Vector:
        return Vector(size, self.dtype)

    def embedding(self, table: Matrix, ids: nn.Tensor) -> nn.Tensor:
        def look_up(ids: Any, *parts: Any) -> Any:
            return te.compute(
                (ids.shape[0], table.columns), lambda i, j: self._element(parts, ids[i], j), name="embedding"
            )

        return nn.op.tensor_expr_op(look_up, "embedding", [ids, *table.parts])

    def linear(
        self, x: nn.Tensor, weight: Matrix, bias: Vector | None = None, residual: nn.Tensor | None = None
    ) -> nn.Tensor:
        y = self._product(x, weight, self.dtype)
        if bias is not None:
            y = y + bias.weight
        return y if residual is None else y + residual

    def rms_norm(self, x: nn.Tensor, weight: Vector, eps: float) -> nn.Tensor:
        return nn.op.rms_norm(x, weight.weight, axes=[-1], epsilon=eps)

    def silu_mul(self, gate_up: nn.Tensor) -> nn.Tensor:
        gate, up = nn.op.split(gate_up, 2, axis=1)
        return nn.op.silu(gate) * up

    def gather_rows(self, x: nn.Tensor, positions: nn.Tensor) -> nn.Tensor:
        return nn.op.take(x, positions, axis=0)

    def logits(self, x: nn.Tensor, head: Matrix) -> nn.Tensor:
        return self._product(x, head, "float32")

    def paged_cache(self, shape: CacheShape, config: ModelConfig, inv_freq: np.ndarray) -> Any:
        scale, scaling = rope_arguments(config.rope)
        return _OpenPagedKVCache(
            # One kind too many: the runtime makes its buffers only if some layer attends to everything.
            attn_kind=[
                *("mha_sliding" if config.is_windowed(layer) else "mha" for layer in range(config.num_layers)),
                "mha",
            ],
            max_batch_size=shape.max_sequences,
            max_total_seq_len=shape.max_tokens,
            prefill_chunk_size=shape.prefill_chunk_tokens,
            page_size=shape.page_tokens,
            support_sliding_window=0,
            layer_partition=relax.ShapeExpr([0, config.num_layers]),
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_kv_heads,
            qk_head_dim=config.head_dim,
            v_head_dim=config.head_dim,
            mla_original_qk_head_dim=0,
            mla_original_v_head_dim=0,
            rope_mode=RopeMode.NORMAL,
            rope_scale=scale,
            rope_theta=config.rope.theta,
            rope_scaling=scaling,
            rope_ext_factors=relax.Tuple([]),
            rotary_dim=config.head_dim,
            enable_disaggregation=False,
            dtype=self.dtype,
            target=_attention_target(self.target, config),
            layer_sliding_window_size=config.sliding_window or _NO_WINDOW,
        )

    def attention_scale(self, config: ModelConfig, layer: int) -> float:
        return float(config.head_dim**-0.5)

    def _product(self, x: nn.Tensor, weight: Matrix, out_dtype: str) -> nn.Tensor:
        """``x @ weightᵀ`` accumulated in float32 and rounded once, to ``out_dtype``."""

        def multiply(x: Any, *parts: Any) -> Any:
            dense = te.compute(
                (weight.rows, weight.columns), lambda n, k: self._element(parts, n, k), name="dequantize"
            )
            k = te.reduce_axis((0, weight.columns), name="k")
            total = te.compute(
                (x.shape[0], weight.rows),
                lambda m, n: te.sum(x[m, k].astype("float32") * dense[n, k].astype("float32"), axis=k),
                name="product",
            )
            return te.compute(total.shape, lambda m, n: total[m, n].astype(out_dtype), name="round")

        return nn.op.tensor_expr_op(multiply, "linear", [x, *weight.parts])

    def _element(self, parts: tuple[Any, ...], row: Any, column: Any) -> Any:
        """Weight ``[row, column]`` in the type of the activations."""
        if self.weight_format != "q4":
            return parts[0][row, column]
        word = parts[0][row, column // _CODES_PER_WORD]
        shift = tirx.Cast("uint32", (column % _CODES_PER_WORD) * 4)
        code = tirx.bitwise_and(tirx.shift_right(word, shift), tirx.const(15, "uint32")).astype("int32")
        return (code - 8).astype(self.dtype) * parts[1][row, column // GROUP_SIZE].astype(self.dtype)


class _WithOpenPages(PagedKVCache):  # type: ignore[misc]
    """Replaces the kernel that reads keys and values back by the function that the pages are handed to."""

    def __init__(self, **arguments: Any) -> None:
        made = arguments["_expr"]
        parts = list(made.args)
        parts[_READ_BACK] = relax.ExternFunc(PAGES_FUNCTION)
        call = relax.Call(made.op, parts, made.attrs, made.ty_args, made.span)
        super().__init__(**{**arguments, "_expr": call})


class _OpenPagedKVCache(TIRPagedKVCache, _WithOpenPages):  # type: ignore[misc]
    """TVM's cache, whose pages :mod:`local_runtime.page_access` can reach."""


def rope_arguments(rope: RopeConfig) -> tuple[float, dict[str, Any]]:
    """How TVM's cache is told of a rotary embedding: the factor on positions, and the rule for frequencies (empty: none)."""
    if rope.type == "linear":
        return 1.0 / rope.parameters["factor"], {}
    return 1.0, {"rope_type": "llama3", **rope.parameters} if rope.type == "llama3" else {}


def _attention_target(target: Any, config: ModelConfig) -> Any:
    """The target for the attention kernels: with fewer threads a block where heads are so small that 512 cannot be laid out."""
    group = config.num_heads // config.num_kv_heads
    threads = _LONGEST_THIRD_AXIS * (config.head_dim // _ATTENTION_VALUES_PER_THREAD) * group
    if threads >= _ATTENTION_BLOCK_THREADS:
        return target
    spec = {**dict(target.export()), "max_num_threads": threads, "max_threads_per_block": threads}
    return tvm.target.Target({key: value for key, value in spec.items() if key != "host"}, host=target.host)
