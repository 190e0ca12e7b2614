"""Rotary position embedding of fused queries, keys and values, from inverse frequencies that come as data.

``angle = position · inverse_frequency[d]`` is the only thing computed here, so every variant of RoPE that is a choice of
inverse frequencies (default, linear, llama3) goes through the same kernel and is exactly what the host computed. The position is
the place in the cache, and what the table says for the token beside (:mod:`local_runtime.rotary_table`). The layout is the half
rotation of Hugging Face's Llama: dimension d turns with d + head_dim / 2.
Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding" (2021).
"""

# mypy: disable-error-code="untyped-decorator,no-redef"
# (TVMScript functions are parsed by TVM, not run: its decorators have no types, and names are bound per block.)

from __future__ import annotations

from typing import Any

from local_runtime.kernels.cpu.attention_math import cos_f32, sin_f32
from local_runtime.tvm_compat import T

__all__ = ["fused_rope"]

_LANES = 8
# Fewer tokens than this are done by the calling thread: waking the others costs more than the work.
_SERIAL_TOKENS = 4


def fused_rope(num_q_heads: int, num_kv_heads: int, head_dim: int) -> Any:
    """Return the CPU kernel that rotates queries and keys and splits the fused tensor.

    Args:
        num_q_heads: Query heads.
        num_kv_heads: Key (and value) heads.
        head_dim: Dimensions of a head, a multiple of 16.

    Returns:
        A PrimFunc ``(qkv [n, q + 2·kv heads, head_dim], position_map int32 [n], q, k, v, table [head_dim / 2 + n or more])``,
        float32. The table holds the inverse frequencies, and then for each token what to add to its position. It writes
        ``q [n, q heads, head_dim]``, ``k`` and ``v [n, kv heads, head_dim]``. The cosines of a token are computed once for all of
        its heads. This is the parameter list that TVM's paged KV cache calls when it was given ``rope_ext_factors``.
    """
    half = head_dim // 2
    fused_heads = num_q_heads + 2 * num_kv_heads
    first_value_head = num_q_heads + num_kv_heads

    @T.macro
    def rotate_head(
        source: T.Buffer, target: T.Buffer, cosine: T.Buffer, sine: T.Buffer, i: T.int64, h: T.int64, first: int
    ) -> None:
        for c in T.unroll(half // _LANES):
            for lane in T.vectorized(_LANES):
                d = T.meta_var(c * _LANES + lane)
                target[i, h - first, d] = source[i, h, d] * cosine[d] - source[i, h, d + half] * sine[d]
            for lane in T.vectorized(_LANES):
                d = T.meta_var(c * _LANES + lane)
                target[i, h - first, d + half] = source[i, h, d + half] * cosine[d] + source[i, h, d] * sine[d]

    @T.macro
    def rotate_token(
        qkv: T.Buffer,
        position_map: T.Buffer,
        q: T.Buffer,
        k: T.Buffer,
        v: T.Buffer,
        table: T.Buffer,
        i: T.int64,
    ) -> None:
        cosine = T.alloc_buffer((half,), "float32")
        sine = T.alloc_buffer((half,), "float32")
        position: T.let[T.float32] = T.Cast("float32", position_map[i]) + table[half + i]
        for c in T.serial(half // _LANES):
            for lane in T.vectorized(_LANES):
                cosine[c * _LANES + lane] = cos_f32(position * table[c * _LANES + lane])
            for lane in T.vectorized(_LANES):
                sine[c * _LANES + lane] = sin_f32(position * table[c * _LANES + lane])
        for h in T.serial(T.int64(num_q_heads)):
            rotate_head(qkv, q, cosine, sine, i, h, 0)
        for h in T.serial(T.int64(num_q_heads), T.int64(first_value_head)):
            rotate_head(qkv, k, cosine, sine, i, h, num_q_heads)
        for h in T.serial(T.int64(num_kv_heads)):
            for c in T.serial(head_dim // _LANES):
                for lane in T.vectorized(_LANES):
                    v[i, h, c * _LANES + lane] = qkv[i, h + first_value_head, c * _LANES + lane]

    @T.prim_func(s_tir=True)
    def rope_split_qkv(
        var_qkv: T.handle,
        var_position_map: T.handle,
        var_q: T.handle,
        var_k: T.handle,
        var_v: T.handle,
        var_table: T.handle,
    ) -> None:
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True, "op_pattern": 8})
        num_tokens = T.int64()
        table_size = T.int64()
        position_map_elem_offset = T.int64()
        qkv = T.match_buffer(var_qkv, (num_tokens, fused_heads, head_dim), "float32")
        position_map = T.match_buffer(var_position_map, (num_tokens,), "int32", elem_offset=position_map_elem_offset)
        q = T.match_buffer(var_q, (num_tokens, num_q_heads, head_dim), "float32")
        k = T.match_buffer(var_k, (num_tokens, num_kv_heads, head_dim), "float32")
        v = T.match_buffer(var_v, (num_tokens, num_kv_heads, head_dim), "float32")
        table = T.match_buffer(var_table, (table_size,), "float32")
        if num_tokens < _SERIAL_TOKENS:
            for i in T.serial(num_tokens):
                rotate_token(qkv, position_map, q, k, v, table, i)
        else:
            for i in T.parallel(num_tokens):
                rotate_token(qkv, position_map, q, k, v, table, i)

    return rope_split_qkv
