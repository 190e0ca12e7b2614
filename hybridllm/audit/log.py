"""The writer of the audit log: appends sealed lines, recovers from killed writers, begins new files."""

from __future__ import annotations

import errno
import os
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from hybridllm.audit.chain import START, Header, sealed_line
from hybridllm.audit.files import (
    as_audit_errors,
    file_name,
    flush,
    folder_of,
    numbers_in,
    opened,
    shown,
    write_whole,
)
from hybridllm.audit.head import HEAD_NAME, Head, create_head, read_head, write_head
from hybridllm.audit.key import LOCK_WAIT_S, default_key_file, key_id, load_key, make_key
from hybridllm.audit.segment import Segment, read_chain, read_segment, tampered
from hybridllm.errors import AuditError, BadRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from filelock import BaseFileLock

    from hybridllm.audit.record import AuditRecord

__all__ = ["AuditLog"]

_SMALLEST_FILE_BYTES = 4096
_POLL_S = 0.002  # how often to look whether another process has let go of the lock


@dataclass(frozen=True, slots=True)
class _Tail:
    """The end of the log, as far as this writer knows it."""

    number: int
    identity: tuple[int, int]
    size: int
    first_seq: int
    first_file: int
    seq: int
    mac: bytes


class AuditLog:
    """An append-only log; several threads and processes may write to one folder at once.

    Nothing is opened before the first append, so that a client can be made while the log cannot be written; every append
    tries anew, and what an append could not write must not leave.

    Args:
        folder: Where the log's files are; made if there is none.
        max_bytes: A file that would become longer is closed and a new one begun.
        keep_files: How many files to keep; the oldest are removed. 0 keeps all.
        key_file: Where the key is; made if there is none. None takes ``audit.key`` in the platform's state folder.
        clock: Seconds since 1970, for the time of a line.

    Raises:
        AuditError: ``folder`` or ``key_file`` is not a possible path.
        BadRequest: ``max_bytes`` or ``keep_files`` is not a usable number.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        max_bytes: int = 8 * 1024 * 1024,
        keep_files: int = 0,
        key_file: str | Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        for name, value, least in (("max_bytes", max_bytes, _SMALLEST_FILE_BYTES), ("keep_files", keep_files, 0)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise BadRequest(f"{name} is not a whole number of at least {least}.", field=name)
        self.folder = folder_of(folder)
        self.key_file = default_key_file() if key_file is None else folder_of(key_file)
        self._key_may_be_inside = key_file is not None
        self._max_bytes = max_bytes
        self._keep_files = keep_files
        self._clock = clock
        self._thread_lock = threading.Lock()
        self._file_lock: BaseFileLock | None = None
        self._key = b""
        self._tail: _Tail | None = None
        self._unsynced = False
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def open(self) -> None:
        """Do now what the first append would do: make or check the log, and recover what a killed writer left.

        Raises:
            AuditError: The log cannot be written, or is not what was written.
        """
        with self._exclusive():
            self._current_tail()

    def append(self, record: AuditRecord, *, sync: bool) -> None:
        """Write a record at the end of the log. Blocks.

        Args:
            record: What to write.
            sync: Return only when it is on the disk, and remember in the head that it is there.

        Raises:
            AuditError: It was not written; or it was, but not for certain. Either way, what it is about must not leave.
        """
        with self._exclusive():
            tail = self._current_tail()
            line, mac = self._sealed(tail, record.to_fields())
            if tail.size + len(line) > self._max_bytes and tail.seq > tail.first_seq:
                tail = self._begin_next_file(tail)
                line, mac = self._sealed(tail, record.to_fields())
            self._write(tail, line, mac, sync=sync)

    def close(self) -> None:
        """Bring everything onto the disk; nothing can be appended afterwards.

        Raises:
            AuditError: It cannot be brought there.
        """
        with self._thread_lock:
            if self._closed:
                return
            unsynced = self._unsynced
        try:
            if unsynced:
                with self._exclusive():
                    self._sync(self._current_tail())
        finally:
            self._closed = True

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Alone among threads and processes, in a folder that is there."""
        from filelock import FileLock, Timeout

        with self._thread_lock:
            if self._closed:
                raise AuditError(f"The audit log {shown(self.folder)} is closed.", "Open a new one.")
            with as_audit_errors(self.folder, "written"):
                if self._tail is None:
                    self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                elif not self.folder.is_dir():  # the lock would make it anew, and nobody would notice
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
                if self._file_lock is None:
                    self._file_lock = FileLock(
                        self.folder / ".lock",
                        timeout=LOCK_WAIT_S,
                        mode=0o600,
                        thread_local=False,
                        poll_interval=_POLL_S,
                    )
                try:
                    self._file_lock.acquire()
                except Timeout:
                    raise AuditError(
                        f"Another process has held the audit log {shown(self.folder)} for {LOCK_WAIT_S:.0f} s.",
                        "Stop it, or name another folder.",
                        file=str(self.folder),
                    ) from None
            try:
                yield
            finally:
                with as_audit_errors(self.folder, "written"):
                    self._file_lock.release()

    # Where the log ends ---------------------------------------------------------------------------------------------

    def _current_tail(self) -> _Tail:
        """The real end of the log: what others appended meanwhile is read, what a killed writer left is dropped."""
        known = self._tail
        if known is None or os.path.lexists(self.folder / file_name(known.number + 1)):
            return self._read_anew()
        path = self.folder / file_name(known.number)
        if not os.path.lexists(path):
            return self._read_anew()
        with as_audit_errors(path, "read"):
            status = path.lstat()
        identity, size = (status.st_dev, status.st_ino), status.st_size
        if identity != known.identity or size < known.size:
            raise tampered(path, 0, "the file was replaced or cut while it was in use")
        if size == known.size:
            return known
        more = read_chain(path, self._key, known.mac, known.size, known.seq - known.first_seq + 2)
        mac = more.macs[-1] if more.macs else known.mac
        tail = replace(known, size=more.end, seq=known.seq + len(more.macs), mac=mac)
        return self._settled(tail, more.torn_bytes)

    def _read_anew(self) -> _Tail:
        numbers = numbers_in(self.folder)
        if not numbers:
            return self._begin_log()
        self._load_key(make=False)
        head = self._head()
        segment = read_segment(self.folder, numbers[-1], self._key)
        if segment.header is None:
            return self._begin_file_again(segment, head)
        tail = self._tail_of(segment)
        known = self._tail
        self._check_not_cut(tail.seq, head)
        if known is not None and (tail.number < known.number or tail.seq < known.seq):
            raise tampered(self.folder, 0, "files of the audit log were removed or replaced while it was in use")
        for place in (head, known):
            if place is not None and place.seq >= segment.header.previous_seq:
                if segment.mac_at(place.seq) != place.mac:
                    raise tampered(self.folder, 0, f"line {place.seq} of the audit log is not the one that was written")
            elif place is head:
                raise tampered(self.folder / HEAD_NAME, 0, "the head is older than the newest file")
        return self._settled(tail, segment.chained.torn_bytes)

    @staticmethod
    def _tail_of(segment: Segment) -> _Tail:
        header, chained = segment.header, segment.chained
        assert header is not None
        return _Tail(
            number=segment.number,
            identity=chained.identity,
            size=chained.end,
            first_seq=header.seq,
            first_file=header.first_file,
            seq=segment.seq,
            mac=chained.macs[-1],
        )

    def _begin_log(self) -> _Tail:
        if self._tail is not None:
            raise tampered(self.folder, 0, "the files of the audit log were removed while it was in use")
        fresh = not os.path.lexists(self.folder / HEAD_NAME)
        self._load_key(make=fresh)
        if fresh:
            create_head(self.folder, self._key, Head(0, START))
        else:  # without a single line only if its writer was killed between the two
            self._check_not_cut(0, self._head())
        return self._create_file(1, first_file=1, previous_seq=0, previous_mac=START)

    def _begin_file_again(self, segment: Segment, head: Head) -> _Tail:
        """The newest file has not even its first line: take it away, and begin it once more."""
        previous_seq, previous_mac, first_file = 0, START, 1
        if segment.number > 1:
            before = read_segment(self.folder, segment.number - 1, self._key)
            if before.header is None or before.chained.torn_bytes:
                raise tampered(
                    self.folder / file_name(before.number), 0, "the file has no end although another follows it"
                )
            previous_seq, previous_mac, first_file = before.seq, before.chained.macs[-1], before.header.first_file
        self._check_not_cut(previous_seq, head)
        path = self.folder / file_name(segment.number)
        with as_audit_errors(path, "written"):
            path.unlink()
        tail = self._create_file(
            segment.number, first_file=first_file, previous_seq=previous_seq, previous_mac=previous_mac
        )
        dropped = segment.chained.torn_bytes
        return self._write_recovered(tail, dropped) if dropped else tail

    def _head(self) -> Head:
        head = read_head(self.folder, self._key)
        if head is None:
            raise tampered(self.folder / HEAD_NAME, 0, "the audit log's head is missing")
        return head

    def _check_not_cut(self, seq: int, head: Head) -> None:
        if head.seq > seq:
            raise tampered(
                self.folder,
                0,
                f"the end of the audit log is missing: line {head.seq} was written, line {seq} is the last",
            )

    def _load_key(self, *, make: bool) -> None:
        if self._key:
            return
        if not self._key_may_be_inside and os.path.realpath(self.key_file.parent) == os.path.realpath(self.folder):
            raise AuditError(
                f"The audit log's folder {shown(self.folder)} is the one that holds its key.",
                "Keep the audit log in another folder, or name a key_file.",
                file=str(self.folder),
            )
        self._key = make_key(self.key_file) if make else load_key(self.key_file)

    def _settled(self, tail: _Tail, torn_bytes: int) -> _Tail:
        """Drop what a killed writer left unfinished, and say so in the log."""
        if torn_bytes:
            self._check_not_cut(tail.seq, self._head())
            with opened(self.folder / file_name(tail.number), os.O_RDWR) as (descriptor, _):
                os.ftruncate(descriptor, tail.size)
                flush(descriptor)
            tail = self._write_recovered(tail, torn_bytes)
        self._tail = tail
        return tail

    # Writing --------------------------------------------------------------------------------------------------------

    def _write_recovered(self, tail: _Tail, dropped_bytes: int) -> _Tail:
        line, mac = self._sealed(tail, {"event": "recovered", "dropped_bytes": dropped_bytes})
        return self._write(tail, line, mac, sync=True)

    def _sealed(self, tail: _Tail, fields: dict[str, Any]) -> tuple[bytes, bytes]:
        return sealed_line(self._key, tail.mac, {"seq": tail.seq + 1, "time": self._time(), **fields})

    def _time(self) -> str:
        now = datetime.fromtimestamp(self._clock(), UTC)
        return now.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _write(self, tail: _Tail, line: bytes, mac: bytes, *, sync: bool) -> _Tail:
        path = self.folder / file_name(tail.number)
        with opened(path, os.O_WRONLY | os.O_APPEND) as (descriptor, status):
            if (status.st_dev, status.st_ino) != tail.identity or status.st_size != tail.size:
                raise tampered(path, 0, "somebody else wrote to the file, or replaced it")
            try:
                if os.write(descriptor, line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if sync:
                    flush(descriptor)
            except OSError:
                os.ftruncate(descriptor, tail.size)  # if not even that works, the next append recovers
                raise
        written = replace(tail, size=tail.size + len(line), seq=tail.seq + 1, mac=mac)
        self._tail = written
        self._unsynced = not sync
        if sync:
            write_head(self.folder, self._key, Head(written.seq, written.mac))
        return written

    def _sync(self, tail: _Tail) -> None:
        with opened(self.folder / file_name(tail.number), os.O_WRONLY | os.O_APPEND) as (descriptor, _):
            flush(descriptor)
        write_head(self.folder, self._key, Head(tail.seq, tail.mac), sync=True)
        self._unsynced = False

    def _begin_next_file(self, tail: _Tail) -> _Tail:
        self._sync(tail)
        number = tail.number + 1
        first_file = max(tail.first_file, number - self._keep_files + 1) if self._keep_files else tail.first_file
        begun = self._create_file(number, first_file=first_file, previous_seq=tail.seq, previous_mac=tail.mac)
        for old in numbers_in(self.folder):
            if old < first_file:
                path = self.folder / file_name(old)
                with as_audit_errors(path, "removed"):
                    path.unlink()
        return begun

    def _create_file(self, number: int, *, first_file: int, previous_seq: int, previous_mac: bytes) -> _Tail:
        header = Header(previous_seq + 1, number, first_file, key_id(self._key), previous_seq, previous_mac)
        line, mac = sealed_line(self._key, previous_mac, header.to_fields(self._time()))
        path = self.folder / file_name(number)
        write_whole(path, line)
        write_head(self.folder, self._key, Head(header.seq, mac))
        with opened(path, os.O_RDONLY) as (_, status):
            identity = (status.st_dev, status.st_ino)
        self._tail = _Tail(number, identity, len(line), header.seq, first_file, header.seq, mac)
        return self._tail
