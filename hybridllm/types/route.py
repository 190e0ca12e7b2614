"""Which way an answer came, and why."""

from __future__ import annotations

from typing import Literal

from hybridllm.types.completion_usage import CompletionUsage  # noqa: TC001 - pydantic reads the annotations
from hybridllm.types.model import Model

__all__ = ["Attempt", "Handover", "Route", "Why"]

Why = Literal["first", "fallback", "hedge", "continue", "restart"]
"""Why a place was asked: it stood first; the one before it failed before its first token; the one before it was late; the one
before it broke off, and this one goes on from there; or begins anew."""


class Attempt(Model):
    """One place that was asked."""

    place: str
    """``local``, or the name of the remote."""

    why: Why = "first"
    """Why it was asked."""

    outcome: Literal["served", "failed", "cancelled", "running"]
    """``served``: this place's answer is the answer; ``cancelled``: it was stopped, by the caller or because another place was
    faster; ``running``: the stream has not ended yet."""

    error: str | None = None
    """Class and message of the error that ended a failed attempt; never any content."""

    started_s: float
    """When it began, in seconds after the request came in."""

    duration_s: float | None = None
    """How long it took, in seconds; None while it runs."""

    error_type: str | None = None
    """Class of that error, for programs."""

    ttft_ms: float | None = None
    """Milliseconds from its beginning to its first token; None if there was none."""

    usage: CompletionUsage | None = None
    """Tokens of this place alone. Where an attempt broke off, the prompt's are unknown and 0, and the answer's are counted as they
    came; in an attempt that went on from another's text, that text belongs to the prompt."""

    tries: int = 1
    """How often the place was asked within this attempt, retries included."""

    egress_bytes: int = 0
    """Bytes of request bodies that left the device in this attempt."""


class Handover(Model):
    """An answer moved from one place to another after a part of it was given out."""

    kind: Literal["continue", "restart"]
    """``continue``: what follows goes on from what was given out; ``restart``: what was given out is void."""

    from_place: str
    """Who broke off."""

    to_place: str
    """Who goes on."""

    reason: str
    """Class of the error that the first one ended with."""


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
