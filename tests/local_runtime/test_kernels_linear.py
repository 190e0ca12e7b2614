"""The linear layer against float64 on fresh random inputs: every format, odd sizes, decoding and prefill."""

import numpy as np
import pytest

from local_runtime.kernels.cpu.linear import linear
from local_runtime.kernels.cpu.linear_ir import Lanes
from local_runtime.quantization import dequantize_q4, pack_q4_tiled, quantize_q4
from local_runtime.tvm_compat import relax, tvm
from tests.local_runtime.linear_harness import compile_kernel, run_kernel, tile_weight

FORMATS = ["q4", "f16", "f32"]
TOKENS = [1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 31, 127, 128, 129, 257]


def added_up(x, values, weight_format):
    """The size of what a dot product adds up, which is what its rounding errors are a share of.

    For q4 the kernels add codes whose zero point is taken off at the end of a group, so each counts as its group's
    largest.
    """
    sizes = np.abs(values)
    if weight_format == "q4":
        n, k = values.shape
        sizes = np.repeat(sizes.reshape(n, k // 32, 32).max(axis=2), 32, axis=1)
    return np.abs(x.astype(np.float64)) @ sizes.T


def check(kernel, n, k, weight_format, tokens, *, bias=False, residual=False):
    rng = np.random.default_rng()
    tensors, values = tile_weight(rng.standard_normal((n, k)).astype(np.float32), weight_format)
    for m in tokens:
        x = rng.standard_normal((m, k)).astype(np.float32)
        want = x.astype(np.float64) @ values.T
        inputs = [x, *tensors]
        if bias:
            inputs.append(rng.standard_normal(n).astype(np.float32))
            want = want + inputs[-1]
        if residual:
            inputs.append(rng.standard_normal((m, n)).astype(np.float32))
            want = want + inputs[-1]
        got = run_kernel(kernel, *inputs, out=(m, n))
        # Each dot product is judged by the size of what it adds up, not by what happens to be left of it.
        error = np.abs(got - want) / (added_up(x, values, weight_format) + 1)
        assert error.max() < 1e-6, f"{weight_format} {n}x{k}, {m} tokens: {error.max():.1e}"


@pytest.mark.parametrize("weight_format", FORMATS)
@pytest.mark.parametrize(("bias", "residual"), [(True, False), (False, True), (True, True)])
def test_bias_and_residual(weight_format, bias, residual):
    kernel = compile_kernel(linear(100, 96, weight_format, bias=bias, residual=residual))
    check(kernel, 100, 96, weight_format, [1, 2, 5, 130], bias=bias, residual=residual)


@pytest.mark.parametrize("weight_format", FORMATS)
@pytest.mark.parametrize(("n", "k"), [(100, 288), (33, 544)])
def test_any_number_of_tokens(weight_format, n, k):
    check(compile_kernel(linear(n, k, weight_format)), n, k, weight_format, TOKENS)


@pytest.mark.parametrize("weight_format", ["f16", "f32"])
@pytest.mark.parametrize("k", [1, 75, 257])
def test_any_number_of_columns_without_groups(weight_format, k):
    check(compile_kernel(linear(40, k, weight_format)), 40, k, weight_format, [1, 3, 4, 7, 130])


@pytest.mark.parametrize("weight_format", FORMATS)
@pytest.mark.parametrize(("lanes", "registers"), [(4, 16), (4, 32), (16, 32)])
def test_other_vector_units(weight_format, lanes, registers):
    function = linear(72, 320, weight_format, vector_lanes=lanes, vector_registers=registers)
    check(compile_kernel(function), 72, 320, weight_format, [1, 2, 3, 4, 5, 14, 129])


@pytest.mark.parametrize("weight_format", FORMATS)
def test_baseline_instruction_set(weight_format):
    target = tvm.target.Target.from_device("cpu")
    if "x86" not in str(target.attrs["mtriple"]):
        pytest.skip("the plain x86-64 baseline runs on x86-64 only")
    kernel = compile_kernel(
        linear(72, 96, weight_format, vector_lanes=4), target=tvm.target.Target({"kind": "llvm", "mcpu": "x86-64"})
    )
    check(kernel, 72, 96, weight_format, [1, 4, 9])


@pytest.mark.parametrize("weight_format", FORMATS)
def test_a_larger_layer(weight_format):
    check(
        compile_kernel(linear(1024, 896, weight_format, residual=True)),
        1024,
        896,
        weight_format,
        [1, 20],
        residual=True,
    )


@pytest.mark.parametrize(
    ("target", "width", "registers"),
    [
        ({"kind": "llvm", "mcpu": "x86-64"}, 4, 16),
        ({"kind": "llvm", "mcpu": "haswell"}, 8, 16),
        ({"kind": "llvm", "mcpu": "skylake-avx512"}, 16, 32),
        ({"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mattr": ["+neon"]}, 4, 32),
    ],
)
def test_vector_unit_of_a_target(target, width, registers):
    if "mcpu" in target:
        target = {**target, "mtriple": "x86_64-unknown-linux-gnu"}
    assert Lanes.of_target(tvm.target.Target(target)) == Lanes(width, registers)


def test_one_row_and_one_group():
    check(compile_kernel(linear(1, 32, "q4")), 1, 32, "q4", [1, 2, 6])


def test_reads_what_the_converter_writes():
    rng = np.random.default_rng()
    codes, scales = quantize_q4(rng.standard_normal((70, 96)).astype(np.float32))
    kernel = compile_kernel(linear(70, 96, "q4"))
    values = dequantize_q4(codes, scales, np.float64)
    for m in (1, 8):
        x = rng.standard_normal((m, 96)).astype(np.float32)
        got = run_kernel(kernel, x, *pack_q4_tiled(codes, scales), out=(m, 70))
        np.testing.assert_allclose(got, x.astype(np.float64) @ values.T, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("weight_format", FORMATS)
def test_compiles_to_vector_code_for_arm(weight_format):
    target = tvm.target.Target({"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mattr": ["+neon"]})
    function = linear(100, 96, weight_format, vector_lanes=4, vector_registers=32)
    assembly = compile_kernel(function, target).mod.inspect_source("asm")
    multiply_adds = [line for line in assembly.splitlines() if "fmla" in line and ".4s" in line]
    # A GEMM register block alone has 6 tokens times 16 rows.
    assert len(multiply_adds) >= 24


def test_extreme_scales_stay_finite():
    rng = np.random.default_rng()
    tensors, values = tile_weight((rng.standard_normal((64, 64)) * 1e4).astype(np.float32), "q4")
    tensors[1][0, 0, :] = 0.0
    values = values.copy()
    values[:32, :32] = 0.0
    kernel = compile_kernel(linear(64, 64, "q4"))
    for m in (1, 9):
        x = (rng.standard_normal((m, 64)) * 1e3).astype(np.float32)
        got = run_kernel(kernel, x, *tensors, out=(m, 64))
        allowed = 1e-6 * added_up(x, values, "q4") + 1
        assert (np.abs(got - x.astype(np.float64) @ values.T) <= allowed).all()


def test_relax_calls_it_unscheduled():
    function = linear(64, 32, "f32")
    builder = relax.BlockBuilder()
    m = tvm.tirx.Var("m", "int64")
    x = relax.Var("x", relax.TensorType((m, 32), "float32"))
    weight = relax.Var("weight", relax.TensorType((2, 32, 32), "float32"))
    with builder.function("main", [x, weight]):
        gv = builder.add_func(function, "linear")
        out = builder.emit(relax.call_tir(gv, (x, weight), relax.TensorType((m, 64), "float32")))
        builder.emit_func_output(out)
    executable = relax.build(builder.get(), target=tvm.target.Target.from_device("cpu"))
    machine = relax.VirtualMachine(executable, tvm.cpu())
    rng = np.random.default_rng()
    tensors, values = tile_weight(rng.standard_normal((64, 32)).astype(np.float32), "f32")
    for rows in (1, 10):
        activations = rng.standard_normal((rows, 32)).astype(np.float32)
        got = machine["main"](tvm.runtime.tensor(activations), tvm.runtime.tensor(tensors[0])).numpy()
        np.testing.assert_allclose(got, activations @ values.T, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("n", "k", "weight_format", "message"),
    [
        (32, 48, "q4", "multiple of 32, not 48"),
        (32, 32, "q8", "must be one of q4, f16, f32, not 'q8'"),
        (0, 32, "f32", "at least one row and one column"),
    ],
)
def test_what_the_layout_cannot_hold_is_refused(n, k, weight_format, message):
    with pytest.raises(ValueError, match=message):
        linear(n, k, weight_format)
