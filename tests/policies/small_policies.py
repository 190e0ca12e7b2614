"""Draws small policies as documents, with everything in them that decides what may leave, and now and then what does not."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.policies import strategies

LABELS = ("l0", "l1", "l2")
TAGS = ("faq", "health")
ZONES = ("cloud", "site")


def _own_detector(labels):
    return st.fixed_dictionaries(
        {"name": st.just("project"), "words": st.just(["falcon"])}, optional={"label": st.sampled_from(labels)}
    )


@st.composite
def _detectors(draw, labels):
    found = []
    for name in ("email", "phone"):
        choice = draw(st.sampled_from(("none", "plain", *labels)))
        if choice != "none":
            found.append(name if choice == "plain" else {"name": name, "label": choice})
    if draw(st.booleans()) and len(found) < 2:
        found.append(draw(_own_detector(labels)))
    return found


def _words(names):
    several = st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True)
    return (
        st.sampled_from(names)
        | several
        | st.fixed_dictionaries({"contains_all": several})
        | st.fixed_dictionaries({"contains_any": several})
    )


def _ordered(constants):
    return st.dictionaries(st.sampled_from(("lt", "le", "gt", "ge", "eq", "ne")), constants, min_size=1, max_size=2)


def _chosen(names):
    several = st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True)
    return st.sampled_from(names) | several | st.fixed_dictionaries({"not_in": several})


def conditions(labels, detectors):
    """A mapping of one to three facts to what they are compared with."""
    facts = {
        "label": _ordered(st.sampled_from(labels)) | _chosen(labels),
        "declared_label": _ordered(st.sampled_from(labels)) | _chosen(labels),
        "tags": _words((*TAGS, "vip")),
        "detected": _words((*detectors, "passport")),
        "capabilities": _words(("tools", "images")),
        "connectivity": _chosen(("online", "offline")),
        "memory_headroom_mib": _ordered(st.sampled_from((0, 1, 512, 512.5))),
        "local_ready": st.booleans() | st.fixed_dictionaries({"ne": st.booleans()}),
        "time_of_day": _ordered(st.sampled_from(("00:00", "08:00", "08:01", "23:59"))),
    }
    names = st.lists(st.sampled_from(sorted(facts)), min_size=1, max_size=3, unique=True)
    return names.flatmap(lambda chosen: st.fixed_dictionaries({name: facts[name] for name in chosen}))


@st.composite
def documents(draw):
    """A policy file that the loader understands."""
    labels = LABELS[: draw(st.integers(2, 3))]
    detectors = draw(_detectors(labels))
    names = [detector if isinstance(detector, str) else detector["name"] for detector in detectors]
    zones = {}
    for zone in draw(st.lists(st.sampled_from(ZONES), max_size=2, unique=True)):
        zones[zone] = draw(st.sampled_from(labels[:-1]))
        if draw(st.integers(0, 3)) == 0:
            zones[zone] = {"ceiling": zones[zone], "addresses": draw(st.sampled_from(("any", "private")))}
    route = st.sampled_from((["local"], ["remote"], ["local", "remote"], ["remote", "local"]))
    rules = []
    for at in range(draw(st.integers(0, 3))):
        rule = {"name": f"rule-{at}", "when": draw(conditions(labels, names)), "route": draw(route)}
        if names and rule["route"] != ["local"] and draw(st.booleans()):
            rule["redact"] = draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
        if len(rule["route"]) == 2 and draw(st.integers(0, 3)) == 0:
            rule |= draw(strategies.rule_handling())
        rules.append(rule)
    document = {
        "version": 1,
        "name": "drawn",
        "labels": {
            "order": list(labels),
            "unlabeled": draw(st.sampled_from(labels)),
            "tags": draw(st.dictionaries(st.sampled_from(TAGS), st.sampled_from(labels))),
        },
        "zones": zones,
        "detectors": detectors,
        "rules": rules,
        "default": draw(route),
    }
    if draw(st.integers(0, 3)) == 0:
        document |= draw(strategies.handling())
    if zones and draw(st.booleans()):
        never = draw(st.lists(st.sampled_from(sorted(zones)), min_size=1, unique=True))
        document["guarantees"] = [{"name": "promise", "when": draw(conditions(labels, names)), "never": never}]
    return document
