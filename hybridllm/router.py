"""One request on its way: the candidates of its decision are asked in order until one answers.

A refusal for privacy is final. Until something of an answer was given out, a place that fails is followed by the next one;
afterwards the failure is the caller's to know.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from hybridllm.backends.base import Backend, BackendCall, BackendEvent, ContentDelta, Finished, Ledger
from hybridllm.errors import (
    AuditError,
    BadRequest,
    Cancelled,
    CannotServe,
    ContextLengthExceeded,
    DeadlineExceeded,
    EngineError,
    HybridLLMError,
    PolicyDenied,
    PolicyTightened,
    RedactionFailed,
    StreamInterrupted,
)
from hybridllm.redaction import Restorer
from hybridllm.types.route import Attempt, Route
from policies import LOCAL

if TYPE_CHECKING:
    from hybridllm.assessment import Assessment
    from hybridllm.latency import Latency
    from hybridllm.permits import Permit
    from hybridllm.redaction import Redaction
    from hybridllm.types.completion_usage import CompletionUsage
    from policies import Limits, Policy, Retries

__all__ = ["Answer", "Authorize", "Ended", "RequestRun"]

_T = TypeVar("_T")
_NOT_THE_PLACES_FAULT = (AuditError, PolicyTightened, RedactionFailed)

Authorize = Callable[..., "Permit"]
"""Mints a permit; see ``PermitOffice.mint``, whose policy, decision, remote and place are bound already."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    text: str = field(repr=False)
    """Its text."""

    refusal: str = field(repr=False)
    """The text of a refusal."""

    finished: Finished
    """How it ended."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A request that is over, however it ended."""

    request_id: str
    """Name of the request."""

    assessment: Assessment
    """What was known about it, and what was decided."""

    route: Route
    """Which way it went."""

    text: str = field(repr=False)
    """What of an answer was given out."""

    label: str
    """The label of that answer."""

    usage: CompletionUsage | None
    """Token counts, where the place gave them."""

    began_at_s: float
    """When it came in, in Unix seconds."""

    duration_s: float
    """How long it took, in seconds."""


class _AttemptFailed(Exception):  # noqa: N818 - never leaves this module
    """An attempt ended in a way that lets the next candidate be asked."""

    def __init__(self, error: HybridLLMError) -> None:
        super().__init__()
        self.error = error


class RequestRun:
    """One request on its way.

    Args:
        assessment: What is asked, and who may be asked, in order.
        backends: The places by name.
        latency: Where to note how fast they were.
        authorize: Mints the permits of this request, for places that are not on the device.
        on_end: Told the route and the answer, as far as it was given out, when the request is over.
        began_s: When the request came in, on the clock of ``time.monotonic``.
        deadline_s: Seconds that it may take from then on; None for no limit.
        limits: How long a remote may take.
        retries: What is repeated there.

    Attributes:
        request_id: Name of the request.
        created: When it came in, in Unix seconds.
        model: The model that answers; empty before one does.
    """

    def __init__(
        self,
        assessment: Assessment,
        backends: Mapping[str, Backend],
        latency: Mapping[str, Latency],
        authorize: Authorize,
        *,
        on_end: Callable[[Ended], None],
        began_s: float,
        deadline_s: float | None,
        limits: Limits,
        retries: Retries,
    ) -> None:
        self._limits = limits
        self._retries = retries
        self.request_id = f"chatcmpl-{uuid.uuid4().hex}"
        self.created = int(time.time())
        self.model = ""
        self._assessment = assessment
        self._request = assessment.labelled.request
        self._decision = assessment.decision
        self._on_end = on_end
        self._backends = backends
        self._latency = latency
        self._authorize = authorize
        self._began_s = began_s
        self._deadline_s = None if deadline_s is None else began_s + deadline_s
        self._limit_s = deadline_s
        self._attempts: list[Attempt] = []
        self._ledgers: list[Ledger] = []
        self._errors: list[HybridLLMError] = []
        self._first_token_s: float | None = None
        self._last_token_s = 0.0
        self._tokens = 0
        self._permits = 0
        self._redaction: Redaction | None = None
        self._restorer: Restorer | None = None
        self._usage: CompletionUsage | None = None
        self._given: list[str] = []
        self._over = False

    async def stream(self) -> AsyncGenerator[BackendEvent, None]:
        """The answer's events as they come, ``Finished`` last.

        Raises:
            StreamInterrupted: The place failed after it had given a part of the answer.
            HybridLLMError: Nobody could answer, or the request is not allowed, or its time is over.
        """
        given = self._given
        try:
            for position, place in enumerate(self._decision.candidates):
                try:
                    async with aclosing(self._attempt(place, position)) as events:
                        async for event in events:
                            if isinstance(event, ContentDelta):
                                given += (event.text, event.refusal)
                            else:
                                self._end("".join(given))  # whoever has read the last event need not come back
                            yield event
                    return
                except _AttemptFailed as failed:
                    if given:
                        raise StreamInterrupted(
                            f"{place} failed in the middle of its answer: {failed.error.message}",
                            "What was received so far is incomplete; ask again.",
                            attempts=self.route().attempts,
                        ) from failed.error
                    self._errors.append(failed.error)
            raise self._nobody_answered()
        finally:
            self._end("".join(given))

    async def whole(self) -> Answer:
        """The whole answer. Nothing was given out before it is there, so a place may fail at any moment.

        Raises:
            HybridLLMError: Nobody could answer, or the request is not allowed, or its time is over.
        """
        answer: Answer | None = None
        try:
            for position, place in enumerate(self._decision.candidates):
                texts: list[str] = []
                refusals: list[str] = []
                try:
                    async with aclosing(self._attempt(place, position)) as events:
                        async for event in events:
                            if isinstance(event, Finished):
                                answer = Answer("".join(texts), "".join(refusals), event)
                                break
                            texts.append(event.text)
                            refusals.append(event.refusal)
                except _AttemptFailed as failed:
                    self._errors.append(failed.error)
                if answer is not None:
                    return answer
            raise self._nobody_answered()
        finally:
            self._end("" if answer is None else answer.text + answer.refusal)

    @property
    def answer_label(self) -> str:
        """The label of the answer: that of what produced it.

        What a remote said about a redacted text is as sensitive as that text, until an original is put back into it: a piece
        of that could leave later without being recognised.
        """
        redacted_for = self._attempts[-1].place in self._decision.redacted_places if self._attempts else False
        if redacted_for and self._restorer is not None and not self._restorer.restored:
            return self._decision.redacted_label
        return self._decision.label

    def given_out(self) -> tuple[str, str]:
        """What of the answer was given out so far, and its label."""
        return "".join(self._given), self.answer_label

    @property
    def policy(self) -> Policy:
        """The policy that the request began with."""
        return self._assessment.labelled.policy

    @property
    def over(self) -> bool:
        """Whether the request has ended and was noted."""
        return self._over

    def _end(self, text: str) -> None:
        if not self._over:
            self._over = True
            route = self.route()
            self._on_end(
                Ended(
                    request_id=self.request_id,
                    assessment=self._assessment,
                    route=route,
                    text=text,
                    label=self.answer_label,
                    usage=self._usage,
                    began_at_s=time.time() - self._elapsed_s(),
                    duration_s=self._elapsed_s(),
                )
            )

    def route(self) -> Route:
        """Which way it went so far."""
        for attempt, ledger in zip(self._attempts, self._ledgers, strict=True):
            attempt.tries, attempt.egress_bytes = max(1, ledger.tries), ledger.egress_bytes
        served_by = self._attempts[-1].place if self._attempts else ""
        after_first_s = self._last_token_s - (self._first_token_s or 0.0)
        return Route(
            served_by=served_by,
            rule=self._decision.rule,
            rule_location=self._decision.location,
            reason=self._reason(served_by),
            label=self._decision.label,
            policy=self._decision.policy_name,
            policy_hash=self._decision.policy_hash,
            attempts=[attempt.model_copy() for attempt in self._attempts],
            egress_bytes=sum(attempt.egress_bytes for attempt in self._attempts),
            ttft_ms=None if self._first_token_s is None else round((self._first_token_s - self._began_s) * 1000, 3),
            tokens_per_s=round((self._tokens - 1) / after_first_s, 3)
            if self._tokens > 1 and after_first_s > 0
            else None,
        )

    async def _attempt(self, place: str, position: int) -> AsyncGenerator[BackendEvent, None]:
        """Ask one place and write down what became of it."""
        backend = self._backends[place]
        ledger = Ledger()
        attempt = Attempt(place=place, outcome="running", started_s=self._elapsed_s())
        self._attempts.append(attempt)
        self._ledgers.append(ledger)
        self._first_token_s, self._tokens = None, 0
        self.model = backend.model
        self._restorer = None
        call = BackendCall(
            request=self._request,
            request_id=self.request_id,
            deadline_s=self._deadline_s,
            ledger=ledger,
            others_left=position + 1 < len(self._decision.candidates),
            authorize=None if place == LOCAL else partial(self._permit, place),
            limits=self._limits,
            retries=self._retries,
        )
        asked_s = None
        try:
            if place in self._decision.redacted_places:
                redaction = self._redaction
                if redaction is None:
                    redaction = await self._in_time(asyncio.to_thread(self._assessment.redaction))
                self._redaction, self._restorer = redaction, Restorer(redaction)
                call = replace(call, request=redaction.request)
            await self._in_time(backend.start())
            asked_s = time.monotonic()
            async with aclosing(backend.stream(call)) as events:
                while True:
                    event = await self._in_time(anext(events))
                    self._note(place, event, asked_s)
                    if isinstance(event, Finished):
                        attempt.outcome, attempt.duration_s = "served", self._duration_s(attempt)
                    for restored in self._restored(event):
                        yield restored
                    if isinstance(event, Finished):
                        return
        except (PolicyDenied, DeadlineExceeded, Cancelled) as error:
            attempt.outcome, attempt.error = "failed", _shown(error)
            if isinstance(error, DeadlineExceeded):
                self._note_too_slow(place, asked_s)
            raise
        except HybridLLMError as error:
            attempt.outcome, attempt.error = "failed", _shown(error)
            if not isinstance(error, _NOT_THE_PLACES_FAULT):
                self._note_too_slow(place, asked_s)
            raise _AttemptFailed(error) from error
        except StopAsyncIteration:
            cut = EngineError(f"{place} ended its answer without saying how.", "Ask again.")
            attempt.outcome, attempt.error = "failed", _shown(cut)
            raise _AttemptFailed(cut) from None
        except Exception as error:  # a backend can be somebody else's code
            defect = EngineError(f"{place} failed with a {type(error).__name__}.", "This is a defect of that place.")
            attempt.outcome, attempt.error = "failed", _shown(defect)
            raise _AttemptFailed(defect) from error
        finally:
            if attempt.outcome == "running":
                attempt.outcome = "cancelled"
            attempt.duration_s = attempt.duration_s or self._duration_s(attempt)

    def _restored(self, event: BackendEvent) -> Iterator[BackendEvent]:
        """The event as the caller may have it: with the originals in place of the placeholders, where there are any."""
        if self._restorer is None:
            yield event
        elif isinstance(event, Finished):
            rest = self._restorer.rest()
            if rest:
                yield ContentDelta(text=rest, tokens=0)
            yield event
        else:
            text = self._restorer.push(event.text)
            if text or event.refusal:
                yield replace(event, text=text)

    def _permit(self, place: str, body: bytes) -> Permit:
        self._permits += 1
        return self._authorize(
            assessment=self._assessment, place=place, request_id=self.request_id, attempt=self._permits, body=body
        )

    async def _in_time(self, step: Awaitable[_T]) -> _T:
        """Wait for one step, at most until the deadline."""
        if self._deadline_s is None:
            return await step
        try:
            async with asyncio.timeout(self._deadline_s - time.monotonic()) as limit:
                return await step
        except TimeoutError:
            if not limit.expired():
                raise
            raise DeadlineExceeded(
                f"The answer was not whole within deadline_s={self._limit_s:g}.", "Allow more time, or fewer tokens."
            ) from None

    def _note(self, place: str, event: BackendEvent, asked_s: float) -> None:
        now = time.monotonic()
        latency = self._latency[place]
        if isinstance(event, ContentDelta):
            if self._first_token_s is None:
                self._first_token_s = now
                latency.note_first_token((now - asked_s) * 1000)
            self._last_token_s = now
            self._tokens += event.tokens
            return
        self.model = event.model or self.model
        self._usage = usage = event.usage
        if usage is not None and usage.completion_tokens:
            self._tokens = usage.completion_tokens
        if self._first_token_s is not None:
            latency.note_speed(self._tokens - 1, self._last_token_s - self._first_token_s)

    def _note_too_slow(self, place: str, asked_s: float | None) -> None:
        """A failure or a missed deadline teaches something too, unless the place was not even asked yet."""
        now = time.monotonic()
        if self._first_token_s is not None:
            self._latency[place].note_speed(self._tokens - 1, now - self._first_token_s)
        elif asked_s is not None:
            self._latency[place].note_failure((now - asked_s) * 1000)

    def _duration_s(self, attempt: Attempt) -> float:
        return round(self._elapsed_s() - attempt.started_s, 6)

    def _elapsed_s(self) -> float:
        return round(time.monotonic() - self._began_s, 6)

    def _reason(self, served_by: str) -> str:
        parts = [f"rule {self._decision.rule!r} asks {' before '.join(self._decision.candidates) or 'nobody'}"]
        parts += [
            f"{out.place} was left out: {out.why.rstrip('.')}"
            for out in self._decision.struck_out
            if out.code != "not_configured"
        ]
        failed = [attempt for attempt in self._attempts[:-1] if attempt.outcome == "failed"]
        parts += [f"{attempt.place} failed" for attempt in failed]
        if failed:
            parts.append(f"so {served_by} was asked")
        sentence = "; ".join(parts)
        return f"{sentence[0].upper()}{sentence[1:]}."

    def _nobody_answered(self) -> HybridLLMError:
        """The error that helps most: what the user can mend comes before what happened to go wrong."""
        struck_out = self._decision.struck_out
        private = next((out for out in struck_out if out.code in ("label", "zone")), None)
        too_long = next((out for out in struck_out if out.place == LOCAL and out.code == "context"), None)
        local_error = self._errors[0] if len(self._errors) == 1 and self._attempts[0].place == LOCAL else None
        here = local_error.message if isinstance(local_error, ContextLengthExceeded) else None
        if here is None and not self._errors:
            here = "; ".join(f"{out.place}: {out.why}" for out in struck_out if out.place == LOCAL)
        if private is not None and here is not None:
            return PolicyDenied(
                f"The device cannot serve this request ({here.rstrip('.')}), and {private.place} may not see it: "
                f"{private.why}",
                "Shorten or change the request, or label it if it is not sensitive.",
                label=self._decision.label,
                place=private.place,
            )
        if local_error is not None:
            return local_error
        if not self._errors and too_long is not None:
            return ContextLengthExceeded(
                f"The request is too long for the device: {too_long.why}",
                "Shorten the conversation.",
                field="messages",
            )
        if not self._errors:
            said = "; ".join(f"{out.place}: {out.why.rstrip('.')}" for out in struck_out)
            return CannotServe(f"Nobody can serve this request: {said}.", "Change the request or the policy.")
        if all(isinstance(error, BadRequest) for error in self._errors):
            return self._errors[0]
        said = "; ".join(f"{attempt.place}: {attempt.error}".rstrip(".") for attempt in self._attempts)
        return CannotServe(f"Nobody could answer. {said}.", self._errors[-1].mend, attempts=self.route().attempts)


def _shown(error: HybridLLMError) -> str:
    return f"{type(error).__name__}: {error.message}"
