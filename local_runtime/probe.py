"""What this machine offers the engine, as one JSON object: ``python -m local_runtime.probe``.

A process of its own, because asking a GPU's driver can hang or crash and must not take the caller along.
"""

from __future__ import annotations

import ctypes
import json
import platform
import sys
from typing import Any

import psutil

from local_runtime.target import cpu_identity, cuda_devices, cuda_driver

__all__ = ["main", "probe"]

_TELLING_FEATURES = (
    "sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp", "i8mm", "sve",
)  # fmt: skip


def probe() -> dict[str, Any]:
    """Name the devices that a model can be compiled for here.

    Returns:
        ``targets``: a list of ``kind``, ``name``, ``arch``, ``features`` (instruction sets), ``memory_mib`` and ``free_mib``;
        the first is what ``--target auto`` takes. ``threads``: cores that this process may use.
    """
    memory = psutil.virtual_memory()
    identity = cpu_identity()
    flags = set(identity["flags"].split())
    cpu = {
        "kind": "cpu",
        "name": identity["name"],
        "arch": platform.machine(),
        "features": [name for name in _TELLING_FEATURES if name in flags],
        "memory_mib": memory.total // 2**20,
        "free_mib": memory.available // 2**20,
    }
    process = psutil.Process()
    allowed = len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else psutil.cpu_count()
    return {
        "targets": [*_cuda_targets(), cpu],
        "threads": allowed,
        "python": platform.python_version(),
        "system": platform.platform(),
    }


def _cuda_targets() -> list[dict[str, Any]]:
    driver = cuda_driver()
    targets = []
    for index, name in enumerate(cuda_devices()):
        assert driver is not None
        major, minor, total, free = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t(), ctypes.c_size_t()
        driver.cuDeviceGetAttribute(ctypes.byref(major), 75, index)
        driver.cuDeviceGetAttribute(ctypes.byref(minor), 76, index)
        context = ctypes.c_void_p()
        if driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), index) == 0:
            driver.cuCtxSetCurrent(context)
            driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
            driver.cuDevicePrimaryCtxRelease_v2(index)
        targets.append(
            {
                "kind": "cuda",
                "name": name,
                "arch": f"sm_{major.value}{minor.value}",
                "features": [],
                "memory_mib": total.value // 2**20,
                "free_mib": free.value // 2**20,
            }
        )
    return targets


def main() -> int:
    """Print the probe's result; returns the exit code."""
    sys.stdout.write(json.dumps(probe()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
