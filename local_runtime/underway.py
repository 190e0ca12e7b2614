"""What is under way in the engine, from its submission to its last event, over however many workers it takes.

Standard library only: the application's process imports this module.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, TypeAlias

from local_runtime.events import Failed, Finished, TextDelta, Timings, Usage
from local_runtime.protocol import CountPromptTokens, DeltaReply, FinishedReply, Generate, RestoreState, SaveState

if TYPE_CHECKING:
    from collections.abc import Callable

    from local_runtime.errors import LocalRuntimeError
    from local_runtime.events import Event
    from local_runtime.options import GenerateRequest

__all__ = ["Answer", "Asked", "Question", "Underway"]

Asked: TypeAlias = CountPromptTokens | SaveState | RestoreState
"""What has one reply."""


class Underway(ABC):
    """Something that was asked of the engine and has no end yet.

    The supervisor's thread owns it while no worker has it, and the thread that reads the worker's replies while one has.

    Args:
        id: Its number, the same in every worker.
    """

    def __init__(self, id: int) -> None:  # noqa: A002 - the field's name on the wire
        self.id = id
        self.cancelled = False
        """Nobody waits for it any more: it is not sent to another worker."""
        self.sent = False
        """Whether the present worker has it."""
        self.lives = 0
        """How many workers have had it."""
        self.moved = False
        """Whether it has got further in the present worker."""
        self.deaths = 0
        """Deaths in a row at which it was under way in a loaded worker and had not got further."""

    @abstractmethod
    def command(self) -> Generate | Asked:
        """What to send to the next worker."""

    @abstractmethod
    def fail(self, error: LocalRuntimeError) -> Event | None:
        """End it with an error; returns the event that its receiver is owed, if it has one."""

    @abstractmethod
    def cancel(self) -> Event | None:
        """End it because nobody waits for it; returns the event that its receiver is owed, if it has one."""

    def forget(self) -> None:  # noqa: B027 - a question keeps nothing
        """It has ended: keep nothing of what was asked, for somebody may keep its handle."""


class Answer(Underway):
    """A request for an answer.

    Args:
        id: Its number, the same in every worker.
        request: What was asked.
        on_event: Takes the events.
    """

    def __init__(self, id: int, request: GenerateRequest, on_event: Callable[[Event], None]) -> None:  # noqa: A002
        super().__init__(id)
        self.on_event: Callable[[Event], None] | None = on_event
        self._request: GenerateRequest | None = request
        self._ids: list[int] = []
        self._exact = True
        self._flushed = False
        self._submitted_at = time.monotonic()
        self._first_at: float | None = None
        self._begun_before = False

    @property
    def can_go_on(self) -> bool:
        """Whether another worker can go on exactly where the last one stopped; it can't without the tokens of what was said."""
        return self._exact

    def command(self) -> Generate:
        """The request, and for a further worker the tokens that were given out."""
        request = self._request
        assert request is not None, "it has ended"
        if not self._ids:
            return Generate(self.id, request)
        self._begun_before = True
        begun = [*(request.answer_begun_ids or ()), *self._ids]
        return Generate(self.id, dataclasses.replace(request, answer_begun_ids=begun))

    def take(self, reply: DeltaReply) -> TextDelta | None:
        """Take in a further piece; returns the event that the receiver is owed, if any."""
        if self._first_at is None:
            self._first_at = time.monotonic()
        if reply.ids:
            self._ids += reply.ids
        elif self._flushed and not reply.tokens:
            # The rest that was held back until the end came already, from a worker that died before it could say that
            # this was the end. It belongs to no token, so the next worker can't know.
            return None
        elif reply.tokens:
            self._exact = False
        elif reply.text:
            self._flushed = True
        return TextDelta(reply.text, reply.tokens, reply.ids, reply.reasoning, reply.tool_calls, reply.logprobs)

    def finish(self, reply: FinishedReply) -> Finished:
        """The last event of an answer that has come to its end."""
        return Finished(reply.reason, reply.usage, self._timings(reply.timings), reply.prompt_logprobs)

    def fail(self, error: LocalRuntimeError) -> Failed:
        """The last event of an answer that comes to no end."""
        return Failed(error)

    def cancel(self) -> Finished:
        """The last event of an answer that no worker has; nobody knows how many tokens its prompt had."""
        now = time.monotonic()
        ttft_s = 0.0 if self._first_at is None else self._first_at - self._submitted_at
        waited_s = now - self._submitted_at - ttft_s
        timings = Timings(waited_s) if self._first_at is None else Timings(0.0, ttft_s, waited_s, ttft_s)
        return Finished("cancelled", Usage(completion_tokens=len(self._ids)), timings)

    def forget(self) -> None:
        """Keep neither the request nor its tokens, nor the receiver."""
        self._request = self.on_event = None
        self._ids = []

    def _timings(self, told: Timings) -> Timings:
        """The last worker's, with what was lost to those that died before it.

        It counts as waiting where the answer had not begun, else as part of what it took to generate it.
        """
        if self.lives <= 1:
            return told
        now = time.monotonic()
        if self._begun_before and self._first_at is not None:
            ttft_s = self._first_at - self._submitted_at
            return Timings(queue_s=0.0, prefill_s=ttft_s, decode_s=now - self._first_at, ttft_s=ttft_s)
        lost_s = max(0.0, now - self._submitted_at - told.queue_s - told.prefill_s - told.decode_s)
        ttft_s = told.ttft_s + lost_s if told.ttft_s else 0.0
        return dataclasses.replace(told, queue_s=told.queue_s + lost_s, ttft_s=ttft_s)


class Question(Underway):
    """A question with one reply.

    Args:
        id: Its number, the same in every worker.
        question: What is sent.
    """

    def __init__(self, id: int, question: Asked) -> None:  # noqa: A002
        super().__init__(id)
        self._question: Asked | None = question
        self.future: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def command(self) -> Asked:
        """The question, unchanged."""
        assert self._question is not None, "it has ended"
        return self._question

    def forget(self) -> None:
        """Keep the answer only."""
        self._question = None

    def answer(self, value: object) -> None:
        """Give the reply to whoever waits."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(value)

    def fail(self, error: LocalRuntimeError) -> None:
        """Give the error to whoever waits."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)

    def cancel(self) -> None:
        """Nobody waits."""
        self.future.cancel()
