"""Lists of wordings, each split into those used in training and those kept for the evaluation."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import random

Split = Literal["train", "held"]

_CHOICE = re.compile(r"\(([^()|]*(?:\|[^()|]*)+)\)")
HELD_OUT_ONE_IN = 6
MIXED_FROM = 6


def expand(wording: str, rng: random.Random) -> str:
    """Replaces each "(a|b|c)" by one of its parts."""
    if "|" not in wording:
        return wording
    return _CHOICE.sub(lambda match: rng.choice(match[1].split("|")), wording)


def is_held_out_wording(text: str) -> bool:
    """Whether this combination of parts is kept for the evaluation."""
    return zlib.crc32(text.encode()) % HELD_OUT_ONE_IN == 0


def expansions(wording: str) -> list[str]:
    """Every text that a wording can become."""
    match = _CHOICE.search(wording)
    if match is None:
        return [wording]
    before, after = wording[: match.start()], wording[match.end() :]
    return [before + part + rest for rest in expansions(after) for part in match[1].split("|")]


def _is_mixed(wording: str) -> bool:
    count = 1
    for match in _CHOICE.finditer(wording):
        count *= match[1].count("|") + 1
    return count >= MIXED_FROM


@dataclass(frozen=True)
class Phrasings:
    """Wordings of one thing, and which of them never occur in training.

    Kept for the evaluation are whole wordings (`held`), and of the wordings made of many exchangeable parts one
    combination in six, chosen by a checksum; of both, only those that no other list can bring into training. Wordings
    of few combinations belong to training entirely.
    """

    train: tuple[str, ...]
    held: tuple[str, ...]
    mixed: tuple[str, ...] = field(init=False)
    fixed: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        mixed = tuple(wording for wording in self.train if _is_mixed(wording))
        fixed = (text for wording in self.train if wording not in mixed for text in expansions(wording))
        object.__setattr__(self, "mixed", mixed)
        object.__setattr__(self, "fixed", frozenset(fixed) - frozenset(self.held))
        _EVERY_LIST.append(self)

    def trainable(self) -> frozenset[str]:
        """Every wording that this list can bring into training."""
        mixed = {text for wording in self.mixed for text in expansions(wording) if not is_held_out_wording(text)}
        return self.fixed | (mixed - frozenset(self.held))

    def held_out(self) -> tuple[tuple[str, ...], frozenset[str]]:
        """The wordings of the evaluation: whole ones, and combinations of parts."""
        return _held_out(self, len(_EVERY_LIST))

    def pick(self, rng: random.Random, split: Split) -> str:
        """A random wording of the split. Lists without any held-out wording serve both splits."""
        if split == "held":
            whole, combined = self.held_out()
            if whole and (not combined or rng.random() < 0.5):
                return rng.choice(whole)
            while combined:
                text = expand(rng.choice(self.mixed), rng)
                if text in combined:
                    return text
        while True:
            text = expand(rng.choice(self.train), rng)
            if split == "held" or text in self.fixed or not (is_held_out_wording(text) or text in self.held):
                return text


_EVERY_LIST: list[Phrasings] = []


@cache
def _trainable_anywhere(lists: int) -> frozenset[str]:
    return frozenset().union(*(wordings.trainable() for wordings in _EVERY_LIST[:lists]))


@cache
def _held_out(wordings: Phrasings, lists: int) -> tuple[tuple[str, ...], frozenset[str]]:
    trainable = _trainable_anywhere(lists)
    combined = {text for wording in wordings.mixed for text in expansions(wording) if is_held_out_wording(text)}
    return tuple(text for text in wordings.held if text not in trainable), frozenset(combined - trainable)


def phrasings(text: str) -> Phrasings:
    """Parses one wording a line; a line that starts with "* " is held out for the evaluation."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return Phrasings(
        train=tuple(line for line in lines if not line.startswith("* ")),
        held=tuple(line[1:].strip() for line in lines if line.startswith("* ")),
    )
