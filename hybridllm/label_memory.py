"""Remembers labelled texts by their fingerprints, so that a copy of one is as sensitive as the text was.

A caller gets an answer's text, and may hand it in again as a plain message that has lost its label. The client keeps no
text for this: it keeps hashes of runs of words, under a key that exists only in this process, for a time and up to a number.
A run of words is found wherever it stands in another text (the idea behind document fingerprinting: Schleimer, Wilkerson and
Aiken, "Winnowing", SIGMOD 2003). Of a labelled text every run that begins with a word is kept; of a new one every second run
is looked up, so that a copy which is a word longer than a run is always found.
"""

from __future__ import annotations

import os
import re
import secrets
import threading
import time
import unicodedata
from functools import reduce
from itertools import accumulate, islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from policies import Labels

__all__ = ["RUN_CHARACTERS", "UNSPACED_RUN_CHARACTERS", "LabelMemory"]

RUN_CHARACTERS = 36
"""Length of a run, from the beginning of a word: some six English words. A shorter copy out of a text is not found."""

_LOOKED_UP = 2

UNSPACED_RUN_CHARACTERS = 12
"""Length of a run in scripts that put no space between words, such as Chinese, Japanese and Thai."""

_ASCII_WORDS = {code: chr(code).lower() if chr(code).isalnum() else " " for code in range(128)}
_NO_WORD = re.compile(r"[\W_]+")
# Thai to Tibetan, Burmese, Khmer, kana, CJK ideographs, and those beyond the basic plane.
_UNSPACED = re.compile(
    r"[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
    rf"{{{UNSPACED_RUN_CHARACTERS},}}"
)


class LabelMemory:
    """Fingerprints of labelled texts.

    Args:
        max_fingerprints: How many are kept; beyond it the oldest are forgotten. A text has about one for every word.
        max_age_s: Seconds after which one is forgotten.
        clock: Seconds that only go forward.
    """

    def __init__(
        self, *, max_fingerprints: int = 65_536, max_age_s: float = 3600.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_fingerprints = max_fingerprints
        self._max_age_s = max_age_s
        self._clock = clock
        # Python's hash of a text is SipHash under a key that is drawn for every process, unless a variable fixes that key.
        fixed = os.environ.get("PYTHONHASHSEED", "random") != "random"
        self._salt = secrets.token_hex(8) if fixed else ""
        # By fingerprint: the label, and when it ends. The order is that of remembering, so the oldest stand first.
        self._known: dict[int, tuple[str, float]] = {}
        self._lock = threading.Lock()  # long texts are labelled in a thread

    def __len__(self) -> int:
        return len(self._known)

    def remember(self, text: str, label: str, labels: Labels) -> None:
        """Remember a text.

        Args:
            text: The text, which is not kept.
            label: Its label; the least sensitive one is not worth remembering.
            labels: Gives the order; a text that is known already keeps the more sensitive of both labels.
        """
        if label == labels.order[0] and len(labels.order) > 1:
            return
        plain = _plain(text)
        if not plain:
            return
        now = self._clock()
        fresh = (label, now + self._max_age_s)
        fingerprints = self._fingerprints(plain, whole=True)
        with self._lock:
            known = self._known
            for fingerprint in fingerprints:
                before = known.pop(fingerprint, None)
                if before is None or before[1] <= now:
                    known[fingerprint] = fresh
                else:
                    known[fingerprint] = (labels.join(before[0], label), fresh[1])
            while len(known) > self._max_fingerprints:
                del known[next(iter(known))]

    def recall(self, text: str, labels: Labels, *, whole: bool) -> str | None:
        """The most sensitive label of a remembered text that this one is a copy of, or has a run of words in common with.

        Args:
            text: The text.
            labels: Gives the order; a label that it does not know counts as the top label.
            whole: Whether a copy of a whole text counts that is shorter than a run, such as ``Yes.``

        Returns:
            The label; None if nothing of it is known.
        """
        with self._lock:
            if not self._known:
                return None
        fingerprints = self._fingerprints(_plain(text), whole=whole, every=_LOOKED_UP)
        with self._lock:
            known = self._known
            if known.keys().isdisjoint(fingerprints):
                return None
            entries = [known[fingerprint] for fingerprint in fingerprints if fingerprint in known]
        now = self._clock()
        alive = [label for label, ends_s in entries if ends_s > now]
        return reduce(labels.join, alive, labels.order[0]) if alive else None

    def _fingerprints(self, plain: str, *, whole: bool, every: int = 1) -> list[int]:
        """Hashes of the runs of a text, and of the whole of it."""
        salt = self._salt
        found = [hash(f"{salt} {plain}")] if whole and plain else []
        # Where each word begins; the last words of a text have no whole run before them.
        starts = accumulate([len(word) + 1 for word in plain[: 1 - RUN_CHARACTERS].split(" ")[:-1]], initial=0)
        if len(plain) >= RUN_CHARACTERS:
            found += [hash(salt + plain[start : start + RUN_CHARACTERS]) for start in islice(starts, 0, None, every)]
        if not plain.isascii():
            for unspaced in _UNSPACED.finditer(plain.replace(" ", "")):
                run = unspaced.group()
                last = len(run) - UNSPACED_RUN_CHARACTERS
                found += [hash(salt + run[start : start + UNSPACED_RUN_CHARACTERS]) for start in range(last + 1)]
        return found


def _plain(text: str) -> str:
    """The words of a text, with one space between each two; case, marks and spacing do not count."""
    if text.isascii():
        return " ".join(text.translate(_ASCII_WORDS).split())
    return _NO_WORD.sub(" ", unicodedata.normalize("NFC", text.casefold())).strip()
