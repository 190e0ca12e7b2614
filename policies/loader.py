"""Reads a policy from YAML. What it does not understand is an error with file, line, column and key, never a guess."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from policies.condition import OPERATORS, SEVERAL, Condition, Operand, compile_condition
from policies.errors import PolicyFileError
from policies.facts import CONNECTIVITY, FACT_KINDS, TIME, WEEKDAYS, FactKind
from policies.handling_keys import HANDLING_KEYS, RULE_HANDLING_KEYS, read_handling, read_rule_handling
from policies.schema import ADDRESSES, DETECTORS, DEVICE_ZONE, LOCAL, Detector, Guarantee, Labels, Policy, Rule
from policies.yaml_document import DocumentNode, did_you_mean, read_document, read_document_file

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = [
    "KEYS",
    "LONGEST_PATTERN",
    "MOST_WORDS",
    "NAME",
    "REMOTE",
    "load_policy",
    "parse_policy",
    "preset_names",
]

REMOTE = "remote"
"""Name of the remote place, unless the operator gave it another."""

_PRESETS = Path(__file__).parent / "presets"

KEYS = (
    "version", "name", "description", "labels", "zones", "detectors", "rules", "default", "guarantees", *HANDLING_KEYS,
)  # fmt: skip
"""Keys of a policy file."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""A name of a policy, label, tag, zone, detector, rule or guarantee."""

MOST_WORDS = 1000
"""Words that a detector of the policy's own may have."""

LONGEST_PATTERN = 1000
"""Characters that a detector's pattern may have."""


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
    keys = top.fields(KEYS, required=("version", "name", "labels", "zones", "default"))
    if keys["version"].integer() != 1:
        keys["version"].fail(
            f"version {keys['version'].plain()} is not understood.", "This release understands version 1."
        )
    labels = _labels(keys["labels"])
    known_places = (LOCAL, *(place for place in places if place != LOCAL))
    zones, addresses = _zones(keys["zones"], labels)
    detectors = _detectors(keys["detectors"], labels) if "detectors" in keys else ()
    known_detectors = tuple(detector.name for detector in detectors)
    handling = read_handling(keys)
    return Policy(
        name=_name(keys["name"]),
        description=keys["description"].text() if "description" in keys else "",
        labels=labels,
        zones=zones,
        addresses=addresses,
        detectors=detectors,
        rules=_rules(keys["rules"], labels, known_places, known_detectors) if "rules" in keys else (),
        guarantees=_guarantees(keys["guarantees"], labels, zones) if "guarantees" in keys else (),
        default=_words(keys["default"], known_places, "place"),
        limits=handling.limits,
        retries=handling.retries,
        breaker=handling.breaker,
        on_interrupt=handling.on_interrupt,
        hedge=handling.hedge,
        file=top.file,
        default_location=keys["default"].location,
    )


def _name(node: DocumentNode) -> str:
    name = node.text()
    if not NAME.fullmatch(name):
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
            if not NAME.fullmatch(tag):
                label_node.fail("a tag has letters, digits, '-', '_' and '.', at most 64 of them.")
            tags[tag] = label_node.choice(order, "label")
    return Labels(tuple(order), keys["unlabeled"].choice(order, "label"), tags)


def _zones(node: DocumentNode, labels: Labels) -> tuple[dict[str, str], dict[str, str]]:
    """The ceilings of the zones, and the addresses of those that say something about them."""
    zones: dict[str, str] = {}
    addresses: dict[str, str] = {}
    for zone, ceiling in node.entries().items():
        if zone == DEVICE_ZONE:
            ceiling.fail("the device sees every label and has no ceiling.", "Leave this zone out.")
        if not NAME.fullmatch(zone):
            ceiling.fail("a zone's name has letters, digits, '-', '_' and '.', at most 64 of them.")
        if ceiling.is_mapping:
            keys = ceiling.fields(("ceiling", "addresses"), required=("ceiling",))
            ceiling = keys["ceiling"]
            if "addresses" in keys:
                addresses[zone] = keys["addresses"].choice(ADDRESSES, "kind of address")
        zones[zone] = ceiling.choice(labels.order, "label")
        if zones[zone] == labels.top:
            ceiling.fail(
                f"{labels.top!r} is the most sensitive label, which never leaves the device.", "Name a lower label."
            )
    return zones, addresses


def _detectors(node: DocumentNode, labels: Labels) -> tuple[Detector, ...]:
    detectors: list[Detector] = []
    for item in node.items():
        detector = _detector(item, labels) if item.is_mapping else Detector(item.choice(DETECTORS, "detector"))
        if any(other.name == detector.name for other in detectors):
            item.fail(f"the detector {detector.name!r} stands twice.")
        detectors.append(replace(detector, location=item.location))
    return tuple(detectors)


def _detector(node: DocumentNode, labels: Labels) -> Detector:
    keys = node.fields(("name", "label", "words", "pattern"), required=("name",))
    own = [key for key in ("words", "pattern") if key in keys]
    if not own:
        name = keys["name"].choice(DETECTORS, "detector")
    else:
        name = _name(keys["name"])
        if name in DETECTORS:
            keys["name"].fail(f"{name!r} is built in and has no {own[0]} of its own.", "Choose another name.")
    if len(own) == 2:
        keys["pattern"].fail("both words and pattern are given.", "Write two detectors.")
    words = tuple(item.text() for item in keys["words"].items()) if "words" in keys else ()
    if "words" in keys and not 0 < len(words) <= MOST_WORDS:
        keys["words"].fail(f"expected 1 to {MOST_WORDS} words, found {len(words)}.")
    pattern = keys["pattern"].text() if "pattern" in keys else ""
    if len(pattern) > LONGEST_PATTERN:
        keys["pattern"].fail(f"a pattern has at most {LONGEST_PATTERN} characters.")
    label = keys["label"].choice(labels.order, "label") if "label" in keys else None
    return Detector(name, label, words, pattern)


def _guarantees(node: DocumentNode, labels: Labels, zones: Collection[str]) -> tuple[Guarantee, ...]:
    guarantees: list[Guarantee] = []
    for item in node.items():
        keys = item.fields(("name", "when", "never"), required=("name", "when", "never"))
        name = _name(keys["name"])
        if any(guarantee.name == name for guarantee in guarantees):
            keys["name"].fail(f"the name {name!r} is taken.")
        never = _words(keys["never"], zones, "zone")
        guarantees.append(Guarantee(name, _when(keys["when"], labels), never, item.location))
    return tuple(guarantees)


def _words(node: DocumentNode, known: Collection[str], what: str) -> tuple[str, ...]:
    words: list[str] = []
    for item in node.items():
        word = item.choice(tuple(known), what)
        if word in words:
            item.fail(f"the {what} {word!r} stands twice.")
        words.append(word)
    if not words:
        node.fail(f"no {what} is named.")
    return tuple(words)


def _rules(node: DocumentNode, labels: Labels, places: tuple[str, ...], detectors: tuple[str, ...]) -> tuple[Rule, ...]:
    rules: list[Rule] = []
    for item in node.items():
        keys = item.fields(("name", "when", "route", "redact", *RULE_HANDLING_KEYS), required=("name", "when", "route"))
        name = _name(keys["name"])
        if name == "default" or any(rule.name == name for rule in rules):
            keys["name"].fail(f"the name {name!r} is taken.")
        route = _words(keys["route"], places, "place")
        redact = _words(keys["redact"], detectors, "detector of this policy") if "redact" in keys else ()
        if redact and route == (LOCAL,):
            keys["redact"].fail("this rule's route never leaves the device.", "Leave redact out.")
        when = _when(keys["when"], labels)
        rules.append(Rule(name, when, route, item.location, redact, *read_rule_handling(keys, route, places)))
    return tuple(rules)


def _when(node: DocumentNode, labels: Labels) -> tuple[Condition, ...]:
    conditions = tuple(
        condition for fact, value in node.entries().items() for condition in _conditions(fact, value, labels)
    )
    if not conditions:
        node.fail("without conditions it would always match.", "Write a rule's route as 'default'.")
    return conditions


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
        if not TIME.fullmatch(node.plain()):
            node.fail(f"expected a time such as '08:30', found {node.plain()[:40]!r}.")
        return node.plain()
    return node.text()
