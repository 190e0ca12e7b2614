"""The application's half of the engine: a worker process, kept alive by a supervisor, and what may be asked of it.

Standard library only; importing this module loads neither numpy nor TVM. Everything here may be called from any thread.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
import os
import queue
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from local_runtime.errors import LocalRuntimeError, WorkerDiedError
from local_runtime.events import EngineState, EngineStats, Event, Failed, Finished, StateKept, TextDelta, Timings, Usage
from local_runtime.options import GenerateRequest, LoadOptions, ModelInfo, Progress, check_messages
from local_runtime.protocol import CountPromptTokens, RestoreState, SaveState, StateReply
from local_runtime.supervision import Supervision
from local_runtime.supervisor import Supervisor
from local_runtime.transport import ProcessTransport, ThreadTransport, default_worker_command, worker_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from local_runtime.connection import OpenTransport
    from local_runtime.underway import Answer

__all__ = [
    "EngineState",
    "EngineStats",
    "Event",
    "EventStream",
    "Failed",
    "Finished",
    "GenerateRequest",
    "Handle",
    "LoadOptions",
    "LocalEngine",
    "ModelInfo",
    "Progress",
    "StateKept",
    "Supervision",
    "TextDelta",
    "Timings",
    "Usage",
]

_T = TypeVar("_T")


class Handle:
    """A request under way."""

    def __init__(self, engine: LocalEngine, supervisor: Supervisor, answer: Answer) -> None:
        self._engine = engine  # Keeps the engine, and with it the worker, while somebody holds the request.
        self._supervisor = supervisor
        self._answer = answer

    def cancel(self) -> None:
        """Ask for the end of this answer; its last event follows. It does nothing if the answer has ended."""
        self._supervisor.cancel(self._answer)

    def refuse_to_wait_here(self) -> None:
        """Refuse to wait for this answer in the thread that delivers it.

        Raises:
            InvalidRequestError: This is the thread that ``on_event`` is called from.
        """
        self._supervisor.refuse_to_wait_here()


class EventStream:
    """The events of one request, as an iterator that blocks; closing it cancels the request."""

    def __init__(self, engine: LocalEngine, request: GenerateRequest) -> None:
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._done = False
        self._handle = engine.submit(request, self._events.put)

    def __iter__(self) -> EventStream:
        return self

    def __next__(self) -> Event:
        if self._done:
            raise StopIteration
        if self._events.empty():
            self._handle.refuse_to_wait_here()
        event = None
        while event is None:
            # In pieces, because a wait without limit can't be interrupted by Ctrl-C on Windows.
            with contextlib.suppress(queue.Empty):
                event = self._events.get(timeout=0.5)
        self._done = isinstance(event, Finished | Failed)
        return event

    def close(self) -> None:
        """Cancel the request if it is still going; further iteration ends."""
        if not self._done:
            self._done = True
            self._handle.cancel()

    def __enter__(self) -> EventStream:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self.close()


class LocalEngine:
    """A model on this device, in a process of its own that is supervised.

    The process starts with the first request, or with :meth:`start`. If it dies or hangs, it is started again, and what was
    under way goes on where it was: whoever receives an answer sees a pause, and its last event is the one that it would
    have been. A request that kills the process three times fails with :class:`WorkerDiedError`, and nobody else's with it. If
    the process can't be kept alive at all, everything under way fails with an error that says why, requests are refused with
    it for a while, and the next one after that tries it again; :attr:`state` is ``"failed"`` then.

    Args:
        options: Which model to load, and how.
        on_progress: Called with the progress of each loading, from the engine's thread.
        in_process: Run the engine in a thread of this process instead: for debugging. It is not supervised.
        worker_command: The worker's command line, for tests that bring a worker of their own; see
            :func:`local_runtime.worker.serve`.
        supervision: How patient the supervisor is.
    """

    def __init__(
        self,
        options: LoadOptions,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        in_process: bool = False,
        worker_command: Sequence[str] | None = None,
        supervision: Supervision | None = None,
    ) -> None:
        self.options = options
        self._on_progress = on_progress
        self._in_process = in_process
        self._worker_command = None if worker_command is None else list(worker_command)
        self._supervision = supervision or Supervision()
        self._lock = threading.Lock()
        self._present: Supervisor | None = None
        self._finalizer: weakref.finalize[Any, LocalEngine] | None = None
        self._closed = False

    # ---- life ----

    def start(self, timeout_s: float | None = None) -> ModelInfo:
        """Start the worker if there is none, and wait until the model can answer, over as many restarts as it takes.

        Args:
            timeout_s: How long to wait; the loading goes on when it is over.

        Raises:
            LocalRuntimeError: The model could not be loaded, the worker can't be kept alive, or the time was over.
        """
        supervisor = self._supervisor()
        return _wait(supervisor, supervisor.when_ready(), timeout_s, "load its model")

    def close(self) -> None:
        """End the worker, within 3 s; what is under way is cancelled, and the engine can't be used again."""
        with self._lock:
            self._closed = True
            supervisor, self._present = self._present, None
            finalizer, self._finalizer = self._finalizer, None
        if finalizer is not None:
            finalizer.detach()
        if supervisor is not None:
            supervisor.close()

    def __enter__(self) -> LocalEngine:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    # ---- requests ----

    def submit(self, request: GenerateRequest, on_event: Callable[[Event], None]) -> Handle:
        """Send a request; returns at once, also when the model must be loaded first.

        Args:
            request: What to generate.
            on_event: Called with each event, one after another, from a thread of the engine; the last is one ``Finished`` or
                ``Failed``. It must return quickly and must not wait for the engine, for all requests share that thread.

        Raises:
            InvalidRequestError: The request can't be sent, because of its size or of a value that JSON lacks.
            WorkerDiedError: The engine is closed, this program can't start a process of its own, or the engine died too
                often; ``retry_after_s`` then says when it is tried again.
        """
        supervisor = self._supervisor()
        return Handle(self, supervisor, supervisor.submit(request, on_event))

    def generate(self, request: GenerateRequest) -> EventStream:
        """Send a request and iterate over its events; closing the iterator cancels the request.

        Raises:
            InvalidRequestError: The request can't be sent.
            WorkerDiedError: As for :meth:`submit`.
        """
        return EventStream(self, request)

    def count_prompt_tokens(
        self,
        messages: list[dict[str, Any]],
        chat_template_kwargs: dict[str, Any] | None = None,
        tools: list[dict[str, Any]] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> int:
        """How many tokens a conversation comes to as a prompt; loads the model if it isn't loaded.

        Raises:
            LocalRuntimeError: The conversation has the wrong shape, the model can't be loaded, or the time was over.
        """
        check_messages(messages)
        kwargs = {} if chat_template_kwargs is None else chat_template_kwargs
        supervisor = self._supervisor()
        question = supervisor.ask(lambda id_: CountPromptTokens(id_, messages, kwargs, tools or []))
        try:
            return int(_wait(supervisor, question.future, timeout_s, "count the tokens"))
        finally:
            supervisor.cancel(question)  # It does nothing if there is an answer.

    # ---- saved states ----

    def save_state(
        self,
        path: str | os.PathLike[str],
        messages: list[dict[str, Any]],
        chat_template_kwargs: dict[str, Any] | None = None,
        tools: list[dict[str, Any]] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> StateKept:
        """Write the keys and values of what every conversation that begins with ``messages`` has in common into a file.

        They are computed first where they aren't there. Every further worker of this engine gets them back, too.

        Raises:
            SavedStateError: The file cannot be written, or the model has nothing that could be saved.
            LocalRuntimeError: The conversation has the wrong shape, the model can't be loaded, or the time was over.
        """
        check_messages(messages)
        file, kwargs = str(Path(path).absolute()), chat_template_kwargs or {}
        return self._ask_for_state(
            lambda id_: SaveState(id_, file, messages, kwargs, tools or []), file, timeout_s, "save the state"
        )

    def restore_state(self, path: str | os.PathLike[str], *, timeout_s: float | None = None) -> StateKept:
        """Read such a file, so that conversations that begin like it need not compute what it holds; also in every further worker.

        Raises:
            SavedStateError: The file is missing, damaged, or not of this model as it is loaded now.
            LocalRuntimeError: The model can't be loaded, there is no room in its cache, or the time was over.
        """
        file = str(Path(path).absolute())
        return self._ask_for_state(lambda id_: RestoreState(id_, file), file, timeout_s, "restore the state")

    def _ask_for_state(
        self, make: Callable[[int], SaveState | RestoreState], file: str, timeout_s: float | None, purpose: str
    ) -> StateKept:
        supervisor = self._supervisor()
        question = supervisor.ask(make)
        try:
            reply = _wait(supervisor, question.future, timeout_s, purpose)
        finally:
            supervisor.cancel(question)  # It does nothing if there is an answer.
        assert isinstance(reply, StateReply)
        supervisor.keep_state(file)
        return StateKept(reply.tokens, reply.bytes, reply.took_s)

    # ---- state ----

    @property
    def info(self) -> ModelInfo:
        """What is loaded; loads it first if need be, like :meth:`start`."""
        return self.start()

    @property
    def state(self) -> EngineState:
        """What the engine is at, without asking its process; see :class:`EngineStats`. Only ``"ready"`` answers at once."""
        supervisor = self._own()
        return "stopped" if supervisor is None else supervisor.state

    @property
    def worker_pid(self) -> int | None:
        """The worker's process id; None while there is no worker, also between two of them."""
        supervisor = self._own()
        return None if supervisor is None else supervisor.pid

    def stats(self, timeout_s: float = 10.0) -> EngineStats:
        """The engine at this moment; starts nothing, and does not wait for a model that is being loaded.

        Raises:
            LocalRuntimeError: The worker did not answer in time.
        """
        supervisor = self._own()
        if supervisor is None:
            return EngineStats("stopped")
        future = supervisor.ask_stats() if supervisor.state == "ready" else None
        if future is not None:
            with contextlib.suppress(WorkerDiedError):
                stats: EngineStats = _wait(supervisor, future, timeout_s, "tell its state")
                return dataclasses.replace(stats, restarts=supervisor.restarts)
        # Where the worker has died in this moment, its supervisor may not know it yet.
        state = supervisor.state
        return EngineStats("restarting" if state == "ready" else state, restarts=supervisor.restarts)

    def _own(self) -> Supervisor | None:
        """The supervisor, unless it is that of a process of which this one is a fork."""
        supervisor = self._present
        return None if supervisor is None or supervisor.owner_pid != os.getpid() else supervisor

    def _supervisor(self) -> Supervisor:
        with self._lock:
            if self._closed:
                raise WorkerDiedError("The engine is closed.", "Make a new one.")
            supervisor = self._own()
            if supervisor is None:
                if self._finalizer is not None:
                    self._finalizer.detach()
                supervisor = self._present = Supervisor(
                    self.options,
                    self._open_transport(),
                    functools.partial(_tell_progress, weakref.ref(self)),
                    None if self._in_process else self._supervision,
                )
                # Also runs when the interpreter exits; holds the supervisor, never this object.
                self._finalizer = weakref.finalize(self, supervisor.close)
            return supervisor

    def _open_transport(self) -> OpenTransport:
        if self._in_process:
            return ThreadTransport
        command = self._worker_command or default_worker_command()
        environment = worker_environment(self.options.threads)
        return lambda on_reply, on_end: ProcessTransport(command, environment, on_reply, on_end)


def _tell_progress(engine: weakref.ref[LocalEngine], progress: Progress) -> None:
    # What the receiver of progress refers to may be garbage by now, the engine itself included.
    loading = engine()
    if loading is not None and loading._on_progress is not None:
        loading._on_progress(progress)


def _wait(supervisor: Supervisor, future: concurrent.futures.Future[_T], timeout_s: float | None, purpose: str) -> _T:
    if not future.done():
        supervisor.refuse_to_wait_here()
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        # In pieces, because a wait without limit can't be interrupted by Ctrl-C on Windows.
        piece_s = 0.5 if deadline is None else min(0.5, max(0.0, deadline - time.monotonic()))
        try:
            return future.result(piece_s)
        except concurrent.futures.TimeoutError:
            if deadline is not None and time.monotonic() >= deadline:
                raise LocalRuntimeError(
                    f"The engine did not {purpose} within {timeout_s} s.", "Wait longer, or close it."
                ) from None
