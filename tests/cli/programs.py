"""How the tests run the command line: in this process for results, in its own for signals and pipes."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys

from typer.testing import CliRunner

from hybridllm.cli.app import Services, app
from hybridllm.cli.client_options import remote_from
from hybridllm.cli.main import main  # noqa: F401 - registers the commands
from hybridllm.testing import ScriptedBackend


class Program:
    """The command line in this process, with a scripted place on the device."""

    def __init__(self, *replies):
        self.backend = ScriptedBackend(itertools.cycle(replies or ["Hello."]), model="scripted", context_tokens=512)
        self.opened = []

    def open_client(self, options, on_progress):
        from hybridllm import HybridClient

        self.opened.append(options)
        given = {"policy": options.policy, "remote": remote_from(options), "offline": options.offline or None}
        chosen = {name: value for name, value in given.items() if value is not None}
        return HybridClient(local=self.backend, on_progress=on_progress, **chosen)

    def run(self, *argv, stdin=None):
        """Run it; the result has stdout, stderr and exit_code."""
        return CliRunner().invoke(app, [str(part) for part in argv], input=stdin, obj=Services(self.open_client))


def clean_environment(**changes):
    """The environment without anything that changes how the program looks or where it writes, plus ``changes``."""
    dropped = ("NO_COLOR", "HYBRIDLLM_", "COLUMNS", "FORCE_COLOR")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**kept, "TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1", **changes}


def write_script(path, replies, **more):
    """A script for ``scripted_program``; returns the command that runs it."""
    path.write_text(json.dumps({"replies": replies, **more}), encoding="utf-8")
    return [sys.executable, "-m", "tests.cli.scripted_program", str(path)]


def run_process(command, *, stdin=None, timeout_s=60, **changes):
    """Run a command to its end, standard input and output being pipes."""
    return subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=clean_environment(**changes),
        check=False,
    )
