"""Detectors: recognise what should not leave, so that a label can be raised. They are a help, never the guarantee.

Each is a function from normalised text to whether it found something. They favour precision where a checksum gives it.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["DETECTORS", "detect", "normalized"]

_RUN = re.compile(r"\d[\d\s.-]*\d")
_GROUP = re.compile(r"\d+")
_IBAN_START = re.compile(r"(?<![A-Z0-9])[A-Z]{2}\d{2}(?=[\s-]?[A-Z0-9])")
_EMAIL = re.compile(r"[\w.%+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w-])")
_SSN = re.compile(r"(?<![\d-])(\d{3})([- ])(\d{2})\2(\d{4})(?![\d-])")
_CHINA_ID = re.compile(r"(?<!\d)\d(?:[\s-]?\d){16}[\s-]?[\dXx](?![\dXx])")
_INTERNATIONAL_PHONE = re.compile(r"(?<![\d+])(?:\+|00)[1-9](?:[\s().-]{0,2}\d){6,14}(?!\d)")
_CHINA_MOBILE = re.compile(r"(?<!\d)1[3-9]\d[\s-]?\d{4}[\s-]?\d{4}(?!\d)")
_NORTH_AMERICA_PHONE = re.compile(r"(?<![\d-])\(?[2-9]\d{2}\)?[\s.-]{1,2}[2-9]\d{2}[\s.-]\d{4}(?![\d-])")

# Lengths of IBANs by country: SWIFT, "IBAN Registry", release 99.
_IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29,
    "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29,
    "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28,
    "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28,
    "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MN": 20,
    "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29, "PT": 25,
    "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27,
    "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20, "YE": 30,
}  # fmt: skip
_CHINA_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)  # GB 11643-1999, with ISO 7064 MOD 11-2
_CHINA_ID_CHECK = "10X98765432"


def normalized(text: str) -> str:
    """Text as detectors read it: NFKC, no invisible characters, ASCII digits and hyphens."""
    if text.isascii():
        return text
    characters = []
    for character in unicodedata.normalize("NFKC", text):
        if character.isascii():
            characters.append(character)
            continue
        category = unicodedata.category(character)
        if category == "Cf":
            continue
        if category == "Nd":
            character = str(unicodedata.decimal(character))
        elif category == "Pd":
            character = "-"
        characters.append(character)
    return "".join(characters)


def detect(names: Iterable[str], text: str) -> str | None:
    """The name of the first of these detectors that finds something in a text; None if none does."""
    plain = normalized(text)
    return next((name for name in names if DETECTORS[name](plain)), None)


def _payment_card(text: str) -> bool:
    """13 to 19 digits with a valid check digit (ISO/IEC 7812-1, Luhn) and a first digit that card schemes use."""
    for run in _RUN.finditer(text):
        groups = _GROUP.findall(run.group())
        for first in range(len(groups)):
            digits = ""
            for group in groups[first : first + 19]:
                digits += group
                if len(digits) > 19:
                    break
                if len(digits) >= 13 and digits[0] in "23456" and len(set(digits)) > 1 and _luhn(digits):
                    return True
    return False


def _luhn(digits: str) -> bool:
    total = 0
    for position, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if position % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _iban(text: str) -> bool:
    """The country's length and a remainder of 1 modulo 97 (ISO 13616-1)."""
    upper = text.upper()
    for start in _IBAN_START.finditer(upper):
        length = _IBAN_LENGTHS.get(start.group()[:2])
        if length is None:
            continue
        found = ""
        for character in upper[start.start() : start.start() + 2 * length]:
            if character.isascii() and character.isalnum():
                found += character
            elif not character.isspace() and character != "-":
                break
            if len(found) == length:
                break
        rearranged = found[4:] + found[:4]
        if len(found) == length and int("".join(str(int(character, 36)) for character in rearranged)) % 97 == 1:
            return True
    return False


def _email(text: str) -> bool:
    return "@" in text and _EMAIL.search(text) is not None


def _phone(text: str) -> bool:
    """International numbers, mobile numbers of China, numbers of North America with separators."""
    patterns = (_INTERNATIONAL_PHONE, _CHINA_MOBILE, _NORTH_AMERICA_PHONE)
    return any(pattern.search(text) is not None for pattern in patterns)


def _national_id(text: str) -> bool:
    """China's 18 digits with date and check digit, and United States social security numbers with separators."""
    return any(_is_china_id(found.group()) for found in _CHINA_ID.finditer(text)) or any(
        _is_ssn(found.group(1), found.group(3), found.group(4)) for found in _SSN.finditer(text)
    )


def _is_china_id(written: str) -> bool:
    number = "".join(character for character in written.upper() if character.isalnum())
    try:
        date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    total = sum(weight * int(digit) for weight, digit in zip(_CHINA_ID_WEIGHTS, number, strict=False))
    return _CHINA_ID_CHECK[total % 11] == number[17]


def _is_ssn(area: str, group: str, serial: str) -> bool:
    """Ranges that are never given out (20 CFR 422.103; SSA, "Social Security Number Randomization")."""
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


DETECTORS: dict[str, Callable[[str], bool]] = {
    "payment_card": _payment_card,
    "national_id": _national_id,
    "iban": _iban,
    "email": _email,
    "phone": _phone,
}
"""Every detector that a policy may name."""
