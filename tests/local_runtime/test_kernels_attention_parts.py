"""The attention kernels one by one, their arithmetic, and the targets that they compile for."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from local_runtime.kernels.cpu.attention_decode import attention_decode
from local_runtime.kernels.cpu.attention_math import cos_f32, exp2_f32, log2_f32, sin_f32
from local_runtime.kernels.cpu.attention_merge import merge_state_inplace
from local_runtime.kernels.cpu.attention_prefill import attention_prefill, attention_prefill_ragged
from local_runtime.kernels.cpu.attention_tiles import decode_tiling, prefill_tiling
from local_runtime.kernels.cpu.kv_pages import compact_kv_copy, kv_cache_transpose_append
from local_runtime.kernels.limits import PAGE_TOKENS
from local_runtime.tvm_compat import T, tvm
from tests.local_runtime.attention_harness import (
    CPU,
    Shape,
    compile_objects,
    reference_attention,
)

if TYPE_CHECKING:
    from pathlib import Path

TOLERANCE = 1e-5
SCALE = 0.125
Q_HEADS, KV_HEADS, DIM = 6, 2, 32
UNUSED_ROPE = (0, 1.0, 1.0)


def build(functions: dict[str, Any], target: dict[str, Any]) -> Any:
    module = tvm.IRModule({name: f.with_attr("global_symbol", name) for name, f in functions.items()})
    with tvm.transform.PassContext(config={"tirx.disable_cse_tir": True}):
        return tvm.tirx.build(module, target=tvm.target.Target(target))


@cache
def kernels() -> Any:
    target = tvm.target.Target(CPU)
    tiling = prefill_tiling(DIM, target)
    return build(
        {
            "ragged": attention_prefill_ragged(Q_HEADS, KV_HEADS, tiling),
            "paged": attention_prefill(Q_HEADS, KV_HEADS, tiling),
            "decode": attention_decode(Q_HEADS, KV_HEADS, decode_tiling(DIM, Q_HEADS // KV_HEADS, target)),
            "merge": merge_state_inplace(Q_HEADS, DIM),
            "append": kv_cache_transpose_append(KV_HEADS, DIM),
            "compact": compact_kv_copy(KV_HEADS, DIM),
        },
        CPU,
    )


def tensor(values: Any, dtype: str = "float32") -> Any:
    return tvm.runtime.tensor(np.ascontiguousarray(values, dtype=dtype))


def random_heads(random: np.random.Generator, tokens: int, heads: int) -> np.ndarray:
    return random.standard_normal((tokens, heads, DIM), dtype=np.float32)


class Pages:
    """Random keys and values of several sequences, in pages handed out in random order; unused memory is NaN."""

    def __init__(self, random: np.random.Generator, lengths: list[int]) -> None:
        counts = [-(-length // PAGE_TOKENS) for length in lengths]
        self.keys = [random_heads(random, length, KV_HEADS) for length in lengths]
        self.values = [random_heads(random, length, KV_HEADS) for length in lengths]
        pages = np.full((sum(counts) + 2, 2, KV_HEADS, PAGE_TOKENS, DIM), np.nan, np.float32)
        order = random.permutation(len(pages))[: sum(counts)].astype(np.int32)
        self.indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        self.last = np.array([(length - 1) % PAGE_TOKENS + 1 if length else 0 for length in lengths], np.int32)
        self.positions = [
            (order[start:end, None] * PAGE_TOKENS + np.arange(PAGE_TOKENS)).ravel()[:length]
            for start, end, length in zip(self.indptr[:-1], self.indptr[1:], lengths, strict=True)
        ]
        self.tensor = tensor(pages)
        self.table = (tensor(self.indptr, "int32"), tensor(order, "int32"), tensor(self.last, "int32"))
        flat = [np.concatenate(x) for x in (self.keys, self.values, self.positions)]
        kernels()["append"](self.tensor, tensor(flat[0]), tensor(flat[1]), tensor(flat[2], "int32"))


def results(tokens: int) -> tuple[Any, Any]:
    return tensor(np.full((tokens, Q_HEADS, DIM), np.nan)), tensor(np.full((tokens, Q_HEADS), np.nan))


@pytest.mark.parametrize("lengths", [[1], [15, 16, 17], [300, 1, 64], [1500], [0, 40], [7] * 20])
def test_decode_writes_outputs_and_binary_log_sum_exps(lengths: list[int]) -> None:
    random = np.random.default_rng(len(lengths))
    pages = Pages(random, lengths)
    q = random_heads(random, len(lengths), Q_HEADS)
    output, lse = results(len(lengths))
    zeros = tensor(np.zeros(len(lengths)), "int32")
    kernels()["decode"](tensor(q), pages.tensor, *pages.table, zeros, zeros, output, lse, *UNUSED_ROPE, SCALE)
    for i, length in enumerate(lengths):
        if length:
            expected = reference_attention(q[i : i + 1], pages.keys[i], pages.values[i], SCALE, causal=False)
            np.testing.assert_allclose(output.numpy()[i], expected[0][0], atol=TOLERANCE)
            np.testing.assert_allclose(lse.numpy()[i], expected[1][0], atol=TOLERANCE)
        else:
            assert np.all(output.numpy()[i] == 0)
            assert np.all(lse.numpy()[i] < -1e30)


@pytest.mark.parametrize("causal", [False, True])
def test_prefill_over_pages(causal: bool) -> None:
    random = np.random.default_rng(7)
    lengths, queries = [200, 0, 33, 16], [61, 5, 1, 16]
    pages = Pages(random, lengths)
    q = random_heads(random, sum(queries), Q_HEADS)
    bounds = np.concatenate([[0], np.cumsum(queries)])
    output, lse = results(len(q))
    kernels()["paged"](
        tensor(q),
        tensor(bounds, "int32"),
        pages.tensor,
        *pages.table,
        tensor(np.zeros(4), "int32"),
        tensor(np.zeros(len(q)), "int32"),
        output,
        lse,
        int(causal),
        *UNUSED_ROPE,
        SCALE,
    )
    for i, (start, end) in enumerate(pairwise(bounds)):
        if lengths[i] == 0:
            assert np.all(output.numpy()[start:end] == 0)
            assert np.all(lse.numpy()[start:end] < -1e30)
            continue
        expected = reference_attention(q[start:end], pages.keys[i], pages.values[i], SCALE, causal=causal)
        np.testing.assert_allclose(output.numpy()[start:end], expected[0], atol=TOLERANCE)
        np.testing.assert_allclose(lse.numpy()[start:end], expected[1], atol=TOLERANCE)


@pytest.mark.parametrize("queries", [[1], [16], [129, 1, 15, 31], [5] * 9, [400]])
def test_prefill_of_new_tokens_against_themselves(queries: list[int]) -> None:
    random = np.random.default_rng(sum(queries))
    total = sum(queries)
    q, k, v = (random_heads(random, total, heads) for heads in (Q_HEADS, KV_HEADS, KV_HEADS))
    bounds = np.concatenate([[0], np.cumsum(queries)])
    indptr, output_lse = tensor(bounds, "int32"), results(total)
    zeros = [tensor(np.zeros(size), "int32") for size in (total, len(queries))]
    kernels()["ragged"](tensor(q), indptr, tensor(k), tensor(v), indptr, *zeros, *output_lse, 1, *UNUSED_ROPE, SCALE)
    for start, end in pairwise(bounds):
        expected = reference_attention(q[start:end], k[start:end], v[start:end], SCALE, causal=True)
        for got, wanted in zip(output_lse, expected, strict=True):
            np.testing.assert_allclose(got.numpy()[start:end], wanted, atol=TOLERANCE)


def test_merging_two_halves_of_the_keys_gives_the_whole() -> None:
    random = np.random.default_rng(3)
    q, k, v = random_heads(random, 9, Q_HEADS), *(random_heads(random, 50, KV_HEADS) for _ in range(2))
    first = [tensor(x) for x in reference_attention(q, k[:20], v[:20], SCALE, causal=False)]
    second = [tensor(x) for x in reference_attention(q, k[20:], v[20:], SCALE, causal=False)]
    kernels()["merge"](*first, *second)
    for got, wanted in zip(first, reference_attention(q, k, v, SCALE, causal=False), strict=True):
        np.testing.assert_allclose(got.numpy(), wanted, atol=TOLERANCE)


def test_merging_with_a_row_that_saw_no_key_changes_nothing() -> None:
    random = np.random.default_rng(4)
    v, s = random_heads(random, 3, Q_HEADS), random.standard_normal((3, Q_HEADS)).astype(np.float32)
    v_out, s_out = tensor(v), tensor(s)
    kernels()["merge"](v_out, s_out, tensor(np.zeros_like(v)), tensor(np.full_like(s, -3e38)))
    np.testing.assert_allclose(v_out.numpy(), v, rtol=1e-6)
    np.testing.assert_allclose(s_out.numpy(), s, atol=1e-6)


def test_tokens_marked_as_not_kept_are_not_written() -> None:
    pages = tensor(np.full((2, 2, KV_HEADS, PAGE_TOKENS, DIM), 5.0))
    k, v = np.ones((20, KV_HEADS, DIM)), np.full((20, KV_HEADS, DIM), 2.0)
    kernels()["append"](pages, tensor(k), tensor(v), tensor(np.where(np.arange(20) == 19, 17, -1), "int32"))
    written = pages.numpy()
    assert np.all(written[0] == 5)
    assert np.count_nonzero(written == 1) == KV_HEADS * DIM
    assert np.all(written[1, 1, :, 1] == 2)
    assert np.count_nonzero(written == 5) == written.size - 2 * KV_HEADS * DIM


def test_compacting_moves_single_tokens() -> None:
    random = np.random.default_rng(5)
    pages = Pages(random, [40])
    source, target = pages.positions[0][[33, 35, 39]], pages.positions[0][[3, 4, 5]]
    moves = tensor([source, target], "int32")
    kernels()["compact"](pages.tensor, tensor([0, 1, 3], "int32"), moves, 2)
    for stored in (pages.keys[0], pages.values[0]):
        stored[[3, 4, 5]] = stored[[33, 35, 39]]
    q, zeros = random_heads(random, 1, Q_HEADS), tensor([0], "int32")
    output, lse = results(1)
    kernels()["decode"](tensor(q), pages.tensor, *pages.table, zeros, zeros, output, lse, *UNUSED_ROPE, SCALE)
    expected = reference_attention(q, pages.keys[0], pages.values[0], SCALE, causal=False)
    np.testing.assert_allclose(output.numpy(), expected[0], atol=TOLERANCE)


def test_a_nan_is_not_hidden() -> None:
    random = np.random.default_rng(6)
    pages = Pages(random, [70])
    q, zeros = random_heads(random, 1, Q_HEADS), tensor([0], "int32")
    q[0, 4, 3] = np.nan
    output, lse = results(1)
    kernels()["decode"](tensor(q), pages.tensor, *pages.table, zeros, zeros, output, lse, *UNUSED_ROPE, SCALE)
    assert np.all(np.isnan(output.numpy()[0, 4]))
    assert np.all(np.isfinite(np.delete(output.numpy()[0], 4, axis=0)))


@pytest.fixture(scope="module")
def elementwise() -> Any:
    def apply(function: Any) -> Any:
        @T.prim_func(s_tir=True)
        def over_rows(var_x: T.handle, var_y: T.handle) -> None:
            T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
            rows = T.int64()
            x = T.match_buffer(var_x, (rows, 8), "float32")
            y = T.match_buffer(var_y, (rows, 8), "float32")
            for i in T.serial(rows):
                for lane in T.vectorized(8):
                    y[i, lane] = function(x[i, lane])

        return over_rows

    compiled = build({f.__name__: apply(f) for f in (exp2_f32, log2_f32, sin_f32, cos_f32)}, CPU)

    def run(function: Any, x: np.ndarray) -> np.ndarray:
        rows = np.ascontiguousarray(x, np.float32).reshape(-1, 8)
        y = tensor(np.zeros_like(rows))
        compiled[function.__name__](tensor(rows), y)
        result: np.ndarray = y.numpy().ravel()
        return result

    return run


def test_powers_of_two(elementwise: Any) -> None:
    x = np.linspace(-126.5, 126.5, 80_000).astype(np.float32)
    np.testing.assert_allclose(elementwise(exp2_f32, x), 2.0 ** x.astype(np.float64), rtol=2e-7)
    special = np.array([-127, -300, -3e38, -np.inf, 0, 1, -1, np.nan])
    np.testing.assert_array_equal(elementwise(exp2_f32, special), [0, 0, 0, 0, 1, 2, 0.5, np.nan])


def test_binary_logarithms(elementwise: Any) -> None:
    x = np.exp2(np.linspace(-120, 120, 80_000)).astype(np.float32)
    expected = np.log2(x.astype(np.float64))
    error = np.abs(elementwise(log2_f32, x) - expected) / np.maximum(1, np.abs(expected))
    assert error.max() < 4e-7


@pytest.mark.parametrize("limit", [1.0, 100.0, 131071.0, 2.0**24])
def test_sines_and_cosines(elementwise: Any, limit: float) -> None:
    x = np.linspace(-limit, limit, 80_000).astype(np.float32)
    np.testing.assert_allclose(elementwise(sin_f32, x), np.sin(x.astype(np.float64)), atol=2e-7)
    np.testing.assert_allclose(elementwise(cos_f32, x), np.cos(x.astype(np.float64)), atol=2e-7)


def _undefined_symbols(objects: list[Path]) -> set[str]:
    nm = shutil.which("nm") or shutil.which("llvm-nm")
    if nm is None:
        pytest.skip("needs nm to list an object file's symbols")
    names: set[str] = set()
    for path in objects:
        listing = subprocess.run([nm, "-u", str(path)], check=True, capture_output=True, text=True).stdout
        names.update(line.split()[-1] for line in listing.splitlines() if line.strip())
    return names


@pytest.mark.parametrize(
    "target",
    [
        CPU,
        {"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "skylake-avx512"},
        {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a72"},
    ],
    ids=lambda target: target.get("mcpu", "this one's baseline"),
)
def test_objects_for_other_processors_call_no_mathematics_library(target: dict[str, Any], tmp_path: Path) -> None:
    undefined = _undefined_symbols(compile_objects(Shape(6, 2, 16), target, tmp_path))
    # TVM's own runtime, the C functions for memory, and what linkers define.
    allowed = r"TVM\w*|__tvm_\w*|mem(cpy|set|move)|_GLOBAL_OFFSET_TABLE_"
    assert {name for name in undefined if not re.fullmatch(allowed, name)} == set()
