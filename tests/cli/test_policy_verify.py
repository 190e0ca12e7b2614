"""``hybridllm policy verify``."""

import json
import re
import shlex

import pytest

from tests.cli.programs import Program
from tests.docs.pages import blocks_of, page_named, policy_of_the_page

GOOD = """version: 1
name: mine
labels: {order: [public, private], unlabeled: private, tags: {health: private}}
zones: {cloud: public}
rules:
  - name: offline
    when: {connectivity: offline}
    route: [local]
default: [remote, local]
guarantees:
  - name: health-stays
    when: {tags: health}
    never: [cloud]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(GOOD, encoding="utf-8")
    return tmp_path


def edit(folder, old, new, name="mine.yaml"):
    assert old in GOOD
    (folder / name).write_text(GOOD.replace(old, new), encoding="utf-8")


def verify(*arguments):
    return Program().run("policy", "verify", *arguments)


def test_a_good_policy_is_fine_and_says_what_may_leave(folder):
    result = verify("mine.yaml")
    assert result.exit_code == 0
    assert result.stdout == (
        "mine.yaml: fine: mine, 1 rule, 1 guarantee\n"
        "\n"
        "What may leave, and by which rules\n"
        "zone   public   private\n"
        "cloud  default  -\n"
        "\n"
        "While a fact is unknown\n"
        "fact          cannot match  label  then decides\n"
        "connectivity  offline       any    default (remote, local)\n"
    )


def test_presets_pass_strictly():
    result = verify("kiosk", "offline-first", "cloud-assist", "--strict")
    assert result.exit_code == 0
    assert result.stdout.count(": fine: ") == 3


def test_a_broken_guarantee_is_printed_with_a_command_that_shows_it(folder):
    edit(folder, "health: private", "health: public")
    result = verify("mine.yaml")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].startswith(
        "mine.yaml:9: error: default: it breaks the guarantee 'health-stays' (mine.yaml:11): zone 'cloud' gets a request "
    )
    assert lines[1].startswith('  facts: {"label": "public"')
    command = shlex.split(lines[2])
    assert command[:2] == ["hybridllm", "policy"]
    explained = Program().run(*command[1:], "--json")
    assert explained.exit_code == 0
    assert json.loads(explained.stdout)["decision"]["candidates"] == ["remote", "local"]
    assert "mine.yaml: fails: mine, 1 rule, 1 guarantee; 1 error\n" in result.stdout


def test_against_an_old_policy_every_widening_fails_and_both_decisions_can_be_explained(folder):
    edit(folder, "unlabeled: private", "unlabeled: public", "new.yaml")
    assert verify("new.yaml").exit_code == 0
    result = verify("new.yaml", "--against", "mine.yaml")
    assert result.exit_code == 1
    assert "  a request labelled by nobody\n" in result.stdout
    assert "gets the whole text of a request for which 'default' of mine.yaml gives it nothing" in result.stdout
    commands = [shlex.split(line)[1:] for line in result.stdout.splitlines() if line.startswith("  hybridllm")]
    candidates = {
        command[3]: json.loads(Program().run(*command, "--json").stdout)["decision"]["candidates"]
        for command in commands
    }
    assert candidates == {"new.yaml": ["remote", "local"], "mine.yaml": ["local"]}
    assert verify("mine.yaml", "--against", "new.yaml").exit_code == 0


def test_warnings_fail_only_with_strict(folder):
    edit(folder, "zones: {cloud: public}", "zones: {}")
    text = (folder / "mine.yaml").read_text(encoding="utf-8")
    (folder / "mine.yaml").write_text(text[: text.index("guarantees")], encoding="utf-8")
    result = verify("mine.yaml")
    assert result.exit_code == 0
    assert "warning: default: the candidate 'remote' can never be used: the policy has no zones." in result.stdout
    assert verify("mine.yaml", "--strict").exit_code == 1


def test_a_file_that_is_not_understood_is_a_finding(folder):
    edit(folder, "connectivity", "conectivity")
    result = verify("mine.yaml", "kiosk")
    assert result.exit_code == 1
    assert re.match(r"mine\.yaml:7:\d+: rules\[0\]\.when\.conectivity: unknown fact", result.stdout)
    assert "kiosk: fine: " in result.stdout
    assert verify("kiosk", "--against", "nowhere.yaml").exit_code == 1


def test_json_has_findings_tables_and_unreadable_files(folder):
    edit(folder, "health: private", "health: public")
    result = verify("mine.yaml", "none.yaml", "kiosk", "--json")
    assert result.exit_code == 1
    record = json.loads(result.stdout)
    assert record["ok"] is False
    mine, none, kiosk = record["files"]
    (finding,) = mine["findings"]
    assert (finding["kind"], finding["subject"], finding["location"]) == ("guarantee", "default", "mine.yaml:9")
    assert finding["facts"]["places"][0]["zone"] == "cloud"
    assert none["findings"][0]["kind"] == "unreadable"
    assert kiosk["ok"] is True
    assert {(row["zone"], row["label"]) for row in kiosk["may_leave"]} >= {("cloud", "public"), ("site", "internal")}
    assert {signal["fact"] for signal in kiosk["unknown_signals"]} >= {"connectivity", "memory_headroom_mib"}


def test_places_of_your_own_may_be_named(folder):
    edit(folder, "[remote, local]", "[site-server, local]")
    assert verify("mine.yaml").exit_code == 1
    assert verify("mine.yaml", "--place", "site-server").exit_code == 0


def test_too_few_states_are_not_fine(folder):
    result = verify("mine.yaml", "--max-states", "2")
    assert "What may leave" not in result.stdout, "an empty table would read as if nothing could"
    assert result.exit_code == 1
    assert "after 2 states it is not decided what may leave" in result.stdout


def test_the_help_has_examples():
    result = verify("--help")
    assert result.exit_code == 0
    assert "hybridllm policy verify kiosk.yaml --against kiosk --strict" in result.stdout


def test_the_output_in_the_documentation_is_what_is_printed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = blocks_of(page_named("policies.md"))
    shown = [block.text for block in blocks if block.language == "text"]
    (tmp_path / "kiosk.yaml").write_text(policy_of_the_page().text, encoding="utf-8")
    assert verify("kiosk.yaml").stdout in shown
    ward = next(block.text for block in blocks if block.language == "yaml" and "name: ward" in block.text)
    (tmp_path / "ward.yaml").write_text(ward, encoding="utf-8")
    assert verify("ward.yaml", "--strict").exit_code == 0
    (tmp_path / "ward.yaml").write_text(ward.replace("health: private", "health: internal"), encoding="utf-8")
    result = verify("ward.yaml")
    assert result.exit_code == 1
    assert any(text in result.stdout for text in shown if text.startswith("ward.yaml"))
