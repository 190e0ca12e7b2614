"""Norm, activation, embedding and row gathering against float64 on fresh random inputs."""

import numpy as np
import pytest

from local_runtime.kernels.cpu.activation import silu_mul
from local_runtime.kernels.cpu.embedding import embedding, gather_rows
from local_runtime.kernels.cpu.norm import rms_norm
from tests.local_runtime.linear_harness import compile_kernel, run_kernel, tile_weight


@pytest.mark.parametrize(("k", "lanes"), [(1, 8), (7, 8), (100, 8), (896, 8), (96, 4), (130, 16)])
def test_rms_norm(k, lanes):
    kernel = compile_kernel(rms_norm(k, 1e-6, vector_lanes=lanes))
    rng = np.random.default_rng()
    weight = rng.standard_normal(k).astype(np.float32)
    for m in (1, 3, 9, 33):
        x = (rng.standard_normal((m, k)) * rng.uniform(1e-3, 50)).astype(np.float32)
        x64 = x.astype(np.float64)
        want = x64 / np.sqrt((x64**2).mean(-1, keepdims=True) + 1e-6) * weight
        got = run_kernel(kernel, x, weight, out=(m, k))
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)


def test_rms_norm_of_zeros_is_zero():
    kernel = compile_kernel(rms_norm(40, 1e-5))
    got = run_kernel(kernel, np.zeros((2, 40), np.float32), np.ones(40, np.float32), out=(2, 40))
    assert not got.any()


@pytest.mark.parametrize(("ffn", "lanes"), [(1, 8), (100, 8), (320, 4), (67, 16)])
def test_silu_mul(ffn, lanes):
    kernel = compile_kernel(silu_mul(ffn, vector_lanes=lanes))
    rng = np.random.default_rng()
    for m in (1, 3, 4, 19):
        gate_up = (rng.standard_normal((m, 2 * ffn)) * 8).astype(np.float32)
        gate, up = np.split(gate_up.astype(np.float64), 2, axis=-1)
        np.testing.assert_allclose(
            run_kernel(kernel, gate_up, out=(m, ffn)), gate / (1 + np.exp(-gate)) * up, rtol=1e-6, atol=1e-30
        )


def test_silu_mul_of_extreme_gates_is_finite():
    kernel = compile_kernel(silu_mul(8))
    gate = np.array([[-1e30, -200, -89, -88, 88, 89, 200, 1e30]], np.float32)
    got = run_kernel(kernel, np.concatenate([gate, np.ones_like(gate)], axis=-1), out=(1, 8))
    np.testing.assert_allclose(got, [[0, 0, 0, 0, 88, 89, 200, 1e30]], atol=1e-30)


@pytest.mark.parametrize("weight_format", ["q4", "f16", "f32"])
@pytest.mark.parametrize(("vocab", "k"), [(100, 96), (259, 64), (32, 32)])
def test_embedding(weight_format, vocab, k):
    kernel = compile_kernel(embedding(vocab, k, weight_format))
    rng = np.random.default_rng()
    tensors, values = tile_weight(rng.standard_normal((vocab, k)).astype(np.float32), weight_format)
    for m in (1, 7, 8, 50):
        ids = rng.integers(0, vocab, m).astype(np.int32)
        ids[-1] = vocab - 1
        np.testing.assert_array_equal(run_kernel(kernel, ids, *tensors, out=(m, k)), values[ids])


@pytest.mark.parametrize(("k", "lanes"), [(1, 8), (100, 8), (64, 16), (31, 4)])
def test_gather_rows(k, lanes):
    kernel = compile_kernel(gather_rows(k, vector_lanes=lanes))
    rng = np.random.default_rng()
    x = rng.standard_normal((9, k)).astype(np.float32)
    for positions in ([8], [0, 8, 3], list(rng.integers(0, 9, 20))):
        rows = np.array(positions, np.int32)
        np.testing.assert_array_equal(run_kernel(kernel, x, rows, out=(len(rows), k)), x[rows])


@pytest.mark.parametrize("generator", [lambda: rms_norm(0, 1e-6), lambda: silu_mul(0), lambda: gather_rows(0)])
def test_empty_rows_are_refused(generator):
    with pytest.raises(ValueError, match="at least one element"):
        generator()


def test_impossible_lanes_are_refused():
    with pytest.raises(ValueError, match="vector lanes must be 4, 8 or 16, not 6"):
        silu_mul(32, vector_lanes=6)
