"""The training loop: packed rows, masked loss, Muon and AdamW, a last phase that also trains the q4 rounding.

One process, or one a GPU under `torchrun`: each then draws dialogues of its own, and gradients are averaged.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from training.chat_format import BOS, PAD, SPECIAL_TOKENS
from training.data import Batches
from training.muon import Muon, multiplies_bfloat16
from training.network import Network, fake_q4, rope_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy as np
    from torch import Tensor

    from training.architecture import Architecture
    from training.peers import Peers

BOS_ID, PAD_ID = SPECIAL_TOKENS.index(BOS), SPECIAL_TOKENS.index(PAD)


@dataclass(frozen=True)
class Recipe:
    """What a training run is made of. The defaults, paused at step 20,200, made the first stage of the bundled weights.

    Attributes:
        pause_at, limit_s: the run pauses after this step, or when this time is up; `resume` goes on from there.
        batch_rows: rows of a step, over all processes together.
        cooldown: the share of the run over which the learning rate falls to zero.
        q4_from: the share of the run after which every second step trains with rounded weights.
        prompt_weight: the weight of the loss on tokens that the assistant doesn't say, in the first `prompt_share` of the
            run; afterwards it is `late_prompt_weight`.
        mix: which questions come up how often, a name in `dialogues.MIXES`.
    """

    steps: int = 28_000
    pause_at: int | None = None
    limit_s: float = float("inf")
    batch_rows: int = 64
    row_tokens: int = 2048
    muon_lr: float = 0.02
    adam_lr: float = 3e-3
    warmup_steps: int = 100
    cooldown: float = 0.6
    q4_from: float = 0.6
    prompt_weight: float = 0.1
    prompt_share: float = 0.1
    late_prompt_weight: float = 0.01
    seed: int = 1
    workers: int = 14
    save_every_s: float = 150
    mix: str = "practice"


def document_ids(ids: Tensor) -> Tensor:
    """Which dialogue each token of a row belongs to, int [batch, length]."""
    return (ids == BOS_ID).cumsum(dim=1)


def loss_weights(ids: Tensor, answers: Tensor, prompt_weight: Tensor) -> Tensor:
    """The weight of each next-token prediction, float [batch, length - 1]."""
    target, wanted = ids[:, 1:], answers[:, 1:]
    weights = torch.where(wanted > 0, 1.0, prompt_weight.to(torch.float32))
    return weights * ((target != PAD_ID) & (target != BOS_ID))


def make_loss(
    network: Network, recipe: Recipe, device: torch.device
) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """The loss of a batch as a function (ids, answers, rounding, prompt_weight) -> scalar; on a GPU compiled, with block-sparse attention."""
    a = network.a
    length = recipe.row_tokens
    cos, sin = rope_tables(length, a.head_dim, a.rope_theta, device)

    def finish(hidden: Tensor, ids: Tensor, answers: Tensor, rounding: Tensor, prompt_weight: Tensor) -> Tensor:
        logits = network.logits(hidden[:, :-1], rounding).float()
        weights = loss_weights(ids, answers, prompt_weight)
        losses = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        return (losses * weights.flatten()).sum() / weights.sum()

    if device.type != "cuda":
        return _loss_by_document(network, cos, sin)

    from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

    @torch.compile(dynamic=False)
    def blocks(ids: Tensor) -> BlockMask:
        documents = document_ids(ids)

        def visible(b: Tensor, _h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            return (i >= j) & (documents[b, i] == documents[b, j])

        return create_block_mask(visible, ids.shape[0], None, length, length, device=device)

    @torch.compile(dynamic=False)
    def compiled(ids: Tensor, answers: Tensor, mask: BlockMask, rounding: Tensor, prompt_weight: Tensor) -> Tensor:
        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return flex_attention(q, k, v, block_mask=mask, enable_gqa=True)

        return finish(
            network(ids, cos, sin, [attend] * a.num_layers, rounding, torch.bfloat16),
            ids,
            answers,
            rounding,
            prompt_weight,
        )

    return lambda ids, answers, rounding, prompt_weight: compiled(ids, answers, blocks(ids), rounding, prompt_weight)


QUERY_BLOCK = 256
LENGTH_STEP = 64  # dialogues are padded to it: for each new shape the matrix library generates code anew


@torch.compile(dynamic=True)
def _causal_shares(scores: Tensor, first: int, scale: float) -> Tensor:
    """Softmax over the keys that each query may see; `scores` [heads, queries, keys], the first query at position `first`."""
    rows = torch.arange(scores.shape[1]) + first
    visible = rows[:, None] >= torch.arange(scores.shape[2])[None]
    return torch.softmax(torch.where(visible, scores.float() * scale, float("-inf")), dim=-1).to(scores.dtype)


def _causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of one dialogue in blocks of queries, [1, heads, length, head_dim] to [heads, length, head_dim].

    Its backward pass takes a third of the time of PyTorch's fused one on a processor.
    """
    _, heads, tokens, size = q.shape
    groups = k.shape[1]
    length = -(-tokens // LENGTH_STEP) * LENGTH_STEP
    q, k, v = (F.pad(part, (0, 0, 0, length - tokens)) for part in (q, k, v))
    q = q[0].view(groups, heads // groups, length, size)
    k, v = k[0], v[0]
    blocks = []
    for start in range(0, length, QUERY_BLOCK):
        end = min(length, start + QUERY_BLOCK)
        scores = torch.bmm(q[:, :, start:end].reshape(groups, -1, size), k[:, :end].mT)
        shares = _causal_shares(scores.view(heads, end - start, end), start, size**-0.5)
        blocks.append(torch.bmm(shares.view(groups, -1, end), v[:, :end]).view(heads, end - start, size))
    return torch.cat(blocks, dim=1)[:, :tokens]


def _loss_by_document(network: Network, cos: Tensor, sin: Tensor) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """The same loss for a processor: attention runs over one dialogue after another, so that nothing masked is computed.

    Tokens without weight get no logits. In bfloat16 where the processor multiplies it, else in float32.
    """
    dtype = torch.bfloat16 if multiplies_bfloat16(torch.device("cpu")) else torch.float32
    layer_type = type(network.layers[0])
    project, complete = torch.compile(layer_type.project), torch.compile(layer_type.finish)

    def loss(ids: Tensor, answers: Tensor, rounding: Tensor, prompt_weight: Tensor) -> Tensor:
        weights = F.pad(loss_weights(ids, answers, prompt_weight), (0, 1)).flatten()
        targets = ids.roll(-1, dims=1).flatten()
        flat = ids.flatten()
        starts = torch.zeros_like(flat)
        starts[:: ids.shape[1]] = 1
        bounds = torch.nonzero((flat == BOS_ID) | (starts > 0)).flatten()
        lengths = torch.diff(bounds, append=torch.tensor([flat.numel()])).tolist()
        positions = torch.cat([torch.arange(length) for length in lengths])

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            parts = zip(q.split(lengths, 2), k.split(lengths, 2), v.split(lengths, 2), strict=True)
            return torch.cat([_causal_attention(*part) for part in parts], dim=1)[None]

        here_cos, here_sin = cos[positions], sin[positions]
        x = F.embedding(flat[None], fake_q4(network.embed_tokens, rounding)).to(dtype)
        for layer in network.layers:
            q, k, v = project(layer, x, here_cos, here_sin, rounding)
            x = complete(layer, x, attend(q, k, v), rounding)
        counted = torch.nonzero(weights).flatten()
        logits = network.logits(network.norm(x)[0, counted], rounding).float()
        losses = F.cross_entropy(logits, targets[counted], reduction="none")
        return (losses * weights[counted]).sum() / weights.sum()

    return loss


def learning_rate(progress: float, cooldown: float) -> float:
    """The factor on the learning rates at a share of the run: flat, then falling linearly to zero."""
    return min(1.0, max(0.0, 1.0 - progress) / cooldown)


def train(
    architecture: Architecture,
    tokenizer_path: Path,
    recipe: Recipe,
    folder: Path,
    peers: Peers,
    *,
    resume: bool = False,
    start: Mapping[str, np.ndarray] | None = None,
    report: Callable[[str], None] = print,
) -> Network:
    """Trains a network; logs to `folder`/log.jsonl and keeps `folder`/checkpoint.pt to resume from.

    Under `torchrun` every process calls this; only process 0 reports and writes. `start` holds weights to begin with
    (Hugging Face names) instead of random ones, for a further stage of training.

    Raises:
        FileNotFoundError: `resume` without a checkpoint.
        ValueError: the rows of a step can't be shared out evenly among the processes.
    """
    rows_here, left = divmod(recipe.batch_rows, peers.count)
    if left or not rows_here:
        raise ValueError(f"{recipe.batch_rows} rows of a step for {peers.count} processes: choose a multiple of them")
    folder.mkdir(parents=True, exist_ok=True)
    device, first = peers.device, peers.rank == 0
    torch.manual_seed(recipe.seed)
    torch.set_float32_matmul_precision("high")
    began_s = time.monotonic()
    network = Network(architecture).to(device)
    matrices = [p for name, p in network.named_parameters() if p.dim() == 2 and name != "embed_tokens"]
    others = [p for name, p in network.named_parameters() if p.dim() != 2 or name == "embed_tokens"]
    parameters = [*matrices, *others]
    muon = Muon(matrices, recipe.muon_lr)
    adam = torch.optim.AdamW(
        others, lr=recipe.adam_lr, betas=(0.9, 0.95), weight_decay=0.0, fused=device.type == "cuda"
    )
    step, first_seed = 0, recipe.seed * 1_000_000_000
    if start is not None:
        network.load_hf_tensors(start)
    checkpoint = folder / "checkpoint.pt"
    if resume:
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        network.load_state_dict(saved["network"])
        muon.load_state_dict(saved["muon"])
        adam.load_state_dict(saved["adam"])
        step = saved["step"]
        first_seed += step * recipe.batch_rows * 16  # beyond every dialogue that was seen before
    peers.share(list(network.parameters()))
    loss_of = make_loss(network, recipe, device)
    if device.type == "cuda":  # compile before the workers take the processor's cores
        warm = torch.zeros(rows_here, recipe.row_tokens, dtype=torch.long, device=device)
        warm[:, ::64] = BOS_ID
        loss_of(warm, torch.ones_like(warm), torch.zeros((), device=device), torch.ones((), device=device)).backward()
        network.zero_grad(set_to_none=True)
        if first:
            report(f"compiled in {time.monotonic() - began_s:.0f} s")
    batches = Batches(
        tokenizer_path, recipe.row_tokens, rows_here, recipe.workers, first_seed, recipe.mix,
        part=peers.rank, parts=peers.count,
    )  # fmt: skip
    if first:
        report(f"{architecture.parameters / 1e6:.1f}M parameters on {peers.count} x {device.type}; {asdict(recipe)}")
    log = (folder / "log.jsonl").open("a", encoding="utf-8")
    rounding, prompt_weight = torch.zeros((), device=device), torch.zeros((), device=device)

    def fetch() -> Tensor:
        rows = torch.from_numpy(batches.next().astype("int32"))
        return rows.pin_memory() if device.type == "cuda" else rows

    ahead = ThreadPoolExecutor(max_workers=1)
    coming = ahead.submit(fetch)
    window: list[Tensor] = []
    window_began_s = saved_s = time.monotonic()
    waited_s = 0.0
    try:
        while step < recipe.steps:
            progress = step / recipe.steps
            factor = learning_rate(progress, recipe.cooldown) * min(1.0, (step + 1) / recipe.warmup_steps)
            muon.lr = recipe.muon_lr * factor
            muon.momentum = min(0.95, 0.85 + 0.1 * step / 300)
            for group in adam.param_groups:
                group["lr"] = recipe.adam_lr * factor
            asked_s = time.monotonic()
            rows = coming.result()
            coming = ahead.submit(fetch)
            waited_s += time.monotonic() - asked_s
            rows = rows.to(device, non_blocking=True).long()
            rounding.fill_(float(progress >= recipe.q4_from and step % 2 == 1))
            prompt_weight.fill_(recipe.prompt_weight if progress < recipe.prompt_share else recipe.late_prompt_weight)
            loss = loss_of(rows[:, 0], rows[:, 1], rounding, prompt_weight)
            loss.backward()
            peers.average_gradients(parameters)
            muon.step()
            adam.step()
            adam.zero_grad(set_to_none=True)
            window.append(loss.detach())
            step += 1
            if first and (step % 50 == 0 or step == recipe.steps or step in (1, 5, 20)):
                mean = torch.stack(window).mean().item()
                passed_s = time.monotonic() - window_began_s
                entry = {
                    "step": step, "loss": round(mean, 4), "lr_factor": round(factor, 4),
                    "tokens_per_s": round(len(window) * recipe.batch_rows * recipe.row_tokens / passed_s),
                    "data_wait": round(waited_s / passed_s, 3), "elapsed_s": round(time.monotonic() - began_s, 1),
                }  # fmt: skip
                log.write(json.dumps(entry) + "\n")
                log.flush()
                report(json.dumps(entry))
                window, window_began_s, waited_s = [], time.monotonic(), 0.0
            paused = step == recipe.pause_at
            if step % 50 == 0:
                paused = peers.agree(paused or time.monotonic() - began_s >= recipe.limit_s)
            ended = paused or step == recipe.steps
            if first and (ended or time.monotonic() - saved_s >= recipe.save_every_s):
                saved_s = time.monotonic()
                state = {
                    "network": network.state_dict(),
                    "muon": muon.state_dict(),
                    "adam": adam.state_dict(),
                    "step": step,
                }
                partial = checkpoint.with_suffix(".partial")
                torch.save(state, partial)
                partial.replace(checkpoint)
            if paused:
                break
    finally:
        batches.close()
        ahead.shutdown(wait=False, cancel_futures=True)
        log.close()
    return network
