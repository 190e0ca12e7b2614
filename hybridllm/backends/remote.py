"""The remote: an OpenAI-compatible server, asked through the egress gate.

Before the first token a try is repeated where that can help: see ``retrying``. After the first token nothing is repeated, and a
stream that ends without a finish reason was cut: it is an error, never an answer. What comes of each try is told to the breaker,
which leaves a remote that fails alone, and to connectivity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridllm.backends.base import Backend, BackendCall, BackendEvent, Finished
from hybridllm.backends.remote_try import RemoteTry
from hybridllm.backends.retrying import Retrying
from hybridllm.breaker import CircuitBreaker
from hybridllm.errors import BreakerOpen, HybridLLMError, PrivacyViolation
from hybridllm.faults import Fault
from hybridllm.latency import Latency
from hybridllm.refused_key import RefusedKey
from hybridllm.retry_budget import RetryBudget

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from hybridllm.breaker import Passage
    from hybridllm.connectivity import Connectivity
    from hybridllm.egress import EgressGate
    from hybridllm.health import BreakerState
    from hybridllm.remote import Remote

__all__ = ["CONTINUE_ANSWER", "RemoteBackend"]

CONTINUE_ANSWER = "continue_answer"
"""Capability of a remote that goes on with an answer whose beginning is the last message."""

# A wait that somebody ended says that the remote is silent where it was this long, and this many times as long as usual.
_TELLING_SILENCE_S = 1.0
_TELLING_FACTOR = 2.0


class RemoteBackend(Backend):
    """Asks the remote.

    Args:
        remote: Where it is and how patiently it is treated.
        gate: The way out.
        connectivity: Learns from the traffic.
        breaker: Learns from it too, and says when nothing may be sent; None for one of its own.
        latency: How fast the remote is, as somebody else measures it; None for unknown.
    """

    def __init__(
        self,
        remote: Remote,
        gate: EgressGate,
        connectivity: Connectivity,
        *,
        breaker: CircuitBreaker | None = None,
        latency: Latency | None = None,
    ) -> None:
        self._remote = remote
        self._gate = gate
        self._connectivity = connectivity
        self._breaker = CircuitBreaker() if breaker is None else breaker
        self._latency = Latency() if latency is None else latency
        self._budget = RetryBudget()
        self._key = RefusedKey(remote)
        self._under_way = 0

    @property
    def model(self) -> str:
        """Name of the model there."""
        return self._remote.model

    @property
    def capabilities(self) -> frozenset[str]:
        """What the operator declared."""
        return self._remote.capabilities

    @property
    def context_tokens(self) -> int | None:
        """What the operator declared."""
        return self._remote.context_tokens

    @property
    def breaker(self) -> BreakerState:
        """State of the breaker; ``open`` also while a key that was refused is not shown again."""
        return "open" if self._key.paused else self._breaker.state

    @property
    def continues(self) -> bool:
        """Whether the operator declared that it can go on with an answer that was begun: vLLM and SGLang can."""
        return CONTINUE_ANSWER in self._remote.capabilities

    @property
    def idle(self) -> bool:
        """Whether nothing is under way there."""
        return self._under_way == 0

    async def stream(self, call: BackendCall) -> AsyncGenerator[BackendEvent, None]:
        """Ask, with retries up to the first token, and pass the pieces on.

        Raises:
            BreakerOpen: The remote is left alone for a while; nothing was sent.
            ContentFiltered: The remote refused the request for what it says.
            ContextLengthExceeded: The request is too long for the remote.
            RemoteError: The remote cannot be reached, failed, or was silent for too long.
            DeadlineExceeded: The request's time is over.
        """
        if call.authorize is None:
            raise PrivacyViolation("Nothing was sent: the request was not authorised.", place="remote")
        self._under_way += 1
        answering: RemoteTry | None = None
        try:
            answering, event = await self._asked(call)
            while True:
                yield event
                if isinstance(event, Finished):
                    return
                event = await answering.next()
        finally:
            self._under_way -= 1
            if answering is not None:
                await answering.aclose()

    async def aclose(self) -> None:
        """Close the way out."""
        await self._gate.aclose()

    async def _asked(self, call: BackendCall) -> tuple[RemoteTry, BackendEvent]:
        """The try that answers and its first piece, after as many tries as help."""
        body = call.request.remote_body(
            self._remote.model, continues=bool(call.begun), capabilities=self._remote.capabilities
        )
        retrying = Retrying(call, budget=self._budget, breaker=self._breaker, expected_s=self._expected_s)
        failure: HybridLLMError | None = None

        async def one() -> tuple[RemoteTry, BackendEvent]:
            nonlocal failure
            try:
                passage = self._breaker.admit()
            except BreakerOpen:
                if failure is None:
                    raise
                raise failure from None  # somebody else's failure opened it; ours says more
            if call.ledger.tries == 0:
                self._budget.note_first_try(call.retries.budget)
            this = self._try(call, body, passage)
            try:
                return this, await this.next()
            except BaseException as error:
                await this.aclose()
                retrying.failed = this
                failure = error if isinstance(error, HybridLLMError) else None
                raise

        try:
            return await retrying.run(one)
        finally:
            failure = None  # or it and this frame would keep each other alive

    def _try(self, call: BackendCall, body: bytes, passage: Passage) -> RemoteTry:
        return RemoteTry(
            call,
            body,
            self._gate,
            self._key,
            connecting_s=self._remote.connecting_s(call.limits),
            on_text=lambda: self._note_answering(passage),
            on_over=lambda this: self._note_over(call, this, passage),
        )

    def _expected_s(self) -> float | None:
        expected_ms = self._latency.answered_ttft_ms
        return None if expected_ms is None else expected_ms / 1000

    def _note_answering(self, passage: Passage) -> None:
        passage.answering()
        self._connectivity.note_answering()

    def _note_over(self, call: BackendCall, this: RemoteTry, passage: Passage) -> None:
        """Tell what a try says about the remote to those who want to know."""
        fault = this.fault or self._fault_of_waiting(call, this)
        if this.finished or fault in (Fault.REQUEST, Fault.KEY):
            self._connectivity.note_success()
            passage.succeeded()
            if fault is Fault.KEY:
                self._key.note_refused(this.status)
            else:
                self._key.note_accepted()
        elif fault is None:
            passage.release()
        elif fault is Fault.UNREACHABLE:
            self._connectivity.note_unreachable()
            passage.failed(unreachable=True)
        else:
            if fault is Fault.CAPTIVE:
                self._connectivity.note_captive()
            else:
                self._connectivity.note_trouble()
            passage.failed(retry_after_s=this.retry_after_s)

    def _fault_of_waiting(self, call: BackendCall, this: RemoteTry) -> Fault | None:
        """What a try says that somebody stopped, for a reason of his own or because his time was over.

        To be stopped is no fault of the remote's. But where each request is stopped after a while, because its deadline is short
        or another place was faster, a silent remote would otherwise never be found out.
        """
        if not this.stopped:
            return None
        if this.connecting_for_s >= call.limits.connect_s:
            return Fault.UNREACHABLE
        telling_s = max(_TELLING_SILENCE_S, _TELLING_FACTOR * (self._expected_s() or 0.0))
        return Fault.SILENT if this.silent_for_s >= min(telling_s, call.limits.first_token_s) else None
