"""What OpenAI asks of a JSON Schema that answers have to keep to strictly (its guide "Structured outputs", supported schemas)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hybridllm.errors import BadRequest
from hybridllm.types.shape import field_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["check_strict"]

# Keywords whose value is a schema, a list of schemas, and a mapping from names to schemas (JSON Schema 2020-12, core and applicators).
_SCHEMA = ("items", "additionalProperties", "contains")
_SCHEMAS = ("anyOf", "prefixItems")
_NAMED_SCHEMAS = ("properties", "$defs", "definitions")
_NOT_STRICT = (
    "allOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "dependentRequired",
    "dependentSchemas",
    "patternProperties",
)


def check_strict(schema: Mapping[str, Any], where: str) -> None:
    """Check that every object of a schema names all its properties as required and allows no others.

    Args:
        schema: The schema; it is JSON already.
        where: Its path, for errors.

    Raises:
        BadRequest: It cannot be strict; the message names the keyword and its path.
    """
    if "anyOf" in schema or schema.get("type", "object") != "object":
        raise BadRequest(f"{where} is strict, and its root is not an object.", 'Give it "type": "object".', field=where)
    for path, found in _schemas(schema, where):
        for keyword in _NOT_STRICT:
            if keyword in found:
                field = f"{path}.{keyword}"
                raise BadRequest(f"{field} cannot be part of a strict schema.", "Leave out strict, or it.", field=field)
        properties = found.get("properties")
        kinds = found.get("type")
        is_object = kinds == "object" or (isinstance(kinds, list) and "object" in kinds) or properties is not None
        if not is_object:
            continue
        if found.get("additionalProperties") is not False:
            raise BadRequest(
                f"{path} is an object of a strict schema without additionalProperties: false.", "Add it.", field=path
            )
        names = list(properties) if isinstance(properties, dict) else []
        required = found.get("required")
        left = [name for name in names if not isinstance(required, list) or name not in required]
        if left:
            raise BadRequest(
                f"{path}.required does not name {field_name(left[0])}, and a strict schema requires all properties.",
                "Add it, and allow null where it may be absent.",
                field=f"{path}.required",
            )


def _schemas(schema: object, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every schema inside a schema, with its path."""
    if not isinstance(schema, dict):
        return
    yield where, schema
    for keyword in _SCHEMA:
        yield from _schemas(schema.get(keyword), f"{where}.{keyword}")
    for keyword in _SCHEMAS:
        options = schema.get(keyword)
        for index, option in enumerate(options if isinstance(options, list) else ()):
            yield from _schemas(option, f"{where}.{keyword}[{index}]")
    for keyword in _NAMED_SCHEMAS:
        named = schema.get(keyword)
        for name, option in (named if isinstance(named, dict) else {}).items():
            yield from _schemas(option, f"{where}.{keyword}.{field_name(name)}")
