"""What the verifier says of single policies, compared with brute force where that is possible."""

import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings

import policies.decision
from policies import (
    FACT_KINDS,
    Condition,
    Facts,
    Policy,
    decide,
    load_policy,
    parse_policy,
    preset_names,
    verify,
)
from policies.condition import OPERATORS, compile_condition
from policies.partition import FactCells, holds
from tests.policies import strategies
from tests.policies.policy_mutations import policy_from
from tests.policies.policy_oracle import Oracle, known_labels
from tests.policies.small_policies import documents

NEVER = {"impossible_rule", "shadowed_rule", "contradiction", "default_not_reached"}


def written(rules="[]", default="[local, remote]", *, more="", tags="{faq: public, health: private}"):
    return parse_policy(
        f"""version: 1
name: written
labels: {{order: [public, internal, private], unlabeled: private, tags: {tags}}}
zones: {{cloud: public, site: internal}}
detectors: [email, {{name: phone, label: internal}}]
{more}
rules: {rules}
default: {default}
""",
        file="p.yaml",
    )


def kinds(policy, **options):
    return [(finding.kind, finding.subject) for finding in verify(policy, **options).findings]


def small_enough(oracle):
    return len(oracle.moments) * len(oracle.requests) <= 1500


@given(documents())
@settings(max_examples=70, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_tables_and_verdicts_are_those_of_brute_force(document):
    policy = policy_from(document)
    oracle = Oracle(policy)
    if not small_enough(oracle):
        return
    deciding, leaves, broken = oracle.outcomes()
    verification = verify(policy)
    table = {(row.zone, row.label, rule, False) for row in verification.may_leave for rule in row.rules}
    table |= {(row.zone, row.label, rule, True) for row in verification.may_leave for rule in row.redacted}
    assert table == leaves
    never = {finding.subject for finding in verification.findings if finding.kind in NEVER}
    assert never == {*(rule.name for rule in policy.rules), "default"} - deciding
    found = [finding for finding in verification.findings if finding.kind == "guarantee"]
    assert {("promise", finding.subject, finding.facts.places[0].zone) for finding in found} == broken
    for finding in found:
        decision = decide(policy, finding.facts)
        assert decision.rule == finding.subject
        assert "remote" in decision.candidates
        assert all(one.test(known_labels(policy, finding.facts).values()) for one in policy.guarantees[0].when)
    assert not {finding.kind for finding in verification.findings} & {"leak", "decision", "undecided"}


@given(strategies.policies())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_policies_that_no_loader_lets_through_are_safe_as_well(policy):
    assert not [finding for finding in verify(policy).findings if finding.kind in ("leak", "undecided")]


@pytest.mark.parametrize("name", preset_names())
def test_the_presets_pass_with_strict(name):
    verification = verify(load_policy(name))
    assert verification.passes(strict=True)
    assert verification.findings == ()
    cloud = {row.label: row.rules for row in verification.may_leave if row.zone == "cloud"}
    assert cloud["public"]
    assert cloud["internal"] == cloud["private"] == ()


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("[{name: a, when: {memory_headroom_mib: {lt: 5, gt: 5}}, route: [local]}]", "impossible_rule"),
        ("[{name: a, when: {time_of_day: {gt: '08:00', lt: '08:01'}}, route: [local]}]", "impossible_rule"),
        ("[{name: a, when: {time_of_day: {gt: '23:59'}}, route: [local]}]", "impossible_rule"),
        ("[{name: a, when: {detected: emial}, route: [local]}]", "impossible_rule"),
        ("[{name: a, when: {detected: {contains_all: [email, emial]}}, route: [local]}]", "impossible_rule"),
        ("[{name: a, when: {label: public, tags: health}, route: [local]}]", "impossible_rule"),
        ("[{name: a, when: {label: internal, detected: email}, route: [local]}]", "impossible_rule"),
        ("[{name: a, when: {label: public, declared_label: internal}, route: [local]}]", "impossible_rule"),
        ("[{name: a, when: {weekday: {in: [mon], not_in: [mon, sun]}}, route: [local]}]", "impossible_rule"),
    ],
)
def test_conditions_that_exclude_each_other(rules, expected):
    assert (expected, "a") in kinds(written(rules))


@pytest.mark.parametrize(
    "when",
    [
        "{memory_headroom_mib: {gt: 5, lt: 6}}",
        "{time_of_day: {gt: '08:00', lt: '08:02'}}",
        "{label: internal, detected: phone}",
        "{label: private, declared_label: public}",
        "{label: public, tags: {contains_all: [faq, vip]}}",
        "{detected: {contains_all: [email, phone]}}",
        "{capabilities: {contains_all: [tools, images]}, weekday: {ne: mon}}",
    ],
)
def test_conditions_that_something_meets(when):
    assert kinds(written(f"[{{name: a, when: {when}, route: [local]}}]")) == []


def test_a_rule_that_others_cover_together_is_shadowed_or_contradicts_them():
    rules = """
  - {name: low, when: {memory_headroom_mib: {lt: 512}}, route: [local]}
  - {name: other, when: {weekday: mon}, route: [remote]}
  - {name: high, when: {memory_headroom_mib: {ge: 512}}, route: [local]}
  - {name: late, when: {memory_headroom_mib: {ne: 7}}, route: %s}
"""
    (finding,) = verify(written(rules % "[local]")).findings
    assert (finding.kind, finding.subject, finding.location) == ("shadowed_rule", "late", "p.yaml:11")
    assert "'low' (p.yaml:8) and 'high' (p.yaml:10)" in finding.message
    assert "other" not in finding.message
    (finding,) = verify(written(rules % "[remote, local]")).findings
    assert finding.kind == "contradiction"
    assert "'low' routes to local" in finding.message
    assert finding.mend == "Move it above 'low' and 'high', or take it out."


def test_a_candidate_whose_requests_nobody_may_see_is_a_warning():
    verification = verify(written("[{name: secret, when: {label: private}, route: [remote, local]}]"))
    assert [(it.kind, it.severity, it.subject) for it in verification.findings] == [
        ("unused_candidate", "warning", "secret")
    ]
    assert verification.passes()
    assert not verification.passes(strict=True)


def test_a_candidate_that_only_redacted_text_reaches_is_used():
    rules = "[{name: a, when: {label: private}, route: [remote], redact: [email]}]"
    verification = verify(written(rules))
    assert verification.findings == ()
    rows = {(row.zone, row.label): (row.rules, row.redacted) for row in verification.may_leave}
    assert rows["cloud", "private"] == ((), ("a",))
    assert rows["cloud", "internal"] == ((), ())


def test_a_guarantee_is_broken_by_redacted_text_too_and_is_printed_as_facts():
    policy = written(
        "[{name: a, when: {detected: phone}, route: [remote], redact: [phone]}]",
        more="guarantees: [{name: phones-stay, when: {detected: phone}, never: [cloud]}]",
    )
    # The label of the redacted text is what counts for the zone, so the guarantee says more than the ceilings do.
    findings = [finding for finding in verify(policy).findings if finding.subject == "a"]
    assert [finding.kind for finding in findings] == ["guarantee"]
    facts = Facts.from_dict(json.loads(json.dumps(findings[0].facts.to_dict())))
    assert facts == findings[0].facts
    decision = decide(policy, facts)
    assert decision.redacted_places == ("remote",)
    assert "redacted text" in findings[0].message


def test_a_guarantee_that_nothing_meets_promises_nothing():
    policy = written(more="guarantees: [{name: g, when: {detected: emial}, never: [cloud]}]")
    (finding,) = verify(policy).findings
    assert (finding.kind, finding.subject, finding.severity) == ("empty_guarantee", "g", "error")
    assert finding.mend == "The policy has no detector 'emial'; it has email, phone."


def test_a_default_that_nothing_reaches_is_said():
    verification = verify(written("[{name: all, when: {label: {ge: public}}, route: [local]}]"))
    assert [(it.kind, it.severity) for it in verification.findings] == [("default_not_reached", "information")]
    assert verification.passes(strict=True)


def test_what_happens_while_each_signal_is_unknown():
    policy = written(
        "[{name: a, when: {connectivity: {ne: offline}, tags: faq}, route: [remote]},"
        " {name: b, when: {label: private}, route: [local]},"
        " {name: c, when: {detected: phone}, route: [local]}]"
    )
    signals = {signal.fact: signal for signal in verify(policy).unknown_signals}
    assert set(signals) == {"connectivity", "tags", "label", "detected"}
    assert signals["connectivity"].cannot_match == ("a",)
    assert signals["connectivity"].remaining["internal"] == (("c", ("local",)), ("default", ("local", "remote")))
    assert signals["connectivity"].remaining["private"] == (("b", ("local",)),)
    assert signals["detected"].remaining["public"] == (("a", ("remote",)), ("default", ("local", "remote")))
    assert (signals["label"].cannot_match, signals["label"].counts_as) == ((), "private")
    assert list(signals["label"].remaining) == ["private"]


def test_an_unknown_declared_label_counts_as_the_top_label():
    policy = written("[{name: a, when: {declared_label: private}, route: [local]}]")
    (signal,) = verify(policy).unknown_signals
    assert (signal.cannot_match, signal.counts_as) == ((), "private")
    assert {label: [rule for rule, _ in rules] for label, rules in signal.remaining.items()} == {
        "public": ["a"],
        "internal": ["a"],
        "private": ["a"],
    }
    for label in policy.labels.order:
        assert decide(policy, Facts(label=label)).rule == "a"


def test_too_many_states_are_not_taken_for_fine():
    verification = verify(load_policy("kiosk"), max_states=5)
    assert [finding.kind for finding in verification.findings] == ["undecided"]
    assert not verification.passes()


def test_an_adversarial_policy_is_undecided_and_soon():
    conditions = ", ".join(
        f"{{name: r{at}, when: {{tags: {{contains_all: [a{at}, b{at}]}}}}, route: [local]}}" for at in range(30)
    )
    words = ", ".join(f"{side}{at}" for at in range(30) for side in "ab")
    policy = written(f"[{conditions}, {{name: last, when: {{tags: {{contains_any: [{words}]}}}}, route: [remote]}}]")
    verification = verify(policy, max_states=20_000)
    assert verification.states < 40_000
    assert verification.passes() or [finding.kind for finding in verification.findings] == ["undecided"]


class _Everything(Policy):
    def may_see(self, zone, label):
        return zone in self.zones


def _careless(policy):
    return _Everything(**{name: getattr(policy, name) for name in Policy.__dataclass_fields__})


def test_a_ceiling_that_is_not_looked_at_is_a_leak_with_a_counterexample():
    broken = _careless(load_policy("kiosk"))
    findings = verify(broken).findings
    assert {finding.kind for finding in findings} == {"leak"}
    for finding in findings:
        decision = decide(broken, finding.facts)
        assert "remote" in decision.candidates
        assert not Policy.may_see(broken, finding.facts.places[0].zone, decision.label)


@pytest.mark.parametrize("wrong", ["lower_label", "other_rule", "redacts_everything", "no_device", "strikes_out"])
def test_a_decision_that_is_wrong_is_found(monkeypatch, wrong):
    right = policies.decision.decide

    def decide_wrongly(policy, facts):
        decision = right(policy, facts)
        if wrong == "lower_label" and facts.label == "internal":
            return right(policy, replace(facts, label="public"))
        if wrong == "other_rule" and facts.connectivity == "offline":
            return right(policy, replace(facts, connectivity=None))
        if wrong == "redacts_everything" and facts.detected and facts.places:
            return replace(
                decision, candidates=("remote", "local"), redacted_places=("remote",), redacted_label="public"
            )
        if wrong == "no_device":
            return replace(decision, candidates=tuple(it for it in decision.candidates if it != "local"))
        if wrong == "strikes_out":
            return replace(decision, candidates=("local",))
        return decision

    monkeypatch.setattr(policies.decision, "decide", decide_wrongly)
    policy = written(
        "[{name: a, when: {connectivity: offline}, route: [local]}, {name: b, when: {detected: email}, route: [local]}]"
    )
    findings = verify(policy).findings
    expected = "decision" if wrong in ("no_device", "strikes_out") else "leak"
    assert expected in {finding.kind for finding in findings}
    assert all(finding.facts is not None for finding in findings)


@given(strategies.labels(), strategies.facts())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_conditions_mean_to_the_verifier_what_they_mean_to_the_decision(labels, facts):
    facts = replace(facts, label=labels.order[0], declared_label=None)
    values = dict(zip(FACT_KINDS, facts.values(), strict=True))
    for fact, kind in FACT_KINDS.items():
        constant = {"number": 512, "boolean": True, "connectivity": "online", "weekday": "mon", "time": "12:00"}
        operand = constant.get(kind, labels.order[-1] if kind == "label" else "faq")
        for operator in OPERATORS[kind]:
            several = operator in ("in", "not_in", "contains_any", "contains_all")
            condition = compile_condition(fact, operator, (operand,) if several else operand, labels)
            value = values[fact]
            if value != value:
                continue  # not a number: nobody knows it
            assert holds(condition, value, labels.rank) == condition.test(facts.values()), condition


def test_cells_are_cut_at_the_constants_and_between_neighbours():
    def numbers(*constants):
        conditions = [Condition("deadline_s", "lt", constant, lambda _: True) for constant in constants]
        return FactCells("deadline_s", conditions).values

    assert numbers(5, 6) == (4, 5, 5.5, 6, 7)
    assert numbers(5, 9) == (4, 5, 6, 9, 10)
    low, high = 1.0, 1.0 + 2**-52
    assert numbers(low, high) == (0.0, low, high, high + 1)
    assert numbers(1e300)[0] < 1e300 < numbers(1e300)[-1]
    times = [Condition("time_of_day", "lt", time, lambda _: True) for time in ("00:00", "08:00", "08:01", "23:59")]
    assert FactCells("time_of_day", times).values == ("00:00", "00:01", "08:00", "08:01", "08:02", "23:59")
