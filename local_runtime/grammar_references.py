"""Schemas within a schema: where they stand, where a ``$ref`` leads, and what follows for answers to them."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["TYPES", "References", "path_name", "subschemas"]

TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")

# Keywords whose value is a schema, a list of schemas, or a mapping to schemas.
_SCHEMA = ("items", "additionalProperties")
_SCHEMAS = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions")

_NAME = re.compile(r"\$?[A-Za-z_][A-Za-z0-9_-]{0,39}")
_FURTHEST = 12  # references and branches that a comparison of two schemas follows


def path_name(key: str) -> str:
    """A key for a path. One that is no name in a program may be a text that slipped into its place."""
    return key if _NAME.fullmatch(key) else "<key>"


def subschemas(schema: object, where: str = "schema", pointer: str = "") -> Iterator[tuple[str, str, Any]]:
    """Every schema in a schema, itself first, as ``(path for people, JSON pointer, schema)``; what stands there is unchecked."""
    yield where, pointer, schema
    if not isinstance(schema, dict):
        return
    for keyword, value in schema.items():
        below = f"{pointer}/{keyword}"
        if keyword in _SCHEMA:
            yield from subschemas(value, f"{where}.{keyword}", below)
        elif keyword in _SCHEMAS and isinstance(value, list):
            for index, item in enumerate(value):
                yield from subschemas(item, f"{where}.{keyword}[{index}]", f"{below}/{index}")
        elif keyword in _NAMED_SCHEMAS and isinstance(value, dict):
            for name, item in value.items():
                escaped = name.replace("~", "~0").replace("/", "~1")
                yield from subschemas(item, f"{where}.{keyword}.{path_name(name)}", f"{below}/{escaped}")


class References:
    """Where the local references of a document lead.

    Args:
        root: The document.
    """

    def __init__(self, root: object) -> None:
        self._root = root
        self._targets: dict[str, Any] = {}
        self._used: list[str] = []
        for _, pointer, schema in subschemas(root):
            self._targets[pointer] = schema
            if isinstance(schema, dict):
                if isinstance(anchor := schema.get("$anchor"), str):
                    self._targets[anchor] = schema
                if isinstance(reference := schema.get("$ref"), str):
                    self._used.append(reference)

    def target(self, reference: str) -> dict[str, Any] | bool | None:
        """The schema that ``#``, ``#/$defs/name`` or ``#anchor`` names; None if there is none."""
        found = self._targets.get(unquote(reference[1:])) if reference.startswith("#") else None
        return found if isinstance(found, dict | bool) else None

    # ---- answers that come to an end ----

    def is_finite(self) -> bool:
        """Whether some answer to the document has an end; of two properties that need each other none has."""
        finite: set[str] = set()
        order = list(dict.fromkeys(self._used))
        found = True
        while found:
            found = False
            order.reverse()  # so that a chain is gone through in two rounds, whichever way it runs
            for reference in order:
                if reference not in finite and self._ends(self.target(reference), finite):
                    finite.add(reference)
                    found = True
        return self._ends(self._root, finite)

    def _ends(self, schema: object, finite: set[str]) -> bool:
        """Whether an answer to the schema can end if these references can."""
        if not isinstance(schema, dict):
            return schema is not False
        if "$ref" in schema and schema["$ref"] not in finite:
            return False
        if not all(self._ends(branch, finite) for branch in schema.get("allOf", ())):
            return False
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema and not any(self._ends(branch, finite) for branch in schema[keyword]):
                return False
        kinds = _kinds(schema)
        if "const" in schema or "enum" in schema or kinds - {"array", "object"}:
            return True
        return ("object" in kinds and self._object_ends(schema, finite)) or (
            "array" in kinds and self._array_ends(schema, finite)
        )

    def _object_ends(self, schema: Mapping[str, Any], finite: set[str]) -> bool:
        properties = schema.get("properties", {})
        others = schema.get("additionalProperties", True)
        if schema.get("patternProperties"):
            others = True  # the compiler finds out
        return all(self._ends(properties.get(name, others), finite) for name in schema.get("required", ()))

    def _array_ends(self, schema: Mapping[str, Any], finite: set[str]) -> bool:
        least = schema.get("minItems", 0)
        first = schema.get("prefixItems", [])
        if not all(self._ends(item, finite) for item in first[:least]):
            return False
        return least <= len(first) or self._ends(schema.get("items", True), finite)

    # ---- answers that only one of two schemas has ----

    def are_disjoint(self, branches: Sequence[object]) -> bool:
        """Whether it can be shown that no answer is one to two of these schemas."""
        return all(self._disjoint(one, other, 0) for one, other in itertools.combinations(branches, 2))

    def _disjoint(self, one: object, other: object, depth: int) -> bool:
        if one is False or other is False:
            return True
        if depth > _FURTHEST:
            return False
        ones, others = list(self._conjuncts(one, depth)), list(self._conjuncts(other, depth))
        if any(self._plainly_disjoint(a, b, depth) for a in ones for b in others):
            return True
        return any(self._all_branches_disjoint(a, other, depth) for a in ones) or any(
            self._all_branches_disjoint(b, one, depth) for b in others
        )

    def _all_branches_disjoint(self, one: Mapping[str, Any], other: object, depth: int) -> bool:
        return any(
            keyword in one and all(self._disjoint(branch, other, depth + 1) for branch in one[keyword])
            for keyword in ("anyOf", "oneOf")
        )

    def _conjuncts(self, schema: object, depth: int) -> Iterator[Mapping[str, Any]]:
        """Schemas all of which an answer to this one keeps to."""
        if not isinstance(schema, dict) or depth > _FURTHEST:
            return
        yield schema
        if "$ref" in schema:
            yield from self._conjuncts(self.target(schema["$ref"]), depth + 1)
        for branch in schema.get("allOf", ()):
            yield from self._conjuncts(branch, depth + 1)

    def _plainly_disjoint(self, one: Mapping[str, Any], other: Mapping[str, Any], depth: int) -> bool:
        common = _kinds(one) & _kinds(other)
        if not common:
            return True
        values, other_values = _values(one), _values(other)
        if values is not None and other_values is not None:
            return not any(_same(a, b) for a in values for b in other_values)
        if common <= {"integer", "number"}:
            return _below(one, other) or _below(other, one)
        if common != {"object"}:
            return False
        if _forbids(one, other.get("required", ())) or _forbids(other, one.get("required", ())):
            return True
        properties, others = one.get("properties", {}), other.get("properties", {})
        # A property that one of the two requires is there in every answer to that one.
        names = {*one.get("required", ()), *other.get("required", ())} & properties.keys() & others.keys()
        return any(self._disjoint(properties[name], others[name], depth + 1) for name in sorted(names))


def _kinds(schema: Mapping[str, Any]) -> set[str]:
    """Types of the values that a schema's own keywords allow; with ``number`` goes ``integer``."""
    said = schema.get("type", TYPES)
    kinds = {said} if isinstance(said, str) else set(said)
    if "number" in kinds:
        kinds.add("integer")
    values = _values(schema)
    if values is not None:
        kinds &= set().union(*map(_kinds_of_value, values))
    return kinds


def _kinds_of_value(value: object) -> set[str]:
    if isinstance(value, bool):
        return {"boolean"}
    if isinstance(value, int | float):
        return {"number", "integer"} if value == int(value) else {"number"}
    if isinstance(value, str):
        return {"string"}
    return {"array" if isinstance(value, list) else "object" if isinstance(value, dict) else "null"}


def _forbids(schema: Mapping[str, Any], names: Sequence[str]) -> bool:
    """Whether an object that keeps to a schema lacks one of these properties."""
    if schema.get("additionalProperties") is not False or schema.get("patternProperties"):
        return False
    return any(name not in schema.get("properties", {}) for name in names)


def _values(schema: Mapping[str, Any]) -> list[Any] | None:
    """The only values that a schema allows, if it names them."""
    if "const" in schema:
        return [schema["const"]]
    return schema.get("enum")


def _same(one: object, other: object) -> bool:
    """Equality of JSON: 1 is 1.0, and true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return one == other


def _below(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether every number of ``one`` is less than every number of ``other``."""
    most = [(one[keyword], keyword == "maximum") for keyword in ("maximum", "exclusiveMaximum") if keyword in one]
    least = [(other[keyword], keyword == "minimum") for keyword in ("minimum", "exclusiveMinimum") if keyword in other]
    return any(
        high < low or (high == low and not (high_is_in and low_is_in))
        for high, high_is_in in most
        for low, low_is_in in least
    )
