"""How much memory this process has in use."""

from __future__ import annotations

from pathlib import Path

import psutil

__all__ = ["peak_rss_mib", "rss_mib"]

_MIB = 1024 * 1024


def rss_mib() -> float:
    """Resident memory of this process in MiB."""
    return float(psutil.Process().memory_info().rss) / _MIB


def peak_rss_mib() -> float:
    """The highest resident memory of this process so far in MiB.

    Linux: ``VmHWM``, because ``getrusage`` there counts what the parent had before ``exec``. Windows: the peak working
    set. Elsewhere: ``getrusage``, which macOS gives in bytes.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak_bytes = getattr(psutil.Process().memory_info(), "peak_wset", None)
    if peak_bytes is not None:
        return float(peak_bytes) / _MIB
    import resource  # POSIX only

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MIB
