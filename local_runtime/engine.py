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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local_runtime.crash_reports import described, report
from local_runtime.detokenizer import IncrementalDetokenizer, StopStrings
from local_runtime.errors import (
    ContextLengthExceededError,
    EngineInternalError,
    InvalidRequestError,
    LocalRuntimeError,
    OutOfMemoryError,
)
from local_runtime.events import EngineStats, Event, Failed, Finished, FinishReason, TextDelta, Timings, Usage
from local_runtime.process_memory import peak_rss_mib, rss_mib
from local_runtime.sampling import Sampler
from local_runtime.scheduler import DecodeStep, PrefillStep, Scheduler
from local_runtime.sequence import Sequence, SequenceState

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from local_runtime.model_interface import Model
    from local_runtime.options import GenerateRequest

__all__ = ["Engine", "as_runtime_error"]


@dataclass(eq=False, slots=True)
class _Generation:
    """All that belongs to one request while it is in the engine."""

    request_id: int
    emit: Callable[[Event], None]
    sequence: Sequence
    sampler: Sampler
    detokenizer: IncrementalDetokenizer
    stops: StopStrings
    eos_ids: frozenset[int]
    submitted_at: float
    admitted_at: float | None = None
    first_token_at: float | None = None
    unreported_tokens: int = 0
    in_runner: bool = False


class Engine:
    """Continuous batching over one loaded model.

    Args:
        model: The loaded model; the engine closes its runner in :meth:`close`.
    """

    def __init__(self, model: Model) -> None:
        self.info = model.info
        self._runner = model.runner
        self._tokenizer = model.tokenizer
        self._recommended_sampling = model.recommended_sampling
        self._scheduler = Scheduler(
            total_pages=self._runner.total_pages,
            page_tokens=self._runner.page_tokens,
            max_sequences=self._runner.max_sequences,
            prefill_chunk_tokens=self._runner.prefill_chunk_tokens,
        )
        self._capacity_tokens = self._runner.total_pages * self._runner.page_tokens
        self._sequence_ids = itertools.count()
        self._by_request: dict[int, _Generation] = {}
        self._by_sequence: dict[int, _Generation] = {}
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
        self._requests_total += 1
        submitted_at = time.perf_counter()
        try:
            generation = self._prepare(request_id, request, emit, submitted_at)
            self._scheduler.add(generation.sequence)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with this request ends this request only
            emit(Failed(as_runtime_error(error)))
            return
        self._by_request[request_id] = generation
        self._by_sequence[generation.sequence.sequence_id] = generation

    def cancel(self, request_id: int) -> bool:
        """End a request now, free its pages and emit ``Finished("cancelled")``; False if there is no such request."""
        generation = self._by_request.get(request_id)
        if generation is None:
            return False
        self._finish(generation, "cancelled")
        return True

    def cancel_all(self) -> None:
        """Cancel every request."""
        for request_id in list(self._by_request):
            self.cancel(request_id)

    def count_prompt_tokens(self, messages: list[dict[str, Any]], chat_template_kwargs: dict[str, Any]) -> int:
        """How many tokens a conversation comes to as a prompt, the chat template's own included.

        Raises:
            LocalRuntimeError: The chat template refuses the conversation.
        """
        try:
            return len(self._tokenizer.encode_chat(messages, **chat_template_kwargs))
        except Exception as error:  # noqa: BLE001 - raised again, without what may quote the conversation
            raise as_runtime_error(error) from None

    def stats(self) -> EngineStats:
        """The engine at this moment."""
        return EngineStats(
            state="ready",
            running=self._scheduler.num_admitted,
            waiting=self._scheduler.num_waiting,
            max_sequences=self._scheduler.max_sequences,
            pages_total=self._scheduler.total_pages,
            pages_free=self._runner.available_pages(),
            page_tokens=self._scheduler.page_tokens,
            rss_mib=rss_mib(),
            peak_rss_mib=peak_rss_mib(),
            requests_total=self._requests_total,
            prompt_tokens_total=self._prompt_tokens_total,
            completion_tokens_total=self._completion_tokens_total,
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
        step = self._scheduler.next_step()
        if isinstance(step, PrefillStep):
            self._prefill(step)
        elif isinstance(step, DecodeStep):
            self._decode(step)

    def _prefill(self, step: PrefillStep) -> None:
        sequence = step.sequence
        generation = self._by_sequence[sequence.sequence_id]
        try:
            if not generation.in_runner:
                if generation.admitted_at is None:
                    generation.admitted_at = time.perf_counter()
                self._runner.add_sequence(sequence.sequence_id)
                generation.in_runner = True
            logits = self._runner.prefill(sequence.sequence_id, sequence.tokens[step.start : step.end])
        except Exception as error:  # noqa: BLE001 - only this sequence took part in the step
            self._fail(generation, error)
            return
        self._prompt_tokens_total += max(0, min(step.end, sequence.prompt_tokens) - step.start)
        self._scheduler.computed(step)
        if step.is_last:
            self._next_token(generation, logits)

    def _decode(self, step: DecodeStep) -> None:
        sequences = step.sequences
        try:
            logits = self._runner.decode(
                [sequence.sequence_id for sequence in sequences], [sequence.tokens[-1] for sequence in sequences]
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
            generation = self._by_sequence.get(sequence.sequence_id)
            if generation is not None:  # An earlier row's event may have led its receiver to cancel this one.
                self._next_token(generation, logits[row])

    def _take_apart(self, sequences: tuple[Sequence, ...]) -> None:
        """Start each of these again from its tokens; what their cache holds after a failed step is unknown."""
        for sequence in reversed(sequences):
            self._leave_runner(self._by_sequence[sequence.sequence_id])
            sequence.alone = True
            self._scheduler.requeue(sequence)

    def _next_token(self, generation: _Generation, logits: NDArray[np.float32]) -> None:
        """Draw a token from ``logits`` (float32 ``[vocab]``), emit its text, and finish the request if that was all."""
        sequence = generation.sequence
        try:
            token = generation.sampler.sample(logits)
            sequence.tokens.append(token)
            generation.unreported_tokens += 1
            ended = token in generation.eos_ids
            text, stopped = ("", False) if ended else generation.stops.push(generation.detokenizer.push(token))
        except Exception as error:  # noqa: BLE001 - only this request's sampler and text are involved
            self._fail(generation, error)
            return
        self._completion_tokens_total += 1
        if generation.first_token_at is None:
            generation.first_token_at = time.perf_counter()
        self._emit_text(generation, text)
        if generation.sequence.state is SequenceState.DONE:
            return  # The receiver of that text cancelled the request.
        if ended or stopped:
            self._finish(generation, "stop", flush=not stopped)
        elif sequence.generated == sequence.max_tokens:
            self._finish(generation, "length", flush=True)

    # ---- beginnings and ends ----

    def _prepare(
        self, request_id: int, request: GenerateRequest, emit: Callable[[Event], None], submitted_at: float
    ) -> _Generation:
        prompt = self._prompt(request)
        sequence = Sequence(next(self._sequence_ids), list(prompt), self._room(len(prompt), request.max_tokens))
        return _Generation(
            request_id=request_id,
            emit=emit,
            sequence=sequence,
            sampler=Sampler(request.sampling.over(self._recommended_sampling), prompt),
            detokenizer=IncrementalDetokenizer(self._tokenizer),
            stops=StopStrings(request.stop),
            eos_ids=frozenset() if request.ignore_eos else self._tokenizer.eos_ids,
            submitted_at=submitted_at,
        )

    def _prompt(self, request: GenerateRequest) -> list[int]:
        if request.raw_token_ids is None:
            prompt = self._tokenizer.encode_chat(request.messages, **request.chat_template_kwargs)
            if not prompt:
                raise InvalidRequestError("The conversation comes to no tokens at all.", "Give a message with content.")
            return prompt
        vocab_size = self._runner.vocab_size
        for index, token in enumerate(request.raw_token_ids):
            if token >= vocab_size:
                raise InvalidRequestError(
                    f"raw_token_ids[{index}] is {token}, but this model's vocabulary has {vocab_size} tokens.",
                    f"Give ids from 0 to {vocab_size - 1}.",
                )
        return request.raw_token_ids

    def _room(self, prompt_tokens: int, max_tokens: int | None) -> int:
        """How many tokens this prompt may be followed by: ``max_tokens``, but never past the end of the context."""
        context_tokens = self._runner.context_tokens
        if prompt_tokens >= context_tokens:
            raise ContextLengthExceededError(
                f"The prompt has {prompt_tokens} tokens, but the context of {self.info.name} holds {context_tokens} "
                "for prompt and answer together.",
                f"Shorten the conversation by at least {prompt_tokens - context_tokens + 1} tokens, or load the model "
                "with a larger context_tokens if it has one.",
            )
        if prompt_tokens >= self._capacity_tokens:
            raise OutOfMemoryError(
                f"The prompt has {prompt_tokens} tokens, but the key-value cache has memory for "
                f"{self._capacity_tokens}.",
                "Shorten the conversation, or load the model where more memory is free.",
            )
        room = min(context_tokens, self._capacity_tokens) - prompt_tokens
        return room if max_tokens is None else min(max_tokens, room)

    def _finish(self, generation: _Generation, reason: FinishReason, *, flush: bool = False) -> None:
        text = ""
        if flush:
            try:
                # A model that ends by itself meant its last bytes. Where it was cut off, half a character is not its text.
                last = "" if reason == "length" else generation.detokenizer.flush()
                text, stopped = generation.stops.push(last)
                if stopped:
                    reason = "stop"
                else:
                    text += generation.stops.flush()
            except Exception as error:  # noqa: BLE001 - only this request's text is involved
                self._fail(generation, error)
                return
        self._forget(generation)
        self._emit_text(generation, text)
        sequence = generation.sequence
        usage = Usage(prompt_tokens=sequence.prompt_tokens, completion_tokens=sequence.generated)
        generation.emit(Finished(reason, usage, _timings(generation)))

    def _fail(self, generation: _Generation, error: Exception) -> None:
        self._forget(generation)
        generation.emit(Failed(as_runtime_error(error)))

    def _forget(self, generation: _Generation) -> None:
        """Free everything that a request holds; its pages are free before its last event is out."""
        self._leave_runner(generation)
        self._scheduler.remove(generation.sequence)
        del self._by_request[generation.request_id]
        del self._by_sequence[generation.sequence.sequence_id]

    def _leave_runner(self, generation: _Generation) -> None:
        # A runner that cannot even forget a sequence is broken for everybody: let that exception reach the owner.
        if generation.in_runner:
            generation.in_runner = False
            self._runner.remove_sequence(generation.sequence.sequence_id)

    def _emit_text(self, generation: _Generation, text: str) -> None:
        if text:
            tokens, generation.unreported_tokens = generation.unreported_tokens, 0
            generation.emit(TextDelta(text, tokens))


def _timings(generation: _Generation) -> Timings:
    now = time.perf_counter()
    admitted_at = now if generation.admitted_at is None else generation.admitted_at
    first_token_at = generation.first_token_at
    return Timings(
        queue_s=admitted_at - generation.submitted_at,
        prefill_s=(now if first_token_at is None else first_token_at) - admitted_at,
        decode_s=0.0 if first_token_at is None else now - first_token_at,
        ttft_s=0.0 if first_token_at is None else first_token_at - generation.submitted_at,
    )


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
