"""Where tests that run the real engine keep what it compiles: in the repository's ignored ``.dev`` folder, from run to run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENGINE_CACHE = ROOT / ".dev" / "test-cache"


def engine_environment(**changes: str) -> dict[str, str]:
    """An environment for a program that runs the real engine."""
    dropped = ("NO_COLOR", "HYBRIDLLM_", "FORCE_COLOR")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**kept, "HYBRIDLLM_CACHE": str(ENGINE_CACHE), "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **changes}


def program(*arguments: object) -> list[str]:
    """The command that runs a Python program of this repository."""
    return [sys.executable, *(str(argument) for argument in arguments)]
