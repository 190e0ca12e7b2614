"""What this process holds at one moment, and what has leaked since another."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import psutil

__all__ = ["Held", "leaks"]

MOST_GROWTH_MIB = 48.0
"""What resident memory may grow after the warm-up: fingerprints of labels fill up, allocators keep what was once in use."""
_IDLE_CONNECTIONS = 8
"""Connections that a client keeps for the next request."""
_LOOPS_THREADS = "asyncio_"
"""Threads of event loops' executors, which come as they are needed, up to a number of their own."""


@dataclass(frozen=True)
class Held:
    """What is held."""

    threads: tuple[str, ...]
    """Names of the threads, without those of executors."""

    files: int
    """Open files, sockets and pipes."""

    processes: int
    """Processes below this one."""

    rss_mib: float
    """Resident memory."""

    @classmethod
    def now(cls) -> Held:
        """At this moment."""
        process = psutil.Process()
        return cls(
            threads=tuple(sorted(one.name for one in threading.enumerate() if not one.name.startswith(_LOOPS_THREADS))),
            files=process.num_fds() if hasattr(process, "num_fds") else process.num_handles(),
            processes=len(process.children(recursive=True)),
            rss_mib=process.memory_info().rss / (1 << 20),
        )

    def report(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "threads": len(self.threads),
            "files": self.files,
            "processes": self.processes,
            "rss_mib": round(self.rss_mib, 1),
        }


def leaks(before: Held, now: Held, *, clients: int) -> list[str]:
    """What is held now and was not before; some connections of each client may be open or not."""
    found = []
    if len(now.threads) > len(before.threads):
        found.append(f"threads: {sorted(set(now.threads) - set(before.threads)) or now.threads}")
    if now.files > before.files + clients * _IDLE_CONNECTIONS:
        found.append(f"files: {before.files} became {now.files}")
    if now.processes > before.processes:
        found.append(f"processes: {before.processes} became {now.processes}")
    if now.rss_mib > before.rss_mib + MOST_GROWTH_MIB:
        found.append(f"memory: {before.rss_mib:.0f} MiB became {now.rss_mib:.0f} MiB")
    return found
