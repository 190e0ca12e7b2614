"""Check digits and dates of national identity numbers. Every function takes capitals and digits without separators.

Most countries take the last digits from a weighted sum; where a scheme is an international standard it is named.
"""
# ruff: noqa: SIM905 - lists of words read better unbroken

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridllm.detectors.payment_card import luhn

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "argentina", "austria", "belgium", "brazil", "canada", "chile", "china", "czechia", "denmark", "emirates", "estonia",
    "finland", "france", "germany", "hong_kong", "india", "israel", "italy", "japan", "korea", "malaysia", "mexico",
    "netherlands", "norway", "pakistan",
    "poland", "portugal", "romania", "russia", "saudi_arabia", "singapore", "south_africa", "spain",
    "sweden", "switzerland", "taiwan", "thailand", "turkey", "united_kingdom_nhs", "united_kingdom_nino", "united_states",
    "united_states_itin",
]  # fmt: skip

_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def _is_day(month: str, day: str) -> bool:
    return 1 <= int(month) <= 12 and 1 <= int(day) <= _DAYS[int(month) - 1]


def _weighted(digits: str, weights: Sequence[int]) -> int:
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False))


def _mod_11_10(digits: str) -> bool:
    """ISO 7064, MOD 11,10."""
    product = 10
    for digit in digits[:-1]:
        product = ((int(digit) + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == int(digits[-1])


_CHINA_REGIONS = frozenset(
    "11 12 13 14 15 21 22 23 31 32 33 34 35 36 37 41 42 43 44 45 46 50 51 52 53 54 61 62 63 64 65 71 81 82 83".split()
)


def china(number: str) -> bool:
    """Resident identity number: region, date of birth, ISO 7064 MOD 11-2 (GB 11643-1999)."""
    if number[:2] not in _CHINA_REGIONS or number[6:8] not in ("18", "19", "20"):
        return False
    if not _is_day(number[10:12], number[12:14]):
        return False
    return "10X98765432"[_weighted(number, (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)) % 11] == number[17]


def united_states(number: str) -> bool:
    """Social security number: the ranges that are never given out are the only check (SSA, since 2011)."""
    return number[:3] not in ("000", "666") and number[0] != "9" and number[3:5] != "00" and number[5:] != "0000"


def united_states_itin(number: str) -> bool:
    """Individual taxpayer number: begins with 9, has a middle group from the ranges that the IRS gives out."""
    group = int(number[3:5])
    return number[0] == "9" and (50 <= group <= 65 or 70 <= group <= 88 or 90 <= group <= 92 or group >= 94)


def spain(number: str) -> bool:
    """DNI and NIE: a letter for the number modulo 23; NIE has X, Y or Z for the first digit."""
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(number[:-1].translate({88: "0", 89: "1", 90: "2"})) % 23] == number[-1]


_ITALY_ODD = dict(
    zip("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25,
         24, 23),
        strict=True)
)  # fmt: skip


def italy(number: str) -> bool:
    """Codice fiscale: a letter for the sum of values by position modulo 26 (decree of 23 December 1976)."""
    total = sum(_ITALY_ODD[character] for character in number[:15:2])
    total += sum(int(character) if character.isdigit() else ord(character) - 65 for character in number[1:15:2])
    return chr(65 + total % 26) == number[15]


def france(number: str) -> bool:
    """NIR: sex, year, month, department, and 97 minus the remainder modulo 97; Corsica's 2A and 2B count as 19 and 18."""
    month = int(number[3:5])
    if not (1 <= month <= 12 or month in range(20, 43) or month >= 50) or number[5:7] in ("00", "96"):
        return False
    body = number[:13].replace("2A", "19").replace("2B", "18")
    return body.isdigit() and 97 - int(body) % 97 == int(number[13:])


def germany(number: str) -> bool:
    """Tax identification number: one digit stands twice or thrice among the first ten, and ISO 7064 MOD 11,10."""
    counts = sorted(number[:10].count(digit) for digit in "0123456789")
    repeated = counts in ([0, 1, 1, 1, 1, 1, 1, 1, 1, 2], [0, 0, 1, 1, 1, 1, 1, 1, 1, 3])
    return number[0] != "0" and repeated and _mod_11_10(number)


def poland(number: str) -> bool:
    """PESEL of somebody born from 1900 to 2099: the century is in the month."""
    month = int(number[2:4])
    if not (_is_day(number[2:4], number[4:6]) or (20 < month < 33 and _is_day(str(month - 20), number[4:6]))):
        return False
    return _weighted(number, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10 == 0


def netherlands(number: str) -> bool:
    """BSN: the weighted sum is a multiple of 11."""
    return number != "000000000" and _weighted(number, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0


def _brazil_digit(digits: str) -> str:
    remainder = _weighted(digits, range(len(digits) + 1, 1, -1)) * 10 % 11
    return str(remainder % 10)


def brazil(number: str) -> bool:
    """CPF: two check digits modulo 11."""
    if len(set(number)) == 1:
        return False
    return _brazil_digit(number[:9]) == number[9] and _brazil_digit(number[:10]) == number[10]


_DIHEDRAL = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
_PERMUTATION = (
    "0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415", "7046913258",
)  # fmt: skip


def india(number: str) -> bool:
    """Aadhaar: twelve digits, the first from 2 to 9, with a check digit by Verhoeff."""
    check = 0
    for at, digit in enumerate(reversed(number)):
        check = int(_DIHEDRAL[check][int(_PERMUTATION[at % 8][int(digit)])])
    return number[0] not in "01" and len(set(number)) > 1 and check == 0


def pakistan(number: str) -> bool:
    """CNIC: begins with the digit of a province; there is no check digit."""
    return number[0] in "1234567"


def korea(number: str) -> bool:
    """Resident registration number: date of birth, then a weighted sum; numbers given out since October 2020 have none."""
    if not _is_day(number[2:4], number[4:6]) or number[6] in "09":
        return False
    check = (11 - _weighted(number, (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)) % 11) % 10
    foreign = (13 - _weighted(number, (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)) % 11) % 10
    if int(number[12]) == (foreign if number[6] in "5678" else check):
        return True
    return number[6] in "3478" and number[:2] >= "20"


_TAIWAN = dict(zip("ABCDEFGHJKLMNPQRSTUVXYWZIO", range(10, 36), strict=True))


def taiwan(number: str) -> bool:
    """National and resident identity number: the letter's two digits and nine more, weighted, a multiple of 10."""
    letter = _TAIWAN[number[0]]
    return (letter // 10 + letter % 10 * 9 + _weighted(number[1:], (8, 7, 6, 5, 4, 3, 2, 1, 1))) % 10 == 0


def hong_kong(number: str) -> bool:
    """Identity card: one or two letters, six digits, check character modulo 11."""
    values = [36 if character == " " else int(character, 36) for character in number.rjust(9)]
    return sum(value * weight for value, weight in zip(values, range(9, 0, -1), strict=True)) % 11 == 0


def singapore(number: str) -> bool:
    """NRIC and FIN: a letter for the weighted sum modulo 11, by series."""
    total = _weighted(number[1:8], (2, 7, 6, 5, 4, 3, 2)) + {"T": 4, "G": 4, "M": 3}.get(number[0], 0)
    if number[0] == "M":
        return "KLJNPQRTUWX"[10 - total % 11] == number[8]
    return ("JZIHGFEDCBA" if number[0] in "ST" else "XWUTRQPNMLK")[total % 11] == number[8]


def sweden(number: str) -> bool:
    """Personnummer and samordningsnummer: date of birth (the day plus 60 in the latter), Luhn over the last ten digits."""
    ten = number[-10:]
    day = int(ten[4:6])
    if len(number) == 12 and number[:2] not in ("18", "19", "20"):
        return False
    return _is_day(ten[2:4], str(day - 60 if day > 60 else day)) and luhn(ten)


def denmark(number: str) -> bool:
    """CPR number with the check digit that was used until 2007."""
    return _is_day(number[2:4], number[:2]) and _weighted(number, (4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0


def norway(number: str) -> bool:
    """Fødselsnummer and D-nummer (the day plus 40): two check digits modulo 11."""
    day = int(number[:2])
    if not _is_day(number[2:4], str(day - 40 if day > 40 else day)):
        return False
    first = _weighted(number, (3, 7, 6, 1, 8, 9, 4, 5, 2, 1)) % 11
    return first == 0 and _weighted(number, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0


def finland(number: str) -> bool:
    """HETU: date of birth, sign of the century, number, and a character for the rest modulo 31."""
    if not _is_day(number[2:4], number[:2]):
        return False
    return "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(number[:6] + number[-4:-1]) % 31] == number[-1]


def belgium(number: str) -> bool:
    """National register number: date of birth, and 97 minus the remainder modulo 97; a 2 goes before it since 2000."""
    month = int(number[2:4]) % 20  # 20 or 40 is added where somebody has no register number of their own
    if number[4:6] != "00" and not _is_day(str(month), number[4:6]):
        return False
    return int(number[9:]) in (97 - int(number[:9]) % 97, 97 - int("2" + number[:9]) % 97)


def turkey(number: str) -> bool:
    """TCKN: the tenth and the eleventh digit follow from the others."""
    digits = list(map(int, number))
    tenth = (sum(digits[0:9:2]) * 7 - sum(digits[1:8:2])) % 10
    return digits[0] != 0 and tenth == digits[9] and sum(digits[:10]) % 10 == digits[10] and len(set(number)) > 2


def estonia(number: str) -> bool:
    """Personal code of Estonia and Lithuania: sex and century, date of birth, check digit modulo 11."""
    if number[0] not in "3456" or not _is_day(number[3:5], number[5:7]):
        return False
    check = _weighted(number[:10], (1, 2, 3, 4, 5, 6, 7, 8, 9, 1)) % 11
    if check == 10:
        check = _weighted(number[:10], (3, 4, 5, 6, 7, 8, 9, 1, 2, 3)) % 11 % 10
    return check == int(number[10])


def romania(number: str) -> bool:
    """CNP: sex and century, date of birth, county, number, check digit modulo 11."""
    if number[0] == "0" or not _is_day(number[3:5], number[5:7]) or int(number[7:9]) not in (*range(1, 53), 70):
        return False
    check = _weighted(number, (2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9)) % 11
    return (1 if check == 10 else check) == int(number[12])


def south_africa(number: str) -> bool:
    """Identity number: date of birth, sex, citizenship, Luhn."""
    return _is_day(number[2:4], number[4:6]) and number[10] in "012" and luhn(number)


def switzerland(number: str) -> bool:
    """AHV number: 756 and a check digit as in EAN-13."""
    return number.startswith("756") and (_weighted(number, (1, 3) * 6 + (1,))) % 10 == 0


def thailand(number: str) -> bool:
    """Citizen number: weighted sum modulo 11."""
    return number[0] in "12345678" and (11 - _weighted(number, range(13, 1, -1)) % 11) % 10 == int(number[12])


def emirates(number: str) -> bool:
    """Emirates ID: 784, year of birth, Luhn."""
    return number[:3] == "784" and number[3:5] in ("19", "20") and luhn(number)


_MALAYSIA_UNUSED = frozenset({"00", "17", "18", "19", "20", "69", "70", "73", "80", "81"})


def malaysia(number: str) -> bool:
    """MyKad: date of birth and a code of the place of birth; there is no check digit."""
    return _is_day(number[2:4], number[4:6]) and number[6:8] not in _MALAYSIA_UNUSED


def japan(number: str) -> bool:
    """My Number: weighted sum modulo 11."""
    remainder = _weighted(number, (6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return (0 if remainder <= 1 else 11 - remainder) == int(number[11])


def russia(number: str) -> bool:
    """SNILS: weighted sum modulo 101."""
    return _weighted(number, (9, 8, 7, 6, 5, 4, 3, 2, 1)) % 101 % 100 == int(number[9:])


def argentina(number: str) -> bool:
    """CUIL of a person: weighted sum modulo 11."""
    return number[:2] in ("20", "23", "24", "27") and _weighted(number, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0


def chile(number: str) -> bool:
    """RUT: weighted sum modulo 11."""
    total = sum(int(digit) * (2 + at % 6) for at, digit in enumerate(reversed(number[:-1])))
    return "0K987654321"[total % 11] == number[-1]


def mexico(number: str) -> bool:
    """CURP: letters of the name, date of birth, sex, state, and a check digit modulo 10 over values of 37 characters."""
    if not _is_day(number[6:8], number[8:10]):
        return False
    values = map("0123456789ABCDEFGHIJKLMNÑOPQRSTUVWXYZ".index, number[:17])
    total = sum(value * weight for value, weight in zip(values, range(18, 1, -1), strict=True))
    return (10 - total % 10) % 10 == int(number[17])


def czechia(number: str) -> bool:
    """Rodné číslo of Czechia and Slovakia since 1954: date of birth (women: month plus 50), a multiple of 11."""
    month = int(number[2:4]) % 50
    if not _is_day(str(month % 20), number[4:6]):
        return False
    return int(number) % 11 == 0 or (int(number[:9]) % 11 == 10 and number[9] == "0")


def austria(number: str) -> bool:
    """Social security number: number, check digit modulo 11, date of birth."""
    if number[0] == "0" or not _is_day(number[6:8], number[4:6]):
        return False
    return _weighted(number, (3, 7, 9, 0, 5, 8, 4, 2, 1, 6)) % 11 == int(number[3])


def united_kingdom_nino(number: str) -> bool:
    """National insurance number: no check digit, but prefixes that are never given out."""
    return number[:2] not in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ")


def united_kingdom_nhs(number: str) -> bool:
    """NHS number: weighted sum modulo 11."""
    return _weighted(number, (10, 9, 8, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0 and len(set(number)) > 1


def portugal(number: str) -> bool:
    """NIF of a person: weighted sum modulo 11."""
    check = 11 - _weighted(number, (9, 8, 7, 6, 5, 4, 3, 2)) % 11
    return number[0] in "1234" and (check if check < 10 else 0) == int(number[8])


def canada(number: str) -> bool:
    """SIN: Luhn."""
    return number[0] not in "08" and luhn(number)


def israel(number: str) -> bool:
    """Identity number: Luhn."""
    return luhn(number) and number != "000000000"


def saudi_arabia(number: str) -> bool:
    """Identity number of citizens and residents: Luhn."""
    return number[0] in "12" and luhn(number)
