"""Draws policies and facts that the schema allows."""

from __future__ import annotations

from hypothesis import strategies as st

from policies import CONNECTIVITY, FACT_KINDS, OPERATORS, WEEKDAYS, Facts, Labels, Place, Policy, Rule
from policies.condition import SEVERAL, compile_condition

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


@st.composite
def policies(draw):
    """Also policies that no loader would let through, such as a zone whose ceiling is the top label."""
    drawn_labels = draw(labels())
    routes = st.lists(st.sampled_from(PLACES), min_size=1, max_size=2, unique=True).map(tuple)
    rules = [
        Rule(
            f"rule-{index}",
            tuple(draw(st.lists(conditions(drawn_labels), min_size=1, max_size=3))),
            draw(routes),
            "f:1",
        )
        for index in range(draw(st.integers(0, 5)))
    ]
    zones = draw(st.dictionaries(st.sampled_from((*ZONES, "device")), st.sampled_from(LABEL_NAMES)))
    return Policy("drawn", drawn_labels, zones, tuple(rules), draw(routes), default_location="f:9")


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
