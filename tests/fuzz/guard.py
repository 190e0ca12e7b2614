"""Fails what reaches for a network, a process or a file while a parser runs, through Python's audit events (PEP 578)."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path

NETWORK_EVENTS = frozenset({
    "socket.__new__", "socket.bind", "socket.connect", "socket.getaddrinfo", "socket.gethostbyaddr", "socket.gethostbyname",
    "socket.getnameinfo", "socket.sendmsg", "socket.sendto", "ftplib.connect", "http.client.connect", "smtplib.connect",
    "urllib.Request",
})  # fmt: skip
PROCESS_EVENTS = frozenset({
    "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile", "pty.spawn",
    "subprocess.Popen", "ctypes.dlopen",
})  # fmt: skip
FILE_EVENTS = frozenset({
    "open", "os.chmod", "os.chown", "os.link", "os.listdir", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.scandir",
    "os.symlink", "os.truncate", "os.utime", "shutil.copyfile", "shutil.move", "shutil.rmtree", "tempfile.mkdtemp",
    "tempfile.mkstemp",
})  # fmt: skip
_WATCHED = NETWORK_EVENTS | PROCESS_EVENTS | FILE_EVENTS


class ForbiddenCallError(BaseException):
    """A parser reached for something outside of itself. Not an ``Exception``, so that no parser takes it for its own."""


class _Hook:
    """The process's one audit hook: Python has no way to take one out again, so it is put in once and switched."""

    installed = False
    watching = False
    may_touch: tuple[str, ...] = ()
    seen: list[str] = []  # noqa: RUF012 - one list for the process, as there is one hook


def _audit(event, arguments):
    if not _Hook.watching or event not in _WATCHED:
        return
    if event in FILE_EVENTS and (_is_import() or _may_touch(arguments)):
        return
    described = f"{event}{arguments!r}"[:300]
    _Hook.seen.append(described)
    raise ForbiddenCallError(described)


def _may_touch(arguments):
    """Whether every path of an event lies under one that the parser was given; an open descriptor is one already."""
    paths = [os.fsdecode(path) for path in arguments if isinstance(path, str | bytes | os.PathLike)]
    paths = [path for path in paths if Path(path).is_absolute() or os.sep in path]
    return all(path.startswith(_Hook.may_touch) for path in paths) if _Hook.may_touch else False


def _is_import():
    """Whether the event comes from the import system, which reads a module the first time that a parser needs it."""
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


@contextmanager
def guarded(may_touch=()):
    """Nothing in the block may connect, look a name up, start a process, or touch a file outside ``may_touch``.

    What is tried does not happen and raises ``ForbiddenCallError``, also where the block itself has caught it.
    """
    if not _Hook.installed:
        sys.addaudithook(_audit)
        _Hook.installed = True
    assert not _Hook.watching, "guards do not nest"
    _Hook.may_touch, _Hook.seen, _Hook.watching = tuple(map(str, may_touch)), [], True
    try:
        yield
    finally:
        _Hook.watching = False
    if _Hook.seen:
        raise ForbiddenCallError(_Hook.seen[0])
