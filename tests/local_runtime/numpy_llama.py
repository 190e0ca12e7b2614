"""A llama-family model in float64 NumPy, written from the papers: what a compiled model of any odd size should say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from local_runtime.models.config import ModelConfig

__all__ = ["numpy_logits"]


def numpy_logits(config: Mapping[str, Any], tensors: Mapping[str, np.ndarray], ids: Sequence[int]) -> np.ndarray:
    """Logits float64 ``[len(ids), vocab]`` of one sequence; ``tensors`` by Hugging Face's names.

    Default rotary embedding, biases of queries, keys and values only: the other choices are compared with ``transformers``.
    """
    c = ModelConfig.from_dict(dict(config))
    w = {name: values.astype(np.float64) for name, values in tensors.items()}
    angles = np.arange(len(ids))[:, None] * c.rope.theta ** (-np.arange(0, c.head_dim, 2) / c.head_dim)
    cosine, sine = np.cos(angles)[:, None], np.sin(angles)[:, None]
    age = np.arange(len(ids))[:, None] - np.arange(len(ids))
    hidden = [(age < 0) | (c.is_windowed(i) & (age >= (c.sliding_window or 0))) for i in range(c.num_layers)]

    def norm(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        normed: np.ndarray = x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + c.norm_eps) * weight
        return normed

    def heads(x: np.ndarray, count: int) -> np.ndarray:
        return x.reshape(len(ids), count, c.head_dim)

    def rotate(x: np.ndarray) -> np.ndarray:
        low, high = np.split(x, 2, axis=-1)
        return np.concatenate([low * cosine - high * sine, high * cosine + low * sine], axis=-1)

    h = w["model.embed_tokens.weight"][list(ids)]
    for i in range(c.num_layers):
        layer = f"model.layers.{i}."
        x = norm(h, w[layer + "input_layernorm.weight"])
        q, k, v = (
            x @ w[f"{layer}self_attn.{name}_proj.weight"].T + w.get(f"{layer}self_attn.{name}_proj.bias", 0.0)
            for name in "qkv"
        )
        q, k = rotate(heads(q, c.num_heads)), rotate(heads(k, c.num_kv_heads))
        k, v = (np.repeat(y, c.num_heads // c.num_kv_heads, axis=1) for y in (k, heads(v, c.num_kv_heads)))
        scores = np.where(hidden[i], -np.inf, np.einsum("qhd,khd->hqk", q, k) / np.sqrt(c.head_dim))
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        h = h + np.einsum("hqk,khd->qhd", weights, v).reshape(len(ids), -1) @ w[layer + "self_attn.o_proj.weight"].T
        x = norm(h, w[layer + "post_attention_layernorm.weight"])
        gate, up = (x @ w[f"{layer}mlp.{name}_proj.weight"].T for name in ("gate", "up"))
        h = h + (gate / (1 + np.exp(-gate)) * up) @ w[layer + "mlp.down_proj.weight"].T
    logits: np.ndarray = norm(h, w["model.norm.weight"]) @ w.get("lm_head.weight", w["model.embed_tokens.weight"]).T
    return logits
