"""Keeps what was computed for one request for others that begin in the same way, as long as nobody needs its pages.

Every entry is a sequence of the runner. While a request is being answered, its own sequence serves as one, from the end of its
prompt's prefill on; when it ends, its sequence stays in the runner as it is and becomes **idle**. A new request is forked from the
entry that agrees with it longest. Forks share whole pages, so an idle entry can go at any time: what others took from it stays.

When pages are needed, the idle entry that was used least recently gives up its last pages, as many as only it holds: the beginnings,
which are more likely to be asked for again, go last. There are never more than :data:`MOST_IDLE` idle entries.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from local_runtime.radix_tree import RadixTree

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from local_runtime.page_ledger import PageLedger

__all__ = ["MOST_IDLE", "Prefix", "PrefixCache"]

MOST_IDLE = 128
"""Idle entries. Each costs the runner a few hundred bytes beside its pages, and a look when pages are needed."""

_LEAST_CUT_PAGES = 4
"""An entry that loses pages loses so many at least, or all of its own, so that it is not cut again for the next token."""


class Prefix(NamedTuple):
    """What a request can begin with.

    Attributes:
        source: A sequence of the runner that begins with it.
        tokens: How many tokens they have in common.
    """

    source: int
    tokens: int


class PrefixCache:
    """Entries by their tokens.

    Args:
        ledger: Who holds which page.
        remove: Ends a sequence in the runner.
        pop: Takes the last tokens of a sequence in the runner back.

    Attributes:
        version: Grows whenever :meth:`longest` might answer differently.
    """

    def __init__(self, ledger: PageLedger, *, remove: Callable[[int], None], pop: Callable[[int, int], None]) -> None:
        self.version = 0
        self._ledger = ledger
        self._remove = remove
        self._pop = pop
        self._tree = RadixTree()
        self._idle: OrderedDict[int, None] = OrderedDict()  # the one that was used least recently first

    @property
    def num_idle(self) -> int:
        """Entries that belong to no request."""
        return len(self._idle)

    @property
    def idle(self) -> tuple[int, ...]:
        """The idle entries' sequences, the one that was used least recently first."""
        return tuple(self._idle)

    def longest(self, tokens: Sequence[int]) -> Prefix | None:
        """What a request with these tokens can begin with, less than all of them; None where that isn't worth a fork.

        The logits after its last token are what its answer begins with, so at least that one has to be computed.
        """
        length, source = self._tree.longest_prefix(tokens)
        length = min(length, len(tokens) - 1)
        # Less than a page costs as much to copy and to look up in every later step as it saves.
        return None if source is None or length < self._ledger.page_tokens else Prefix(source, length)

    def holder(self, tokens: Sequence[int]) -> Prefix | None:
        """The longest beginning of ``tokens``, perhaps all of them, that some entry holds; None if there is none."""
        length, source = self._tree.longest_prefix(tokens)
        return None if source is None else Prefix(source, length)

    def used(self, source: int) -> None:
        """Note that a request was forked from an entry."""
        if source in self._idle:
            self._idle.move_to_end(source)

    def lend(self, sequence_id: int, tokens: Sequence[int]) -> None:
        """Let others begin with what a request's own sequence holds: exactly ``tokens``, or more."""
        self.version += 1
        self._tree.add(sequence_id, tokens)

    def keep(self, sequence_id: int, tokens: Sequence[int]) -> bool:
        """Make a request's sequence, which holds exactly ``tokens``, an idle entry.

        Returns:
            False if it is not worth keeping, or others hold all of it: nothing of it is in the cache any more, and it is the
            caller's to end, in the ledger and in the runner.
        """
        self.forget(sequence_id)
        if len(tokens) < self._ledger.page_tokens:
            return False
        covered = self._tree.add(sequence_id, tokens)
        if covered is None:
            if (same := self._tree.longest_prefix(tokens)[1]) is not None:
                self.used(same)
            return False
        self._ledger.settle(sequence_id)
        self._idle[sequence_id] = None
        for source in covered:
            if source in self._idle:
                self._drop(source)
        while len(self._idle) > MOST_IDLE:
            self._drop(next(iter(self._idle)))
        return True

    def adopt(self, sequence_id: int, tokens: Sequence[int]) -> bool:
        """Take in a sequence that the runner holds, with exactly ``tokens``, in pages that were free; see :meth:`keep`.

        Returns:
            False if it is not worth keeping, or there is an entry with all of it: it is the caller's to end in the runner.
        """
        if len(tokens) < self._ledger.page_tokens or self._tree.longest_prefix(tokens)[0] == len(tokens):
            return False
        self.version += 1
        self._ledger.adopt(sequence_id, len(tokens))
        self._tree.add(sequence_id, tokens)
        self._idle[sequence_id] = None
        return True

    def forget(self, sequence_id: int) -> None:
        """Take a request's sequence out, which is about to change or to end."""
        self.version += 1
        if sequence_id in self._tree:
            self._tree.remove(sequence_id)

    def distrust(self, tokens: Sequence[int]) -> None:
        """Lend nothing any more that begins with ``tokens``: a request that was forked there has failed."""
        self.version += 1
        for source in self._tree.below(tokens):
            if source in self._idle:
                self._drop(source)
            else:
                self._tree.remove(source)

    def free(self, pages: int, *, spare: int | None = None) -> bool:
        """Give idle entries up until so many pages are free; ``spare`` names one that stays.

        Returns:
            Whether they are.
        """
        ledger = self._ledger
        while ledger.free < pages:
            victim = next((entry for entry in self._idle if entry != spare and ledger.frees_pages(entry)), None)
            if victim is None:
                return False
            self._shorten(victim, pages - ledger.free)
        return True

    def free_or_own(self, sequence_id: int, pages: int) -> None:
        """Give up idle entries that share a request's pages, until so many are free, or are in its sequence only."""
        ledger = self._ledger
        while ledger.free + ledger.own_pages(sequence_id) < pages:
            shared = ledger.last_shared(sequence_id)
            victim = next((entry for entry in self._idle if shared is not None and ledger.has(entry, *shared)), None)
            if victim is None:
                return
            self._drop(victim)

    def clear(self) -> None:
        """Give all idle entries up."""
        for source in list(self._idle):
            self._drop(source)

    def _shorten(self, source: int, pages: int) -> None:
        """Take the last pages of an idle entry, at least ``pages`` of them or all that only it holds."""
        ledger = self._ledger
        own = ledger.own_pages(source)
        cut = max(pages, _LEAST_CUT_PAGES)
        if cut >= own:
            self._drop(source)
            return
        self.version += 1
        tokens = ledger.tokens(source)
        remain = (ledger.pages(source) - cut) * ledger.page_tokens
        if self._tree.cut(source, remain):
            self._pop(source, tokens - remain)
            ledger.cut(source, cut)
        else:
            self._end(source)

    def _drop(self, source: int) -> None:
        self.version += 1
        self._tree.remove(source)
        self._end(source)

    def _end(self, source: int) -> None:
        del self._idle[source]
        self._ledger.close(source)
        self._remove(source)
