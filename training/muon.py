"""Muon: momentum whose update is made orthogonal (Keller Jordan et al., 2024), for the matrices of the layers."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn

# The quintic of the Muon write-up: it pulls every singular value into about [0.7, 1.2] in five steps.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 matrices multiply faster than float32 ones there."""
    return device.type == "cuda" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Newton-Schulz iteration on a stack of matrices [count, rows, columns]; the result has the same shape."""
    a, b, c = COEFFICIENTS
    x = matrices.bfloat16() if multiplies_bfloat16(matrices.device) else matrices.float()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class Muon:
    """The optimiser's state and step. Matrices of equal shape are updated in one batch."""

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.01
    ) -> None:
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        groups: dict[tuple[int, ...], list[nn.Parameter]] = defaultdict(list)
        for parameter in parameters:
            groups[tuple(parameter.shape)].append(parameter)
        self._groups = list(groups.values())
        self._buffers = [torch.zeros(len(group), *group[0].shape, device=group[0].device) for group in self._groups]

    @torch.no_grad()
    def step(self) -> None:
        """Applies the gradients and clears them."""
        for group, buffer in zip(self._groups, self._buffers, strict=True):
            gradient = torch.stack([parameter.grad for parameter in group if parameter.grad is not None])
            buffer.lerp_(gradient, 1 - self.momentum)
            update = orthogonalise(gradient.lerp(buffer, self.momentum))
            scale = max(1.0, group[0].shape[0] / group[0].shape[1]) ** 0.5
            torch._foreach_mul_(group, 1 - self.lr * self.weight_decay)
            torch._foreach_add_(group, list(update.unbind()), alpha=-self.lr * scale)
            for parameter in group:
                parameter.grad = None

    def state_dict(self) -> dict[str, list[Tensor]]:
        """The momentum buffers."""
        return {"buffers": self._buffers}

    def load_state_dict(self, state: dict[str, list[Tensor]]) -> None:
        """Restores what `state_dict` gave."""
        for buffer, saved in zip(self._buffers, state["buffers"], strict=True):
            buffer.copy_(saved)
