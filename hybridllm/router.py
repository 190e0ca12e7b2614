"""One request on its way: the candidates of its decision are asked in order until one answers.

A refusal for privacy is final. A place that fails before something of an answer was given out is followed by the next one. One
that breaks off later is followed as the policy says: the next one goes on from the text that was given out, or begins anew and
says so, or the failure is the caller's to know. Only text can be gone on from: not calls of tools, a refusal, or several answers;
nor text that follows thoughts, which only who had them could go on with. Thoughts alone are no answer yet, so whoever is next
just answers. Where the policy says so, the second place is asked when the first is late.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from hybridllm.answer import Answer, AnswerSoFar, ChoiceSoFar
from hybridllm.attempt import AttemptFailed, AttemptRun, Clock
from hybridllm.backends.base import Backend, BackendCall, Burst, ContentDelta, Finished
from hybridllm.errors import Cancelled, HybridLLMError, PolicyTightened, StreamInterrupted
from hybridllm.hedging import hedge_after_s, race
from hybridllm.route_report import nobody_answered, reason_of
from hybridllm.types.completion_usage import CompletionUsage
from hybridllm.types.route import Handover, Route
from policies import LOCAL

if TYPE_CHECKING:
    from hybridllm.assessment import Assessment
    from hybridllm.backends.base import BackendEvent
    from hybridllm.hedging import HedgeBudget
    from hybridllm.latency import DeviceLatency, Latency
    from hybridllm.permits import Permit
    from hybridllm.redaction import Redaction
    from hybridllm.types.route import Attempt, Why
    from policies import Limits, Policy, Retries

__all__ = ["Answer", "Authorize", "Ended", "RequestRun", "RunEvent"]

Authorize = Callable[..., "Permit"]
"""Mints a permit; see ``PermitOffice.mint``, whose policy, decision, remote and place are bound already."""

RunEvent = ContentDelta | Burst | Finished | Handover
"""What a request yields. After a ``Handover`` of the kind ``restart`` all pieces before it are void."""

_SHARE_OF_THE_FIRST = 0.5
"""The most of a request's time that a place may take while somebody else could still answer."""


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
    """The text that was given out of the answer, of several the first one."""

    void: str = field(repr=False)
    """Text that was given out and taken back, because another place began anew."""

    label: str
    """The label of all that."""

    usage: CompletionUsage | None
    """Token counts, where the place gave them."""

    finish_reason: str
    """Why the answer ended, of several the first one; empty where it did not become whole."""

    error_type: str
    """Class of the error that the request ended with; empty where it was answered."""

    model: str
    """The model that answered last."""

    began_at_s: float
    """When it came in, in Unix seconds."""

    duration_s: float
    """How long it took, in seconds."""

    tokens_from_observers: tuple[object, ...] = field(default=(), repr=False)
    """What each observer's ``began`` returned, in their order."""

    beside_text: tuple[str, ...] = field(default=(), repr=False)
    """What else was given out, taken back or not: refusals, thoughts, names and arguments of calls, and further answers."""

    answer: ChoiceSoFar | None = field(default=None, repr=False)
    """All that was given out of the answer, of several the first one; None where nothing was."""

    finish_reasons: tuple[str, ...] = ()
    """Why each answer ended; empty where they did not become whole."""

    def texts(self) -> tuple[str, ...]:
        """Everything that somebody could read of the answer: a copy of it is as sensitive as ``label`` says."""
        return tuple(filter(None, (self.text, self.void, *self.beside_text)))


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
        hedges: How many hedges the client may still make.
        device_latency: Where to note what a first token costs on the device.
        may_restart: Whether whoever reads the answer knows what to do when what it has becomes void.
        conversation: Name of the conversation, for a fair queue.
        tokens_from_observers: What the observers want back at the end.

    Attributes:
        request_id: Name of the request.
        created: When it came in, in Unix seconds.
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
        hedges: HedgeBudget,
        device_latency: DeviceLatency | None = None,
        may_restart: bool = True,
        conversation: str = "",
        tokens_from_observers: tuple[object, ...] = (),
    ) -> None:
        self.request_id = f"chatcmpl-{uuid.uuid4().hex}"
        self.created = int(time.time())
        self._assessment = assessment
        self._decision = assessment.decision
        self._backends = backends
        self._latency = latency
        self._authorize = authorize
        self._on_end = on_end
        self._clock = Clock(began_s, deadline_s)
        self._limits = limits
        self._retries = retries
        self._hedges = hedges
        self._may_restart = may_restart
        self._conversation = conversation
        self._device_latency = device_latency
        self._tokens_from_observers = tokens_from_observers
        self._runs: list[AttemptRun] = []
        self._serving: AttemptRun | None = None
        self._failures: list[AttemptFailed] = []
        self._permits = 0
        self._redaction: Redaction | None = None
        self._given = AnswerSoFar()
        self._given_tokens = 0
        self._void: list[AnswerSoFar] = []
        self._first_given_s: float | None = None
        self._finished: Finished | None = None
        self._begun_tokens = 0
        self._begun_in_prompt = 0
        self._continued: dict[str, Assessment] = {}
        self._whole = False
        self._error_type = ""
        self._over = False
        self._aborted: Cancelled | None = None
        self._reader: asyncio.Task[object] | None = None

    def stream(self) -> AsyncGenerator[RunEvent, None]:
        """The answer's events as they come, ``Finished`` last.

        Raises:
            StreamInterrupted: The place failed after it had given a part of the answer, and nobody goes on.
            HybridLLMError: Nobody could answer, or the request is not allowed, or its time is over.
        """
        return self._noted(self._answer())

    async def whole(self) -> Answer:
        """The whole answer. Nothing is given out before it is there, so a place may fail at any moment.

        Raises:
            HybridLLMError: Nobody could answer, or the request is not allowed, or its time is over.
        """
        self._whole = True
        async with aclosing(self._noted(self._answer())) as events:
            async for event in events:
                if isinstance(event, Finished):
                    return Answer(self._given, event)
        raise AssertionError("an answer ends with an event that says so")

    @property
    def answer(self) -> AnswerSoFar:
        """What the answer says, as far as it has come; without what was taken back."""
        return self._given

    @property
    def model(self) -> str:
        """The model that answers; empty before one does."""
        run = self._serving or (self._runs[-1] if self._runs else None)
        return "" if run is None else run.model

    @property
    def answer_label(self) -> str:
        """The label of the answer: that of what produced it.

        What a remote said about a redacted text is as sensitive as that text, until an original is put back into it: a piece
        of that could leave later without being recognised.
        """
        decision = self._decision
        spoke = [run for run in self._runs if run.first_token_s is not None or run is self._serving]
        if spoke and all(
            run.place in decision.redacted_places and run.restorer is not None and not run.restorer.restored
            for run in spoke
        ):
            return decision.redacted_label
        return decision.label

    def abort(self, why: Cancelled) -> None:
        """End it with this error, for whoever waits for its next event or asks for it later."""
        if self._over or self._aborted is not None:
            return
        self._aborted = why
        if self._reader is not None:
            self._reader.cancel()

    def given_out(self) -> tuple[tuple[str, ...], str]:
        """Everything that somebody could read of the answer so far, what was taken back included, and its label."""
        given = () if self._whole else (*self._void, self._given)
        texts = [text for so_far in given for text in (so_far.first.text, *so_far.beside_text()) if text]
        return tuple(texts), self.answer_label

    @property
    def policy(self) -> Policy:
        """The policy that the request began with."""
        return self._assessment.labelled.policy

    @property
    def over(self) -> bool:
        """Whether the request has ended and was noted."""
        return self._over

    def route(self) -> Route:
        """Which way it went so far."""
        attempts: list[Attempt] = [run.write_down().model_copy() for run in self._runs]
        serving = self._serving or (self._runs[-1] if self._runs else None)
        served_by = "" if serving is None else serving.place
        began_s, first_s = self._clock.began_s, self._first_given_s
        after_first_s = 0.0 if first_s is None or serving is None else serving.last_token_s - first_s
        tokens = self._given_tokens
        return Route(
            served_by=served_by,
            rule=self._decision.rule,
            rule_location=self._decision.location,
            reason=reason_of(self._decision, attempts, served_by),
            label=self._decision.label,
            policy=self._decision.policy_name,
            policy_hash=self._decision.policy_hash,
            attempts=attempts,
            egress_bytes=sum(attempt.egress_bytes for attempt in attempts),
            ttft_ms=None if first_s is None else round((first_s - began_s) * 1000, 3),
            tokens_per_s=round((tokens - 1) / after_first_s, 3) if tokens > 1 and after_first_s > 0 else None,
        )

    # ---- the way ----

    async def _noted(self, events: AsyncGenerator[RunEvent, None]) -> AsyncGenerator[RunEvent, None]:
        """The same events; however they end, that is written down."""
        try:
            async with aclosing(events):
                while (event := await self._next(events)) is not None:
                    if isinstance(event, Finished):
                        self._finished = event
                        self._end()  # whoever has read the last event need not come back
                    yield event
        except (asyncio.CancelledError, GeneratorExit):
            self._error_type = "Cancelled"
            raise
        except BaseException as error:
            self._error_type = type(error).__name__
            raise
        finally:
            self._end()

    async def _next(self, events: AsyncGenerator[RunEvent, None]) -> RunEvent | None:
        """The next event; None after the last. ``abort`` ends it by a cancellation that stays in here."""
        task = self._reader = asyncio.current_task()
        assert task is not None
        others_cancelled = task.cancelling()
        try:
            if self._aborted is not None:
                raise self._aborted
            return await anext(events, None)
        except asyncio.CancelledError:
            if self._aborted is None or task.uncancel() > others_cancelled:
                raise
            raise self._aborted from None
        except HybridLLMError:
            if self._aborted is not None:  # what failed failed because of that
                raise self._aborted from None
            raise
        finally:
            self._reader = None

    async def _answer(self) -> AsyncGenerator[RunEvent, None]:
        waiting = list(self._decision.candidates)
        why: Why = "first"
        while waiting:
            try:
                if why == "continue" and self._tokens_left() == 0:
                    yield self._cut_off()
                    return
                self._serving = run = await self._begun(waiting, why)
                async with aclosing(run.events()) as events:
                    first = run.take_first()
                    if first is not None:
                        yield self._counted(first, run)
                    async for event in events:
                        yield self._counted(event, run)
                return
            except AttemptFailed as failed:
                self._failures.append(failed)
                if self._whole or not self._given:
                    self._given, self._given_tokens, self._first_given_s = AnswerSoFar(), 0, None
                    why = "fallback"
                    continue
                handover = self._handover(failed, waiting)
                why = handover.kind
                yield handover
        raise nobody_answered(self._decision, self._failures, self.route().attempts)

    async def _begun(self, waiting: list[str], why: Why) -> AttemptRun:
        """The attempt that answers; one of two where the first is late. Takes the places that it asks out of ``waiting``.

        Raises:
            AttemptFailed: Whoever was asked failed before the first piece.
        """
        run = self._attempt(waiting, why)
        hedge = self.policy.hedge_of(self._decision.rule_index)
        if hedge is None or not waiting or why in ("continue", "restart"):
            return run
        self._hedges.note_request(hedge.budget)
        after_s = hedge_after_s(hedge, self._latency[run.place])
        if after_s is None:
            return run

        def second() -> AttemptRun | None:
            return self._attempt(waiting, "hedge") if self._hedges.take() else None

        winner, losers = await race(run, second, after_s, self._failures.append)
        waiting[:0] = [loser.place for loser in losers]  # they have not failed, and may yet be needed
        return winner

    def _attempt(self, waiting: list[str], why: Why) -> AttemptRun:
        """Ask the next place."""
        place = waiting.pop(0)
        assessment, begun = self._assessment, ""
        request = assessment.labelled.request
        if why == "continue":
            begun = self._given.first.text
            if place in self._continued:  # it is somewhere else, and gets the beginning as a message
                assessment = self._continued.pop(place)
                request = assessment.labelled.request
            left = self._tokens_left()
            if left is not None:
                request = request.model_copy(update={"max_tokens": left, "max_completion_tokens": None})
            if request.min_tokens is not None:
                missing = request.min_tokens - self._given_tokens
                request = request.model_copy(update={"min_tokens": missing if missing > 0 else None})
        first_by_s, whole_by_s = self._shares(waiting)
        run = AttemptRun(
            place,
            why,
            self._backends[place],
            BackendCall(
                request=request,
                request_id=self.request_id,
                deadline_s=self._clock.deadline_s,
                others_left=bool(waiting),
                authorize=None if place == LOCAL else partial(self._permit, place, assessment),
                begun=begun,
                whole=self._whole,
                limits=self._limits,
                retries=self._retries,
                conversation=self._conversation,
            ),
            clock=self._clock,
            latency=self._latency[place],
            on_device=self._device_latency if place == LOCAL else None,
            redaction=self._redacted if place in self._decision.redacted_places else None,
            first_by_s=first_by_s,
            whole_by_s=whole_by_s,
        )
        self._runs.append(run)
        return run

    def _shares(self, waiting: list[str]) -> tuple[float | None, float | None]:
        """When a place's first piece, and its whole answer, have to be there so that the next place can still answer."""
        left_s = self._clock.left_s()
        if not waiting or left_s is None:
            return None, None
        now = time.monotonic()
        first_by_s = now + _SHARE_OF_THE_FIRST * left_s
        if not self._whole:
            return first_by_s, None
        tokens = self._assessment.labelled.request.token_limit
        needed_s = None if tokens is None else self._latency[waiting[0]].expected_s(tokens)
        kept_s = _SHARE_OF_THE_FIRST * left_s if needed_s is None else min(needed_s, _SHARE_OF_THE_FIRST * left_s)
        return first_by_s, now + left_s - kept_s

    def _handover(self, failed: AttemptFailed, waiting: list[str]) -> Handover:
        """What happens after a place broke off; the place that goes on becomes the first of ``waiting``.

        Raises:
            StreamInterrupted: Nobody goes on.
        """
        how = self.policy.on_interrupt_of(self._decision.rule_index)
        place = ""
        if how == "continue" and self._can_be_continued:
            place = next((place for place in waiting if self._may_continue(place)), "")
        elif how == "restart" and self._may_restart and waiting:
            place = waiting[0]
        if not place:
            raise StreamInterrupted(
                f"{failed.place} failed in the middle of its answer: {failed.error.message}",
                "What was received so far is incomplete; ask again.",
                attempts=self.route().attempts,
            ) from failed.error
        waiting.remove(place)
        waiting.insert(0, place)
        if how == "restart":
            self._void.append(self._given)
            self._given, self._given_tokens = AnswerSoFar(), 0
        self._begun_tokens = self._given_tokens
        self._begun_in_prompt = self._given_tokens if self._given.first.text else 0
        return Handover(
            kind="restart" if how == "restart" else "continue",
            from_place=failed.place,
            to_place=place,
            reason=type(failed.error).__name__,
        )

    @property
    def _can_be_continued(self) -> bool:
        """Whether what was given out leaves room for a place that knows its text and nothing else of it."""
        if self._assessment.labelled.request.n != 1:
            return False
        return self._given.first.is_only_text or not self._given.first.is_begun

    def _may_continue(self, place: str) -> bool:
        """Whether a place can go on with the text that was given out, and may see it; without any, it just answers."""
        begun = self._given.first.text
        if not begun:
            return True
        if not self._backends[place].continues:
            return False
        if place == LOCAL:
            return True
        if place in self._decision.redacted_places:
            return False  # what was given out may hold what is taken out for this place
        try:
            self._continued[place] = self._assessment.with_answer_begun(begun, place)
        except PolicyTightened:
            return False
        return True

    def _tokens_left(self) -> int | None:
        """Tokens that the answer may still have; None for as many as fit."""
        limit = self._assessment.labelled.request.token_limit
        return None if limit is None else max(0, limit - self._given_tokens)

    def _cut_off(self) -> Finished:
        """The end of an answer that broke off where it would have been cut off anyway."""
        tokens = self._given_tokens
        usage = CompletionUsage(prompt_tokens=0, completion_tokens=tokens, total_tokens=tokens)
        return Finished("length", usage, self.model)

    def _counted(self, event: BackendEvent, run: AttemptRun) -> BackendEvent:
        """The event as it is given out: the usage of an answer that moved counts all of it once."""
        if not isinstance(event, Finished):
            if self._first_given_s is None:
                self._first_given_s = time.monotonic()
            for piece in event.pieces if isinstance(event, Burst) else (event,):
                self._given.add(piece)
                self._given_tokens += piece.tokens
            return event
        if run.attempt.why != "continue":
            self._given_tokens = run.tokens
            return event
        begun = event.begun_tokens or self._begun_tokens
        self._given_tokens = begun + run.tokens
        if event.usage is None:
            return event
        prompt = max(0, event.usage.prompt_tokens - (event.begun_tokens or self._begun_in_prompt))
        usage = event.usage.model_copy(
            update={
                "prompt_tokens": prompt,
                "completion_tokens": self._given_tokens,
                "total_tokens": prompt + self._given_tokens,
            }
        )
        return replace(event, usage=usage)

    async def _redacted(self) -> Redaction:
        if self._redaction is None:
            self._redaction = await asyncio.to_thread(self._assessment.redaction)
        return self._redaction

    def _permit(self, place: str, assessment: Assessment, body: bytes) -> Permit:
        self._permits += 1
        return self._authorize(
            assessment=assessment, place=place, request_id=self.request_id, attempt=self._permits, body=body
        )

    def _end(self) -> None:
        if self._over:
            return
        self._over = True
        elapsed_s = self._clock.elapsed_s()
        finished = self._finished
        given = AnswerSoFar() if self._whole and finished is None else self._given
        self._on_end(
            Ended(
                request_id=self.request_id,
                assessment=self._assessment,
                route=self.route(),
                text=given.first.text,
                void="".join([void.first.text for void in self._void]),
                beside_text=tuple([text for so_far in (*self._void, given) for text in so_far.beside_text()]),
                answer=given.first if given else None,
                label=self.answer_label,
                usage=None if finished is None else finished.usage,
                finish_reason="" if finished is None else finished.reason,
                finish_reasons=() if finished is None else finished.reasons or (finished.reason,),
                error_type=self._error_type,
                model=self.model,
                began_at_s=time.time() - elapsed_s,
                duration_s=elapsed_s,
                tokens_from_observers=self._tokens_from_observers,
            )
        )
