"""Keeps an engine answering: starts its worker, starts it again when it dies, and takes what was under way to the next one.

One thread owns all decisions. Whatever happens (a request, a reply that matters, the end of a worker, the tick of a clock) is a
call in its inbox, so that no two of them meet, and putting something there waits for nobody: the garbage collector may do it
in the middle of anything. The events of answers don't take this way; the thread that reads the worker's replies
delivers them.

A worker that dies takes nothing with it but time. A request that was under way goes to the next worker together with the
tokens that were given out, and goes on there. :class:`local_runtime.roster.Roster` knows which one is to blame if there are
several deaths, :class:`local_runtime.crash_loop.CrashLoop` when the engine is given up for a while, and
:class:`local_runtime.watch.Watch` when a worker hangs.

Standard library only: the application's process imports this module.
"""

from __future__ import annotations

import concurrent.futures
import errno
import functools
import itertools
import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from local_runtime.connection import FIRST_ID, Connection
from local_runtime.crash_loop import CrashLoop
from local_runtime.crash_reports import described
from local_runtime.deaths import Death
from local_runtime.errors import (
    EngineInternalError,
    InvalidRequestError,
    LocalRuntimeError,
    ProtocolError,
    WorkerDiedError,
)
from local_runtime.inbox import Inbox
from local_runtime.kept_states import KeptStates, Restoring
from local_runtime.protocol import encode
from local_runtime.receivers import Receivers
from local_runtime.roster import Roster
from local_runtime.underway import Answer, Question, Underway
from local_runtime.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from local_runtime.connection import OpenTransport
    from local_runtime.events import EngineState, Event
    from local_runtime.options import GenerateRequest, LoadOptions, ModelInfo, Progress
    from local_runtime.supervision import Supervision
    from local_runtime.underway import Asked

__all__ = ["Supervisor"]

_log = logging.getLogger("local_runtime.client")

_CLOSE_S = 3.5
"""How long to wait for the thread that closes a worker, which itself takes 3 s at most."""

_PASSING = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
"""Why a process could not be started just now, but might be a moment later."""


class Supervisor:
    """The life of one engine over all its workers. Everything public may be called from any thread.

    Args:
        options: The model to load.
        open_transport: Starts a worker.
        on_progress: Called with the progress of every loading.
        limits: How patient to be; None for a worker that is not supervised: its end is the end of all that it had to do.
    """

    def __init__(
        self,
        options: LoadOptions,
        open_transport: OpenTransport,
        on_progress: Callable[[Progress], None],
        limits: Supervision | None,
    ) -> None:
        self.owner_pid = os.getpid()
        self.restarts = 0
        """How often a worker was started because an earlier one had died."""
        self._options = options
        self._open_transport = open_transport
        self._limits = limits
        self._crash_loop = None if limits is None else CrashLoop(limits)
        self._receivers = Receivers(on_progress)
        self._ids = itertools.count(FIRST_ID)
        self._inbox = Inbox(self._keep_time, self._on_defect)
        self._lock = threading.RLock()  # for what follows, up to the next blank line
        self._closed = False
        self._state: EngineState = "stopped"

        self._connection: Connection | None = None  # from here on: the supervisor's thread alone writes
        self._roster = Roster(None if limits is None else limits.suspected_after)
        self._watch = Watch(limits)
        self._waiting_for_ready: list[concurrent.futures.Future[ModelInfo]] = []
        self._info: ModelInfo | None = None
        self._ready_at = 0.0
        self._start_at: float | None = None
        self._died_before = False
        self._states = KeptStates(options.saved_state)

    # ---- from any thread ----

    @property
    def state(self) -> EngineState:
        """What the engine is at."""
        return self._state

    @property
    def pid(self) -> int | None:
        """The present worker's process; None while there is none."""
        connection = self._connection
        return None if connection is None or connection.ended else connection.pid

    def submit(self, request: GenerateRequest, on_event: Callable[[Event], None]) -> Answer:
        """Begin an answer.

        Raises:
            InvalidRequestError: It has no form on the wire.
            WorkerDiedError: The engine is closed, or given up for now.
        """
        answer = Answer(next(self._ids), request, on_event)
        self._accept(answer)
        return answer

    def ask(self, make: Callable[[int], Asked]) -> Question:
        """Ask a question; its answer comes in the question's future.

        Raises:
            InvalidRequestError: It has no form on the wire.
            WorkerDiedError: The engine is closed, or given up for now.
        """
        number = next(self._ids)
        question = Question(number, make(number))
        self._accept(question)
        return question

    def keep_state(self, path: str) -> None:
        """Restore a saved state in every worker from the next one on; the present one has it."""
        if os.getpid() == self.owner_pid:
            self._inbox.put(functools.partial(self._states.keep, path))

    def when_ready(self) -> concurrent.futures.Future[ModelInfo]:
        """Start a worker if there is none; the future tells what it loaded, or why it can't.

        Raises:
            WorkerDiedError: The engine is closed, or given up for now.
        """
        future: concurrent.futures.Future[ModelInfo] = concurrent.futures.Future()
        self._put_if_open(functools.partial(self._on_wanted, future))
        return future

    def ask_stats(self) -> concurrent.futures.Future[Any] | None:
        """Ask the worker for its state; None if there is none that is ready."""
        connection = self._connection
        if connection is None or not connection.ready:
            return None
        future = connection.ask_stats()
        self._inbox.put(self._look_after)
        return future

    def cancel(self, task: Underway) -> None:
        """Ask for the end of something under way."""
        task.cancelled = True
        if os.getpid() == self.owner_pid:
            self._inbox.put(functools.partial(self._on_cancel, task))

    def refuse_to_wait_here(self) -> None:
        """Refuse to wait for the engine in a receiver of its events.

        Raises:
            InvalidRequestError: This is one.
        """
        self._receivers.refuse_to_wait_here()

    def close(self) -> None:
        """End the worker, within 3 s; what is under way gets its last event. Called from a receiver, it doesn't wait for that."""
        if os.getpid() != self.owner_pid:
            return  # A fork of the application must not end its parent's worker.
        with self._lock:
            first, self._closed = not self._closed, True
            if first:
                self._inbox.put(self._on_close)
        self._inbox.join(_CLOSE_S)

    def _accept(self, task: Underway) -> None:
        if self._limits is not None:  # a thread of this process takes what JSON has no form for
            try:
                encode(task.command())
            except ProtocolError as error:
                raise InvalidRequestError(error.message, error.mend) from None
        self._put_if_open(functools.partial(self._on_submit, task))

    def _put_if_open(self, call: Callable[[], None]) -> None:
        with self._lock:
            if self._closed:
                raise WorkerDiedError("The engine is closed.", "Make a new one.")
            if (refusal := self._refusal()) is not None:
                raise refusal
            self._inbox.start()
            if self._state == "stopped":
                self._state = "loading"
            self._inbox.put(call)

    def _refusal(self) -> WorkerDiedError | None:
        return None if self._crash_loop is None else self._crash_loop.refusal(time.monotonic())

    def _set_state(self, state: EngineState) -> None:
        with self._lock:
            self._state = state

    # ---- from the thread that reads the worker's replies (a Listener) ----

    def deliver(self, answer: Answer, event: Event) -> bool:
        """Give an event to its receiver; False if that failed, after which it gets no more."""
        return self._receivers.deliver(answer, event)

    def tell_progress(self, connection: Connection, progress: Progress) -> None:
        """Pass on how far the loading is."""
        self._receivers.tell_progress(connection, progress)

    def on_ready(self, connection: Connection, info: ModelInfo) -> None:
        """The model is loaded."""
        self._inbox.put(functools.partial(self._ready, connection, info))

    def on_moved(self, connection: Connection, task: Underway) -> None:
        """Something got further."""
        self._inbox.put(functools.partial(self._moved, task))

    def on_done(self, connection: Connection, task: Underway) -> None:
        """Something came to its end."""
        self._inbox.put(functools.partial(self._done, task))

    def on_refused(self, connection: Connection, task: Underway, error: LocalRuntimeError) -> None:
        """An earlier worker had accepted it, so it waits for a place in this one."""
        self._inbox.put(functools.partial(self._refused, connection, task, error))

    def on_end(self, connection: Connection, end: Death | LocalRuntimeError) -> None:
        """The worker is gone."""
        if not self._inbox.put(functools.partial(self._ended, connection, end)):
            # The supervisor's thread did not wait for this one, which was held up in a receiver.
            self._fail(connection.outstanding.values(), end.error() if isinstance(end, Death) else end)

    # ---- the supervisor's thread ----

    def _keep_time(self) -> float | None:
        """Do what is due; returns when the next thing will be."""
        if self._start_at is not None and time.monotonic() >= self._start_at:
            self._start_worker()
        if self._watch.due_at is not None and time.monotonic() >= self._watch.due_at:
            connection, death = self._connection, self._watch.tick(self._connection)
            if connection is not None and death is not None:
                self._ended(connection, death)
        return min((at for at in (self._start_at, self._watch.due_at) if at is not None), default=None)

    def _on_defect(self, error: Exception) -> None:
        _log.error("the engine's supervisor failed with %s", described(error))
        defect = EngineInternalError(
            f"The engine's supervisor failed with {described(error)}.", "This is a defect; ask again."
        )
        if self._connection is not None:
            self._connection.kill("by the supervisor's hand, because of a defect in the supervisor")
        elif self._start_at is None:
            self._set_state("stopped")
        self._fail_waiting_for_ready(defect)
        for task in self._roster:
            if not task.sent:  # the others share the worker's end
                self._conclude(task, task.fail(defect))

    # -- what is asked --

    def _on_submit(self, task: Underway) -> None:
        if task.cancelled:
            self._conclude(task, task.cancel())
            return
        self._roster.add(task)
        self._need_worker()
        self._dispatch()

    def _on_wanted(self, future: concurrent.futures.Future[ModelInfo]) -> None:
        if self._connection is not None and self._connection.ready and self._info is not None:
            future.set_result(self._info)
            return
        self._waiting_for_ready.append(future)
        self._need_worker()

    def _on_cancel(self, task: Underway) -> None:
        if task not in self._roster:
            return
        if task.sent:
            if self._connection is not None:
                self._connection.cancel(task)
            return
        self._conclude(task, task.cancel())

    def _dispatch(self) -> None:
        """Send what is due."""
        connection = self._connection
        if connection is None or not connection.ready:
            return
        for task in self._roster.due():
            try:
                if not connection.send(task):
                    break  # The worker has ended; the message about it is on its way.
            except LocalRuntimeError as error:
                self._conclude(task, task.fail(InvalidRequestError(error.message, error.mend)))
                self._inbox.put(self._dispatch)
        self._look_after()

    def _look_after(self) -> None:
        self._watch.look_after(self._connection)

    def _conclude(self, task: Underway, event: Event | None) -> None:
        """End something that no worker has."""
        self._roster.remove(task)
        if isinstance(task, Answer):
            self._receivers.deliver(task, event)
        if isinstance(task, Restoring):
            self._states.ended(task)
        task.forget()

    # -- what the worker says --

    def _ready(self, connection: Connection, info: ModelInfo) -> None:
        if connection is not self._connection:
            return
        self._ready_at = time.monotonic()
        self._info = info
        self._set_state("ready")
        waiting, self._waiting_for_ready = self._waiting_for_ready, []
        for future in waiting:
            _settle(future, info)
        for restoring in self._states.begin(lambda: next(self._ids)):
            self._roster.add_first(restoring)
        self._dispatch()

    def _moved(self, task: Underway) -> None:
        self._worked()
        if self._roster.moved(task):
            self._dispatch()

    def _done(self, task: Underway) -> None:
        task.forget()
        if isinstance(task, Restoring):
            self._states.ended(
                task
            )  # which is not what anybody wanted done: a worker that does no more than this goes in circles
        else:
            self._worked(finished=True)
        if self._roster.remove(task):
            self._dispatch()

    def _refused(self, connection: Connection, task: Underway, error: LocalRuntimeError) -> None:
        if connection is self._connection and any(other.sent for other in self._roster if other is not task):
            task.sent = False  # It is sent again as soon as another one has ended.
        else:
            self._conclude(task, task.fail(error))

    def _worked(self, *, finished: bool = False) -> None:
        self._watch.worked(finished=finished)
        if self._crash_loop is not None:
            self._crash_loop.worked()

    # -- beginnings and ends of workers --

    def _need_worker(self) -> None:
        if self._connection is not None or self._start_at is not None:
            return
        refusal = self._refusal()
        if refusal is not None:  # It was given up between the request's coming in and now.
            self._fail_everything(refusal)
        else:
            self._start_worker()

    def _start_worker(self) -> None:
        self._start_at = None
        self._set_state("restarting" if self._died_before else "loading")
        self._watch.new_worker()
        try:
            self._connection = Connection(self._options, self, self._open_transport)
        except LocalRuntimeError as error:
            cause = error.__cause__
            if self._limits is not None and isinstance(cause, OSError) and cause.errno in _PASSING:
                self._after_death(
                    Death(f"before it began, since it could not be started ({cause.strerror})"), [], was_ready=False
                )
            else:
                self._set_state("stopped")
                self._fail_everything(error)
            return
        if self._died_before:
            self._died_before = False
            self.restarts += 1
        self._look_after()

    def _ended(self, connection: Connection, end: Death | LocalRuntimeError) -> None:
        if connection is not self._connection:
            return  # It had been taken for dead already.
        self._connection = None
        self._watch.stop()
        blamed = self._roster.died(connection.outstanding, was_ready=connection.ready)
        if self._closed or self._limits is None or (isinstance(end, LocalRuntimeError) and not connection.ready):
            # A model that can't be loaded, a program that isn't a worker: the next attempt would end the same way.
            self._set_state("stopped")
            self._fail_everything(end.error() if isinstance(end, Death) else end)
            return
        death = end if isinstance(end, Death) else Death.by(end)
        _log.warning("The engine process ended %s", death.words)
        for task in self._roster:
            if task.cancelled:
                self._conclude(task, task.cancel())
            elif isinstance(task, Answer) and not task.can_go_on:
                self._conclude(task, task.fail(death.error()))
        self._after_death(death, blamed, was_ready=connection.ready)

    def _after_death(self, death: Death, blamed: list[Underway], *, was_ready: bool) -> None:
        """Decide how to go on."""
        assert self._limits is not None
        assert self._crash_loop is not None
        self._died_before = True
        if was_ready and time.monotonic() - self._ready_at >= self._limits.steady_s:
            self._worked()
        wait_s = self._crash_loop.died(death, blamed=bool(blamed))
        suspect = blamed[0] if len(blamed) == 1 and blamed[0] in self._roster else None
        if suspect is not None and suspect.deaths >= self._limits.convicted_after:
            others_wait = len(self._roster) > 1 or bool(self._waiting_for_ready)
            error, give_up = self._crash_loop.convict(death, others_wait=others_wait)
            if not give_up:
                self._start_in(0.0)  # Before the receiver is told, who may take his time.
            self._conclude(suspect, suspect.fail(error))
            if give_up:
                self._give_up(death, "worked on one request after another")
        elif wait_s is None:
            self._give_up(death, "was idle" if was_ready else "loaded the model")
        elif self._roster or self._waiting_for_ready or (was_ready and self._crash_loop.deaths == 1):
            self._start_in(wait_s)
        else:
            self._set_state("stopped")  # Nobody waits, and it has just been tried: the next request starts it.

    def _give_up(self, death: Death, doing: str) -> None:
        assert self._crash_loop is not None
        error = self._crash_loop.give_up(death, doing, time.monotonic())
        self._set_state("failed")
        _log.error("%s", error.message)
        self._fail_everything(error)

    def _start_in(self, wait_s: float) -> None:
        self._set_state("restarting")
        if wait_s:
            self._start_at = time.monotonic() + wait_s
        else:
            self._start_worker()

    def _fail_everything(self, error: LocalRuntimeError) -> None:
        self._fail_waiting_for_ready(error)
        self._fail(self._roster.clear(), error)

    def _fail_waiting_for_ready(self, error: LocalRuntimeError) -> None:
        waiting, self._waiting_for_ready = self._waiting_for_ready, []
        for future in waiting:
            _settle(future, error)

    def _fail(self, tasks: Iterable[Underway], error: LocalRuntimeError) -> None:
        for task in list(tasks):
            event = task.cancel() if task.cancelled else task.fail(error)
            if isinstance(task, Answer):
                self._receivers.deliver(task, event)
            task.forget()

    # -- the end --

    def _on_close(self) -> None:
        self._start_at = None
        self._watch.stop()
        if (connection := self._connection) is not None:
            connection.close()
            # Its reader has told of the end by now, unless it is held up in a receiver.
            while self._connection is not None:
                if not self._inbox.take(timeout_s=0.0 if connection.listening else 0.5):
                    break
        self._set_state("stopped")
        self._inbox.end()
        if self._connection is not None:  # Whatever it still has, its reader brings to an end.
            for task in list(self._connection.outstanding.values()):
                self._roster.remove(task)
        self._fail_everything(WorkerDiedError("The engine was closed before the answer was complete.", "Ask again."))


def _settle(future: concurrent.futures.Future[ModelInfo], outcome: ModelInfo | LocalRuntimeError) -> None:
    if not future.set_running_or_notify_cancel():
        return
    if isinstance(outcome, LocalRuntimeError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
