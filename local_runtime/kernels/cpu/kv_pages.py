"""The pages of the CPU key-value cache: their layout, and the kernels that write and copy them.

A page holds 16 tokens of one layer: ``[2, kv heads, 16 · head_dim]`` float32. The values of a head lie as ``[16 tokens,
head_dim]``; its keys lie **transposed**, ``[head_dim, 16 tokens]``, so that the scores of one query against a page are 16
running sums in vector registers, with no sum across lanes. TVM's runtime only hands pages from kernel to kernel, so the layout
is ours to choose, but the shape that it allocates, ``[pages, 2, kv heads, 16, head_dim]``, is kept.
"""

# mypy: disable-error-code="untyped-decorator,no-redef"
# (TVMScript functions are parsed by TVM, not run: its decorators have no types, and names are bound per block.)

from __future__ import annotations

from typing import Any

from local_runtime.kernels.limits import PAGE_TOKENS
from local_runtime.tvm_compat import T

__all__ = ["compact_kv_copy", "copy_single_page", "kv_cache_transpose_append"]

# Below a page of new tokens (that is, when decoding) the calling thread does it alone.
_SERIAL_TOKENS = PAGE_TOKENS


def kv_cache_transpose_append(num_kv_heads: int, head_dim: int) -> Any:
    """Return the kernel that writes new keys and values into pages.

    Args:
        num_kv_heads: Key (and value) heads.
        head_dim: Dimensions of a head.

    Returns:
        A PrimFunc ``(pages, k [n, kv heads, head_dim], v [n, kv heads, head_dim], position_map int32 [n])``; an entry of
        ``position_map`` is ``page · 16 + slot``, or -1 for a token that is not to be kept.
    """
    head_floats = PAGE_TOKENS * head_dim
    page_floats = 2 * num_kv_heads * head_floats

    @T.macro
    def append_token(flat: T.Buffer, k: T.Buffer, v: T.Buffer, position_map: T.Buffer, i: T.int64, h: T.int64) -> None:
        position: T.let[T.int64] = T.Cast("int64", position_map[i])
        if position >= T.int64(0):
            slot: T.let[T.int64] = position % PAGE_TOKENS
            key_base: T.let[T.int64] = position // PAGE_TOKENS * page_floats + h * head_floats
            value_base: T.let[T.int64] = key_base + num_kv_heads * head_floats + slot * head_dim
            for d in T.serial(head_dim):
                flat[key_base + d * PAGE_TOKENS + slot] = k[i, h, d]
            for c in T.serial(head_dim // 8):
                for lane in T.vectorized(8):
                    flat[value_base + c * 8 + lane] = v[i, h, c * 8 + lane]

    @T.prim_func(s_tir=True)
    def kv_append(var_pages: T.handle, var_k: T.handle, var_v: T.handle, var_position_map: T.handle) -> None:
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        num_tokens = T.int64()
        num_pages = T.int64()
        position_map_elem_offset = T.int64()
        pages = T.match_buffer(var_pages, (num_pages, 2, num_kv_heads, PAGE_TOKENS, head_dim), "float32")
        k = T.match_buffer(var_k, (num_tokens, num_kv_heads, head_dim), "float32")
        v = T.match_buffer(var_v, (num_tokens, num_kv_heads, head_dim), "float32")
        position_map = T.match_buffer(var_position_map, (num_tokens,), "int32", elem_offset=position_map_elem_offset)
        flat = T.decl_buffer((num_pages * page_floats,), "float32", data=pages.data)
        if num_tokens < _SERIAL_TOKENS:
            for i in T.serial(num_tokens):
                for h in T.serial(T.int64(num_kv_heads)):
                    append_token(flat, k, v, position_map, i, h)
        else:
            # A page of tokens of one head at a time: its keys' cache lines are then filled before they leave the cache.
            for x in T.parallel((num_tokens + (PAGE_TOKENS - 1)) // PAGE_TOKENS * num_kv_heads):
                first: T.let[T.int64] = x // num_kv_heads * PAGE_TOKENS
                for i in T.serial(T.min(T.int64(PAGE_TOKENS), num_tokens - first)):
                    append_token(flat, k, v, position_map, first + i, x % num_kv_heads)

    return kv_append


def copy_single_page(num_kv_heads: int, head_dim: int) -> Any:
    """Return the kernel that starts a page as a copy of another, for a sequence that forks inside a page.

    Args:
        num_kv_heads: Key (and value) heads.
        head_dim: Dimensions of a head.

    Returns:
        A PrimFunc ``(pages, source page int64, target page int64, tokens int64)``. It copies the whole page: the target is
        fresh, and what follows the first ``tokens`` is overwritten before it is read.
    """
    page_floats = 2 * num_kv_heads * PAGE_TOKENS * head_dim

    @T.prim_func(s_tir=True)
    def kv_copy_page(var_pages: T.handle, source_page: T.int64, target_page: T.int64, copy_tokens: T.int64) -> None:
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        num_pages = T.int64()
        pages = T.match_buffer(var_pages, (num_pages, 2, num_kv_heads, PAGE_TOKENS, head_dim), "float32")
        flat = T.decl_buffer((num_pages * page_floats,), "float32", data=pages.data)
        if copy_tokens > T.int64(0):
            for c in T.serial(page_floats // 8):
                for lane in T.vectorized(8):
                    flat[target_page * page_floats + c * 8 + lane] = flat[source_page * page_floats + c * 8 + lane]

    return kv_copy_page


def compact_kv_copy(num_kv_heads: int, head_dim: int) -> Any:
    """Return the kernel that moves single tokens between slots, after some branches of a token tree were dropped.

    Args:
        num_kv_heads: Key (and value) heads.
        head_dim: Dimensions of a head.

    Returns:
        A PrimFunc ``(pages, copy_indptr int32 [batch + 1], source_and_target int32 [2, copies], batch int32)``; positions are
        ``page · 16 + slot``.
    """
    head_floats = PAGE_TOKENS * head_dim
    page_floats = 2 * num_kv_heads * head_floats

    @T.prim_func(s_tir=True)
    def kv_compact(var_pages: T.handle, var_indptr: T.handle, var_positions: T.handle, batch_size: T.int32) -> None:
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        num_pages = T.int64()
        num_copies = T.int32()
        indptr_elem_offset = T.int64()
        positions_elem_offset = T.int64()
        pages = T.match_buffer(var_pages, (num_pages, 2, num_kv_heads, PAGE_TOKENS, head_dim), "float32")
        indptr = T.match_buffer(var_indptr, (batch_size + 1,), "int32", elem_offset=indptr_elem_offset)
        positions = T.match_buffer(var_positions, (2, num_copies), "int32", elem_offset=positions_elem_offset)
        flat = T.decl_buffer((num_pages * page_floats,), "float32", data=pages.data)
        for i in T.serial(indptr[batch_size]):
            source: T.let[T.int64] = T.Cast("int64", positions[0, i])
            target: T.let[T.int64] = T.Cast("int64", positions[1, i])
            source_page: T.let[T.int64] = source // PAGE_TOKENS * page_floats
            target_page: T.let[T.int64] = target // PAGE_TOKENS * page_floats
            for h, d in T.grid(num_kv_heads, head_dim):
                flat[target_page + h * head_floats + d * PAGE_TOKENS + target % PAGE_TOKENS] = flat[
                    source_page + h * head_floats + d * PAGE_TOKENS + source % PAGE_TOKENS
                ]
                flat[target_page + (num_kv_heads + h) * head_floats + target % PAGE_TOKENS * head_dim + d] = flat[
                    source_page + (num_kv_heads + h) * head_floats + source % PAGE_TOKENS * head_dim + d
                ]

    return kv_compact
