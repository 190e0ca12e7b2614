"""How much memory can still be taken: the system's, a cgroup's, the accelerator's."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from pathlib import Path

__all__ = ["accelerator_headroom_mib", "cgroup_headroom_mib", "system_headroom_mib"]

_MIB = float(1 << 20)
_CGROUP_ROOT = Path("/sys/fs/cgroup")
_NVML_NAMES = {"linux": "libnvidia-ml.so.1", "win32": "nvml.dll"}


def system_headroom_mib() -> float:
    """MiB that this process may still take before the system swaps or a cgroup limit objects."""
    import psutil

    available_mib = psutil.virtual_memory().available / _MIB
    limited_mib = cgroup_headroom_mib()
    return available_mib if limited_mib is None else min(available_mib, limited_mib)


def cgroup_headroom_mib(root: Path = _CGROUP_ROOT, membership: Path = Path("/proc/self/cgroup")) -> float | None:
    """MiB below the tightest memory limit of this process's cgroups; None without a limit.

    Page cache that can be dropped does not count as used. Version 2 and version 1 hierarchies are understood (Linux kernel,
    admin-guide/cgroup-v2, "Memory"; cgroup-v1/memory).
    """
    try:
        lines = membership.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    headrooms = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            base, names = root, ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            base, names = root / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        # Inside a container the path may name a group that is not visible there; the root then is its own.
        folder = base / path.lstrip("/")
        while True:
            headroom = _group_headroom(folder, *names)
            if headroom is not None:
                headrooms.append(headroom)
            if folder == base or base not in folder.parents:
                break
            folder = folder.parent
    return min(headrooms) / _MIB if headrooms else None


def _group_headroom(folder: Path, limit_name: str, usage_name: str) -> int | None:
    try:
        limit = int((folder / limit_name).read_text(encoding="ascii"))
        usage = int((folder / usage_name).read_text(encoding="ascii"))
        stat = (folder / "memory.stat").read_text(encoding="ascii")
    except (OSError, ValueError):  # no such group, or "max" for no limit
        return None
    if limit >= 1 << 60:  # version 1's way to say that there is none
        return None
    counters = dict(line.split(maxsplit=1) for line in stat.splitlines() if " " in line)
    droppable = int(counters.get("total_inactive_file", counters.get("inactive_file", "0")))
    return max(0, limit - max(0, usage - droppable))


class _NvmlMemory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def accelerator_headroom_mib() -> float | None:
    """Free MiB of the first NVIDIA device that this process may use, read through NVML; None without one.

    NVML only reads counters: no CUDA context is made, which would take hundreds of MiB by itself.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    nvml = _nvml() if visible else None
    if nvml is None:
        return None
    device = ctypes.c_void_p()
    if visible.isdigit():
        found = nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(int(visible)), ctypes.byref(device))
    else:
        found = nvml.nvmlDeviceGetHandleByUUID(visible.encode(), ctypes.byref(device))
    memory = _NvmlMemory()
    if found != 0 or nvml.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)) != 0:
        return None
    return float(memory.free) / _MIB


@cache
def _nvml() -> ctypes.CDLL | None:
    """The library, initialised once for the life of the process; None where it is not installed or finds no driver."""
    name = _NVML_NAMES.get(sys.platform)
    if name is None:
        return None
    try:
        nvml = ctypes.CDLL(name)
    except OSError:
        return None
    return nvml if nvml.nvmlInit_v2() == 0 else None
