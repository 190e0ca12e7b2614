"""Several processes that train one network together, one on each GPU, as `torchrun` starts them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class Peers:
    """This process among those of the run; alone where `torchrun` didn't start it.

    Attributes:
        rank: this process's number; the process 0 reports, saves and exports.
        count: how many processes there are.
        device: where this process computes.
    """

    def __init__(self) -> None:
        self.rank = int(os.environ.get("RANK", "0"))
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        on_gpu = torch.cuda.is_available()
        self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if on_gpu else torch.device("cpu")
        if on_gpu:
            torch.cuda.set_device(self.device)
        if self.count > 1:
            dist.init_process_group("nccl" if on_gpu else "gloo")

    def average_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Replaces every gradient by its mean over the processes, in one exchange."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        parts = (flat / self.count).split([gradient.numel() for gradient in gradients])
        torch._foreach_copy_(
            gradients, [part.view_as(gradient) for part, gradient in zip(parts, gradients, strict=True)]
        )

    def share(self, tensors: Sequence[Tensor]) -> None:
        """Gives every process the values that process 0 holds."""
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), 0)

    def agree(self, answer: bool) -> bool:
        """The answer of process 0, in every process."""
        said = torch.tensor(float(answer), device=self.device)
        self.share([said])
        return bool(said.item())

    def wait(self) -> None:
        """Until every process has come here."""
        if self.count > 1:
            dist.barrier()

    def close(self) -> None:
        """Ends the exchange."""
        if self.count > 1:
            dist.destroy_process_group()
