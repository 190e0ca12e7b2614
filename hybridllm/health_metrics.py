"""A client's health as metrics. What is unknown at the moment has no series, rather than a value that was true once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from hybridllm.health import BreakerState
from local_runtime.events import EngineState
from policies import CONNECTIVITY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prometheus_client import Metric

    from hybridllm.health import Health
    from local_runtime.events import EngineStats

__all__ = ["HealthMetrics"]

_MIB = 1024 * 1024
_UNKNOWN = "unknown"


class HealthMetrics:
    """Collects the health that was set last.

    Args:
        clock: Unix seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._health: Health | None = None
        self._reloaded_at_s: float | None = None

    def set(self, health: Health) -> None:
        """Show this from now on."""
        with self._lock:
            known, self._health = self._health, health
            reloads = health.reloads_ok + health.reloads_failed
            if reloads != (0 if known is None else known.reloads_ok + known.reloads_failed):
                self._reloaded_at_s = self._clock()

    def describe(self) -> list[Metric]:
        """Nothing: there are no other metrics whose names could clash."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The metrics; none before a health was set."""
        with self._lock:
            health, reloaded_at_s = self._health, self._reloaded_at_s
        if health is None:
            return
        yield _gauge("device_ready", "1 if the device's model is loaded and its process lives.", health.device_ready)
        yield _gauge("requests_open", "Requests under way.", health.requests_open)
        if health.memory_headroom_mib is not None:
            yield _gauge(
                "memory_headroom_bytes",
                "Memory that may still be taken before the system or a cgroup objects.",
                health.memory_headroom_mib * _MIB,
            )
        connectivity = health.connectivity if health.connectivity in CONNECTIVITY else _UNKNOWN
        yield _states(
            "connectivity", "The way to the remote: 1 for its state.", (*CONNECTIVITY, _UNKNOWN), connectivity
        )
        if health.breaker is not None:
            yield _states(
                "breaker_state", "The remote's breaker: 1 for its state.", get_args(BreakerState), health.breaker
            )
        yield from _policy(health, reloaded_at_s)
        if health.engine is not None:
            yield from _engine(health.engine)


def _policy(health: Health, reloaded_at_s: float | None) -> Iterator[Metric]:
    reloads = CounterMetricFamily(
        "hybridllm_policy_reloads", "Times that a policy's file was read again.", labels=("outcome",)
    )
    reloads.add_metric(("ok",), health.reloads_ok)
    reloads.add_metric(("failed",), health.reloads_failed)
    yield reloads
    yield _gauge(
        "policy_last_reload_successful",
        "1 if the policy's file was usable when it was read last; 0: nothing leaves the device.",
        not health.policy_problem,
    )
    if reloaded_at_s is not None:
        yield _gauge(
            "policy_last_reload_timestamp_seconds",
            "When a policy's file was read again last, as far as the scrapes show, in Unix seconds.",
            reloaded_at_s,
        )


def _engine(engine: EngineStats) -> Iterator[Metric]:
    yield _states("engine_state", "The device's engine: 1 for its state.", get_args(EngineState), engine.state)
    yield CounterMetricFamily(
        "hybridllm_engine_restarts",
        "Times that the engine's process was started again because one had died.",
        value=engine.restarts,
    )
    if engine.state != "ready":
        return  # its other figures say nothing then
    yield _gauge("queue_depth", "Requests that wait in the device's engine.", engine.waiting)
    yield _gauge("running", "Requests that the device's engine works on.", engine.running)
    yield _gauge("running_limit", "How many it works on at the same time at most.", engine.max_sequences)
    yield _gauge("kv_pages", "Pages of the key-value cache.", engine.pages_total)
    yield _gauge("kv_pages_free", "Pages of the key-value cache that can be had for new requests.", engine.pages_free)
    yield _gauge("engine_resident_bytes", "Resident memory of the engine's process.", engine.rss_mib * _MIB)
    yield _gauge("engine_resident_peak_bytes", "The highest so far.", engine.peak_rss_mib * _MIB)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"hybridllm_{name}", text, value=float(value))


def _states(name: str, text: str, states: Sequence[str], state: str) -> Metric:
    family = GaugeMetricFamily(f"hybridllm_{name}", text, labels=("state",))
    for each in states:
        family.add_metric((each,), float(each == state))
    return family
