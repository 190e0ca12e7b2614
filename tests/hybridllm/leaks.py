"""What the tools that report errors would show of one: texts, attributes, and the variables of every frame."""

from __future__ import annotations

import importlib
import inspect
import traceback
import warnings
from pathlib import Path
from unittest import mock

MARK = "kanarienvogel"
"""Part of everything that a test calls content, and of nothing else."""

TESTS = str(Path(__file__).parents[1])
PACKAGES = tuple(str(Path(__file__).parents[2] / name) for name in ("hybridllm", "local_runtime", "policies"))


def content(part):
    """A piece of content that says which one it is."""
    return f"{MARK} {part} 4711 ü"


def family(error):
    """An exception, its causes, its contexts and the members of groups, whether they would be printed or not."""
    seen, left = [], [error]
    while left:
        one = left.pop()
        if one is None or any(one is other for other in seen):
            continue
        seen.append(one)
        left += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
    return seen


def frames_of(error, *, foreign=True):
    """The frames of all tracebacks, without the tests' own."""
    return [
        frame
        for one in family(error)
        for frame, _ in traceback.walk_tb(one.__traceback__)
        if not frame.f_code.co_filename.startswith(TESTS) and (foreign or frame.f_code.co_filename.startswith(PACKAGES))
    ]


def leaks(error):
    """Where content would be shown, as ``(tool, text)``."""
    return [(tool, text) for tool, text in _everything(error) if MARK in text]


def _everything(error):
    for one in family(error):
        yield "str", str(one)
        yield "repr", repr(one)
        yield "args", " ".join(map(repr, one.args)) + " ".join(map(str, one.args))
        yield "attributes", repr(vars(one)) + " ".join(map(str, vars(one).values()))
        yield "notes", repr(getattr(one, "__notes__", None))
        yield from _standard_library(one)
        yield from _rich(one)
        yield from _cgitb(one)


def _standard_library(error):
    shown = traceback.TracebackException(type(error), error, error.__traceback__, capture_locals=True)
    for frame in shown.stack:
        if not frame.filename.startswith(TESTS):
            yield "traceback", repr(frame.locals)


def _rich(error):
    from rich.traceback import Traceback

    trace = Traceback.extract(
        type(error), error, error.__traceback__, show_locals=True, locals_max_length=None, locals_max_string=None
    )
    for stack in trace.stacks:
        for frame in stack.frames:
            if not frame.filename.startswith(TESTS):
                yield "rich", " ".join(f"{name}={node}" for name, node in (frame.locals or {}).items())


def _cgitb(error):
    """It shows the attributes that a frame's source lines name, too. Gone since Python 3.13."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            cgitb = importlib.import_module("cgitb")
        except ImportError:
            return
    if isinstance(error, OSError):  # it reads every attribute, and `characters_written` cannot be read
        return
    found = [
        record
        for record in (inspect.getinnerframes(error.__traceback__, 5) if error.__traceback__ else [])
        if not record.filename.startswith(TESTS)
    ]
    if found:
        with mock.patch("inspect.getinnerframes", return_value=found):
            yield "cgitb", cgitb.text((type(error), error, error.__traceback__))
