"""The facts of one sheet: things, what is known about them, and how each is said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

    from training.attributes import Attribute
    from training.lexicon import Draw
    from training.phrasings import Phrasings


@dataclass(frozen=True)
class Thing:
    """Something that a sheet speaks of.

    Attributes:
        names: the first is printed in the sheet; the others are what people may call it instead.
        article: "the " before a common noun, nothing before a proper name.
        plural: whether verbs agree in the plural.
    """

    names: tuple[str, ...]
    article: str = "the "
    plural: bool = False

    @property
    def said(self) -> str:
        """The thing in a sentence, by the sheet's name: "the café"."""
        return self.article + self.names[0]

    @property
    def title(self) -> str:
        """The thing as the key of a line: "Café"."""
        return upper_first(self.names[0])

    def asked(self, rng: random.Random) -> str:
        """The thing as a visitor names it, often by another word than the sheet's."""
        name = self.names[0] if len(self.names) == 1 or rng.random() < 0.6 else rng.choice(self.names[1:])
        return self.article + name


@dataclass(frozen=True)
class Fact:
    """One attribute of one thing.

    Attributes:
        printed: the value as a list or table prints it.
        phrase: the value as a sentence says it.
        must: the strings that a right answer contains.
    """

    thing: Thing
    attribute: Attribute
    printed: str
    phrase: str
    must: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """Things of one sort with their facts, printed together. `records` keep the order of the sheet."""

    sort: str
    titles: tuple[str, ...]
    records: tuple[tuple[Fact, ...], ...]


def upper_first(text: str) -> str:
    """Capitalises the first letter and leaves the rest."""
    return text[:1].upper() + text[1:]


def end_once(text: str) -> str:
    """Drops the full stop after a value that brings its own: "at 2 p.m.", not "at 2 p.m.."."""
    return text[:-1] if text.endswith("..") else text


def say(template: str, thing: Thing, value: str = "", *, name: str | None = None) -> str:
    """Fills a wording. `name` replaces the sheet's name of the thing."""
    said = thing.said if name is None else name
    bare = said.removeprefix("the ")
    text = template.format(
        e=said,
        E=upper_first(said),
        k=bare,
        be="are" if thing.plural else "is",
        do="do" if thing.plural else "does",
        do_cost="cost" if thing.plural else "costs",
        v=value,
        V=upper_first(value),
    )
    return end_once(text)


def tidy(draw: Draw, wordings: Phrasings, thing: Thing) -> str:
    """A question or clause about a thing, as a visitor says it."""
    return upper_first(say(draw.say(wordings), thing, name=thing.asked(draw.rng)))
