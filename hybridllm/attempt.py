"""One place is asked once: what becomes of it is written into its ``Attempt``, and how fast it was into its latency."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from hybridllm.backends.base import Burst, ContentDelta, Finished
from hybridllm.errors import (
    AuditError,
    BreakerOpen,
    Cancelled,
    ContentFiltered,
    ContextLengthExceeded,
    DeadlineExceeded,
    EngineError,
    HybridLLMError,
    Overloaded,
    PolicyDenied,
    PolicyTightened,
    RedactionFailed,
    RemoteError,
)
from hybridllm.restored_answer import AnswerRestorer
from hybridllm.types.completion_usage import CompletionUsage
from hybridllm.types.route import Attempt
from policies import LOCAL

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from hybridllm.backends.base import Backend, BackendCall, BackendEvent
    from hybridllm.latency import DeviceLatency, Latency
    from hybridllm.redaction import Redaction
    from hybridllm.types.route import Why

__all__ = ["AttemptFailed", "AttemptRun", "Clock", "shown"]

_T = TypeVar("_T")
# These say nothing about how fast a place is, or whether it could answer.
_NOT_THE_PLACES_FAULT = (AuditError, PolicyTightened, RedactionFailed, BreakerOpen, ContextLengthExceeded, Overloaded)


class AttemptFailed(Exception):  # noqa: N818 - never leaves the router
    """An attempt ended in a way that lets the next candidate be asked.

    Args:
        place: Who was asked.
        error: What went wrong.
    """

    def __init__(self, place: str, error: HybridLLMError) -> None:
        super().__init__()
        self.place = place
        self.error = error


class Clock:
    """The time of one request.

    Args:
        began_s: When it came in, on the clock of ``time.monotonic``.
        limit_s: Seconds that it may take from then on; None for no limit.

    Attributes:
        began_s: As given.
        deadline_s: When it must be over; None for no limit.
    """

    def __init__(self, began_s: float, limit_s: float | None) -> None:
        self.began_s = began_s
        self.deadline_s = None if limit_s is None else began_s + limit_s
        self._limit_s = limit_s

    def elapsed_s(self) -> float:
        """Seconds since the request came in."""
        return round(time.monotonic() - self.began_s, 6)

    def left_s(self) -> float | None:
        """Seconds until the deadline; None where there is none."""
        return None if self.deadline_s is None else self.deadline_s - time.monotonic()

    async def in_time(self, step: Awaitable[_T], until_s: float | None = None) -> _T:
        """Wait for one step, at most until the deadline.

        Args:
            step: What to wait for.
            until_s: An earlier end, on the clock of ``time.monotonic``.

        Raises:
            DeadlineExceeded: The deadline has passed.
            TimeoutError: The earlier end has passed.
        """
        if self.deadline_s is None and until_s is None:
            return await step
        ends = [end for end in (self.deadline_s, until_s) if end is not None]
        try:
            async with asyncio.timeout(min(ends) - time.monotonic()) as limit:
                return await step
        except TimeoutError:
            if not limit.expired():
                raise
            if until_s is not None and (self.deadline_s is None or until_s < self.deadline_s):
                raise
            raise self.exceeded() from None

    def exceeded(self) -> DeadlineExceeded:
        """The error that the deadline has passed."""
        return DeadlineExceeded(
            f"The answer was not whole within deadline_s={self._limit_s:g}.", "Allow more time, or fewer tokens."
        )


class AttemptRun:
    """One attempt under way.

    Args:
        place: Who is asked.
        why: Why.
        backend: The place.
        call: What is asked.
        clock: The request's time.
        latency: Where to note how fast the place was.
        on_device: Where to note what a first token costs there; None for a place elsewhere.
        redaction: Gives the request as this place may see it; None where it may see all of it.
        first_by_s: When the first piece has to be there that is no thought, so that somebody else can still answer; None for the
            deadline.
        whole_by_s: When all of it has to be there, for the same reason.

    Attributes:
        attempt: What is written down of it.
        ledger: What it cost so far.
        model: The model that answers.
        tokens: Tokens that came.
        first_token_s: When the first one came, a thought too, on the clock of ``time.monotonic``; None before.
        last_token_s: When the last one came.
        finished: How it ended; None before, and where it did not.
        restorer: Puts originals back into a redacted request's answer; None elsewhere.
    """

    def __init__(
        self,
        place: str,
        why: Why,
        backend: Backend,
        call: BackendCall,
        *,
        clock: Clock,
        latency: Latency,
        on_device: DeviceLatency | None = None,
        redaction: Callable[[], Awaitable[Redaction]] | None,
        first_by_s: float | None = None,
        whole_by_s: float | None = None,
    ) -> None:
        self.place = place
        self.attempt = Attempt(place=place, why=why, outcome="running", started_s=clock.elapsed_s())
        self.ledger = call.ledger
        self.model = backend.model
        self.tokens = 0
        self.first_token_s: float | None = None
        self.last_token_s = 0.0
        self.finished: Finished | None = None
        self.restorer: AnswerRestorer | None = None
        self._backend = backend
        self._call = call
        self._clock = clock
        self._latency = latency
        self._on_device = on_device
        self._redaction = redaction
        self._first_by_s = first_by_s
        self._whole_by_s = whole_by_s
        self._asked_s: float | None = None
        self._answering = False
        self._events = self._generated()
        self._ready: BackendEvent | None = None

    async def first(self) -> None:
        """Wait until the first piece is there; it is the first that is read afterwards.

        Raises:
            AttemptFailed: The place failed, and another one may be asked.
            HybridLLMError: The request has ended.
        """
        self._ready = await anext(self._events)

    def events(self) -> AsyncGenerator[BackendEvent, None]:
        """The answer's events, without what ``take_first`` returns; the errors are those of ``first``."""
        return self._events

    def take_first(self) -> BackendEvent | None:
        """The first piece, if ``first`` has waited for it; once."""
        ready, self._ready = self._ready, None
        return ready

    async def aclose(self, *, slower: bool = False) -> None:
        """Stop; what the place held is freed.

        Args:
            slower: It is stopped because another place was faster, which says something about its speed.
        """
        if slower and self._asked_s is not None and self.first_token_s is None:
            self._latency.note_at_least((time.monotonic() - self._asked_s) * 1000)
        await self._events.aclose()
        if self.attempt.outcome == "running":  # it was never begun
            self._end("cancelled")

    def write_down(self) -> Attempt:
        """The attempt as it stands."""
        attempt = self.attempt
        refused = attempt.error_type == "BreakerOpen"  # a place of somebody else's may not count its tries
        attempt.tries = self.ledger.tries if refused else max(1, self.ledger.tries)
        attempt.egress_bytes = self.ledger.egress_bytes
        if self.finished is not None:
            attempt.usage = self.finished.usage
        elif self.tokens:
            attempt.usage = CompletionUsage(prompt_tokens=0, completion_tokens=self.tokens, total_tokens=self.tokens)
        return attempt

    async def _generated(self) -> AsyncGenerator[BackendEvent, None]:
        try:
            call = self._call
            if self._redaction is not None:
                redaction = await self._clock.in_time(self._redaction())
                self.restorer = AnswerRestorer(redaction)
                call = replace(call, request=redaction.request)
            await self._clock.in_time(self._backend.start(), self._first_by_s)
            self._asked_s = time.monotonic()
            async with aclosing(self._backend.stream(call)) as events:
                while True:
                    until_s = self._whole_by_s if self._answering else self._first_by_s
                    if until_s is None and self._clock.deadline_s is None:
                        event = await anext(events)
                    else:
                        event = await self._clock.in_time(anext(events), until_s)
                    one_by_one = event.pieces if isinstance(event, Burst) else (event,)
                    for one in one_by_one:
                        self._note(one, self._asked_s)
                    if isinstance(event, Finished):
                        self._end("served")
                    if self.restorer is None:
                        yield event
                    else:
                        for one in one_by_one:
                            for restored in self.restorer.restore(one):
                                yield restored
                    if isinstance(event, Finished):
                        return
        except (PolicyDenied, ContentFiltered, DeadlineExceeded, Cancelled) as error:
            self._failed(error, slow=isinstance(error, DeadlineExceeded))
            raise
        except HybridLLMError as error:
            self._failed(error, slow=not isinstance(error, _NOT_THE_PLACES_FAULT))
            raise AttemptFailed(self.place, error) from error
        except TimeoutError:
            late = self._too_late()
            self._failed(late, slow=True)
            raise AttemptFailed(self.place, late) from None
        except StopAsyncIteration:
            cut = EngineError(f"{self.place} ended its answer without saying how.", "Ask again.")
            self._failed(cut, slow=False)
            raise AttemptFailed(self.place, cut) from None
        except Exception as error:  # a backend can be somebody else's code
            defect = EngineError(
                f"{self.place} failed with a {type(error).__name__}.", "This is a defect of that place."
            )
            self._failed(defect, slow=False)
            raise AttemptFailed(self.place, defect) from error
        finally:
            if self.attempt.outcome == "running":
                self._end("cancelled")

    def _note(self, event: ContentDelta | Finished, asked_s: float) -> None:
        now = time.monotonic()
        if isinstance(event, ContentDelta):
            if self.first_token_s is None:
                self.first_token_s = now
                self.attempt.ttft_ms = round((now - self._clock.began_s - self.attempt.started_s) * 1000, 3)
                self._latency.note_first_token((now - asked_s) * 1000)
            self._answering = self._answering or not event.is_thought
            self.last_token_s = now
            self.tokens += event.tokens
            return
        self.finished = event
        self.model = event.model or self.model
        if event.usage is not None and event.usage.completion_tokens:
            self.tokens = event.usage.completion_tokens
        if self.first_token_s is not None:
            self._latency.note_speed(self.tokens - 1, self.last_token_s - self.first_token_s)
            if self._on_device is not None and event.usage is not None:
                details = event.usage.prompt_tokens_details
                cached = 0 if details is None else details.cached_tokens or 0
                ttft_ms = (self.first_token_s - asked_s) * 1000
                self._on_device.note_first_token(ttft_ms, event.usage.prompt_tokens, cached, event.queue_s or 0.0)

    def _failed(self, error: HybridLLMError, *, slow: bool) -> None:
        """Write a failure down; one that took its time teaches something too, unless the place was not even asked yet."""
        self.attempt.error, self.attempt.error_type = shown(error), type(error).__name__
        self._end("failed")
        if not slow:
            return
        now = time.monotonic()
        if self.first_token_s is not None:
            self._latency.note_speed(self.tokens - 1, now - self.first_token_s)
        elif self._asked_s is not None:
            waited_ms = (now - self._asked_s) * 1000
            if isinstance(error, DeadlineExceeded):  # it was still at work
                self._latency.note_at_least(waited_ms)
            else:
                self._latency.note_failure(waited_ms)

    def _too_late(self) -> HybridLLMError:
        kind = EngineError if self.place == LOCAL else RemoteError
        what = "was not whole" if self._answering else "had no token"
        return kind(
            f"{self.place}'s answer {what} in its share of the time; what is left of the deadline is for the others.",
            "Allow more time, or fewer tokens.",
        )

    def _end(self, outcome: str) -> None:
        self.attempt.outcome = outcome  # type: ignore[assignment]  # one of the three that it may be
        self.attempt.duration_s = round(self._clock.elapsed_s() - self.attempt.started_s, 6)


def shown(error: HybridLLMError) -> str:
    """An error's class and message, which never hold content."""
    return f"{type(error).__name__}: {error.message}"
