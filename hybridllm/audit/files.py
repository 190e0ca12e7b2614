"""The log's files on the disk: opened without following links, written so that a crash leaves nothing half-made."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hybridllm.errors import AuditError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "as_audit_errors",
    "file_name",
    "flush",
    "folder_of",
    "numbers_in",
    "opened",
    "read_all",
    "shown",
    "write_whole",
]

_NAME = re.compile(r"audit-([0-9]{6,12})\.jsonl")
_MODE = 0o600
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
# Not to be blocked by a pipe that somebody put in a file's place; binary, because Windows would change the newlines.
_FLAGS = _NOFOLLOW | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
_GONE = {errno.ENOENT, getattr(errno, "ESTALE", errno.ENOENT)}
_OTHER_KIND = {errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENXIO}


def file_name(number: int) -> str:
    """Name of the log's file with this number."""
    return f"audit-{number:06d}.jsonl"


def numbers_in(folder: Path) -> list[int]:
    """Numbers of the log's files in a folder, in order."""
    with as_audit_errors(folder, "read"):
        found = [_NAME.fullmatch(name) for name in os.listdir(folder)]  # noqa: PTH208 - names are all we want
    numbers = {int(match[1]): match[0] for match in found if match}
    return sorted(number for number, name in numbers.items() if name == file_name(number))


def folder_of(folder: str | Path) -> Path:
    """The folder, with ``~`` replaced by the user's home.

    Raises:
        AuditError: It is not a possible path, or the home of a user that there is not.
    """
    try:
        if not str(folder).strip() or "\0" in str(folder):
            raise ValueError
        return Path(folder).expanduser()
    except (ValueError, RuntimeError):
        raise AuditError(f"{shown(folder)} is not a possible folder or file.", "Name another one.") from None


def shown(path: str | Path) -> str:
    """A path as an error shows it, on one line."""
    text = str(path)
    return text if text.isprintable() and text else repr(text)


@contextmanager
def as_audit_errors(path: Path, done: str) -> Iterator[None]:
    """Turn the system's errors into one sentence about ``path``, which could not be ``done`` (a participle)."""
    try:
        yield
    except OSError as error:
        what = error.strerror or type(error).__name__
        raise AuditError(f"{shown(path)} cannot be {done}: {what}.", _mend(error), file=str(path)) from error


def _mend(error: OSError) -> str:
    if error.errno in _FULL:
        return "Free some space, or keep the audit log in another folder."
    if error.errno in _REFUSED:
        return "Give this user the right to it, or keep the audit log in another folder."
    if error.errno in _GONE:
        return "Put it back, or begin a new audit log in another folder."
    if error.errno in _OTHER_KIND:
        return "Move away what stands in its place, or keep the audit log in another folder."
    return "Look at the disk, or keep the audit log in another folder."


@contextmanager
def opened(path: Path, flags: int) -> Iterator[tuple[int, os.stat_result]]:
    """Open a regular file, never through a link; gives the descriptor and what it leads to.

    Raises:
        AuditError: It cannot be opened, it is something else, or the system refuses what is done inside the ``with``.
    """
    done = "read" if flags & (os.O_WRONLY | os.O_RDWR) == 0 else "written"
    with as_audit_errors(path, done):
        if not _NOFOLLOW and path.is_symlink():  # Windows: the best that can be done there
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        descriptor = os.open(path, flags | _FLAGS, _MODE)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise AuditError(
                    f"{shown(path)} is not a regular file.",
                    "Move away what stands in its place, or keep the audit log in another folder.",
                    file=str(path),
                )
            yield descriptor, status
        finally:
            os.close(descriptor)


def read_all(path: Path, most_bytes: int) -> bytes:
    """The first bytes of a regular file.

    Raises:
        AuditError: It cannot be read.
    """
    with opened(path, os.O_RDONLY) as (descriptor, _):
        return os.read(descriptor, most_bytes)


def write_whole(path: Path, data: bytes) -> None:
    """Make a new file appear with all of its bytes, on the disk, or not at all; readable by its owner only.

    Raises:
        AuditError: There is something of this name already, or it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.new")
    with as_audit_errors(path, "written"):
        if os.path.lexists(path):
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        temporary.unlink(missing_ok=True)  # left by somebody who was ended here
        with opened(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as (descriptor, _):
            if os.write(descriptor, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            flush(descriptor)
        temporary.replace(path)
        _flush_folder(path.parent)


def flush(descriptor: int) -> None:
    """Return when what was written is on the disk, as far as the system can say."""
    if sys.platform == "darwin":
        import fcntl

        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # fsync there leaves the data in the drive's own cache
            return
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY):
                raise  # a disk that knows no such call gets fsync
    os.fsync(descriptor)


def _flush_folder(folder: Path) -> None:
    if os.name != "posix":
        return  # Windows has no such call and needs none
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
