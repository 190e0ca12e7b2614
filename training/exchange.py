"""One question with its answer, and the two ways to begin either."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from training.facts import say, tidy, upper_first
from training.question_wordings import INDIRECT

if TYPE_CHECKING:
    from training.facts import Fact, Thing
    from training.lexicon import Draw
    from training.phrasings import Phrasings
    from training.schedules import Schedule


@dataclass(frozen=True)
class Exchange:
    """One question with its answer, and what the evaluation needs to judge another answer to it.

    Attributes:
        category: the row of the accuracy table.
        must: every right answer contains these strings; empty where the right answer is "I don't know" or small talk.
        kind: the kind of value asked for; other values of this kind in the sheet make an answer wrong.
        subject: the fact or schedule that a follow-up question may lean on.
    """

    question: str
    answer: str
    category: str
    must: tuple[str, ...] = ()
    kind: str = ""
    subject: Fact | Schedule | None = None


TAILS = (". That isn't in my information.", ". My information doesn't say.")


def unknown(clause: str, draw: Draw) -> str:
    """The answer when the sheet doesn't say."""
    return f"I don't know {clause}{draw.rng.choice(TAILS)}"


def phrase_question(draw: Draw, asks: Phrasings, clauses: Phrasings, thing: Thing) -> str:
    """A direct or an indirect question."""
    if clauses.train and draw.rng.random() < 0.3:
        clause = say(draw.say(clauses), thing, name=thing.asked(draw.rng))
        return upper_first(draw.say(INDIRECT).format(c=clause))
    return tidy(draw, asks, thing)
