"""A memory cgroup for one process and its children: a limit, what was used of it, and whether the kernel had to kill for it."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MemoryGroup", "NoGroupError", "forget_files", "memory_group"]

_ROOT = Path("/sys/fs/cgroup")
_MIB = 1 << 20
_NAMES = {
    1: ("memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control"),
    2: ("memory.max", "memory.peak", "memory.events"),
}
_EMPTY_WAIT_S = 30.0


class NoGroupError(Exception):
    """Cgroups cannot be made here; the text says why."""


class MemoryGroup:
    """A group that exists, in either version of the hierarchy."""

    def __init__(self, folder: Path, version: int) -> None:
        self.folder = folder
        self._limit, self._peak, self._events = _NAMES[version]

    def command(self, command: list[str]) -> list[str]:
        """The command line that runs ``command`` inside this group."""
        return ["/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self.folder / "cgroup.procs"), *command]

    def limit(self, mib: int) -> None:
        (self.folder / self._limit).write_text(str(mib * _MIB))

    @property
    def peak_mib(self) -> float:
        return int((self.folder / self._peak).read_text()) / _MIB

    @property
    def kills(self) -> int:
        counters = dict(line.split() for line in (self.folder / self._events).read_text().splitlines())
        return int(counters["oom_kill"])

    def remove(self) -> None:
        """Remove the group once its processes are gone."""
        deadline = time.monotonic() + _EMPTY_WAIT_S
        while (self.folder / "cgroup.procs").read_text().strip():
            if time.monotonic() > deadline:
                raise TimeoutError(f"processes are left in {self.folder}")
            time.sleep(0.05)
        self.folder.rmdir()


def _own_folder() -> tuple[Path, int]:
    """Where this process's memory group is, and the version of the hierarchy."""
    if sys.platform != "linux":
        raise NoGroupError("cgroups are Linux's")
    found: tuple[Path, int] | None = None
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return _visible(_ROOT / "memory", path), 1
        if not controllers:
            found = _visible(_ROOT, path), 2
    if found is None:
        raise NoGroupError("this process is in no cgroup")
    return found


def _visible(root: Path, path: str) -> Path:
    # Inside a container the path may name a group that is not visible there; the root then is its own.
    folder = root / path.lstrip("/")
    return folder if folder.is_dir() else root


@contextlib.contextmanager
def memory_group(mib: int) -> Iterator[MemoryGroup]:
    """Make a group with a limit, and remove it afterwards.

    Raises:
        NoGroupError: It cannot be made here.
    """
    own, version = _own_folder()
    if version == 2 and "memory" not in (own / "cgroup.subtree_control").read_text().split():
        raise NoGroupError(f"{own} does not hand the memory controller to groups below it")
    folder = own / f"hybridllm-test-{uuid.uuid4().hex[:12]}"
    try:
        folder.mkdir()
    except OSError as error:
        raise NoGroupError(f"a group cannot be made in {own}: {error.strerror}") from error
    group = MemoryGroup(folder, version)
    try:
        group.limit(mib)
        yield group
    finally:
        group.remove()


def forget_files(*folders: Path) -> None:
    """Drop files from the page cache, so that whoever reads them next pays for them; files in use stay."""
    for folder in folders:
        for file in folder.rglob("*"):
            if file.is_file() and not file.is_symlink():
                descriptor = os.open(file, os.O_RDONLY)
                try:
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                finally:
                    os.close(descriptor)
