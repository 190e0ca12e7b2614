"""Facts as plain values and back."""

import contextlib
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies import FACT_KINDS, FactError, Facts, Place, decide
from tests.policies import strategies

_WORDS = st.frozensets(st.text(max_size=8), max_size=3)
_LABELS = st.none() | st.sampled_from(strategies.LABEL_NAMES)
_NOT_NUMBERS = [name for name, kind in FACT_KINDS.items() if kind == "number"]


@st.composite
def all_facts(draw):
    """Facts with everything that a request can have, and no not-a-number, which JSON cannot say."""
    facts = draw(strategies.facts())
    known = {name: None for name in _NOT_NUMBERS if getattr(facts, name) != getattr(facts, name)}
    return replace(facts, **known, declared_label=draw(_LABELS), detected=draw(st.none() | _WORDS))


@given(all_facts())
@settings(max_examples=150, deadline=None)
def test_what_to_dict_gives_comes_back_through_json(facts):
    text = json.dumps(facts.to_dict())
    again = Facts.from_dict(json.loads(text))
    assert again == facts
    assert json.dumps(again.to_dict()) == text


@given(strategies.policies(), all_facts())
@settings(max_examples=100, deadline=None)
def test_facts_that_came_back_are_decided_alike(policy, facts):
    again = Facts.from_dict(json.loads(json.dumps(facts.to_dict())))
    assert decide(policy, again).to_json() == decide(policy, facts).to_json()


def test_what_is_missing_or_null_is_unknown():
    assert Facts.from_dict({}) == Facts()
    assert Facts.from_dict(dict.fromkeys(FACT_KINDS)) == Facts()
    assert Facts.from_dict({"places": [{"name": "remote", "zone": "cloud"}]}).places == (Place("remote", "cloud"),)


def test_a_whole_place_comes_back():
    place = Place("remote", "site", 4096, frozenset({"image"}), "the client is offline")
    assert Facts.from_dict(Facts(places=(place,)).to_dict()).places == (place,)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "facts are a list, expected an object."),
        ("label", "facts are a str, expected an object."),
        ({"lable": "public"}, "'lable' is not a fact."),
        ({"x" * 99: 1}, f"'{'x' * 40}' is not a fact."),
        ({"label": 1}, "label is not a label."),
        ({"declared_label": ["public"]}, "declared_label is not a label."),
        ({"tags": "faq"}, "tags is not a list of words."),
        ({"tags": ["faq", 1]}, "tags is not a list of words."),
        ({"detected": {"email": 1}}, "detected is not a list of words."),
        ({"capabilities": [None]}, "capabilities is not a list of words."),
        ({"connectivity": "offlin"}, "connectivity is not a connectivity."),
        ({"connectivity": True}, "connectivity is not a connectivity."),
        ({"weekday": "monday"}, "weekday is not a weekday."),
        ({"time_of_day": "8:30"}, "time_of_day is not a time."),
        ({"time_of_day": "24:00"}, "time_of_day is not a time."),
        ({"time_of_day": 830}, "time_of_day is not a time."),
        ({"local_ready": 1}, "local_ready is not a boolean."),
        ({"memory_headroom_mib": "512"}, "memory_headroom_mib is not a number."),
        ({"memory_headroom_mib": True}, "memory_headroom_mib is not a number."),
        ({"places": {}}, "places is not a list."),
        ({"places": None}, "places is not a list."),
        ({"places": ["local"]}, "places[0] is not an object."),
        ({"places": [{"name": "a", "zone": "b", "port": 1}]}, "places[0] has an unknown field 'port'."),
        ({"places": [{"zone": "b"}]}, "places[0].name is not text."),
        ({"places": [{"name": "a"}]}, "places[0].zone is not text."),
        ({"places": [{"name": "a", "zone": "b"}, {"name": 1, "zone": "b"}]}, "places[1].name is not text."),
        ({"places": [{"name": "a", "zone": "b", "unavailable": None}]}, "places[0].unavailable is not text."),
        (
            {"places": [{"name": "a", "zone": "b", "context_tokens": True}]},
            "places[0].context_tokens is not a whole number.",
        ),
        (
            {"places": [{"name": "a", "zone": "b", "context_tokens": 1.5}]},
            "places[0].context_tokens is not a whole number.",
        ),
        (
            {"places": [{"name": "a", "zone": "b", "capabilities": "image"}]},
            "places[0].capabilities is not a list of words.",
        ),
    ],
)
def test_what_is_no_fact_is_named(values, message):
    with pytest.raises(FactError) as raised:
        Facts.from_dict(values)
    assert str(raised.value) == message


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from((*FACT_KINDS, "places", "more")), _JSON, max_size=4) | _JSON)
@settings(max_examples=200, deadline=None)
def test_any_json_is_facts_or_a_fact_error(values):
    with contextlib.suppress(FactError):
        facts = Facts.from_dict(values)
        assert all(name in FACT_KINDS or name == "places" for name in facts.to_dict())
        hash(facts)
