"""The values of a fact, cut into cells that no condition of a policy can tell apart.

A condition is true on a whole cell or on none of it, so one value stands for all of them and nothing is sampled. "Unknown" is a
cell as well: it is what every fact has that nothing asks for, since a condition on an unknown fact never holds.
"""

from __future__ import annotations

from math import floor, inf, nextafter
from typing import TYPE_CHECKING, Any

from policies.facts import CONNECTIVITY, FACT_KINDS, WEEKDAYS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from policies.condition import Condition

__all__ = ["REQUEST_FACTS", "FactCells", "holds"]

REQUEST_FACTS = ("label", "declared_label", "tags", "detected", "capabilities")
"""Facts that follow from what a request says and holds; the labels hang together, and words are cut one by one."""

_MINUTES = 24 * 60


def holds(condition: Condition, value: Any, rank: Mapping[str, int]) -> bool:
    """Whether a condition holds for a value: the same meaning as ``Condition.test``, worked out independently of it.

    Args:
        condition: The condition.
        value: The fact's value; None if unknown.
        rank: Position of each label in the policy's order.
    """
    if value is None:
        return False
    operand: Any = condition.operand
    members = operand if isinstance(operand, tuple) else (operand,)
    if condition.operator in ("contains", "contains_any"):
        return any(member in value for member in members)
    if condition.operator == "contains_all":
        return all(member in value for member in members)
    if condition.operator in ("eq", "in"):
        return value in members
    if condition.operator in ("ne", "not_in"):
        return value not in members
    if FACT_KINDS[condition.fact] == "label":
        value, operand = rank[value], rank[operand]
    if condition.operator == "lt":
        return bool(value < operand)
    if condition.operator == "le":
        return bool(value <= operand)
    if condition.operator == "gt":
        return bool(value > operand)
    return bool(value >= operand)


class FactCells:
    """The known cells of one fact that is measured: a number, a time, a truth value or a word of a fixed list.

    Args:
        fact: Its name.
        conditions: Every condition on it that plays a part.
    """

    def __init__(self, fact: str, conditions: Iterable[Condition]) -> None:
        conditions = list(conditions)
        constants: set[Any] = set()
        for condition in conditions:
            operand = condition.operand
            constants.update(operand if isinstance(operand, tuple) else (operand,))
        self.values: tuple[Any, ...] = _representatives(fact, constants)
        """One value of each cell."""
        self.all = (1 << len(self.values)) - 1
        """The set of all cells, one bit for each."""
        self._where: dict[Condition, int] = {}
        for condition in conditions:
            if condition not in self._where:
                self._where[condition] = sum(
                    1 << at for at, value in enumerate(self.values) if holds(condition, value, {})
                )

    def where(self, condition: Condition) -> int:
        """The set of the cells that a condition holds on."""
        return self._where[condition]

    def first(self, cells: int) -> Any:
        """A value of the first cell of a set that is not empty."""
        return self.values[(cells & -cells).bit_length() - 1]


def _representatives(fact: str, constants: set[Any]) -> tuple[Any, ...]:
    kind = FACT_KINDS[fact]
    if kind == "boolean":
        return (True, False)
    if kind == "connectivity":
        return CONNECTIVITY
    if kind == "weekday":
        return WEEKDAYS
    if kind == "time":
        return _times(constants)
    return _numbers(sorted(constants))


def _times(constants: Iterable[str]) -> tuple[str, ...]:
    """Each constant, and the first minute of each gap between them that holds one."""
    minutes = {int(time[:2]) * 60 + int(time[3:]) for time in constants}
    wanted = minutes | {0} | {minute + 1 for minute in minutes if minute + 1 < _MINUTES}
    return tuple(f"{minute // 60:02d}:{minute % 60:02d}" for minute in sorted(wanted))


def _numbers(constants: list[float]) -> tuple[float, ...]:
    """Each constant, and a number out of each open interval beside them; a whole one where there is one."""
    values: list[float] = []
    for at, low in enumerate(constants):
        if at == 0:
            values.append(low - 1 if low - 1 < low else nextafter(low, -inf))
        values.append(low)
        if at == len(constants) - 1:
            values.append(low + 1 if low + 1 > low else nextafter(low, inf))
        elif (between := _between(low, constants[at + 1])) is not None:
            values.append(between)
    return tuple(values) or (0,)


def _between(low: float, high: float) -> float | None:
    whole = floor(low) + 1
    if low < whole < high:
        return whole
    for candidate in (low / 2 + high / 2, nextafter(low, inf)):
        if low < candidate < high:
            return candidate
    return None
