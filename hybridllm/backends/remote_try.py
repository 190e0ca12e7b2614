"""One try at a remote: the bytes go out, the answer comes in, and every wait has an end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING, NoReturn

from hybridllm.backends.alarm import Alarm, AlarmRang
from hybridllm.backends.base import BackendCall, Burst, ContentDelta, Finished, Ledger
from hybridllm.backends.chunks import ChunkReader, Sign
from hybridllm.backends.patience import THINKING_FACTOR, Patience, Wait
from hybridllm.backends.refusals import Refusal, code_of, refusal_of
from hybridllm.backends.retry_after import retry_after_s
from hybridllm.backends.sse import EventReader
from hybridllm.errors import (
    BreakerOpen,
    ContentFiltered,
    ContextLengthExceeded,
    DeadlineExceeded,
    HybridLLMError,
    RemoteError,
    RemoteUnreachable,
)
from hybridllm.faults import Fault, fault_of_status

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybridllm.backends.base import BackendEvent
    from hybridllm.egress import EgressGate, EgressResponse
    from hybridllm.refused_key import RefusedKey

__all__ = ["RemoteTry"]

_ERROR_BODY_BYTES = 16 * 1024
_ERROR_BODY_S = 1.0
_MARK_OF_THE_END = "[DONE]"
_LOGIN_PAGES = ("text/html", "application/xhtml+xml")


class RemoteTry:
    """One try. Read it with ``next`` until ``Finished``, and close it in any case.

    Args:
        call: The attempt that it belongs to.
        body: What is sent.
        gate: The way out.
        key: Whether the key may be shown.
        connecting_s: Longest time until a connection stands.
        on_text: Told once, when the first piece of an answer came that is no thought.
        on_over: Told once, when it is known how it ended, or that nobody will know.

    Attributes:
        fault: What was wrong; None while nothing is, and where it says nothing about the remote.
        status: HTTP status of an error, or the one that an error within a stream names; 0 without.
        retry_after_s: The pause that the remote asked for.
        finished: Whether the answer became whole.
        stopped: Whether somebody else ended it, or the request's time.
    """

    def __init__(
        self,
        call: BackendCall,
        body: bytes,
        gate: EgressGate,
        key: RefusedKey,
        *,
        connecting_s: float,
        on_text: Callable[[], None],
        on_over: Callable[[RemoteTry], None],
    ) -> None:
        self.fault: Fault | None = None
        self.status = 0
        self.retry_after_s: float | None = None
        self.finished = False
        self.stopped = False
        self._call = call
        self._gate = gate
        self._key = key
        self._on_text = on_text
        self._on_over = on_over
        self._text_came = False
        self._over = False
        self._head_came = False
        self._reader = ChunkReader(call.request)
        self._body = body
        self._response: EgressResponse | None = None
        self._server_events = EventReader()
        self._pending: deque[ContentDelta | Finished] = deque()
        self._ended = False
        self._failure: HybridLLMError | None = None
        self._patience = Patience(call.limits, connecting_s=connecting_s, whole=call.whole, deadline_s=call.deadline_s)
        self._alarm = Alarm(self._patience.end_s)

    @property
    def took_s(self) -> float:
        """Seconds since the body left; before that, since the try began."""
        return self._patience.waited_s

    @property
    def silent_for_s(self) -> float:
        """Seconds since the body left in which nothing that counts came; 0 where something did, or nothing left."""
        return self._patience.waited_s if self._patience.sent and self._patience.silent else 0.0

    @property
    def connecting_for_s(self) -> float:
        """Seconds that a connection was waited for, where none came about; else 0."""
        return 0.0 if self._patience.sent else self._patience.waited_s

    async def next(self) -> BackendEvent:
        """The next piece of the answer that can be seen, with those that came together with it, or its end.

        Raises:
            HybridLLMError: The try failed.
        """
        try:
            if not self._pending:
                await self._wait_in_time()
        except (ContentFiltered, ContextLengthExceeded):
            self.fault = Fault.REQUEST
            self._end()
            raise
        except BreakerOpen:  # the key's
            self._end()
            raise
        except RemoteUnreachable:
            self.fault = Fault.UNREACHABLE
            self._end()
            raise
        except RemoteError:
            self.fault = self.fault or (Fault.FAILING if self._head_came else Fault.BROKEN)
            self._end()
            raise
        except HybridLLMError as error:  # ours: nothing was sent, or the time is over
            self.stopped = isinstance(error, DeadlineExceeded)
            self._end()
            raise
        event = self._pending.popleft()
        if isinstance(event, Finished):
            self.finished = True
            self._end()
            return event
        pieces = [event]
        while self._pending and isinstance(following := self._pending[0], ContentDelta):
            self._pending.popleft()
            pieces.append(following)
        if not self._text_came and not all(piece.is_thought for piece in pieces):
            self._text_came = True
            self._on_text()
        return event if len(pieces) == 1 else Burst(tuple(pieces))

    async def aclose(self) -> None:
        """Close the connection, unless the answer is whole."""
        self._alarm.close()
        self._pending.clear()
        response, self._response = self._response, None
        if response is not None:
            await response.aclose()
        self.stopped = self.stopped or not self._over
        self._end()

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._on_over(self)

    async def _wait_in_time(self) -> None:
        """Wait until there is something to give out."""
        if self._failure is not None:
            raise self._failure
        self._patience.resume()
        try:
            if self._response is None:
                self._response = await self._alarm.wait(self._opened())
            while not self._pending:
                self._take(await self._alarm.wait(self._more(self._response)))
        except AlarmRang:
            wait = self._patience.ends()[1]
            if wait is not Wait.END:
                self._raise_too_late(wait)
            self._pending.append(self._reader.finished())
            return
        self._patience.pause()

    def _raise_too_late(self, wait: Wait) -> NoReturn:
        limits, took_s = self._call.limits, self._patience.waited_s
        if wait is Wait.DEADLINE:
            raise DeadlineExceeded(
                "The remote's answer was not whole at the request's deadline.", "Allow more time, or fewer tokens."
            ) from None
        if wait is Wait.CONNECTION:
            raise RemoteUnreachable(
                f"The remote did not answer in time: there was no connection within {took_s:.3g} s.",
                "Check the network and remote.base_url.",
            ) from None
        self.fault = Fault.SILENT
        what, mend = {
            Wait.FIRST_TOKEN: (f"gave no token within {limits.first_token_s:.3g} s", "Try again later."),
            Wait.THOUGHT: (f"thought for {took_s:.3g} s and fell silent before its answer", "Try again later."),
            Wait.END_OF_THOUGHTS: (
                f"thought for {THINKING_FACTOR * limits.first_token_s:.3g} s and gave no answer",
                "Allow it more with first_token_s, or let it think less.",
            ),
            Wait.PIECE: (f"stopped in the middle of its answer for {limits.gap_s:g} s", "Ask again."),
            Wait.TEXT: (
                f"gave no text in the middle of its answer for {THINKING_FACTOR * limits.gap_s:g} s",
                "Ask again.",
            ),
            Wait.PACE: ("answers too slowly", "Ask for a stream, or another place."),
        }[wait]
        raise RemoteError(f"The remote {what}.", mend) from None

    async def _opened(self) -> EgressResponse:
        """Send, and wait for the head of the answer."""
        call = self._call
        assert call.authorize is not None
        permit = call.authorize(self._body)
        self._key.check()
        call.ledger.tries += 1
        # The same key for all tries of a request lets a server that knows it avoid doing the work twice.
        headers = {"idempotency-key": call.request_id}
        ledger = _WatchedLedger(call.ledger, self._note_sent)
        response = await self._gate.open(permit, self._body, headers, ledger, call.limits)
        try:
            self._head_came = True
            if response.status != 200:
                raise await self._refused(response)
            self._check_kind(response)
        except BaseException:
            await response.aclose()
            raise
        return response

    async def _more(self, response: EgressResponse) -> bytes:
        """What comes next of the body. What breaks after the server has said why its answer ended takes nothing away from it."""
        try:
            return await response.read()
        except RemoteError:
            if not self._reader.whole:
                raise
            return b""

    def _note_sent(self) -> None:
        self._patience.note_sent()
        self._alarm.move()

    def _take(self, piece: bytes) -> None:
        """Turn what came of the body into events; nothing is its end. An error waits for those that stand before it."""
        try:
            if not piece:
                self._pending.append(self._reader.finished())
            elif not self._ended:  # what follows the end is read for the connection's sake only
                for name, untrimmed in self._server_events.feed(piece):
                    data = untrimmed.strip()
                    if data == _MARK_OF_THE_END:
                        self._ended = True
                        self._patience.note_read()
                        break
                    self._read(name, data)
        except HybridLLMError as error:
            if not self._pending:
                raise
            self._failure = error

    def _read(self, name: str, data: str) -> None:
        reader = self._reader
        whole = reader.whole
        try:
            found = reader.read(name, data)
        except RemoteError:
            if reader.refusal is not None and reader.refusal.status is not None:
                self.status = reader.refusal.status
                self.fault = fault_of_status(self.status)
            raise
        if reader.whole and not whole:
            self._patience.note_end()
        for event in found:
            self._patience.note(event)
            if not isinstance(event, Sign):
                self._pending.append(event)

    def _check_kind(self, response: EgressResponse) -> None:
        kind = response.header("content-type").partition(";")[0].strip().lower()
        if kind == "text/event-stream":
            return
        if kind in _LOGIN_PAGES:
            self.fault = Fault.CAPTIVE
        raise RemoteError(
            f"The remote answered with {code_of(kind) or 'no content type'} instead of a stream of events.",
            "Check remote.base_url, and whether a network login page is in the way.",
            status=response.status,
        )

    async def _refused(self, response: EgressResponse) -> HybridLLMError:
        self.status = response.status
        self.fault = fault_of_status(response.status)
        if 300 <= response.status < 400:
            return RemoteError(
                f"The remote answered with a redirect ({response.status}), which is not followed.",
                "Give the final address as remote.base_url.",
                status=response.status,
            )
        refusal = Refusal()
        with contextlib.suppress(RemoteError, TimeoutError):
            async with asyncio.timeout(_ERROR_BODY_S):
                refusal = refusal_of(await response.beginning(_ERROR_BODY_BYTES), response.status)
        self.retry_after_s = retry_after_s(response.header("retry-after"), time.time())
        return refusal.as_status(response.status, self.retry_after_s)


class _WatchedLedger(Ledger):
    """A ledger that also tells when a body begins to leave: from then on there is a connection, and an answer to wait for."""

    def __init__(self, kept: Ledger, on_sent: Callable[[], None]) -> None:
        super().__init__(kept.tries, kept.egress_bytes)
        self._kept = kept
        self._on_sent = on_sent

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == "egress_bytes" and hasattr(self, "_on_sent"):
            self._kept.egress_bytes = self.egress_bytes
            self._on_sent()
