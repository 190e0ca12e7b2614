"""Who holds which page of the key-value cache, who may still come to hold one, and how many are left to promise.

The runner shares whole pages between a sequence and those that were forked from it; the ledger keeps the same tables as the runner,
in numbers of its own, so that a page counts once however many share it. A sequence is either **active** (a request is computed in
it) or **idle** (it is only kept for requests that begin in the same way, and can be given up at any time).

What always holds:

- A page is free, or it is in the table of at least one sequence; ``free + used == total``.
- Sharing is sharing of beginnings: a page in several tables has the same place in each, and so do all pages before it.
- ``held`` pages are in the table of an active sequence, each counted once. ``promised`` pages are those that active sequences may
  still take: for each, what was reserved for it less the pages that it has.
- ``held + promised <= total``. Since idle sequences hold whatever else is used, giving them up always frees what was promised.

Where sequences let go of their first tokens (:mod:`local_runtime.sliding`), one that does so gives up its share of pages that others
hold as well, and needs pages of its own for what it keeps. There, ``held`` counts a page once for each active sequence that has it,
so that what sharing saves is promised to nobody else.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["PageLedger"]


@dataclass(slots=True)
class _Account:
    """One sequence.

    Attributes:
        active: Whether a request is computed in it.
        tokens: Tokens that it holds.
        reserved: Pages that it may come to hold; of an idle one, those that it has.
        pages: Its pages in the order of its tokens.
    """

    active: bool
    reserved: int
    tokens: int = 0
    pages: list[int] = field(default_factory=list)


class PageLedger:
    """The tables of all sequences.

    Args:
        total: Pages of the cache.
        page_tokens: Tokens in a page.
        sliding: Whether sequences let go of their first tokens.

    Attributes:
        held: Pages that active sequences hold.
        promised: Pages that active sequences may still take.
        listed: Sum of the lengths of the active sequences' tables: more than ``held`` where they share pages.
    """

    def __init__(self, total: int, page_tokens: int, *, sliding: bool = False) -> None:
        self.total = total
        self.page_tokens = page_tokens
        self.sliding = sliding
        self.held = 0
        self.promised = 0
        self.listed = 0
        self._accounts: dict[int, _Account] = {}
        self._free = list(range(total - 1, -1, -1))
        self._holders = [0] * total
        self._active_holders = [0] * total

    @property
    def free(self) -> int:
        """Pages that nobody holds."""
        return len(self._free)

    @property
    def used(self) -> int:
        """Pages that somebody holds, active or idle."""
        return self.total - len(self._free)

    @property
    def unpromised(self) -> int:
        """Pages that can be reserved for somebody."""
        return self.total - self.held - self.promised

    def pages_for(self, tokens: int) -> int:
        """Pages that hold so many tokens of one sequence."""
        return -(-tokens // self.page_tokens)

    def __contains__(self, sequence_id: int) -> bool:
        return sequence_id in self._accounts

    def tokens(self, sequence_id: int) -> int:
        """Tokens that a sequence holds."""
        return self._accounts[sequence_id].tokens

    def pages(self, sequence_id: int) -> int:
        """Pages that a sequence holds, shared ones included."""
        return len(self._accounts[sequence_id].pages)

    # ---- active sequences ----

    def open(self, sequence_id: int, reserved: int) -> None:
        """Begin an active sequence that may come to hold ``reserved`` pages."""
        if sequence_id in self._accounts:
            raise ValueError(f"sequence {sequence_id} is in the ledger already")
        self._accounts[sequence_id] = _Account(True, reserved)
        self.promised += reserved

    def reserve(self, sequence_id: int, more: int) -> None:
        """Let an active sequence come to hold so many pages more."""
        self._accounts[sequence_id].reserved += more
        self.promised += more

    def lacking(self, sequence_id: int, tokens: int) -> int:
        """Free pages that an active sequence takes when it comes to ``tokens`` tokens."""
        return self.pages_for(tokens) - len(self._accounts[sequence_id].pages)

    def grow(self, sequence_id: int, tokens: int) -> None:
        """Note that an active sequence holds ``tokens`` tokens now, at least as many as before.

        Raises:
            ValueError: That is beyond what was reserved for it, or there is no free page: somebody has counted wrong.
        """
        account = self._accounts[sequence_id]
        more = -(-tokens // self.page_tokens) - len(account.pages)
        if more <= 0:
            account.tokens = tokens
            return
        if more > len(self._free) or len(account.pages) + more > account.reserved:
            raise ValueError(f"{more} pages more for sequence {sequence_id}, which were not kept for it")
        for _ in range(more):
            page = self._free.pop()
            self._holders[page] = self._active_holders[page] = 1
            account.pages.append(page)
        account.tokens = tokens
        self.held += more
        self.promised -= more
        self.listed += more

    def newly_held(self, parent_id: int, tokens: int, had: int = 0) -> int:
        """Pages that a fork's whole pages would add to ``held``: those that so far only idle sequences hold.

        Args:
            parent_id: What to fork from.
            tokens: How many of its tokens.
            had: Pages that the one who begins anew with the fork gives up for it.
        """
        whole = tokens // self.page_tokens
        if self.sliding:
            return whole - had
        active_holders = self._active_holders
        return sum(1 for page in self._accounts[parent_id].pages[:whole] if not active_holders[page])

    def fork(self, parent_id: int, sequence_id: int, tokens: int) -> None:
        """Let an active sequence that holds nothing yet begin with another one's first tokens.

        Whole pages are shared; the beginning of a page is copied into a free one.

        Raises:
            ValueError: It holds something, the parent has fewer tokens, or the copy finds no page.
        """
        account, parent = self._accounts[sequence_id], self._accounts[parent_id]
        if account.pages or not account.active or tokens > parent.tokens:
            raise ValueError(f"sequence {sequence_id} cannot begin with {tokens} tokens of sequence {parent_id}")
        shared = parent.pages[: tokens // self.page_tokens]
        for page in shared:
            self._holders[page] += 1
            if self.sliding or not self._active_holders[page]:
                self.held += 1
            self._active_holders[page] += 1
        account.pages = shared
        self.promised -= len(shared)
        self.listed += len(shared)
        self.grow(sequence_id, tokens)

    def slide(self, sequence_id: int, pages: int) -> None:
        """Take the first pages of an active sequence off it; what remains is in pages that nobody else has.

        Raises:
            ValueError: There are fewer free pages, once its own are: somebody has counted wrong.
        """
        account = self._accounts[sequence_id]
        tokens = account.tokens - pages * self.page_tokens
        self._end_activity(account)
        self._let_go(account.pages)
        account.pages, account.tokens = [], 0
        self.promised += account.reserved
        self.grow(sequence_id, tokens)

    def settle(self, sequence_id: int) -> None:
        """Make an active sequence idle: it keeps what it holds, and nothing more is promised to it."""
        account = self._accounts[sequence_id]
        self._end_activity(account)
        account.active = False
        account.reserved = len(account.pages)

    # ---- all sequences ----

    def adopt(self, sequence_id: int, tokens: int) -> None:
        """Take in an idle sequence that the runner holds already, in pages that were free.

        Raises:
            ValueError: The ledger knows it, or has fewer free pages.
        """
        pages = self.pages_for(tokens)
        if sequence_id in self._accounts or pages > len(self._free):
            raise ValueError(f"sequence {sequence_id} of {tokens} tokens cannot be taken in")
        taken = [self._free.pop() for _ in range(pages)]
        for page in taken:
            self._holders[page] = 1
        self._accounts[sequence_id] = _Account(False, pages, tokens, taken)

    def own_pages(self, sequence_id: int) -> int:
        """Pages that only this sequence holds: always the last ones of its table."""
        pages = self._accounts[sequence_id].pages
        own = 0
        while own < len(pages) and self._holders[pages[-1 - own]] == 1:
            own += 1
        return own

    def last_shared(self, sequence_id: int) -> tuple[int, int] | None:
        """The last page that a sequence shares with others: its place and its number; None if it shares none."""
        pages = self._accounts[sequence_id].pages
        place = len(pages) - self.own_pages(sequence_id) - 1
        return None if place < 0 else (place, pages[place])

    def has(self, sequence_id: int, place: int, page: int) -> bool:
        """Whether a sequence has that page in that place."""
        pages = self._accounts[sequence_id].pages
        return place < len(pages) and pages[place] == page

    def frees_pages(self, sequence_id: int) -> bool:
        """Whether the end of a sequence would free a page."""
        pages = self._accounts[sequence_id].pages
        return bool(pages) and self._holders[pages[-1]] == 1

    def cut(self, sequence_id: int, pages: int) -> None:
        """Take the last pages of an idle sequence off it; what remains is whole pages."""
        account = self._accounts[sequence_id]
        remain = len(account.pages) - pages
        self._let_go(account.pages[remain:])
        del account.pages[remain:]
        account.reserved = remain
        account.tokens = min(account.tokens, remain * self.page_tokens)

    def close(self, sequence_id: int) -> None:
        """Forget a sequence; pages that nobody else holds are free."""
        account = self._accounts.pop(sequence_id)
        if account.active:
            self._end_activity(account)
        self._let_go(account.pages)

    def _end_activity(self, account: _Account) -> None:
        self.promised -= account.reserved - len(account.pages)
        self.listed -= len(account.pages)
        for page in account.pages:
            self._active_holders[page] -= 1
            if self.sliding or not self._active_holders[page]:
                self.held -= 1

    def _let_go(self, pages: list[int]) -> None:
        for page in reversed(pages):  # the runner, too, takes the page that was freed last first
            self._holders[page] -= 1
            if not self._holders[page]:
                self._free.append(page)
