"""Joining two attention results over disjoint sets of keys, from their log-sum-exps.

``o = (2^s₁ · o₁ + 2^s₂ · o₂) / (2^s₁ + 2^s₂)`` and ``s = log2(2^s₁ + 2^s₂)``: the log-sum-exps are binary, as all kernels of
TVM's paged cache have them.
"""

# mypy: disable-error-code="untyped-decorator,no-redef"
# (TVMScript functions are parsed by TVM, not run: its decorators have no types, and names are bound per block.)

from __future__ import annotations

from typing import Any

from local_runtime.kernels.cpu.attention_math import exp2_f32, log2_f32
from local_runtime.tvm_compat import T

__all__ = ["merge_state_inplace"]

_LANES = 16


def merge_state_inplace(num_q_heads: int, head_dim: int) -> Any:
    """Return the kernel that merges a second attention result into the first.

    Args:
        num_q_heads: Query heads.
        head_dim: Dimensions of a head, a multiple of 16.

    Returns:
        A PrimFunc ``(v [n, heads, head_dim], s [n, heads], v_other, s_other)``, which updates ``v`` and ``s``.
    """

    @T.prim_func(s_tir=True)
    def merge_state(var_v: T.handle, var_s: T.handle, var_v_other: T.handle, var_s_other: T.handle) -> None:
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        num_tokens = T.int64()
        v = T.match_buffer(var_v, (num_tokens, num_q_heads, head_dim), "float32")
        s = T.match_buffer(var_s, (num_tokens, num_q_heads), "float32")
        v_other = T.match_buffer(var_v_other, (num_tokens, num_q_heads, head_dim), "float32")
        s_other = T.match_buffer(var_s_other, (num_tokens, num_q_heads), "float32")
        for i in T.parallel(num_tokens):
            for h in T.serial(num_q_heads):
                highest: T.let[T.float32] = T.max(s[i, h], s_other[i, h])
                weight: T.let[T.float32] = exp2_f32(s[i, h] - highest)
                weight_other: T.let[T.float32] = exp2_f32(s_other[i, h] - highest)
                share: T.let[T.float32] = weight / (weight + weight_other)
                share_other: T.let[T.float32] = weight_other / (weight + weight_other)
                s[i, h] = highest + log2_f32(weight + weight_other)
                for c in T.serial(head_dim // _LANES):
                    for lane in T.vectorized(_LANES):
                        v[i, h, c * _LANES + lane] = (
                            v[i, h, c * _LANES + lane] * share + v_other[i, h, c * _LANES + lane] * share_other
                        )

    return merge_state
