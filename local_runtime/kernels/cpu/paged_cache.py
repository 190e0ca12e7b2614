"""The paged key-value cache of a compiled model: TVM's runtime manages the pages, the kernels are chosen here."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from local_runtime.kernels.cpu.attention_decode import attention_decode
from local_runtime.kernels.cpu.attention_merge import merge_state_inplace
from local_runtime.kernels.cpu.attention_prefill import attention_prefill, attention_prefill_ragged
from local_runtime.kernels.cpu.attention_tiles import decode_tiling, prefill_tiling
from local_runtime.kernels.cpu.kv_pages import (
    compact_kv_copy,
    copy_single_page,
    kv_cache_transpose_append,
)
from local_runtime.kernels.cpu.rope import fused_rope
from local_runtime.kernels.limits import PAGES_FUNCTION, ROTARY_TABLE_FUNCTION, require_supported_heads
from local_runtime.tvm_compat import PagedKVCache, RopeMode, kv_kernels, relax, tvm

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["CpuPagedKVCache"]


class CpuPagedKVCache(PagedKVCache):  # type: ignore[misc]
    """The cache object that a model's ``create_paged_kv_cache`` returns; use it as ``attention_with_fused_qkv(…)``.

    Keys and values are float32, and every kernel is ours. Slots for sliding windows and for token trees are left empty: the
    runtime then refuses such a request with an error of its own. Sliding windows are the kernels' own business instead. Where the
    runtime knows of a window, it either forgets at which position a sequence is (a window for a sequence, which rotates keys
    anew at each step and lets a chunk's tokens see too much), or takes it from the end of each run of pages and not from the end of
    the sequence (windows by layer), which is wrong as soon as sequences share pages. So it is told of none: the kernels skip the pages
    before the window, and forks, tokens taken back and saved states work as without one. Where all layers have the window, those
    pages are given up by moving the others (:mod:`local_runtime.page_move`). A layer that has the window says so by a negative
    scale, for the kernels are the same for all layers. Pages are saved and restored through :mod:`local_runtime.page_access`, and
    the frequencies come as data, with positions (:mod:`local_runtime.rotary_table`): the runtime's own page groups refuse caches
    where they do, and their import empties the whole cache.

    Args:
        max_batch_size: Sequences that may be in the cache at once; like the next four a TIR variable (from the parameters of
            the function that creates the cache) or an int.
        max_total_seq_len: Tokens of all sequences together.
        prefill_chunk_size: Tokens of one forward pass.
        page_size: Tokens of a page; must be 16 when the function runs.
        support_sliding_window: Must be 0 when the function runs.
        num_hidden_layers: Layers of the model.
        num_attention_heads: Query heads.
        num_key_value_heads: Key (and value) heads.
        head_dim: Dimensions of a head.
        inv_freq: float32 [head_dim / 2], the inverse frequencies of the rotary embedding.
        target: The LLVM target that the model will run on.
        window: Tokens of the sliding window that some layers have; None if none has one.
        name: Name of the variable in the compiled program.

    Raises:
        UnsupportedModelError: For a head_dim or a ratio of heads that the kernels cannot serve.
        ValueError: For an ``inv_freq`` of the wrong shape.
    """

    def __init__(
        self,
        *,
        max_batch_size: Any,
        max_total_seq_len: Any,
        prefill_chunk_size: Any,
        page_size: Any,
        support_sliding_window: Any,
        num_hidden_layers: int,
        num_attention_heads: int,
        num_key_value_heads: int,
        head_dim: int,
        inv_freq: NDArray[np.float32],
        target: Any,
        window: int | None = None,
        name: str = "paged_kv_cache",
    ) -> None:
        require_supported_heads(num_attention_heads, num_key_value_heads, head_dim)
        if inv_freq.shape != (head_dim // 2,):
            raise ValueError(
                f"inv_freq has shape {inv_freq.shape}; expected ({head_dim // 2},) for head_dim {head_dim}."
            )
        prim = relax.prim_value
        super().__init__(
            _expr=relax.call_pure_packed(
                "vm.builtin.paged_attention_kv_cache_create",
                relax.ShapeExpr(
                    [max_batch_size, max_total_seq_len, prefill_chunk_size, page_size, support_sliding_window]
                ),
                relax.ShapeExpr([0, num_hidden_layers]),  # all layers in one pipeline stage
                prim(num_attention_heads),
                prim(num_key_value_heads),
                prim(head_dim),
                prim(head_dim),
                relax.ShapeExpr([int(kv_kernels.AttnKind.MHA)] * num_hidden_layers),
                prim(False),  # no transfer of pages between machines
                prim(int(RopeMode.NORMAL)),
                prim(1),  # rope scale and theta: unused, the frequencies come as data
                prim(10000),
                relax.call_pure_packed(
                    ROTARY_TABLE_FUNCTION,
                    relax.const(np.ascontiguousarray(inv_freq, dtype=np.float32), "float32"),
                    relax.ShapeExpr([prefill_chunk_size]),
                    ty_args=relax.AnyType(),
                ),
                relax.op.zeros((), "float32"),
                *_slots(num_attention_heads, num_key_value_heads, head_dim, target, window),
                ty_args=relax.AnyType(),
            ),
            _name=name,
        )


@cache
def _made(make: Callable[..., Any], *sizes: Any) -> Any:
    """The kernel that ``make`` gives for ``sizes``: parsing TVM's script takes a good part of a second, so once each."""
    return make(*sizes)


def _add(function: Any, name: str) -> Any:
    return relax.BlockBuilder.current().add_func(function, name)


def _slot(function: Any, name: str) -> Any:
    """An attention slot of the constructor: the kind of backend, then the kernel."""
    return relax.Tuple([tvm.ir.StringImm("tirx"), _add(function, name)])


def _slots(num_q_heads: int, num_kv_heads: int, head_dim: int, target: Any, window: int | None) -> list[Any]:
    prefill = prefill_tiling(head_dim, target)
    decode = decode_tiling(head_dim, num_q_heads // num_kv_heads, target)
    empty = relax.Tuple([])
    return [
        _add(_made(kv_cache_transpose_append, num_kv_heads, head_dim), "kv_append"),
        relax.prim_value(0),  # no appending for latent attention
        _slot(_made(attention_prefill_ragged, num_q_heads, num_kv_heads, prefill, window), "attention_prefill_ragged"),
        _slot(_made(attention_prefill, num_q_heads, num_kv_heads, prefill, window), "attention_prefill"),
        _slot(_made(attention_decode, num_q_heads, num_kv_heads, decode, window), "attention_decode"),
        empty,  # prefill, sliding window
        empty,  # decode, sliding window
        empty,  # prefill of a token tree, paged
        empty,  # prefill of a token tree, ragged
        empty,  # prefill, latent attention
        relax.Tuple([_add(_made(merge_state_inplace, num_q_heads, head_dim), "attention_merge_state")]),
        _add(_made(fused_rope, num_q_heads, num_kv_heads, head_dim), "rope_split_qkv"),
        _add(_made(copy_single_page, num_kv_heads, head_dim), "kv_copy_page"),
        relax.ExternFunc(PAGES_FUNCTION),
        _add(_made(compact_kv_copy, num_kv_heads, head_dim), "kv_compact"),
    ]
