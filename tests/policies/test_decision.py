"""The decision, and what stands above every policy."""

from dataclasses import replace

import pytest
from hypothesis import given, settings

from policies import FACT_KINDS, Facts, Place, decide, load_policy, parse_policy, preset_names
from policies.condition import compile_condition
from tests.policies import strategies

DEVICE = Place("local", "device", 4096, frozenset())
CLOUD = Place("remote", "cloud")
SITE = Place("remote", "site")


def policy_with(rules, default="[local, remote]"):
    return parse_policy(f"""
version: 1
name: written
labels: {{order: [public, internal, private], unlabeled: private, tags: {{faq: public}}}}
zones: {{cloud: public, site: internal}}
rules: {rules}
default: {default}
""")


@given(strategies.policies(), strategies.facts())
@settings(max_examples=150, deadline=None)
def test_no_place_but_the_device_gets_a_label_above_its_zones_ceiling(policy, facts):
    decision = decide(policy, facts)
    order = policy.labels.order
    label = facts.label if facts.label in order else order[-1]
    places = {place.name: place for place in facts.places}
    for candidate in decision.candidates:
        if candidate == "local":
            continue
        zone = places[candidate].zone
        assert label != order[-1]
        assert zone != "device"
        assert order.index(label) <= order.index(policy.zones[zone])


@given(strategies.policies(), strategies.facts())
@settings(max_examples=100, deadline=None)
def test_the_device_is_a_candidate_unless_it_cannot_serve(policy, facts):
    decision = decide(policy, facts)
    if "local" in decision.candidates:
        assert decision.candidates.count("local") == 1
        return
    reason = next(out for out in decision.struck_out if out.place == "local")
    device = next(place for place in facts.places if place.name == "local")
    if reason.code == "context":
        assert facts.local_prompt_tokens >= device.context_tokens
    else:
        assert reason.code == "capability"
        assert not facts.capabilities <= device.capabilities
    assert reason.why


@given(strategies.policies(), strategies.facts())
@settings(max_examples=80, deadline=None)
def test_equal_facts_give_equal_bytes_and_the_trace_agrees_with_the_decision(policy, facts):
    first, second = decide(policy, facts), decide(policy, replace(facts))
    assert first.to_json() == second.to_json()
    matched = [verdict for verdict in first.trace if verdict.verdict == "matched"]
    assert [verdict.rule for verdict in matched] == [first.rule]
    assert len(first.trace) == len(policy.rules) + 1
    for verdict in first.trace:
        assert (verdict.verdict == "failed") == bool(verdict.condition)


@given(strategies.policies(), strategies.facts())
@settings(max_examples=80, deadline=None)
def test_an_unknown_fact_never_matches(policy, facts):
    def facts_of_the_rule(decision):
        when = () if decision.rule_index is None else policy.rules[decision.rule_index].when
        return {condition.fact for condition in when}

    labels = {"label", "declared_label"}  # unknown, they count as the top label
    unknown = replace(facts, **dict.fromkeys(FACT_KINDS))
    assert facts_of_the_rule(decide(policy, unknown)) <= labels
    for name in FACT_KINDS.keys() - labels:
        assert name not in facts_of_the_rule(decide(policy, replace(facts, **{name: None})))


@given(strategies.policies(), strategies.facts())
@settings(max_examples=80, deadline=None)
def test_an_unknown_label_is_the_top_label_for_every_purpose(policy, facts):
    for name in ("label", "declared_label"):
        top = decide(policy, replace(facts, **{name: policy.labels.top}))
        for label in (None, "misspelt"):
            decision = decide(policy, replace(facts, **{name: label}))
            assert decision.to_json() == top.to_json()
            assert decision.trace == top.trace


@pytest.mark.parametrize("label", [None, "misspelt"])
def test_a_rule_sees_the_label_that_was_decided_for(label):
    policy = policy_with("[{name: careful, when: {label: {ge: internal}}, route: [local]}]", "[remote, local]")
    decision = decide(policy, Facts(label=label, places=(DEVICE, SITE)))
    assert (decision.label, decision.rule) == ("private", "careful")
    assert decision.trace[0].verdict == "matched"
    assert decision.trace[0].facts == {"label": "private"}


def test_the_first_matching_rule_decides_and_the_device_is_appended():
    policy = policy_with(
        "[{name: a, when: {connectivity: online}, route: [remote]},"
        " {name: b, when: {connectivity: [online, degraded]}, route: [local]}]"
    )
    decision = decide(policy, Facts(label="public", connectivity="online", places=(DEVICE, CLOUD)))
    assert (decision.rule, decision.rule_index, decision.candidates) == ("a", 0, ("remote", "local"))
    decision = decide(policy, Facts(label="public", connectivity="degraded", places=(DEVICE, CLOUD)))
    assert (decision.rule, decision.candidates) == ("b", ("local",))


def test_a_policy_made_by_hand_cannot_give_the_top_label_a_zone():
    policy = replace(load_policy("kiosk"), zones={"cloud": "private"})
    decision = decide(policy, Facts(label="private", places=(DEVICE, CLOUD)))
    assert decision.candidates == ("local",)
    assert decision.struck_out[0].code == "label"


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        (Facts(label="internal", places=(DEVICE, CLOUD)), "label"),
        (Facts(label=None, places=(DEVICE, SITE)), "label"),
        (Facts(label="misspelt", places=(DEVICE, SITE)), "label"),
        (Facts(label="public", places=(DEVICE, Place("remote", "elsewhere"))), "zone"),
        (Facts(label="public", places=(DEVICE, Place("remote", "device"))), "zone"),
        (Facts(label="public", places=(DEVICE,)), "not_configured"),
        (Facts(label="public", places=(DEVICE, Place("remote", "cloud", unavailable="it is off"))), "unavailable"),
        (
            Facts(
                label="public",
                capabilities=frozenset({"image"}),
                places=(Place("local", "device"), Place("remote", "cloud", None, frozenset())),
            ),
            "capability",
        ),
        (
            Facts(label="public", prompt_tokens=3000.5, places=(DEVICE, Place("remote", "cloud", 2048))),
            "context",
        ),
    ],
)
def test_the_remote_is_struck_out_with_its_reason(facts, code):
    decision = decide(policy_with("[]", "[remote, local]"), facts)
    assert decision.candidates == ("local",)
    assert [(out.place, out.code) for out in decision.struck_out] == [("remote", code)]
    assert decision.struck_out[0].why.endswith(".")


def test_a_site_may_see_what_a_cloud_may_not():
    decision = decide(policy_with("[]"), Facts(label="internal", places=(DEVICE, SITE)))
    assert decision.candidates == ("local", "remote")


@pytest.mark.parametrize("max_tokens", [None, 1, 97, 100_000])
def test_only_a_prompt_without_room_for_one_token_strikes_the_device_out(max_tokens):
    # The engine shortens the answer to the room that is left, so how many tokens were asked for does not matter.
    facts = Facts(label="public", local_prompt_tokens=4095, max_tokens=max_tokens, places=(DEVICE, CLOUD))
    assert decide(policy_with("[]"), facts).candidates == ("local", "remote")
    decision = decide(policy_with("[]"), replace(facts, local_prompt_tokens=4096))
    assert decision.candidates == ("remote",)
    assert decision.struck_out[0].code == "context"
    assert "a prompt of 4096 tokens does not fit its context of 4096" in decision.struck_out[0].why


def test_prompt_and_answer_have_to_fit_the_remote_together():
    small = Place("remote", "cloud", 2048)
    facts = Facts(label="public", prompt_tokens=2000, max_tokens=49, places=(DEVICE, small))
    decision = decide(policy_with("[]"), facts)
    assert decision.candidates == ("local",)
    assert "a prompt of 2000 tokens and an answer of 49 does not fit" in decision.struck_out[0].why
    assert decide(policy_with("[]"), replace(facts, max_tokens=48)).candidates == ("local", "remote")


@pytest.mark.parametrize("route", ["[local, remote]", "[remote, local]", "[remote]"])
def test_a_device_that_is_said_to_be_unavailable_stays_where_the_route_has_it(route):
    device = replace(DEVICE, unavailable="its worker is starting again")
    facts = Facts(label="public", places=(device, CLOUD))
    decision = decide(policy_with("[]", route), facts)
    assert decision.struck_out == ()
    assert decision == decide(policy_with("[]", route), replace(facts, places=(DEVICE, CLOUD)))
    assert decide(policy_with("[]", route), replace(facts, label="private")).candidates == ("local",)


LABELS = load_policy("kiosk").labels


@pytest.mark.parametrize(
    ("fact", "operator", "operand", "holds", "fails"),
    [
        ("local_ttft_ms", "lt", 5, 4.9, 5),
        ("local_ttft_ms", "le", 5, 5, 5.1),
        ("local_ttft_ms", "gt", 5, 5.1, 5),
        ("local_ttft_ms", "ge", 5, 5, 4.9),
        ("local_ttft_ms", "eq", 5, 5.0, 6),
        ("local_ttft_ms", "ne", 5, 6, 5),
        ("local_ttft_ms", "ne", 5, 6, float("nan")),
        ("local_ttft_ms", "in", (5, 6), 6, 7),
        ("local_ttft_ms", "not_in", (5, 6), 7, 6),
        ("local_ttft_ms", "not_in", (5, 6), 7, float("nan")),
        ("local_ready", "eq", True, True, False),
        ("connectivity", "in", ("offline", "captive"), "captive", "online"),
        ("label", "ge", "internal", "private", "public"),
        ("label", "lt", "internal", "public", "internal"),
        ("label", "ge", "internal", "internal", "no-such-label"),
        ("time_of_day", "ge", "08:30", "09:00", "08:29"),
        ("tags", "contains", "vip", frozenset({"vip", "faq"}), frozenset()),
        ("tags", "contains_any", ("vip", "faq"), frozenset({"faq"}), frozenset({"health"})),
        ("tags", "contains_all", ("vip", "faq"), frozenset({"faq", "vip"}), frozenset({"faq"})),
    ],
)
def test_operators(fact, operator, operand, holds, fails):
    condition = compile_condition(fact, operator, operand, LABELS)
    assert condition.test(Facts(**{fact: holds}).values()) is True
    assert not condition.test(Facts(**{fact: fails}).values())
    assert not condition.test(Facts().values())


@pytest.mark.parametrize("preset", preset_names())
def test_presets_never_send_what_nobody_labelled(preset):
    policy = load_policy(preset)
    assert policy.labels.unlabeled == policy.labels.top == "private"
    decision = decide(policy, Facts(label=policy.labels.unlabeled, connectivity="online", places=(DEVICE, SITE)))
    assert decision.candidates == ("local",)


def test_presets_do_what_their_names_say():
    places = (DEVICE, CLOUD)
    public = Facts(label="public", connectivity="online", places=places)
    assert decide(load_policy("offline-first"), public).candidates == ("local", "remote")
    late = replace(public, local_meets_deadline=False)
    assert decide(load_policy("offline-first"), late).candidates == ("remote", "local")
    assert decide(load_policy("kiosk"), public).candidates == ("local", "remote")
    assert decide(load_policy("kiosk"), replace(public, memory_headroom_mib=100)).candidates == ("remote", "local")
    slow = replace(public, local_ttft_ms=2000, remote_ttft_ms=300)
    assert decide(load_policy("kiosk"), slow).rule == "slow-here"
    assert decide(load_policy("cloud-assist"), public).candidates == ("remote", "local")
    for preset in preset_names():
        assert decide(load_policy(preset), replace(public, connectivity="offline")).candidates == ("local",)


PUBLIC = Facts(label="public", connectivity="online", places=(DEVICE, CLOUD))


@pytest.mark.parametrize(
    ("preset", "known", "rule", "candidates"),
    [
        ("offline-first", {"local_ready": False, "memory_headroom_mib": 127}, "out-of-memory", ("remote", "local")),
        ("offline-first", {"local_ready": False, "memory_headroom_mib": 128}, "default", ("local", "remote")),
        ("offline-first", {"local_ready": True, "memory_headroom_mib": 127}, "default", ("local", "remote")),
        ("offline-first", {"connectivity": "captive", "local_meets_deadline": False}, "no-network", ("local",)),
        (
            "cloud-assist",
            {"remote_meets_deadline": False, "local_meets_deadline": True},
            "remote-too-late",
            ("local", "remote"),
        ),
        (
            "cloud-assist",
            {"remote_meets_deadline": False, "local_meets_deadline": False},
            "default",
            ("remote", "local"),
        ),
        ("cloud-assist", {"remote_meets_deadline": False}, "default", ("remote", "local")),
        ("cloud-assist", {"connectivity": "captive"}, "no-network", ("local",)),
        ("cloud-assist", {"connectivity": "degraded"}, "default", ("remote", "local")),
    ],
)
def test_the_rules_of_the_presets(preset, known, rule, candidates):
    decision = decide(load_policy(preset), replace(PUBLIC, **known))
    assert (decision.rule, decision.candidates) == (rule, candidates)
