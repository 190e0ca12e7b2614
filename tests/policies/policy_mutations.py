"""Small changes to a policy's file: those that a person makes by mistake."""

from __future__ import annotations

import copy
import json
from itertools import combinations

from policies import DETECTORS, parse_policy

_OPERATORS = {
    "lt": ("le", "gt", "ne"),
    "le": ("lt", "ge"),
    "gt": ("ge", "lt"),
    "ge": ("gt", "le", "eq"),
    "eq": ("ne",),
    "ne": ("eq",),
    "in": ("not_in",),
    "not_in": ("in",),
    "contains_any": ("contains_all",),
    "contains_all": ("contains_any",),
}


def policy_from(document, file="mutant.yaml"):
    return parse_policy(json.dumps(document), file=file)  # JSON is YAML, and has no aliases for what stands twice


def mutants(document):
    """Pairs of a sentence and a changed document."""
    for sentence, change in _changes(document):
        changed = copy.deepcopy(document)
        change(changed)
        if changed != document:
            yield sentence, changed


def _put(where, key, value):
    return lambda document: where(document).__setitem__(key, value)


def _drop(where, key):
    return lambda document: where(document).__delitem__(key)


def _swap(where, first, second):
    def change(document):
        items = where(document)
        items[first], items[second] = items[second], items[first]

    return change


def _changes(document):
    yield from _of_labels(document)
    yield from _of_zones(document)
    yield from _of_detectors(document)
    rules = document.get("rules", [])
    for first, second in combinations(range(len(rules)), 2):
        yield f"swap rules {first} and {second}", _swap(lambda it: it["rules"], first, second)
    for at, rule in enumerate(rules):
        yield f"drop rule {at}", _drop(lambda it: it["rules"], at)
        yield from _of_route(f"rule {at}", lambda it, at=at: it["rules"][at], "route", rule["route"])
        yield from _of_when(f"rule {at}", lambda it, at=at: it["rules"][at]["when"], rule["when"])
        if "redact" in rule:
            yield f"drop redact of rule {at}", _drop(lambda it, at=at: it["rules"][at], "redact")
            for name in rule["redact"]:
                fewer = [other for other in rule["redact"] if other != name]
                if fewer:
                    yield f"redact no {name} in rule {at}", _put(lambda it, at=at: it["rules"][at], "redact", fewer)
        elif document.get("detectors") and rule["route"] != ["local"]:
            names = [it if isinstance(it, str) else it["name"] for it in document["detectors"]]
            yield f"redact in rule {at}", _put(lambda it, at=at: it["rules"][at], "redact", names[:1])
        if len(rule["route"]) == 2:
            yield f"hedge in rule {at}", _put(lambda it, at=at: it["rules"][at], "hedge", {"after": 0.5})
    yield from _of_route("the default", lambda it: it, "default", document["default"])
    yield from _of_handling(document)
    for at in range(len(document.get("guarantees", []))):
        yield f"drop guarantee {at}", _drop(lambda it: it["guarantees"], at)


def _of_handling(document):
    """None of these changes who may see a request."""
    yield "restart on an interruption", _put(lambda it: it, "on_interrupt", "restart")
    yield "hedge after a moment", _put(lambda it: it, "hedge", {"after": 0.001, "budget": 1})
    yield "ten retries", _put(lambda it: it, "retries", {"most": 10, "budget": 1})
    for key in ("limits", "on_interrupt", "hedge"):
        if key in document:
            yield f"drop {key}", _drop(lambda it: it, key)


def _of_labels(document):
    order, labels = document["labels"]["order"], document["labels"]
    for at in range(len(order) - 1):
        yield f"swap labels {at} and {at + 1}", _swap(lambda it: it["labels"]["order"], at, at + 1)
    for label in order:
        yield f"unlabeled is {label}", _put(lambda it: it["labels"], "unlabeled", label)
        for tag in labels.get("tags", {}):
            yield f"tag {tag} is {label}", _put(lambda it: it["labels"]["tags"], tag, label)
    for tag in labels.get("tags", {}):
        yield f"drop tag {tag}", _drop(lambda it: it["labels"]["tags"], tag)
    yield "a label in between", lambda it: it["labels"]["order"].insert(1, "in-between")


def _of_zones(document):
    for zone, given in document["zones"].items():
        ceiling = given if isinstance(given, str) else given["ceiling"]
        yield f"drop zone {zone}", _drop(lambda it: it["zones"], zone)
        for label in document["labels"]["order"]:
            yield f"ceiling of {zone} is {label}", _put(lambda it: it["zones"], zone, label)
        for addresses in ("any", "private"):
            value = {"ceiling": ceiling, "addresses": addresses}
            yield f"addresses of {zone} are {addresses}", _put(lambda it: it["zones"], zone, value)


def _of_detectors(document):
    detectors = document.get("detectors", [])
    for at, detector in enumerate(detectors):
        name = detector if isinstance(detector, str) else detector["name"]
        yield f"drop detector {name}", _drop(lambda it: it["detectors"], at)
        if name in DETECTORS:
            for label in document["labels"]["order"]:
                value = {"name": name, "label": label}
                yield f"detector {name} raises to {label}", _put(lambda it: it["detectors"], at, value)
        else:
            value = {**detector, "words": [*detector["words"], "another"]}
            yield f"detector {name} has another word", _put(lambda it: it["detectors"], at, value)


def _of_route(what, where, key, route):
    yield f"reverse the route of {what}", _put(where, key, route[::-1])
    if "remote" in route:
        yield f"{what} goes to the device", _put(where, key, ["local"])
    else:
        yield f"{what} goes to the remote", _put(where, key, ["remote", *route])


def _of_when(what, where, when):
    for fact, condition in when.items():
        if len(when) > 1:
            yield f"drop {fact} of {what}", _drop(where, fact)
        if not isinstance(condition, dict):
            if isinstance(condition, list) and len(condition) > 1:
                yield f"fewer of {fact} in {what}", _put(where, fact, condition[:-1])
            continue
        for operator, operand in condition.items():
            for other in _OPERATORS.get(operator, ()):
                changed = {(other if name == operator else name): value for name, value in condition.items()}
                yield f"{operator} of {fact} in {what} becomes {other}", _put(where, fact, changed)
            if isinstance(operand, int | float) and not isinstance(operand, bool):
                for step in (-1, 1, 1000):
                    changed = {**condition, operator: operand + step}
                    yield f"{fact} of {what} by {step}", _put(where, fact, changed)


def misspellings(document):
    """Pairs of a sentence and a document in which one word of the language, or of its own vocabulary, has a letter too many."""

    def rename(mapping, key):
        return {(f"{name}x" if name == key else name): value for name, value in mapping.items()}

    def visit(node, path):
        if isinstance(node, dict):
            for key, value in node.items():
                if path not in (("zones",), ("labels", "tags")):  # names of one's own
                    yield f"key {'.'.join(map(str, (*path, key)))}", (path, lambda it, key=key: rename(it, key))
                yield from visit(value, (*path, key))
        elif isinstance(node, list):
            for at, value in enumerate(node):
                yield from visit(value, (*path, at))
        elif isinstance(node, str) and _is_vocabulary(path):
            yield f"value {'.'.join(map(str, path))}", (path, lambda it: f"{it}x")

    for sentence, (path, change) in visit(document, ()):
        changed = copy.deepcopy(document)
        if not path:
            yield sentence, change(changed)
            continue
        owner = changed
        for step in path[:-1]:
            owner = owner[step]
        owner[path[-1]] = change(owner[path[-1]])
        yield sentence, changed


def _is_vocabulary(path):
    """Whether a value there is a word that has to be known, and not a name or a text of one's own."""
    if path[-1] in ("name", "description", "pattern") or path[:2] == ("labels", "order") or "words" in path:
        return False
    return not ("when" in path and {"tags", "detected", "capabilities"} & set(path))
