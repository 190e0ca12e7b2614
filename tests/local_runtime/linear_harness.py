"""Compile one CPU kernel, run it on numpy arrays, and lay weights out as the kernels read them."""

import numpy as np

from local_runtime.tvm_compat import tvm

TILE = 32
GROUP = 32


def compile_kernel(function, target=None):
    # The same configuration as the compile pipeline's.
    with tvm.transform.PassContext(opt_level=3, config={"tirx.disable_cse_tir": True}):
        return tvm.compile(function, target=target or tvm.target.Target.from_device("cpu"))


def run_kernel(kernel, *inputs, out):
    """Call ``kernel(*inputs, out)`` with an output full of NaN, so that what is never written shows."""
    output = tvm.runtime.tensor(np.full(out, np.nan, np.float32))
    kernel(*(tvm.runtime.tensor(np.ascontiguousarray(array)) for array in inputs), output)
    return output.numpy()


def tile_weight(weight, weight_format):
    """Return the tiled tensors of ``weight [n, k]`` and, in float64, the values that they stand for."""
    n, k = weight.shape
    tiles = -(-n // TILE)
    padded = np.zeros((tiles * TILE, k), np.float32)
    padded[:n] = weight
    tiled = padded.reshape(tiles, TILE, k)
    if weight_format != "q4":
        stored = tiled.astype(np.float16 if weight_format == "f16" else np.float32)
        values = stored.astype(np.float64).reshape(tiles * TILE, k)[:n]
        return [np.ascontiguousarray(stored.transpose(0, 2, 1))], values
    grouped = tiled.reshape(tiles, TILE, k // GROUP, GROUP)
    scale = (np.abs(grouped).max(-1) / 7).astype(np.float16)
    divisor = np.where(scale == 0, 1, scale).astype(np.float32)
    codes = np.clip(np.rint(grouped / divisor[..., None]) + 8, 0, 15).astype(np.uint8)
    values = (codes.astype(np.float64) - 8) * scale.astype(np.float64)[..., None]
    codes = codes.reshape(tiles, TILE, k)
    packed = codes[:, : TILE // 2] | (codes[:, TILE // 2 :] << 4)
    tensors = [np.ascontiguousarray(packed.transpose(0, 2, 1)), np.ascontiguousarray(scale.transpose(0, 2, 1))]
    return tensors, values.reshape(tiles * TILE, k)[:n]
