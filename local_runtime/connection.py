"""One worker and everything that it has to do: who waits for which reply.

Standard library only: the application's process imports this module.
"""

from __future__ import annotations

import concurrent.futures
import os
import threading
from typing import TYPE_CHECKING, Any, Protocol

from local_runtime.deaths import Death
from local_runtime.errors import LocalRuntimeError, OverloadedError, ProtocolError
from local_runtime.protocol import (
    Cancel,
    DeltaReply,
    FailedReply,
    FinishedReply,
    Hello,
    HelloReply,
    Load,
    Ping,
    PongReply,
    ProgressReply,
    PromptTokensReply,
    ReadyReply,
    Reply,
    StateReply,
    Stats,
    StatsReply,
    check_version,
)
from local_runtime.underway import Answer, Question, Underway

if TYPE_CHECKING:
    from collections.abc import Callable

    from local_runtime.events import Event
    from local_runtime.options import LoadOptions, ModelInfo, Progress
    from local_runtime.transport import Transport

    OpenTransport = Callable[[Callable[[Reply], None], Callable[[Death | LocalRuntimeError], None]], Transport]

__all__ = ["FIRST_ID", "Connection", "Listener"]

_CONNECTION_ID, _LOAD_ID, _PING_ID, _STATS_ID = 0, 1, 2, 3

FIRST_ID = 4
"""The lowest number of anything that is under way; those below it are the connection's own."""


class Listener(Protocol):
    """Whom a connection tells what happens; every call comes from the thread that reads the worker's replies."""

    def deliver(self, answer: Answer, event: Event) -> bool:
        """Give an event to its receiver; False if the receiver failed and wants no more."""

    def tell_progress(self, connection: Connection, progress: Progress) -> None:
        """The model is being loaded."""

    def on_ready(self, connection: Connection, info: ModelInfo) -> None:
        """The model is loaded."""

    def on_moved(self, connection: Connection, task: Underway) -> None:
        """Something got further in this worker for the first time."""

    def on_done(self, connection: Connection, task: Underway) -> None:
        """Something came to its end; its receiver has been told."""

    def on_refused(self, connection: Connection, task: Underway, error: LocalRuntimeError) -> None:
        """The worker is too full for something that an earlier worker had accepted."""

    def on_end(self, connection: Connection, end: Death | LocalRuntimeError) -> None:
        """The worker is gone; what it had not brought to an end is still in :attr:`Connection.outstanding`."""


class Connection:
    """One worker from its start to its end, and all that is under way with it.

    Args:
        options: The model to load.
        listener: Whom to tell what happens.
        open_transport: Starts the worker, given what to call with each reply and at the end.

    Raises:
        WorkerDiedError: The worker could not be started.
    """

    def __init__(self, options: LoadOptions, listener: Listener, open_transport: OpenTransport) -> None:
        self.owner_pid = os.getpid()
        self.ready = False
        self.ended = False
        self.frames = 0
        """Frames that have come from the worker."""
        self.last_pong: PongReply | None = None
        self.listening = True
        """Whether the reading thread waits for the next frame, rather than for a receiver of the last one."""
        self.outstanding: dict[int, Underway] = {}
        self._listener = listener
        # Re-entrant: a receiver is called with it free, but the garbage collector may call anything at any time.
        self._lock = threading.RLock()
        self._stats: list[concurrent.futures.Future[Any]] = []
        self._failure: LocalRuntimeError | None = None
        self._ping_open = False
        self._transport = open_transport(self._on_reply, self._on_end)
        self._transport.send(Hello())
        self._transport.send(Load(_LOAD_ID, options))

    # ---- called by the supervisor ----

    @property
    def pid(self) -> int:
        """The worker's process."""
        return self._transport.pid

    @property
    def busy(self) -> bool:
        """Whether a reply is owed, of which a worker that hangs would never come."""
        return not self.ready or bool(self.outstanding) or bool(self._stats)

    def send(self, task: Underway) -> bool:
        """Give the worker something to do; False if it has ended.

        Raises:
            ProtocolError: It has no form on the wire.
        """
        with self._lock:
            if self.ended:
                return False
            task.sent, task.moved = True, False
            task.lives += 1
            self.outstanding[task.id] = task
        try:
            self._transport.send(task.command())
        except LocalRuntimeError:
            with self._lock:
                self.outstanding.pop(task.id, None)
            raise
        return True

    def cancel(self, task: Underway) -> None:
        """Ask the worker for the end of an answer that hasn't ended."""
        if task.id in self.outstanding and isinstance(task, Answer):
            self._transport.send(Cancel(task.id))

    def ask_stats(self) -> concurrent.futures.Future[Any] | None:
        """Ask for the engine's state; None if the worker has ended."""
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        with self._lock:
            if self.ended:
                return None
            self._stats.append(future)
        self._transport.send(Stats(_STATS_ID))
        return future

    def ping(self) -> None:
        """Ask for a sign of life, unless one is owed already."""
        if not self._ping_open:
            self._ping_open = True
            self._transport.send(Ping(_PING_ID))

    def kill(self, why: str) -> None:
        """Kill the worker without asking it; its end follows as usual.

        Args:
            why: Follows "The engine process ended ".
        """
        self._transport.kill(why)

    def exited(self) -> bool:
        """Whether the worker's process is gone, even if its pipe doesn't say so."""
        return self._transport.exited()

    def abandon(self) -> Death | None:
        """Take the worker for dead although its pipe goes on; None if it has ended, or a receiver is being called."""
        with self._lock:
            if self.ended or not self.listening:
                return None
            self.ended = True
        death = self._transport.abandon()
        self._fail_stats(death.error())
        return death

    def close(self) -> None:
        """End the worker, within 3 s; its end follows as usual."""
        self._transport.close()

    # ---- called from the transport's thread ----

    def _on_reply(self, reply: Reply) -> None:
        with self._lock:
            if self.ended:
                return
            self.listening = False
        self.frames += 1
        try:
            self._take(reply)
        finally:
            self.listening = True

    def _take(self, reply: Reply) -> None:
        match reply:
            case DeltaReply():
                self._on_delta(reply)
            case FinishedReply(id=request_id):
                task = self._pop(request_id)
                if isinstance(task, Answer):
                    self._end(task, task.finish(reply))
            case FailedReply():
                self._on_failed(reply)
            case PongReply():
                self.last_pong = reply
                self._ping_open = False
            case StatsReply(stats=stats):
                with self._lock:
                    future = self._stats.pop(0) if self._stats else None
                if future is not None:
                    future.set_result(stats)
            case PromptTokensReply(id=request_id, count=count):
                task = self._pop(request_id)
                if isinstance(task, Question):
                    task.answer(count)
                    self._listener.on_done(self, task)
            case StateReply():
                task = self._pop(reply.id)
                if isinstance(task, Question):
                    task.answer(reply)
                    self._listener.on_done(self, task)
            case ProgressReply(progress=progress):
                self._listener.tell_progress(self, progress)
            case ReadyReply(info=info):
                if self.ready:
                    raise ProtocolError("The engine said twice that it is ready.")
                self.ready = True
                self._listener.on_ready(self, info)
            case HelloReply(version=version):
                check_version(version)

    def _on_delta(self, reply: DeltaReply) -> None:
        answer = self.outstanding.get(reply.id)
        if not isinstance(answer, Answer):
            return
        event = answer.take(reply)
        if not answer.moved and reply.tokens:
            answer.moved = True
            self._listener.on_moved(self, answer)
        if event is not None and not self._listener.deliver(answer, event):
            # One receiver's mistake must not stop the others' answers; and nobody is left to generate this one for.
            self._transport.send(Cancel(answer.id))

    def _on_failed(self, reply: FailedReply) -> None:
        error = reply.error()
        if reply.id in (_CONNECTION_ID, _LOAD_ID):
            self._failure = error  # The worker ends now; everybody is told when it has.
            return
        task = self._pop(reply.id)
        if task is None:
            return
        if isinstance(error, OverloadedError) and task.lives > 1 and not task.moved:
            self._listener.on_refused(self, task, error)
        else:
            self._end(task, task.fail(error))

    def _end(self, task: Underway, event: Event | None) -> None:
        if isinstance(task, Answer) and event is not None:
            self._listener.deliver(task, event)
        self._listener.on_done(self, task)

    def _pop(self, request_id: int) -> Underway | None:
        with self._lock:
            return self.outstanding.pop(request_id, None)

    def _on_end(self, end: Death | LocalRuntimeError) -> None:
        with self._lock:
            if self.ended:
                return
            self.ended = True
        end = self._failure or end
        self._fail_stats(end.error() if isinstance(end, Death) else end)
        self._listener.on_end(self, end)

    def _fail_stats(self, error: LocalRuntimeError) -> None:
        with self._lock:
            stats, self._stats = self._stats, []
        for future in stats:
            future.set_exception(error)
