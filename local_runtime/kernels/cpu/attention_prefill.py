"""Prefill attention on the CPU: many queries a sequence, against the paged history or against themselves.

A task is one key-value head and a block of query rows, where a row is a (token, query head of the group) pair: the heads of a
group share the keys that they read. Tasks of a sequence are folded (first, last, second, …), so that under a causal mask any
run of neighbouring tasks costs about the same, and threads that split the range evenly finish together.
"""

# mypy: disable-error-code="untyped-decorator,no-redef"
# (TVMScript functions are parsed by TVM, not run: its decorators have no types, and names are bound per block.)

from __future__ import annotations

from typing import Any

from local_runtime.kernels.cpu.attention_tiles import KEY_TILE, LOG2_E, AttentionTiling, tile_macros
from local_runtime.kernels.limits import PAGE_TOKENS
from local_runtime.tvm_compat import T

__all__ = ["attention_prefill", "attention_prefill_ragged"]


def _common_macros(tiling: AttentionTiling, group: int) -> Any:
    head_dim, rows = tiling.head_dim, tiling.rows

    @T.macro
    def find_block(q_indptr: T.Buffer, batch_size: T.int32, index: T.int32, block: T.Buffer) -> None:
        """Set ``block`` to (sequence or -1, its block, that block's number of rows) for the ``index``-th block of the batch."""
        block[0] = -1
        block[1] = index
        for b in T.serial(batch_size):
            if block[0] < 0:
                sequence_rows: T.let[T.int32] = (q_indptr[b + 1] - q_indptr[b]) * group
                blocks: T.let[T.int32] = (sequence_rows + (rows - 1)) // rows
                if block[1] < blocks:
                    half: T.let[T.int32] = block[1] // 2
                    block[0] = b
                    block[1] = T.Select(block[1] % 2 == 0, half, blocks - 1 - half)
                    block[2] = T.min(rows, sequence_rows - block[1] * rows)
                else:
                    block[1] = block[1] - blocks

    @T.macro
    def load_queries(
        q: T.Buffer,
        queries: T.Buffer,
        visible: T.Buffer,
        first_token: T.int32,
        first_row: T.int32,
        num_rows: T.int32,
        head: T.int32,
        scale: T.float32,
        causal: T.int32,
        num_queries: T.int32,
        num_keys: T.int32,
    ) -> None:
        """Scale the block's queries into a dense tile; set how many keys each row may see."""
        for r in T.serial(rows):
            if r < num_rows:
                token: T.let[T.int32] = (first_row + r) // group
                visible[r] = T.Select(causal > 0, T.min(num_keys, num_keys - num_queries + token + 1), num_keys)
                for c in T.serial(head_dim // KEY_TILE):
                    for lane in T.vectorized(KEY_TILE):
                        queries[r, c * KEY_TILE + lane] = (
                            q[first_token + token, head * group + (first_row + r) % group, c * KEY_TILE + lane] * scale
                        )
            else:
                for c in T.serial(head_dim // KEY_TILE):
                    for lane in T.vectorized(KEY_TILE):
                        queries[r, c * KEY_TILE + lane] = T.float32(0)

    return find_block, load_queries


def attention_prefill(num_q_heads: int, num_kv_heads: int, tiling: AttentionTiling, window: int | None = None) -> Any:
    """Return the kernel for queries of any number a sequence against the paged keys and values.

    Args:
        num_q_heads: Query heads, a multiple of ``num_kv_heads``.
        num_kv_heads: Key (and value) heads.
        tiling: How the work is cut.
        window: Tokens of a sliding window; None for none. A layer has it if its ``sm_scale`` comes negative.

    Returns:
        A PrimFunc with the parameter list of TVM's ``batch_prefill_paged_kv``. With ``causal`` 0 every query sees all keys of
        the sequence, else the last query sees all and each one before it a key less. ``rotary_mode`` must be 0: keys and
        queries are rotated before they come here.
    """
    head_dim, rows, key_tiles = tiling.head_dim, tiling.rows, tiling.key_tiles
    group = num_q_heads // num_kv_heads
    head_floats = PAGE_TOKENS * head_dim
    page_floats = 2 * num_kv_heads * head_floats
    windowed = window is not None
    window_tokens = window or 0
    tiles = tile_macros(tiling, windowed=windowed)
    reset, attend, finish = tiles.reset, tiles.attend, tiles.finish
    find_block, load_queries = _common_macros(tiling, group)

    @T.prim_func(s_tir=True)
    def attention_prefill_paged(
        var_q: T.handle,
        var_q_indptr: T.handle,
        var_pages: T.handle,
        var_page_indptr: T.handle,
        var_page_values: T.handle,
        var_last_page_tokens: T.handle,
        var_k_rope_pos_offset: T.handle,
        var_q_rope_position: T.handle,
        var_output: T.handle,
        var_lse: T.handle,
        causal: T.int32,
        rotary_mode: T.int32,
        rope_scale: T.float32,
        rope_theta: T.float32,
        sm_scale: T.float32,
    ) -> None:
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        batch_size = T.int32()
        num_tokens = T.int32()
        nnz_pages = T.int32()
        num_pages = T.int64()
        q_indptr_elem_offset = T.int64()
        page_indptr_elem_offset = T.int64()
        page_values_elem_offset = T.int64()
        last_page_elem_offset = T.int64()
        first_position_elem_offset = T.int64()
        position_elem_offset = T.int64()
        q = T.match_buffer(var_q, (num_tokens, num_q_heads, head_dim), "float32")
        q_indptr = T.match_buffer(var_q_indptr, (batch_size + 1,), "int32", elem_offset=q_indptr_elem_offset)
        pages = T.match_buffer(var_pages, (num_pages, 2, num_kv_heads, PAGE_TOKENS, head_dim), "float32")
        page_indptr = T.match_buffer(var_page_indptr, (batch_size + 1,), "int32", elem_offset=page_indptr_elem_offset)
        page_values = T.match_buffer(var_page_values, (nnz_pages,), "int32", elem_offset=page_values_elem_offset)
        last_page_tokens = T.match_buffer(
            var_last_page_tokens, (batch_size,), "int32", elem_offset=last_page_elem_offset
        )
        output = T.match_buffer(var_output, (num_tokens, num_q_heads, head_dim), "float32")
        lse = T.match_buffer(var_lse, (num_tokens, num_q_heads), "float32")
        # The place of a block's first key in its sequence, and of each query in its own.
        first_position = T.match_buffer(
            var_k_rope_pos_offset, (batch_size,), "int32", elem_offset=first_position_elem_offset
        )
        position = T.match_buffer(var_q_rope_position, (num_tokens,), "int32", elem_offset=position_elem_offset)
        flat = T.decl_buffer((num_pages * page_floats,), "float32", data=pages.data)

        max_blocks: T.let[T.int32] = num_tokens * group // rows + batch_size
        for x in T.parallel(num_kv_heads * max_blocks):
            block = T.alloc_buffer((3,), "int32")
            find_block(q_indptr, batch_size, x % max_blocks, block)
            if block[0] >= 0:
                queries = T.alloc_buffer((rows, head_dim), "float32")
                scores = T.alloc_buffer((rows, tiling.keys), "float32")
                out = T.alloc_buffer((rows, head_dim), "float32")
                sums = T.alloc_buffer((rows, KEY_TILE), "float32")
                maxima = T.alloc_buffer((rows,), "float32")
                visible = T.alloc_buffer((rows,), "int32")
                oldest = T.alloc_buffer((rows,), "int32")
                unseen = T.alloc_buffer((1,), "int32")
                bases = T.alloc_buffer((key_tiles,), "int64")
                value_bases = T.alloc_buffer((key_tiles,), "int64")
                head: T.let[T.int32] = x // max_blocks
                first_row: T.let[T.int32] = block[1] * rows
                num_rows: T.let[T.int32] = block[2]
                first_token: T.let[T.int32] = q_indptr[block[0]]
                first_page: T.let[T.int32] = page_indptr[block[0]]
                page_count: T.let[T.int32] = page_indptr[block[0] + 1] - first_page
                num_keys: T.let[T.int32] = T.if_then_else(
                    page_count > 0, (page_count - 1) * PAGE_TOKENS + last_page_tokens[block[0]], 0
                )
                num_queries: T.let[T.int32] = q_indptr[block[0] + 1] - first_token
                load_queries(
                    q,
                    queries,
                    visible,
                    first_token,
                    first_row,
                    num_rows,
                    head,
                    T.fabs(sm_scale) * T.float32(LOG2_E),
                    causal,
                    num_queries,
                    num_keys,
                )
                for r in T.serial(rows):
                    oldest[r] = 0
                if windowed:
                    for r in T.serial(rows):
                        if sm_scale < T.float32(0):
                            token: T.let[T.int32] = first_token + (first_row + T.min(r, num_rows - 1)) // group
                            oldest[r] = T.max(0, position[token] - (window_tokens - 1) - first_position[block[0]])
                reset(out, sums, maxima)
                needed_keys: T.let[T.int32] = T.max(visible[num_rows - 1], 0)
                unseen[0] = 0
                if windowed:
                    unseen[0] = T.min(oldest[0], needed_keys) // tiling.keys
                for i in T.serial((needed_keys + (tiling.keys - 1)) // tiling.keys - unseen[0]):
                    kb: T.let[T.int32] = unseen[0] + i
                    block_keys: T.let[T.int32] = T.min(tiling.keys, needed_keys - kb * tiling.keys)
                    for t in T.serial((block_keys + (KEY_TILE - 1)) // KEY_TILE):
                        page: T.let[T.int64] = T.Cast("int64", page_values[first_page + kb * key_tiles + t])
                        bases[t] = page * page_floats + head * head_floats
                        value_bases[t] = page * page_floats + (num_kv_heads + head) * head_floats
                    attend(
                        queries,
                        scores,
                        out,
                        sums,
                        maxima,
                        visible,
                        oldest,
                        flat,
                        bases,
                        flat,
                        value_bases,
                        head_dim,
                        num_rows,
                        kb * tiling.keys,
                        block_keys,
                    )
                for r in T.serial(num_rows):
                    token: T.let[T.int32] = first_token + (first_row + r) // group
                    finish(
                        out,
                        sums,
                        maxima,
                        output,
                        lse,
                        r,
                        visible[r] - oldest[r],
                        token,
                        head * group + (first_row + r) % group,
                    )

    return attention_prefill_paged


def attention_prefill_ragged(
    num_q_heads: int, num_kv_heads: int, tiling: AttentionTiling, window: int | None = None
) -> Any:
    """Return the kernel for new tokens against themselves, keys and values not yet in pages.

    Args:
        num_q_heads: Query heads, a multiple of ``num_kv_heads``.
        num_kv_heads: Key (and value) heads.
        tiling: How the work is cut.
        window: Tokens of a sliding window; None for none. A layer has it if its ``sm_scale`` comes negative.

    Returns:
        A PrimFunc with the parameter list of TVM's ``batch_prefill_ragged_kv``. The keys are first transposed into tiles of
        16 in a workspace, in the form in which the pages have them. ``rotary_mode`` must be 0.
    """
    head_dim, rows, key_tiles = tiling.head_dim, tiling.rows, tiling.key_tiles
    group = num_q_heads // num_kv_heads
    windowed = window is not None
    window_tokens = window or 0
    tiles = tile_macros(tiling, windowed=windowed)
    reset, attend, finish = tiles.reset, tiles.attend, tiles.finish
    find_block, load_queries = _common_macros(tiling, group)

    @T.prim_func(s_tir=True)
    def attention_prefill_ragged_(
        var_q: T.handle,
        var_q_indptr: T.handle,
        var_k: T.handle,
        var_v: T.handle,
        var_kv_indptr: T.handle,
        var_q_rope_position: T.handle,
        var_k_rope_pos_offset: T.handle,
        var_output: T.handle,
        var_lse: T.handle,
        causal: T.int32,
        rotary_mode: T.int32,
        rope_scale: T.float32,
        rope_theta: T.float32,
        sm_scale: T.float32,
    ) -> None:
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        num_bounds = T.int32()
        num_tokens = T.int32()
        num_kv_tokens = T.int32()
        q_indptr_elem_offset = T.int64()
        kv_indptr_elem_offset = T.int64()
        q = T.match_buffer(var_q, (num_tokens, num_q_heads, head_dim), "float32")
        q_indptr = T.match_buffer(var_q_indptr, (num_bounds,), "int32", elem_offset=q_indptr_elem_offset)
        k = T.match_buffer(var_k, (num_kv_tokens, num_kv_heads, head_dim), "float32")
        v = T.match_buffer(var_v, (num_kv_tokens, num_kv_heads, head_dim), "float32")
        kv_indptr = T.match_buffer(var_kv_indptr, (num_bounds,), "int32", elem_offset=kv_indptr_elem_offset)
        output = T.match_buffer(var_output, (num_tokens, num_q_heads, head_dim), "float32")
        lse = T.match_buffer(var_lse, (num_tokens, num_q_heads), "float32")
        v_flat = T.decl_buffer((num_kv_tokens * num_kv_heads * head_dim,), "float32", data=v.data)

        batch_size: T.let[T.int32] = num_bounds - 1
        # Sequence b's tiles start at kv_indptr[b] // 16 + b, which leaves each its own room whatever the lengths are.
        max_tiles: T.let[T.int32] = num_kv_tokens // KEY_TILE + batch_size
        packed = T.alloc_buffer((max_tiles * num_kv_heads * head_dim * KEY_TILE,), "float32")
        for x in T.parallel(max_tiles * num_kv_heads):
            for b in T.serial(batch_size):
                tile: T.let[T.int32] = x // num_kv_heads - (kv_indptr[b] // KEY_TILE + b)
                first_key: T.let[T.int32] = kv_indptr[b] + tile * KEY_TILE
                if tile >= 0 and first_key < kv_indptr[b + 1]:
                    head: T.let[T.int32] = x % num_kv_heads
                    base: T.let[T.int64] = T.Cast("int64", x) * (head_dim * KEY_TILE)
                    present: T.let[T.int32] = T.min(KEY_TILE, kv_indptr[b + 1] - first_key)
                    for j in T.serial(present):
                        for d in T.serial(head_dim):
                            packed[base + d * KEY_TILE + j] = k[first_key + j, head, d]
                    for j in T.serial(KEY_TILE - present):
                        for d in T.serial(head_dim):
                            packed[base + d * KEY_TILE + present + j] = T.float32(0)

        max_blocks: T.let[T.int32] = num_tokens * group // rows + batch_size
        for x in T.parallel(num_kv_heads * max_blocks):
            block = T.alloc_buffer((3,), "int32")
            find_block(q_indptr, batch_size, x % max_blocks, block)
            if block[0] >= 0:
                queries = T.alloc_buffer((rows, head_dim), "float32")
                scores = T.alloc_buffer((rows, tiling.keys), "float32")
                out = T.alloc_buffer((rows, head_dim), "float32")
                sums = T.alloc_buffer((rows, KEY_TILE), "float32")
                maxima = T.alloc_buffer((rows,), "float32")
                visible = T.alloc_buffer((rows,), "int32")
                oldest = T.alloc_buffer((rows,), "int32")
                unseen = T.alloc_buffer((1,), "int32")
                bases = T.alloc_buffer((key_tiles,), "int64")
                value_bases = T.alloc_buffer((key_tiles,), "int64")
                head: T.let[T.int32] = x // max_blocks
                first_row: T.let[T.int32] = block[1] * rows
                num_rows: T.let[T.int32] = block[2]
                first_token: T.let[T.int32] = q_indptr[block[0]]
                first_kv_token: T.let[T.int32] = kv_indptr[block[0]]
                num_keys: T.let[T.int32] = kv_indptr[block[0] + 1] - first_kv_token
                num_queries: T.let[T.int32] = q_indptr[block[0] + 1] - first_token
                first_tile: T.let[T.int32] = first_kv_token // KEY_TILE + block[0]
                load_queries(
                    q,
                    queries,
                    visible,
                    first_token,
                    first_row,
                    num_rows,
                    head,
                    T.fabs(sm_scale) * T.float32(LOG2_E),
                    causal,
                    num_queries,
                    num_keys,
                )
                for r in T.serial(rows):
                    oldest[r] = 0
                if windowed:
                    for r in T.serial(rows):
                        if sm_scale < T.float32(0):
                            oldest[r] = T.max(0, visible[T.min(r, num_rows - 1)] - window_tokens)
                reset(out, sums, maxima)
                needed_keys: T.let[T.int32] = T.max(visible[num_rows - 1], 0)
                unseen[0] = 0
                if windowed:
                    unseen[0] = T.min(oldest[0], needed_keys) // tiling.keys
                for i in T.serial((needed_keys + (tiling.keys - 1)) // tiling.keys - unseen[0]):
                    kb: T.let[T.int32] = unseen[0] + i
                    block_keys: T.let[T.int32] = T.min(tiling.keys, needed_keys - kb * tiling.keys)
                    for t in T.serial((block_keys + (KEY_TILE - 1)) // KEY_TILE):
                        bases[t] = T.Cast("int64", (first_tile + kb * key_tiles + t) * num_kv_heads + head) * (
                            head_dim * KEY_TILE
                        )
                        value_bases[t] = (
                            T.Cast("int64", (first_kv_token + (kb * key_tiles + t) * KEY_TILE) * num_kv_heads + head)
                            * head_dim
                        )
                    attend(
                        queries,
                        scores,
                        out,
                        sums,
                        maxima,
                        visible,
                        oldest,
                        packed,
                        bases,
                        v_flat,
                        value_bases,
                        num_kv_heads * head_dim,
                        num_rows,
                        kb * tiling.keys,
                        block_keys,
                    )
                for r in T.serial(num_rows):
                    token: T.let[T.int32] = first_token + (first_row + r) // group
                    finish(
                        out,
                        sums,
                        maxima,
                        output,
                        lse,
                        r,
                        visible[r] - oldest[r],
                        token,
                        head * group + (first_row + r) % group,
                    )

    return attention_prefill_ragged_
