"""Takes a model's text apart into what it thinks, what it answers, and the tools that it calls."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from local_runtime.tool_calls.pieces import AnswerPieces

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from local_runtime.tool_calls.call_reader import CallReader
    from local_runtime.tool_calls.reasoning import ThoughtReader

__all__ = ["AnswerParser", "call_ids"]

_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class AnswerParser:
    """Takes a model's text apart, wherever the pieces of it are cut: together they come to the same.

    Args:
        thoughts: Reads what it thinks; None for a model that doesn't.
        calls: Reads what it calls; None where it may call nothing.
        visible_ids: Special tokens that are given to :meth:`push` by name.
    """

    def __init__(
        self, thoughts: ThoughtReader | None, calls: CallReader | None, visible_ids: Collection[int] = ()
    ) -> None:
        self._thoughts = thoughts
        self._calls = calls
        self._visible_ids = frozenset(visible_ids)

    @property
    def visible_ids(self) -> frozenset[int]:
        """Special tokens that are given to :meth:`push` by name; others give no text."""
        return self._visible_ids

    @property
    def has_calls(self) -> bool:
        """Whether a call of a tool has begun."""
        return self._calls is not None and self._calls.called > 0

    @property
    def is_complete(self) -> bool:
        """Whether nothing may follow any more: the one call that is allowed is whole."""
        return self._calls is not None and self._calls.ended

    def push(self, text: str) -> AnswerPieces:
        """Take the next piece of text, whole characters, wherever it is cut."""
        thought, answer = ("", text) if self._thoughts is None else self._thoughts.push(text)
        if self._calls is None:
            return AnswerPieces(answer, thought)
        said, calls = self._calls.push(answer)
        return AnswerPieces(said, thought, calls)

    def finish(self) -> AnswerPieces:
        """End of the text: what was held back."""
        thought, answer = ("", "") if self._thoughts is None else self._thoughts.finish()
        if self._calls is None:
            return AnswerPieces(answer, thought)
        said, calls = self._calls.push(answer)
        rest, last_calls = self._calls.finish()
        return AnswerPieces(said + rest, thought, calls + last_calls)


def call_ids(request_id: int, used: Collection[str], *, prefix: str, length: int) -> Callable[[int], str]:
    """Ids for the calls of one answer.

    They follow from the request's number, which it keeps in every worker, so that an answer that goes on in another one
    keeps its ids. Nothing of the conversation is in them: an id travels further than what it belongs to.

    Args:
        request_id: The request's number.
        used: Ids that occur in the conversation; none of them comes again.
        prefix: What every id begins with.
        length: How many letters and digits follow.
    """
    taken = set(used)
    known: dict[int, str] = {}

    def make(index: int) -> str:
        attempt = 0
        while index not in known:
            digest = hashlib.sha256(f"{request_id}/{index}/{attempt}".encode()).digest()
            candidate = prefix + "".join(_LETTERS[byte % len(_LETTERS)] for byte in digest[:length])
            if candidate not in taken:
                taken.add(candidate)
                known[index] = candidate
            attempt += 1
        return known[index]

    return make
