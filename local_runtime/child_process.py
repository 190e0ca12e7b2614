"""How this package starts Python processes of its own: the command line and the environment.

Standard library only: the application's process imports this module.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

from local_runtime.errors import WorkerDiedError

__all__ = ["python_command", "python_environment"]


def python_command(module: str) -> list[str]:
    """The command line that runs a module of this package.

    Raises:
        WorkerDiedError: This program has no Python interpreter to start, as in an application that embeds Python or is frozen.
    """
    if not sys.executable:
        raise WorkerDiedError(
            "There is no Python interpreter to start the engine process with (sys.executable is empty).",
            "Use in_process=True in an application that embeds Python.",
        )
    if getattr(sys, "frozen", False):  # PyInstaller and its like: sys.executable is the application itself
        raise WorkerDiedError(
            "This application is frozen into one executable, which cannot start the engine process: it would start itself.",
            "Run the application with a Python interpreter, or use in_process=True with a model that "
            "`hybridllm compile` prepared on this machine.",
        )
    # -P keeps the working directory off the module path: a folder there named like one of ours must not be imported.
    return [sys.executable, "-P", "-m", module]


def python_environment() -> dict[str, str]:
    """This process's environment, changed so that a child finds this same package and starts no needless threads."""
    environment = dict(os.environ)
    environment["OPENBLAS_NUM_THREADS"] = environment["OMP_NUM_THREADS"] = "1"
    environment["PYTHONIOENCODING"] = "utf-8"
    root = Path(__file__).resolve().parent.parent
    installed = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
    if root not in installed:  # An installed package is found anyway, and must not come before the standard library.
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), environment.get("PYTHONPATH", "")]))
    return environment
