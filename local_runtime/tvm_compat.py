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
    "kv_kernels",
    "nn",
    "relax",
    "te",
    "tirx",
    "tvm",
]


def as_tvm_target(spec: dict[str, Any], *, on_device: bool = False) -> Any:
    """TVM's target for a description; with ``on_device``, one whose host is this machine's processor.

    Raises:
        TargetError: TVM doesn't know such a target.
    """
    try:
        host = {"host": tvm.target.Target.from_device("cpu")} if on_device else {}
        return tvm.target.Target(spec, **host)
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        said = str(error).strip().splitlines()
        raise TargetError(
            f"TVM does not know the target {json.dumps(spec)}: {said[-1] if said else type(error).__name__}.",
            "Use auto, cpu, cuda or a target of TVM 0.27.",
        ) from error
