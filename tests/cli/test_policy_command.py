"""``hybridllm policy``."""

import json
import re

import pytest

from tests.cli.programs import Program

GOOD = """version: 1
name: mine
labels: {order: [public, private], unlabeled: private}
zones: {cloud: public}
rules:
  - name: offline
    when: {connectivity: offline}
    route: [local]
default: [remote, local]
"""


def write(folder, text):
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


def test_a_good_file_and_a_preset_are_fine(tmp_path):
    path = write(tmp_path, GOOD)
    result = Program().run("policy", "check", path, "kiosk")
    assert result.exit_code == 0
    assert result.stdout == f"{path}: fine: mine, 1 rules\nkiosk: fine: kiosk, 3 rules\n"


def test_a_typo_is_one_line_with_file_line_key_and_message(tmp_path):
    path = write(tmp_path, GOOD.replace("connectivity", "conectivity"))
    result = Program().run("policy", "check", path)
    assert result.exit_code == 2
    assert re.fullmatch(
        re.escape(str(path)) + r":7:\d+: rules\[0\]\.when\.conectivity: .*Did you mean 'connectivity'\?\n",
        result.stdout,
    )


def test_json_has_every_file_and_the_place_of_the_finding(tmp_path):
    path = write(tmp_path, GOOD.replace("unlabeled: private", "unlabeled: secret"))
    result = Program().run("policy", "check", "kiosk", path, "--json")
    assert result.exit_code == 2
    record = json.loads(result.stdout)
    assert record["ok"] is False
    fine, bad = record["files"]
    assert (fine["ok"], fine["name"]) == (True, "kiosk")
    assert (bad["line"], bad["key"]) == (3, "labels.unlabeled")


def test_a_missing_file_is_a_finding(tmp_path):
    result = Program().run("policy", "check", tmp_path / "none.yaml")
    assert result.exit_code == 2
    assert "none.yaml" in result.stdout


def test_places_of_your_own_may_be_named(tmp_path):
    path = write(tmp_path, GOOD.replace("[remote, local]", "[site-server, local]"))
    assert Program().run("policy", "check", path).exit_code == 2
    assert Program().run("policy", "check", path, "--place", "site-server").exit_code == 0


def test_explain_gives_the_rule_its_line_and_who_was_left_out():
    program = Program()
    result = program.run(
        "policy", "explain", "My blood pressure is high", "--tag", "health", "--policy", "cloud-assist",
        "--remote-url", "https://llm.example/v1", "--remote-model", "m",
    )  # fmt: skip
    assert result.exit_code == 0
    assert "Would ask:   this device\n" in result.stdout
    assert re.search(r"^Rule:        default \(policies/presets/cloud-assist\.yaml:\d+\)$", result.stdout, re.MULTILINE)
    assert "Label:       private (tag 'health': private)" in result.stdout
    assert "Left out:    the remote: its zone 'cloud' may see 'public' at most" in result.stdout
    assert program.backend.requests == []


def test_explain_as_json_has_decision_trace_and_facts():
    record = json.loads(Program().run("policy", "explain", "--privacy", "public", "--json").stdout)
    assert record["decision"]["candidates"] == ["local"]
    assert record["trace"][-1]["rule"] == "default"
    assert record["label"] == "public"


FACTS = {
    "label": "public",
    "connectivity": "online",
    "local_ttft_ms": 2000.5,
    "remote_ttft_ms": 300,
    "places": [{"name": "local", "zone": "device"}, {"name": "remote", "zone": "cloud"}],
}


def explain_facts(facts, *more, stdin=None, policy="kiosk"):
    """Explain facts; no client may be opened for it."""
    program = Program()
    given = facts if isinstance(facts, str) else json.dumps(facts)
    result = program.run("policy", "explain", "--policy", policy, "--facts", given, *more, stdin=stdin)
    assert program.opened == []
    return result


def test_facts_are_explained_rule_by_rule_with_what_was_read():
    result = explain_facts(FACTS)
    assert result.exit_code == 0
    lines = re.sub(r"kiosk\.yaml:\d+", "kiosk.yaml:N", result.stdout).splitlines()
    assert lines == [
        "Would ask:   the remote, then this device",
        "Rule:        slow-here (policies/presets/kiosk.yaml:N)",
        "Label:       public",
        "Policy:      kiosk",
        "Rule no-network (policies/presets/kiosk.yaml:N): failed, since connectivity eq offline does not hold; "
        "read connectivity=online",
        "Rule short-of-memory (policies/presets/kiosk.yaml:N): failed, since memory_headroom_mib lt 512 does not hold; "
        "read memory_headroom_mib=unknown",
        "Rule slow-here (policies/presets/kiosk.yaml:N): matched; read local_ttft_ms=2000.5, remote_ttft_ms=300",
        "Rule default (policies/presets/kiosk.yaml:N): not reached",
    ]


def test_facts_as_json_give_decision_trace_and_the_facts_again():
    record = json.loads(explain_facts(FACTS, "--json").stdout)
    assert record["decision"]["rule"] == "slow-here"
    assert record["facts"]["local_ttft_ms"] == 2000.5
    assert record["trace"][1]["facts"] == {"memory_headroom_mib": None}
    assert explain_facts(record["facts"], "--json").stdout == explain_facts(FACTS, "--json").stdout


def test_facts_come_from_a_file_or_from_standard_input(tmp_path):
    path = tmp_path / "facts.json"
    path.write_text("\ufeff" + json.dumps(FACTS), encoding="utf-8")
    expected = explain_facts(FACTS).stdout
    assert explain_facts(f"@{path}").stdout == expected
    assert explain_facts("-", stdin=json.dumps(FACTS)).stdout == expected


def test_what_is_missing_is_unknown_and_the_default_policy_is_the_clients():
    result = Program().run("policy", "explain", "--facts", "{}")
    assert "Policy:      offline-first\n" in result.stdout
    assert "Label:       private\n" in result.stdout
    assert "local_meets_deadline=unknown" in result.stdout


def test_the_places_of_the_facts_may_stand_in_routes(tmp_path):
    path = write(tmp_path, GOOD.replace("[remote, local]", "[site-server, local]"))
    facts = {"label": "public", "places": [{"name": "site-server", "zone": "cloud"}]}
    assert "Would ask:   the remote 'site-server', then this device\n" in explain_facts(facts, policy=path).stdout


def test_redaction_is_told(tmp_path):
    text = GOOD.replace("rules:\n", "detectors: [email, phone]\nrules:\n")
    text = text.replace("{connectivity: offline}\n    route: [local]", "{label: private}\n    route: [remote, local]")
    path = write(tmp_path, text.replace("default:", "    redact: [email]\ndefault:"))
    facts = FACTS | {"label": "private", "declared_label": "public", "detected": ["email"]}
    result = explain_facts(facts, policy=path)
    assert "Would ask:   the remote, then this device\n" in result.stdout
    assert "Redacted:    for the remote: email; what is left has the label public\n" in result.stdout
    result = explain_facts(facts | {"detected": ["email", "phone"]}, policy=path)
    assert "Redacted:" not in result.stdout
    assert "Left out:    the remote: its zone 'cloud' may see 'public' at most" in result.stdout


def test_values_are_shown_as_a_policy_writes_them_and_cannot_steer_a_terminal(tmp_path):
    path = write(tmp_path, GOOD.replace("connectivity: offline", "local_ready: false, tags: x"))
    facts = {"local_ready": False, "tags": ["b", "a\x1b[31m\n"]}
    result = explain_facts(facts, policy=path)
    assert r"read local_ready=false, tags=[a\x1b[31m\n, b]" in result.stdout
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ("{", "--facts is not JSON: Expecting property name enclosed in double quotes in line 1, column 2. Write an"),
        ('{"budget_left": NaN}', "--facts is not JSON: it has a number that JSON has not, or is nested too deeply."),
        ("[" * 100_000, "--facts is not JSON: it has a number that JSON has not, or is nested too deeply."),
        ("[]", "--facts: facts are a list, expected an object."),
        ('{"lable": "public"}', "--facts: 'lable' is not a fact. Did you mean 'label'?"),
        ('{"weekday": "monday"}', "--facts: weekday is not a weekday."),
        ('{"places": [{}]}', "--facts: places[0].name is not text."),
    ],
)
def test_bad_facts_are_one_sentence_and_exit_code_2(facts, message):
    result = explain_facts(facts)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"hybridllm: {message}")
    assert result.stderr.count("\n") == 1


def test_a_file_of_facts_that_cannot_be_read(tmp_path):
    result = explain_facts(f"@{tmp_path / 'none.json'}")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "none.json cannot be read: No such file or directory. Check the path." in result.stderr
    (tmp_path / "latin.json").write_bytes(b'{"label": "caf\xe9"}')
    assert "is not UTF-8" in explain_facts(f"@{tmp_path / 'latin.json'}").stderr
    (tmp_path / "big.json").write_bytes(b" " * (1 << 21))
    assert "larger than 1 MiB" in explain_facts(f"@{tmp_path / 'big.json'}").stderr
    assert "larger than 1 MiB" in explain_facts("-", stdin=" " * (1 << 21)).stderr


@pytest.mark.parametrize(
    ("beside", "named"),
    [
        (["Hello"], "a message"),
        (["--privacy", "public"], "--privacy"),
        (["--tag", "faq"], "--tag"),
        (["--remote-url", "https://llm.example/v1"], "--remote-url"),
        (["--remote-model", "m"], "--remote-model"),
        (["--offline"], "--offline"),
        (["--config", "x.yaml"], "--config"),
    ],
)
def test_facts_go_with_nothing_that_would_say_them_again(beside, named):
    result = explain_facts("{}", *beside)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"--facts is given beside {named}." in result.stderr


def test_the_schema_is_the_one_of_the_package_and_knows_places_of_your_own():
    from policies.json_schema import policy_schema_json

    assert Program().run("policy", "schema").stdout == policy_schema_json()
    route = json.loads(Program().run("policy", "schema", "--place", "site-server").stdout)["$defs"]["route"]
    assert route["items"] == {"enum": ["local", "site-server"]}


@pytest.mark.parametrize("command", ["simulate", "schema"])
def test_the_newer_commands_have_help_with_examples(command):
    result = Program().run("policy", command, "--help")
    assert result.exit_code == 0
    assert len(re.findall(r"^ +hybridllm policy ", result.stdout, re.MULTILINE)) >= 2
