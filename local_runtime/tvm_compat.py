"""The one place that names what TVM moves between releases.

Everything else imports ``tvm``, ``tirx`` (tensor IR), ``T`` (its script dialect), ``relax``, ``nn`` and the like from here, so that a
new TVM release is followed by editing this file. Importing it loads TVM's compiler (about 1.2 s, 190 MiB): only the build process
does. What merely runs a model imports :mod:`local_runtime.tvm_runtime`.
"""

from __future__ import annotations

import json
from typing import Any

import tvm
from tvm import relax, te, tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn.llm import kv_cache as kv_kernels
from tvm.relax.frontend.nn.llm.kv_cache import PagedKVCache, RopeMode, TIRPagedKVCache
from tvm.s_tir import dlight
from tvm.script import tirx as T

from local_runtime.errors import TargetError

__all__ = [
    "PagedKVCache",
    "RopeMode",
    "T",
    "TIRPagedKVCache",
    "as_tvm_target",
    "dlight",
    "host_cpu_features",
    "host_cpu_spec",
    "kv_kernels",
    "nn",
    "relax",
    "te",
    "tirx",
    "tvm",
]


_VECTOR_FEATURES = ("sse", "avx", "fma", "f16c", "bmi", "amx", "neon", "dotprod", "i8mm", "bf16", "fullfp16")
"""How LLVM's names of the features begin that speed kernels up; any other one that the processor's name leaves out gains nothing."""


def host_cpu_features() -> dict[str, bool]:
    """What this processor and its operating system let programs use, by LLVM's names; empty where LLVM cannot tell.

    A name that is missing is not known; on x86 every feature is there, with False for those that must not be used.
    """
    ask = tvm.get_global_func("tvm.codegen.llvm.GetHostCPUFeatures", allow_missing=True)
    return {str(name): bool(present) for name, present in ask().items()} if ask is not None else {}


def host_cpu_spec() -> dict[str, Any]:
    """TVM's description of this processor: ``kind``, ``mtriple``, ``mcpu``, and ``mattr`` where the name says too much or too little.

    TVM itself names only the model, whose features a virtual machine may mask and a cheaper model of the family may lack.
    """
    exported = {key: _plain(value) for key, value in tvm.target.Target.from_device("cpu").export().items()}
    spec = {key: value for key, value in exported.items() if key in ("kind", "mtriple", "mcpu", "mattr", "mabi")}
    corrections = _feature_corrections(spec, host_cpu_features())
    return {**spec, "mattr": [*spec.get("mattr", []), *corrections]} if corrections else spec


def _feature_corrections(spec: dict[str, Any], present: dict[str, bool]) -> list[str]:
    """``mattr`` that turns the features that ``spec`` implies into those that are present."""
    implied = set(map(str, tvm.target.codegen.llvm_get_cpu_features(tvm.target.Target(spec))))
    more = sorted(name for name, here in present.items() if here and name.startswith(_VECTOR_FEATURES))
    # What is absent comes last: it takes with it whatever needs it.
    absent = sorted(name for name in implied if present.get(name) is False)
    return [f"+{name}" for name in more if name not in implied] + [f"-{name}" for name in absent]


def _plain(value: Any) -> Any:
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    if hasattr(value, "items"):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if hasattr(value, "__iter__") else str(value)


def as_tvm_target(spec: dict[str, Any], *, on_device: bool = False) -> Any:
    """TVM's target for a description; with ``on_device``, one whose host is this machine's processor.

    Raises:
        TargetError: TVM doesn't know such a target.
    """
    try:
        host = {"host": tvm.target.Target(host_cpu_spec())} if on_device else {}
        return tvm.target.Target(spec, **host)
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        said = str(error).strip().splitlines()
        raise TargetError(
            f"TVM does not know the target {json.dumps(spec)}: {said[-1] if said else type(error).__name__}.",
            "Use auto, cpu, cuda or a target of TVM 0.27.",
        ) from error
