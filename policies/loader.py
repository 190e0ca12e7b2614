"""Reads a policy from YAML. What it does not understand is an error with file, line, column and key, never a guess."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from policies.condition import OPERATORS, SEVERAL, Condition, Operand, compile_condition
from policies.errors import PolicyFileError
from policies.facts import CONNECTIVITY, FACT_KINDS, WEEKDAYS, FactKind
from policies.schema import DEVICE_ZONE, LOCAL, Labels, Policy, Rule
from policies.yaml_document import DocumentNode, did_you_mean, read_document, read_document_file

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["DETECTORS", "REMOTE", "load_policy", "parse_policy", "preset_names"]

REMOTE = "remote"
"""Name of the remote place, unless the operator gave it another."""

DETECTORS = ("payment_card", "national_id", "iban", "email", "phone")
"""Detectors that a policy may name."""

_PRESETS = Path(__file__).parent / "presets"
_KEYS = ("version", "name", "description", "labels", "zones", "detectors", "rules", "default")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")


def preset_names() -> tuple[str, ...]:
    """Names of the policies that come with the package."""
    return tuple(sorted(path.stem for path in _PRESETS.glob("*.yaml")))


def load_policy(path_or_preset: str | Path, *, places: Collection[str] = (REMOTE,)) -> Policy:
    """Load a policy.

    Args:
        path_or_preset: Name of a preset, or path of a YAML file. A word without separator and suffix that is no preset
            is looked for as a file as well.
        places: Names that routes may use besides ``local``.

    Raises:
        PolicyFileError: There is no such file or preset, or something in it is not understood.
    """
    presets = preset_names()
    if isinstance(path_or_preset, str) and path_or_preset in presets:
        path = _PRESETS / f"{path_or_preset}.yaml"
        return _build(read_document_file(path, f"policies/presets/{path.name}"), places)
    if isinstance(path_or_preset, str) and not path_or_preset.strip():
        raise PolicyFileError("no policy is named.", did_you_mean("", presets), file="policy")
    path = Path(path_or_preset)
    if path.name == str(path_or_preset) and not path.suffix and not path.exists():
        raise PolicyFileError(
            "there is no preset and no file of this name.", did_you_mean(path.name, presets), file=path.name
        )
    return _build(read_document_file(path, str(path_or_preset)), places)


def parse_policy(text: str, *, file: str = "<policy>", places: Collection[str] = (REMOTE,)) -> Policy:
    """Build a policy from YAML text; ``file`` is what errors and locations call it.

    Raises:
        PolicyFileError: Something in it is not understood.
    """
    return _build(read_document(text, file), places)


def _build(top: DocumentNode, places: Collection[str]) -> Policy:
    keys = top.fields(_KEYS, required=("version", "name", "labels", "zones", "default"))
    if keys["version"].integer() != 1:
        keys["version"].fail(
            f"version {keys['version'].plain()} is not understood.", "This release understands version 1."
        )
    labels = _labels(keys["labels"])
    known_places = (LOCAL, *(place for place in places if place != LOCAL))
    return Policy(
        name=_name(keys["name"]),
        description=keys["description"].text() if "description" in keys else "",
        labels=labels,
        zones=_zones(keys["zones"], labels),
        detectors=_words(keys["detectors"], DETECTORS, "detector", may_be_empty=True) if "detectors" in keys else (),
        rules=_rules(keys["rules"], labels, known_places) if "rules" in keys else (),
        default=_words(keys["default"], known_places, "place"),
        file=top.file,
        default_location=keys["default"].location,
    )


def _name(node: DocumentNode) -> str:
    name = node.text()
    if not _NAME.fullmatch(name):
        node.fail("a name has letters, digits, '-', '_' and '.', at most 64 of them.")
    return name


def _labels(node: DocumentNode) -> Labels:
    keys = node.fields(("order", "unlabeled", "tags"), required=("order", "unlabeled"))
    order: list[str] = []
    for item in keys["order"].items():
        label = _name(item)
        if label in order:
            item.fail(f"the label {label!r} stands twice.")
        order.append(label)
    if not order:
        keys["order"].fail("no label is named.", "Write them from the least to the most sensitive.")
    tags: dict[str, str] = {}
    if "tags" in keys:
        for tag, label_node in keys["tags"].entries().items():
            if not _NAME.fullmatch(tag):
                label_node.fail("a tag has letters, digits, '-', '_' and '.', at most 64 of them.")
            tags[tag] = label_node.choice(order, "label")
    return Labels(tuple(order), keys["unlabeled"].choice(order, "label"), tags)


def _zones(node: DocumentNode, labels: Labels) -> dict[str, str]:
    zones: dict[str, str] = {}
    for zone, ceiling in node.entries().items():
        if zone == DEVICE_ZONE:
            ceiling.fail("the device sees every label and has no ceiling.", "Leave this zone out.")
        if not _NAME.fullmatch(zone):
            ceiling.fail("a zone's name has letters, digits, '-', '_' and '.', at most 64 of them.")
        zones[zone] = ceiling.choice(labels.order, "label")
        if zones[zone] == labels.top:
            ceiling.fail(
                f"{labels.top!r} is the most sensitive label, which never leaves the device.", "Name a lower label."
            )
    return zones


def _words(node: DocumentNode, known: Collection[str], what: str, *, may_be_empty: bool = False) -> tuple[str, ...]:
    words: list[str] = []
    for item in node.items():
        word = item.choice(tuple(known), what)
        if word in words:
            item.fail(f"the {what} {word!r} stands twice.")
        words.append(word)
    if not words and not may_be_empty:
        node.fail(f"no {what} is named.")
    return tuple(words)


def _rules(node: DocumentNode, labels: Labels, places: tuple[str, ...]) -> tuple[Rule, ...]:
    rules: list[Rule] = []
    for item in node.items():
        keys = item.fields(("name", "when", "route"), required=("name", "when", "route"))
        name = _name(keys["name"])
        if name == "default" or any(rule.name == name for rule in rules):
            keys["name"].fail(f"the name {name!r} is taken.")
        conditions = tuple(
            condition
            for fact, value in keys["when"].entries().items()
            for condition in _conditions(fact, value, labels)
        )
        if not conditions:
            keys["when"].fail("a rule without conditions would always match.", "Write its route as 'default'.")
        rules.append(Rule(name, conditions, _words(keys["route"], places, "place"), item.location))
    return tuple(rules)


def _conditions(fact: str, node: DocumentNode, labels: Labels) -> list[Condition]:
    kind = FACT_KINDS.get(fact)
    if kind is None:
        node.fail(f"unknown fact {fact[:40]!r}.", did_you_mean(fact, tuple(FACT_KINDS)))
    if node.is_mapping:
        comparisons = node.entries()
        if not comparisons:
            node.fail("no comparison is given.", f"Write one of {', '.join(OPERATORS[kind])}.")
    elif kind == "words":
        comparisons = {"contains_any" if node.is_sequence else "contains": node}
    else:
        comparisons = {"in" if node.is_sequence else "eq": node}
    conditions = []
    for operator, value in comparisons.items():
        if operator not in OPERATORS[kind]:
            value.fail(f"unknown operator {operator[:40]!r} for {fact}.", did_you_mean(operator, OPERATORS[kind]))
        operand = _operand(value, kind, operator, labels)
        conditions.append(compile_condition(fact, operator, operand, labels, value.location))
    return conditions


def _operand(node: DocumentNode, kind: FactKind, operator: str, labels: Labels) -> Operand:
    if operator not in SEVERAL:
        return _constant(node, kind, labels)
    constants = [_constant(item, kind, labels) for item in node.items()]
    if not constants:
        node.fail(f"{operator} needs at least one value.")
    return tuple(constants)  # type: ignore[return-value]  # one kind, so one type


def _constant(node: DocumentNode, kind: FactKind, labels: Labels) -> float | bool | str:
    if kind == "number":
        return node.number()
    if kind == "boolean":
        return node.boolean()
    if kind == "connectivity":
        return node.choice(CONNECTIVITY, "state")
    if kind == "weekday":
        return node.choice(WEEKDAYS, "weekday")
    if kind == "label":
        return node.choice(labels.order, "label")
    if kind == "time":
        # YAML 1.1 reads 22:00 without quotes as a number to base 60; what counts is what stands in the file.
        if not _TIME.fullmatch(node.plain()):
            node.fail(f"expected a time such as '08:30', found {node.plain()[:40]!r}.")
        return node.plain()
    return node.text()
