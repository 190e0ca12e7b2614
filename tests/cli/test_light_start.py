"""What ``--help`` and ``--version`` must not load, and that every command explains itself."""

import re
import sys

import pytest

from hybridllm import __version__
from tests.cli.programs import Program, run_process

HEAVY = ("tvm", "numpy", "httpcore", "prompt_toolkit", "rich.console", "tokenizers", "yaml", "psutil")


def test_version():
    result = Program().run("--version")
    assert (result.exit_code, result.stdout) == (0, f"hybridllm {__version__}\n")


def test_version_and_help_load_nothing_heavy():
    check = (
        "import sys\nfrom hybridllm.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        f"sys.stderr.write(' '.join(name for name in {HEAVY!r} if name in sys.modules))"
    )
    done = run_process([sys.executable, "-c", check])
    assert done.returncode == 0
    assert done.stderr == ""
    assert "Exit codes:" in done.stdout


@pytest.mark.parametrize(
    "command",
    [
        [], ["chat"], ["compile"], ["models"], ["models", "list"], ["models", "show"], ["bench"], ["doctor"], ["policy"],
        ["policy", "check"], ["policy", "explain"], ["serve"],
    ],
)  # fmt: skip
def test_every_command_has_help_with_examples(command):
    result = Program().run(*command, "--help")
    assert result.exit_code == 0
    assert "Examples:" in result.stdout
    assert len(re.findall(r"^ +(?:\S.* \| )?hybridllm ", result.stdout, re.MULTILINE)) >= 2
    assert max(len(line) for line in result.stdout.splitlines()) <= 130


def test_the_module_runs_as_a_program():
    done = run_process([sys.executable, "-m", "hybridllm", "--version"])
    assert (done.returncode, done.stdout) == (0, f"hybridllm {__version__}\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion_is_printed(shell):
    done = run_process(
        [sys.executable, "-m", "hybridllm"],
        _HYBRIDLLM_COMPLETE=f"complete_{shell}",
        COMP_WORDS="hybridllm chat --policy ki",
        COMP_CWORD="3",
        _TYPER_COMPLETE_ARGS="hybridllm chat --policy ki",
        _TYPER_COMPLETE_FISH_ACTION="get-args",
    )
    assert "kiosk" in done.stdout
    assert done.stderr == ""
