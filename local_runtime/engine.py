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
from local_runtime.events import EngineStats, Event, Failed
from local_runtime.generation import Generation
from local_runtime.healing import BegunAnswer, Healing, take_back
from local_runtime.process_memory import peak_rss_mib, rss_mib
from local_runtime.sampling import Sampler
from local_runtime.scheduler import DecodeStep, EvictStep, PrefillStep, Scheduler
from local_runtime.sequence import Sequence

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from local_runtime.model_interface import Model
    from local_runtime.options import GenerateRequest

__all__ = ["Engine", "as_runtime_error"]


class Engine:
    """Continuous batching over one loaded model.

    Args:
        model: The loaded model; the engine closes its runner in :meth:`close`.
        max_waiting: How many requests may wait; a further one fails with ``OverloadedError``. None sets no limit.

    Attributes:
        info: What was loaded.
        beat: Grows with every step and every command; an engine whose beat stands still is stuck or has nothing to do.
    """

    def __init__(self, model: Model, *, max_waiting: int | None = None) -> None:
        self.info = model.info
        self.beat = 0
        self._runner = model.runner
        self._tokenizer = model.tokenizer
        self._recommended_sampling = model.recommended_sampling
        self._scheduler = Scheduler(
            total_pages=self._runner.total_pages,
            page_tokens=self._runner.page_tokens,
            max_sequences=self._runner.max_sequences,
            prefill_chunk_tokens=self._runner.prefill_chunk_tokens,
            max_waiting=max_waiting,
            shortage=self._runner.shortage,
        )
        self._capacity_tokens = self._runner.total_pages * self._runner.page_tokens
        self._sequence_ids = itertools.count()
        self._by_request: dict[int, Generation] = {}
        self._by_sequence: dict[int, Generation] = {}
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
            generation = self._prepare(request_id, request, emit, submitted_at)
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
        self._forget(generation)
        generation.emit(generation.finished("cancelled"))
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
        self.beat += 1
        try:
            return len(self._tokenizer.encode_chat(messages, **chat_template_kwargs))
        except Exception as error:  # noqa: BLE001 - raised again, without what may quote the conversation
            raise as_runtime_error(error) from None

    def stats(self) -> EngineStats:
        """The engine at this moment."""
        self.beat += 1
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
        step = self._scheduler.next_step()
        if isinstance(step, PrefillStep):
            self._prefill(step)
        elif isinstance(step, DecodeStep):
            self._decode(step)
        elif isinstance(step, EvictStep):
            self._evict(step)
        self.beat += 1

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

    def _evict(self, step: EvictStep) -> None:
        generation = self._by_sequence[step.sequence.sequence_id]
        if step.error is None:
            self._leave_runner(generation)
        else:
            self._fail(generation, step.error)

    def _take_apart(self, sequences: tuple[Sequence, ...]) -> None:
        """Start each of these again from its tokens; what their cache holds after a failed step is unknown."""
        for sequence in reversed(sequences):
            self._leave_runner(self._by_sequence[sequence.sequence_id])
            sequence.alone = True
            self._scheduler.requeue(sequence)

    def _next_token(self, generation: Generation, logits: NDArray[np.float32]) -> None:
        """Draw a token from ``logits`` (float32 ``[vocab]``), emit what it comes to, and end the request if that was all."""
        try:
            text = generation.draw(logits)
        except Exception as error:  # noqa: BLE001 - only this request's sampler and text are involved
            self._fail(generation, error)
            return
        self._completion_tokens_total += 1
        if generation.end is None:
            generation.report(text)
            return
        self._forget(generation)
        generation.report(text)
        generation.emit(generation.finished(generation.end))

    # ---- beginnings and ends ----

    def _prepare(
        self, request_id: int, request: GenerateRequest, emit: Callable[[Event], None], submitted_at: float
    ) -> Generation:
        prompt, said = self._prompt(request)
        room = self._room(len(prompt), len(said))
        stops = StopStrings(request.stop)
        is_whole = stops.begin(request.answer_begun)
        begun = BegunAnswer(said) if is_whole else self._begun(said, request.answer_begun)
        max_tokens = room if request.max_tokens is None else request.max_tokens
        sequence = Sequence(
            next(self._sequence_ids),
            [*prompt, *begun.kept],
            # What is said again is no part of max_tokens, and takes at most a token for each byte.
            min(max_tokens + len(begun.remainder), room + begun.taken_back),
            conversation=request.conversation,
            open_ended=request.max_tokens is None,
        )
        sampler = Sampler(request.sampling.over(self._recommended_sampling), prompt)
        sampler.continue_after(begun.kept, drawn=False)
        generation = Generation(
            request_id=request_id,
            emit=emit,
            sequence=sequence,
            sampler=sampler,
            detokenizer=IncrementalDetokenizer(
                self._tokenizer, bytes_out=len(begun.remainder) if request.answer_begun else None
            ),
            stops=stops,
            eos_ids=frozenset() if request.ignore_eos else self._tokenizer.eos_ids,
            prompt_tokens=len(prompt),
            max_tokens=max_tokens,
            submitted_at=submitted_at,
            begun_tokens=len(begun.kept),
            healing=self._healing(begun.remainder),
            end="stop" if is_whole else None,
        )
        if request.answer_begun_ids is not None and generation.end is None:
            self._replay(generation, request.answer_begun_ids)
        return generation

    def _prompt(self, request: GenerateRequest) -> tuple[list[int], list[int]]:
        """Tokens of the prompt, and of the answer that somebody else has begun."""
        begun = request.answer_begun
        if request.raw_token_ids is not None:
            self._check_ids("raw_token_ids", request.raw_token_ids)
            return request.raw_token_ids, self._tokenizer.encode(begun) if begun else []
        if begun:
            prompt, said = self._tokenizer.encode_begun(request.messages, begun, **request.chat_template_kwargs)
        else:
            prompt, said = self._tokenizer.encode_chat(request.messages, **request.chat_template_kwargs), []
        if not prompt:
            raise InvalidRequestError("The conversation comes to no tokens at all.", "Give a message with content.")
        return prompt, said

    def _begun(self, said: list[int], text: str) -> BegunAnswer:
        """Which of the begun answer's tokens to keep, and what to say again."""
        if not said:
            return BegunAnswer([])
        token_bytes = self._tokenizer.token_bytes
        return take_back(said, token_bytes.left_out_first + text.encode(), token_bytes.of, self._tokenizer.prefixes())

    def _healing(self, remainder: bytes) -> Healing | None:
        return Healing(remainder, self._tokenizer.prefixes(), self._tokenizer.token_bytes.of) if remainder else None

    def _replay(self, generation: Generation, token_ids: list[int]) -> None:
        self._check_ids("answer_begun_ids", token_ids)
        tokens = len(generation.sequence.tokens) + len(token_ids)
        room = min(self._runner.context_tokens, self._capacity_tokens)
        if tokens > room:
            raise OutOfMemoryError(
                f"The prompt and the answer so far have {tokens} tokens, but there is memory for {room} now.",
                "Ask again when more memory is free.",
            )
        generation.replay(token_ids)

    def _check_ids(self, name: str, token_ids: list[int]) -> None:
        vocab_size = self._runner.vocab_size
        for index, token in enumerate(token_ids):
            if token >= vocab_size:
                raise InvalidRequestError(
                    f"{name}[{index}] is {token}, but this model's vocabulary has {vocab_size} tokens.",
                    f"Give ids from 0 to {vocab_size - 1}.",
                )

    def _room(self, prompt_tokens: int, begun_tokens: int) -> int:
        """How many tokens may follow a prompt and a begun answer, up to the end of the context."""
        tokens, context_tokens = prompt_tokens + begun_tokens, self._runner.context_tokens
        what = f"The prompt has {prompt_tokens} tokens"
        if begun_tokens:
            what = f"The prompt and the beginning of its answer have {tokens} tokens"
        if tokens >= context_tokens:
            raise ContextLengthExceededError(
                f"{what}, but the context of {self.info.name} holds {context_tokens} for prompt and answer together.",
                f"Shorten the conversation by at least {tokens - context_tokens + 1} tokens, or load the model "
                "with a larger context_tokens if it has one.",
            )
        if tokens >= self._capacity_tokens:
            raise OutOfMemoryError(
                f"{what}, but the key-value cache has memory for {self._capacity_tokens}.",
                "Shorten the conversation, or load the model where more memory is free.",
            )
        return min(context_tokens, self._capacity_tokens) - tokens

    def _fail(self, generation: Generation, error: Exception) -> None:
        self._forget(generation)
        generation.emit(Failed(as_runtime_error(error)))

    def _forget(self, generation: Generation) -> None:
        """Free everything that a request holds; its pages are free before its last event is out."""
        self._leave_runner(generation)
        self._scheduler.remove(generation.sequence)
        del self._by_request[generation.request_id]
        del self._by_sequence[generation.sequence.sequence_id]

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
