"""Token healing: going on after a text that may end where no token of this model does.

A text that somebody else has written may end in the middle of what this model writes as one token: ``Hel`` of ``Hello``,
or a space that belongs to the next word. Fed as it stands, it asks the model for something that it never saw in training,
and the answer goes on with a slip. So the text's last tokens are taken back, and the next draws are limited to tokens that
say the same bytes again, until all of them are said; the last such token may say more than them, and that is where the
answer goes on.

How far to go back follows from the vocabulary: to before every place from which one token could reach beyond the end of
the text. A model that would itself have written this text in the tokenizer's own tokens then draws the tokens that it
would have drawn anyway. With random draws, the limit renormalises each draw on its own, which is not quite the
distribution of all answers that begin with this text; that would take a look ahead.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from local_runtime.content import CONTENT, hides_content

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["BegunAnswer", "Healing", "TokenPrefixes", "take_back"]

TokenIds = npt.NDArray[np.int64]


class TokenPrefixes:
    """The tokens of a vocabulary in the order of their bytes, to be found by how they begin.

    Args:
        names: Bytes of each token that an answer's text may be made of; two may have the same, empty ones are left out.
        ids: Their ids.

    Attributes:
        longest_bytes: Length of the longest token.
    """

    def __init__(self, names: Sequence[bytes], ids: Sequence[int]) -> None:
        # Twice as fast as sorting pairs, which counts for a vocabulary of 150,000.
        order = [place for place in sorted(range(len(names)), key=names.__getitem__) if names[place]]
        self._names = [names[place] for place in order]
        self._ids: TokenIds = np.asarray(ids, dtype=np.int64)[order]
        self.longest_bytes = max(map(len, self._names), default=0)

    def beginning_with(self, prefix: bytes) -> TokenIds:
        """Tokens whose bytes begin with ``prefix`` or are it; int64 ``[found]``."""
        return self._ids[slice(*self._place_of(prefix))]

    def reaches_beyond(self, text: bytes) -> bool:
        """Whether some token begins with ``text`` and goes on."""
        start, end = self._place_of(text)
        return start < end and len(self._names[end - 1]) > len(text)

    def that_begin(self, text: bytes) -> list[tuple[int, TokenIds]]:
        """Tokens that ``text`` begins with, shorter than it: their length in bytes and their ids, for each length."""
        found = []
        start, end = 0, len(self._names)
        for length in range(1, len(text)):
            start, end = self._place_of(text[:length], start, end)
            if start == end:
                break
            same = bisect_right(self._names, text[:length], start, end)
            if same > start:
                found.append((length, self._ids[start:same]))
        return found

    def _place_of(self, prefix: bytes, start: int = 0, end: int | None = None) -> tuple[int, int]:
        end = len(self._names) if end is None else end
        start = bisect_left(self._names, prefix, start, end)
        return start, bisect_right(self._names, prefix, start, end, key=lambda name: name[: len(prefix)])


@hides_content
@dataclass(frozen=True, slots=True)
class BegunAnswer:
    """How an answer that somebody else has begun is given to the model.

    Attributes:
        kept: Tokens to feed as they are.
        remainder: Bytes of the text after them, which the next tokens have to say again.
        taken_back: How many tokens the remainder was before.
    """

    kept: list[int] = field(metadata=CONTENT)
    remainder: bytes = field(default=b"", metadata=CONTENT)
    taken_back: int = 0


def take_back(
    token_ids: Sequence[int], said: bytes, bytes_of: Callable[[int], bytes], prefixes: TokenPrefixes
) -> BegunAnswer:
    """Decide which of a text's last tokens to draw again.

    Args:
        token_ids: The text as tokens.
        said: The text's bytes, and before them those that the tokenizer leaves out at the beginning of a text.
        bytes_of: Bytes of a token.
        prefixes: The vocabulary.

    Returns:
        What to feed and what to say again. Nothing is taken back where the tokens don't spell the end of the text byte
        for byte (a tokenizer that normalises, or that lacks a character).
    """
    start = _open_from(said, prefixes)
    remainder = b""
    kept = len(token_ids)
    while kept and len(said) - len(remainder) > start:
        longer = bytes_of(token_ids[kept - 1]) + remainder
        if len(longer) == len(remainder) or not said.endswith(longer):
            break
        remainder = longer
        kept -= 1
    # Where the only way on is the token that stood there, drawing it again would cost a step and change nothing.
    while remainder and Healing(remainder, prefixes, bytes_of).allowed().tolist() == [token_ids[kept]]:
        remainder = remainder[len(bytes_of(token_ids[kept])) :]
        kept += 1
    return BegunAnswer(list(token_ids[:kept]), remainder, len(token_ids) - kept)


def _open_from(said: bytes, prefixes: TokenPrefixes) -> int:
    """The first place from which one token could say all the rest of ``said`` and more; the end if there is none."""
    for start in range(max(0, len(said) - prefixes.longest_bytes + 1), len(said)):
        if prefixes.reaches_beyond(said[start:]):
            return start
    return len(said)


class Healing:
    """Which tokens may be drawn while the end of a begun text is said again.

    Args:
        remainder: The bytes to say.
        prefixes: The vocabulary.
        bytes_of: Bytes of a token.
    """

    def __init__(self, remainder: bytes, prefixes: TokenPrefixes, bytes_of: Callable[[int], bytes]) -> None:
        self._remainder = remainder
        self._prefixes = prefixes
        self._bytes_of = bytes_of
        self._said = 0
        self._can_end = self._ways_out()

    @property
    def open(self) -> bool:
        """Whether there is something left to say again."""
        return self._said < len(self._remainder)

    def allowed(self) -> TokenIds:
        """Tokens that may be drawn now, while :attr:`open`: int64 ``[allowed]``, never empty.

        Each says the next bytes of the remainder and leaves a way to say the rest, or says the whole rest and more.
        """
        rest = self._remainder[self._said :]
        shorter = [ids for length, ids in self._prefixes.that_begin(rest) if self._can_end[self._said + length]]
        return np.concatenate([*shorter, self._prefixes.beginning_with(rest)])

    def take(self, token_id: int) -> bool:
        """Note that an allowed token was drawn; True if it says nothing new."""
        self._said += len(self._bytes_of(token_id))
        return self._said <= len(self._remainder)

    def _ways_out(self) -> list[bool]:
        """For each place in the remainder, whether tokens can say the rest from there."""
        rest = self._remainder
        can_end = [True] * (len(rest) + 1)
        for start in range(len(rest) - 1, 0, -1):
            can_end[start] = bool(self._prefixes.beginning_with(rest[start:]).size) or any(
                can_end[start + length] for length, _ in self._prefixes.that_begin(rest[start:])
            )
        return can_end
