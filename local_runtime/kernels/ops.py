"""The operators that a model is written with, one implementation per kind of device.

A model file says *what* is computed; an :class:`Ops` says with which kernel and over which weight layout. Shapes: ``n`` tokens of
all sequences in a step lie behind one another in the first axis. Activations are float32 on a CPU and ``Ops.dtype`` elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from local_runtime.tvm_compat import nn

if TYPE_CHECKING:
    import numpy as np

    from local_runtime.models.config import ModelConfig

__all__ = ["CacheShape", "Matrix", "Ops", "Vector", "WeightFormat"]

WeightFormat = Literal["q4", "f16", "f32"]


class Matrix(nn.Module):  # type: ignore[misc]
    """A weight matrix ``[rows, columns]`` in a device's storage format.

    Args:
        parts: Shape and dtype of each stored tensor by its name (``weight``, or ``qweight`` and ``scale``).
        rows: Output features, or entries of a vocabulary.
        columns: Input features.
    """

    def __init__(self, parts: dict[str, tuple[tuple[int, ...], str]], rows: int, columns: int) -> None:
        super().__init__()
        self.rows, self.columns, self.part_names = rows, columns, tuple(parts)
        for name, (shape, dtype) in parts.items():
            setattr(self, name, nn.Parameter(shape, dtype))

    @property
    def parts(self) -> list[Any]:
        """The stored tensors in the order in which kernels take them."""
        return [getattr(self, name) for name in self.part_names]


class Vector(nn.Module):  # type: ignore[misc]
    """A norm's weight or a bias ``[size]``; never quantised."""

    def __init__(self, size: int, dtype: str) -> None:
        super().__init__()
        self.weight = nn.Parameter((size,), dtype)


@dataclass(frozen=True)
class CacheShape:
    """Symbolic sizes with which the compiled program is asked for a key-value cache."""

    max_sequences: Any
    max_tokens: Any
    prefill_chunk_tokens: Any
    page_tokens: Any


class Ops(Protocol):
    """What a model may ask of a device."""

    dtype: str
    """Type of activations and of the key-value cache."""

    def matrix(self, rows: int, columns: int) -> Matrix:
        """Declare a weight matrix in this device's format."""

    def vector(self, size: int) -> Vector:
        """Declare a norm's weight or a bias."""

    def embedding(self, table: Matrix, ids: nn.Tensor) -> nn.Tensor:
        """Look up ``ids`` int32 ``[n]`` in ``table``; ``[n, columns]``."""

    def linear(
        self, x: nn.Tensor, weight: Matrix, bias: Vector | None = None, residual: nn.Tensor | None = None
    ) -> nn.Tensor:
        """``x @ weightᵀ (+ bias) (+ residual)``; ``[n, columns]`` to ``[n, rows]``."""

    def rms_norm(self, x: nn.Tensor, weight: Vector, eps: float) -> nn.Tensor:
        """``x / sqrt(mean(x²) + eps) · weight`` over the last axis (Zhang and Sennrich, 2019)."""

    def silu_mul(self, gate_up: nn.Tensor) -> nn.Tensor:
        """``silu(gate) · up`` of ``[n, 2·f]``, gate first; ``[n, f]`` (SwiGLU, Shazeer, 2020)."""

    def gather_rows(self, x: nn.Tensor, positions: nn.Tensor) -> nn.Tensor:
        """Rows ``positions`` int32 ``[b]`` of ``x [n, k]``; ``[b, k]``."""

    def logits(self, x: nn.Tensor, head: Matrix) -> nn.Tensor:
        """``x @ headᵀ`` in float32; ``[b, vocab]``."""

    def attention_scale(self, config: ModelConfig, layer: int) -> float:
        """What attention is told to multiply scores by in a layer, ``1 / sqrt(head_dim)``; its sign is the device's own."""

    def paged_cache(self, shape: CacheShape, config: ModelConfig, inv_freq: np.ndarray) -> Any:
        """Create TVM's paged key-value cache with this device's attention kernels."""
