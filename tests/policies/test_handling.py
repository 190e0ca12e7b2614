"""How a policy says how requests are handled, and that it says nothing by it about who may see them."""

import json
from dataclasses import fields, replace

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from policies import Breaker, Hedge, Limits, PolicyFileError, Retries, Rule, decide, load_policy, parse_policy, verify
from policies.handling_keys import HANDLING_KEYS, RANGES, RULE_HANDLING_KEYS
from tests.policies import strategies
from tests.policies.policy_mutations import policy_from
from tests.policies.test_loader import KIOSK, UGLY

WITH_HANDLING = """\
version: 1
name: handled
labels: {order: [public, private], unlabeled: private}
zones: {cloud: public}
limits: {connect_s: 1, first_token_s: 4.5, gap_s: 2.5}
retries: {most: 3, budget: 0.5}
breaker: {failures: 4, open_s: 20, successes: 1}
on_interrupt: restart
hedge: {after: p90, budget: 0.25}
rules:
  - name: patient
    when: {tags: letter}
    route: [remote, local]
    on_interrupt: error
    hedge: false
  - name: hurried
    when: {deadline_s: {lt: 5}}
    route: [remote, local]
    hedge: {after: 0.75}
  - name: here
    when: {local_ready: true}
    route: [local]
default: [local, remote]
"""

BARE = """\
version: 1
name: bare
labels: {order: [public, private], unlabeled: private}
zones: {cloud: public}
rules:
  - {name: one, when: {tags: letter}, route: [remote, local]}
  - {name: two, when: {local_ready: true}, route: [local]}
default: [local, remote]
"""


def bare(top="", rule=""):
    """A policy that says these keys at the top, and these of its first rule."""
    return parse_policy(BARE.replace("route: [remote, local]", f"route: [remote, local]{rule and ', '}{rule}") + top)


def plain(policy):
    """The same policy with every default."""
    rules = tuple(replace(rule, on_interrupt=None, hedge=None) for rule in policy.rules)
    defaults = {field.name: field for field in fields(policy)}
    return replace(
        policy,
        rules=rules,
        on_interrupt="continue",
        hedge=None,
        **{name: defaults[name].default_factory() for name in ("limits", "retries", "breaker")},
    )


def test_it_is_read_as_it_is_written():
    policy = parse_policy(WITH_HANDLING)
    assert policy.limits == Limits(connect_s=1.0, first_token_s=4.5, gap_s=2.5)
    assert policy.retries == Retries(most=3, budget=0.5)
    assert policy.breaker == Breaker(failures=4, open_s=20.0, successes=1)
    assert policy.hedge == Hedge(after="p90", budget=0.25)
    assert policy.on_interrupt == "restart"
    assert [(rule.on_interrupt, rule.hedge) for rule in policy.rules] == [
        ("error", False),
        (None, Hedge(after=0.75)),
        (None, None),
    ]
    assert [policy.on_interrupt_of(at) for at in (0, 1, 2, None)] == ["error", "restart", "restart", "restart"]
    assert [policy.hedge_of(at) for at in (0, 1, 2, None)] == [None, Hedge(0.75), policy.hedge, policy.hedge]


def test_what_is_left_out_has_its_default():
    policy = bare()
    assert (policy.limits, policy.retries, policy.breaker) == (Limits(), Retries(), Breaker())
    assert (policy.on_interrupt, policy.hedge) == ("continue", None)
    assert all((rule.on_interrupt, rule.hedge) == (None, None) for rule in policy.rules)


@pytest.mark.parametrize(
    ("written", "name", "expected"),
    [
        ("limits: {gap_s: 1}", "limits", Limits(gap_s=1.0)),
        ("limits: {}", "limits", Limits()),
        ("retries: {most: 0}", "retries", Retries(most=0)),
        ("retries: {budget: 0}", "retries", Retries(budget=0.0)),
        ("breaker: {failures: 100}", "breaker", Breaker(failures=100)),
        ("hedge: {after: p50}", "hedge", Hedge(after="p50")),
        ("hedge: {budget: 1}", "hedge", Hedge(budget=1.0)),
        ("hedge: {}", "hedge", Hedge()),
        ("hedge: {after: 0.001}", "hedge", Hedge(after=0.001)),
        ("hedge: false", "hedge", None),
        ("on_interrupt: continue", "on_interrupt", "continue"),
        ("on_interrupt: error", "on_interrupt", "error"),
    ],
)
def test_a_part_of_it_can_be_said(written, name, expected):
    assert getattr(bare(written), name) == expected


def test_a_rules_hedge_is_its_own_and_takes_nothing_from_the_policys():
    policy = bare("hedge: {after: 2, budget: 0.5}", "hedge: {after: p99}")
    assert policy.hedge_of(0) == Hedge(after="p99", budget=Hedge().budget)


SAME_MEANING = [
    ("limits: {connect_s: 2, first_token_s: 10.0, gap_s: 5}", ""),
    ("limits: {}\nretries: {}\nbreaker: {}", ""),
    ("retries: {most: 2, budget: 0.2}", ""),
    ("breaker: {failures: 5, open_s: 10, successes: 2}", ""),
    ("on_interrupt: continue", ""),
    ("hedge: false", ""),
    ("", "hedge: false"),
    ("", "on_interrupt: continue"),
    ("on_interrupt: continue\nhedge: false", "hedge: false, on_interrupt: continue"),
]


@pytest.mark.parametrize(("top", "rule"), SAME_MEANING)
def test_writing_a_default_down_changes_no_hash(top, rule):
    assert bare(top, rule).hash == bare().hash


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("limits: {gap_s: 3}", ""), ("limits: {gap_s: 3.0, connect_s: 2}", "")),
        (("hedge: {}", ""), ("hedge: {after: p95, budget: 0.1}", "")),
        (("hedge: {after: 2}", ""), ("hedge: {after: 2.0}", "")),
        (("hedge: {after: 2}", ""), ("hedge: {after: 2}", "hedge: {after: 2.0, budget: 0.1}")),
        (("on_interrupt: error", ""), ("on_interrupt: error", "on_interrupt: error")),
        (("retries: {budget: 0}", ""), ("retries: {budget: -0.0}", "")),
    ],
)
def test_the_same_meaning_has_the_same_hash(one, other):
    assert bare(*one).hash == bare(*other).hash != bare().hash


def test_a_hedge_that_cannot_be_is_no_meaning():
    """On a route of the device alone nobody could be asked early, whatever is said of it."""
    text = BARE + "hedge: {after: 2}"
    assert parse_policy(text.replace("route: [local]", "route: [local], hedge: false")).hash == parse_policy(text).hash
    assert bare("hedge: {after: 2}", "hedge: false").hash != bare("hedge: {after: 2}").hash


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("connect_s: 1", "connect_s: 1.5"),
        ("first_token_s: 4.5", "first_token_s: 4"),
        ("gap_s: 2.5", "gap_s: 5"),
        ("most: 3", "most: 2"),
        ("budget: 0.5", "budget: 0.4"),
        ("failures: 4", "failures: 5"),
        ("open_s: 20", "open_s: 10"),
        ("successes: 1", "successes: 2"),
        ("on_interrupt: restart", "on_interrupt: continue"),
        ("on_interrupt: error", "on_interrupt: continue"),
        ("    on_interrupt: error\n", ""),
        ("after: p90", "after: p95"),
        ("budget: 0.25", "budget: 0.1"),
        ("    hedge: false\n", ""),
        ("after: 0.75", "after: 0.5"),
    ],
)
def test_each_value_is_a_part_of_the_meaning(old, new):
    assert old in WITH_HANDLING
    assert parse_policy(WITH_HANDLING.replace(old, new, 1)).hash != parse_policy(WITH_HANDLING).hash


def test_a_policy_that_says_nothing_of_it_has_the_meaning_that_it_always_had():
    said = load_policy("kiosk").to_dict()
    assert not set(said) & set(HANDLING_KEYS)
    assert not any(set(rule) & set(RULE_HANDLING_KEYS) for rule in said["rules"])


# (what to replace, with what, line, column, key, part of the message)
MISTAKES_IN_HANDLING = [
    ("limits: {", "limit: {", 5, 1, "limit", "Did you mean 'limits'?"),
    ("connect_s: 1", "connect: 1", 5, 10, "limits.connect", "Did you mean 'connect_s'?"),
    ("connect_s: 1", "connect_s: 0", 5, 21, "limits.connect_s", "expected seconds above 0, at most 3600, found 0."),
    ("connect_s: 1", "connect_s: -1", 5, 21, "limits.connect_s", "expected seconds above 0, at most 3600, found -1."),
    ("connect_s: 1", "connect_s: 3600.5", 5, 21, "limits.connect_s", "at most 3600, found 3600.5."),
    ("connect_s: 1", "connect_s: 2s", 5, 21, "limits.connect_s", "expected a number, found text ('2s')"),
    ("connect_s: 1", "connect_s: true", 5, 21, "limits.connect_s", "expected a number, found true or false"),
    ("connect_s: 1", "connect_s: 1:30", 5, 21, "limits.connect_s", "plain decimal number"),
    ("connect_s: 1", "connect_s: .inf", 5, 21, "limits.connect_s", "expected a finite number."),
    ("connect_s: 1, first", "connect_s: 1, connect_s: 2, first", 5, 24, "limits.connect_s", "stands twice, first in"),
    ("connect_s: 1, first_token_s: 4.5, gap_s: 2.5", "a, b", 5, 10, "limits.a", "unknown key 'a'"),
    ("{connect_s: 1, first_token_s: 4.5, gap_s: 2.5}", "4", 5, 9, "limits", "expected a mapping, found a number ('4')"),
    ("{connect_s: 1, first_token_s: 4.5, gap_s: 2.5}", "", 5, 8, "limits", "expected a mapping, found nothing"),
    ("most: 3", "most: 11", 6, 17, "retries.most", "expected a whole number from 0 to 10, found 11."),
    ("most: 3", "most: -1", 6, 17, "retries.most", "expected a whole number from 0 to 10, found -1."),
    ("most: 3", "most: 1.5", 6, 17, "retries.most", "expected a whole number, found 1.5"),
    ("most: 3", "max: 3", 6, 11, "retries.max", "Known: most, budget."),
    ("budget: 0.5", "budget: 1.5", 6, 28, "retries.budget", "expected a number from 0 to 1, found 1.5."),
    ("budget: 0.5", "budget: 20%", 6, 28, "retries.budget", "expected a number, found text ('20%')"),
    ("failures: 4", "failures: 0", 7, 21, "breaker.failures", "expected a whole number from 1 to 100, found 0."),
    ("failures: 4", "failures: 101", 7, 21, "breaker.failures", "expected a whole number from 1 to 100, found 101."),
    ("open_s: 20", "open_s: 0", 7, 32, "breaker.open_s", "expected seconds above 0"),
    ("successes: 1", "success: 1", 7, 36, "breaker.success", "Did you mean 'successes'?"),
    ("on_interrupt: restart", "on_interrupt: contine", 8, 15, "on_interrupt", "Did you mean 'continue'?"),
    ("on_interrupt: restart", "on_interupt: restart", 8, 1, "on_interupt", "Did you mean 'on_interrupt'?"),
    ("on_interrupt: restart", "on_interrupt: false", 8, 15, "on_interrupt", "Known: continue, restart, error."),
    ("on_interrupt: restart", "on_interrupt: [error]", 8, 15, "on_interrupt", "expected a single value, found a list"),
    ("after: p90", "after: p96", 9, 16, "hedge.after", "found 'p96'. Known: p50, p75, p90, p95, p99."),
    ("after: p90", "after: 2s", 9, 16, "hedge.after", "expected seconds above 0, at most 3600, or a percentile"),
    ("after: p90", "after: 0", 9, 16, "hedge.after", "expected seconds above 0, at most 3600, found 0."),
    ("after: p90", "after: [p90]", 9, 16, "hedge.after", "expected a single value, found a list"),
    ("after: p90", "afer: p90", 9, 9, "hedge.afer", "Did you mean 'after'?"),
    ("budget: 0.25", "budget: 0", 9, 29, "hedge.budget", "above 0, at most 1, found 0. Write hedge: false for none."),
    ("budget: 0.25", "budget: 1.01", 9, 29, "hedge.budget", "above 0, at most 1, found 1.01."),
    ("{after: p90, budget: 0.25}", "true", 9, 8, "hedge", "Write a mapping, such as {after: p95}"),
    ("{after: p90, budget: 0.25}", "p90", 9, 8, "hedge", "a hedge is a mapping or false."),
    ("{after: p90, budget: 0.25}", "", 9, 7, "hedge", "a hedge is a mapping or false."),
    ("on_interrupt: error", "on_interrupt: stop", 14, 19, "rules[0].on_interrupt", "unknown value 'stop'"),
    ("    hedge: false", "    hegde: false", 15, 5, "rules[0].hegde", "Did you mean 'hedge'?"),
    ("    hedge: false", "    limits: {gap_s: 1}", 15, 5, "rules[0].limits", "unknown key 'limits'."),
    ("after: 0.75", "after: 0.75, budget: 2", 19, 34, "rules[1].hedge.budget", "found 2."),
    (
        "    route: [remote, local]\n    hedge: {",
        "    route: [remote]\n    hedge: {",
        19,
        12,
        "rules[1].hedge",
        "no second place that could be asked early. Write route: [remote, local], or leave hedge out.",
    ),
    ("    route: [local]\n", "    route: [local]\n    hedge: {}\n", 23, 12, "rules[2].hedge", "[local, remote], or"),
]


@pytest.mark.parametrize(("old", "new", "line", "column", "key", "part"), MISTAKES_IN_HANDLING)
def test_a_mistake_is_named_with_line_column_and_key(old, new, line, column, key, part):
    assert old in WITH_HANDLING
    with pytest.raises(PolicyFileError) as raised:
        parse_policy(WITH_HANDLING.replace(old, new, 1), file="h.yaml")
    error = raised.value
    assert (error.line, error.column, error.key) == (line, column, key)
    assert part in str(error)
    assert "\n" not in str(error)


def test_the_mend_of_a_route_names_places_that_there_are():
    text = BARE.replace("[remote, local]", "[here]").replace("local", "here")
    with pytest.raises(PolicyFileError, match=r"Write route: \[here, local\], or leave hedge out\."):
        parse_policy(text.replace("route: [here]}", "route: [here], hedge: {}}", 1), places=("here", "there"))
    alone = BARE.replace("[remote, local]", "[local], hedge: {}").replace("[local, remote]", "[local]")
    with pytest.raises(PolicyFileError, match=r"asked early\. Leave hedge out\."):
        parse_policy(alone, places=())


@pytest.mark.parametrize(
    "text",
    [f'{key}: "{UGLY}"\n' for key in HANDLING_KEYS] + [f'hedge: {{after: "{UGLY}"}}\n', f'limits: {{"{UGLY}": 1}}'],
)
def test_what_a_user_wrote_cannot_break_a_message(text):
    with pytest.raises(PolicyFileError) as raised:
        parse_policy(BARE + text)
    assert str(raised.value).isprintable()


def test_the_ends_of_every_range_are_taken():
    for group, keys in RANGES.items():
        for name, allowed in keys.items():
            least = 0.001 if allowed.above else allowed.least
            for number in (least, allowed.most):
                policy = bare(f"{group}: {{{name}: {number:g}}}")
                assert getattr(getattr(policy, group), name) == number


@st.composite
def handling_documents(draw):
    """The keys of handling, each of them now and then, in a document that the loader takes."""
    document = yaml.safe_load(BARE)
    document |= draw(strategies.handling())
    for rule in document["rules"]:
        own = draw(strategies.rule_handling())
        if len(rule["route"]) == 1 and own.get("hedge") is not False:
            own.pop("hedge", None)
        rule |= own
    return document


@given(handling_documents())
@settings(max_examples=150, deadline=None)
def test_what_is_said_comes_back_from_the_plain_values(document):
    policy = policy_from(document)
    said = json.loads(json.dumps(policy.to_dict()))
    again = {**yaml.safe_load(BARE), **{key: said[key] for key in HANDLING_KEYS if key in said}}
    for rule, written in zip(again["rules"], said["rules"], strict=True):
        rule |= {key: written[key] for key in RULE_HANDLING_KEYS if key in written}
    read = policy_from(again)
    assert read.hash == policy.hash
    assert read.to_dict() == policy.to_dict()
    outcomes = [at for at in (0, None) if at is None or policy.rules[at].route != ("local",)]
    assert [read.hedge_of(at) for at in outcomes] == [policy.hedge_of(at) for at in outcomes]
    assert [read.on_interrupt_of(at) for at in (0, 1, None)] == [policy.on_interrupt_of(at) for at in (0, 1, None)]
    assert (read.hash == plain(policy).hash) == (read == plain(policy))


@given(strategies.policies(), strategies.facts())
@settings(max_examples=200, deadline=None)
def test_it_decides_nothing(policy, facts):
    decided, without = decide(policy, facts).to_dict(), decide(plain(policy), facts).to_dict()
    assert decided.pop("policy_hash") == policy.hash
    without.pop("policy_hash")
    assert decided == without


@pytest.mark.parametrize(("text", "named"), [(WITH_HANDLING, "limits.connect_s"), (KIOSK, "")])
def test_the_verification_says_the_same_with_and_without_it(text, named):
    policy = parse_policy(text)
    alone = verify(policy)
    assert alone.to_dict() == verify(plain(policy)).to_dict()
    for new, old in ((policy, plain(policy)), (plain(policy), policy)):
        compared = verify(new, against=old)
        assert compared.may_leave == alone.may_leave
        further = [finding for finding in compared.findings if finding not in alone.findings]
        assert [(finding.kind, finding.severity) for finding in further] == [("handling", "information")] * bool(named)
        assert all(named in finding.message for finding in further)
        assert compared.passes() == alone.passes()


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("gap_s: 2.5", "gap_s: 3", "limits.gap_s"),
        (", gap_s: 2.5", "", "limits.gap_s"),
        ("most: 3", "most: 2", "retries.most"),
        (
            "breaker: {failures: 4, open_s: 20, successes: 1}\n",
            "",
            "breaker.failures, breaker.open_s, breaker.successes",
        ),
        ("on_interrupt: restart", "on_interrupt: error", "on_interrupt, on_interrupt of 'patient'"),
        ("hedge: {after: p90, budget: 0.25}\n", "", "hedge, hedge of 'patient'"),
        ("after: 0.75", "after: 1", "hedge of 'hurried'"),
        ("    on_interrupt: error\n    hedge: false\n", "", "on_interrupt of 'patient', hedge of 'patient'"),
        ("# nothing", "", ""),
        ("hedge: {after: p90, budget: 0.25}", "hedge: {budget: 0.25, after: p90}", ""),
    ],
)
def test_a_comparison_names_what_is_handled_otherwise(old, new, named):
    before = parse_policy(WITH_HANDLING + "# nothing")
    after = parse_policy((WITH_HANDLING + "# nothing").replace(old, new, 1))
    found = [finding for finding in verify(after, against=before).findings if finding.kind == "handling"]
    assert [finding.message.partition(": ")[2] for finding in found] == ([f"{named}."] if named else [])


def test_a_rule_that_came_or_went_is_no_other_handling():
    fewer = WITH_HANDLING.replace("name: hurried", "name: in-a-hurry")
    for pair in ((fewer, WITH_HANDLING), (WITH_HANDLING, fewer)):
        new, old = map(parse_policy, pair)
        assert not [finding for finding in verify(new, against=old).findings if finding.kind == "handling"]


def test_a_shadowed_rule_that_is_handled_otherwise_is_not_called_the_same():
    again = "  - {name: again, when: {tags: letter}, route: [remote, local]}\n"
    (finding,) = verify(parse_policy(BARE.replace("  - {name: two", again + "  - {name: two"))).findings
    assert (finding.kind, "in the same way" in finding.message) == ("shadowed_rule", True)
    other = again.replace("local]}", "local], on_interrupt: error}")
    (finding,) = verify(parse_policy(BARE.replace("  - {name: two", other + "  - {name: two"))).findings
    assert (finding.kind, "routed alike" in finding.message) == ("shadowed_rule", True)


def test_the_device_begins_as_well_where_cloud_assist_waits_too_long():
    policy = load_policy("cloud-assist")
    by_rule = {rule.name: policy.hedge_of(at) for at, rule in enumerate(policy.rules)}
    assert isinstance(policy.hedge_of(None).after, float)
    assert policy.hedge_of(None).after < policy.limits.first_token_s
    assert by_rule["remote-too-late"] is None


@pytest.mark.parametrize("name", ["kiosk", "offline-first"])
def test_the_other_presets_never_ask_the_remote_early(name):
    policy = load_policy(name)
    assert [policy.hedge_of(at) for at in (*range(len(policy.rules)), None)] == [None] * (len(policy.rules) + 1)


def test_equal_policies_are_equal_members_of_a_set():
    assert len({parse_policy(WITH_HANDLING), parse_policy(WITH_HANDLING), plain(parse_policy(WITH_HANDLING))}) == 2
    assert Rule("a", (), ("local",), "f:1") == Rule("a", (), ("local",), "f:2", on_interrupt=None)
