"""The network in PyTorch: a plain llama decoder, written out for training and for greedy evaluation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from local_runtime.quantization import dequantize_q4, quantize_q4

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from training.architecture import Architecture

    Attend = Callable[[Tensor, Tensor, Tensor], Tensor]

GROUP = 32


def fake_q4(weight: Tensor, strength: Tensor | float = 1.0) -> Tensor:
    """Rounds to what `q4` can hold and passes gradients through.

    Groups of 32 along the input with a float16 scale each; the value of the largest magnitude lies on the lowest code.
    `strength` 0 leaves the weights as they are; a tensor, so that one compiled graph serves both. The runtime's converter
    searches a little for better scales; this is close to it and cheap enough for every step.
    """
    groups = weight.detach().float().reshape(weight.shape[0], -1, GROUP)
    lowest, highest = groups.amin(dim=-1, keepdim=True), groups.amax(dim=-1, keepdim=True)
    scale = (torch.where(-lowest >= highest, lowest, highest) / -8).half().float()
    scale = torch.where(scale.abs() < 1e-7, 1e-7, scale)
    rounded = ((groups / scale).round().clamp(-8, 7) * scale).reshape(weight.shape).to(weight.dtype)
    return weight + ((rounded - weight) * strength).detach()


def rope_tables(length: int, head_dim: int, theta: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines, float32 [length, head_dim], in the half-split layout of Hugging Face."""
    frequencies = theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float32, device=device) / head_dim)
    angles = torch.arange(length, dtype=torch.float32, device=device)[:, None] * frequencies[None]
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Applies rotary positions; `x` is [batch, heads, length, head_dim], the tables broadcast against it."""
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return (x.float() * cos + turned.float() * sin).to(x.dtype)


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in float32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalises the last axis."""
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps) * self.weight.float()).to(x.dtype)


class Linear(nn.Module):
    """A matrix without bias that can train as if it were quantised: `rounding` is the strength, None for none."""

    def __init__(self, inputs: int, outputs: int, std: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * std)

    def forward(self, x: Tensor, rounding: Tensor | None) -> Tensor:
        """`x` [..., inputs] to [..., outputs]."""
        weight = self.weight if rounding is None else fake_q4(self.weight, rounding)
        return F.linear(x, weight.to(x.dtype))


class Layer(nn.Module):
    """One decoder layer. Parameter names follow Hugging Face's, without the `self_attn`/`mlp` prefixes."""

    def __init__(self, a: Architecture) -> None:
        super().__init__()
        self.a = a
        std, out_std = 0.02, 0.02 / math.sqrt(2 * a.num_layers)
        self.input_layernorm = RMSNorm(a.hidden_size, a.norm_eps)
        self.q_proj = Linear(a.hidden_size, a.num_heads * a.head_dim, std)
        self.k_proj = Linear(a.hidden_size, a.num_kv_heads * a.head_dim, std)
        self.v_proj = Linear(a.hidden_size, a.num_kv_heads * a.head_dim, std)
        self.o_proj = Linear(a.num_heads * a.head_dim, a.hidden_size, out_std)
        self.post_attention_layernorm = RMSNorm(a.hidden_size, a.norm_eps)
        self.gate_proj = Linear(a.hidden_size, a.intermediate_size, std)
        self.up_proj = Linear(a.hidden_size, a.intermediate_size, std)
        self.down_proj = Linear(a.intermediate_size, a.hidden_size, out_std)

    def project(self, x: Tensor, cos: Tensor, sin: Tensor, rounding: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """What attention reads: rotated q, k and plain v, each [batch, heads, length, head_dim]."""
        batch, length, _ = x.shape
        h = self.input_layernorm(x)

        def heads(projection: Linear) -> Tensor:
            return projection(h, rounding).view(batch, length, -1, self.a.head_dim).transpose(1, 2)

        q, k, v = heads(self.q_proj), heads(self.k_proj), heads(self.v_proj)
        return rotate(q, cos, sin), rotate(k, cos, sin), v

    def finish(self, x: Tensor, mixed: Tensor, rounding: Tensor | None) -> Tensor:
        """The layer's output [batch, length, hidden] from its input and what attention gave, [batch, heads, length, head_dim]."""
        x = x + self.o_proj(mixed.transpose(1, 2).flatten(2), rounding)
        h = self.post_attention_layernorm(x)
        gated = F.silu(self.gate_proj(h, rounding)) * self.up_proj(h, rounding)
        return x + self.down_proj(gated, rounding)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend, rounding: Tensor | None) -> Tensor:
        """`x` [batch, length, hidden]; `attend` gets what `project` makes."""
        return self.finish(x, attend(*self.project(x, cos, sin, rounding)), rounding)


class Network(nn.Module):
    """The decoder with tied embeddings."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.a = architecture
        self.embed_tokens = nn.Parameter(torch.randn(architecture.vocab_size, architecture.hidden_size) * 0.02)
        self.layers = nn.ModuleList(Layer(architecture) for _ in range(architecture.num_layers))
        self.norm = RMSNorm(architecture.hidden_size, architecture.norm_eps)

    def forward(
        self,
        ids: Tensor,
        cos: Tensor,
        sin: Tensor,
        attends: Sequence[Attend],
        rounding: Tensor | None,
        dtype: torch.dtype,
    ) -> Tensor:
        """Hidden states after the final norm, [batch, length, hidden]; `attends` has one attention per layer."""
        table = self.embed_tokens if rounding is None else fake_q4(self.embed_tokens, rounding)
        x = F.embedding(ids, table).to(dtype)
        for layer, attend in zip(self.layers, attends, strict=True):
            x = layer(x, cos, sin, attend, rounding)
        return self.norm(x)

    def logits(self, hidden: Tensor, rounding: Tensor | None = None) -> Tensor:
        """[..., hidden] to [..., vocab]."""
        table = self.embed_tokens if rounding is None else fake_q4(self.embed_tokens, rounding)
        return F.linear(hidden, table.to(hidden.dtype))

    # --- Hugging Face names --------------------------------------------------------------------------------------

    def hf_tensors(self) -> dict[str, np.ndarray]:
        """The weights under the names of `LlamaForCausalLM`, float32."""
        return {hf_name(name): value.detach().float().cpu().numpy() for name, value in self.named_parameters()}

    def load_hf_tensors(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Takes the weights of a checkpoint of the same shape."""
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(torch.from_numpy(tensors[hf_name(name)].astype("float32")))

    def round_to_q4(self) -> None:
        """Replaces every matrix by its q4 rounding, as the runtime's converter does."""
        with torch.no_grad():
            for parameter in self.parameters():
                if parameter.dim() == 2:
                    matrix = np.ascontiguousarray(parameter.float().cpu().numpy())
                    parameter.copy_(torch.from_numpy(dequantize_q4(*quantize_q4(matrix))))

    # --- greedy decoding -----------------------------------------------------------------------------------------

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, end_id: int, dtype: torch.dtype
    ) -> list[list[int]]:
        """Greedy answers to a batch of prompts.

        Args:
            prompts: token ids, each at most the context less `max_new_tokens` long.
            max_new_tokens: where an answer is cut.
            end_id: the token that ends an answer; it is not part of the result.
            dtype: the dtype of activations.
        """
        device = self.embed_tokens.device
        a = self.a
        batch = len(prompts)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        longest = int(lengths.max())
        total = longest + max_new_tokens
        ids = torch.zeros(batch, longest, dtype=torch.long, device=device)
        for index, prompt in enumerate(prompts):
            ids[index, : len(prompt)] = torch.tensor(prompt, device=device)
        cos, sin = rope_tables(total, a.head_dim, a.rope_theta, device)
        shape = (a.num_layers, batch, a.num_kv_heads, total, a.head_dim)
        keys, values = torch.zeros(shape, dtype=dtype, device=device), torch.zeros(shape, dtype=dtype, device=device)

        def prefill(layer: int) -> Attend:
            def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                keys[layer, :, :, :longest], values[layer, :, :, :longest] = k, v
                return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

            return attend

        hidden = self(ids, cos[:longest], sin[:longest], [prefill(i) for i in range(a.num_layers)], None, dtype)
        rows = torch.arange(batch, device=device)
        current = self.logits(hidden[rows, lengths - 1]).argmax(-1)
        positions = lengths.clone()
        answers = [current]
        running = current != end_id
        slots = torch.arange(total, device=device)

        def decode(layer: int) -> Attend:
            def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                keys[layer, rows, :, positions], values[layer, rows, :, positions] = k[:, :, 0], v[:, :, 0]
                mask = (slots[None] <= positions[:, None])[:, None, None]
                return F.scaled_dot_product_attention(q, keys[layer], values[layer], attn_mask=mask, enable_gqa=True)

            return attend

        attends = [decode(i) for i in range(a.num_layers)]
        for _ in range(max_new_tokens - 1):
            if not bool(running.any()):
                break
            where = positions[:, None, None, None].expand(-1, 1, 1, a.head_dim)
            step_cos = cos[None, None].expand(batch, 1, -1, -1).gather(2, where)
            step_sin = sin[None, None].expand(batch, 1, -1, -1).gather(2, where)
            hidden = self(current[:, None], step_cos, step_sin, attends, None, dtype)
            current = self.logits(hidden[:, 0]).argmax(-1)
            positions += 1
            answers.append(current)
            running &= current != end_id
        found = torch.stack(answers, dim=1).tolist()
        return [answer[: answer.index(end_id)] if end_id in answer else answer for answer in found]


def hf_name(name: str) -> str:
    """The Hugging Face name of one of this network's parameters."""
    if name == "embed_tokens":
        return "model.embed_tokens.weight"
    for projection in ("q_proj", "k_proj", "v_proj", "o_proj"):
        name = name.replace(f".{projection}.", f".self_attn.{projection}.")
    for projection in ("gate_proj", "up_proj", "down_proj"):
        name = name.replace(f".{projection}.", f".mlp.{projection}.")
    return f"model.{name}"
