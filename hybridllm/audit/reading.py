"""Shows the end of a log as it is, without the key and without checking anything."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hybridllm.audit.chain import raw_lines, values_of
from hybridllm.audit.files import file_name, folder_of, numbers_in, opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["follow", "tail"]

_POLL_S = 0.3


def tail(folder: str | Path, count: int) -> list[dict[str, Any]]:
    """The last records, oldest first, as they stand in the log; files' first lines are left out.

    A line that is none of the log's comes as ``{"event": "unreadable", "file": …, "line": …}``.

    Raises:
        AuditError: The folder or a file cannot be read.
    """
    return _last(folder_of(folder), count)[0]


def follow(folder: str | Path, count: int, *, poll_s: float = _POLL_S) -> Iterator[dict[str, Any]]:
    """The last records, then every further one as soon as it is there, without end.

    Args:
        folder: The log's folder.
        count: How many of the records that are there already.
        poll_s: How often to look, in seconds.

    Raises:
        AuditError: The folder or a file cannot be read.
    """
    where = folder_of(folder)
    found, place = _last(where, count)
    yield from found
    while True:
        later = [number for number in numbers_in(where) if number > place.number]
        found, place = _read(where, place)  # after the listing: where a later file is there, this one is complete
        yield from found
        if later:
            place = _Place(later[0])
        else:
            time.sleep(poll_s)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a line begins."""

    number: int
    """Number of the file; 0 while there is none."""

    offset: int = 0
    line: int = 1


def _last(folder: Path, count: int) -> tuple[list[dict[str, Any]], _Place]:
    """The last records, and where the log ends."""
    numbers = numbers_in(folder)
    found, end = _read(folder, _Place(numbers[-1] if numbers else 0))
    for number in reversed(numbers[:-1]):
        if len(found) >= count:
            break
        found = _read(folder, _Place(number))[0] + found
    return found[max(len(found) - count, 0) :], end


def _read(folder: Path, place: _Place) -> tuple[list[dict[str, Any]], _Place]:
    """The records of a file from a place on, and where its whole lines end."""
    path = folder / file_name(place.number)
    found: list[dict[str, Any]] = []
    if not os.path.lexists(path):  # none yet, or removed by its writer, which keeps only so many
        return found, place
    with opened(path, os.O_RDONLY) as (descriptor, _), os.fdopen(descriptor, "rb", closefd=False) as file:
        file.seek(place.offset)
        for raw in raw_lines(file):
            if not raw.endswith(b"\n"):
                break
            values = values_of(raw)
            if values is None or not isinstance(values.get("event"), str):
                found.append({"event": "unreadable", "file": path.name, "line": place.line})
            elif values["event"] != "header":
                found.append(values)
            place = _Place(place.number, file.tell(), place.line + 1)
    return found, place
