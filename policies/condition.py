"""Conditions on facts, compiled to closures once so that a decision costs microseconds.

A condition on an unknown fact is never true, whichever operator it has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from policies.errors import printable
from policies.facts import FACT_KINDS, FactKind, FactValues

if TYPE_CHECKING:
    from policies.schema import Labels

__all__ = ["OPERATORS", "SEVERAL", "Condition", "Operand", "compile_condition"]

Operand = float | bool | str | tuple[float, ...] | tuple[str, ...]
"""What a fact is compared with."""

_Test = Callable[[FactValues], bool]

_EQUALITY = ("eq", "ne", "in", "not_in")
_ORDER = ("lt", "le", "gt", "ge")

OPERATORS: dict[FactKind, tuple[str, ...]] = {
    "number": (*_ORDER, *_EQUALITY),
    "boolean": ("eq", "ne"),
    "connectivity": _EQUALITY,
    "weekday": _EQUALITY,
    "time": (*_ORDER, "eq", "ne"),
    "label": (*_ORDER, *_EQUALITY),
    "words": ("contains", "contains_any", "contains_all"),
}
"""Operators that a condition may use, by the kind of the fact. The order of labels is the policy's."""

SEVERAL = frozenset({"in", "not_in", "contains_any", "contains_all"})
"""Operators that take a list."""


@dataclass(frozen=True)
class Condition:
    """One fact compared with a constant."""

    fact: str
    """Name of the fact."""

    operator: str
    """One of ``OPERATORS`` for the fact's kind."""

    operand: Operand
    """The constant."""

    test: _Test = field(compare=False, repr=False)
    """Whether the condition holds for the values of some facts (``Facts.values()``)."""

    location: str = field(default="", compare=False)
    """Where it stands, as ``file:line``."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values; numbers that are equal are written alike."""
        operand = self.operand
        plain = [_plain(constant) for constant in operand] if isinstance(operand, tuple) else _plain(operand)
        return {"fact": self.fact, "operator": self.operator, "operand": plain}

    def __str__(self) -> str:
        operand = self.to_dict()["operand"]
        shown = f"[{', '.join(map(str, operand))}]" if isinstance(operand, list) else str(operand)
        return printable(f"{self.fact} {self.operator} {shown}")


def _plain(constant: float | bool | str) -> float | bool | str:
    # 512 and 512.0 mean the same, so they have to look the same to the policy's hash.
    return int(constant) if isinstance(constant, float) and constant.is_integer() else constant


def compile_condition(fact: str, operator: str, operand: Operand, labels: Labels, location: str = "") -> Condition:
    """Build a condition whose operator and operand are known to fit the fact's kind."""
    return Condition(fact, operator, operand, _compile(fact, operator, operand, labels), location)


_POSITION = {fact: index for index, fact in enumerate(FACT_KINDS)}


def _compile(fact: str, operator: str, operand: Any, labels: Labels) -> _Test:
    if FACT_KINDS[fact] == "label" and operator in _ORDER:
        # The labels on the right side of an order are few, so the order becomes a set.
        limit = _COMPILERS[operator](0, labels.rank[operand])
        return _in(_POSITION[fact], tuple(label for label, rank in labels.rank.items() if limit((rank,))))
    return _COMPILERS[operator](_POSITION[fact], operand)


# One closure for each operator, written out: an extra call for each comparison would double the time of a decision.
# Not-a-number counts as unknown; only `ne` and `not_in` have to ask, since everything else is false for it anyway.


def _lt(at: int, operand: Any) -> _Test:
    return lambda values: (value := values[at]) is not None and value < operand


def _le(at: int, operand: Any) -> _Test:
    return lambda values: (value := values[at]) is not None and value <= operand


def _gt(at: int, operand: Any) -> _Test:
    return lambda values: (value := values[at]) is not None and value > operand


def _ge(at: int, operand: Any) -> _Test:
    return lambda values: (value := values[at]) is not None and value >= operand


def _eq(at: int, operand: Any) -> _Test:
    return lambda values: bool(values[at] == operand)


def _ne(at: int, operand: Any) -> _Test:
    return lambda values: (value := values[at]) is not None and value == value and value != operand


def _in(at: int, operand: Any) -> _Test:
    members = frozenset(operand)
    return lambda values: values[at] in members


def _not_in(at: int, operand: Any) -> _Test:
    members = frozenset(operand)
    return lambda values: (value := values[at]) is not None and value == value and value not in members


def _contains(at: int, operand: Any) -> _Test:
    return lambda values: (value := values[at]) is not None and operand in value


def _contains_any(at: int, operand: Any) -> _Test:
    members = frozenset(operand)
    return lambda values: (value := values[at]) is not None and not members.isdisjoint(value)


def _contains_all(at: int, operand: Any) -> _Test:
    members = frozenset(operand)
    return lambda values: (value := values[at]) is not None and members.issubset(value)


_COMPILERS: dict[str, Callable[[int, Any], _Test]] = {
    "lt": _lt,
    "le": _le,
    "gt": _gt,
    "ge": _ge,
    "eq": _eq,
    "ne": _ne,
    "in": _in,
    "not_in": _not_in,
    "contains": _contains,
    "contains_any": _contains_any,
    "contains_all": _contains_all,
}
