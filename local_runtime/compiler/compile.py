"""Compile a model into object files that any machine of its target can load, with no C compiler on either side."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_runtime.compiler.angles import keep_angles_exact
from local_runtime.compiler.pipeline import relax_steps
from local_runtime.errors import CompileError
from local_runtime.kernels.limits import MAX_SEQUENCES, PAGE_TOKENS
from local_runtime.models.registry import build_model
from local_runtime.tvm_compat import PagedKVCache, as_tvm_target, nn, relax, tvm

if TYPE_CHECKING:
    from collections.abc import Callable

    from local_runtime.kernels.ops import Ops, WeightFormat
    from local_runtime.models.config import ModelConfig
    from local_runtime.target import ResolvedTarget

__all__ = ["PREFILL_CHUNK_TOKENS", "compile_model", "make_ops"]

PREFILL_CHUNK_TOKENS = 512
"""Most tokens that one prefill step reads; also what activations are planned for."""

_MEMORY_BOUNDS = {"n": PREFILL_CHUNK_TOKENS, "b": MAX_SEQUENCES}


def make_ops(weight_format: WeightFormat, target: ResolvedTarget, tvm_target: Any) -> Ops:
    """The operators for a device kind."""
    if target.kind == "cpu":
        from local_runtime.kernels.cpu.ops import CpuOps

        return CpuOps(weight_format, tvm_target)
    from local_runtime.kernels.gpu.ops import GpuOps

    return GpuOps(weight_format, tvm_target)


def compile_model(
    config: ModelConfig,
    weight_format: WeightFormat,
    target: ResolvedTarget,
    out_dir: Path,
    on_progress: Callable[[float, str], None],
) -> dict[str, Any]:
    """Compile ``config`` for ``target`` and write ``model.o`` and ``program.o`` into ``out_dir``.

    Args:
        config: The model.
        weight_format: How its matrices are stored.
        target: The device.
        out_dir: An existing empty folder.
        on_progress: Told the part done (0 to 1) and the step at work.

    Returns:
        What the runner must know: ``objects`` (file names), ``parameters`` (names in the order of the functions' arguments),
        ``prefill_chunk_tokens``, ``max_batch``.

    Raises:
        CompileError: TVM refused; its own message is the cause.
    """
    if target.kind == "cuda":
        _choose_cuda_compiler()
        keep_angles_exact()
    try:
        tvm_target = as_tvm_target(target.spec, on_device=target.kind != "cpu")
        with tvm_target:
            on_progress(0.0, "define the model")
            model = build_model(config, make_ops(weight_format, target, tvm_target))
            module, parameters = model.export_tvm(spec=_function_spec())
            for name in ("prefill", "decode"):
                module[name] = module[name].with_attr("tir_var_upper_bound", _MEMORY_BOUNDS)
            steps = relax_steps(target.kind)
            with tvm.transform.PassContext(opt_level=3, config={"tirx.disable_cse_tir": True}):
                for index, step in enumerate(steps):
                    on_progress(0.05 + 0.25 * index / len(steps), step.reason)
                    module = step.compiler_pass(module)
                on_progress(0.3, "generate machine code")
                executable = relax.build(module, target=tvm_target, relax_pipeline=None)
                objects = _export(executable, out_dir)
    except (RuntimeError, ValueError, TypeError) as error:  # what TVM's errors are
        if "bad_alloc" in str(error):  # how C++ says it; TVM passes it on in an error of its own
            raise MemoryError from None
        summary = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise CompileError(
            f"TVM could not compile the model for {target.spec_json}: {summary}.",
            "Try --target cpu; if that fails too, report it with this message.",
        ) from error
    on_progress(1.0, "done")
    return {
        "objects": objects,
        "parameters": [name for name, _ in parameters],
        "prefill_chunk_tokens": PREFILL_CHUNK_TOKENS,
        "page_tokens": PAGE_TOKENS,
        "max_batch": MAX_SEQUENCES,
    }


def _choose_cuda_compiler() -> None:
    """TVM takes NVRTC (from ``cuda-bindings``) unless told otherwise; take nvcc where only that is installed."""
    if importlib.util.find_spec("cuda") is None or importlib.util.find_spec("cuda.bindings") is None:
        os.environ.setdefault("TVM_CUDA_COMPILE_MODE", "nvcc")


def _function_spec() -> dict[str, Any]:
    cache = nn.spec.Object(object_type=PagedKVCache)
    packed = {"param_mode": "packed", "effect_mode": "none"}
    return {
        "prefill": {
            "ids": nn.spec.Tensor(["n"], "int32"),
            "positions": nn.spec.Tensor(["b"], "int32"),
            "cache": cache,
            "$": packed,
        },
        "decode": {"ids": nn.spec.Tensor(["b"], "int32"), "cache": cache, "$": packed},
        "create_cache": {
            "max_sequences": int,
            "max_tokens": int,
            "prefill_chunk_tokens": int,
            "page_tokens": int,
            "$": {"param_mode": "none", "effect_mode": "none"},
        },
    }


def _export(executable: Any, out_dir: Path) -> list[str]:
    """Write the object files that ``export_library`` would hand to a linker; they are linked when they are loaded instead."""
    names: list[str] = []

    def keep_objects(_: str, files: list[str], **__: Any) -> None:
        for file in files:
            name = "program.o" if Path(file).stem == "devc" else f"{'model' if not names else f'model{len(names)}'}.o"
            shutil.copyfile(file, out_dir / name)
            names.append(name)

    executable.export_library("unused", fcompile=keep_objects)
    return names
