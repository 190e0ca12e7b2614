"""Texts that can be recognised wherever they turn up: every word of each is unique, in plain form and in disguise."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import urllib.parse
from dataclasses import dataclass, field

_LETTERS = str.maketrans("0123456789abcdef", "bcdfghjklmnpqrst")
_WORD = re.compile(r"[bcdfghjklmnpqrst]{10}")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{12,}={0,2}")
_HEX = re.compile(rb"(?:[0-9a-fA-F]{2}){8,}")


@dataclass(frozen=True)
class Atom:
    """One planted text."""

    text: str = field(repr=False)
    """The text."""

    words: tuple[str, ...]
    """Its words, ten consonants each: no other text has any of them."""


class Aviary:
    """Breeds canaries and finds them again.

    Attributes:
        atoms: All that were planted, by each of their words.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._count = 0
        self.atoms: dict[str, Atom] = {}

    def breed(self, words: int, *, umlaut: bool = False) -> Atom:
        """A new text of so many words."""
        made = tuple(self._word() for _ in range(words))
        # A word beside one of other alphabets: what escapes it may escape everything.
        atom = Atom(" ".join(f"{word} äöü" if umlaut else word for word in made), made)
        self.atoms |= dict.fromkeys(made, atom)
        return atom

    def mail(self) -> Atom:
        """A new mail address."""
        words = (self._word(), self._word())
        atom = Atom(f"{words[0]}@{words[1]}.example", words)
        self.atoms |= dict.fromkeys(words, atom)
        return atom

    def found_in(self, recorded: bytes) -> set[Atom]:
        """Every canary in some bytes: plain, JSON-escaped, URL-encoded, in hexadecimal digits, or in base64 at any offset."""
        found: set[Atom] = set()
        for form in _undisguised(recorded):
            for match in _WORD.finditer(form.lower()):
                atom = self.atoms.get(match.group())
                if atom is not None:
                    found.add(atom)
        return found

    def _word(self) -> str:
        self._count += 1
        return hashlib.sha256(f"{self._seed} {self._count}".encode()).hexdigest()[:10].translate(_LETTERS)


def _undisguised(recorded: bytes) -> list[str]:
    forms = [recorded.decode("utf-8", "replace")]
    if b"%" in recorded:
        forms.append(urllib.parse.unquote_to_bytes(recorded).decode("utf-8", "replace"))
    if b"\\u" in recorded:
        forms.append(re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match.group(1), 16)), forms[0]))
    for match in _BASE64.finditer(recorded):
        run = match.group().rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
        for skip in range(4):
            whole = run[skip : skip + (len(run) - skip) // 4 * 4]
            forms.append(base64.b64decode(whole).decode("utf-8", "replace"))
    for match in _HEX.finditer(recorded):
        forms.append(binascii.unhexlify(match.group()).decode("utf-8", "replace"))
    return forms


def disguises(text: str) -> dict[str, bytes]:
    """A text in every form that is looked for."""
    raw = text.encode()
    return {
        "plain": raw,
        "upper": text.upper().encode(),
        "json": json.dumps(text).encode(),
        "url": urllib.parse.quote(text).encode(),
        "url-all": "".join(f"%{byte:02x}" for byte in raw).encode(),
        "json-all": "".join(f"\\u{ord(character):04x}" for character in text).encode(),
        "hex": raw.hex().encode(),
        **{f"base64+{shift}": base64.b64encode(b"x" * shift + raw + b"yz") for shift in range(3)},
        "base64url": base64.urlsafe_b64encode(raw),
        "split": b"".join(bytes([byte]) for byte in raw),
    }
