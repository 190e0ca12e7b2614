"""A corpus for the detectors, made by algorithm from a seed: no number, name or key in it belongs to anybody.

Every request is either a positive of one detector, with the secret that it hides, or a negative that holds nothing secret at all but
looks as if it did.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from benchmarks._detector_negatives import NEGATIVES
from benchmarks._detector_values import MAKERS

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Case", "negatives", "positives"]


@dataclass(frozen=True)
class Case:
    """One request."""

    kind: str
    """How it was made."""

    texts: tuple[str, ...]
    """Its texts, one for each message."""

    secret: str = ""
    """The secret value, letters and digits only; empty in a negative."""


_SENTENCES = (
    "{}",
    "Please note {} for the file.",
    "Here it is: {}. Is that right?",
    "I wrote down {}, can you check it and tell me what to do next?",
    "Notieren Sie bitte {} für die Akte.",
    "Es geht um {}; was soll ich tun?",
    "Veuillez noter {} pour le dossier, merci.",
    "Anote {} por favor, es urgente.",
    "请记录{}，谢谢。",
    "我的资料是 {}，请核对。",
    "{} を記録してください。",
    "يرجى تسجيل {} في الملف.",
    "Line one\n{}\nline three",
    "({})",
    '"{}"',
)
_DIGIT_FORMS = {
    "full-width": "０１２３４５６７８９",
    "arabic digits": "٠١٢٣٤٥٦٧٨٩",
    "mathematical digits": "𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗",
}


_ZERO_WIDTH = ("", "", "\u200b", "\u200d", "\u2060", "\ufeff")


def _respelled(random: Random, written: str, spelling: str) -> str:
    match spelling:
        case "full-width":
            return "".join(
                chr(ord(character) + 0xFEE0) if "!" <= character <= "~" else character for character in written
            )
        case "arabic digits" | "mathematical digits":
            return written.translate(str.maketrans(string.digits, _DIGIT_FORMS[spelling]))
        case "zero-width":
            return "".join(character + random.choice(_ZERO_WIDTH) for character in written)
        case "odd dashes and spaces":
            dash, space = random.choice("‐‑–—−"), random.choice("\u00a0\u2009\u202f\u3000")
            return written.replace("-", dash).replace(" ", space)
    return written


def _cut(random: Random, written: str) -> tuple[str, str]:
    at = random.randrange(len(written) // 4 + 1, len(written) - len(written) // 4)
    return written[:at], written[at:]


_SPELLINGS = {
    "payment_card": (
        "full-width",
        "arabic digits",
        "mathematical digits",
        "zero-width",
        "odd dashes and spaces",
        "lines",
        "messages",
    ),
    "iban": ("full-width", "zero-width", "odd dashes and spaces", "lines", "messages"),
    "national_id": ("full-width", "zero-width", "odd dashes and spaces", "lines", "messages"),
    "passport": ("full-width", "zero-width"),
    "email": ("full-width", "zero-width", "lines", "messages"),
    "phone": ("full-width", "arabic digits", "zero-width", "odd dashes and spaces", "lines", "messages"),
    "api_key": ("zero-width", "full-width", "messages"),
    "private_key": ("zero-width",),
}


def positives(detector: str, count: int, seed: int = 0) -> Iterator[Case]:
    """Texts that a detector should find something in; half of them written plainly."""
    random = Random(f"{detector} {seed}")
    for _ in range(count):
        secret, written = MAKERS[detector](random)
        spelling = random.choice(("", *_SPELLINGS[detector])) if random.random() < 0.5 else ""
        sentence = random.choice(_SENTENCES)
        plain = "".join(filter(str.isalnum, secret))
        if spelling == "lines":
            texts = (sentence.format("\n".join(_cut(random, written))),)
        elif spelling == "messages":
            texts = _cut(random, written)
        else:
            texts = (sentence.format(_respelled(random, written, spelling)),)
        yield Case(spelling or "plain", texts, plain)


def negatives(count: int, seed: int = 0) -> Iterator[Case]:
    """Texts that no detector should find anything in, an equal number of each kind."""
    random = Random(f"negatives {seed}")
    kinds = sorted(NEGATIVES)
    for at in range(count):
        kind = kinds[at % len(kinds)]
        text = NEGATIVES[kind](random)
        yield Case(kind, (random.choice(_SENTENCES).format(text) if random.random() < 0.4 else text,))
