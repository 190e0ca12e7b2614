"""The engine's own process: ``python -m local_runtime.worker``, spoken to over its standard input and output.

The frames are those of :mod:`local_runtime.protocol`. Two threads: one reads commands, the other loads the model and
then turns the engine's crank. Nothing heavy is imported before a ``load`` arrives.

What the process owes its parent:

- Only frames reach the pipe: the real standard output is moved to a private descriptor and ``stdout`` becomes
  ``stderr``, so a library that prints cannot tear a frame. Standard input is taken away in the same manner.
- It never outlives the parent: the end of its standard input ends it at once, whatever it is doing. On Linux, the system
  kills it with its parent too, even if it is stopped or another process still holds the pipe; on other POSIX systems it
  looks for a change of its parent every second.
- It answers a ping at once, from the thread that reads, and says whether the engine gets anything done.
- Ctrl-C is the parent's business: SIGINT is ignored.
- Every failure is a coded error in a frame. The way that an exception took goes to standard error, but not its text,
  which may quote a conversation. Once the model is loaded, nothing else does: native libraries print what they like.
- It leaves no core dump, for that would be a copy of everybody's conversations.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, BinaryIO

from local_runtime.child_process import die_with_parent, kill_children
from local_runtime.crash_reports import (
    described,
    forbid_core_dumps,
    forbid_inspection,
    keep_to_reports,
    report,
    report_what_nobody_catches,
    say,
)
from local_runtime.errors import EngineInternalError, LocalRuntimeError, OutOfMemoryError, ProtocolError
from local_runtime.events import Event, Failed, Finished, StateKept, TextDelta, Timings, Usage
from local_runtime.protocol import (
    PROTOCOL_VERSION,
    Cancel,
    Command,
    CountPromptTokens,
    DeltaReply,
    FailedReply,
    FinishedReply,
    Generate,
    Hello,
    HelloReply,
    Load,
    Ping,
    PongReply,
    ProgressReply,
    PromptTokensReply,
    ReadyReply,
    Reply,
    RestoreState,
    SaveState,
    Shutdown,
    StateReply,
    Stats,
    StatsReply,
    check_version,
    decode_command,
    encode,
    read_frame,
    write_frame,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from local_runtime.engine import Engine
    from local_runtime.model_interface import Model
    from local_runtime.options import LoadOptions, Progress

    LoadFunction = Callable[[LoadOptions, Callable[[Progress], None]], Model]

__all__ = ["Worker", "load_model", "main", "serve"]

_PARENT_CHECK_S = 1.0


def load_model(options: LoadOptions, on_progress: Callable[[Progress], None]) -> Model:
    """Load a real model; imports everything heavy."""
    from local_runtime.memory import system_headroom_mib
    from local_runtime.memory_plan import require_room_for_libraries

    require_room_for_libraries(system_headroom_mib())  # before the import that would be killed
    from local_runtime.loader import load

    return load(options, on_progress)


class Worker:
    """Carries out commands, in the order in which they come.

    Args:
        load: Loads a model.
        send: Takes the replies; called from the thread of :meth:`run`, and from :meth:`cancel_queued`'s.
    """

    def __init__(self, load: LoadFunction, send: Callable[[Reply], None]) -> None:
        self._load = load
        self._send = send
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._engine: Engine | None = None
        self._lock = threading.Lock()
        self._queued: set[int] = set()
        self._load_failed = False
        self._beat = 0
        self._busy_since: float | None = None
        self.loading = False

    def put(self, command: Command) -> None:
        """Queue a command; any thread."""
        if isinstance(command, Generate):
            with self._lock:
                self._queued.add(command.id)
        self._commands.put(command)

    def cancel_queued(self, request_id: int) -> bool:
        """Cancel a request that the engine hasn't seen yet, without waiting for what is being done now; any thread."""
        with self._lock:
            if request_id not in self._queued:
                return False
            self._queued.remove(request_id)
        self._send(FinishedReply(request_id, "cancelled", Usage(), Timings()))
        return True

    def pong(self, ping_id: int) -> PongReply:
        """The reply to a ping: whether anything gets done here; any thread, and without waiting for it."""
        busy_since = self._busy_since
        busy_s = 0.0 if busy_since is None else max(0.0, time.monotonic() - busy_since)
        return PongReply(ping_id, self._beat, busy_s)

    def run(self) -> None:
        """Carry out commands until ``shutdown``, or until a model could not be loaded.

        Raises:
            ProtocolError: The other side speaks another version.
            BrokenPipeError: The other side is gone.
            EngineInternalError: Something failed for everybody; names what and where, and never its text.
        """
        try:
            while not self._load_failed:
                command = self._next_command()
                self._begin()
                if isinstance(command, Shutdown):
                    break
                if command is not None:
                    self._handle(command)
                elif self._engine is not None:
                    self._engine.step()
        except (LocalRuntimeError, BrokenPipeError, SystemExit):
            # What was under way is not "cancelled" but lost; its end is told by the end of this worker.
            self._engine = None
            raise
        except BaseException as error:  # noqa: BLE001 - a panic in Rust is no Exception, and its text may quote a prompt
            self._engine = None
            report("the engine failed for everybody", error)
            raise EngineInternalError(
                f"The engine failed with {described(error)}.",
                "This is a defect; its traceback is in the engine's log.",
            ) from None
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _next_command(self) -> Command | None:
        """The next command; waits for one only when the engine has nothing to do."""
        if self._engine is None or not self._engine.has_work:
            self._busy_since = None
            return self._commands.get()
        with contextlib.suppress(queue.Empty):
            return self._commands.get_nowait()
        return None

    def _begin(self) -> None:
        """Something was got done, and the next thing begins: a step, a command, a stage of loading."""
        self._beat += 1
        self._busy_since = time.monotonic()

    def _handle(self, command: Command) -> None:
        match command:
            case Hello(version=version):
                check_version(version)
                self._send(HelloReply(PROTOCOL_VERSION, os.getpid()))
            case Load():
                self._handle_load(command)
            case Generate(id=request_id, request=request):
                with self._lock:
                    if request_id not in self._queued:
                        return  # cancelled while it waited here
                    self._queued.remove(request_id)
                if engine := self._engine_for(request_id):
                    engine.submit(request_id, request, lambda event: self._send_event(request_id, event))
            case Cancel(id=request_id):
                if self._engine is not None:
                    self._engine.cancel(request_id)
            case Stats(id=request_id):
                if engine := self._engine_for(request_id):
                    self._send(StatsReply(request_id, engine.stats()))
            case CountPromptTokens(id=request_id):
                if engine := self._engine_for(request_id):
                    self._handle_count(engine, command)
            case SaveState(id=request_id):
                if engine := self._engine_for(request_id):
                    engine.save_state(command, lambda outcome: self._send_state(request_id, outcome), self._begin)
            case RestoreState(id=request_id):
                if engine := self._engine_for(request_id):
                    self._send_state(request_id, engine.restore_state(command.path))
            case Ping(id=request_id):
                self._send(self.pong(request_id))

    def _handle_load(self, command: Load) -> None:
        if self._engine is not None:
            self._send_failure(command.id, ProtocolError("A model is loaded already.", "Start another worker."))
            return
        self.loading = True
        try:
            model = self._load(command.options, lambda progress: self._tell_progress(command.id, progress))
            from local_runtime.engine import Engine

            self._engine = Engine(
                model,
                max_waiting=command.options.max_waiting,
                prefix_cache=command.options.prefix_cache,
                speculate=command.options.speculate,
            )
        except BrokenPipeError:
            raise
        except Exception as error:  # noqa: BLE001 - every failure crosses the pipe as a coded error
            self._load_failed = True
            self._send_failure(command.id, _load_error(error))
            return
        finally:
            self.loading = False
        self._send(ReadyReply(command.id, self._engine.info))

    def _tell_progress(self, load_id: int, progress: Progress) -> None:
        self._begin()
        self._send(ProgressReply(load_id, progress))

    def _handle_count(self, engine: Engine, command: CountPromptTokens) -> None:
        try:
            count = engine.count_prompt_tokens(command.messages, command.chat_template_kwargs, command.tools)
        except LocalRuntimeError as error:
            self._send_failure(command.id, error)
        else:
            self._send(PromptTokensReply(command.id, count))

    def _send_state(self, request_id: int, outcome: StateKept | LocalRuntimeError) -> None:
        if isinstance(outcome, LocalRuntimeError):
            self._send_failure(request_id, outcome)
        else:
            self._send(StateReply(request_id, outcome.tokens, outcome.file_bytes, outcome.took_s))

    def _engine_for(self, request_id: int) -> Engine | None:
        if self._engine is None:
            self._send_failure(request_id, ProtocolError("No model is loaded.", "Send load first."))
        return self._engine

    def _send_failure(self, request_id: int, error: LocalRuntimeError) -> None:
        self._send(FailedReply.of(request_id, error))

    def _send_event(self, request_id: int, event: Event) -> None:
        match event:
            case TextDelta():
                self._send(
                    DeltaReply(
                        request_id,
                        event.text,
                        event.tokens,
                        event.ids,
                        event.reasoning,
                        event.tool_calls,
                        event.logprobs,
                    )
                )
            case Finished():
                self._send(FinishedReply(request_id, event.reason, event.usage, event.timings, event.prompt_logprobs))
            case Failed(error=error):
                self._send_failure(request_id, error)


def _load_error(error: Exception) -> LocalRuntimeError:
    """The coded error for an exception while loading; no conversation is in play, so its text may be told."""
    if isinstance(error, LocalRuntimeError):
        return error
    traceback.print_exception(error)
    if isinstance(error, MemoryError):
        return OutOfMemoryError(
            "The model does not fit into memory.", "Free memory, or choose a smaller model, quant or context_tokens."
        )
    return EngineInternalError(
        f"Loading failed with {type(error).__name__}: {error}",
        "This is a defect; its traceback is in the engine's log.",
    )


# ---- the process around it ----


def serve(load: LoadFunction) -> None:
    """Be the worker process: speak the protocol over standard input and output; does not return.

    Args:
        load: Loads a model; :func:`load_model` unless a test scripts one.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    dies_with_parent = die_with_parent()
    forbid_core_dumps()
    report_what_nobody_catches()
    commands, replies = _take_over_standard_streams()
    write_lock = threading.Lock()

    def send(reply: Reply) -> None:
        payload = encode(reply)
        with write_lock:
            write_frame(replies, payload)

    def load_and_be_silent(options: LoadOptions, on_progress: Callable[[Progress], None]) -> Model:
        model = load(options, on_progress)
        # Until here no conversation was looked at, and what a library says about a model that fails to load helps.
        keep_to_reports()
        forbid_inspection()
        return model

    worker = Worker(load_and_be_silent, send)
    threading.Thread(target=_read_commands, args=(commands, worker, send), name="commands", daemon=True).start()
    if os.name == "posix" and not dies_with_parent:
        threading.Thread(target=_watch_parent, args=(os.getppid(), worker), name="parent", daemon=True).start()
    try:
        worker.run()
    except BrokenPipeError:
        _exit_now(0)
    except ProtocolError as error:
        _give_up(error, send)
    except BaseException as error:  # noqa: BLE001 - the process ends with it, and says so
        # The parent quotes the last line of standard error when it tells of our end.
        last = error.message if isinstance(error, LocalRuntimeError) else type(error).__name__
        say(last)
        _exit_now(70)
    _exit_now(0)


def _take_over_standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """Move the pipes to private descriptors, so that nothing else in this process can read from or print into them."""
    commands = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return commands, replies


def _read_commands(commands: BinaryIO, worker: Worker, send: Callable[[Reply], None]) -> None:
    """Read frames for ever; the end of the stream is the end of the process."""
    try:
        while (payload := read_frame(commands)) is not None:
            try:
                command = decode_command(payload)
            except ProtocolError:
                raise
            except LocalRuntimeError as error:
                # The frame is sound, a value in it is not: refuse that request and go on.
                send(FailedReply.of(_request_id(payload), error))
                continue
            if isinstance(command, Ping):
                send(worker.pong(command.id))
                continue
            if isinstance(command, Cancel) and worker.cancel_queued(command.id):
                continue
            if isinstance(command, Shutdown) and worker.loading:
                break  # Loading can take minutes, and nothing of it is needed any more.
            worker.put(command)
    except ProtocolError as error:
        _give_up(error, send)
    except OSError:
        pass  # The parent closed its ends; that is the end of the stream too.
    except BaseException as error:  # noqa: BLE001 - without this thread the worker would outlive its parent
        report("a command could not be read", error)
        _exit_now(70, worker)
    _exit_now(0, worker)


def _give_up(error: LocalRuntimeError, send: Callable[[Reply], None]) -> None:
    """End because the two sides don't understand each other; request 0 means the connection itself."""
    say(str(error))
    with contextlib.suppress(OSError):
        send(FailedReply.of(0, error))
    _exit_now(2)


def _request_id(payload: bytes) -> int:
    return int(json.loads(payload).get("id", 0))


def _watch_parent(parent: int, worker: Worker) -> None:
    while os.getppid() == parent:
        time.sleep(_PARENT_CHECK_S)
    _exit_now(0, worker)


def _exit_now(code: int, worker: Worker | None = None) -> None:
    """End the process without waiting for threads that are inside native code."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    if worker is not None and worker.loading:
        kill_children(os.getpid())  # what loading has started, such as the process that compiles
    os._exit(code)


def main() -> None:
    """Entry point of ``python -m local_runtime.worker``."""
    serve(load_model)


if __name__ == "__main__":
    main()
