"""How a policy's file says how requests are handled: the keys, the numbers that they take, and how they are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from policies.handling import ON_INTERRUPT, PERCENTILES, Breaker, Hedge, Limits, OnInterrupt, Retries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from policies.yaml_document import DocumentNode

__all__ = [
    "HANDLING_KEYS",
    "RANGES",
    "RULE_HANDLING_KEYS",
    "SECONDS",
    "Handling",
    "Range",
    "read_handling",
    "read_rule_handling",
]

RULE_HANDLING_KEYS = ("on_interrupt", "hedge")
"""Keys of a rule that say how its requests are handled."""

HANDLING_KEYS = ("limits", "retries", "breaker", *RULE_HANDLING_KEYS)
"""Keys of a policy that do."""

_Settings = TypeVar("_Settings", Limits, Retries, Breaker)


@dataclass(frozen=True, slots=True)
class Range:
    """Which numbers a key takes."""

    least: float
    """The smallest one."""

    most: float
    """The largest one."""

    what: str
    """What they are."""

    above: bool = False
    """Whether they have to be above ``least`` instead."""

    whole: bool = False
    """Whether they have to be whole."""

    def __str__(self) -> str:
        """The range in words."""
        if self.above:
            return f"{self.what} above {self.least:g}, at most {self.most:g}"
        return f"{self.what} from {self.least:g} to {self.most:g}"

    def __contains__(self, number: float) -> bool:
        """Whether a number is one of them, apart from being whole."""
        return (number > self.least if self.above else number >= self.least) and number <= self.most


SECONDS = Range(0, 3600, "seconds", above=True)
"""Any wait; above an hour it is a mistake of the unit."""

_SHARE = Range(0, 1, "a number")
_IN_A_ROW = Range(1, 100, "a whole number", whole=True)

RANGES: dict[str, dict[str, Range]] = {
    "limits": {"connect_s": SECONDS, "first_token_s": SECONDS, "gap_s": SECONDS},
    "retries": {"most": Range(0, 10, "a whole number", whole=True), "budget": _SHARE},
    "breaker": {"failures": _IN_A_ROW, "open_s": SECONDS, "successes": _IN_A_ROW},
    "hedge": {"after": SECONDS, "budget": Range(0, 1, "a number", above=True)},
}
"""For each mapping the numbers that its keys take; ``hedge.after`` takes one of ``PERCENTILES`` as well."""


@dataclass(frozen=True, slots=True)
class Handling:
    """What a policy says of handling; fields as in ``Policy``."""

    limits: Limits
    retries: Retries
    breaker: Breaker
    on_interrupt: OnInterrupt
    hedge: Hedge | None


def read_handling(keys: Mapping[str, DocumentNode]) -> Handling:
    """Read the keys of a policy that say how requests are handled; what is left out has its default.

    Raises:
        PolicyFileError: One of them is not understood.
    """
    return Handling(
        limits=_settings("limits", keys, Limits),
        retries=_settings("retries", keys, Retries),
        breaker=_settings("breaker", keys, Breaker),
        on_interrupt=_on_interrupt(keys["on_interrupt"]) if "on_interrupt" in keys else "continue",
        hedge=(_hedge(keys["hedge"]) or None) if "hedge" in keys else None,
    )


def read_rule_handling(
    keys: Mapping[str, DocumentNode], route: tuple[str, ...], places: Sequence[str]
) -> tuple[OnInterrupt | None, Hedge | Literal[False] | None]:
    """Read the same of a rule: None for what it does not say.

    Args:
        keys: The rule's.
        route: Its route.
        places: Places that a route may name.

    Raises:
        PolicyFileError: One of them is not understood, or there is no second place to ask early.
    """
    hedge = _hedge(keys["hedge"]) if "hedge" in keys else None
    if hedge and len(route) == 1:
        second = next((place for place in places if place != route[0]), "")
        keys["hedge"].fail(
            "this rule's route has no second place that could be asked early.",
            f"Write route: [{route[0]}, {second}], or leave hedge out." if second else "Leave hedge out.",
        )
    return _on_interrupt(keys["on_interrupt"]) if "on_interrupt" in keys else None, hedge


def _settings(key: str, keys: Mapping[str, DocumentNode], kind: type[_Settings]) -> _Settings:
    if key not in keys:
        return kind()
    ranges = RANGES[key]
    return kind(**{name: _number(node, ranges[name]) for name, node in keys[key].fields(tuple(ranges)).items()})


def _on_interrupt(node: DocumentNode) -> OnInterrupt:
    return cast("OnInterrupt", node.choice(ON_INTERRUPT, "value"))


def _hedge(node: DocumentNode) -> Hedge | Literal[False]:
    if not node.is_mapping:
        mend = "Write a mapping, such as {after: p95}, or false for no hedge."
        if not node.is_boolean:
            node.fail("a hedge is a mapping or false.", mend)
        if node.boolean():
            node.fail("it is not said when the second place is asked.", mend)
        return False
    ranges = RANGES["hedge"]
    said = {
        name: _after(value, ranges[name])
        if name == "after"
        else _number(value, ranges[name], "Write hedge: false for none.")
        for name, value in node.fields(tuple(ranges)).items()
    }
    return Hedge(**said)


def _after(node: DocumentNode, seconds: Range) -> Any:
    written = node.plain()
    if node.is_number:
        return _number(node, seconds)
    if written not in PERCENTILES:
        shown = written if len(written) <= 40 else f"{written[:40]}…"
        node.fail(f"expected {seconds}, or a percentile, found {shown!r}.", f"Known: {', '.join(PERCENTILES)}.")
    return written


def _number(node: DocumentNode, allowed: Range, mend: str = "") -> Any:
    number = node.integer() if allowed.whole else float(node.number())
    if number not in allowed:
        node.fail(f"expected {allowed}, found {node.plain()[:40]}.", mend)
    return number
