"""Standard streams that are closed, full, or in another encoding."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.programs import Program, clean_environment, run_process, write_script

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell and its files")


def run_in_shell(command, redirections, *argv, **changes):
    """Run a command with a shell's redirections; only what they leave open is captured."""
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {redirections}', "sh", *command, *argv],
        capture_output=True,
        timeout=60,
        env=clean_environment(**changes),
        check=False,
    )


def test_a_program_that_is_started_without_standard_streams_works_all_the_same(tmp_path):
    command = write_script(tmp_path / "s.json", ["Hello."])
    assert run_in_shell(command, "<&-", "chat", "x").stdout == b"Hello.\n"
    assert run_in_shell(command, "2>&-", "chat", "x").stdout == b"Hello.\n"
    assert run_in_shell(command, "<&- >&- 2>&-", "chat", "x").returncode == 0
    empty = run_in_shell(command, "<&-", "chat", "-")
    assert empty.returncode == 2
    assert empty.stderr.startswith(b"hybridllm: Standard input is empty.")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("argv", [["chat", "x"], ["chat", "--json", "x"], ["--help"]])
def test_a_full_disk_behind_standard_output_is_one_line(tmp_path, argv):
    done = run_in_shell(write_script(tmp_path / "s.json", ["Hello."]), ">/dev/full", *argv)
    assert done.returncode == 3
    assert done.stderr == (
        b"hybridllm: Standard output cannot be written: No space left on device. Free some space, or write to another place.\n"
    )


def test_json_in_a_pipe_is_utf8_whatever_the_locale_says(tmp_path):
    command = write_script(tmp_path / "s.json", ["Größe 尺寸 👋"])
    done = run_in_shell(command, "", "chat", "--json", "--quiet", "Größe?", PYTHONIOENCODING="latin-1")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.decode("utf-8"))["choices"][0]["message"]["content"] == "Größe 尺寸 👋"


def test_an_argument_is_utf8_whatever_the_locale_says(tmp_path):
    command = write_script(tmp_path / "s.json", ["ok"])
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert run_in_shell(command, "", "chat", "你好", **environment).stdout == b"ok\n"
    for argv in (["chat", os.fsdecode(b"caf\xe9")], ["chat", "--system", os.fsdecode(b"caf\xe9"), "x"]):
        done = run_in_shell(command, "", *argv)
        assert done.returncode == 2
        assert b"essage is not UTF-8 text (byte 3). Give a text in UTF-8.\n" in done.stderr
        assert done.stderr.count(b"\n") == 1


def test_lines_that_are_no_text_are_said_and_the_chat_goes_on(tmp_path):
    command = write_script(tmp_path / "s.json", ["Hello."])
    done = subprocess.run(
        [*command, "chat"],
        input=b"\xff\xfe\nzero\0byte\nHi\n",
        capture_output=True,
        timeout=60,
        env=clean_environment(),
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout == b"Hello.\n"
    first, second, _status = done.stderr.decode().splitlines()
    assert first == "hybridllm: Line 1 of standard input is not UTF-8 text (byte 0). Give a text in UTF-8."
    assert second == "hybridllm: Line 2 of standard input is not a text: it has zero bytes. Give a text in UTF-8."


def test_more_than_any_context_holds_is_refused_before_it_is_read_to_the_end():
    result = Program().run("chat", "-", stdin="a" * (4 * 2**20 + 1))
    assert result.exit_code == 2
    assert result.stderr == "hybridllm: Standard input has more than 4 MiB. Give a shorter text.\n"


def test_an_at_sign_alone_names_no_file():
    result = Program().run("chat", "--system", "@", "x")
    assert result.exit_code == 2
    assert result.stderr.startswith("hybridllm: @ names no file.")


def test_help_into_a_closed_pipe_is_quiet(tmp_path):
    command = write_script(tmp_path / "s.json", ["Hello."])
    done = run_process(["/bin/sh", "-c", '"$@" --help | head -n 1', "sh", *command])
    assert done.stdout.startswith("Usage: hybridllm ")
    assert done.stderr == ""
