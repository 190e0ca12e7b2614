"""Decides what the model computes next: plain Python that knows nothing of tensors.

A step is either one chunk of one prompt (prefill) or one token for every running sequence (decode). While both have work, a chunk
rides in the same step as a decode (Agrawal et al., 2024, "Sarathi-Serve"), which reads the weights once for both; where it cannot,
the two alternate. Chunks are as large, and as many decodes go without
one, as doubles the mean time of a decode (:mod:`local_runtime.pace`): while a long prompt arrives, answers go on at half their speed
at least. Where several arrive, chunks are larger in proportion.

A sequence is admitted when its whole future fits: the pages for its prompt and all its ``max_tokens`` are reserved
before its first chunk, so it cannot run out of pages; those that it shares with others count once
(:mod:`local_runtime.page_ledger`). Of an open-ended answer, whose ``max_tokens`` is the rest of the
context because nobody said anything else, only the next :data:`OPEN_ENDED_TOKENS` are reserved: most answers end long
before, and a whole context for each of them would make them wait for each other. Where more pages are needed than there
are, the open-ended sequence that was admitted last gives its own back, waits at the head of the queue, and starts again
with what it has said so far when its whole future fits: that happens to a sequence once at most, and nothing of its
answer is lost.

Where every layer of the model sees only the last tokens, a sequence lets go of those before them now and then
(:mod:`local_runtime.sliding`), and no more pages are reserved for it than it then holds at a time, however long it becomes. What has
lost its beginning is of no use to others, and is not kept.

What has ended or was sent back stays in the cache as long as nobody needs its pages (:mod:`local_runtime.prefix_cache`). A sequence
takes the longest beginning that it shares with others right before its first chunk, when those before it in the row are through;
or when it is admitted, where it only fits like that.

Waiting sequences take turns by conversation (:mod:`local_runtime.fair_queue`), and there is a limit to how many may
wait: a further one is refused, with the time after which it would have been its turn.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from local_runtime.errors import OverloadedError
from local_runtime.fair_queue import FairQueue
from local_runtime.pace import Pace
from local_runtime.page_ledger import PageLedger
from local_runtime.prefix_cache import PrefixCache
from local_runtime.sequence import SequenceState
from local_runtime.steps import DecodeStep, EvictStep, ForkStep, PrefillStep, SlideStep, Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from local_runtime.errors import OutOfMemoryError
    from local_runtime.prefix_cache import Prefix
    from local_runtime.sequence import Sequence
    from local_runtime.sliding import SlidingWindow

__all__ = ["OPEN_ENDED_TOKENS", "DecodeStep", "EvictStep", "ForkStep", "PrefillStep", "Scheduler", "SlideStep", "Step"]

OPEN_ENDED_TOKENS = 256
"""Tokens of an open-ended answer that are reserved at a time."""

_CHUNKS_IN_A_ROW = 15
"""After so many decodes with a chunk comes one without, by which chunks are measured: how long a decode takes changes."""

_NEWEST_SHARE = 0.2
"""How much the newest measurement counts in the mean time that a sequence holds its place."""


class Scheduler:
    """Turns in a fair order, within a fixed number of pages and of sequences.

    Args:
        total_pages: Pages of the key-value cache.
        page_tokens: Tokens in a page.
        max_sequences: How many sequences may hold pages at the same time.
        prefill_chunk_tokens: The most tokens in one prefill step.
        max_waiting: How many sequences may wait; None sets no limit.
        shortage: Given the pages that would be reserved in all, gives the error to tell if there is no memory for them,
            else None. Without it the pages are taken to be there.
        may_keep: Given the pages that would be in use, whether some of them may be only kept in case they are asked for again.
        remove: Ends a sequence in the runner, of the prefix cache's. None: there is no prefix cache.
        pop: Takes the last tokens of such a one back; goes with ``remove``.
        mixed: Whether the runner computes a chunk of a prompt together with a decode.
        window: What a sequence has to hold; None where it has to hold all of its tokens.
        clock: Seconds that only grow.

    Attributes:
        pages: Who holds which page.
        prefixes: What new sequences can begin with; None if nothing is kept.
        pace: How long steps take.
        refused_total: Sequences that were refused because too many waited.
        evicted_total: Sequences that had to give their pages back and wait again.
    """

    def __init__(
        self,
        *,
        total_pages: int,
        page_tokens: int,
        max_sequences: int,
        prefill_chunk_tokens: int,
        max_waiting: int | None = None,
        shortage: Callable[[int], OutOfMemoryError | None] = lambda pages: None,
        may_keep: Callable[[int], bool] = lambda pages: True,
        remove: Callable[[int], None] | None = None,
        pop: Callable[[int, int], None] | None = None,
        mixed: bool = False,
        window: SlidingWindow | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if min(total_pages, page_tokens, max_sequences, prefill_chunk_tokens) < 1:
            raise ValueError("pages, tokens and sequences are at least 1 each")
        if window is not None and (window.page_tokens != page_tokens or window.chunk_tokens < prefill_chunk_tokens):
            raise ValueError("the window was made for other pages, or for smaller steps")
        self.total_pages = total_pages
        self.page_tokens = page_tokens
        self.max_sequences = max_sequences
        self.prefill_chunk_tokens = prefill_chunk_tokens
        self.max_waiting = max_waiting
        self.pages = PageLedger(total_pages, page_tokens, sliding=window is not None)
        self.prefixes = None if remove is None or pop is None else PrefixCache(self.pages, remove=remove, pop=pop)
        self.pace = Pace(prefill_chunk_tokens)
        self.refused_total = 0
        self.evicted_total = 0
        self._shortage = shortage
        self._may_keep = may_keep
        self._most_used_pages = 0
        self._looked_up: dict[int, tuple[int, Prefix | None]] = {}
        self._clock = clock
        self._waiting = FairQueue()
        # Insertion order is the order of turns; dicts because sequences leave from anywhere.
        self._prefilling: dict[int, Sequence] = {}
        self._running: dict[int, Sequence] = {}
        self._mixed = mixed
        self._window = window
        self._chunks_in_a_row = 0
        self._last_was_prefill = False
        self._last_batch_was_together = False
        self._admissions = 0
        self._service_s: float | None = None

    @property
    def unreserved_pages(self) -> int:
        """Pages that can be reserved for somebody: those of nobody, and those that are only kept."""
        return self.pages.unpromised

    @property
    def num_waiting(self) -> int:
        """Sequences that wait to be admitted."""
        return len(self._waiting)

    @property
    def num_admitted(self) -> int:
        """Sequences that hold a reservation: in prefill or running."""
        return len(self._prefilling) + len(self._running)

    @property
    def has_work(self) -> bool:
        """True if :meth:`next_step` will give a step."""
        return bool(self._waiting or self._prefilling or self._running)

    @property
    def queue_wait_s(self) -> float | None:
        """How long a sequence that came now would wait, about; None if no sequence has ended yet that would tell.

        The mean time from admission to the end, newer ones counting more, times the place in the queue, over how many are
        served at a time.
        """
        if not self._waiting and self.num_admitted < self.max_sequences:
            return 0.0
        if self._service_s is None:
            return None
        # Where pages or memory are the limit and not places, fewer than max_sequences run; that is what a queue shows.
        served_together = self.num_admitted if self._waiting and self.num_admitted else self.max_sequences
        return self._service_s * (self.num_waiting + 1) / served_together

    def pages_for(self, tokens: int) -> int:
        """Pages that hold so many tokens of one sequence."""
        return -(-tokens // self.page_tokens)

    def add(self, sequence: Sequence) -> None:
        """Queue a new sequence.

        Raises:
            ValueError: Its prompt and ``max_tokens`` need more pages than there are, so it would wait for ever.
            OverloadedError: It would have to wait, and as many wait already as may.
        """
        if self._most_pages(sequence) > self.total_pages:
            raise ValueError(f"{sequence.max_total_tokens} tokens never fit into {self.total_pages} pages")
        wait_s = self.queue_wait_s
        sequence.state = SequenceState.WAITING
        self._waiting.add(sequence)
        if self.max_waiting is None or self.num_waiting <= self.max_waiting:
            return
        self._admit(may_fork=False)  # Perhaps there is a place for it, or for one that waits before it.
        if sequence.state is SequenceState.WAITING and self.num_waiting > self.max_waiting:
            self._waiting.remove(sequence)
            sequence.state = SequenceState.DONE
            self.refused_total += 1
            raise self._overloaded(wait_s)

    def remove(self, sequence: Sequence, *, keep: bool = False) -> bool:
        """Forget a sequence in any state and take its reservation back.

        Args:
            sequence: Which one.
            keep: What the runner holds for it is its tokens, and may serve others.

        Returns:
            True if the prefix cache has it now. Else what the runner holds for it is the caller's to free.
        """
        kept = False
        if sequence.state is SequenceState.WAITING:
            self._waiting.remove(sequence)
        elif sequence.state is not SequenceState.DONE:
            kept = self._release(sequence, keep=keep)
            self._note_service(sequence)
        self._looked_up.pop(sequence.sequence_id, None)
        sequence.state = SequenceState.DONE
        return kept

    def requeue(self, sequence: Sequence, *, keep: bool = False) -> bool:
        """Send an admitted sequence back to the head of the queue; see :meth:`remove`. It starts again with none of its tokens cached.

        To send back several, start with the youngest, so that the oldest ends at the head.
        """
        kept = self._release(sequence, keep=keep)
        self._looked_up.pop(sequence.sequence_id, None)
        sequence.cached = sequence.dropped = sequence.prefix_tokens = 0
        sequence.state = SequenceState.WAITING
        self._waiting.give_back(sequence)
        return kept

    def next_step(self) -> Step | None:
        """Reserve what running answers need, admit what fits, then choose the next step; None if nothing is left to do."""
        step: Step | None = self._slide_running() or self._make_room() or self._admit()
        if step is None and self._prefilling:
            step = self._prefill(next(iter(self._prefilling.values())))
        if step is not None:
            return step
        self._last_was_prefill = False
        self._chunks_in_a_row = 0
        return self._decode(self._next_batch()) if self._running else None

    def computed(self, step: ForkStep | PrefillStep | DecodeStep | SlideStep) -> None:
        """Record that the runner has computed ``step``; call it before the new tokens are appended."""
        grow = self.pages.grow
        if isinstance(step, DecodeStep):
            for sequence in step.sequences:
                sequence.cached += 1
                grow(sequence.sequence_id, sequence.held)
            if step.chunk is None:
                return
            step = step.chunk
        sequence = step.sequence
        if isinstance(step, SlideStep):
            sequence.dropped += step.tokens
            self.pages.slide(sequence.sequence_id, step.tokens // self.page_tokens)
            if self.prefixes is not None:
                self.prefixes.forget(sequence.sequence_id)
            return
        if isinstance(step, ForkStep):
            if self.pages.pages(sequence.sequence_id):
                self.pages.close(sequence.sequence_id)
                self.pages.open(sequence.sequence_id, sequence.reserved_pages)
            self.pages.fork(step.source, sequence.sequence_id, step.tokens)
            sequence.cached = sequence.prefix_tokens = step.tokens
            sequence.dropped = 0
            if self.prefixes is not None:
                self.prefixes.used(step.source)
            return
        if sequence.reused_tokens is None:
            sequence.reused_tokens = step.start
        sequence.cached = step.end
        grow(sequence.sequence_id, sequence.held)
        if step.is_last:
            del self._prefilling[sequence.sequence_id]
            self._running[sequence.sequence_id] = sequence
            sequence.state = SequenceState.RUNNING
            if self.prefixes is not None and not sequence.alone and not sequence.dropped:
                self.prefixes.lend(sequence.sequence_id, sequence.tokens)

    def room_for_guesses(self, sequence: Sequence) -> int:
        """How many tokens after the next one a running sequence can be fed at once, with nobody giving anything up for that.

        What is fed has to be taken back from the runner, or counted in ``sequence.cached``, before :meth:`computed` or
        :meth:`next_step` is called.
        """
        pages = self.pages.pages(sequence.sequence_id)
        most = min(sequence.reserved_pages, pages + self.pages.free)
        return max(0, most * self.page_tokens - sequence.held - 1)

    def distrust(self, sequence: Sequence) -> None:
        """Lend nobody any more what a sequence, which has failed, was forked from."""
        if self.prefixes is not None and sequence.prefix_tokens:
            self.prefixes.distrust(sequence.tokens[: sequence.prefix_tokens])

    # ---- pages and memory ----

    def _pages_at_first(self, sequence: Sequence) -> int:
        """What to reserve for a sequence with the tokens that it has now."""
        most_pages = self._most_pages(sequence)
        if not sequence.open_ended:
            return most_pages
        return min(most_pages, self.pages_for(len(sequence.tokens) - sequence.dropped + OPEN_ENDED_TOKENS))

    def _most_pages(self, sequence: Sequence) -> int:
        """The most pages that a sequence ever holds at a time."""
        tokens = sequence.max_total_tokens
        return self.pages_for(tokens if self._window is None else min(tokens, self._window.most_tokens))

    def _shortage_with(self, more_pages: int) -> OutOfMemoryError | None:
        return self._shortage(self.pages.held + self.pages.promised + more_pages)

    def _claim(self, pages: int, *, spare: int | None = None) -> bool:
        """See to it that so many pages are free for a step; entries of the prefix cache go for that, but for ``spare``."""
        ledger, prefixes = self.pages, self.prefixes
        if pages <= 0:
            return True
        if prefixes is not None and prefixes.num_idle:
            in_use = ledger.used + pages
            if in_use > self._most_used_pages and not self._may_keep(in_use):
                prefixes.free(ledger.free + min(pages, in_use - self._most_used_pages), spare=spare)
            prefixes.free(pages, spare=spare)
        self._most_used_pages = max(self._most_used_pages, ledger.used + pages)
        return ledger.free >= pages

    def _admit(self, *, may_fork: bool = True) -> ForkStep | EvictStep | None:
        """Admit whoever fits. If nobody is admitted and there is no memory for anybody, who is first has to end."""
        error: OutOfMemoryError | None = None

        prefix: Prefix | None = None

        def fits(sequence: Sequence) -> bool:
            nonlocal error, prefix
            prefix = None
            pages = self._pages_at_first(sequence)
            fitting, error = self._fits(pages)
            if not fitting and may_fork and (found := self._prefix_of(sequence)) is not None:
                whole = found.tokens // self.page_tokens
                fitting, error = self._fits(pages - whole + self.pages.newly_held(found.source, found.tokens))
                prefix = found
            return fitting

        while self._waiting and self.num_admitted < self.max_sequences:
            sequence = self._waiting.take(fits)
            if sequence is None:
                break
            pages = self._pages_at_first(sequence)
            self.pages.open(sequence.sequence_id, pages)
            sequence.reserved_pages = pages
            self._admissions += 1
            sequence.admission = self._admissions
            if sequence.admitted_at_s is None:
                sequence.admitted_at_s = self._clock()
            sequence.state = SequenceState.PREFILLING
            self._prefilling[sequence.sequence_id] = sequence
            if prefix is not None:
                return self._fork(sequence, prefix)
        if self.num_admitted or not self._waiting:
            return None
        # All pages are free, so it is memory that lacks, and nobody is here whose end would change that.
        first = self._waiting.first
        assert first is not None
        return EvictStep(first, self._shortage_with(self._pages_at_first(first)) or error)

    def _fits(self, pages: int) -> tuple[bool, OutOfMemoryError | None]:
        """Whether so many pages more can be promised; and the error, if only memory lacks."""
        if pages > self.pages.unpromised:
            return False, None
        error = self._shortage_with(pages)
        return error is None, error

    def _make_room(self) -> EvictStep | None:
        """Reserve the next pages of open-ended answers that have used up theirs; somebody may have to go for that."""
        for sequence in self._running.values():
            needed = self.pages_for(len(sequence.tokens) - sequence.dropped) - sequence.reserved_pages
            if needed <= 0:
                continue
            wanted = self._pages_at_first(sequence) - sequence.reserved_pages
            error: OutOfMemoryError | None = None
            for pages in (wanted, needed):
                if pages <= self.pages.unpromised:
                    error = self._shortage_with(pages)
                    if error is None:
                        self.pages.reserve(sequence.sequence_id, pages)
                        sequence.reserved_pages += pages
                        break
            else:
                if error is not None and self.num_admitted == 1:
                    return EvictStep(sequence, error)
                return self._evict_youngest()
        return None

    def _evict_youngest(self) -> EvictStep:
        """Send the open-ended sequence that was admitted last back; it will be admitted with its whole future, so only once."""
        admitted = (*self._prefilling.values(), *self._running.values())
        youngest = max((each for each in admitted if each.open_ended), key=lambda sequence: sequence.admission)
        youngest.open_ended = False
        self.evicted_total += 1
        kept = self.requeue(youngest, keep=True)
        return EvictStep(youngest, kept=kept)

    def _release(self, sequence: Sequence, *, keep: bool) -> bool:
        """Take an admitted sequence out of its row, and its pages from it; True if the prefix cache keeps them."""
        row = self._prefilling if sequence.state is SequenceState.PREFILLING else self._running
        del row[sequence.sequence_id]
        sequence.reserved_pages = 0
        if self.prefixes is not None:
            if keep and sequence.cached and not sequence.alone and not sequence.dropped:
                self.pages.grow(sequence.sequence_id, sequence.cached)
                if self.prefixes.keep(sequence.sequence_id, sequence.tokens[: sequence.cached]):
                    return True
            self.prefixes.forget(sequence.sequence_id)
        self.pages.close(sequence.sequence_id)
        return False

    # ---- prefill ----

    def _prefix_of(self, sequence: Sequence) -> Prefix | None:
        """The longest beginning that a sequence shares with an entry of the prefix cache, if it may take one."""
        if self.prefixes is None or sequence.no_prefix or sequence.alone:
            return None
        known = self._looked_up.get(sequence.sequence_id)
        if known is None or known[0] != self.prefixes.version:
            known = self.prefixes.version, self.prefixes.longest(sequence.tokens)
            self._looked_up[sequence.sequence_id] = known
        return known[1]

    def _fork(self, sequence: Sequence, prefix: Prefix) -> ForkStep:
        """Take ``prefix``; without its last, begun page where there is no page for a copy of that."""
        tokens = prefix.tokens
        if tokens % self.page_tokens and not self._claim(1, spare=prefix.source):
            tokens -= tokens % self.page_tokens
        return ForkStep(sequence, prefix.source, tokens)

    def _prefill(self, sequence: Sequence) -> Step | None:
        """The next step for a prompt; None if it is others' turn."""
        if sequence.cached <= sequence.prefix_tokens and (prefix := self._prefix_of(sequence)) is not None:
            had = sequence.cached // self.page_tokens
            more_pages = prefix.tokens // self.page_tokens - had
            # What is held grows by the pages that only idle ones have; and as many more are not waited for any longer.
            if (
                more_pages > 0
                and self.pages.newly_held(prefix.source, prefix.tokens, had) <= self.pages.unpromised + more_pages
            ):
                return self._fork(sequence, prefix)
        if not self._running:
            return self._chunk_alone(sequence, self.prefill_chunk_tokens)
        if self._may_ride(sequence):
            if self._chunks_in_a_row >= _CHUNKS_IN_A_ROW or self.pace.rests:
                return None
            batch = self._next_batch()
            room = self.prefill_chunk_tokens - len(batch)
            chunk = self._chunk(sequence, min(room, self.pace.riding_tokens(len(self._prefilling))))
            if isinstance(chunk, SlideStep):
                return chunk
            self._chunks_in_a_row += 1
            return self._decode(batch, chunk)
        if self._last_was_prefill:
            return None
        return self._chunk_alone(sequence, self.pace.chunk_tokens(len(self._prefilling)))

    def _chunk_alone(self, sequence: Sequence, most_tokens: int) -> PrefillStep | SlideStep:
        step = self._chunk(sequence, most_tokens)
        self._last_was_prefill = isinstance(step, PrefillStep)
        return step

    def _chunk(self, sequence: Sequence, most_tokens: int) -> PrefillStep | SlideStep:
        """The next chunk of a prompt, or what has to come before it."""
        if sequence.chunk_tokens is not None:
            most_tokens = min(most_tokens, sequence.chunk_tokens)
        end = min(sequence.cached + most_tokens, len(sequence.tokens))
        slide = self._slide(sequence, end - sequence.cached)
        if slide is not None:
            return slide
        self._claim(self.pages.lacking(sequence.sequence_id, end - sequence.dropped))
        return PrefillStep(sequence, sequence.cached, end)

    def _decode(self, sequences: tuple[Sequence, ...], chunk: PrefillStep | None = None) -> DecodeStep:
        lacking = sum(self.pages.lacking(each.sequence_id, each.held + 1) for each in sequences)
        if chunk is not None:
            lacking += self.pages.lacking(chunk.sequence.sequence_id, chunk.end - chunk.sequence.dropped)
        self._claim(lacking)
        return DecodeStep(sequences, chunk)

    # ---- what no token sees any more ----

    def _slide_running(self) -> SlideStep | None:
        """What has to come before the next token of some running sequence."""
        if self._window is None:
            return None
        return next((step for each in self._running.values() if (step := self._slide(each, 1)) is not None), None)

    def _slide(self, sequence: Sequence, more_tokens: int) -> SlideStep | None:
        """What has to come before so many more tokens of a sequence; None if they fit into what it may hold."""
        window = self._window
        if window is None or sequence.held + more_tokens <= window.most_tokens:
            return None
        tokens = window.unseen(sequence.held)
        kept_pages = self.pages_for(sequence.held - tokens)
        if not self._claim(kept_pages - self.pages.own_pages(sequence.sequence_id)) and self.prefixes is not None:
            self.prefixes.free_or_own(sequence.sequence_id, kept_pages)
        return SlideStep(sequence, tokens)

    def _may_ride(self, sequence: Sequence) -> bool:
        """Whether a chunk of a prompt can be computed in one step with a decode of whoever runs."""
        if not self._mixed or sequence.alone or sequence.chunk_tokens is not None:
            return False
        if len(self._running) >= self.prefill_chunk_tokens or any(each.alone for each in self._running.values()):
            return False
        new_pages = len(self._running) + self.pages_for(self.prefill_chunk_tokens) + 1
        # Where nothing is shared, all tables together list no page twice.
        return self.pages.listed == self.pages.held or self.pages.listed + new_pages <= self.total_pages

    # ---- turns and times ----

    def _next_batch(self) -> tuple[Sequence, ...]:
        together = tuple(sequence for sequence in self._running.values() if not sequence.alone)
        if self.pages.listed + len(together) > self.total_pages:
            together = self._as_many_as_can_be_listed(together)
        alone = next((sequence for sequence in self._running.values() if sequence.alone), None)
        if alone is None:
            return together
        if together and not self._last_batch_was_together:
            self._last_batch_was_together = True
            return together
        self._last_batch_was_together = False
        # To the end of the row, so that those who go alone take turns.
        self._running[alone.sequence_id] = self._running.pop(alone.sequence_id)
        return (alone,)

    def _as_many_as_can_be_listed(self, sequences: tuple[Sequence, ...]) -> tuple[Sequence, ...]:
        """The first of some running sequences, who go to the end of the row.

        The runner lists the pages of each sequence of a batch, shared ones again each time, in a buffer for as many as there are.
        """
        batch: list[Sequence] = []
        listed = 0
        for sequence in sequences:
            listed += self.pages.pages_for(sequence.held + 1)
            if batch and listed > self.total_pages:
                break
            batch.append(sequence)
        if len(batch) < len(sequences):
            for sequence in batch:
                self._running[sequence.sequence_id] = self._running.pop(sequence.sequence_id)
        return tuple(batch)

    def _note_service(self, sequence: Sequence) -> None:
        if sequence.admitted_at_s is None:
            return
        took_s = self._clock() - sequence.admitted_at_s
        self._service_s = (
            took_s if self._service_s is None else self._service_s + _NEWEST_SHARE * (took_s - self._service_s)
        )

    def _overloaded(self, wait_s: float | None) -> OverloadedError:
        error = OverloadedError(
            f"{self.max_waiting} requests wait already, as many as may (max_waiting), and {self.num_admitted} are being answered.",
            "Ask again later, or allow more at a time (max_sequences) or in the queue (max_waiting).",
        )
        error.retry_after_s = wait_s
        return error
