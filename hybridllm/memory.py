"""How much memory can still be taken, for the facts of a decision; the engine measures it in the same way."""

from __future__ import annotations

from local_runtime.memory import accelerator_headroom_mib, cgroup_headroom_mib, system_headroom_mib

__all__ = ["accelerator_headroom_mib", "cgroup_headroom_mib", "system_headroom_mib"]
