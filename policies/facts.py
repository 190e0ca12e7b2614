"""The facts that a decision is made from: plain values that somebody else measured, each of which may be unknown."""

from __future__ import annotations

import re
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal

__all__ = ["CONNECTIVITY", "FACT_KINDS", "TIME", "WEEKDAYS", "FactError", "FactKind", "FactValues", "Facts", "Place"]

CONNECTIVITY = ("online", "degraded", "captive", "offline")
"""States of the way to the remote; ``captive`` means that somebody else answers in its name."""

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
"""Names of the days of the week."""

FactKind = Literal["number", "boolean", "connectivity", "weekday", "time", "label", "words"]
"""What a fact's value is, and so which operators a condition on it may use."""

TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
"""A time of day."""

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

    declared_label: str | None = None
    """The label that everybody but the detectors gives: what redaction cannot get below. None counts as the most sensitive
    where a place is to get the redacted text."""

    tags: frozenset[str] | None = None
    """Tags that the caller gave."""

    detected: frozenset[str] | None = None
    """Names of the detectors that found something."""

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

    @classmethod
    def from_dict(cls, values: object) -> Facts:
        """Facts from what ``to_dict`` gives, such as the line of a decision log; what is missing or null is unknown.

        Raises:
            FactError: Something in it is not a fact; names which, and what was expected.
        """
        if not isinstance(values, dict):
            raise FactError(f"facts are a {type(values).__name__}, expected an object.")
        known: dict[str, Any] = {}
        for name, value in values.items():
            if name == "places":
                known["places"] = _places_from(value)
            elif name not in FACT_KINDS:
                raise FactError(f"{_shown(name)} is not a fact.")
            elif value is not None:
                known[name] = _fact_from(name, FACT_KINDS[name], value)
        return cls(**known)


class FactError(ValueError):
    """Values that are no facts; the message is one sentence."""


def _fact_from(name: str, kind: FactKind, value: object) -> Any:
    if kind == "number":
        right = isinstance(value, float) or _is_whole_number(value)
    elif kind == "boolean":
        right = isinstance(value, bool)
    elif kind == "words":
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise FactError(f"{name} is not a list of words.")
        return frozenset(value)
    elif kind == "time":
        right = isinstance(value, str) and TIME.fullmatch(value) is not None
    else:
        choices = {"connectivity": CONNECTIVITY, "weekday": WEEKDAYS}.get(kind)
        right = isinstance(value, str) and (choices is None or value in choices)
    if not right:
        raise FactError(f"{name} is not a {kind}.")
    return value


def _is_whole_number(value: object) -> bool:
    # One of thousands of digits can neither be compared with the others nor be written in a reason.
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _shown(name: object) -> str:
    return repr(name[:40]) if isinstance(name, str) else f"a {type(name).__name__}"


def _places_from(value: object) -> tuple[Place, ...]:
    if not isinstance(value, list):
        raise FactError("places is not a list.")
    places = []
    for index, given in enumerate(value):
        if not isinstance(given, dict):
            raise FactError(f"places[{index}] is not an object.")
        fields = dict(given)
        for name in fields:
            if name not in Place.__dataclass_fields__:
                raise FactError(f"places[{index}] has an unknown field {_shown(name)}.")
        for name, required in (("name", True), ("zone", True), ("unavailable", False)):
            if not isinstance(fields.get(name, None if required else ""), str):
                raise FactError(f"places[{index}].{name} is not text.")
        context = fields.get("context_tokens")
        if context is not None and not _is_whole_number(context):
            raise FactError(f"places[{index}].context_tokens is not a whole number.")
        capabilities = fields.get("capabilities")
        if capabilities is not None:
            fields["capabilities"] = _fact_from(f"places[{index}].capabilities", "words", capabilities)
        places.append(Place(**fields))
    return tuple(places)


FACT_KINDS: dict[str, FactKind] = {
    "label": "label",
    "declared_label": "label",
    "tags": "words",
    "detected": "words",
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
