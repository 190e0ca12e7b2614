"""``hybridllm policy``."""

import json
import re

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
