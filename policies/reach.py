"""What a zone may see, and what a rule lets it see: read from the policy's values only, not through the decision's code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from policies.schema import DEVICE_ZONE, LOCAL

if TYPE_CHECKING:
    from policies.request_fold import Labelled
    from policies.schema import Policy

__all__ = ["FULL", "NOTHING", "REDACTED", "ceilings", "location_of", "name_of", "reach", "remotes", "route_of"]

NOTHING, REDACTED, FULL = range(3)
"""What a zone gets of a request, from the least to the most."""


def ceilings(policy: Policy) -> dict[str, int]:
    """Rank of the most sensitive label that each zone may see; -1 for nothing, since the top label never leaves."""
    rank = policy.labels.rank
    return {
        zone: min(rank[ceiling], len(rank) - 2)
        for zone, ceiling in policy.zones.items()
        if ceiling in rank and zone != DEVICE_ZONE
    }


def reach(ceiling: int, seen: Labelled) -> int:
    """What a zone with a ceiling gets of a request, if a place in it is on the route."""
    if seen.refused:
        return NOTHING
    if seen.label <= ceiling:
        return FULL
    return REDACTED if seen.redacted is not None and seen.redacted <= ceiling else NOTHING


def route_of(policy: Policy, outcome: int | None) -> tuple[str, ...]:
    """The route of a rule, or of the default."""
    return policy.default if outcome is None else policy.rules[outcome].route


def remotes(policy: Policy, outcome: int | None) -> tuple[str, ...]:
    """The places of a route that are not the device."""
    return tuple(place for place in route_of(policy, outcome) if place != LOCAL)


def name_of(policy: Policy, outcome: int | None) -> str:
    """The name of a rule, or ``default``."""
    return "default" if outcome is None else policy.rules[outcome].name


def location_of(policy: Policy, outcome: int | None) -> str:
    """Where a rule stands, or the default."""
    return policy.default_location if outcome is None else policy.rules[outcome].location
