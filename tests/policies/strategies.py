"""Draws policies and facts that the schema allows."""

from __future__ import annotations

from hypothesis import strategies as st

from policies import (
    CONNECTIVITY,
    FACT_KINDS,
    OPERATORS,
    WEEKDAYS,
    Breaker,
    Facts,
    Hedge,
    Labels,
    Limits,
    Place,
    Policy,
    Retries,
    Rule,
)
from policies.condition import SEVERAL, compile_condition
from policies.handling import ON_INTERRUPT, PERCENTILES
from policies.handling_keys import RANGES

LABEL_NAMES = ("public", "internal", "private", "secret")
ZONES = ("cloud", "site")
TAGS = ("faq", "health", "vip")
PLACES = ("local", "remote")

_TIMES = st.builds(lambda hour, minute: f"{hour:02d}:{minute:02d}", st.integers(0, 23), st.integers(0, 59))


def _constants(kind, labels):
    return {
        "number": st.floats(-10, 5000, allow_nan=False) | st.integers(-10, 5000),
        "boolean": st.booleans(),
        "connectivity": st.sampled_from(CONNECTIVITY),
        "weekday": st.sampled_from(WEEKDAYS),
        "time": _TIMES,
        "label": st.sampled_from(labels.order),
        "words": st.sampled_from(TAGS),
    }[kind]


@st.composite
def labels(draw):
    order = LABEL_NAMES[: draw(st.integers(1, 4))]
    tags = draw(st.dictionaries(st.sampled_from(TAGS), st.sampled_from(order)))
    return Labels(order, draw(st.sampled_from(order)), tags)


@st.composite
def conditions(draw, labels):
    fact = draw(st.sampled_from(sorted(FACT_KINDS)))
    kind = FACT_KINDS[fact]
    operator = draw(st.sampled_from(OPERATORS[kind]))
    constant = _constants(kind, labels)
    operand = tuple(draw(st.lists(constant, min_size=1, max_size=3))) if operator in SEVERAL else draw(constant)
    return compile_condition(fact, operator, operand, labels)


def _numbers(allowed):
    """Numbers of a range, written in few digits, its ends among them."""
    if allowed.whole:
        return st.integers(int(allowed.least), int(allowed.most))
    steps = st.integers(1 if allowed.above else 0, 1000).map(lambda step: step * allowed.most / 1000)
    return steps | st.sampled_from((0.5, 1, 0.25))


def _settings(key):
    keys = {name: _numbers(allowed) for name, allowed in RANGES[key].items()}
    if key == "hedge":
        keys["after"] |= st.sampled_from(PERCENTILES)
    return st.fixed_dictionaries({}, optional=keys)


def rule_handling():
    """What a rule with two places says of handling, as in a file."""
    return st.fixed_dictionaries(
        {}, optional={"on_interrupt": st.sampled_from(ON_INTERRUPT), "hedge": st.just(False) | _settings("hedge")}
    )


def handling():
    """What a policy says of it, as in a file."""
    settings = {key: _settings(key) for key in ("limits", "retries", "breaker")}
    return st.tuples(st.fixed_dictionaries({}, optional=settings), rule_handling()).map(
        lambda both: {**both[0], **both[1]}
    )


def _rule_arguments(said, route):
    hedge = said.get("hedge")
    if hedge is False or len(route) == 1:
        return {**said, "hedge": False}
    return {**said, "hedge": None if hedge is None else Hedge(**hedge)}


def _policy_arguments(said):
    kinds = {"limits": Limits, "retries": Retries, "breaker": Breaker, "hedge": Hedge}
    return {key: kinds[key](**value) if isinstance(value, dict) else (value or None) for key, value in said.items()}


@st.composite
def policies(draw):
    """Also policies that no loader would let through, such as a zone whose ceiling is the top label."""
    drawn_labels = draw(labels())
    routes = st.lists(st.sampled_from(PLACES), min_size=1, max_size=2, unique=True).map(tuple)
    rules = []
    for index in range(draw(st.integers(0, 5))):
        when = tuple(draw(st.lists(conditions(drawn_labels), min_size=1, max_size=3)))
        route = draw(routes)
        rules.append(Rule(f"rule-{index}", when, route, "f:1", **_rule_arguments(draw(rule_handling()), route)))
    zones = draw(st.dictionaries(st.sampled_from((*ZONES, "device")), st.sampled_from(LABEL_NAMES)))
    said = _policy_arguments(draw(handling()))
    return Policy("drawn", drawn_labels, zones, tuple(rules), draw(routes), default_location="f:9", **said)


def _maybe(strategy):
    return st.none() | strategy


_CAPABILITIES = st.frozensets(st.sampled_from(("image", "extended_sampling")))


def places():
    device = st.builds(
        Place,
        st.just("local"),
        st.just("device"),
        _maybe(st.integers(1, 4096)),
        _maybe(_CAPABILITIES),
        st.sampled_from(("", "its worker is starting again")),
    )
    remote = st.builds(
        Place,
        st.just("remote"),
        st.sampled_from((*ZONES, "device", "elsewhere")),
        _maybe(st.integers(1, 4096)),
        _maybe(_CAPABILITIES),
        st.sampled_from(("", "the client is offline")),
    )
    return st.lists(device | remote, max_size=2, unique_by=lambda place: place.name).map(tuple)


@st.composite
def facts(draw):
    number = _maybe(st.floats(0, 5000) | st.just(float("nan")))
    values = {}
    for name, kind in FACT_KINDS.items():
        if kind == "number":
            values[name] = draw(number)
        elif kind == "boolean":
            values[name] = draw(_maybe(st.booleans()))
    values |= {
        "label": draw(_maybe(st.sampled_from((*LABEL_NAMES, "no-such-label")))),
        "tags": draw(_maybe(st.frozensets(st.sampled_from(TAGS)))),
        "connectivity": draw(_maybe(st.sampled_from(CONNECTIVITY))),
        "weekday": draw(_maybe(st.sampled_from(WEEKDAYS))),
        "time_of_day": draw(_maybe(_TIMES)),
        "capabilities": draw(_maybe(_CAPABILITIES)),
        "max_tokens": draw(_maybe(st.integers(1, 4096))),
        "local_prompt_tokens": draw(_maybe(st.integers(1, 4096))),
    }
    return Facts(places=draw(places()), **values)
