"""What each of two processes does in the test of `training.peers`; `torchrun` starts it with a folder to write to."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from training.peers import Peers

peers = Peers()
weights = [torch.nn.Parameter(torch.full((2, 3), float(peers.rank))), torch.nn.Parameter(torch.zeros(4))]
peers.share(weights)
for number, weight in enumerate(weights):
    weight.grad = torch.full_like(weight, 10.0 * number + peers.rank)
peers.average_gradients(weights)
peers.wait()
said = {
    "weights": [weight.flatten().tolist() for weight in weights],
    "gradients": [weight.grad.flatten().tolist() for weight in weights if weight.grad is not None],
    "agreed": [peers.agree(peers.rank == 0), peers.agree(peers.rank == 1)],
}
(Path(sys.argv[1]) / f"{peers.rank}.json").write_text(json.dumps(said), encoding="utf-8")
peers.close()
