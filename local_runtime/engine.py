"""Turns requests into tokens and tokens into text: one loop over the model's steps, many requests at a time.

The engine belongs to one thread: whoever owns it calls :meth:`Engine.submit`, :meth:`Engine.cancel` and, while
:attr:`Engine.has_work`, :meth:`Engine.step`. What happens to a request is told through the ``emit`` function that came
with it, and its last event is exactly one ``Finished`` or ``Failed``.

Requests are strangers to each other. An exception while one is tokenised, prefilled, sampled or detokenised ends that
one. An exception in a batched decode has no single culprit: everybody in the batch loses its cache, is prefilled again
with what it has said so far, and goes on alone, so that only the one that fails alone is ended.
"""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_runtime.crash_reports import described, report
from local_runtime.errors import EngineInternalError, InvalidRequestError, LocalRuntimeError, OutOfMemoryError
from local_runtime.events import EngineStats, Event, Failed, StateKept
from local_runtime.preparation import Preparation
from local_runtime.process_memory import peak_rss_mib, rss_mib
from local_runtime.saved_state import SavedStates
from local_runtime.scheduler import DecodeStep, EvictStep, ForkStep, PrefillStep, Scheduler, SlideStep
from local_runtime.speculation import StepCosts, draw_as_guessed, rounding_is_known
from local_runtime.tool_calls.answers import template_variables

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from local_runtime.generation import Generation
    from local_runtime.model_interface import Model
    from local_runtime.options import GenerateRequest
    from local_runtime.protocol import SaveState
    from local_runtime.sequence import Sequence
    from local_runtime.speculation import Speculation

__all__ = ["Engine", "as_runtime_error"]

_KEEP_FREE_MIB = 256
"""Where less can be taken, the prefix cache takes no memory that was not in use before."""


class Engine:
    """Continuous batching over one loaded model.

    Args:
        model: The loaded model; the engine closes its runner in :meth:`close`.
        max_waiting: How many requests may wait; a further one fails with ``OverloadedError``. None sets no limit.
        prefix_cache: Keep what was computed for requests that begin in the same way, as long as nobody needs its memory.
        speculate: Guess the next tokens of greedy answers from what was said before, where that pays.

    Attributes:
        info: What was loaded.
        beat: Grows with every step and every command; an engine whose beat stands still is stuck or has nothing to do.
    """

    def __init__(
        self, model: Model, *, max_waiting: int | None = None, prefix_cache: bool = True, speculate: bool = False
    ) -> None:
        self.info = model.info
        self.beat = 0
        self._runner = model.runner
        self._tokenizer = model.tokenizer
        self._recommended_sampling = model.recommended_sampling
        prefix_cache = prefix_cache and self._runner.can_share
        self._scheduler = Scheduler(
            total_pages=self._runner.total_pages,
            page_tokens=self._runner.page_tokens,
            max_sequences=self._runner.max_sequences,
            prefill_chunk_tokens=self._runner.prefill_chunk_tokens,
            max_waiting=max_waiting,
            shortage=self._runner.shortage,
            may_keep=self._may_keep,
            remove=self._runner.remove_sequence if prefix_cache else None,
            pop=self._runner.pop if prefix_cache else None,
            mixed=True,
            window=self._runner.window,
        )
        self._sequence_ids = itertools.count()
        self._by_request: dict[int, Generation] = {}
        self._by_sequence: dict[int, Generation] = {}
        self._saved_states = SavedStates(
            self._runner,
            self._tokenizer,
            self._scheduler.prefixes,
            submit=self.submit,
            next_sequence_id=self._sequence_ids.__next__,
        )
        self._step_costs = StepCosts()
        guesses = speculate and rounding_is_known(self._runner.activation_eps)
        self._preparation = Preparation(model, self._step_costs if guesses else None)
        self._requests_total = 0
        self._prompt_tokens_total = 0
        self._completion_tokens_total = 0

    # ---- requests ----

    def submit(self, request_id: int, request: GenerateRequest, emit: Callable[[Event], None]) -> None:
        """Take a request in; every outcome, a refusal included, comes through ``emit``.

        Args:
            request_id: The caller's name for it; free again after its last event.
            request: What to generate.
            emit: Called from this thread with each event of this request.

        Raises:
            ValueError: ``request_id`` is in use.
        """
        if request_id in self._by_request:
            raise ValueError(f"request {request_id} is already in the engine")
        self.beat += 1
        self._requests_total += 1
        submitted_at = time.perf_counter()
        try:
            generation = self._preparation.generation(
                request_id, request, emit, sequence_id=next(self._sequence_ids), submitted_at=submitted_at
            )
            if generation.end is None:
                self._scheduler.add(generation.sequence)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with this request ends this request only
            emit(Failed(as_runtime_error(error)))
            return
        if generation.end is not None:  # what was said elsewhere is the whole answer
            emit(generation.finished(generation.end))
            return
        self._by_request[request_id] = generation
        self._by_sequence[generation.sequence.sequence_id] = generation

    def cancel(self, request_id: int) -> bool:
        """End a request now, free its pages and emit ``Finished("cancelled")``; False if there is no such request."""
        self.beat += 1
        generation = self._by_request.get(request_id)
        if generation is None:
            return False
        self._forget(generation, keep=True)
        generation.emit(generation.finished("cancelled"))
        return True

    def cancel_all(self) -> None:
        """Cancel every request."""
        for request_id in list(self._by_request):
            self.cancel(request_id)

    def count_prompt_tokens(
        self,
        messages: list[dict[str, Any]],
        chat_template_kwargs: dict[str, Any],
        tools: list[dict[str, Any]] | None = None,
    ) -> int:
        """How many tokens a conversation comes to as a prompt, the chat template's own and those of the tools included.

        Raises:
            LocalRuntimeError: The chat template refuses the conversation.
        """
        self.beat += 1
        try:
            return len(self._tokenizer.encode_chat(messages, **template_variables(chat_template_kwargs, tools or [])))
        except Exception as error:  # noqa: BLE001 - raised again, without what may quote the conversation
            raise as_runtime_error(error) from None

    def save_state(
        self, command: SaveState, tell: Callable[[StateKept | LocalRuntimeError], None], working: Callable[[], None]
    ) -> None:
        """Write the keys and values of a conversation's beginning to a file; computing them first takes steps, as a request does.

        Args:
            command: What to save, and where.
            tell: Takes the outcome, once.
            working: Called while the file is being written, to show that something gets done.
        """
        self.beat += 1
        try:
            self._saved_states.save(command, tell, working)
        except Exception as error:  # noqa: BLE001 - it concerns this command only
            tell(as_runtime_error(error))

    def restore_state(self, path: str) -> StateKept | LocalRuntimeError:
        """Take the keys and values in a file into the prefix cache; gives what they were, or why they cannot be taken."""
        self.beat += 1
        try:
            return self._saved_states.restore(Path(path))
        except Exception as error:  # noqa: BLE001 - it concerns this command only
            return as_runtime_error(error)

    def stats(self) -> EngineStats:
        """The engine at this moment."""
        self.beat += 1
        return EngineStats(
            state="ready",
            running=self._scheduler.num_admitted,
            waiting=self._scheduler.num_waiting,
            max_sequences=self._scheduler.max_sequences,
            pages_total=self._scheduler.total_pages,
            pages_free=self._scheduler.total_pages - self._scheduler.pages.held,
            page_tokens=self._scheduler.page_tokens,
            rss_mib=rss_mib(),
            peak_rss_mib=peak_rss_mib(),
            requests_total=self._requests_total,
            prompt_tokens_total=self._prompt_tokens_total,
            completion_tokens_total=self._completion_tokens_total,
            refused_total=self._scheduler.refused_total,
            evicted_total=self._scheduler.evicted_total,
            queue_wait_s=self._scheduler.queue_wait_s,
            headroom_mib=self._runner.headroom_mib,
        )

    def close(self) -> None:
        """Cancel every request and free the model."""
        self.cancel_all()
        self._runner.close()

    # ---- the loop ----

    @property
    def has_work(self) -> bool:
        """True if there is a request that :meth:`step` can take further."""
        return self._scheduler.has_work

    def step(self) -> None:
        """Compute one chunk of one prompt, or one token for every running request; emits what came of it."""
        began_s = time.perf_counter()
        step = self._scheduler.next_step()
        if isinstance(step, PrefillStep):
            self._prefill(step)
            self._scheduler.pace.prefilled(step.end - step.start, time.perf_counter() - began_s)
        elif isinstance(step, DecodeStep) and step.chunk is not None:
            self._decode_with_chunk(step, step.chunk)
            self._scheduler.pace.rode(step.chunk.end - step.chunk.start, time.perf_counter() - began_s)
        elif isinstance(step, DecodeStep):
            if self._decode(step):
                self._scheduler.pace.decoded(time.perf_counter() - began_s)
        elif isinstance(step, ForkStep):
            self._fork(step)
        elif isinstance(step, SlideStep):
            self._slide(step)
        elif isinstance(step, EvictStep):
            self._evict(step)
        self.beat += 1

    def _fork(self, step: ForkStep) -> None:
        sequence = step.sequence
        generation = self._by_sequence[sequence.sequence_id]
        if generation.admitted_at is None:
            generation.admitted_at = time.perf_counter()
        self._leave_runner(generation)
        try:
            self._runner.fork_sequence(step.source, sequence.sequence_id, step.tokens)
        except Exception as error:  # noqa: BLE001 - nothing depends on it: the sequence can do without
            report("a request could not take what was computed before; it starts from its beginning", error)
            sequence.no_prefix = True
            self._scheduler.requeue(sequence)
            return
        generation.in_runner = True
        self._scheduler.computed(step)

    def _slide(self, step: SlideStep) -> None:
        sequence = step.sequence
        try:
            self._runner.drop_first(sequence.sequence_id, step.tokens)
        except Exception as error:  # noqa: BLE001 - only this sequence took part in the step
            self._fail(self._by_sequence[sequence.sequence_id], error)
            return
        self._scheduler.computed(step)

    def _prefill(self, step: PrefillStep) -> None:
        sequence = step.sequence
        generation = self._by_sequence[sequence.sequence_id]
        try:
            self._enter_runner(generation)
            logits = self._read(generation, step)
        except Exception as error:  # noqa: BLE001 - only this sequence took part in the step
            self._fail(generation, error)
            return
        self._prompt_tokens_total += max(0, min(step.end, sequence.prompt_tokens) - step.start)
        self._scheduler.computed(step)
        if step.is_last:
            self._next_token(generation, logits)

    def _decode_with_chunk(self, step: DecodeStep, chunk: PrefillStep) -> None:
        """Compute one token for each running sequence, and a chunk of a prompt beside them."""
        sequences, arriving = step.sequences, chunk.sequence
        try:
            self._enter_runner(self._by_sequence[arriving.sequence_id])
            logits = self._runner.decode_with_chunk(
                [sequence.sequence_id for sequence in sequences],
                [sequence.next_token for sequence in sequences],
                arriving.sequence_id,
                arriving.tokens[chunk.start : chunk.end],
            )
        except Exception as error:  # noqa: BLE001 - taken apart to find out whose failure it is
            report("a decode with a chunk of a prompt failed; its sequences go on one by one", error)
            self._take_apart((*sequences, arriving))
            return
        self._prompt_tokens_total += max(0, min(chunk.end, arriving.prompt_tokens) - chunk.start)
        is_last = chunk.is_last
        self._scheduler.computed(step)
        for row, sequence in enumerate((*sequences, arriving) if is_last else sequences):
            self._next_token_of(sequence, logits[row])

    def _enter_runner(self, generation: Generation) -> None:
        if not generation.in_runner:
            if generation.admitted_at is None:
                generation.admitted_at = time.perf_counter()
            self._runner.add_sequence(generation.sequence.sequence_id)
            generation.in_runner = True

    def _read(self, generation: Generation, step: PrefillStep) -> NDArray[np.float32]:
        """Feed a chunk of a sequence to the model; gives the logits after its last token, float32 ``[vocab]``."""
        sequence_id, tokens = step.sequence.sequence_id, step.sequence.tokens[step.start : step.end]
        wanted = generation.prompt_logprobs
        if wanted is None or not wanted.wants(step.start, step.end):
            return self._runner.prefill(sequence_id, tokens)
        logits = self._runner.score(sequence_id, tokens)
        wanted.take(step.start, logits)
        after_last: NDArray[np.float32] = logits[-1]
        return after_last

    def _decode(self, step: DecodeStep) -> bool:
        """Compute the next tokens; True if this was a plain decode, one token for each sequence."""
        if len(step.sequences) == 1:
            generation = self._by_sequence[step.sequences[0].sequence_id]
            if generation.sequence.missing > 1:
                return self._decode_forced(step, generation)
            if generation.speculation is not None:
                return self._decode_alone(step, generation, generation.speculation)
        self._decode_batch(step)
        return True

    def _decode_forced(self, step: DecodeStep, generation: Generation) -> bool:
        """Feed the tokens that had to come, as many as there is room for, in one pass; True for a plain decode."""
        sequence = generation.sequence
        most = min(1 + self._scheduler.room_for_guesses(sequence), self._scheduler.prefill_chunk_tokens)
        tokens = sequence.tokens[sequence.cached :][:most]
        if len(tokens) == 1:
            self._decode_batch(step)
            return True
        try:
            logits = self._runner.prefill(sequence.sequence_id, tokens)
        except Exception as error:  # noqa: BLE001 - only this sequence took part in the step
            self._fail(generation, error)
            return False
        sequence.cached += len(tokens) - 1
        self._scheduler.computed(step)
        self._next_token_of(sequence, logits)
        return False

    def _decode_alone(self, step: DecodeStep, generation: Generation, speculation: Speculation) -> bool:
        """Compute the next token of one sequence, or several where a guess is worth trying; True for a plain decode."""
        started = time.perf_counter()
        sequence = generation.sequence
        to_say = min(generation.max_tokens - generation.completion_tokens, sequence.max_tokens - sequence.generated)
        room = min(self._scheduler.room_for_guesses(sequence), self._runner.score_tokens - 1, to_say - 1)
        guessed = speculation.guess(room)
        if not guessed:
            self._decode_batch(step)
            self._step_costs.note_decode(time.perf_counter() - started)
            return True
        drawn = self._decode_guessed(step, generation, guessed)
        if drawn is not None:
            speculation.note(len(guessed), max(0, drawn - 1))
            self._step_costs.note_pass(1 + len(guessed), time.perf_counter() - started, drawn)
            if not drawn:
                self._decode_batch(step)
        return False

    def _decode_guessed(self, step: DecodeStep, generation: Generation, guessed: list[int]) -> int | None:
        """Compute the next tokens in one pass, as far as they come as guessed.

        Returns:
            How many were drawn; with 0 nothing has changed. None if the pass or a draw failed.
        """
        sequence, drawn = generation.sequence, 0
        had = len(sequence.tokens)
        try:
            logits = self._runner.score(sequence.sequence_id, [sequence.tokens[-1], *guessed])
        except Exception as error:  # noqa: BLE001 - a guess costs no answer: it is computed again, without guesses
            report("a pass over guessed tokens failed; its sequence goes on without", error)
            generation.speculation = None
            self._take_apart((sequence,))
            return None
        try:
            drawn = draw_as_guessed(generation, logits, guessed, self._runner.activation_eps)
        except Exception as error:  # noqa: BLE001 - as in _next_token
            self._fail(generation, error)
            return None
        if drawn <= len(guessed):
            self._runner.pop(sequence.sequence_id, len(guessed) + 1 - drawn)
        if drawn:
            sequence.cached += drawn - 1
            self._scheduler.computed(step)
            self._tell(generation, had)
        return drawn

    def _decode_batch(self, step: DecodeStep) -> None:
        sequences = step.sequences
        try:
            logits = self._runner.decode(
                [sequence.sequence_id for sequence in sequences], [sequence.next_token for sequence in sequences]
            )
        except Exception as error:  # noqa: BLE001 - the batch is taken apart to find out whose failure it is
            if len(sequences) == 1:
                self._fail(self._by_sequence[sequences[0].sequence_id], error)
            else:
                report("a batched decode failed; its sequences go on one by one", error)
                self._take_apart(sequences)
            return
        self._scheduler.computed(step)
        for row, sequence in enumerate(sequences):
            self._next_token_of(sequence, logits[row])

    def _evict(self, step: EvictStep) -> None:
        sequence = step.sequence
        generation = self._by_sequence[sequence.sequence_id]
        if step.error is not None:
            self._fail(generation, step.error)
        elif step.kept:
            generation.in_runner = False
            del self._by_sequence[sequence.sequence_id]
            sequence.sequence_id = next(self._sequence_ids)
            self._by_sequence[sequence.sequence_id] = generation
        else:
            self._leave_runner(generation)

    def _take_apart(self, sequences: tuple[Sequence, ...]) -> None:
        """Start each of these again from its tokens; what their cache holds after a failed step is unknown."""
        for sequence in reversed(sequences):
            self._leave_runner(self._by_sequence[sequence.sequence_id])
            sequence.alone = True
            self._scheduler.requeue(sequence)

    def _next_token(self, generation: Generation, logits: NDArray[np.float32]) -> None:
        """Draw a token from ``logits`` (float32 ``[vocab]``), emit what it comes to, and end the request if that was all."""
        had = len(generation.sequence.tokens)
        try:
            generation.draw(logits)
        except Exception as error:  # noqa: BLE001 - only this request's sampler and text are involved
            self._fail(generation, error)
            return
        self._tell(generation, had)

    def _next_token_of(self, sequence: Sequence, logits: NDArray[np.float32]) -> None:
        """The same for a sequence that was in a step, unless more tokens stand after the one that was fed."""
        generation = self._by_sequence.get(sequence.sequence_id)
        # An earlier row's event may have led its receiver to cancel this one.
        if generation is not None and not sequence.missing:
            self._next_token(generation, logits)

    def _tell(self, generation: Generation, had: int) -> None:
        """Emit what the tokens after the first ``had`` come to, which were just taken, and end the request if that was all."""
        self._completion_tokens_total += len(generation.sequence.tokens) - had
        if generation.end is None:
            generation.report()
            return
        self._forget(generation, keep=True)
        generation.report()
        generation.emit(generation.finished(generation.end))

    # ---- beginnings and ends ----

    def _fail(self, generation: Generation, error: Exception) -> None:
        if not isinstance(error, InvalidRequestError | OutOfMemoryError):
            self._scheduler.distrust(generation.sequence)
        self._forget(generation, keep=False)
        generation.emit(Failed(as_runtime_error(error)))

    def _forget(self, generation: Generation, *, keep: bool) -> None:
        """Free everything that a request holds; its pages are free before its last event is out, or kept for whoever needs them.

        Args:
            generation: The request.
            keep: What the runner holds for it is known to be its tokens.
        """
        if self._scheduler.remove(generation.sequence, keep=keep):
            generation.in_runner = False
        self._leave_runner(generation)
        del self._by_request[generation.request_id]
        del self._by_sequence[generation.sequence.sequence_id]

    def _may_keep(self, pages: int) -> bool:
        """Whether memory is plenty enough for so many pages in use, some of them only kept in case they are asked for again."""
        headroom_mib = self._runner.headroom_mib
        return headroom_mib is None or (headroom_mib >= _KEEP_FREE_MIB and self._runner.shortage(pages) is None)

    def _leave_runner(self, generation: Generation) -> None:
        # A runner that cannot even forget a sequence is broken for everybody: let that exception reach the owner.
        if generation.in_runner:
            generation.in_runner = False
            self._runner.remove_sequence(generation.sequence.sequence_id)


def as_runtime_error(error: Exception) -> LocalRuntimeError:
    """The coded error for any exception that a request met.

    An unexpected exception is named by its type and place only: its text may quote the conversation, and errors travel
    into logs.
    """
    if isinstance(error, LocalRuntimeError):
        return error
    if isinstance(error, MemoryError):
        return OutOfMemoryError(
            "The engine ran out of memory in this request.", "Free memory, or ask with a shorter prompt or max_tokens."
        )
    report("a request failed unexpectedly", error)
    return EngineInternalError(
        f"The engine failed with {described(error)}.",
        "This is a defect; its traceback is in the engine's log.",
    )
