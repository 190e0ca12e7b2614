"""Machine-readable zones of travel documents: TD1, TD2, TD3 and visas, by their check digits (ICAO Doc 9303, parts 3 to 7)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hybridllm.detectors.reading import Find, Reading

__all__ = ["check_digit", "find_machine_readable_zones"]

# Birth, its check digit, sex, expiry, its check digit: what all formats have in common.
_CORE = re.compile(r"[0-9]{7}[MFXmfx<][0-9]{7}")
_FEWEST_FILLERS = 5
_FILLER = re.compile(r"[A-Z0-9<]*")
_BLANK = re.compile(r"\s+")
_VALUES = {character: value for value, character in enumerate("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")} | {"<": 0}
_WEIGHTS = (7, 3, 1)


def check_digit(field: str) -> str:
    """The check digit of a field of capitals, digits and fillers (ICAO Doc 9303, part 3, section 4.9)."""
    return str(sum(_VALUES[character] * _WEIGHTS[at % 3] for at, character in enumerate(field)) % 10)


def find_machine_readable_zones(reading: Reading) -> Iterator[Find]:
    """Whole zones, or at least their line of numbers, with or without their line breaks."""
    if reading.text.count("<") < _FEWEST_FILLERS or not reading.areas:
        return
    compact, places = _without_blanks(reading.text)
    end = 0
    for core in _CORE.finditer(compact):
        zone = _zone(compact, core.start())
        if zone and zone[0] >= end:
            end = zone[1]
            yield places[zone[0]], places[end - 1] + 1


def _without_blanks(text: str) -> tuple[str, list[int]]:
    places: list[int] = []
    at = 0
    for blank in _BLANK.finditer(text):
        places += range(at, blank.start())
        at = blank.end()
    places += range(at, len(text))
    return _BLANK.sub("", text).upper(), places


def _zone(text: str, core: int) -> Find | None:
    """The zone around a birth date, if its check digits are right."""
    fields = text[core : core + 15]
    if check_digit(fields[:6]) != fields[6] or check_digit(fields[8:14]) != fields[14]:
        return None
    for length in (44, 36):
        # The second line of passports, visas and TD2 cards begins 13 characters before: number, check digit, country.
        line = text[core - 13 : core - 13 + length] if core >= 13 else ""
        if len(line) == length and _is_second_line(line):
            return _first_line(text, core - 13, length), core - 13 + length
    first, second = text[max(0, core - 30) : core], text[core : core + 30]
    if len(first) == len(second) == 30 and _is_card(first, second):
        name = _FILLER.match(text, core + 30, core + 60)
        return core - 30, name.end() if name else core + 30
    return None


def _is_second_line(line: str) -> bool:
    if not _FILLER.fullmatch(line) or check_digit(line[:9]) != line[9]:
        return False
    if line[-1] == check_digit(line[:10] + line[13:20] + line[21 : len(line) - 1]):
        return True
    return line[28:].endswith("<<")  # a visa has optional data in place of the last check digit


def _is_card(first: str, second: str) -> bool:
    if not _FILLER.fullmatch(first) or not _FILLER.fullmatch(second):
        return False
    composite = check_digit(first[5:30] + second[:7] + second[8:15] + second[18:29])
    # A number of more than nine characters goes on in the optional data, and has "<" for its check digit (part 5).
    return second[29] == composite and (first[14] == "<" or check_digit(first[5:14]) == first[14])


def _first_line(text: str, end: int, length: int) -> int:
    """Where the line with the names begins, if it stands before the line of numbers."""
    start = end - length
    if start >= 0 and text[start] in "PVIAC" and _FILLER.fullmatch(text, start, end):
        return start
    return end
