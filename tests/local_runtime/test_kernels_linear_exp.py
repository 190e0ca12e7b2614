import numpy as np
import pytest

from local_runtime.kernels.cpu.exp import exp_f32
from local_runtime.tvm_compat import T, tvm


@pytest.fixture(scope="module")
def exp_kernel():
    @T.prim_func(s_tir=True)
    def exp_rows(x_handle: T.handle, y_handle: T.handle):
        T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True})
        n = T.int64()
        x = T.match_buffer(x_handle, (n, 8), "float32")
        y = T.match_buffer(y_handle, (n, 8), "float32")
        for i in T.serial(n):
            for j in T.vectorized(8):
                y[i, j] = exp_f32(x[i, j])

    compiled = tvm.compile(exp_rows, target=tvm.target.Target.from_device("cpu"))

    def call(values):
        padded = np.zeros((-(-len(values) // 8), 8), np.float32)
        padded.reshape(-1)[: len(values)] = values
        out = tvm.runtime.tensor(np.zeros_like(padded))
        compiled(tvm.runtime.tensor(padded), out)
        return out.numpy().reshape(-1)[: len(values)]

    return call


def test_exp_is_within_two_ulps_of_float64(exp_kernel):
    rng = np.random.default_rng()
    x = np.concatenate([rng.uniform(-87.3, 88.36, 200_000), rng.uniform(-1, 1, 200_000)]).astype(np.float32)
    relative = np.abs(exp_kernel(x) / np.exp(x.astype(np.float64)) - 1)
    assert relative.max() < 2e-7


def test_exp_at_its_edges(exp_kernel):
    got = exp_kernel(np.array([0.0, -0.0, -np.inf, np.inf, np.nan, 89.0, -88.0, -1e30, 1e30], np.float32))
    assert got[:2].tolist() == [1.0, 1.0]
    assert got[2] == 0.0
    assert np.isposinf(got[3])
    assert np.isnan(got[4])
    assert np.isposinf(got[5])
    assert got[6] == 0.0
    assert got[7] == 0.0
    assert np.isposinf(got[8])
