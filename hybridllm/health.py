"""What a client can do at this moment, for a server's health checks and metrics. It says nothing of any request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from hybridllm.router import Ended
    from local_runtime.events import EngineStats

__all__ = ["BreakerState", "Health", "Observer"]

BreakerState = Literal["closed", "open", "half_open"]
"""``closed``: the remote is asked; ``open``: it is left alone; ``half_open``: one request probes it."""

Observer = Callable[["Ended"], None]
"""Told of every request when it is over, in the client's event loop: it must be quick, and what it raises is only logged.

One that has a method ``began()`` is also told when a request comes in, in the caller's context; what it returns comes back in
``Ended.tokens_from_observers``.
"""


@dataclass(frozen=True, slots=True)
class Health:
    """A client at one moment."""

    device_ready: bool
    """Whether the device's model is loaded and its process lives: then every request that it has room for gets an answer."""

    device_problem: str
    """Why the device cannot answer; empty where it can, or has not been asked to load its model yet."""

    engine: EngineStats | None
    """The engine, with its queue and its pages; None with a place of your own, or while the engine is too busy to say."""

    connectivity: str | None
    """The way to the remote: ``online``, ``degraded``, ``captive``, ``offline``, or None for unknown."""

    breaker: BreakerState | None
    """The remote's breaker; None without a remote."""

    memory_headroom_mib: float | None
    """MiB that may still be taken before the system or a cgroup objects; None if unknown."""

    policy: str
    """Name of the policy in force."""

    policy_hash: str
    """SHA-256 of its meaning."""

    policy_problem: str
    """Why nothing may leave the device, where the policy's file became one that cannot be used; else empty."""

    reloads_ok: int
    """Policies that came into force since the client was made."""

    reloads_failed: int
    """Policy files that could not be used since then."""

    requests_open: int
    """Requests under way."""
