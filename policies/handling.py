"""How a request is handled on its way: how long a place may take, what is repeated, what happens when it breaks off.

None of this decides who may see a request.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

__all__ = [
    "ON_INTERRUPT",
    "PERCENTILES",
    "Breaker",
    "Hedge",
    "HedgeAfter",
    "Limits",
    "OnInterrupt",
    "Retries",
    "differing",
    "hedge_values",
]

OnInterrupt = Literal["continue", "restart", "error"]
"""What happens when a place fails after a part of its answer was given out."""

ON_INTERRUPT: tuple[OnInterrupt, ...] = ("continue", "restart", "error")
"""``continue``: the next place goes on from the text that was given out; ``restart``: it begins anew, and the consumer is told
that what it has is void; ``error``: the failure is the consumer's to know."""

PERCENTILES = ("p50", "p75", "p90", "p95", "p99")
"""Percentiles of a place's time to the first token that a hedge may wait for."""

HedgeAfter = Literal["p50", "p75", "p90", "p95", "p99"]
"""One of ``PERCENTILES``."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a remote may take, in seconds."""

    connect_s: float = 2.0
    """Longest wait for a connection: name lookup and all addresses together, and as long again for TLS."""

    first_token_s: float = 10.0
    """Longest wait for the first token after that."""

    gap_s: float = 5.0
    """Longest wait between two pieces of an answer."""


@dataclass(frozen=True, slots=True)
class Retries:
    """What is repeated at one remote within one attempt."""

    most: int = 2
    """Further tries after one that may help to repeat; the first token ends them."""

    budget: float = 0.2
    """Retries for each first try, on average, so that an outage is not hammered; a few are always allowed."""


@dataclass(frozen=True, slots=True)
class Breaker:
    """When a remote that fails is left alone for a while."""

    failures: int = 5
    """Failures in a row that open the breaker."""

    open_s: float = 10.0
    """How long it stays open before one probe is let through; doubled with each probe that fails, up to ten times this."""

    successes: int = 2
    """Successes in a row that close it again."""


@dataclass(frozen=True, slots=True)
class Hedge:
    """When the second candidate is asked before the first has failed."""

    after: HedgeAfter | float = "p95"
    """A percentile of the first place's time to the first token, or seconds."""

    budget: float = 0.1
    """Hedges for each request, on average: the most that they may add to the load."""


def differing(settings: Limits | Retries | Breaker) -> dict[str, float]:
    """The values that are not the defaults, as plain values; equal numbers come out alike, however they were written."""
    default = type(settings)()
    return {
        field.name: _plain(getattr(settings, field.name), whole=isinstance(getattr(default, field.name), int))
        for field in fields(settings)
        if getattr(settings, field.name) != getattr(default, field.name)
    }


def hedge_values(hedge: Hedge | None) -> dict[str, Any] | Literal[False]:
    """A hedge as plain values, ``False`` for none."""
    if hedge is None:
        return False
    after = hedge.after if isinstance(hedge.after, str) else _plain(hedge.after)
    return {"after": after, "budget": _plain(hedge.budget)}


def _plain(number: float, *, whole: bool = False) -> float:
    return int(number) if whole else float(number) + 0.0  # -0.0 becomes 0.0
