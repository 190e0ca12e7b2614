"""What is left behind when the engine fails: classes and places of exceptions, never their texts, and no core dump.

The text of an exception may quote a prompt (a chat template's, a tokenizer's), and a core dump is a copy of all that is in
memory. ``HYBRIDLLM_DEBUG=1`` lets native libraries speak and cores be written, for the search for a defect.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from types import TracebackType

__all__ = [
    "DEBUG_VARIABLE",
    "debugging",
    "described",
    "forbid_core_dumps",
    "forbid_inspection",
    "keep_to_reports",
    "place_of",
    "report",
    "report_what_nobody_catches",
    "say",
]

DEBUG_VARIABLE = "HYBRIDLLM_DEBUG"
"""Environment variable that trades privacy for a full view of failures."""

_PR_SET_DUMPABLE = 4  # <linux/prctl.h>

_own_stream: TextIO | None = None


def debugging() -> bool:
    """Whether whoever started this process wants to see everything, content included."""
    return os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")


def place_of(error: BaseException) -> str:
    """Where an exception was raised, as ``module.py:12``; empty if nobody knows."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


def described(error: BaseException) -> str:
    """What may be told of any exception: its class and place, without its text."""
    place = place_of(error)
    return f"{type(error).__name__} at {place}" if place else type(error).__name__


def report(what: str, error: BaseException) -> None:
    """Write the class of ``error`` and the way that it took to standard error, without its text."""
    say(f"{what}: {type(error).__name__}\n{''.join(traceback.format_tb(error.__traceback__))}".rstrip())


def say(words: str) -> None:
    """Write lines of our own, which hold no content, to standard error."""
    stream = sys.stderr if _own_stream is None else _own_stream
    if stream is None:  # a program without a console, on Windows
        return
    with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
        stream.write(f"{words}\n")
        stream.flush()


def report_what_nobody_catches() -> None:
    """Let exceptions that nobody catches end in :func:`report`, in whatever thread and in finalisers too."""

    def uncaught(kind: type[BaseException], error: BaseException, _way: TracebackType | None) -> None:
        report("nobody caught", error)

    def uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
        if arguments.exc_value is not None:
            report("nobody caught, in a thread", arguments.exc_value)

    def unraisable(arguments: sys.UnraisableHookArgs) -> None:
        if arguments.exc_value is not None:
            report("nobody could catch", arguments.exc_value)

    sys.excepthook = uncaught
    threading.excepthook = uncaught_in_thread
    sys.unraisablehook = unraisable


def keep_to_reports() -> None:
    """From now on nothing but :func:`report` reaches standard error, and nothing at all standard output.

    Native libraries write there by themselves: a panic in Rust quotes the text that it was working on. Does nothing while
    :func:`debugging`.
    """
    global _own_stream
    if debugging() or _own_stream is not None:
        return
    _own_stream = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace")
    null = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(null, descriptor)
    os.close(null)


def forbid_core_dumps() -> None:
    """Let the system write no core file when this process crashes. Does nothing while :func:`debugging`, or on Windows."""
    if debugging():
        return
    try:
        import resource
    except ImportError:  # Windows
        return
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def forbid_inspection() -> None:
    """On Linux, make this process undumpable (prctl(2), ``PR_SET_DUMPABLE``).

    A limit of 0 keeps the kernel from writing a core file, but not from piping a core into a crash handler (core(5)); this
    does. It also keeps other programs of the same user from reading this process's memory. Call it when everything is
    loaded, for it makes some files of ``/proc/self`` unreadable for the process itself. Does nothing while
    :func:`debugging`.
    """
    if sys.platform != "linux" or debugging():
        return
    import ctypes

    with contextlib.suppress(OSError, AttributeError):  # a libc without it
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
