"""Numbers of payment cards: 13 to 19 digits of a known scheme with a valid check digit (ISO/IEC 7812-1)."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hybridllm.detectors.reading import Find, Reading

__all__ = ["find_payment_cards", "luhn"]

_GROUP = re.compile("[0-9]+")
# The schemes' first digits and lengths, from their published ranges of issuer identification numbers.
_SCHEME = re.compile(
    r"4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})"  # Visa
    r"|(?:5[1-5][0-9]{2}|222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)[0-9]{12}"  # Mastercard
    r"|3[47][0-9]{13}"  # American Express
    r"|3(?:0[0-5]|095|6[0-9]|[89][0-9])[0-9]{11}|3[689][0-9]{14}"  # Diners Club
    r"|(?:6011|64[4-9][0-9]|65[0-9]{2}|60[0-9]{2})[0-9]{12}(?:[0-9]{3})?"  # Discover, RuPay, Elo
    r"|35(?:2[89]|[3-8][0-9])[0-9]{12}(?:[0-9]{3})?"  # JCB
    r"|(?:62|81)[0-9]{14,17}"  # UnionPay
    r"|220[0-5][0-9]{12,15}"  # Mir, BORICA
    r"|(?:5018|5020|5038|5612|5893|6304|6390|6759|676[1-3])[0-9]{9,15}"  # Maestro
    r"|(?:508[5-9]|82[0-9]{2}|5019|5067|5090|6277|636[23]|9792|8600|9860)[0-9]{12}"  # RuPay, Dankort, Elo, Troy, Uzcard, Humo
    r"|(?:506[01]|507[89]|636[0-9])[0-9]{12,15}"  # Verve, InterPayment
)
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
_WORD_BEFORE = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{3,12}\Z")


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    total = sum(map(int, digits[-1::-2])) + sum(_DOUBLED[int(digit)] for digit in digits[-2::-2])
    return total % 10 == 0


def find_payment_cards(reading: Reading) -> Iterator[Find]:
    """Card numbers in one piece, in the groups that are printed on cards, or in even groups of another size."""
    text = reading.text
    for start, end in reading.areas:
        if end - start < 13:
            continue
        groups = [match.span() for match in _GROUP.finditer(text, start, end)]
        separators = [text[one[1] : other[0]] for one, other in pairwise(groups)]
        for first, last in _candidates([end - start for start, end in groups], separators):
            begin, stop = groups[first][0], groups[last][1]
            digits = "".join([text[at:to] for at, to in groups[first : last + 1]])
            if _is_card(digits) and (first < last or _stands_alone(text, begin, stop)):
                yield begin, stop


def _is_card(digits: str) -> bool:
    if not _SCHEME.fullmatch(digits) or not luhn(digits) or len(set(digits)) == 1:
        return False
    # A bar code on goods (EAN-13) is more common than a Visa card of 13 digits, which is no longer issued.
    return len(digits) != 13 or not _ean(digits)


def _ean(digits: str) -> bool:
    return (sum(map(int, digits[::2])) + 3 * sum(map(int, digits[1::2]))) % 10 == 0


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Whether digits are no part of a longer word, such as a hash, nor the decimals of a number."""
    if end < len(text) and text[end].isascii() and (text[end].isalpha() or text[end] == "_"):
        return False
    before = text[max(0, start - 13) : start]
    if not before or not before[-1].isascii():
        return True
    if before[-1].isalpha():
        return _WORD_BEFORE.search(before) is not None
    return before[-1] != "_" and not (before[-1] in ".," and before[-2:-1].isdigit())


def _candidates(lengths: list[int], separators: list[str]) -> Iterator[tuple[int, int]]:
    """First and last group of everything that is grouped as a card number may be.

    In a table of figures nearly everything would be a number of 16 digits somewhere. So groups have to be those of a card
    (4-4-4-4, 4-6-5), be a row of groups of one size with nothing beside them, or be all the digits that stand together here; in a
    row of many fours, numbers begin at every fourth.
    """
    count = len(lengths)
    if count > 1 and 13 <= sum(lengths) <= 19 and all(map(_is_separator, separators)) and separators != ["."]:
        yield 0, count - 1
    for at, length in enumerate(lengths):
        if 13 <= length <= 19:
            yield at, at
        elif length == 4 and at + 2 < count and lengths[at + 1] == 6 and lengths[at + 2] in (4, 5):
            yield at, at + 2
    at = 0
    while at < count:
        end = at + 1
        while end < count and lengths[end] == lengths[at] and _is_separator(separators[end - 1]):
            end += 1
        if lengths[at] == 4:
            yield from _fours(lengths, separators, at, end)
        elif end - at > 1 and lengths[at] <= 8:
            yield from _even(lengths, separators, at, end)
        at = end


def _is_separator(text: str) -> bool:
    """Whether this may stand within a number: no tab, which parts the columns of a table, and not many spaces."""
    return "\t" not in text and ("\n" in text or len(text) < 4)


def _fours(lengths: list[int], separators: list[str], start: int, end: int) -> Iterator[tuple[int, int]]:
    tail = lengths[end] if end < len(lengths) and lengths[end] < 4 and _is_separator(separators[end - 1]) else 0
    for first in range(start, end - 2):
        if first + 4 <= end and ((first - start) % 4 == 0 or first + 4 == end):
            yield first, first + 3
        if tail and first + 3 == end:
            yield first, end
        if tail == 3 and first + 4 == end:
            yield first, end


def _even(lengths: list[int], separators: list[str], start: int, end: int) -> Iterator[tuple[int, int]]:
    if len(set(separators[start : end - 1])) > 1:
        return
    separator = separators[start]
    tail = end < len(lengths) and lengths[end] < lengths[start] and separators[end - 1] == separator
    stop = end + tail
    beside = (start and separators[start - 1] == separator) or (
        stop < len(lengths) and separators[stop - 1] == separator
    )
    if not beside and 13 <= sum(lengths[start:stop]) <= 19:
        yield start, stop - 1
