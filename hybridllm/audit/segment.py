"""One file of the log as its writer reads it: the chain up to its end, and what lies unfinished behind it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hybridllm.audit.chain import Header, fits, header_of, raw_lines, split_line
from hybridllm.audit.files import file_name, opened, shown
from hybridllm.audit.key import key_id
from hybridllm.errors import AuditError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["MEND", "Chained", "Segment", "read_chain", "read_segment", "tampered"]

MEND = "Keep the folder as it is, look at it with hybridllm audit verify, and begin a new audit log in another folder."


def tampered(path: Path, line: int, problem: str) -> AuditError:
    """The error for a log that its writer may not go on with; line 0 is the file as a whole."""
    where = f"{shown(path)}:{line}" if line else shown(path)
    return AuditError(f"{where}: {problem}.", MEND, file=str(path))


@dataclass(slots=True)
class Chained:
    """What follows a known place in a file."""

    identity: tuple[int, int]
    """The file's device and number there, which tell it from another of the same name."""

    macs: list[bytes] = field(default_factory=list)
    """MACs of the whole lines, in order."""

    end: int = 0
    """Where the last whole line ends, in bytes."""

    torn_bytes: int = 0
    """Bytes behind it: the beginning of a line whose writer was killed."""


@dataclass(slots=True)
class Segment:
    """A file of the log from its beginning."""

    number: int
    header: Header | None
    """None if not even the first line is whole."""

    chained: Chained

    @property
    def seq(self) -> int:
        """Sequence number of the last whole line; only where there is a header."""
        assert self.header is not None
        return self.header.seq + len(self.chained.macs) - 1

    def mac_at(self, seq: int) -> bytes | None:
        """MAC of a line of this file, or of the last one before it; None for others."""
        if self.header is None:
            return None
        if seq == self.header.previous_seq:
            return self.header.previous_mac
        index = seq - self.header.seq
        return self.chained.macs[index] if 0 <= index < len(self.chained.macs) else None


def read_segment(folder: Path, number: int, key: bytes) -> Segment:
    """Read a file of the log and check its chain.

    Raises:
        AuditError: A whole line in it is not what was written, it was sealed with another key, or it cannot be read.
    """
    path = folder / file_name(number)
    with opened(path, os.O_RDONLY) as (descriptor, _), os.fdopen(descriptor, "rb", closefd=False) as file:
        first = next(raw_lines(file), b"")
    split = split_line(first)
    if split is None:
        return Segment(number, None, read_chain(path, key, b"", 0, 1))
    header = header_of(first)
    if header is None or header.file != number:
        raise tampered(
            path, 1, f"this is not the first line of file {number} of an audit log that this release understands"
        )
    if header.key != key_id(key):
        raise AuditError(
            f"{shown(path)} was sealed with another key.",
            "Name that key, or begin a new audit log in another folder.",
            file=str(path),
        )
    return Segment(number, header, read_chain(path, key, header.previous_mac, 0, 1))


def read_chain(path: Path, key: bytes, previous_mac: bytes, offset: int, line: int) -> Chained:
    """Read on from a place where a line begins, and check the chain.

    Args:
        path: The file.
        key: The log's key.
        previous_mac: MAC of the line before.
        offset: Where to begin, in bytes.
        line: Number of the line that begins there, for errors.

    Raises:
        AuditError: A whole line is not what was written, or the file cannot be read.
    """
    with opened(path, os.O_RDONLY) as (descriptor, status), os.fdopen(descriptor, "rb", closefd=False) as file:
        file.seek(offset)
        found = Chained((status.st_dev, status.st_ino), end=offset)
        broken = 0
        for number, raw in enumerate(raw_lines(file), start=line):
            if broken:  # a killed writer leaves nothing behind what it left unfinished
                raise tampered(path, broken, "this is not a line of an audit log")
            split = split_line(raw)
            if split is None:
                broken = number
                continue
            if not fits(key, previous_mac, *split):
                raise tampered(path, number, "this line is not what was written here: its mac does not fit")
            previous_mac = split[1]
            found.macs.append(previous_mac)
            found.end += len(raw)
        found.torn_bytes = file.tell() - found.end
    return found
