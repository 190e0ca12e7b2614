"""What a compiled model asks of a checkpoint: its parameters in order, each with the source tensors that make it up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["WeightKind", "WeightSpec"]

WeightKind = Literal["linear", "embedding", "vector"]


@dataclass(frozen=True)
class WeightSpec:
    """One parameter of the model before quantisation and layout.

    Attributes:
        name: Our name of the parameter, for example ``layers.3.qkv``.
        kind: ``linear`` and ``embedding`` are matrices ``[N, K]`` that may be quantised; ``vector`` is a norm weight
            or a bias ``[N]`` and never is.
        sources: Names of the checkpoint's tensors, concatenated along rows in this order.
        shape: Shape after the concatenation: ``(N, K)`` or ``(N,)``.
        source_rows: Rows that each source contributes; they add up to ``shape[0]``.
    """

    name: str
    kind: WeightKind
    sources: tuple[str, ...]
    shape: tuple[int, ...]
    source_rows: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.shape) != (1 if self.kind == "vector" else 2):
            raise ValueError(f"{self.name}: a {self.kind} cannot have the shape {self.shape}")
        if len(self.sources) != len(self.source_rows) or sum(self.source_rows) != self.shape[0]:
            raise ValueError(f"{self.name}: the rows {self.source_rows} of {self.sources} do not make up {self.shape}")

    def source_shape(self, index: int) -> tuple[int, ...]:
        """Shape that the checkpoint's tensor ``sources[index]`` must have."""
        return (self.source_rows[index], *self.shape[1:])
