"""The facts that a decision is made from: plain values that somebody else measured, each of which may be unknown."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal

__all__ = ["CONNECTIVITY", "FACT_KINDS", "WEEKDAYS", "FactKind", "FactValues", "Facts", "Place"]

CONNECTIVITY = ("online", "degraded", "captive", "offline")
"""States of the way to the remote; ``captive`` means that somebody else answers in its name."""

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
"""Names of the days of the week."""

FactKind = Literal["number", "boolean", "connectivity", "weekday", "time", "label", "words"]
"""What a fact's value is, and so which operators a condition on it may use."""

FactValues = tuple[Any, ...]
"""The values of all facts in the order of ``FACT_KINDS``: read once for a decision, then indexed."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place that a model can run at, as a decision sees it."""

    name: str
    """``local`` for this device, else the remote's name."""

    zone: str
    """``device`` for this device, else the name of a zone that the policy gives a ceiling for."""

    context_tokens: int | None = None
    """Tokens that prompt and answer may have together; None if unknown, which rules nothing out."""

    capabilities: frozenset[str] | None = None
    """What it can do beyond plain text chat; None if unknown, which rules nothing out."""

    unavailable: str = ""
    """Why it cannot be used at the moment, one clause; empty if it can. It never strikes the device out: the device is
    asked all the same, and fails with its own error if it has to."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about a request and the world at one moment. None means unknown and never matches a condition."""

    label: str | None = None
    """The request's label after joining all sources; None, or one that the policy does not know, counts as the most
    sensitive, for rules as well."""

    tags: frozenset[str] | None = None
    """Tags that the caller gave."""

    connectivity: str | None = None
    """One of ``CONNECTIVITY``."""

    memory_headroom_mib: float | None = None
    """Memory in MiB that can be taken before the system or a cgroup limit objects."""

    device_memory_headroom_mib: float | None = None
    """Free memory of the accelerator in MiB."""

    local_ready: bool | None = None
    """Whether the device's model is loaded."""

    local_ttft_ms: float | None = None
    """Estimate of the device's time to first token, in milliseconds."""

    local_tokens_per_s: float | None = None
    """Estimate of the device's speed after the first token."""

    local_meets_deadline: bool | None = None
    """Whether the device is expected to be through before the deadline; unknown without deadline or estimates."""

    remote_ttft_ms: float | None = None
    """Estimate of the remote's time to first token, in milliseconds."""

    remote_tokens_per_s: float | None = None
    """Estimate of the remote's speed after the first token."""

    remote_meets_deadline: bool | None = None
    """Whether the remote is expected to be through before the deadline."""

    prompt_tokens: float | None = None
    """Length of the prompt in tokens; an estimate unless ``local_prompt_tokens`` is known."""

    local_prompt_tokens: int | None = None
    """Exact length of the prompt in the device's tokens, where it was counted."""

    max_tokens: int | None = None
    """Most tokens that the caller wants."""

    capabilities: frozenset[str] | None = None
    """What a place must be able to do for this request."""

    deadline_s: float | None = None
    """Seconds that are left for the request."""

    time_of_day: str | None = None
    """Local time as ``HH:MM``, 24 hours, two digits each."""

    weekday: str | None = None
    """One of ``WEEKDAYS``, local time."""

    budget_left: float | None = None
    """What may still be spent at the remote, in the operator's own unit; measured by the program, never by us."""

    places: tuple[Place, ...] = ()
    """Where the model can run. Not for conditions: it decides which candidates a route may keep."""

    def values(self) -> FactValues:
        """All facts in the order of ``FACT_KINDS``, None where unknown."""
        values: FactValues = _read_all(self)
        return values

    def to_dict(self) -> dict[str, Any]:
        """All known facts as plain values, in a fixed order."""
        known: dict[str, Any] = {}
        for name in FACT_KINDS:
            value = getattr(self, name)
            if value is not None:
                known[name] = sorted(value) if isinstance(value, frozenset) else value
        known["places"] = [
            {
                "name": place.name,
                "zone": place.zone,
                "context_tokens": place.context_tokens,
                "capabilities": None if place.capabilities is None else sorted(place.capabilities),
                "unavailable": place.unavailable,
            }
            for place in self.places
        ]
        return known


FACT_KINDS: dict[str, FactKind] = {
    "label": "label",
    "tags": "words",
    "connectivity": "connectivity",
    "memory_headroom_mib": "number",
    "device_memory_headroom_mib": "number",
    "local_ready": "boolean",
    "local_ttft_ms": "number",
    "local_tokens_per_s": "number",
    "local_meets_deadline": "boolean",
    "remote_ttft_ms": "number",
    "remote_tokens_per_s": "number",
    "remote_meets_deadline": "boolean",
    "prompt_tokens": "number",
    "local_prompt_tokens": "number",
    "max_tokens": "number",
    "capabilities": "words",
    "deadline_s": "number",
    "time_of_day": "time",
    "weekday": "weekday",
    "budget_left": "number",
}
"""Every fact that a condition may name."""

_read_all = attrgetter(*FACT_KINDS)
