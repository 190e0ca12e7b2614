"""Decides what the model computes next: plain Python that knows nothing of tensors.

A step is either one chunk of one prompt (prefill) or one token for every running sequence (decode). The two alternate
while both have work, so a long prompt never stalls the answers that are already running for more than one chunk.

A sequence is admitted when its whole future fits: the pages for its prompt and all its ``max_tokens`` are reserved
before its first chunk. Nothing that was admitted can run out of pages. Waiting sequences are admitted strictly in the
order in which they came, so none starves.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TypeAlias

from local_runtime.sequence import Sequence, SequenceState

__all__ = ["DecodeStep", "PrefillStep", "Scheduler", "Step"]


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


Step: TypeAlias = PrefillStep | DecodeStep


class Scheduler:
    """First come, first served, within a fixed number of pages and of sequences.

    Args:
        total_pages: Pages of the key-value cache.
        page_tokens: Tokens in a page.
        max_sequences: How many sequences may hold pages at the same time.
        prefill_chunk_tokens: The most tokens in one prefill step.
    """

    def __init__(self, *, total_pages: int, page_tokens: int, max_sequences: int, prefill_chunk_tokens: int) -> None:
        if min(total_pages, page_tokens, max_sequences, prefill_chunk_tokens) < 1:
            raise ValueError("pages, tokens and sequences are at least 1 each")
        self.total_pages = total_pages
        self.page_tokens = page_tokens
        self.max_sequences = max_sequences
        self.prefill_chunk_tokens = prefill_chunk_tokens
        self.unreserved_pages = total_pages
        self._waiting: deque[Sequence] = deque()
        # Insertion order is the order of admission; a dict because sequences leave from anywhere.
        self._prefilling: dict[int, Sequence] = {}
        self._running: dict[int, Sequence] = {}
        self._last_was_prefill = False
        self._last_batch_was_together = False

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

    def pages_for(self, tokens: int) -> int:
        """Pages that hold so many tokens of one sequence."""
        return -(-tokens // self.page_tokens)

    def add(self, sequence: Sequence) -> None:
        """Queue a new sequence.

        Raises:
            ValueError: Its prompt and ``max_tokens`` need more pages than there are, so it would wait for ever.
        """
        if self.pages_for(sequence.max_total_tokens) > self.total_pages:
            raise ValueError(f"{sequence.max_total_tokens} tokens never fit into {self.total_pages} pages")
        sequence.state = SequenceState.WAITING
        self._waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence in any state and take its reservation back; the runner's pages are the caller's to free."""
        if sequence.state is SequenceState.WAITING:
            self._waiting.remove(sequence)
        elif sequence.state is not SequenceState.DONE:
            self._release(sequence)
        sequence.state = SequenceState.DONE

    def requeue(self, sequence: Sequence) -> None:
        """Send an admitted sequence back to the head of the queue; its cached tokens are taken to be gone.

        To send back several, start with the youngest, so that the oldest ends at the head.
        """
        self._release(sequence)
        sequence.cached = 0
        sequence.state = SequenceState.WAITING
        self._waiting.appendleft(sequence)

    def next_step(self) -> Step | None:
        """Admit what fits, then choose the next step; None when nothing is left to do."""
        self._admit()
        if self._prefilling and not (self._last_was_prefill and self._running):
            self._last_was_prefill = True
            sequence = next(iter(self._prefilling.values()))
            end = min(sequence.cached + self.prefill_chunk_tokens, len(sequence.tokens))
            return PrefillStep(sequence, sequence.cached, end)
        self._last_was_prefill = False
        if not self._running:
            return None
        return DecodeStep(self._next_batch())

    def computed(self, step: Step) -> None:
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

    def _admit(self) -> None:
        while self._waiting and self.num_admitted < self.max_sequences:
            pages = self.pages_for(self._waiting[0].max_total_tokens)
            if pages > self.unreserved_pages:
                return  # Strictly in order: a smaller one behind must not overtake, or a large one could starve.
            sequence = self._waiting.popleft()
            self.unreserved_pages -= pages
            sequence.reserved_pages = pages
            sequence.state = SequenceState.PREFILLING
            self._prefilling[sequence.sequence_id] = sequence

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

    def _release(self, sequence: Sequence) -> None:
        row = self._prefilling if sequence.state is SequenceState.PREFILLING else self._running
        del row[sequence.sequence_id]
        self.unreserved_pages += sequence.reserved_pages
        sequence.reserved_pages = 0
