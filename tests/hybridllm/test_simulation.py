"""Recorded requests decided again: shares, latencies, tokens, cost, and what newly leaves, against hand-made logs."""

import json
from dataclasses import asdict, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridllm.logged_decision import LoggedAttempt, LoggedDecision
from hybridllm.simulation import Assumptions, Tokens, Transition, simulate
from policies import Facts, Place, decide, load_policy, parse_policy
from tests.policies import strategies

PLACES = (Place("local", "device", 4096, frozenset()), Place("remote", "cloud"))
PUBLIC = Facts(
    label="public", connectivity="online", prompt_tokens=100.4, local_ttft_ms=1000, local_tokens_per_s=10,
    remote_ttft_ms=200, remote_tokens_per_s=100, places=PLACES,
)  # fmt: skip
LOCAL_FIRST, REMOTE_FIRST = load_policy("kiosk"), load_policy("cloud-assist")


def logged(line=1, policy=LOCAL_FIRST, facts=PUBLIC, *, ttft_ms=500.0, tokens_per_s=20.0, served_by=None, **more):
    decision = decide(policy, facts)
    place = next(iter(decision.candidates), "") if served_by is None else served_by
    attempts = (LoggedAttempt(place, "served", ttft_ms, tokens_per_s, 2.0),) if place else ()
    given = {"prompt_tokens": 100, "completion_tokens": 21, "egress_bytes": 0} | more
    recorded = json.loads(json.dumps(decision.to_dict()))
    return LoggedDecision(line, "2000-01-01T00:00:00.000+00:00", f"r{line}", facts, recorded, place, attempts, **given)


def test_the_same_policy_changes_nothing():
    report = simulate(LOCAL_FIRST, [logged(line) for line in range(1, 6)])
    assert (report.requests, report.changed_place, report.transitions) == (5, 0, ())
    assert report.old == report.new
    assert (report.replay.compared, report.replay.identical, report.replay.differing) == (5, 5, 0)
    assert report.recorded_policies == {f"kiosk {LOCAL_FIRST.hash}": 5}


def test_the_shares_latencies_tokens_and_cost_of_another_policy():
    entries = [logged(1), logged(2), logged(3, facts=replace(PUBLIC, label="private"))]
    report = simulate(REMOTE_FIRST, entries, Assumptions(price_prompt=10.0, price_completion=100.0))
    assert report.old.places == {"local": 3}
    assert report.new.places == {"remote": 2, "local": 1}
    assert (report.changed_place, report.newly_leave, report.no_longer_leave) == (2, 0, 0)
    # The device as measured: 0.5 s and 20 tokens at 20 tokens/s. The remote as it was known then: 0.2 s and 20 at 100.
    assert (report.old.latency.median_s, report.old.latency.p95_s) == (1.5, 1.5)
    assert (report.new.latency.median_s, report.new.latency.p95_s) == (0.4, 1.5)
    assert report.new.tokens == {"remote": Tokens(200, 42, 0), "local": Tokens(100, 21, 0)}
    assert report.old.cost == 0
    assert report.new.cost == pytest.approx((200 * 10 + 42 * 100) / 1e6)
    assert report.replay.compared == 0
    assert report.transitions == (Transition("default", "default", "local", "remote", False, False, 2),)
    assert (report.old.could_leave, report.new.could_leave) == (2, 2)


def test_what_is_assumed_stands_above_what_the_log_says():
    assumed = Assumptions(local_ttft_ms=100, local_tokens_per_s=200, remote_ttft_ms=50, remote_tokens_per_s=400)
    report = simulate(REMOTE_FIRST, [logged()], assumed)
    assert report.old.latency.median_s == pytest.approx(0.2)
    assert report.new.latency.median_s == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("entry", "median_s"),
    [
        (logged(ttft_ms=None, tokens_per_s=None), 3.0),  # what was known then
        (logged(tokens_per_s=None), 2.5),
        (logged(facts=replace(PUBLIC, local_tokens_per_s=None), tokens_per_s=None), None),
        (logged(facts=replace(PUBLIC, local_ttft_ms=None), ttft_ms=None), None),
        (logged(completion_tokens=None), None),
        (logged(completion_tokens=1, tokens_per_s=None), 0.5),
        (logged(completion_tokens=0, tokens_per_s=None), 0.5),
        (logged(served_by="remote"), 3.0),  # measured elsewhere, so it says nothing about the device
    ],
)
def test_what_an_estimate_is_made_of(entry, median_s):
    latency = simulate(LOCAL_FIRST, [entry]).new.latency
    assert latency.median_s == median_s
    assert (latency.known, latency.unknown) == ((0, 1) if median_s is None else (1, 0))


def test_the_95th_percentile_is_the_nearest_rank():
    entries = [logged(line, ttft_ms=1000.0 * line, completion_tokens=1) for line in range(1, 101)]
    latency = simulate(LOCAL_FIRST, entries).new.latency
    assert (latency.median_s, latency.p95_s) == (50.5, 95.0)


def test_prompt_tokens_are_counted_else_estimated_and_unknown_lengths_are_told():
    exact = replace(PUBLIC, local_prompt_tokens=120)
    entries = [
        logged(1, prompt_tokens=None, completion_tokens=None),
        logged(2, facts=exact, prompt_tokens=None),
        logged(3, facts=replace(PUBLIC, prompt_tokens=None), prompt_tokens=None),
    ]
    assert simulate(LOCAL_FIRST, entries).new.tokens == {"local": Tokens(100 + 120 + 0, 42, 1)}


def test_what_newly_leaves_and_what_no_longer_does():
    strict = parse_policy(
        "{version: 1, name: strict, labels: {order: [public, internal, private], unlabeled: private}, zones: {},"
        " default: [remote, local]}"
    )
    entries = [logged(line, strict) for line in range(1, 4)]
    report = simulate(LOCAL_FIRST, entries)
    assert (report.newly_leave, report.no_longer_leave, report.changed_place) == (3, 0, 0)
    assert report.transitions == (Transition("default", "default", "local", "local", True, False, 3),)
    report = simulate(strict, [logged(line) for line in range(1, 4)])
    assert (report.newly_leave, report.no_longer_leave) == (0, 3)
    assert (report.old.could_leave, report.new.could_leave) == (3, 0)


def test_transitions_come_with_the_most_first_and_name_both_rules():
    short = replace(PUBLIC, memory_headroom_mib=100)
    entries = [logged(1, facts=short), logged(2), logged(3, facts=replace(PUBLIC, connectivity="captive")), logged(4)]
    report = simulate(REMOTE_FIRST, entries)
    assert [(row.old_rule, row.new_rule, row.requests) for row in report.transitions] == [
        ("default", "default", 2),
        ("default", "no-network", 1),
        ("short-of-memory", "default", 1),
    ]
    assert report.old.rules == {"default": 3, "short-of-memory": 1}


def test_against_what_happened():
    fell_back = logged(1, REMOTE_FIRST, served_by="local")
    failed = LoggedAttempt("remote", "failed", None, None, 0.5)
    entries = [
        replace(fell_back, attempts=(failed, *fell_back.attempts)),
        logged(2, REMOTE_FIRST, served_by=""),
        logged(3, REMOTE_FIRST),
    ]
    report = simulate(REMOTE_FIRST, entries, against_happened=True)
    assert report.against == "happened"
    assert report.old.places == {"": 1, "local": 1, "remote": 1}
    assert (report.old.latency.median_s, report.old.latency.known, report.old.latency.unknown) == (2.25, 2, 1)
    assert report.changed_place == 2
    assert report.replay.identical == 3


def test_redactions_are_counted_and_the_facts_of_the_log_suffice_for_them():
    policy = parse_policy("""
version: 1
name: masked
labels: {order: [public, private], unlabeled: private}
zones: {cloud: public}
detectors: [email]
rules:
  - {name: mask, when: {detected: email}, route: [remote, local], redact: [email]}
default: [local]
""")
    found = replace(PUBLIC, label="private", declared_label="public", detected=frozenset({"email"}))
    report = simulate(policy, [logged(1, policy, found), logged(2, policy), logged(3, LOCAL_FIRST, found)])
    assert (report.old.redacted, report.new.redacted) == (1, 2)
    assert (report.newly_leave, report.replay.compared, report.replay.identical) == (1, 2, 2)


def test_labels_that_the_policy_does_not_know_count_as_its_top_label_and_are_counted():
    other = parse_policy(
        "{version: 1, name: o, labels: {order: [open, closed], unlabeled: closed}, zones: {cloud: open},"
        " default: [remote, local]}"
    )
    report = simulate(other, [logged(1), logged(2, facts=replace(PUBLIC, label=None))])
    assert (report.unknown_labels, report.new.could_leave) == (2, 0)
    assert report.no_longer_leave == 1


def test_a_decision_that_differs_under_the_same_hash_is_found_with_its_line():
    moved = logged(2)
    moved.decision["location"] = "elsewhere/kiosk.yaml:99"
    forged = logged(7)
    forged.decision["candidates"] = ["remote", "local"]
    typed = logged(8)
    typed.decision["redact"] = ["email"]
    report = simulate(LOCAL_FIRST, [logged(1), moved, forged, typed])
    assert (report.replay.compared, report.replay.identical, report.replay.moved) == (4, 1, 1)
    assert (report.replay.differing, report.replay.differing_lines) == (2, (7, 8))


def test_an_empty_log():
    report = simulate(LOCAL_FIRST, [])
    assert (report.requests, report.old.places, report.new.latency.median_s) == (0, {}, None)


@given(strategies.policies(), strategies.policies(), st.lists(strategies.facts(), max_size=4))
@settings(max_examples=50, deadline=None)
def test_the_sums_agree_and_the_same_policy_replays(policy, other, known):
    entries = [logged(line, policy, facts) for line, facts in enumerate(known, start=1)]
    same = simulate(policy, entries)
    assert same.replay.identical == len(entries)
    assert (same.changed_place, same.newly_leave, same.no_longer_leave, same.transitions) == (0, 0, 0, ())
    report = simulate(other, entries)
    for side in (report.old, report.new):
        assert sum(side.places.values()) == sum(side.rules.values()) == report.requests == len(entries)
        assert side.latency.known + side.latency.unknown == len(entries)
    assert report.new.could_leave - report.old.could_leave == report.newly_leave - report.no_longer_leave
    assert sum(row.requests for row in report.transitions if row.old_place != row.new_place) == report.changed_place
    assert json.loads(json.dumps(asdict(report)))["requests"] == len(entries)
