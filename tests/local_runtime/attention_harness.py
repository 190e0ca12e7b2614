"""A compiled cache driven like a model drives it, beside a float64 NumPy reference of what it should say."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tvm_ffi_orcjit

import local_runtime.rotary_table  # noqa: F401  a cache calls it when it is made
from local_runtime.kernels.cpu.paged_cache import CpuPagedKVCache
from local_runtime.kernels.limits import PAGE_TOKENS
from local_runtime.page_access import PageAccess
from local_runtime.state_file import StateShape
from local_runtime.tvm_compat import PagedKVCache, nn, relax, tvm
from local_runtime.tvm_runtime import Device

__all__ = [
    "CPU",
    "CacheUnderTest",
    "Shape",
    "compile_objects",
    "default_frequencies",
    "reference_attention",
]

CPU = {"kind": "llvm"}  # the baseline of this architecture
_PARAMETERS = {"param_mode": "none", "effect_mode": "none"}


@dataclass(frozen=True)
class Shape:
    """A model's attention: heads, dimensions, layers."""

    num_q_heads: int
    num_kv_heads: int
    head_dim: int
    num_layers: int = 2

    @property
    def scale(self) -> float:
        return float(self.head_dim) ** -0.5


def default_frequencies(head_dim: int) -> np.ndarray:
    return (10000.0 ** (-np.arange(head_dim // 2) / (head_dim // 2))).astype(np.float32)


def cache_module(shape: Shape, target: Any) -> Any:
    """A Relax module with ``create`` and one ``attend_<layer>`` a layer."""

    class Attention(nn.Module):  # type: ignore[misc]
        def create(self, max_sequences: Any, max_tokens: Any, chunk_tokens: Any, page_tokens: Any) -> Any:
            return CpuPagedKVCache(
                max_batch_size=max_sequences,
                max_total_seq_len=max_tokens,
                prefill_chunk_size=chunk_tokens,
                page_size=page_tokens,
                support_sliding_window=0,
                num_hidden_layers=shape.num_layers,
                num_attention_heads=shape.num_q_heads,
                num_key_value_heads=shape.num_kv_heads,
                head_dim=shape.head_dim,
                inv_freq=default_frequencies(shape.head_dim),
                target=target,
            )

    def attend(layer: int) -> Any:
        def forward(_: Any, qkv: nn.Tensor, cache: PagedKVCache) -> nn.Tensor:
            return cache.attention_with_fused_qkv(layer, qkv, shape.num_q_heads, shape.scale)

        return forward

    fused_heads = shape.num_q_heads + 2 * shape.num_kv_heads
    spec: dict[str, Any] = {
        "create": {"max_sequences": int, "max_tokens": int, "chunk_tokens": int, "page_tokens": int, "$": _PARAMETERS}
    }
    for layer in range(shape.num_layers):
        setattr(Attention, f"attend_{layer}", attend(layer))
        spec[f"attend_{layer}"] = {
            "qkv": nn.spec.Tensor([1, "n", fused_heads, shape.head_dim], "float32"),
            "cache": nn.spec.Object(object_type=PagedKVCache),
            "$": _PARAMETERS,
        }
    with target:
        module, _ = Attention().export_tvm(spec=spec)
    return module


@cache
def _object_code(shape: Shape, target_json: str) -> tuple[bytes, ...]:
    tvm_target = tvm.target.Target(json.loads(target_json))
    with tvm.transform.PassContext(config={"tirx.disable_cse_tir": True}):
        executable = relax.build(cache_module(shape, tvm_target), target=tvm_target)
    kept: list[bytes] = []
    executable.export_library(
        "unused", fcompile=lambda _, files, **__: kept.extend(Path(f).read_bytes() for f in files)
    )
    return tuple(kept)


def compile_objects(shape: Shape, target: dict[str, Any], folder: Path) -> list[Path]:
    """Compile a cache into object files, as the product does; each once a run."""
    paths = []
    for number, code in enumerate(_object_code(shape, json.dumps(target))):
        paths.append(folder / f"{number}.o")
        paths[-1].write_bytes(code)
    return paths


@cache
def _machine(shape: Shape, target_json: str) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        objects = compile_objects(shape, json.loads(target_json), Path(folder))
        # A compiler command that cannot exist: linking in memory must need none.
        module = tvm_ffi_orcjit.default_session().load_module(
            [str(path) for path in objects], keep_module_alive=True, cxx="/none/c++"
        )
    return relax.VirtualMachine(module, tvm.cpu())


def reference_attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, scale: float, *, causal: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Attention in float64: outputs ``[queries, heads, dim]`` and binary log-sum-exps ``[queries, heads]``."""
    group = q.shape[1] // k.shape[1]
    k64, v64 = (np.repeat(x.astype(np.float64), group, axis=1) for x in (k, v))
    scores = np.einsum("qhd,khd->hqk", q.astype(np.float64), k64) * scale
    if causal:
        visible = np.arange(k.shape[0]) <= np.arange(q.shape[0])[:, None] + k.shape[0] - q.shape[0]
        scores = np.where(visible, scores, -np.inf)
    highest = scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores - highest)
    total = weights.sum(axis=-1, keepdims=True)
    lse = (highest + np.log(total))[..., 0].T / np.log(2.0)
    return np.einsum("hqk,khd->qhd", weights / total, v64), lse


@dataclass
class _Sequence:
    """What a sequence holds: rotated keys and values of each layer, float64."""

    keys: list[np.ndarray]
    values: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.keys[0])


class CacheUnderTest:
    """A cache and its double; every forward pass compares the two.

    Args:
        shape: The attention.
        target: TVM's target as a dict.
        max_sequences: Sequences that fit.
        max_tokens: Tokens that fit.
        chunk_tokens: Most tokens of a forward pass.
        seed: Of the random queries, keys and values.
    """

    def __init__(
        self,
        shape: Shape,
        *,
        target: dict[str, Any] | None = None,
        max_sequences: int = 8,
        max_tokens: int = 4096,
        chunk_tokens: int = 512,
        seed: int = 0,
    ) -> None:
        self.shape = shape
        self._vm = _machine(shape, json.dumps(CPU if target is None else target))
        sizes = (max_sequences, max_tokens, chunk_tokens, 16)
        self.cache = self._vm["create"](*[tvm.runtime.ShapeTuple([size]) for size in sizes])
        self.sequences: dict[int, _Sequence] = {}
        self.random = np.random.default_rng(seed)
        self._frequencies = default_frequencies(shape.head_dim)

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a ``vm.builtin`` function with the cache as its first argument."""
        return tvm.get_global_func(f"vm.builtin.{name}")(self.cache, *arguments)

    def add(self, sequence_id: int) -> None:
        self.call("kv_state_add_sequence", sequence_id)
        nothing = np.zeros((0, self.shape.num_kv_heads, self.shape.head_dim))
        layers = self.shape.num_layers
        self.sequences[sequence_id] = _Sequence([nothing] * layers, [nothing] * layers)

    def remove(self, sequence_id: int) -> None:
        self.call("kv_state_remove_sequence", sequence_id)
        del self.sequences[sequence_id]

    def fork(self, parent: int, child: int, position: int) -> None:
        self.call("kv_state_fork_sequence", parent, child, position)
        source = self.sequences[parent]
        self.sequences[child] = _Sequence([k[:position] for k in source.keys], [v[:position] for v in source.values])

    def pop(self, sequence_id: int, tokens: int) -> None:
        self.call("kv_state_popn", sequence_id, tokens)
        sequence = self.sequences[sequence_id]
        kept = len(sequence) - tokens
        sequence.keys = [k[:kept] for k in sequence.keys]
        sequence.values = [v[:kept] for v in sequence.values]

    def pages_free(self) -> int:
        return int(self.call("attention_kv_cache_get_num_available_pages"))

    def forward(self, lengths: dict[int, int], qkv: list[np.ndarray] | None = None) -> float:
        """Append so many tokens to each sequence; return the largest difference from the reference.

        Args:
            lengths: Sequence id to number of new tokens, in batch order.
            qkv: One ``[tokens, fused heads, dim]`` a layer; random when left out.
        """
        shape, total = self.shape, sum(lengths.values())
        fused_heads = shape.num_q_heads + 2 * shape.num_kv_heads
        if qkv is None:
            size = (total, fused_heads, shape.head_dim)
            qkv = [self.random.standard_normal(size, dtype=np.float32) for _ in range(shape.num_layers)]
        before = {sequence_id: len(self.sequences[sequence_id]) for sequence_id in lengths}
        self.call(
            "kv_state_begin_forward",
            tvm.runtime.ShapeTuple(list(lengths)),
            tvm.runtime.ShapeTuple(list(lengths.values())),
        )
        worst = 0.0
        for layer in range(shape.num_layers):
            output = self._vm[f"attend_{layer}"](tvm.runtime.tensor(qkv[layer][None]), self.cache).numpy()[0]
            start = 0
            for sequence_id, length in lengths.items():
                rows = slice(start, start + length)
                expected = self._append(self.sequences[sequence_id], layer, before[sequence_id], qkv[layer][rows])
                worst = max(worst, float(np.abs(output[rows] - expected).max()))
                start += length
        self.call("kv_state_end_forward")
        return worst

    def stored(self, sequence_id: int) -> float:
        """Largest difference between the keys and values in the pages and those that were written."""
        sequence, shape = self.sequences[sequence_id], self.shape
        heads, dim, tokens = shape.num_kv_heads, shape.head_dim, len(sequence)
        stored = StateShape(shape.num_layers, (2, heads, PAGE_TOKENS, dim), "float32")
        access = PageAccess(self.cache, Device("cpu", 0), stored)
        layers, page_ids = access.locate(sequence_id, tokens)
        worst = 0.0
        for memory, keys, values in zip(layers, sequence.keys, sequence.values, strict=True):
            pages = memory.numpy()[page_ids]
            k = pages[:, 0].reshape(-1, heads, dim, PAGE_TOKENS).transpose(0, 3, 1, 2).reshape(-1, heads, dim)
            v = pages[:, 1].transpose(0, 2, 1, 3).reshape(-1, heads, dim)
            worst = max(worst, np.abs(k[:tokens] - keys).max(), np.abs(v[:tokens] - values).max())
        return float(worst)

    def _append(self, sequence: _Sequence, layer: int, position: int, qkv: np.ndarray) -> np.ndarray:
        q_heads, kv_heads = self.shape.num_q_heads, self.shape.num_kv_heads
        positions = position + np.arange(len(qkv))
        q = self._rotate(qkv[:, :q_heads], positions)
        k = self._rotate(qkv[:, q_heads : q_heads + kv_heads], positions)
        sequence.keys[layer] = np.concatenate([sequence.keys[layer], k])
        sequence.values[layer] = np.concatenate([sequence.values[layer], qkv[:, q_heads + kv_heads :]])
        return reference_attention(q, sequence.keys[layer], sequence.values[layer], self.shape.scale, causal=True)[0]

    def _rotate(self, x: np.ndarray, positions: np.ndarray) -> np.ndarray:
        # The angle is a float32 product, as in transformers; its cosine and sine are exact here.
        angles = (positions.astype(np.float32)[:, None] * self._frequencies).astype(np.float64)[:, None]
        low, high = np.split(x.astype(np.float64), 2, axis=-1)
        cosine, sine = np.cos(angles), np.sin(angles)
        return np.concatenate([low * cosine - high * sine, high * cosine + low * sine], axis=-1)
