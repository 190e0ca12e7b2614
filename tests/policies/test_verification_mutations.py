"""Mutations of correct policies: the comparison finds every one that changes what may leave, and no other."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import policies
from policies import Facts, PolicyFileError, decide, preset_names, verify
from tests.docs.pages import policy_of_the_page
from tests.lanes import some_every_day
from tests.policies.policy_mutations import misspellings, mutants, policy_from
from tests.policies.policy_oracle import Oracle
from tests.policies.small_policies import documents

_PRESETS = Path(policies.__file__).parent / "presets"

CLINIC = """
version: 1
name: clinic
labels: {order: [public, internal, private], unlabeled: private, tags: {faq: public, health: private, staff: internal}}
zones: {cloud: public, site: internal}
detectors: [email, {name: project, label: internal, words: [falcon]}]
rules:
  - {name: no-network, when: {connectivity: [offline, captive]}, route: [local]}
  - {name: staff-must-wait, when: {tags: staff, local_ready: true}, route: [local]}
  - {name: names-a-project, when: {detected: project}, route: [remote, local], redact: [project]}
  - {name: slow, when: {local_ttft_ms: {gt: 1500}, label: {lt: private}}, route: [remote, local], on_interrupt: restart}
default: [local]
limits: {connect_s: 1, first_token_s: 4}
on_interrupt: error
hedge: {after: p90}
guarantees:
  - {name: health-stays, when: {tags: health}, never: [cloud, site]}
  - {name: staff-stays-in-the-house, when: {tags: staff}, never: [cloud]}
  - {name: nothing-by-a-captive-portal, when: {connectivity: captive}, never: [cloud, site]}
  - {name: mail-stays, when: {detected: email}, never: [cloud, site]}
"""

OPEN = """
version: 1
name: open
labels: {order: [open, secret], unlabeled: open, tags: {vip: secret}}
zones: {cloud: {ceiling: open, addresses: private}}
detectors: [phone]
rules:
  - {name: asked-to, when: {capabilities: {contains_all: [tools, images]}, local_ready: {ne: true}}, route: [remote]}
  - {name: declared, when: {declared_label: open, label: secret}, route: [remote], redact: [phone]}
default: [remote, local]
"""


def preset(name):
    document = yaml.safe_load((_PRESETS / f"{name}.yaml").read_text(encoding="utf-8"))
    if "detectors" in document:
        document["detectors"] = document["detectors"][:2]  # they are all alike, and brute force doubles with each
    return document


DOCUMENTS = {name: preset(name) for name in preset_names()}
DOCUMENTS |= {"clinic": yaml.safe_load(CLINIC), "open": yaml.safe_load(OPEN)}


def widenings(new, old):
    return [finding for finding in verify(new, against=old).findings if finding.kind == "widening"]


def check_the_counterexample(finding, new, old):
    """Under the facts of the finding the new policy gives the zone something that the old one gives not, or not so much of."""
    (place,) = finding.facts.places
    facts = Facts.from_dict(json.loads(json.dumps(finding.facts.to_dict())))
    decision = decide(new, facts)
    assert decision.rule == finding.subject
    assert place.name in decision.candidates
    if finding.old_facts is None:
        return  # refused
    before = decide(old, finding.old_facts)
    less = place.name in before.redacted_places and (
        place.name not in decision.redacted_places or set(before.redact) - set(decision.redact)
        or old.detectors != new.detectors
    )  # fmt: skip
    nearer = old.addresses_of(place.zone) == "private" and new.addresses_of(place.zone) == "any"
    assert place.name not in before.candidates or less or nearer


@pytest.mark.parametrize("name", some_every_day(DOCUMENTS, lambda name: name in ("offline-first", "open")))
def test_every_mutation_that_lets_more_leave_is_found_and_no_other(name):
    document = DOCUMENTS[name]
    old = policy_from(document)
    compared = widened = 0
    for sentence, changed in mutants(document):
        try:
            new = policy_from(changed)
        except PolicyFileError:
            continue  # refused by the loader, and so caught
        found = widenings(new, old)
        assert bool(found) == Oracle(old, new).widens(), sentence
        for finding in found:
            check_the_counterexample(finding, new, old)
        compared += 1
        widened += bool(found)
    assert compared >= 20
    assert widened >= 7


@given(documents(), st.data())
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_the_same_of_drawn_policies(document, data):
    old = policy_from(document)
    changes = list(mutants(document))
    for sentence, changed in data.draw(st.lists(st.sampled_from(changes), min_size=1, max_size=3)):
        try:
            new = policy_from(changed)
        except PolicyFileError:
            continue
        oracle = Oracle(old, new)
        if len(oracle.moments) * len(oracle.requests) > 1500:
            continue
        found = widenings(new, old)
        assert bool(found) == oracle.widens(), sentence
        for finding in found:
            check_the_counterexample(finding, new, old)


@pytest.mark.parametrize("name", some_every_day(DOCUMENTS, lambda name: name in ("offline-first", "open")))
def test_narrowing_is_widening_seen_from_the_other_side(name):
    document = DOCUMENTS[name]
    old = policy_from(document)
    for sentence, changed in list(mutants(document))[::3]:
        try:
            new = policy_from(changed)
        except PolicyFileError:
            continue
        narrowed = [it for it in verify(new, against=old).findings if it.kind == "narrowing"]
        assert len(narrowed) == len(widenings(old, new)), sentence
        assert all(finding.severity == "information" for finding in narrowed)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_policy_does_not_differ_from_itself(name):
    policy = policy_from(DOCUMENTS[name])
    assert not {it.kind for it in verify(policy, against=policy).findings} & {"widening", "narrowing"}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_misspelling_is_refused_by_the_loader(name):
    tried = 0
    for sentence, changed in misspellings(DOCUMENTS[name]):
        try:
            policy_from(changed)
        except PolicyFileError:
            tried += 1
        else:
            pytest.fail(f"the loader takes a misspelt {sentence}")
    assert tried >= 30


def test_mutations_that_break_a_guarantee_are_found_without_the_old_policy():
    document = DOCUMENTS["clinic"]
    assert verify(policy_from(document)).passes(strict=True)
    broken = {}
    for sentence, changed in mutants(document):
        try:
            policy = policy_from(changed)
        except PolicyFileError:
            continue
        found = {
            (finding.message.split("'")[1], finding.subject, finding.facts.places[0].zone)
            for finding in verify(policy).findings
            if finding.kind == "guarantee"
        }
        assert found == Oracle(policy).outcomes()[2], sentence
        if found:
            broken[sentence] = {guarantee for guarantee, _, _ in found}
    assert broken["tag health is public"] == {"health-stays"}
    assert broken["ceiling of cloud is internal"] == {"staff-stays-in-the-house"}
    assert "nothing-by-a-captive-portal" in broken["drop rule 0"]
    assert "nothing-by-a-captive-portal" in broken["fewer of connectivity in rule 0"]
    assert broken["drop tag staff"] == {"staff-stays-in-the-house"} or "drop tag staff" in broken


def test_a_dropped_guarantee_is_a_warning():
    document = DOCUMENTS["clinic"]
    fewer = {**document, "guarantees": document["guarantees"][1:]}
    verification = verify(policy_from(fewer), against=policy_from(document))
    assert [(it.kind, it.severity, it.subject) for it in verification.findings] == [
        ("dropped_guarantee", "warning", "health-stays")
    ]


def test_a_label_that_only_the_new_policy_knows_was_refused_under_the_old_one():
    document = {**DOCUMENTS["kiosk"], "guarantees": []}
    labels = {**document["labels"], "order": ["public", "press", "internal", "private"]}
    new = policy_from({**document, "labels": labels, "zones": {"site": "internal"}})
    found = widenings(new, policy_from({**document, "zones": {"site": "internal"}}))
    assert found
    # As a floor the old policy takes it for its top label.
    assert all("press" in finding.request for finding in found)
    assert all(finding.old_facts is None or finding.old_facts.label == "private" for finding in found)


def test_labels_that_all_have_new_names():
    def named(low, high):
        labels = {"order": [low, high], "unlabeled": high}
        document = {"version": 1, "name": "n", "labels": labels, "zones": {"cloud": low}, "default": ["remote"]}
        return policy_from(document)

    old, new = named("low", "high"), named("open", "closed")
    assert Oracle(old, new).widens()
    (finding,) = widenings(new, old)
    assert finding.old_facts is None
    assert finding.request == "labelled open"
    assert "knows no such label, so it was refused" in finding.message


def redacting(redact, words):
    labels = {"order": ["open", "secret"], "unlabeled": "open"}
    detectors = ["email", {"name": "project", "label": "open", "words": words}]
    rules = [
        {"name": "mail", "when": {"detected": "email"}, "route": ["remote"], "redact": redact},
        {"name": "project", "when": {"detected": "project"}, "route": ["local"]},
    ]
    return policy_from(
        {
            "version": 1,
            "name": "n",
            "labels": labels,
            "zones": {"cloud": "open"},
            "detectors": detectors,
            "rules": rules,
            "default": ["remote"],
        }
    )


def test_less_taken_out_is_more_that_leaves():
    more, less = redacting(["email", "project"], ["falcon"]), redacting(["email"], ["falcon"])
    (finding,) = widenings(less, more)
    assert (finding.subject, finding.request) == ("mail", "labelled by nobody, with finds of email, project")
    assert "with more taken out" in finding.message
    assert widenings(more, less) == []
    assert Oracle(more, less).widens()
    assert not Oracle(less, more).widens()


def test_a_detector_with_other_words_is_another_one():
    old, new = redacting(["email"], ["falcon"]), redacting(["email"], ["heron"])
    found = widenings(new, old)
    assert {finding.subject for finding in found} == {"default"}
    assert [(finding.facts.detected, finding.old_facts.detected) for finding in found] == [
        (None, frozenset({"project"}))
    ]
    assert Oracle(old, new).widens()


def test_servers_at_public_addresses_are_another_reach():
    document = DOCUMENTS["open"]
    zones = {"cloud": {"ceiling": "open", "addresses": "any"}}
    found = widenings(policy_from({**document, "zones": zones}), policy_from(document))
    assert found
    assert all("at a public address" in finding.message for finding in found)


def test_another_place_on_the_route_is_another_reach():
    def named(place):
        return policies.parse_policy(
            f"{{version: 1, name: n, labels: {{order: [a, b], unlabeled: b}}, zones: {{z: a}}, default: [{place}]}}",
            places=("one", "two"),
        )

    (finding,) = widenings(named("two"), named("one"))
    assert finding.facts.places[0].name == "two"
    assert widenings(named("one"), named("one")) == []


def test_the_policy_of_the_documentation_is_not_weaker_than_itself_without_its_rules():
    document = yaml.safe_load(policy_of_the_page().text)
    document.pop("guarantees", None)
    without = policy_from({**document, "rules": []})
    assert bool(widenings(without, policy_from(document))) == Oracle(policy_from(document), without).widens()
