"""How lines are sealed: each ends with the HMAC-SHA256 of the previous line's MAC and of its own bytes.

    mac = HMAC-SHA256(key, previous mac (32 bytes) || the line's bytes without `,"mac":"…"` and without the newline)

The MAC covers bytes as they lie on the disk, not what a parser makes of them, so that another spelling of the same JSON is a
change like any other. Before the first line of a log stand 32 zero bytes.
"""

from __future__ import annotations

import hmac
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import BinaryIO

__all__ = [
    "FORMAT",
    "MAX_LINE_BYTES",
    "START",
    "Header",
    "fits",
    "header_of",
    "raw_lines",
    "sealed_line",
    "split_line",
    "values_of",
]

FORMAT = 1
"""Version of the format, which every file's first line names."""

START = bytes(32)
"""What stands for the MAC before the first line."""

MAX_LINE_BYTES = 32 * 1024
"""No line is longer; a longer one is none of ours."""

_LINE = re.compile(rb'(\{"seq":[0-9]{1,18},.*),"mac":"([0-9a-f]{64})"\}\n')


def sealed_line(key: bytes, previous_mac: bytes, fields: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """A line of the log with its newline, and its MAC. ASCII throughout: nothing in it can break or hide a line."""
    body = json.dumps(fields, ensure_ascii=True, separators=(",", ":"), allow_nan=False).encode("ascii")
    mac = hmac.digest(key, previous_mac + body, "sha256")
    return body[:-1] + b',"mac":"' + mac.hex().encode("ascii") + b'"}\n', mac


def split_line(raw: bytes) -> tuple[bytes, bytes] | None:
    """The sealed bytes of a line and the MAC that it claims; None if it has not the shape of a whole line."""
    found = _LINE.fullmatch(raw)
    return None if found is None else (found[1] + b"}", bytes.fromhex(found[2].decode("ascii")))


def fits(key: bytes, previous_mac: bytes, body: bytes, claimed: bytes) -> bool:
    """True if ``claimed`` is the MAC of ``body`` after ``previous_mac``."""
    return hmac.compare_digest(hmac.digest(key, previous_mac + body, "sha256"), claimed)


def values_of(raw: bytes) -> dict[str, Any] | None:
    """What a line says; None if it is not a JSON object with a sequence number."""
    try:
        values = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) and type(values.get("seq")) is int else None


def raw_lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file with their newlines; only the last may lack one. One too long to be ours comes as a stub."""
    while raw := file.readline(MAX_LINE_BYTES):
        while not raw.endswith(b"\n") and (more := file.readline(MAX_LINE_BYTES)):
            raw = b"\0\n" if more.endswith(b"\n") else b"\0"
        yield raw


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of a file."""

    seq: int
    """Its own sequence number, the one after ``previous_seq``."""

    file: int
    """Number of the file, counted from 1."""

    first_file: int
    """Number of the oldest file that was kept when this one was begun."""

    key: str
    """Which key sealed it, as :func:`hybridllm.audit.key.key_id` names it."""

    previous_seq: int
    """Sequence number of the last line of the file before; 0 before the first."""

    previous_mac: bytes
    """MAC of that line."""

    def to_fields(self, time: str) -> dict[str, Any]:
        """The header as a line has it, to be sealed."""
        return {
            "seq": self.seq,
            "time": time,
            "event": "header",
            "format": FORMAT,
            "file": self.file,
            "first_file": self.first_file,
            "key": self.key,
            "previous_seq": self.previous_seq,
            "previous_mac": self.previous_mac.hex(),
        }


def header_of(raw: bytes) -> Header | None:
    """The header that a line is; None if it is none. Whether its MAC fits is another question."""
    values = values_of(raw)
    if values is None or values.get("event") != "header" or values.get("format") != FORMAT:
        return None
    numbers = [values.get(name) for name in ("seq", "file", "first_file", "previous_seq")]
    key, previous_mac = values.get("key"), values.get("previous_mac")
    if any(type(number) is not int for number in numbers) or not isinstance(key, str):
        return None
    if not isinstance(previous_mac, str) or re.fullmatch(r"[0-9a-f]{64}", previous_mac) is None:
        return None
    header = Header(
        seq=values["seq"],
        file=values["file"],
        first_file=values["first_file"],
        key=key,
        previous_seq=values["previous_seq"],
        previous_mac=bytes.fromhex(previous_mac),
    )
    return header if header.seq == header.previous_seq + 1 else None
