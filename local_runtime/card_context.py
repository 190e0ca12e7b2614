"""What a process's context takes of a CUDA card's memory, which no one can know before there is one: it depends on card and driver.

``python -m local_runtime.card_context INDEX`` makes one for a moment and prints what it took, in bytes.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
from functools import cache

from local_runtime.child_process import python_command, python_environment
from local_runtime.errors import WorkerDiedError
from local_runtime.memory import accelerator_headroom_mib
from local_runtime.target import cuda_driver

__all__ = ["USUAL_CONTEXT_MIB", "context_bytes", "hold_context", "main", "release_context"]

USUAL_CONTEXT_MIB = 527.0
"""An H100's with driver 580.159, for plans where there is no card to measure it on."""

_MIB = 1 << 20
_PATIENCE_S = 60.0


def hold_context(index: int) -> bool:
    """Make this process's context on a card now, and keep it until :func:`release_context`.

    It is the primary context, the one that TVM's runtime uses too.

    Args:
        index: Which of the devices that ``CUDA_VISIBLE_DEVICES`` leaves.

    Returns:
        Whether there is one. Where there is none, whoever uses the card is told why.
    """
    driver, context = cuda_driver(), ctypes.c_void_p()
    return (
        driver is not None
        and driver.cuInit(0) == 0
        and driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), ctypes.c_int(index)) == 0
    )


def release_context(index: int) -> None:
    """Let go of what :func:`hold_context` made; it goes if nobody else in this process holds it."""
    driver = cuda_driver()
    if driver is not None:
        driver.cuDevicePrimaryCtxRelease(ctypes.c_int(index))


@cache
def context_bytes(index: int) -> int | None:
    """What a context takes of a card's memory, measured in a process of its own; None where none can be made or measured."""
    try:
        command = python_command("local_runtime.card_context")
    except WorkerDiedError:  # an application without an interpreter to start
        return None
    try:
        ended = subprocess.run(
            [*command, str(index)],
            env=python_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_PATIENCE_S,
            check=False,
            encoding="utf-8",
        )
    except subprocess.TimeoutExpired:
        return None
    return int(ended.stdout) if ended.returncode == 0 else None


def main(index: int) -> int:
    """Print what a context takes; returns the process's exit code."""
    before_mib = accelerator_headroom_mib(index)
    if before_mib is None or not hold_context(index):
        return 1
    after_mib = accelerator_headroom_mib(index)
    release_context(index)
    if after_mib is None:
        return 1
    sys.stdout.write(f"{round((before_mib - after_mib) * _MIB)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
