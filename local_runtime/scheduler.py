"""Decides what the model computes next: plain Python that knows nothing of tensors.

A step is either one chunk of one prompt (prefill) or one token for every running sequence (decode). The two alternate
while both have work, so a long prompt never stalls the answers that are already running for more than one chunk.

A sequence is admitted when its whole future fits: the pages for its prompt and all its ``max_tokens`` are reserved
before its first chunk, so it cannot run out of pages. Of an open-ended answer, whose ``max_tokens`` is the rest of the
context because nobody said anything else, only the next :data:`OPEN_ENDED_TOKENS` are reserved: most answers end long
before, and a whole context for each of them would make them wait for each other. Where more pages are needed than there
are, the open-ended sequence that was admitted last gives its own back, waits at the head of the queue, and starts again
with what it has said so far when its whole future fits: that happens to a sequence once at most, and nothing of its
answer is lost.

Waiting sequences take turns by conversation (:mod:`local_runtime.fair_queue`), and there is a limit to how many may
wait: a further one is refused, with the time after which it would have been its turn.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from local_runtime.errors import OutOfMemoryError, OverloadedError
from local_runtime.fair_queue import FairQueue
from local_runtime.sequence import Sequence, SequenceState

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["OPEN_ENDED_TOKENS", "DecodeStep", "EvictStep", "PrefillStep", "Scheduler", "Step"]

OPEN_ENDED_TOKENS = 256
"""Tokens of an open-ended answer that are reserved at a time."""

_NEWEST_SHARE = 0.2
"""How much the newest measurement counts in the mean time that a sequence holds its place."""


@dataclass(frozen=True, slots=True)
class PrefillStep:
    """Compute ``sequence.tokens[start:end]``; with ``start == 0`` the runner does not know the sequence yet."""

    sequence: Sequence
    start: int
    end: int

    @property
    def is_last(self) -> bool:
        """True if the next token can be drawn after this chunk."""
        return self.end == len(self.sequence.tokens)


@dataclass(frozen=True, slots=True)
class DecodeStep:
    """Feed the newest token of each sequence, in this order."""

    sequences: tuple[Sequence, ...]


@dataclass(frozen=True, slots=True)
class EvictStep:
    """Free what the runner holds for a sequence.

    Attributes:
        sequence: Waits again, and its tokens are kept; or, with an error, it has to be ended and removed.
        error: Why it cannot go on.
    """

    sequence: Sequence
    error: OutOfMemoryError | None = None


Step: TypeAlias = PrefillStep | DecodeStep | EvictStep


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
        clock: Seconds that only grow.

    Attributes:
        unreserved_pages: Pages that are kept for nobody.
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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if min(total_pages, page_tokens, max_sequences, prefill_chunk_tokens) < 1:
            raise ValueError("pages, tokens and sequences are at least 1 each")
        self.total_pages = total_pages
        self.page_tokens = page_tokens
        self.max_sequences = max_sequences
        self.prefill_chunk_tokens = prefill_chunk_tokens
        self.max_waiting = max_waiting
        self.unreserved_pages = total_pages
        self.refused_total = 0
        self.evicted_total = 0
        self._shortage = shortage
        self._clock = clock
        self._waiting = FairQueue()
        # Insertion order is the order of turns; dicts because sequences leave from anywhere.
        self._prefilling: dict[int, Sequence] = {}
        self._running: dict[int, Sequence] = {}
        self._last_was_prefill = False
        self._last_batch_was_together = False
        self._admissions = 0
        self._service_s: float | None = None

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
        if self.pages_for(sequence.max_total_tokens) > self.total_pages:
            raise ValueError(f"{sequence.max_total_tokens} tokens never fit into {self.total_pages} pages")
        wait_s = self.queue_wait_s
        sequence.state = SequenceState.WAITING
        self._waiting.add(sequence)
        if self.max_waiting is None or self.num_waiting <= self.max_waiting:
            return
        self._admit()  # Perhaps there is a place for it, or for one that waits before it.
        if sequence.state is SequenceState.WAITING and self.num_waiting > self.max_waiting:
            self._waiting.remove(sequence)
            sequence.state = SequenceState.DONE
            self.refused_total += 1
            raise self._overloaded(wait_s)

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence in any state and take its reservation back; the runner's pages are the caller's to free."""
        if sequence.state is SequenceState.WAITING:
            self._waiting.remove(sequence)
        elif sequence.state is not SequenceState.DONE:
            self._release(sequence)
            self._note_service(sequence)
        sequence.state = SequenceState.DONE

    def requeue(self, sequence: Sequence) -> None:
        """Send an admitted sequence back to the head of the queue; its cached tokens are taken to be gone.

        To send back several, start with the youngest, so that the oldest ends at the head.
        """
        self._release(sequence)
        sequence.cached = 0
        sequence.state = SequenceState.WAITING
        self._waiting.give_back(sequence)

    def next_step(self) -> Step | None:
        """Reserve what running answers need, admit what fits, then choose the next step; None if nothing is left to do."""
        step = self._make_room() or self._admit()
        if step is not None:
            return step
        if self._prefilling and not (self._last_was_prefill and self._running):
            self._last_was_prefill = True
            sequence = next(iter(self._prefilling.values()))
            end = min(sequence.cached + self.prefill_chunk_tokens, len(sequence.tokens))
            return PrefillStep(sequence, sequence.cached, end)
        self._last_was_prefill = False
        if not self._running:
            return None
        return DecodeStep(self._next_batch())

    def computed(self, step: PrefillStep | DecodeStep) -> None:
        """Record that the runner has computed ``step``; call it before the new tokens are appended."""
        if isinstance(step, DecodeStep):
            for sequence in step.sequences:
                sequence.cached += 1
            return
        sequence = step.sequence
        sequence.cached = step.end
        if step.is_last:
            del self._prefilling[sequence.sequence_id]
            self._running[sequence.sequence_id] = sequence
            sequence.state = SequenceState.RUNNING

    # ---- pages and memory ----

    def _pages_at_first(self, sequence: Sequence) -> int:
        """What to reserve for a sequence with the tokens that it has now."""
        all_pages = self.pages_for(sequence.max_total_tokens)
        if not sequence.open_ended:
            return all_pages
        return min(all_pages, self.pages_for(len(sequence.tokens) + OPEN_ENDED_TOKENS))

    def _shortage_with(self, more_pages: int) -> OutOfMemoryError | None:
        return self._shortage(self.total_pages - self.unreserved_pages + more_pages)

    def _admit(self) -> EvictStep | None:
        """Admit whoever fits. If nobody is admitted and there is no memory for anybody, who is first has to end."""
        error: OutOfMemoryError | None = None

        def fits(sequence: Sequence) -> bool:
            nonlocal error
            pages = self._pages_at_first(sequence)
            if pages > self.unreserved_pages:
                return False
            error = self._shortage_with(pages)
            return error is None

        while self._waiting and self.num_admitted < self.max_sequences:
            sequence = self._waiting.take(fits)
            if sequence is None:
                break
            self._reserve(sequence, self._pages_at_first(sequence))
            self._admissions += 1
            sequence.admission = self._admissions
            if sequence.admitted_at_s is None:
                sequence.admitted_at_s = self._clock()
            sequence.state = SequenceState.PREFILLING
            self._prefilling[sequence.sequence_id] = sequence
        if self.num_admitted or not self._waiting:
            return None
        # All pages are free, so it is memory that lacks, and nobody is here whose end would change that.
        first = self._waiting.first
        assert first is not None
        return EvictStep(first, self._shortage_with(self._pages_at_first(first)) or error)

    def _make_room(self) -> EvictStep | None:
        """Reserve the next pages of open-ended answers that have used up theirs; somebody may have to go for that."""
        for sequence in self._running.values():
            needed = self.pages_for(len(sequence.tokens)) - sequence.reserved_pages
            if needed <= 0:
                continue
            wanted = self._pages_at_first(sequence) - sequence.reserved_pages
            error: OutOfMemoryError | None = None
            for pages in (wanted, needed):
                if pages <= self.unreserved_pages:
                    error = self._shortage_with(pages)
                    if error is None:
                        self._reserve(sequence, pages)
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
        self.requeue(youngest)
        return EvictStep(youngest)

    def _reserve(self, sequence: Sequence, pages: int) -> None:
        self.unreserved_pages -= pages
        sequence.reserved_pages += pages

    def _release(self, sequence: Sequence) -> None:
        row = self._prefilling if sequence.state is SequenceState.PREFILLING else self._running
        del row[sequence.sequence_id]
        self.unreserved_pages += sequence.reserved_pages
        sequence.reserved_pages = 0

    # ---- turns and times ----

    def _next_batch(self) -> tuple[Sequence, ...]:
        together = tuple(sequence for sequence in self._running.values() if not sequence.alone)
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
