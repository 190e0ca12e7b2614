"""Times the CPU's linear kernels against what the processor can do: prints JSON.

Before every sample of a kernel, two references are timed: a plain parallel read of a large buffer (GB/s) and a parallel loop
of independent multiply-adds in registers (GFLOP/s). A ratio is the median over samples, each against its own references,
because absolute figures move with the machine's load and clock. Weights are cycled through more memory than caches hold.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_READ_MIB = 256
_FMA_TURNS = 400_000
_FMA_SUMS = 12


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--formats", nargs="+", default=["q4", "f16", "f32"], choices=["q4", "f16", "f32"])
    parser.add_argument("--shapes", nargs="+", default=["4864x896", "4096x4096"], help="rows x columns")
    parser.add_argument("--tokens", nargs="+", type=int, default=[1, 4, 16, 128])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--samples", type=int, default=11)
    parser.add_argument("--weights-mib", type=int, default=192, help="memory that the weights are cycled through")
    arguments = parser.parse_args()
    # Both are read when the libraries load.
    os.environ["TVM_NUM_THREADS"] = str(arguments.threads)
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    bench = _Bench(arguments.threads, arguments.samples)
    results = []
    for shape in arguments.shapes:
        n, k = (int(part) for part in shape.split("x"))
        for weight_format in arguments.formats:
            results.extend(bench.linear(weight_format, n, k, arguments.tokens, arguments.weights_mib))
    results.extend(bench.rows())
    json.dump(
        {
            "processor": platform.processor() or platform.machine(),
            "target": str(bench.target),
            "threads": arguments.threads,
            "samples": arguments.samples,
            "kernels": results,
        },
        sys.stdout,
        indent=1,
    )
    sys.stdout.write("\n")


class _Bench:
    """The compiled references and the machinery around one measurement."""

    def __init__(self, threads: int, samples: int) -> None:
        import numpy as np

        from local_runtime.kernels.cpu.linear_ir import Lanes
        from local_runtime.tvm_compat import tvm

        self._np = np
        self._tvm = tvm
        self._threads = threads
        self._samples = samples
        self._rng = np.random.default_rng(0)
        self.target = tvm.target.Target.from_device("cpu")
        unit = Lanes.of_target(self.target)
        self._lanes, self._registers = unit.width, unit.registers
        self._read, _ = self._compile(_read_reference(self._lanes))
        self._fma, _ = self._compile(_fma_reference(self._lanes, threads))
        rows = _READ_MIB * 2**20 // (4096 * 4)
        self._read_args = [self._tensor(np.ones((rows, 4096), np.float32)), self._empty((rows, self._lanes))]
        self._fma_args = [self._tensor(np.full((threads, _FMA_SUMS, self._lanes), 1e-3, np.float32))]

    def linear(self, weight_format: str, n: int, k: int, tokens: list[int], weights_mib: int) -> list[dict[str, Any]]:
        """Time one layer for several numbers of tokens."""
        from local_runtime.kernels.cpu.linear import linear

        function = linear(
            n,
            k,
            weight_format,  # type: ignore[arg-type]
            vector_lanes=self._lanes,
            vector_registers=self._registers,
        )
        kernel, compile_s = self._compile(function)
        tiles = math.ceil(n / 32)
        weights = [self._random_weight(weight_format, tiles, k)]
        weight_bytes = sum(array.nbytes for array in weights[0])
        copies = max(1, math.ceil(weights_mib * 2**20 / weight_bytes))
        weights += [[array.copy() for array in weights[0]] for _ in range(copies - 1)]
        on_device = [[self._tensor(array) for array in arrays] for arrays in weights]
        results = []
        for m in tokens:
            x = self._tensor(self._rng.standard_normal((m, k)).astype(self._np.float32))
            y = self._empty((m, n))
            # Prefill samples are long enough with one pass over one copy.
            used = on_device if m <= 4 else on_device[:1]

            def call(used: list[list[Any]] = used, x: Any = x, y: Any = y) -> None:
                for arrays in used:
                    kernel(x, *arrays, y)

            timing = self._measure(call, weight_bytes * len(used), 2.0 * m * n * k * len(used))
            name = f"linear_{weight_format}_{n}x{k}"
            results.append(
                {"kernel": name, "tokens": m, "calls": len(used), "compile_s": round(compile_s, 2), **timing}
            )
        return results

    def rows(self) -> list[dict[str, Any]]:
        """Time the kernels between the matrices at one typical size."""
        from local_runtime.kernels.cpu.activation import silu_mul
        from local_runtime.kernels.cpu.embedding import embedding
        from local_runtime.kernels.cpu.norm import rms_norm

        k, ffn, vocab = 896, 4864, 32000
        results = []
        for m in (1, 128):
            x = self._tensor(self._rng.standard_normal((m, k)).astype(self._np.float32))
            gate_up = self._tensor(self._rng.standard_normal((m, 2 * ffn)).astype(self._np.float32))
            ids = self._tensor(self._rng.integers(0, vocab, m).astype(self._np.int32))
            weight = [self._tensor(array) for array in self._random_weight("q4", vocab // 32, k)]
            ones = self._tensor(self._np.ones(k, self._np.float32))
            cases = [
                (f"rms_norm_{k}", rms_norm(k, 1e-6, vector_lanes=self._lanes), [x, ones, self._empty((m, k))], 8 * k),
                (
                    f"silu_mul_{ffn}",
                    silu_mul(ffn, vector_lanes=self._lanes),
                    [gate_up, self._empty((m, ffn))],
                    12 * ffn,
                ),
                (f"embedding_q4_{vocab}x{k}", embedding(vocab, k, "q4"), [ids, *weight, self._empty((m, k))], 4.5 * k),
            ]
            for name, function, arguments, row_bytes in cases:
                kernel, compile_s = self._compile(function)

                def call(kernel: Any = kernel, arguments: list[Any] = arguments) -> None:
                    for _ in range(100):
                        kernel(*arguments)

                timing = self._measure(call, 100 * m * row_bytes, 0.0)
                results.append({"kernel": name, "tokens": m, "calls": 100, "compile_s": round(compile_s, 2), **timing})
        return results

    def _measure(self, call: Callable[[], None], bytes_moved: float, flops: float) -> dict[str, Any]:
        call()
        times_s, read_gbs, fma_gflops = [], [], []
        read_bytes = self._read_args[0].numpy().nbytes
        fma_flops = 2.0 * self._threads * _FMA_TURNS * _FMA_SUMS * self._lanes
        for _ in range(self._samples):
            read_gbs.append(read_bytes / self._timed(lambda: self._read(*self._read_args)) / 1e9)
            fma_gflops.append(fma_flops / self._timed(lambda: self._fma(*self._fma_args)) / 1e9)
            times_s.append(self._timed(call))
        median_s = statistics.median(times_s)
        gbs, gflops = bytes_moved / median_s / 1e9, flops / median_s / 1e9
        return {
            "median_ms": round(median_s * 1e3, 4),
            "best_ms": round(min(times_s) * 1e3, 4),
            "spread": round((statistics.quantiles(times_s, n=10)[-1] - min(times_s)) / median_s, 3),
            "gb_per_s": round(gbs, 2),
            "best_gb_per_s": round(bytes_moved / min(times_s) / 1e9, 2),
            "gflop_per_s": round(gflops, 1),
            "best_gflop_per_s": round(flops / min(times_s) / 1e9, 1),
            "read_gb_per_s": round(statistics.median(read_gbs), 2),
            "best_read_gb_per_s": round(max(read_gbs), 2),
            "fma_gflop_per_s": round(statistics.median(fma_gflops), 1),
            "best_fma_gflop_per_s": round(max(fma_gflops), 1),
            "of_read": round(
                statistics.median(bytes_moved / t / 1e9 / g for t, g in zip(times_s, read_gbs, strict=True)), 3
            ),
            "of_fma": round(
                statistics.median(flops / t / 1e9 / g for t, g in zip(times_s, fma_gflops, strict=True)), 3
            ),
        }

    def _compile(self, function: Any) -> tuple[Any, float]:
        began = time.perf_counter()
        with self._tvm.transform.PassContext(opt_level=3, config={"tirx.disable_cse_tir": True}):
            compiled = self._tvm.compile(function, target=self.target)
        return compiled, time.perf_counter() - began

    def _random_weight(self, weight_format: str, tiles: int, k: int) -> list[Any]:
        if weight_format == "q4":
            scale = self._rng.uniform(0.01, 0.02, (tiles, k // 32, 32)).astype(self._np.float16)
            return [self._rng.integers(0, 256, (tiles, k, 16), dtype=self._np.uint8), scale]
        dtype = self._np.float16 if weight_format == "f16" else self._np.float32
        return [self._rng.standard_normal((tiles, k, 32), dtype=self._np.float32).astype(dtype)]

    def _tensor(self, array: Any) -> Any:
        return self._tvm.runtime.tensor(array)

    def _empty(self, shape: tuple[int, ...]) -> Any:
        return self._tensor(self._np.zeros(shape, self._np.float32))

    @staticmethod
    def _timed(call: Callable[[], None]) -> float:
        began = time.perf_counter()
        call()
        return time.perf_counter() - began


def _read_reference(lanes: int) -> Any:
    """Sum up the rows of a buffer, nothing else: what memory can deliver to all threads."""
    from local_runtime.kernels.cpu.linear_ir import (
        RegisterArray,
        finish,
        i64,
        load,
        open_function,
        store,
        symbolic,
        tensor_arg,
    )
    from local_runtime.tvm_compat import T

    sums = 8
    with open_function("read_reference") as function:
        rows = symbolic("rows")
        data = tensor_arg("data", (rows, 4096))
        out = tensor_arg("out", (rows, lanes))
        with T.parallel(i64(0), rows) as row:
            totals = RegisterArray("totals", sums, lanes)
            totals.clear()
            with T.serial(i64(0), i64(4096 // (sums * lanes))) as step:
                for v in range(sums):
                    totals[v] = totals[v] + load(data, row, step * i64(sums * lanes) + i64(v * lanes), lanes=lanes)
            total = totals[0]
            for v in range(1, sums):
                total = total + totals[v]
            store(out, total, row, i64(0), lanes=lanes)
    return finish(function)


def _fma_reference(lanes: int, threads: int) -> Any:
    """Multiply and add in registers, nothing else: what the arithmetic units can do."""
    from local_runtime.kernels.cpu.linear_ir import RegisterArray, finish, i64, load, open_function, store, tensor_arg
    from local_runtime.tvm_compat import T

    with open_function("fma_reference") as function:
        data = tensor_arg("data", (threads, _FMA_SUMS, lanes))
        with T.parallel(i64(0), i64(threads)) as thread:
            sums = RegisterArray("sums", _FMA_SUMS, lanes)
            for v in range(_FMA_SUMS):
                sums[v] = load(data, thread, i64(v), i64(0), lanes=lanes)
            factor = load(data, thread, i64(0), i64(0), lanes=lanes)
            with T.serial(i64(0), i64(_FMA_TURNS)):
                for v in range(_FMA_SUMS):
                    sums[v] = sums[v] * factor + factor
            for v in range(_FMA_SUMS):
                store(data, sums[v], thread, i64(v), i64(0), lanes=lanes)
    return finish(function)


if __name__ == "__main__":
    main()
