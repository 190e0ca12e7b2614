"""Draws names and values, never the same ones for training and for the evaluation.

A value belongs to the evaluation when a checksum of its text says so. Whoever draws repeats until the text falls on
the wanted side, so the two sets are disjoint by construction. Round clock times and small whole numbers, which a
training set without would be odd, always belong to training: the evaluation then uses none of them.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from training import wordlists as words

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from training.phrasings import Phrasings, Split

HELD_OUT_ONE_IN = 8


def is_held_out(text: str) -> bool:
    """Whether a value with this text is kept for the evaluation."""
    return zlib.crc32(text.lower().encode()) % HELD_OUT_ONE_IN == 0


@dataclass(frozen=True)
class Style:
    """How one sheet writes times, prices and floors, so that a sheet is consistent in itself."""

    time: str
    range: str
    money: str
    currency: str
    floor: str
    phone: str


@dataclass(frozen=True)
class Place:
    """A location: `text` is what the sheet prints, `preposition` goes before it in a sentence."""

    preposition: str
    text: str

    @property
    def phrase(self) -> str:
        """The location as it stands in a sentence: "on the second floor, next to the lifts"."""
        return f"{self.preposition} {self.text}".strip()


class Draw:
    """A seeded source of names and values of one split, written in one sheet's style."""

    def __init__(self, rng: random.Random, split: Split) -> None:
        self.rng = rng
        self.split: Split = split
        self.style = Style(
            time=rng.choice(words.TIME_STYLES),
            range=rng.choice(words.RANGE_STYLES),
            money=rng.choice(words.MONEY_STYLES),
            currency=rng.choice(words.CURRENCIES),
            floor=rng.choice(words.FLOOR_STYLES),
            phone=rng.choice(words.PHONE_STYLES),
        )
        self._prefix = "".join(rng.choice("0123456789") for _ in range(rng.choice((2, 3, 3, 4))))

    def say(self, wordings: Phrasings) -> str:
        """One wording of this split."""
        return wordings.pick(self.rng, self.split)

    def until(self, make: Callable[[], str]) -> str:
        """Repeats `make` until its text belongs to this split."""
        wanted = self.split == "held"
        while True:
            text = make()
            if is_held_out(text) == wanted:
                return text

    # --- names -------------------------------------------------------------------------------------------------

    def _syllables(self) -> str:
        rng = self.rng
        count = rng.choices((1, 2, 3), (15, 60, 25))[0]
        onsets = words.SIMPLE_ONSETS if rng.random() < 0.5 else words.ONSETS
        nuclei = words.SIMPLE_NUCLEI if rng.random() < 0.6 else words.NUCLEI
        parts = []
        for index in range(count):
            onset = rng.choice(onsets)
            if index == 0 and rng.random() < 0.15:
                onset = ""
            parts.append(onset + rng.choice(nuclei) + (rng.choice(words.CODAS) if rng.random() < 0.35 else ""))
        word = "".join(parts)
        if len(word) < 3:
            word += rng.choice(words.ENDINGS)
        if rng.random() < 0.06:
            plain, marked = rng.choice(words.DIACRITICS)
            word = word.replace(plain, marked, 1)
        return word[0].upper() + word[1:]

    def proper(self) -> str:
        """A capitalised invented word."""
        return self.until(self._syllables)

    def first_name(self) -> str:
        """A first name: a real one, or an invented word."""
        return self.until(lambda: self.rng.choice(words.FIRST_NAMES) if self.rng.random() < 0.55 else self._syllables())

    def last_name(self) -> str:
        """A family name: a real one, an invented word, or a double name."""

        def make() -> str:
            roll = self.rng.random()
            if roll < 0.35:
                return self.rng.choice(words.LAST_NAMES)
            if roll < 0.85:
                return self._syllables()
            return self._syllables() + self.rng.choice(words.NAME_ENDINGS)

        name = self.until(make)
        if self.rng.random() < 0.03:
            name = f"{name}-{self.until(make)}"
        return name

    # --- values ------------------------------------------------------------------------------------------------

    def clock(self, low: int = 6, high: int = 23) -> int:
        """Minutes after midnight between two hours (inclusive) that belong to this split."""
        rng = self.rng
        while True:
            hour = rng.randint(low, high)
            if self.split == "held":
                minute = rng.choice((5, 10, 15, 20, 25, 35, 40, 45, 50, 55))
            else:
                minute = rng.choices((0, 30, rng.randrange(0, 60, 5), rng.randrange(60)), (50, 20, 20, 10))[0]
            held = minute not in (0, 30) and is_held_out(f"{hour}:{minute:02d}")
            if held == (self.split == "held"):
                return hour * 60 + minute

    def time(self, minutes: int) -> str:
        """A clock time in the sheet's style."""
        hour, minute = divmod(minutes, 60)
        style = self.style.time
        if style in ("am", "AM", "a.m.", "xam"):
            suffix = {"am": " am", "AM": " AM", "a.m.": " a.m.", "xam": "am"}[style]
            if hour >= 12:
                suffix = suffix.replace("a", "p").replace("A", "P")
            number = str(hour % 12 or 12)
            return (number if minute == 0 and style != "AM" else f"{number}:{minute:02d}") + suffix
        if style == "bare" and minute == 0:
            return str(hour)
        if style in ("9:00", "bare"):
            return f"{hour}:{minute:02d}"
        separator = {"09:00": ":", "09.00": ".", "09h00": "h"}[style]
        return f"{hour:02d}{separator}{minute:02d}"

    def money(self, low: int = 1, high: int = 60) -> str:
        """A price in the sheet's currency."""
        rng = self.rng

        def make() -> str:
            whole = rng.randint(low, high) if rng.random() < 0.85 else rng.randint(low, high * 10)
            cents = "" if rng.random() < 0.55 else rng.choice(("50", "50", "90", "20", "80", "99", "25", "75", "40"))
            if self.split == "train" and not cents and whole < 30:
                return str(whole)
            return f"{whole}.{cents}" if cents else str(whole)

        wanted = self.split == "held"
        while True:
            amount = make()
            held = is_held_out("price" + amount) and not (amount.isdigit() and int(amount) < 30)
            if held == wanted:
                break
        symbol, code = self.style.currency.split("|")
        return self.style.money.format(a=amount, s=symbol, c=code)

    def digits(self, count: int) -> str:
        """A string of random digits that does not begin with zero."""
        first = self.rng.choice("123456789")
        return first + "".join(self.rng.choice("0123456789") for _ in range(count - 1))

    def phone(self) -> str:
        """A telephone number in the sheet's style."""
        return self.until(
            lambda: "".join(
                self._prefix if char == "P" else self.rng.choice("0123456789") if char == "#" else char
                for char in self.style.phone
            )
        )

    def extension(self) -> str:
        """A short internal telephone number."""
        return self.until(lambda: self.digits(self.rng.choice((3, 4, 4))))

    def number(self, low: int = 2, high: int = 400) -> str:
        """A plain number."""
        wanted = self.split == "held"
        while True:
            value = self.rng.randint(low, high)
            held = value >= 20 and is_held_out(f"number{value}")
            if held == wanted or high < 60:
                return str(value)

    def room(self) -> str:
        """A room number such as 214, B12 or 3.07."""

        def make() -> str:
            roll = self.rng.random()
            if roll < 0.55:
                return self.digits(3)
            if roll < 0.7:
                return self.digits(self.rng.choice((1, 2, 2, 4)))
            if roll < 0.88:
                return (
                    self.rng.choice("ABCDEFGHKLMNST")
                    + self.rng.choice(("", "-", ""))
                    + self.digits(self.rng.choice((1, 2, 3)))
                )
            return f"{self.rng.randint(0, 9)}.{self.rng.randint(1, 40):02d}"

        return self.until(make)

    def year(self) -> str:
        """A year between 1650 and 2025."""
        return self.until(lambda: str(self.rng.randint(1650, 2025)))

    def code(self) -> str:
        """A password or code: digits, a word with digits, or a mix."""
        rng = self.rng

        def make() -> str:
            roll = rng.random()
            if roll < 0.3:
                return self.digits(rng.choice((4, 4, 5, 6)))
            if roll < 0.6:
                return self._syllables().lower() + rng.choice(("-", "_", "", "")) + self.digits(rng.choice((2, 3, 4)))
            if roll < 0.8:
                return self._syllables() + rng.choice(("!", "#", "-", "")) + self.digits(rng.choice((2, 4)))
            alphabet = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghjkmnpqrstuvwxyz23456789"
            return "".join(rng.choice(alphabet) for _ in range(rng.randint(5, 10)))

        return self.until(make)

    def domain(self) -> str:
        """A web domain."""
        return self.until(self._syllables).lower() + self.rng.choice(words.DOMAIN_ENDINGS)

    def address(self) -> str:
        """A street address with a house number, sometimes with a town."""
        rng = self.rng
        street = f"{self.proper()} {rng.choice(words.STREETS)}" if rng.random() < 0.7 else self.proper() + "straße"
        number = self.digits(rng.choice((1, 2, 2, 3)))
        text = f"{number} {street}" if rng.random() < 0.5 else f"{street} {number}"
        if rng.random() < 0.4:
            text += f", {self.digits(5)} {self.proper()}" if rng.random() < 0.5 else f", {self.proper()}"
        return text

    def floor(self, level: int | None = None) -> Place:
        """A floor in the sheet's style."""
        if level is None:
            level = self.rng.choice((-1, 0, 0, 1, 1, 2, 2, 3, 4, 5, 6))
        if level <= 0:
            name = words.GROUND_FLOORS if level == 0 else words.BASEMENTS
            return Place(*self.rng.choice(name))
        if self.style.floor == "second":
            return Place("on the", f"{words.ORDINALS[level]} floor")
        if self.style.floor == "2nd":
            return Place("on the", f"{level}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(level, 'th') } floor")
        return Place("on", f"{self.style.floor} {level}")

    def place(self) -> Place:
        """A location: a floor, a wing, a room, a landmark, or two of these joined."""
        rng = self.rng
        wanted = self.split == "held"
        while True:
            roll = rng.random()
            if roll < 0.3:
                first = self.floor()
            elif roll < 0.5:
                first = Place("in", f"{rng.choice(words.ROOM_WORDS)} {self.room()}")
            elif roll < 0.65:
                first = Place("in", f"{rng.choice(words.BUILDING_WORDS)} {rng.choice('ABCDEFGHKLM')}")
            elif roll < 0.75:
                first = Place("in the", rng.choice(words.AREAS))
            else:
                first = Place("", self._landmark())
            if rng.random() < 0.55:
                first = Place(first.preposition, f"{first.text}{rng.choice((', ', ', ', ' '))}{self._landmark()}")
            if is_held_out(first.text) == wanted:
                return first

    def _landmark(self) -> str:
        rng = self.rng
        if rng.random() < 0.3:
            return rng.choice(words.LANDMARKS)
        return f"{rng.choice(words.RELATIONS)} the {rng.choice(words.LANDMARK_NOUNS)}"
