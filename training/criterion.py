"""The exact criterion by which an answer counts as right."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.dialogues import Dialogue
    from training.exchange import Exchange

UNKNOWN_MARKS = ("don't know", "do not know", "不知道")
GIST_CATEGORIES = ("greeting", "identity", "small talk")


def contains(answer: str, value: str) -> bool:
    """Whether the answer holds the value as a whole: "12" is not found in "112" or "12.50"."""
    lead = r"(?<![A-Za-z0-9.:])" if value[:1].isalnum() and value.isascii() else ""
    tail = r"(?![A-Za-z0-9]|[.:,-][A-Za-z0-9])" if value[-1:].isalnum() and value.isascii() else ""
    return re.search(lead + re.escape(value) + tail, answer, re.IGNORECASE) is not None


def says_unknown(answer: str) -> bool:
    """Whether the answer says that it doesn't know."""
    return any(mark in answer.lower().replace("’", "'") for mark in UNKNOWN_MARKS)


def is_right(dialogue: Dialogue, exchange: Exchange, answer: str) -> bool:
    """Judges an answer to one exchange of a dialogue.

    - small talk: the answer has the gist, that is the reference's first sentence;
    - unknown and general knowledge: the answer says so and holds no value of the kind asked for;
    - anything else: every wanted string is there, none of the sheet's other values of the same kind is, a wanted
      "Yes" or "No" comes first, and the answer doesn't say that it doesn't know.
    """
    others = dialogue.other_values(exchange)
    wrong = any(contains(answer, value) for value in others if value.lower() not in exchange.question.lower())
    if exchange.category in ("unknown", "general", "chinese unknown"):
        return says_unknown(answer) and not wrong
    if exchange.category in GIST_CATEGORIES:
        return all(contains(answer, gist(text)) for text in exchange.must)
    wanted = list(exchange.must)
    if wanted and wanted[0] in ("Yes", "No"):
        if not answer.startswith(wanted[0] + ","):
            return False
        wanted = wanted[1:]
    if says_unknown(answer) and not says_unknown(exchange.answer):
        return False
    return not wrong and all(contains(answer, text) for text in wanted)


def gist(text: str) -> str:
    """The first sentence of a reference answer, without its last mark."""
    return re.split(r"(?<=[.!?。！？])\s*", text)[0].rstrip(".!?。！？")
