"""An event loop in a thread of its own, so that the blocking face needs no second implementation."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

from hybridllm.boundary import debugging, without_content
from hybridllm.errors import BadRequest, Cancelled

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["LoopThread"]

_T = TypeVar("_T")
_log = logging.getLogger("hybridllm")
# A wait without a limit cannot be interrupted by Ctrl-C on Windows, so it is made of short ones.
_WAIT_S = 0.2
_GIVE_BACK_S = 5.0


class LoopThread:
    """Runs coroutines for callers that block. The thread starts with the first one and ends with ``close``.

    A process that is forked has the object but not its thread, so there it counts as closed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._ending = threading.Event()
        self._owner_pid = os.getpid()

    @property
    def closed(self) -> bool:
        """Whether nothing can be run any more."""
        return self._closed or self._owner_pid != os.getpid()

    def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run to the end and return the result.

        Ctrl-C in the waiting thread cancels the coroutine, waits until it has given back what it held, and goes on as
        ``KeyboardInterrupt``.

        Raises:
            BadRequest: It is called from the loop's own thread.
            Cancelled: ``close`` was called before, or in the meantime, or the process was forked.
        """
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise BadRequest(
                "The blocking client was called from its own event loop, which would wait for ever.",
                "Use AsyncHybridClient there.",
            )
        future: concurrent.futures.Future[_T] = concurrent.futures.Future()
        task: list[asyncio.Task[_T]] = []

        def settle(done: asyncio.Task[_T]) -> None:
            if done.cancelled():
                future.set_exception(Cancelled("The client was closed while it was answering.", "Make a new one."))
            elif (error := done.exception()) is not None:
                future.set_exception(error)
            else:
                future.set_result(done.result())

        def launch() -> None:
            task.append(loop.create_task(coroutine))
            task[0].add_done_callback(settle)

        try:
            self._check_not_forked()
            # One lock for this and for `close`, so that the loop never ends with something queued that nobody would run.
            with self._lock:
                loop = self._started()
                loop.call_soon_threadsafe(launch)
        except Cancelled:
            coroutine.close()
            raise
        try:
            return _wait(future)
        except BaseException:
            if not future.done():
                # Queued after `launch`, so the task is there.
                loop.call_soon_threadsafe(lambda: task[0].cancel())
                concurrent.futures.wait([future], timeout=_GIVE_BACK_S)
            raise

    def close(self) -> None:
        """Cancel what is running and end the thread; does nothing the second time."""
        if self._owner_pid != os.getpid():
            return
        with self._lock:
            self._closed = True
            loop, self._loop = self._loop, None
            if loop is not None:
                _stop(loop, self._ending)
        if loop is not None and self._thread is not None:
            self._thread.join(timeout=10)

    def _check_not_forked(self) -> None:
        if self._owner_pid != os.getpid():
            raise Cancelled("The client was made before this process was forked.", "Make a new one in every process.")

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._closed:
            raise Cancelled("The client is closed.", "Make a new one.")
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._loop.set_exception_handler(_tell_without_content)
            self._thread = threading.Thread(
                target=_serve, args=(self._loop, self._ending), name="hybridllm-loop", daemon=True
            )
            self._thread.start()
            weakref.finalize(self, _stop, self._loop, self._ending)  # for a client that nobody closed
        return self._loop


def _wait(future: concurrent.futures.Future[_T]) -> _T:
    while True:
        try:
            return future.result(timeout=_WAIT_S)
        except TimeoutError:
            # Either the short wait is over, or the coroutine itself ended with a TimeoutError.
            if future.done():
                return future.result()


def _stop(loop: asyncio.AbstractEventLoop, ending: threading.Event) -> None:
    ending.set()
    with contextlib.suppress(RuntimeError):  # it has ended already
        loop.call_soon_threadsafe(loop.stop)


def _tell_without_content(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what failed where nobody waits for it: an answer that was dropped, say. asyncio would show it with all variables."""
    error = context.get("exception")
    if debugging():
        loop.default_exception_handler(context)
    elif isinstance(error, BaseException):
        _log.error("Something failed in the client's background: %s", without_content(error))


def _serve(loop: asyncio.AbstractEventLoop, ending: threading.Event) -> None:
    asyncio.set_event_loop(loop)
    try:
        while True:
            # A place may raise SystemExit, which asyncio lets through although whoever waits for the task gets it too. One
            # answer's end must not be that of all others.
            with contextlib.suppress(SystemExit, KeyboardInterrupt):
                loop.run_forever()
            if ending.is_set():
                break
    finally:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=5))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
