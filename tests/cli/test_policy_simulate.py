"""``hybridllm policy simulate``."""

import io
import json
import re
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from hybridllm.cli import policy_simulate
from hybridllm.cli.simulation_report import print_report
from hybridllm.cli.terminal import Terminal
from hybridllm.decision_log import DecisionLog, read_decision_log
from hybridllm.simulation import simulate
from policies import load_policy
from tests.cli.programs import Program, run_process
from tests.hybridllm.test_decision_log import FACTS, entry
from tests.policies.test_loader import KIOSK

KNOWN = replace(FACTS, local_ttft_ms=900, local_tokens_per_s=20, remote_ttft_ms=300, remote_tokens_per_s=80)


@pytest.fixture
def log(tmp_path):
    """Six requests under ``kiosk``, four of them public."""
    path = tmp_path / "decisions.jsonl"
    writer = DecisionLog(path)
    for label in ("public", "public", "private", "public", "private", "public"):
        writer.append(entry(facts=replace(KNOWN, label=label)))
    return path


def test_the_same_policy_says_that_all_are_identical(log):
    result = Program().run("policy", "simulate", "kiosk", log)
    assert result.exit_code == 0
    assert "Replay:      6 of 6 identical\n" in result.stdout
    assert "0 requests would go to another place" in result.stdout
    assert "What would change" not in result.stdout


def test_another_policy_gives_a_table_a_chart_and_the_transitions(log):
    result = Program().run(
        "policy", "simulate", "cloud-assist", log, "--price-prompt", "1000", "--price-completion", "2000"
    )
    assert result.exit_code == 0
    rows = dict(re.findall(r"^(\S.*?) {2,}(\S.*)$", result.stdout, re.MULTILINE))
    assert re.split(r" {2,}", rows["Asked first: the remote"]) == ["0 (0.0%)", "4 (66.7%)", "+4"]
    assert re.split(r" {2,}", rows["Could leave the device"]) == ["4 (66.7%)", "4 (66.7%)", "+0"]
    assert re.split(r" {2,}", rows["Latency, median"]) == ["0.75 s", "0.35 s", "-0.40 s"]
    assert re.split(r" {2,}", rows["Generated tokens: the remote"]) == ["0", "20", "+20"]
    assert re.split(r" {2,}", rows["Cost at the remote"]) == ["0.0000", "0.1200", "+0.1200"]
    assert re.search(r"^the remote +recorded +0\.0%\n +new +█{27} +66\.7%$", result.stdout, re.MULTILINE)
    assert re.search(r"^default +this device -> the remote +as before +4$", result.stdout, re.MULTILINE)
    assert "Replay:      none of them was decided by this policy\n" in result.stdout


def test_plain_output_is_ascii_and_every_line_stands_alone(log):
    result = Program().run("policy", "simulate", "cloud-assist", log, "--plain")
    assert result.stdout.isascii()
    assert re.search(r"^the remote +recorded +0\.0%\nthe remote +new +#{27} +66\.7%$", result.stdout, re.MULTILINE)


def test_json_is_one_object(log):
    result = Program().run(
        "policy", "simulate", "kiosk", log, "--json", "--local-ttft-ms", "10", "--local-tokens-per-s", "400"
    )
    report = json.loads(result.stdout)
    assert report["requests"] == report["replay"]["identical"] == 6
    assert report["new"]["latency"]["median_s"] == pytest.approx(0.02)
    assert report["new"]["cost"] is None


def test_against_what_was_recorded(log):
    result = Program().run("policy", "simulate", "cloud-assist", log, "--against-recorded", "--json")
    report = json.loads(result.stdout)
    assert report["against"] == "happened"
    assert report["old"]["places"] == {"local": 6}
    assert report["old"]["latency"]["median_s"] == 1.5


def test_a_policy_that_decides_otherwise_under_its_own_hash_ends_with_1(log):
    lines = log.read_text().splitlines()
    lines[4] = lines[4].replace('"candidates":["local"', '"candidates":["remote","local"', 1)
    log.write_text("\n".join(lines) + "\n")
    result = Program().run("policy", "simulate", "kiosk", log)
    assert result.exit_code == 1
    assert "Replay:      5 of 6 identical, 1 DIFFERENT, in line 5 of the log\n" in result.stdout


def test_a_policy_that_was_moved_is_still_the_same(log, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(f"# The same, one line further down.\n{KIOSK}", encoding="utf-8")
    result = Program().run("policy", "simulate", path, log)
    assert result.exit_code == 0
    assert "Replay:      0 of 6 identical, 6 the same but for the file or line of the rule\n" in result.stdout


def test_labels_that_the_policy_does_not_know_are_told(log, tmp_path):
    path = tmp_path / "other.yaml"
    path.write_text(
        "{version: 1, name: other, labels: {order: [open, closed], unlabeled: closed}, zones: {cloud: open},"
        " default: [remote, local]}"
    )
    result = Program().run("policy", "simulate", path, log)
    assert "Labels:      6 requests have a label that this policy does not know" in result.stdout
    assert "4 no longer" in result.stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "decisions.jsonl has no entry. Give a client a decision_log, and let it answer something."),
        ("{}\n", "decisions.jsonl:1: this line is not an entry of a decision log"),
    ],
)
def test_a_log_that_cannot_be_used_is_one_sentence(tmp_path, text, message):
    path = tmp_path / "decisions.jsonl"
    path.write_text(text)
    result = Program().run("policy", "simulate", "kiosk", path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_files_that_are_not_there(log, tmp_path):
    for arguments in (("kiosk", tmp_path / "none.jsonl"), (tmp_path / "none.yaml", log)):
        result = Program().run("policy", "simulate", *arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "none." in result.stderr


def test_progress_is_on_standard_error_and_quiet_leaves_it_out(log, monkeypatch):
    monkeypatch.setattr(policy_simulate, "_LINE_EVERY", 3)
    result = Program().run("policy", "simulate", "kiosk", log)
    assert result.stderr == "Decided again: 3 requests...\nDecided again: 6 requests...\n"
    assert "Decided again" not in result.stdout
    assert Program().run("policy", "simulate", "kiosk", log, "--quiet").stderr == ""


def test_a_terminal_gets_colours_and_a_table_that_fits(log):
    written = io.StringIO()

    class Screen(Terminal):
        fancy = True
        out = Console(file=written, width=60, force_terminal=True, color_system="standard", markup=False)

    print_report(simulate(load_policy("cloud-assist"), read_decision_log(log)), Screen())
    shown = re.sub(r"\x1b\[[0-9;]*m", "", written.getvalue())
    assert shown != written.getvalue()
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= 60
    assert "█" in shown
    assert re.search(r"Asked first: the remote +0 \(0\.0%\) +4 \(66\.7%\) +\+4", shown)


def test_a_pipe_gets_no_colours(log):
    done = run_process([sys.executable, "-m", "hybridllm", "policy", "simulate", "cloud-assist", str(log)])
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert "█" in done.stdout
