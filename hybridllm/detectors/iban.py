"""International bank account numbers: the country's length and a remainder of 1 modulo 97 (ISO 13616-1)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hybridllm.detectors.reading import Find, Reading

__all__ = ["IBAN_LENGTHS", "find_ibans"]

IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29,
    "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29,
    "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28,
    "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28,
    "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MN": 20,
    "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29, "PT": 25,
    "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27,
    "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20, "YE": 30,
}  # fmt: skip
"""Number of characters by country: SWIFT, "IBAN Registry", release 99."""

_START = re.compile(r"[0-9]{2}(?<=[A-Za-z]{2}[0-9]{2})(?<![A-Za-z0-9][A-Za-z]{2}[0-9]{2})(?=[\s.-]?[A-Za-z0-9])")
_CHARACTERS = re.compile(r"[A-Za-z0-9]")


def find_ibans(reading: Reading) -> Iterator[Find]:
    """Account numbers in one piece or in groups, in capitals or not."""
    text = reading.text
    if not reading.areas:  # every country's number has six digits together
        return
    for start in _START.finditer(text):
        begin = start.start() - 2
        length = IBAN_LENGTHS.get(text[begin : begin + 2].upper())
        if length is None:
            continue
        end = _end(text, begin, length)
        if end and _remainder(text[begin:end]) == 1:
            yield begin, end


def _end(text: str, begin: int, length: int) -> int:
    """Where this many letters and digits end, with no more than two separators between each two; 0 if they don't."""
    count = separators = 0
    for at in range(begin, min(len(text), begin + 3 * length)):
        character = text[at]
        if _CHARACTERS.match(character):
            count += 1
            separators = 0
            if count == length:
                following = text[at + 1 : at + 2]
                return 0 if following and _CHARACTERS.match(following) else at + 1
        elif separators == 2 or not (character.isspace() or character in "-."):
            return 0
        else:
            separators += 1
    return 0


def _remainder(iban: str) -> int:
    compact = "".join(_CHARACTERS.findall(iban))
    return int("".join([str(int(character, 36)) for character in compact[4:] + compact[:4]])) % 97
