"""One worker and everything under way with it: who waits for which reply.

Standard library only: the application's process imports this module.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import logging
import os
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from local_runtime.crash_reports import described
from local_runtime.errors import InvalidRequestError, LocalRuntimeError, ProtocolError
from local_runtime.events import Event, Failed, Finished, TextDelta
from local_runtime.protocol import (
    Cancel,
    CountPromptTokens,
    DeltaReply,
    FailedReply,
    FinishedReply,
    Generate,
    Hello,
    HelloReply,
    Load,
    ProgressReply,
    PromptTokensReply,
    ReadyReply,
    Reply,
    Stats,
    StatsReply,
    check_version,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from local_runtime.options import GenerateRequest, LoadOptions, ModelInfo, Progress
    from local_runtime.transport import Transport

    OpenTransport = Callable[[Callable[[Reply], None], Callable[[LocalRuntimeError], None]], Transport]

__all__ = ["Connection"]

_log = logging.getLogger("local_runtime.client")
_T = TypeVar("_T")
_CONNECTION_ID, _LOAD_ID = 0, 1


class Connection:
    """One worker from its start to its end, and all that is under way with it.

    Args:
        options: The model to load.
        on_progress: Called with the progress of loading.
        open_transport: Starts the worker, given what to call with each reply and at the end.
    """

    def __init__(
        self,
        options: LoadOptions,
        on_progress: Callable[[Progress], None] | None,
        open_transport: OpenTransport,
    ) -> None:
        self.owner_pid = os.getpid()
        self.ready: concurrent.futures.Future[ModelInfo] = concurrent.futures.Future()
        self._on_progress = on_progress
        # Re-entrant: the garbage collector may close an iterator, and so cancel, in the middle of anything.
        self._lock = threading.RLock()
        self._ids = itertools.count(_LOAD_ID + 1)
        self._requests: dict[int, Callable[[Event], None]] = {}
        self._answers: dict[int, concurrent.futures.Future[Any]] = {}
        self._failure: LocalRuntimeError | None = None
        self.ended = False
        self._event_thread: threading.Thread | None = None
        self._transport = open_transport(self._on_reply, self._on_end)
        self._transport.send(Hello())
        self._transport.send(Load(_LOAD_ID, options))

    @property
    def pid(self) -> int:
        """The worker's process."""
        return self._transport.pid

    def refuse_to_wait_here(self) -> None:
        """Refuse to wait for the worker in the thread that delivers what it says.

        Raises:
            InvalidRequestError: This is that thread.
        """
        if threading.current_thread() is self._event_thread:
            raise InvalidRequestError(
                "A receiver of engine events waited for the engine, which would wait for ever.",
                "Call this from another thread than the one that on_event is called from.",
            )

    def submit(self, request: GenerateRequest, on_event: Callable[[Event], None]) -> int | None:
        """Send a request; None if the worker has ended."""
        with self._lock:
            if self.ended:
                return None
            request_id = next(self._ids)
            self._requests[request_id] = on_event
        self._send_or_forget(self._requests, Generate(request_id, request))
        return request_id

    def ask(self, make: Callable[[int], CountPromptTokens | Stats]) -> concurrent.futures.Future[Any] | None:
        """Send a question; None if the worker has ended."""
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        with self._lock:
            if self.ended:
                return None
            request_id = next(self._ids)
            self._answers[request_id] = future
        self._send_or_forget(self._answers, make(request_id))
        return future

    def cancel(self, request_id: int) -> None:
        """Ask for the end of a request that hasn't ended."""
        with self._lock:
            if request_id not in self._requests:
                return
        self._transport.send(Cancel(request_id))

    def close(self) -> None:
        """End the worker; everything under way gets its last event."""
        self._transport.close()

    def _send_or_forget(self, table: dict[int, Any], command: Generate | CountPromptTokens | Stats) -> None:
        try:
            self._transport.send(command)
        except ProtocolError as error:
            with self._lock:
                table.pop(command.id, None)
            raise InvalidRequestError(error.message, error.mend) from None

    # ---- called from the transport's thread ----

    def _on_reply(self, reply: Reply) -> None:
        self._event_thread = threading.current_thread()
        match reply:
            case DeltaReply(id=request_id, text=text, tokens=tokens):
                self._deliver(self._requests.get(request_id), request_id, TextDelta(text, tokens))
            case FinishedReply(id=request_id, reason=reason, usage=usage, timings=timings):
                self._deliver(self._take(self._requests, request_id), request_id, Finished(reason, usage, timings))
            case FailedReply():
                self._on_failed(reply)
            case StatsReply(id=request_id, stats=answer):
                self._answer(request_id, answer)
            case PromptTokensReply(id=request_id, count=answer):
                self._answer(request_id, answer)
            case ProgressReply(progress=progress):
                self._tell_progress(progress)
            case ReadyReply(info=info):
                self._on_progress = None  # Nothing more to tell; and what it refers to may be garbage soon.
                self.ready.set_result(info)
            case HelloReply(version=version):
                check_version(version)

    def _on_failed(self, reply: FailedReply) -> None:
        error = reply.error()
        if reply.id in (_CONNECTION_ID, _LOAD_ID):
            self._failure = error  # The worker ends now; everybody is told when it has.
        elif (future := self._take(self._answers, reply.id)) is not None:
            future.set_exception(error)
        else:
            self._deliver(self._take(self._requests, reply.id), reply.id, Failed(error))

    def _on_end(self, error: LocalRuntimeError) -> None:
        self._event_thread = threading.current_thread()
        with self._lock:
            self.ended = True
            requests, self._requests = self._requests, {}
            answers, self._answers = self._answers, {}
        error = self._failure or error
        self._on_progress = None
        if not self.ready.done():
            self.ready.set_exception(error)
        for future in answers.values():
            future.set_exception(error)
        for request_id, on_event in requests.items():
            self._deliver(on_event, request_id, Failed(error))

    def _take(self, table: dict[int, _T], request_id: int) -> _T | None:
        with self._lock:
            return table.pop(request_id, None)

    def _answer(self, request_id: int, answer: object) -> None:
        if (future := self._take(self._answers, request_id)) is not None:
            future.set_result(answer)

    def _deliver(self, on_event: Callable[[Event], None] | None, request_id: int, event: Event) -> None:
        if on_event is None:
            return
        try:
            on_event(event)
        except BaseException as error:  # noqa: BLE001 - any mistake of a stranger's code, sys.exit() included
            # One receiver's mistake must not stop the others' answers; and nobody is left to generate this one for.
            _log.error("a receiver of engine events failed with %s; its request is cancelled", described(error))
            if self._take(self._requests, request_id) is not None:
                self._transport.send(Cancel(request_id))

    def _tell_progress(self, progress: Progress) -> None:
        if self._on_progress is None:
            return
        try:
            self._on_progress(progress)
        except Exception as error:  # noqa: BLE001 - progress is a courtesy; loading goes on without it
            _log.error("a receiver of loading progress failed with %s; it is not called again", described(error))
            self._on_progress = None
