"""How this package starts Python processes of its own, and how these end with whoever started them.

Standard library only: the application's process imports this module.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import sysconfig
from pathlib import Path

from local_runtime.errors import WorkerDiedError

__all__ = ["die_with_parent", "kill_children", "parent_variable", "python_command", "python_environment"]

_PARENT_VARIABLE = "HYBRIDLLM_PARENT_PID"
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


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


def parent_variable() -> dict[str, str]:
    """The variable that tells a child who starts it, for :func:`die_with_parent`."""
    return {_PARENT_VARIABLE: str(os.getpid())}


def die_with_parent() -> bool:
    """Have the system kill this process when its parent ends, however that ends and whatever this process is doing.

    Linux only (prctl(2), ``PR_SET_PDEATHSIG``); it works on a stopped process too. There, the parent is the thread that started
    this process, not the whole program. If that has ended already, this process ends here.

    Returns:
        Whether the system will do so.
    """
    if sys.platform != "linux":
        return False
    import ctypes

    try:
        refused = ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)
    except (OSError, AttributeError):  # a libc without it
        return False
    if refused:
        return False
    with contextlib.suppress(ValueError):
        parent = int(os.environ.get(_PARENT_VARIABLE, ""))
        if os.getppid() != parent and not _exists(parent):
            os._exit(0)
    return True


def kill_children(pid: int) -> None:
    """Kill what a process has started, and what that has started."""
    import psutil  # not at the top: it takes a moment to import, and is rarely needed

    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def python_environment() -> dict[str, str]:
    """This process's environment, changed so that a child finds this same package and starts no needless threads."""
    environment = dict(os.environ) | parent_variable()
    environment["OPENBLAS_NUM_THREADS"] = environment["OMP_NUM_THREADS"] = "1"
    environment["PYTHONIOENCODING"] = "utf-8"
    root = Path(__file__).resolve().parent.parent
    installed = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
    if root not in installed:  # An installed package is found anyway, and must not come before the standard library.
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), environment.get("PYTHONPATH", "")]))
    return environment
