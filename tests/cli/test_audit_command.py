"""``hybridllm audit``."""

import json
import re
import signal
import subprocess
import sys

import pytest

from hybridllm.audit import AuditLog
from tests.cli.programs import Program, clean_environment, run_process
from tests.hybridllm.audit_writer import record

COMMAND = [sys.executable, "-m", "hybridllm", "audit"]


@pytest.fixture
def key_file(tmp_path):
    return tmp_path / "audit.key"


@pytest.fixture
def folder(tmp_path, key_file):
    """A log with a try, its outcome, and an answer from the device."""
    with AuditLog(tmp_path / "log", key_file=key_file, clock=lambda: 1_700_000_000.5) as log:
        log.append(record("r-1"), sync=True)
        log.append(record("r-1", event="outcome", outcome="RemoteUnreachable", egress_bytes=512), sync=False)
        device = {"place": "local", "zone": "device", "endpoint": "", "body_sha256": "", "body_bytes": 0}
        log.append(record("r-2", event="outcome", outcome="served", duration_s=0.25, **device), sync=False)
    return tmp_path / "log"


def verify(folder, key_file, *more):
    return Program().run("audit", "verify", folder, "--key-file", key_file, *more)


def test_a_log_that_is_whole_is_fine(folder, key_file):
    result = verify(folder, key_file)
    assert (result.exit_code, result.stdout) == (0, f"{folder}: fine: 4 lines in 1 files, numbers 1 to 4\n")
    report = json.loads(verify(folder, key_file, "--json").stdout)
    assert (report["ok"], report["findings"], report["last_seq"]) == (True, [], 4)


def test_each_finding_is_a_line_with_file_and_line_and_the_exit_code_is_1(folder, key_file):
    path = folder / "audit-000001.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"rule":"slow-here"', b'"rule":"no-where!"', 1))
    result = verify(folder, key_file)
    assert result.exit_code == 1
    finding, summary = result.stdout.splitlines()
    assert finding == f"{path}:2: this line is not what was written here: its mac does not fit"
    assert summary == f"{folder}: 1 findings: 4 lines in 1 files, numbers 1 to 4"
    result = verify(folder, key_file, "--json")
    assert result.exit_code == 1
    (finding,) = json.loads(result.stdout)["findings"]
    assert (finding["file"], finding["line"]) == (str(path), 2)


def test_an_unfinished_line_is_a_note(folder, key_file):
    with (folder / "audit-000001.jsonl").open("ab") as file:
        file.write(b'{"seq":5')
    result = verify(folder, key_file)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0].endswith(":5: an unfinished line; the next append drops it")


def test_no_log_is_a_finding_and_no_key_is_a_mistake(folder, key_file, tmp_path):
    result = verify(tmp_path / "none", key_file)
    assert (result.exit_code, result.stdout) == (1, f"{tmp_path / 'none'}: there is no audit log here\n")
    result = verify(folder, tmp_path / "no.key")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no.key cannot be read" in result.stderr


def test_tail_is_one_line_a_record(folder):
    result = Program().run("audit", "tail", folder)
    assert result.exit_code == 0
    heading, egress, failed, served = result.stdout.splitlines()
    assert heading.split() == [
        "time",
        "event",
        "label",
        "rule",
        "place",
        "zone",
        "outcome",
        "bytes",
        "seconds",
        "request",
    ]
    assert egress.split() == [
        "2023-11-14T22:13:20Z",
        "egress",
        "public",
        "slow-here",
        "remote",
        "cloud",
        "-",
        "2048",
        "-",
        "r-1",
    ]
    assert failed.split()[6:] == ["RemoteUnreachable", "512", "-", "r-1"]
    assert served.split()[4:] == ["local", "device", "served", "0", "0.25", "r-2"]
    assert "\x1b" not in result.stdout
    assert Program().run("audit", "tail", folder, "-n", "1").stdout.splitlines() == [heading, served]


def test_tail_as_json_is_what_the_log_has(folder):
    lines = Program().run("audit", "tail", folder, "--json", "-n", "2").stdout.splitlines()
    written = (folder / "audit-000001.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [json.loads(line) for line in written[-2:]]


def test_tail_says_what_was_recovered_and_what_cannot_be_read(folder, key_file):
    path = folder / "audit-000001.jsonl"
    with path.open("ab") as file:
        file.write(b'{"seq":5')
    with AuditLog(folder, key_file=key_file) as log:
        log.open()
    with path.open("ab") as file:
        file.write(b"\x1b[2J\n")
    *_, recovered, unreadable = Program().run("audit", "tail", folder).stdout.splitlines()
    assert recovered.endswith("  8 bytes of an unfinished line were dropped")
    assert unreadable == "audit-000001.jsonl:6: unreadable"


def test_tail_of_nothing_is_a_mistake(tmp_path):
    result = Program().run("audit", "tail", tmp_path / "none")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "cannot be read" in result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="the state folder is moved by a variable of Linux")
def test_without_a_folder_it_is_the_platforms_own(tmp_path):
    folder = tmp_path / "hybridllm" / "audit"
    with AuditLog(folder, key_file=tmp_path / "hybridllm" / "audit.key") as log:
        log.append(record("r-1"), sync=True)
    done = run_process([*COMMAND, "verify"], XDG_STATE_HOME=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, f"{folder}: fine: 2 lines in 1 files, numbers 1 to 2\n")
    assert "r-1" in run_process([*COMMAND, "tail"], XDG_STATE_HOME=str(tmp_path)).stdout


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is another thing there")
def test_following_goes_on_until_ctrl_c(folder, key_file):
    process = subprocess.Popen(
        [*COMMAND, "tail", folder, "--follow", "-n", "1", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    )
    assert json.loads(process.stdout.readline())["request_id"] == "r-2"
    with AuditLog(folder, key_file=key_file) as log:
        log.append(record("r-3"), sync=False)
    assert json.loads(process.stdout.readline())["request_id"] == "r-3"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert err == "hybridllm: interrupted\n"


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals there")
def test_a_narrow_terminal_gets_colours_and_fewer_columns_on_one_line(folder):
    import pexpect

    def shown(columns):
        child = pexpect.spawn(
            COMMAND[0],
            [*COMMAND[1:], "tail", str(folder)],
            env=clean_environment(),
            dimensions=(24, columns),
            timeout=30,
        )
        text = child.read().decode()
        child.close()
        assert child.exitstatus == 0
        assert "\x1b[36m" in text
        return [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in text.splitlines()]

    narrow, wide = shown(80), shown(200)
    assert len(narrow) == len(wide) == 4
    assert max(map(len, narrow)) <= 80
    assert narrow[0].split() == ["time", "event", "label", "place", "outcome", "bytes"]
    assert wide[0].split()[-1] == "request"
    # A name that is too long for its column is cut, so that the columns stay below each other.
    assert {line.index("remote") for line in wide[1:3]} == {wide[0].index("place")}


@pytest.mark.parametrize("command", [[], ["verify"], ["tail"]])
def test_help_has_examples(command):
    result = Program().run("audit", *command, "--help")
    assert result.exit_code == 0
    assert len(re.findall(r"^ +hybridllm audit ", result.stdout, re.MULTILINE)) >= 2
