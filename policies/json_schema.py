"""The JSON Schema of the policy language, made from the constants that the loader reads by, so that editors know every key.

What a schema cannot say is left to the loader: that a label, tag or detector is one that the policy itself names, that names
are unique, that no zone's ceiling is the top label, and how a number is written.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from policies.condition import OPERATORS, SEVERAL
from policies.facts import CONNECTIVITY, FACT_KINDS, TIME, WEEKDAYS, FactKind
from policies.handling import ON_INTERRUPT, PERCENTILES, Breaker, Hedge, Limits, Retries
from policies.handling_keys import RANGES, Range
from policies.loader import KEYS, LONGEST_PATTERN, MOST_WORDS, NAME, REMOTE
from policies.schema import ADDRESSES, DETECTORS, DEVICE_ZONE, LOCAL

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FACT_WORDS", "HANDLING_WORDS", "OPERATOR_WORDS", "policy_schema", "policy_schema_json"]

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_BELOW = 1e15

FACT_WORDS = {
    "label": "The request's label after joining everything that was said; the top label if there is none.",
    "declared_label": "The label that everybody but the detectors gives: what redaction cannot get below.",
    "tags": "The tags that the caller gave.",
    "detected": "Names of the policy's detectors that found something.",
    "connectivity": "The way to the remote; captive means that somebody else answers in its name.",
    "memory_headroom_mib": "Memory in MiB that can still be taken on this machine, a container's limit included.",
    "device_memory_headroom_mib": "Free memory of the accelerator in MiB.",
    "local_ready": "Whether the device's model is loaded.",
    "local_ttft_ms": "Estimate of the device's time to first token, in milliseconds.",
    "local_tokens_per_s": "Estimate of the device's speed after the first token.",
    "local_meets_deadline": "Whether the device is expected to be through before the deadline.",
    "remote_ttft_ms": "Estimate of the remote's time to first token, in milliseconds.",
    "remote_tokens_per_s": "Estimate of the remote's speed after the first token.",
    "remote_meets_deadline": "Whether the remote is expected to be through before the deadline.",
    "prompt_tokens": "Length of the prompt in tokens, estimated unless it was counted.",
    "local_prompt_tokens": "Exact length of the prompt in the device's tokens, where it was counted.",
    "max_tokens": "The most tokens that the caller wants.",
    "capabilities": "What a place must be able to do for this request.",
    "deadline_s": "Seconds that are left for the request.",
    "time_of_day": "Local time as HH:MM, 24 hours, in quotes.",
    "weekday": "Day of the week, local time.",
    "budget_left": "What may still be spent at the remote, in a unit of the program's own.",
}
"""A sentence about every fact."""

OPERATOR_WORDS = {
    "lt": "It is below this.",
    "le": "It is at most this.",
    "gt": "It is above this.",
    "ge": "It is at least this.",
    "eq": "It is this.",
    "ne": "It is known and not this.",
    "in": "It is one of these.",
    "not_in": "It is known and none of these.",
    "contains": "This word is among them.",
    "contains_any": "At least one of these is among them.",
    "contains_all": "All of these are among them.",
}
"""A sentence about every operator."""

HANDLING_WORDS = {
    "limits": "How long a remote may take, where the remote itself says nothing else.",
    "limits.connect_s": "Longest wait in seconds for a connection: name lookup and all addresses together, and as long again for TLS.",
    "limits.first_token_s": "Longest wait in seconds for the first token after that.",
    "limits.gap_s": "Longest wait in seconds between two pieces of an answer.",
    "retries": "What is repeated at a remote within one attempt, before the first token.",
    "retries.most": "Further tries after one that may help to repeat.",
    "retries.budget": "Retries for each first try, on average, so that an outage is not hammered; a few are always allowed.",
    "breaker": "When a remote that fails is left alone for a while.",
    "breaker.failures": "Failures in a row that open the breaker.",
    "breaker.open_s": "Seconds that it stays open before one probe; doubled with each probe that fails, up to ten times this.",
    "breaker.successes": "Successes in a row that close it again.",
    "hedge": "When the second candidate is asked before the first has failed; false for never.",
    "hedge.after": "A percentile of the first place's time to the first token, or seconds.",
    "hedge.budget": "Hedges for each request, on average: the most that they may add to the load.",
    "on_interrupt": "What happens when a place fails after a part of its answer was given out: the next place goes on from that "
    "text (continue), it begins anew and the consumer is told that what it has is void (restart), or the failure is the "
    "consumer's to know (error).",
}
"""A sentence about every key that says how requests are handled."""

_DEFAULTS: dict[str, object] = {
    "limits": Limits(), "retries": Retries(), "breaker": Breaker(), "hedge": Hedge(),
}  # fmt: skip

assert FACT_WORDS.keys() == FACT_KINDS.keys(), "every fact is described"

_Schema = dict[str, Any]


def policy_schema(places: Sequence[str] = (REMOTE,)) -> _Schema:
    """The schema, JSON Schema draft 2020-12, as plain values.

    Args:
        places: Names that routes may use besides ``local``.
    """
    known_places = [LOCAL, *(place for place in places if place != LOCAL)]
    top: _Schema = {
        "version": {"const": 1, "description": "Version of the policy language."},
        "name": _name("The policy's name; it appears in every route."),
        "description": _text("What it is for: a sentence for people."),
        "labels": _labels(),
        "zones": _zones(),
        "detectors": _detectors(),
        "rules": {
            "description": "Read from top to bottom; the first one whose conditions all hold decides.",
            "type": "array",
            "items": {"$ref": "#/$defs/rule"},
        },
        "default": {"$ref": "#/$defs/route", "description": "The route when no rule matches."},
        "guarantees": {
            "description": "What the rules are meant to ensure; `hybridllm policy verify` proves it. They decide nothing.",
            "type": "array",
            "items": {"$ref": "#/$defs/guarantee"},
        },
        **{key: _settings(key) for key in ("limits", "retries", "breaker")},
        "on_interrupt": {"default": "continue", **_on_interrupt()},
        "hedge": {"default": False, **_hedge()},
    }
    assert tuple(sorted(top)) == tuple(sorted(KEYS)), "every key of the loader is in the schema"
    return {
        "$schema": _DRAFT,
        "title": "hybridllm policy",
        "description": "How sensitive a request can be, what each place outside the device may see, and who answers.",
        **_object(top, required=("version", "name", "labels", "zones", "default")),
        "$defs": {
            "name": {"type": "string", "pattern": f"^{NAME.pattern}$"},
            "route": _list({"enum": known_places}, "Places in order of preference; local is this device."),
            "rule": _rule(),
            "guarantee": _guarantee(),
            "when": _when(),
            **{f"{kind}_condition": _condition(kind) for kind in OPERATORS},
        },
    }


def policy_schema_json(places: Sequence[str] = (REMOTE,)) -> str:
    """The schema as a file's text."""
    return json.dumps(policy_schema(places), indent=2, ensure_ascii=False) + "\n"


def _labels() -> _Schema:
    keys = {
        "order": _list({"$ref": "#/$defs/name"}, "The labels from the least to the most sensitive."),
        "unlabeled": _name("The label of what nobody labelled: one of order."),
        "tags": _mapping(_name("The tag's label: one of order."), "The label of each tag that a caller may give."),
    }
    return _object(keys, required=("order", "unlabeled"), description="How sensitive a request can be.")


def _zones() -> _Schema:
    ceiling = "The most sensitive label that this zone may see: one of labels.order, but not the last one."
    keys = {
        "ceiling": _name(ceiling),
        "addresses": {
            "description": "Which addresses its servers may have: private ones only, or any. site is private by itself.",
            "enum": list(ADDRESSES),
        },
    }
    # No `oneOf`: with if/then an editor speaks about the shape that was begun, and not about all of them.
    zone = {
        "description": ceiling,
        "if": {"type": "object"},
        "then": _object(keys, required=("ceiling",)),
        "else": {"$ref": "#/$defs/name"},
    }
    mapping = _mapping(zone, "For each zone the most sensitive label that it may see; the device sees everything.")
    mapping["propertyNames"]["not"] = {"const": DEVICE_ZONE}
    return mapping


def _detectors() -> _Schema:
    built_in = {"enum": list(DETECTORS)}
    keys = {
        "name": _name("A detector that is built in, or a name of your own for words or a pattern."),
        "label": _name("The label that a find raises to: one of labels.order. The top label if left out."),
        "words": {
            "description": "Words or phrases of your own to look for, in any case.",
            "type": "array",
            "items": _text(),
            "minItems": 1,
            "maxItems": MOST_WORDS,
        },
        "pattern": {**_text("A regular expression of your own in RE2's syntax."), "maxLength": LONGEST_PATTERN},
    }
    mapping = {
        **_object(keys, required=("name",)),
        "if": {"anyOf": [{"required": ["words"]}, {"required": ["pattern"]}]},
        "then": {
            "properties": {"name": {"not": built_in}},
            "not": {"required": ["words", "pattern"]},
        },
        "else": {"properties": {"name": built_in}},
    }
    return {
        "description": "What to look for in the text. A find may raise a request's label, never lower it.",
        "type": "array",
        "items": {"if": {"type": "object"}, "then": mapping, "else": built_in},
    }


def _rule() -> _Schema:
    keys = {
        "name": {**_name("The rule's name, unique in the policy."), "not": {"const": "default"}},
        "when": {"$ref": "#/$defs/when", "description": "Conditions; all of them have to hold."},
        "route": {"$ref": "#/$defs/route", "description": "Who is asked, in this order."},
        "redact": _list(
            {"$ref": "#/$defs/name"},
            "Detectors of this policy whose finds are replaced by placeholders, so that the rest can go where the whole "
            "may not.",
        ),
        "on_interrupt": _on_interrupt(),
        "hedge": _hedge(),
    }
    return {
        **_object(keys, required=("name", "when", "route"), description="One rule."),
        "allOf": [
            {
                "if": {"required": ["route"], "properties": {"route": {"const": [LOCAL]}}},
                "then": {"properties": {"redact": False}},
            },
            {
                "if": {"required": ["route"], "properties": {"route": {"type": "array", "maxItems": 1}}},
                "then": {"properties": {"hedge": {"const": False}}},
            },
        ],
    }


def _settings(key: str) -> _Schema:
    default = _DEFAULTS[key]
    keys = {
        name: {
            "description": HANDLING_WORDS[f"{key}.{name}"],
            "default": getattr(default, name),
            **(_after(allowed) if name == "after" else _number(allowed)),
        }
        for name, allowed in RANGES[key].items()
    }
    return _object(keys, required=(), description=HANDLING_WORDS[key])


def _number(allowed: Range) -> _Schema:
    least = "exclusiveMinimum" if allowed.above else "minimum"
    return {"type": "integer" if allowed.whole else "number", least: allowed.least, "maximum": allowed.most}


def _after(seconds: Range) -> _Schema:
    return {"if": {"type": "string"}, "then": {"enum": list(PERCENTILES)}, "else": _number(seconds)}


def _on_interrupt() -> _Schema:
    return {"description": HANDLING_WORDS["on_interrupt"], "enum": list(ON_INTERRUPT)}


def _hedge() -> _Schema:
    mapping = _settings("hedge")
    return {
        "description": mapping.pop("description"),
        "if": {"type": "object"},
        "then": mapping,
        "else": {"const": False},
    }


def _guarantee() -> _Schema:
    keys = {
        "name": _name("The guarantee's name, unique among them."),
        "when": {"$ref": "#/$defs/when", "description": "It is about requests for which all of these hold."},
        "never": _list({"$ref": "#/$defs/name"}, "Zones of this policy that such a request must not reach."),
    }
    return _object(keys, required=("name", "when", "never"), description="One guarantee.")


def _when() -> _Schema:
    conditions = {
        fact: {"$ref": f"#/$defs/{kind}_condition", "description": FACT_WORDS[fact]}
        for fact, kind in FACT_KINDS.items()
    }
    return {**_object(conditions, required=()), "minProperties": 1}


def _condition(kind: FactKind) -> _Schema:
    """A constant, a list of them where the kind's operators allow one, or operators."""
    one = _constant(kind)
    several = {"type": "array", "items": one, "minItems": 1}
    operators = {
        operator: {**(several if operator in SEVERAL else one), "description": OPERATOR_WORDS[operator]}
        for operator in OPERATORS[kind]
    }
    shapes: _Schema = {
        "if": {"type": "object"},
        "then": {**_object(operators, required=()), "minProperties": 1},
        "else": one,
    }
    if "in" in operators or kind == "words":
        shapes["else"] = {"if": {"type": "array"}, "then": several, "else": one}
    return shapes


def _constant(kind: FactKind) -> _Schema:
    constants: dict[FactKind, _Schema] = {
        "number": {"type": "number", "exclusiveMinimum": -_BELOW, "exclusiveMaximum": _BELOW},
        "boolean": {"type": "boolean"},
        "connectivity": {"enum": list(CONNECTIVITY)},
        "weekday": {"enum": list(WEEKDAYS)},
        "time": {"type": "string", "pattern": f"^(?:{TIME.pattern})$"},
        "label": {"$ref": "#/$defs/name"},
        "words": _text(),
    }
    return constants[kind]


def _name(description: str) -> _Schema:
    return {"$ref": "#/$defs/name", "description": description}


def _text(description: str = "") -> _Schema:
    text: _Schema = {"type": "string", "pattern": r"\S"}
    return {"description": description, **text} if description else text


def _list(item: _Schema, description: str) -> _Schema:
    return {"description": description, "type": "array", "items": item, "minItems": 1, "uniqueItems": True}


def _mapping(value: _Schema, description: str) -> _Schema:
    names = {"pattern": f"^{NAME.pattern}$"}
    return {"description": description, "type": "object", "propertyNames": names, "additionalProperties": value}


def _object(keys: _Schema, *, required: Sequence[str], description: str = "") -> _Schema:
    schema: _Schema = {"description": description} if description else {}
    schema |= {"type": "object", "properties": keys, "additionalProperties": False}
    return {**schema, "required": list(required)} if required else schema
