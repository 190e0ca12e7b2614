"""The head: a small sealed file beside the log that says how far it had come, so that a cut-off end is noticed.

It has two slots of a fixed size, each a JSON line, and the older one is overwritten in place. Whoever is killed meanwhile
leaves the other slot whole, and nothing has to be allocated, which a full disk would refuse. The head is written after its
line is on the disk and is never ahead of it.
"""

from __future__ import annotations

import hmac
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hybridllm.audit.files import flush, opened, read_all, write_whole
from hybridllm.audit.key import key_id
from hybridllm.errors import AuditError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["HEAD_NAME", "Head", "create_head", "read_head", "write_head"]

HEAD_NAME = "head.jsonl"

_SLOT_BYTES = 256
_PURPOSE = b"hybridllm audit head\0"  # no line of the log is sealed under the same text: those begin with a MAC


@dataclass(frozen=True, slots=True)
class Head:
    """How far the log had come."""

    seq: int
    """Sequence number of the last line that was synced; 0 before the first."""

    mac: bytes
    """MAC of that line."""


def create_head(folder: Path, key: bytes, head: Head) -> None:
    """Begin a head.

    Raises:
        AuditError: It cannot be written.
    """
    write_whole(folder / HEAD_NAME, _slot(key, head) * 2)


def read_head(folder: Path, key: bytes) -> Head | None:
    """How far the log had come; None if there is no head.

    Raises:
        AuditError: It cannot be read, or neither of its slots is sealed with this key.
    """
    path = folder / HEAD_NAME
    if not os.path.lexists(path):
        return None
    return _newest(path, key, read_all(path, 2 * _SLOT_BYTES))[0]


def write_head(folder: Path, key: bytes, head: Head, *, sync: bool = False) -> None:
    """Write down that the log has come so far.

    Without ``sync`` the system writes it to the disk when it likes. After a power cut it may then be older than the log, which
    does no harm; only a log that is cut back to it goes unnoticed.

    Raises:
        AuditError: It cannot be written, or is damaged.
    """
    path = folder / HEAD_NAME
    with opened(path, os.O_RDWR) as (descriptor, _):
        _, newest = _newest(path, key, os.read(descriptor, 2 * _SLOT_BYTES))
        os.lseek(descriptor, (1 - newest) * _SLOT_BYTES, os.SEEK_SET)
        os.write(descriptor, _slot(key, head))
        if sync:
            flush(descriptor)


def _newest(path: Path, key: bytes, data: bytes) -> tuple[Head, int]:
    found = [(head, index) for index in (0, 1) if (head := _read_slot(key, data[index * _SLOT_BYTES :][:_SLOT_BYTES]))]
    if not found:
        raise AuditError(
            f"The audit log's head {path} is damaged, or was sealed with another key.",
            "Keep the folder as it is, name the right key, or begin a new audit log in another folder.",
            file=str(path),
        )
    return max(found, key=lambda pair: pair[0].seq)


def _slot(key: bytes, head: Head) -> bytes:
    fields = {"seq": head.seq, "mac": head.mac.hex(), "key": key_id(key)}
    fields["seal"] = _seal(key, fields)
    return json.dumps(fields, separators=(",", ":")).encode("ascii").ljust(_SLOT_BYTES - 1) + b"\n"


def _seal(key: bytes, fields: dict[str, Any]) -> str:
    sealed = json.dumps([fields["seq"], fields["mac"], fields["key"]]).encode()
    return hmac.digest(key, _PURPOSE + sealed, "sha256").hex()


def _read_slot(key: bytes, slot: bytes) -> Head | None:
    try:
        fields = json.loads(slot)
        seal = bytes.fromhex(fields["seal"])
        if not hmac.compare_digest(bytes.fromhex(_seal(key, fields)), seal):
            return None
        return Head(int(fields["seq"]), bytes.fromhex(fields["mac"]))
    except (ValueError, KeyError, TypeError):
        return None  # torn, or not ours: the other slot decides
