"""Reads a whole log and says what is wrong with it, and where. Needs the key; changes nothing and takes no lock."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from hybridllm.audit.chain import START, Header, fits, header_of, raw_lines, split_line, values_of
from hybridllm.audit.files import file_name, folder_of, numbers_in, opened, shown
from hybridllm.audit.head import HEAD_NAME, Head, read_head
from hybridllm.audit.key import default_key_file, key_id, load_key
from hybridllm.errors import AuditError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["AuditReport", "FileReport", "Finding", "verify_audit"]

_READINGS = 3  # a writer may remove its oldest file between our listing and our reading


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as the log's writer left it."""

    file: str
    """The file with its folder, or the folder."""

    line: int
    """Line in that file, counted from 1; 0 if it is about the file as a whole."""

    message: str
    """What is wrong."""

    def __str__(self) -> str:
        return f"{shown(self.file)}:{self.line}: {self.message}" if self.line else f"{shown(self.file)}: {self.message}"


@dataclass(frozen=True, slots=True)
class FileReport:
    """One file of the log."""

    file: str
    """Its name."""

    lines: int
    """Whole lines in it."""

    first_seq: int | None
    """Sequence number of its first line; None if that cannot be read."""

    last_seq: int | None
    """Sequence number of its last line; None if that cannot be read."""

    ok: bool
    """True if nothing is wrong with it."""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What :func:`verify_audit` found."""

    folder: str
    """The log's folder."""

    files: tuple[FileReport, ...]
    """The log's files, from the oldest."""

    findings: tuple[Finding, ...]
    """What is wrong, in the order of the files."""

    notes: tuple[str, ...]
    """What is worth knowing and nothing wrong: older files that were not kept, an unfinished last line."""

    first_seq: int | None
    """The sequence number from which on the log could be verified."""

    last_seq: int | None
    """The last line's sequence number."""

    @property
    def ok(self) -> bool:
        """True if nothing is wrong."""
        return not self.findings

    def to_dict(self) -> dict[str, Any]:
        """The report as values of JSON."""
        return {"ok": self.ok, **asdict(self)}


def verify_audit(folder: str | Path, *, key_file: str | Path | None = None) -> AuditReport:
    """Check every line of a log: its MAC, its place in the chain, and that neither files nor the end are missing.

    Args:
        folder: The log's folder. A writer may be at work in it.
        key_file: The log's key. None takes ``audit.key`` in the platform's state folder.

    Raises:
        AuditError: The key or the folder cannot be read; what is wrong with the log itself is in the report.
    """
    where = folder_of(folder)
    if not where.is_dir() or not (numbers_in(where) or os.path.lexists(where / HEAD_NAME)):
        return AuditReport(str(where), (), (Finding(str(where), 0, "there is no audit log here"),), (), None, None)
    key = load_key(default_key_file() if key_file is None else folder_of(key_file))
    reading = _Reading(where, key)
    for _ in range(_READINGS):
        reading = _Reading(where, key)
        if not reading.run():
            break
    return reading.report()


@dataclass(slots=True)
class _Reading:
    """One reading of all files, from the oldest to the newest."""

    folder: Path
    key: bytes
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: list[FileReport] = field(default_factory=list)
    head: Head | None = None
    header: Header | None = None  # of the newest file that has one
    mac: bytes | None = START  # of the line before; None after a line that has none
    seq: int | None = 0  # of the line before; None where that is not known
    head_seen: bool = False

    def run(self) -> bool:
        """Read everything; true if a file vanished meanwhile."""
        self._read_head()  # before the lines: they can only have become more since
        numbers = numbers_in(self.folder)
        vanished = False
        for index, number in enumerate(numbers):
            if number != (numbers[index - 1] + 1 if index else 1):
                self.mac = self.seq = (
                    None  # the files before are gone: what they ended with is only what the header says
                )
            path = self.folder / file_name(number)
            try:
                self._read_file(path, number, newest=index == len(numbers) - 1)
            except AuditError as error:
                vanished |= not os.path.lexists(path)
                self._find(path, 0, str(error).removeprefix(f"{shown(path)} "))
                self.files.append(FileReport(path.name, 0, None, None, ok=False))
                self.mac = self.seq = None
        self._check_files(numbers)
        self._check_end()
        return vanished

    def report(self) -> AuditReport:
        """What was found."""
        firsts = [file.first_seq for file in self.files if file.first_seq is not None]
        lasts = [file.last_seq for file in self.files if file.last_seq is not None]
        return AuditReport(
            folder=str(self.folder),
            files=tuple(self.files),
            findings=tuple(self.findings),
            notes=tuple(self.notes),
            first_seq=firsts[0] if firsts else None,
            last_seq=lasts[-1] if lasts else None,
        )

    def _find(self, path: Path, line: int, message: str) -> None:
        self.findings.append(Finding(str(path), line, message))

    def _read_head(self) -> None:
        path = self.folder / HEAD_NAME
        try:
            self.head = read_head(self.folder, self.key)
        except AuditError as error:
            self._find(path, 0, error.message)
            return
        if self.head is None:
            self._find(path, 0, "the head is missing: an end that was cut off could not be noticed")
        elif self.head.seq == 0:
            self.head_seen = True

    def _read_file(self, path: Path, number: int, *, newest: bool) -> None:
        before = len(self.findings)
        first_seq = last_seq = None
        whole = 0
        with opened(path, os.O_RDONLY) as (descriptor, status), os.fdopen(descriptor, "rb", closefd=False) as file:
            for line, raw in enumerate(raw_lines(file), start=1):
                if newest and not raw.endswith(b"\n"):
                    self.notes.append(f"{shown(path)}:{line}: an unfinished line; the next append drops it")
                    break
                whole += 1
                if line == 1 and self._is_of_another_key(path, raw):
                    break
                seq = self._read_line(path, number, line, raw)
                first_seq = seq if line == 1 else first_seq
                last_seq = seq or last_seq
            if not status.st_size:
                self._find(path, 0, "the file is empty")
        self.files.append(FileReport(path.name, whole, first_seq, last_seq, ok=len(self.findings) == before))

    def _is_of_another_key(self, path: Path, raw: bytes) -> bool:
        header = header_of(raw)
        if header is None or header.key == key_id(self.key):
            return False
        self._find(path, 1, "the file was sealed with another key, or its first line was changed")
        self.mac = self.seq = None
        return True

    def _read_line(self, path: Path, number: int, line: int, raw: bytes) -> int | None:
        """Check one line against the one before it; its sequence number, if it has one."""
        split, values = split_line(raw), values_of(raw)
        if split is None or values is None:
            self._find(path, line, "this is not a line of an audit log; the line after it cannot be checked either")
            self.mac = self.seq = None
            return None
        body, claimed = split
        seq: int = values["seq"]
        problem = self._read_header(number, raw) if line == 1 else ""
        if not problem and self.mac is not None and not fits(self.key, self.mac, body, claimed):
            missing = self.seq is not None and seq > self.seq + 1
            problem = (
                f"number {seq} follows number {self.seq}: lines before this one are missing"
                if missing
                else "this line is not what was written here: its mac does not fit"
            )
        if self.head is not None and seq == self.head.seq:
            self.head_seen = True
            if not problem and claimed != self.head.mac:
                problem = "this line is not the one that the head names"
        if problem:
            self._find(path, line, problem)
        self.mac, self.seq = claimed, seq
        return seq

    def _read_header(self, number: int, raw: bytes) -> str:
        """What is wrong with the first line of a file, apart from its MAC."""
        header = header_of(raw)
        if header is None or header.file != number:
            return f"this is not the first line of file {number} of an audit log that this release understands"
        self.header = header
        if self.seq is None or self.mac is None:
            self.mac, self.seq = header.previous_mac, header.previous_seq
        elif (header.previous_seq, header.previous_mac) != (self.seq, self.mac):
            self.mac, self.seq = header.previous_mac, header.previous_seq
            return "this file does not go on where the file before it ends"
        return ""

    def _check_files(self, numbers: list[int]) -> None:
        """Every file from the oldest that was to be kept must be there."""
        first = self.header.first_file if self.header is not None else 1
        for number in range(first, max(numbers, default=0)):
            if number not in numbers:
                self._find(self.folder / file_name(number), 0, "the file is missing")
        if first > 1:
            oldest = next((file.first_seq for file in self.files if file.first_seq is not None), None)
            self.notes.append(f"older files were not kept; verified from number {oldest} on")

    def _check_end(self) -> None:
        if self.head is None or self.head_seen:
            return
        last = max((file.last_seq for file in self.files if file.last_seq is not None), default=0)
        if self.head.seq > last:
            self._find(
                self.folder, 0, f"the end is missing: number {self.head.seq} was written, number {last} is the last"
            )
        elif self.header is None or self.head.seq < self.header.previous_seq:
            self._find(self.folder / HEAD_NAME, 0, "the head is older than the newest file")
        elif self.head.seq == self.header.previous_seq and self.head.mac != self.header.previous_mac:
            self._find(self.folder / HEAD_NAME, 0, "the head does not belong to this log")
        elif self.head.seq > self.header.previous_seq:
            self._find(self.folder, 0, f"number {self.head.seq}, which the head names, is missing")
