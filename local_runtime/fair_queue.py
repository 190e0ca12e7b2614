"""The sequences that wait to be admitted: conversations take turns, and each is served in its own order."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from local_runtime.sequence import Sequence

__all__ = ["MAX_OVERTAKES", "FairQueue"]

MAX_OVERTAKES = 8
"""So many smaller ones may go before a sequence that does not fit yet; then nobody does, until it fits."""


class FairQueue:
    """A row of conversations, each with its waiting sequences in the order in which they came.

    Whoever was admitted before and had to come back goes before everybody else.
    """

    def __init__(self) -> None:
        self._returned: deque[Sequence] = deque()
        self._by_conversation: OrderedDict[str, deque[Sequence]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, sequence: Sequence) -> None:
        """Put a new sequence behind the others of its conversation; a new conversation goes to the end of the row."""
        self._by_conversation.setdefault(sequence.conversation, deque()).append(sequence)
        self._length += 1

    def give_back(self, sequence: Sequence) -> None:
        """Put a sequence that was admitted before at the very front."""
        self._returned.appendleft(sequence)
        self._length += 1

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence wherever it waits."""
        if sequence in self._returned:
            self._returned.remove(sequence)
        else:
            waiting = self._by_conversation[sequence.conversation]
            waiting.remove(sequence)
            if not waiting:
                del self._by_conversation[sequence.conversation]
        self._length -= 1

    @property
    def first(self) -> Sequence | None:
        """Whose turn it is, whether it fits or not; None if nobody waits."""
        if self._returned:
            return self._returned[0]
        return next(iter(self._by_conversation.values()))[0] if self._by_conversation else None

    def take(self, fits: Callable[[Sequence], bool]) -> Sequence | None:
        """Take the next one that can be admitted out of the queue; None if nobody can now.

        A sequence that does not fit lets smaller ones of other conversations go before it, but not for ever.
        """
        if self._returned:
            return self._take_out(self._returned[0]) if fits(self._returned[0]) else None
        passed: list[Sequence] = []
        for waiting in self._by_conversation.values():
            sequence = waiting[0]
            if fits(sequence):
                for large in passed:
                    large.overtaken += 1
                return self._take_out(sequence)
            if sequence.overtaken >= MAX_OVERTAKES:
                return None
            passed.append(sequence)
        return None

    def _take_out(self, sequence: Sequence) -> Sequence:
        self.remove(sequence)
        if sequence.conversation in self._by_conversation:
            self._by_conversation.move_to_end(sequence.conversation)
        return sequence
