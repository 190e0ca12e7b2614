"""Keeps what people and models wrote out of representations: a field that holds content shows how long it is.

Representations end up in logs, in tracebacks with local variables and in crash reports. Standard library only: the
application's process imports this module.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final, TypeVar

__all__ = ["CONTENT", "Summary", "hides_content", "summary"]

_T = TypeVar("_T")

CONTENT: Final[Mapping[str, bool]] = MappingProxyType({"content": True})
"""Marks a dataclass's field: ``text: str = field(metadata=CONTENT)``."""


class Summary:
    """Stands for a value in a representation and says its kind and length only."""

    __slots__ = ("_said",)

    def __init__(self, said: str) -> None:
        self._said = said

    def __repr__(self) -> str:
        return self._said


def summary(value: object) -> object:
    """What a representation shows of a value that holds content: ``<23 characters>``, ``<2 items>``, or None for None."""
    if value is None:
        return None
    if not isinstance(value, Collection):
        return Summary(f"<a {type(value).__name__}>")
    unit = "character" if isinstance(value, str) else "byte" if isinstance(value, bytes | bytearray) else "item"
    return Summary(f"<{len(value)} {unit}{'' if len(value) == 1 else 's'}>")


def hides_content(cls: type[_T]) -> type[_T]:
    """Give a dataclass a representation in which the fields marked with :data:`CONTENT` show their length only.

    It goes above ``@dataclass``, whose ``slots=True`` makes a class anew.
    """

    def shown(self: object) -> str:
        parts = []
        for entry in dataclasses.fields(self):  # type: ignore[arg-type]  # the decorator is for dataclasses
            if entry.repr:
                value = getattr(self, entry.name, None)
                parts.append(f"{entry.name}={summary(value) if entry.metadata.get('content') else value!r}")
        return f"{type(self).__qualname__}({', '.join(parts)})"

    cls.__repr__ = shown  # type: ignore[method-assign]  # it is meant to take its place
    return cls
