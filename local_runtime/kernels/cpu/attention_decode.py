"""Decode attention on the CPU: one new query a sequence, against the paged keys and values.

A task is one sequence, key-value head and run of pages; the query heads of a group share the keys that they read. The pages of
a sequence are split among tasks only when sequences and heads alone are too few to keep several threads at work and the runs stay
long enough to pay for joining their results ("Flash-Decoding", Dao et al., 2023).
"""

# mypy: disable-error-code="untyped-decorator,no-redef"
# (TVMScript functions are parsed by TVM, not run: its decorators have no types, and names are bound per block.)

from __future__ import annotations

from typing import Any

from local_runtime.kernels.cpu.attention_math import exp2_f32
from local_runtime.kernels.cpu.attention_tiles import KEY_TILE, LOG2_E, AttentionTiling, tile_macros
from local_runtime.kernels.limits import PAGE_TOKENS
from local_runtime.tvm_compat import T

__all__ = ["attention_decode"]

# So many tasks let the threads of a small machine finish close together, whatever their number is.
_ENOUGH_TASKS = 16
_FEWEST_PAGES_OF_A_TASK = 12


def attention_decode(num_q_heads: int, num_kv_heads: int, tiling: AttentionTiling, window: int | None = None) -> Any:
    """Return the kernel for one query a sequence against the paged keys and values.

    Args:
        num_q_heads: Query heads, a multiple of ``num_kv_heads``.
        num_kv_heads: Key (and value) heads.
        tiling: How the work is cut; its rows must hold a group.
        window: Tokens of a sliding window; None for none. A layer has it if its ``sm_scale`` comes negative.

    Returns:
        A PrimFunc with the parameter list of TVM's ``batch_decode_paged_kv``. ``rotary_mode`` must be 0: keys and queries are
        rotated before they come here.
    """
    head_dim, rows, key_tiles = tiling.head_dim, tiling.rows, tiling.key_tiles
    group = num_q_heads // num_kv_heads
    head_floats = PAGE_TOKENS * head_dim
    page_floats = 2 * num_kv_heads * head_floats
    windowed = window is not None
    window_tokens = window or 0
    tiles = tile_macros(tiling, windowed=windowed)
    reset, attend, finish = tiles.reset, tiles.attend, tiles.finish

    @T.macro
    def join(out: T.Buffer, sums: T.Buffer, maxima: T.Buffer, row: T.int32, other: T.int32) -> None:
        """Take into ``row`` what the row ``other`` accumulated over other keys."""
        highest: T.let[T.float32] = T.max(maxima[row], maxima[other])
        kept: T.let[T.float32] = exp2_f32(maxima[row] - highest)
        added: T.let[T.float32] = exp2_f32(maxima[other] - highest)
        maxima[row] = highest
        for lane in T.vectorized(KEY_TILE):
            sums[row, lane] = sums[row, lane] * kept + sums[other, lane] * added
        for c in T.serial(head_dim // KEY_TILE):
            for lane in T.vectorized(KEY_TILE):
                d = T.meta_var(c * KEY_TILE + lane)
                out[row, d] = out[row, d] * kept + out[other, d] * added

    @T.prim_func(s_tir=True)
    def attention_decode_paged(
        var_q: T.handle,
        var_pages: T.handle,
        var_page_indptr: T.handle,
        var_page_values: T.handle,
        var_last_page_tokens: T.handle,
        var_k_rope_pos_offset: T.handle,
        var_q_rope_position: T.handle,
        var_output: T.handle,
        var_lse: T.handle,
        rotary_mode: T.int32,
        rope_scale: T.float32,
        rope_theta: T.float32,
        sm_scale: T.float32,
    ) -> None:
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        batch_size = T.int32()
        nnz_pages = T.int32()
        num_pages = T.int64()
        page_indptr_elem_offset = T.int64()
        page_values_elem_offset = T.int64()
        last_page_elem_offset = T.int64()
        first_position_elem_offset = T.int64()
        position_elem_offset = T.int64()
        q = T.match_buffer(var_q, (batch_size, num_q_heads, head_dim), "float32")
        pages = T.match_buffer(var_pages, (num_pages, 2, num_kv_heads, PAGE_TOKENS, head_dim), "float32")
        page_indptr = T.match_buffer(var_page_indptr, (batch_size + 1,), "int32", elem_offset=page_indptr_elem_offset)
        page_values = T.match_buffer(var_page_values, (nnz_pages,), "int32", elem_offset=page_values_elem_offset)
        last_page_tokens = T.match_buffer(
            var_last_page_tokens, (batch_size,), "int32", elem_offset=last_page_elem_offset
        )
        output = T.match_buffer(var_output, (batch_size, num_q_heads, head_dim), "float32")
        lse = T.match_buffer(var_lse, (batch_size, num_q_heads), "float32")
        first_position = T.match_buffer(
            var_k_rope_pos_offset, (batch_size,), "int32", elem_offset=first_position_elem_offset
        )
        position = T.match_buffer(var_q_rope_position, (batch_size,), "int32", elem_offset=position_elem_offset)
        flat = T.decl_buffer((num_pages * page_floats,), "float32", data=pages.data)

        pairs: T.let[T.int32] = batch_size * num_kv_heads
        splits: T.let[T.int32] = T.max(
            1, T.min(_ENOUGH_TASKS // pairs, nnz_pages // (batch_size * _FEWEST_PAGES_OF_A_TASK))
        )
        part_rows: T.let[T.int32] = T.Select(splits > 1, pairs * splits * group, 0)
        part_out = T.alloc_buffer((part_rows, head_dim), "float32")
        part_sums = T.alloc_buffer((part_rows, KEY_TILE), "float32")
        part_maxima = T.alloc_buffer((part_rows,), "float32")

        for x in T.parallel(pairs * splits):
            queries = T.alloc_buffer((rows, head_dim), "float32")
            scores = T.alloc_buffer((rows, tiling.keys), "float32")
            out = T.alloc_buffer((rows, head_dim), "float32")
            sums = T.alloc_buffer((rows, KEY_TILE), "float32")
            maxima = T.alloc_buffer((rows,), "float32")
            visible = T.alloc_buffer((rows,), "int32")
            oldest = T.alloc_buffer((rows,), "int32")
            unseen_keys = T.alloc_buffer((1,), "int32")
            unseen_pages = T.alloc_buffer((1,), "int32")
            bases = T.alloc_buffer((key_tiles,), "int64")
            value_bases = T.alloc_buffer((key_tiles,), "int64")
            b: T.let[T.int32] = x // splits // num_kv_heads
            head: T.let[T.int32] = x // splits % num_kv_heads
            all_pages: T.let[T.int32] = page_indptr[b + 1] - page_indptr[b]
            all_keys: T.let[T.int32] = T.if_then_else(
                all_pages > 0, (all_pages - 1) * PAGE_TOKENS + last_page_tokens[b], 0
            )
            # In buffers, for TVM's simplifier takes ages over expressions that are nested any deeper.
            unseen_keys[0] = 0
            unseen_pages[0] = 0
            if windowed:  # noqa: SIM102 - the first is Python's, the second runs in the kernel
                if sm_scale < T.float32(0):
                    unseen_keys[0] = T.max(0, position[b] - (window_tokens - 1) - first_position[b])
                    unseen_pages[0] = unseen_keys[0] // PAGE_TOKENS
                    if unseen_keys[0] >= all_keys:
                        unseen_pages[0] = all_pages
            page_count: T.let[T.int32] = all_pages - unseen_pages[0]
            run: T.let[T.int32] = (page_count + (splits - 1)) // splits
            start: T.let[T.int32] = unseen_pages[0] + T.min(x % splits * run, page_count)
            first_page: T.let[T.int32] = page_indptr[b] + start
            num_keys: T.let[T.int32] = T.max(0, T.min(run * PAGE_TOKENS, all_keys - start * PAGE_TOKENS))
            for r in T.serial(rows):
                visible[r] = num_keys
                oldest[r] = unseen_keys[0] - start * PAGE_TOKENS
                for c in T.serial(head_dim // KEY_TILE):
                    for lane in T.vectorized(KEY_TILE):
                        queries[r, c * KEY_TILE + lane] = T.if_then_else(
                            r < group,
                            q[b, head * group + T.min(r, group - 1), c * KEY_TILE + lane]
                            * (T.fabs(sm_scale) * T.float32(LOG2_E)),
                            T.float32(0),
                        )
            reset(out, sums, maxima)
            for kb in T.serial((num_keys + (tiling.keys - 1)) // tiling.keys):
                block_keys: T.let[T.int32] = T.min(tiling.keys, num_keys - kb * tiling.keys)
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
                    group,
                    kb * tiling.keys,
                    block_keys,
                )
            if splits == 1:
                for r in T.serial(group):
                    finish(out, sums, maxima, output, lse, r, num_keys, b, head * group + r)
            else:
                for r in T.serial(group):
                    part_maxima[x * group + r] = maxima[r]
                    for lane in T.vectorized(KEY_TILE):
                        part_sums[x * group + r, lane] = sums[r, lane]
                    for c in T.serial(head_dim // KEY_TILE):
                        for lane in T.vectorized(KEY_TILE):
                            part_out[x * group + r, c * KEY_TILE + lane] = out[r, c * KEY_TILE + lane]

        has_keys = T.alloc_buffer((1,), "int32")
        if splits > 1:
            for pair in T.serial(pairs):
                b: T.let[T.int32] = pair // num_kv_heads
                for r in T.serial(group):
                    row: T.let[T.int32] = pair * splits * group + r
                    for i in T.serial(1, splits):
                        join(part_out, part_sums, part_maxima, row, row + i * group)
                    has_keys[0] = page_indptr[b + 1] - page_indptr[b]
                    if windowed:  # noqa: SIM102 - as above
                        if sm_scale < T.float32(0) and has_keys[0] > 0:
                            has_keys[0] = (has_keys[0] - 1) * PAGE_TOKENS + last_page_tokens[b]
                            has_keys[0] = has_keys[0] + first_position[b] - (position[b] - (window_tokens - 1))
                    head: T.let[T.int32] = pair % num_kv_heads * group + r
                    finish(part_out, part_sums, part_maxima, output, lse, row, has_keys[0], b, head)

    return attention_decode_paged
