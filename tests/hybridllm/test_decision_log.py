"""The decision log: what it keeps, what it never keeps, and that it never stands in an answer's way."""

import json
import logging
import os
import stat
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridllm.decision_log import DecisionLog, DecisionLogError, entry_of, read_decision_log
from hybridllm.types.completion_usage import CompletionUsage
from hybridllm.types.route import Attempt, Route
from policies import Detector, Facts, Place, decide, load_policy, parse_policy
from tests.policies import strategies

DEVICE = Place("local", "device", 4096, frozenset())
CLOUD = Place("remote", "cloud")
FACTS = Facts(label="public", tags=frozenset({"faq"}), connectivity="online", places=(DEVICE, CLOUD))
USAGE = CompletionUsage(prompt_tokens=20, completion_tokens=5, total_tokens=25)
POLICY = load_policy("kiosk")


def route_of(decision, *attempts, **more):
    served = attempts[-1].place if attempts else ""
    given = {"served_by": served, "rule": decision.rule, "rule_location": decision.location, "reason": "Said."}
    given |= {"label": decision.label, "policy": decision.policy_name, "policy_hash": decision.policy_hash}
    return Route(**given, attempts=list(attempts), **more)


def entry(policy=POLICY, facts=FACTS, usage=USAGE, **more):
    decision = decide(policy, facts)
    attempt = Attempt(place="local", outcome="served", started_s=0.25, duration_s=1.5, ttft_ms=350.0)
    route = route_of(decision, attempt, ttft_ms=600.0, tokens_per_s=10.0)
    return entry_of(policy, facts, decision, route, usage, request_id="chatcmpl-1", **more)


def test_an_entry_comes_back_as_it_was_written(tmp_path):
    decision = decide(POLICY, FACTS)
    failed = Attempt(
        place="remote", outcome="failed", error="RemoteError: 500", started_s=0.0, duration_s=0.2, egress_bytes=321
    )
    served = Attempt(place="local", outcome="served", started_s=0.2, duration_s=1.5, ttft_ms=400.0)
    route = route_of(decision, failed, served, ttft_ms=600.0, tokens_per_s=10.0, egress_bytes=321)
    log = DecisionLog(tmp_path / "d.jsonl")
    log.append(entry_of(POLICY, FACTS, decision, route, USAGE, request_id="chatcmpl-1", at_s=0.5))
    (again,) = read_decision_log(tmp_path / "d.jsonl")
    assert (again.line, again.time, again.request_id) == (1, "1970-01-01T00:00:00.500+00:00", "chatcmpl-1")
    assert again.facts == FACTS
    assert again.decision == decision.to_dict()
    assert again.decision_json() == decision.to_json()
    assert (again.served_by, again.prompt_tokens, again.completion_tokens, again.egress_bytes) == ("local", 20, 5, 321)
    first, last = again.attempts
    assert (first.place, first.outcome, first.ttft_ms, first.duration_s) == ("remote", "failed", None, 0.2)
    assert (last.place, last.outcome, last.ttft_ms, last.tokens_per_s) == ("local", "served", 400.0, 10.0)
    raw = json.loads((tmp_path / "d.jsonl").read_text())
    assert raw["outcome"]["attempts"][0]["error"] == "RemoteError"


def test_a_request_that_nobody_served(tmp_path):
    decision = decide(POLICY, FACTS)
    failed = Attempt(place="local", outcome="failed", error="EngineError: x", started_s=0.0, duration_s=0.2)
    log = DecisionLog(tmp_path / "d.jsonl")
    log.append(entry_of(POLICY, FACTS, decision, route_of(decision, failed), None, request_id="a"))
    log.append(entry_of(POLICY, FACTS, decision, route_of(decision), None, request_id="b"))
    first, second = read_decision_log(tmp_path / "d.jsonl")
    assert (first.served_by, first.completion_tokens, len(first.attempts)) == ("", None, 1)
    assert (second.served_by, second.attempts) == ("", ())


CANARY = "my card is 4111 1111 1111 1111"


def test_nothing_that_a_caller_wrote_is_kept(tmp_path):
    policy = replace(POLICY, detectors=(Detector("email"),))
    facts = replace(
        FACTS,
        label=CANARY,
        declared_label=CANARY,
        tags=frozenset({"faq", CANARY, "vip"}),
        detected=frozenset({"email", CANARY}),
    )
    decision = decide(policy, facts)
    attempt = Attempt(place="local", outcome="failed", error=f"EngineError: {CANARY}", started_s=0.0, duration_s=0.1)
    written = entry_of(policy, facts, decision, route_of(decision, attempt), None, request_id="a")
    assert "4111" not in json.dumps(written)
    assert written["facts"]["tags"] == ["faq", "other"]
    assert written["facts"]["detected"] == ["email", "other"]
    assert "label" not in written["facts"]
    assert written["decision"] == decision.to_dict()


def test_a_policys_own_word_is_never_the_mask():
    policy = parse_policy(
        "{version: 1, name: p, labels: {order: [a], unlabeled: a, tags: {other: a}}, zones: {}, default: [local]}"
    )
    assert entry(policy, replace(FACTS, tags=frozenset({"x"})))["facts"]["tags"] == ["other-"]
    assert entry(policy, replace(FACTS, tags=frozenset({"other"})))["facts"]["tags"] == ["other"]


_WORDS = st.none() | st.frozensets(st.sampled_from((*strategies.TAGS, "other", "unheard-of")))


@given(strategies.policies(), strategies.facts(), _WORDS, _WORDS)
@settings(max_examples=150, deadline=None)
def test_an_entry_is_decided_again_to_the_same_bytes(tmp_path_factory, policy, facts, tags, detected):
    facts = replace(facts, tags=tags, detected=detected)
    log = DecisionLog(tmp_path_factory.getbasetemp() / f"{os.getpid()}.jsonl")
    log.path.unlink(missing_ok=True)
    log.append(entry(policy, facts))
    (again,) = read_decision_log(log.path)
    decision = decide(policy, facts)
    assert decide(policy, again.facts).to_json() == decision.to_json() == again.decision_json()


@given(st.lists(strategies.facts(), min_size=2, max_size=5))
@settings(max_examples=60, deadline=None)
def test_each_line_has_its_own_facts(tmp_path_factory, known):
    """What a reader remembers of one line never changes another."""
    log = DecisionLog(tmp_path_factory.getbasetemp() / f"many-{os.getpid()}.jsonl")
    log.path.unlink(missing_ok=True)
    written = [entry(facts=facts) for facts in known]
    for line in written:
        log.append(line)
    read = [again.facts for again in read_decision_log(log.path)]
    assert read == [Facts.from_dict(json.loads(json.dumps(line["facts"]))) for line in written]


def test_lines_are_plain_json_that_other_programs_read(tmp_path):
    log = DecisionLog(tmp_path / "d.jsonl")
    log.append(entry(facts=replace(FACTS, budget_left=float("nan"), places=(DEVICE, Place("进", "cloud")))))
    raw = log.path.read_bytes()
    assert raw.endswith(b"}\n")
    assert raw.isascii()
    assert b"NaN" not in raw
    assert list(json.loads(raw)) == ["v", "time", "request", "facts", "decision", "outcome"]


@pytest.mark.parametrize("budget", [float("inf"), float("-inf"), 10**30, 2**63, -(10**5000)], ids=range(5))
def test_a_number_beyond_all_others_stays_beyond_them(tmp_path, budget):
    text = "{version: 1, name: p, labels: {order: [a, b], unlabeled: b}, zones: {cloud: a}, default: [local], rules: [RULE]}"
    rule = "{name: rich, when: {budget_left: {gt: 999999999999999}}, route: [remote]}"
    policy = parse_policy(text.replace("RULE", rule))
    facts = replace(FACTS, budget_left=budget)
    log = DecisionLog(tmp_path / "d.jsonl")
    log.append(entry(policy, facts))
    (again,) = read_decision_log(log.path)
    assert b"Infinity" not in log.path.read_bytes()
    assert again.decision_json() == decide(policy, again.facts).to_json() == decide(policy, facts).to_json()


def test_words_that_are_no_facts_are_left_out():
    written = entry(facts=replace(FACTS, connectivity=CANARY, weekday=CANARY, time_of_day=CANARY))
    assert not {"connectivity", "weekday", "time_of_day"} & set(written["facts"])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_a_new_file_is_its_owners_only(tmp_path):
    log = DecisionLog(tmp_path / "d.jsonl", max_bytes=10)
    log.append(entry())
    log.append(entry())
    for name in ("d.jsonl", "d.jsonl.1"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_it_is_rotated_once_and_stays_within_its_bound(tmp_path):
    line_bytes = len(json.dumps(entry(at_s=0.0), separators=(",", ":"))) + 1
    log = DecisionLog(tmp_path / "d.jsonl", max_bytes=3 * line_bytes)
    sizes = []
    for _ in range(8):
        log.append(entry(at_s=0.0))
        sizes.append(sum(1 for _ in read_decision_log(log.path)))
        assert log.path.stat().st_size <= 3 * line_bytes
    assert sizes == [1, 2, 3, 1, 2, 3, 1, 2]
    assert sum(1 for _ in read_decision_log(f"{log.path}.1")) == 3
    assert {path.name for path in tmp_path.iterdir()} <= {"d.jsonl", "d.jsonl.1", "d.jsonl.lock"}


def test_an_entry_larger_than_the_bound_is_written_all_the_same(tmp_path):
    log = DecisionLog(tmp_path / "d.jsonl", max_bytes=1)
    log.append(entry())
    assert len(list(read_decision_log(log.path))) == 1


def test_a_failure_is_one_warning_and_the_next_entry_tries_again(tmp_path, caplog):
    log = DecisionLog(tmp_path / "missing" / "d.jsonl")
    with caplog.at_level(logging.WARNING, logger="hybridllm"):
        log.append(entry())
        log.append(entry())
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "No such file" in caplog.records[0].message
        (tmp_path / "missing").mkdir()
        log.append(entry())
        log.path.unlink()
        (tmp_path / "missing").rmdir()
        log.append(entry())
        assert len(caplog.records) == 2
    (tmp_path / "missing").mkdir()
    log.append(entry())
    assert len(list(read_decision_log(log.path))) == 1


def test_a_file_that_cannot_be_rotated_grows_on(tmp_path, caplog):
    (tmp_path / "d.jsonl.1").mkdir()
    (tmp_path / "d.jsonl.1" / "full").touch()
    log = DecisionLog(tmp_path / "d.jsonl", max_bytes=10)
    with caplog.at_level(logging.WARNING, logger="hybridllm"):
        for _ in range(3):
            log.append(entry())
    assert len(list(read_decision_log(log.path))) == 3
    assert len([record for record in caplog.records if "rotated" in record.message]) == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_that_nobody_reads_holds_nothing_up(tmp_path, caplog):
    os.mkfifo(tmp_path / "pipe")
    with caplog.at_level(logging.WARNING, logger="hybridllm"):
        DecisionLog(tmp_path / "pipe").append(entry())
    assert "not a regular file" in caplog.text


def test_a_line_that_a_crash_cut_does_not_swallow_the_next(tmp_path):
    path = tmp_path / "d.jsonl"
    DecisionLog(path).append(entry())
    path.write_bytes(path.read_bytes() + b'{"v":1,"ti')
    assert len(list(read_decision_log(path))) == 1  # being written
    DecisionLog(path).append(entry())
    with pytest.raises(DecisionLogError, match=r"d\.jsonl:2: .*it is not JSON\. Remove it\."):
        list(read_decision_log(path))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[2])
    assert len(list(read_decision_log(path))) == 2


_WRITER = """
import json, sys
from hybridllm.decision_log import DecisionLog
log = DecisionLog(sys.argv[1])
written = json.load(sys.stdin)
for number in range(50):
    log.append({**written, "request": f"{sys.argv[2]}-{number}"})
"""


def test_threads_and_processes_share_a_file(tmp_path):
    log = DecisionLog(tmp_path / "d.jsonl")
    text = json.dumps(entry())
    processes = [
        subprocess.Popen([sys.executable, "-c", _WRITER, log.path, str(name)], stdin=subprocess.PIPE, text=True)
        for name in range(2)
    ]
    threads = [
        threading.Thread(target=lambda: [log.append({**entry(), "request": f"t-{number}"}) for number in range(50)])
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for process in processes:
        process.communicate(text, timeout=60)
    for thread in threads:
        thread.join()
    assert [process.returncode for process in processes] == [0, 0]
    names = [again.request_id for again in read_decision_log(log.path)]
    assert len(names) == 200
    assert sum(name.startswith("1-") for name in names) == 50


def damaged(change):
    written = entry()
    change(written)
    return json.dumps(written)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("9" * 5000, "it is not JSON"),
        ("[]", "it is not an object"),
        (damaged(lambda it: it.update(v=2)), "its version v is not 1, which is the one that this release understands"),
        (damaged(lambda it: it.pop("time")), "time is missing or not text"),
        (damaged(lambda it: it.update(facts=[])), "facts is missing or not an object"),
        (damaged(lambda it: it["facts"].update(connectivity="x")), "connectivity is not a connectivity"),
        (damaged(lambda it: it["facts"].update(tags=[["x"]])), "tags is not a list of words"),
        (damaged(lambda it: it["facts"].update(tags=["faq", 1])), "tags is not a list of words"),
        (damaged(lambda it: it["facts"].update(tags={"faq": 1})), "tags is not a list of words"),
        (damaged(lambda it: it["facts"].update(budget_left=True)), "budget_left is not a number"),
        (damaged(lambda it: it["facts"].update(local_ready=1)), "local_ready is not a boolean"),
        (damaged(lambda it: it["facts"].update(lable=1)), "'lable' is not a fact"),
        (damaged(lambda it: it["facts"].update(places={})), "places is not a list"),
        (damaged(lambda it: it["decision"].pop("rule")), "rule is missing or not text"),
        (damaged(lambda it: it["decision"].update(candidates=[1])), "candidates is not a list of words"),
        (damaged(lambda it: it["outcome"].update(attempts={})), "attempts is missing or not a list"),
        (damaged(lambda it: it["outcome"].update(attempts=[1])), "attempts has an element that is not an object"),
        (damaged(lambda it: it["outcome"].update(prompt_tokens="x")), "prompt_tokens is not a number of at least 0"),
        (damaged(lambda it: it["outcome"].update(egress_bytes=-1)), "egress_bytes is not a number of at least 0"),
    ],
)
def test_a_line_that_is_no_entry_is_named(tmp_path, line, why):
    path = tmp_path / "d.jsonl"
    path.write_text(f"{json.dumps(entry())}\n{line}\n", encoding="utf-8")
    with pytest.raises(DecisionLogError) as raised:
        list(read_decision_log(path))
    assert raised.value.line == 2
    assert str(raised.value) == f"{path}:2: this line is not an entry of a decision log: {why}. Remove it."


def test_a_line_without_end_and_a_file_that_is_not_there(tmp_path):
    (tmp_path / "long.jsonl").write_bytes(b"x" * (1 << 21))
    with pytest.raises(DecisionLogError, match=r":1: .* longer than 1 MiB"):
        list(read_decision_log(tmp_path / "long.jsonl"))
    with pytest.raises(DecisionLogError, match="cannot be read: No such file"):
        list(read_decision_log(tmp_path / "none.jsonl"))
