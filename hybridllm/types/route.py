"""Which way an answer came, and why."""

from __future__ import annotations

from typing import Literal

from hybridllm.types.model import Model

__all__ = ["Attempt", "Route"]


class Attempt(Model):
    """One place that was asked."""

    place: str
    """``local``, or the name of the remote."""

    outcome: Literal["served", "failed", "cancelled", "running"]
    """``served``: this place's answer is the answer; ``running``: the stream has not ended yet."""

    error: str | None = None
    """Class and message of the error that ended a failed attempt; never any content."""

    started_s: float
    """When it began, in seconds after the request came in."""

    duration_s: float | None = None
    """How long it took, in seconds; None while it runs."""

    tries: int = 1
    """How often the place was asked within this attempt, retries included."""

    egress_bytes: int = 0
    """Bytes of request bodies that left the device in this attempt."""


class Route(Model):
    """Which way an answer came: who was asked, by which rule, and what left the device."""

    served_by: str
    """``local``, or the name of the remote (``remote`` unless it was given another)."""

    rule: str
    """Name of the policy's rule that decided; ``default`` if none matched."""

    rule_location: str
    """Where that rule stands, as ``file:line``."""

    reason: str
    """One sentence that a person can read: why this place answered."""

    label: str
    """The request's label after joining all sources."""

    policy: str
    """Name of the policy."""

    policy_hash: str
    """SHA-256 of the policy's meaning, as hexadecimal digits."""

    attempts: list[Attempt]
    """Every place that was asked, in order."""

    egress_bytes: int = 0
    """Bytes of request bodies that left the device, all attempts together; 0 means that nothing left."""

    ttft_ms: float | None = None
    """Milliseconds from the request to its first token, everything included."""

    tokens_per_s: float | None = None
    """Tokens per second after the first one; None for answers of fewer than two tokens."""
