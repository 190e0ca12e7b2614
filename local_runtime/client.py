"""The application's half of the engine: starts the worker process, speaks with it, and survives its death.

Standard library only; importing this module loads neither numpy nor TVM. Everything here may be called from any thread.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import queue
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

from local_runtime.connection import Connection
from local_runtime.errors import LocalRuntimeError, WorkerDiedError
from local_runtime.events import EngineStats, Event, Failed, Finished, TextDelta, Timings, Usage
from local_runtime.options import GenerateRequest, LoadOptions, ModelInfo, Progress, check_messages
from local_runtime.protocol import CountPromptTokens, Stats
from local_runtime.transport import ProcessTransport, ThreadTransport, default_worker_command, worker_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from local_runtime.connection import OpenTransport

__all__ = [
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
    "TextDelta",
    "Timings",
    "Usage",
]

_T = TypeVar("_T")


class Handle:
    """A request under way."""

    def __init__(self, engine: LocalEngine, connection: Connection, request_id: int) -> None:
        self._engine = engine  # Keeps the engine, and with it the worker, while somebody holds the request.
        self._connection = connection
        self._request_id = request_id

    def cancel(self) -> None:
        """Ask for the end of this answer; its last event follows. It does nothing if the answer has ended."""
        self._connection.cancel(self._request_id)

    def refuse_to_wait_here(self) -> None:
        """Refuse to wait for this answer in the thread that delivers it.

        Raises:
            InvalidRequestError: This is the thread that ``on_event`` is called from.
        """
        self._connection.refuse_to_wait_here()


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
    """A model on this device, in a process of its own.

    The process starts with the first request, or with :meth:`start`. If it dies, what was under way ends with
    ``Failed(WorkerDiedError)`` and the next request starts a new one.

    Args:
        options: Which model to load, and how.
        on_progress: Called with the progress of loading, from the engine's thread.
        in_process: Run the engine in a thread of this process instead: for debugging.
        worker_command: The worker's command line, for tests that bring a worker of their own; see
            :func:`local_runtime.worker.serve`.
    """

    def __init__(
        self,
        options: LoadOptions,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        in_process: bool = False,
        worker_command: Sequence[str] | None = None,
    ) -> None:
        self.options = options
        self._on_progress = on_progress
        self._in_process = in_process
        self._worker_command = None if worker_command is None else list(worker_command)
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._finalizer: weakref.finalize[Any, LocalEngine] | None = None
        self._closed = False

    # ---- life ----

    def start(self, timeout_s: float | None = None) -> ModelInfo:
        """Start the worker if there is none, and wait until the model can answer.

        Args:
            timeout_s: How long to wait; the loading goes on when it is over.

        Raises:
            LocalRuntimeError: The model could not be loaded, the worker died, or the time was over.
        """
        connection = self._connect()
        return self._wait(connection, connection.ready, timeout_s, "load its model")

    def close(self) -> None:
        """End the worker, within 3 s; what is under way is cancelled, and the engine can't be used again."""
        with self._lock:
            self._closed = True
            connection, self._connection = self._connection, None
            finalizer, self._finalizer = self._finalizer, None
        if finalizer is not None:
            finalizer.detach()
        if connection is not None:
            connection.close()

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
            on_event: Called from the engine's thread with each event; the last is one ``Finished`` or ``Failed``. It
                must return quickly and must not wait for the engine, for all requests share that thread.

        Raises:
            InvalidRequestError: The request can't be sent, because of its size or of a value that JSON lacks.
            WorkerDiedError: The engine is closed, or its process could not be started.
        """
        while True:
            connection = self._connect()
            request_id = connection.submit(request, on_event)
            if request_id is not None:
                return Handle(self, connection, request_id)

    def generate(self, request: GenerateRequest) -> EventStream:
        """Send a request and iterate over its events; closing the iterator cancels the request.

        Raises:
            InvalidRequestError: The request can't be sent.
            WorkerDiedError: The engine is closed, or its process could not be started.
        """
        return EventStream(self, request)

    def count_prompt_tokens(
        self,
        messages: list[dict[str, Any]],
        chat_template_kwargs: dict[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> int:
        """How many tokens a conversation comes to as a prompt; loads the model if it isn't loaded.

        Raises:
            LocalRuntimeError: The conversation has the wrong shape, the model can't be loaded, or the time was over.
        """
        check_messages(messages)
        kwargs = {} if chat_template_kwargs is None else chat_template_kwargs
        return int(self._ask(lambda id_: CountPromptTokens(id_, messages, kwargs), timeout_s, "count the tokens"))

    # ---- state ----

    @property
    def info(self) -> ModelInfo:
        """What is loaded; loads it first if need be, like :meth:`start`."""
        return self.start()

    @property
    def worker_pid(self) -> int | None:
        """The worker's process id; None while there is no worker."""
        connection = self._live_connection()
        return None if connection is None else connection.pid

    def stats(self, timeout_s: float = 10.0) -> EngineStats:
        """The engine at this moment; starts nothing, and does not wait for a model that is being loaded.

        Raises:
            LocalRuntimeError: The worker died in this moment, or did not answer in time.
        """
        connection = self._live_connection()
        if connection is None:
            return EngineStats("stopped")
        if not connection.ready.done():
            return EngineStats("loading")
        future = connection.ask(Stats)
        if future is None:
            return EngineStats("stopped")
        stats: EngineStats = self._wait(connection, future, timeout_s, "tell its state")
        return stats

    def _ask(self, make: Callable[[int], CountPromptTokens], timeout_s: float | None, purpose: str) -> Any:
        while True:
            connection = self._connect()
            future = connection.ask(make)
            if future is not None:
                return self._wait(connection, future, timeout_s, purpose)

    def _live_connection(self) -> Connection | None:
        connection = self._connection
        if connection is None or connection.ended or connection.owner_pid != os.getpid():
            return None
        return connection

    def _connect(self) -> Connection:
        with self._lock:
            if self._closed:
                raise WorkerDiedError("The engine is closed.", "Make a new one.")
            connection = self._live_connection()
            if connection is None:
                if self._finalizer is not None:
                    self._finalizer.detach()
                connection = self._connection = Connection(self.options, self._on_progress, self._open_transport())
                # Also runs when the interpreter exits; holds the connection, never this object.
                self._finalizer = weakref.finalize(self, connection.close)
            return connection

    def _open_transport(self) -> OpenTransport:
        if self._in_process:
            return ThreadTransport
        command = self._worker_command or default_worker_command()
        environment = worker_environment(self.options.threads)
        return lambda on_reply, on_end: ProcessTransport(command, environment, on_reply, on_end)

    def _wait(
        self, connection: Connection, future: concurrent.futures.Future[_T], timeout_s: float | None, purpose: str
    ) -> _T:
        if not future.done():
            connection.refuse_to_wait_here()
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
