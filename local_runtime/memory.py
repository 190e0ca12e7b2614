"""How much memory can still be taken: the system's, a cgroup's, the accelerator's.

The application's process imports this module too: standard library and psutil only, and psutil only when it is asked.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Headroom", "accelerator_headroom_mib", "cgroup_headroom_mib", "system_headroom_mib"]

_MIB = float(1 << 20)
_CGROUP_ROOT = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
_NO_LIMIT_BYTES = 1 << 60
_NVML_NAMES = {"linux": "libnvidia-ml.so.1", "win32": "nvml.dll"}
_FRESH_S = 1.0


def system_headroom_mib() -> float:
    """MiB that this process may still take before the system swaps or a cgroup limit objects."""
    import psutil

    available_mib = psutil.virtual_memory().available / _MIB
    limited_mib = cgroup_headroom_mib()
    return available_mib if limited_mib is None else min(available_mib, limited_mib)


def cgroup_headroom_mib(root: Path = _CGROUP_ROOT, membership: Path = _MEMBERSHIP) -> float | None:
    """MiB below the tightest memory limit of this process's cgroups; None without a limit.

    Files in the page cache that no process has mapped don't count as used: the kernel drops them before it kills. Those that are
    mapped, such as code that runs and weights that are read for every token, do. Version 2 and version 1 hierarchies are
    understood (Linux kernel, admin-guide/cgroup-v2, "Memory"; cgroup-v1/memory).
    """
    try:
        lines = membership.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    headrooms: list[int] = []
    limits: tuple[str, ...]
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            base, limits, usage = root, ("memory.max", "memory.high"), "memory.current"
        elif "memory" in controllers.split(","):
            base, limits, usage = root / "memory", ("memory.limit_in_bytes",), "memory.usage_in_bytes"
        else:
            continue
        # Inside a container the path may name a group that is not visible there; the root then is its own.
        folder = base / path.lstrip("/")
        while True:
            headroom = _group_headroom(folder, limits, usage)
            if headroom is not None:
                headrooms.append(headroom)
            if folder == base or base not in folder.parents:
                break
            folder = folder.parent
    return min(headrooms) / _MIB if headrooms else None


def _group_headroom(folder: Path, limit_names: tuple[str, ...], usage_name: str) -> int | None:
    """Bytes below one group's limit; None if it has none, or if there is no such group."""
    limits = [limit for limit in (_read_limit(folder / name) for name in limit_names) if limit is not None]
    if not limits:
        return None
    try:
        usage = int((folder / usage_name).read_text(encoding="ascii"))
        stat = (folder / "memory.stat").read_text(encoding="ascii")
    except (OSError, ValueError):
        return None
    counters = dict(line.split(maxsplit=1) for line in stat.splitlines() if " " in line)

    def counter(name: str) -> int:
        # Version 1 counts a group alone, and with its children under "total_".
        return int(counters.get(f"total_{name}", counters.get(name, "0")))

    mapped = counter("mapped_file") or counter("file_mapped")
    droppable = max(0, counter("inactive_file") + counter("active_file") - mapped)
    return max(0, min(limits) - max(0, usage - droppable))


def _read_limit(file: Path) -> int | None:
    try:
        limit = int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):  # no such file, or "max" for no limit
        return None
    return limit if limit < _NO_LIMIT_BYTES else None  # such a large one is version 1's way to say that there is none


class Headroom:
    """The memory that is left, cheap enough to be asked for at every step.

    A reading is at most a second old, and what was promised since is taken off it. An answer of "no" is always from a fresh one.

    Args:
        measure_mib: Reads what is left in MiB.
        fresh_s: How old a reading may be.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        measure_mib: Callable[[], float] = system_headroom_mib,
        *,
        fresh_s: float = _FRESH_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._measure_mib = measure_mib
        self._fresh_s = fresh_s
        self._clock = clock
        self._left_mib = 0.0
        self._read_at: float | None = None

    def mib(self) -> float:
        """MiB that are left, by a reading that is at most ``fresh_s`` old."""
        if self._read_at is None or self._clock() - self._read_at > self._fresh_s:
            self._read()
        return max(0.0, self._left_mib)

    def covers(self, needed_bytes: int) -> bool:
        """Whether so many bytes are left."""
        needed_mib = needed_bytes / _MIB
        if self.mib() < needed_mib:
            self._read()
        return self._left_mib >= needed_mib

    def take(self, taken_bytes: int) -> None:
        """Note that so many bytes are taken now, which the last reading could not know."""
        self._left_mib -= taken_bytes / _MIB

    def _read(self) -> None:
        self._left_mib = self._measure_mib()
        self._read_at = self._clock()


class _NvmlMemory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def accelerator_headroom_mib(index: int = 0) -> float | None:
    """Free MiB of an NVIDIA device that this process may use, read through NVML; None without one.

    NVML only reads counters: no CUDA context is made, which would take hundreds of MiB by itself.

    Args:
        index: Which of the devices that ``CUDA_VISIBLE_DEVICES`` leaves, as CUDA counts them.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = [str(index)] * (index + 1) if named is None else [name.strip() for name in named.split(",")]
    chosen = visible[index] if index < len(visible) else ""
    nvml = _nvml() if chosen else None
    if nvml is None:
        return None
    device = ctypes.c_void_p()
    if chosen.isdigit():
        found = nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(int(chosen)), ctypes.byref(device))
    else:
        found = nvml.nvmlDeviceGetHandleByUUID(chosen.encode(), ctypes.byref(device))
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
