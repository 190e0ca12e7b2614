"""What the soak asks, and what the fake cloud says to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.hybridllm.leaks import MARK

__all__ = ["CONTINUED", "QUESTIONS", "Question", "cloud_pieces"]

_SHEET = """You are the kiosk assistant of the Harbour Museum.

Opening hours:
- Monday: closed
- Tuesday to Friday: 10:00 to 17:30
- Saturday: 9:00 to 19:00
- Sunday: 9:00 to 18:00

Prices:
- Adults: 12 euros
- Students: 7 euros
- Audio guide: 3 euros

Rooms:
- Model ships: ground floor, room 12
- Café: first floor, next to the lift"""
_ASKED = (
    "What are your opening hours?",
    "When do you open on Sunday?",
    "How much is a student ticket?",
    "What are the prices?",
    "Where is the café?",
    "What is the wifi password?",
)
_CLOUD_WORDS = (
    "the museum", " über", " all", " its", " floors", " is", " open", " today,", " and", " the", " lift 🛗", " works", " again", "."
)  # fmt: skip

CONTINUED = " [and the cloud went on]"
"""What the fake cloud adds to an answer that somebody else has begun."""


@dataclass(frozen=True)
class Question:
    """One question."""

    number: int
    """Its place in ``QUESTIONS``."""

    private: bool
    """Whether it may not leave the device; then it has a word that must arrive nowhere."""

    request: dict[str, Any]
    """The fields of the request: greedy, so that there is one right answer."""


def _question(number: int, asked: str, *, private: bool) -> Question:
    sheet = f"{_SHEET}\n\nReference: {MARK} {number}" if private else _SHEET
    messages = [{"role": "system", "content": sheet}, {"role": "user", "content": asked}]
    request: dict[str, Any] = {"messages": messages, "temperature": 0, "max_tokens": 96, "user": f"visitor {number}"}
    return Question(number, private, request if private else {**request, "privacy": "public"})


QUESTIONS = tuple(
    _question(number, asked, private=private)
    for number, (asked, private) in enumerate([(asked, private) for private in (False, True) for asked in _ASKED])
)
"""All of them; the second half is private."""


def cloud_pieces(user: str) -> list[str]:
    """What the fake cloud says to a visitor, piece by piece."""
    return [f"To {user}:", *(f" {word.strip()}" for word in _CLOUD_WORDS)]
