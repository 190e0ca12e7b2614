"""How commands reach a worker and replies come back: from a child process over pipes, or from a thread.

Standard library only: the application's process imports this module. A transport calls ``on_reply`` for each reply and
then, exactly once, ``on_end``; both from its own thread.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Protocol

from local_runtime.child_process import python_command, python_environment
from local_runtime.crash_reports import described
from local_runtime.errors import EngineInternalError, LocalRuntimeError, WorkerDiedError
from local_runtime.protocol import Command, Reply, Shutdown, decode_reply, encode, read_frame, write_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import IO

__all__ = ["ProcessTransport", "ThreadTransport", "Transport", "default_worker_command", "worker_environment"]

_log = logging.getLogger("local_runtime.worker")

_SHUTDOWN_S, _TERMINATE_S, _KILL_S = 1.25, 0.75, 0.5
"""How long a worker has to end by itself, after being asked to by the system, and after being killed: under 3 s."""

_DYING_S = 0.25
"""How long after a frame that makes no sense a worker may take to be gone, and so to have been killed in mid-frame."""


class Transport(Protocol):
    """A way to a worker."""

    @property
    def pid(self) -> int:
        """The process that the worker runs in."""

    def send(self, command: Command) -> None:
        """Send a command without waiting for the worker; a worker that is gone is told of by ``on_end``."""

    def close(self) -> None:
        """End the worker, within 3 s; it may be called again and from any thread."""


class ProcessTransport:
    """A worker in a child process.

    Args:
        command: The program and its arguments.
        environment: The child's environment variables.
        on_reply: Called with each reply.
        on_end: Called once when the child is gone, with what is known of why.

    Raises:
        WorkerDiedError: The child could not be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: dict[str, str],
        on_reply: Callable[[Reply], None],
        on_end: Callable[[LocalRuntimeError], None],
    ) -> None:
        self._on_reply = on_reply
        self._on_end = on_end
        self._closing = False
        self._owner_pid = os.getpid()
        self._stderr_tail: collections.deque[str] = collections.deque(maxlen=20)
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                # Ctrl-C on the terminal is for the application; the child must not even see it while it starts.
                start_new_session=os.name == "posix",
                creationflags=_windows_creation_flags(),
            )
        except OSError as error:
            raise WorkerDiedError(
                f"The engine process could not be started: {error}.", f"Check that {command[0]} can be run."
            ) from error
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        assert stdin is not None
        assert stdout is not None
        assert stderr is not None
        self._reader = self._spawn("reader", self._read, stdout)
        self._stderr_reader = self._spawn("stderr", self._read_stderr, stderr)
        self._spawn("writer", self._write, stdin)

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def send(self, command: Command) -> None:
        """Send a command without waiting for the child.

        Raises:
            ProtocolError: The command has no form on the wire.
        """
        self._outgoing.put(encode(command))

    def close(self) -> None:
        """End the child: ask it, then have the system ask it, then kill it; within 3 s."""
        if os.getpid() != self._owner_pid:
            return  # A fork of the application must not end its parent's worker.
        self._closing = True
        self._outgoing.put(encode(Shutdown()))
        for timeout_s, then in ((_SHUTDOWN_S, self._process.terminate), (_TERMINATE_S, self._process.kill)):
            if self._ended_within(timeout_s):
                break
            then()
        else:
            self._ended_within(_KILL_S)
        self._outgoing.put(None)
        if threading.current_thread() is not self._reader:
            self._reader.join(timeout=_KILL_S)

    def _spawn(self, name: str, target: Callable[[IO[bytes]], None], stream: IO[bytes]) -> threading.Thread:
        thread = threading.Thread(target=target, args=(stream,), name=f"local-engine-{name}", daemon=True)
        thread.start()
        return thread

    def _ended_within(self, timeout_s: float) -> bool:
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _write(self, stream: IO[bytes]) -> None:
        # A broken pipe means that the child is gone, which the reader tells with its cause.
        with contextlib.suppress(OSError):
            while (payload := self._outgoing.get()) is not None:
                write_frame(stream, payload)  # type: ignore[arg-type]
        with contextlib.suppress(OSError):
            stream.close()

    def _read_stderr(self, stream: IO[bytes]) -> None:
        with stream:
            for raw in stream:
                line = raw.decode("utf-8", "replace").rstrip()
                if line:
                    self._stderr_tail.append(line)
                    _log.debug("%s", line)

    def _read(self, stream: IO[bytes]) -> None:
        misunderstood: LocalRuntimeError | None = None
        with stream:
            try:
                while (payload := read_frame(stream)) is not None:  # type: ignore[arg-type]
                    self._on_reply(decode_reply(payload))
            except LocalRuntimeError as error:
                misunderstood = error
            except OSError as error:
                misunderstood = WorkerDiedError(f"The pipe from the engine process broke: {error}.")
            except Exception as error:  # noqa: BLE001 - without its reader, everybody would wait for ever
                _log.error("a reply of the engine could not be taken: %s", described(error))
                misunderstood = EngineInternalError(f"A reply of the engine failed with {type(error).__name__}.")
        # A process that is killed in the middle of a frame looks like one that speaks nonsense, but is gone in a moment.
        ended_by_itself = self._ended_within(_SHUTDOWN_S if misunderstood is None or self._closing else _DYING_S)
        if not ended_by_itself:
            self._process.kill()
        self._process.wait()
        self._outgoing.put(None)
        self._stderr_reader.join(timeout=0.5)
        killed = ended_by_itself and self._process.returncode < 0
        if misunderstood is None or self._closing or killed:
            self._on_end(self._death())
        else:
            self._on_end(misunderstood)

    def _death(self) -> WorkerDiedError:
        if self._closing:
            return WorkerDiedError("The engine was closed before the answer was complete.", "Ask again.")
        code = self._process.returncode
        last = f" Its last words: {self._stderr_tail[-1][:300]}" if self._stderr_tail else ""
        if code >= 0:
            how = f"with exit code {code}"
        else:
            try:
                how = f"by signal {signal.Signals(-code).name}"
            except ValueError:
                how = f"by signal {-code}"
        mend = "Ask again; the engine starts anew."
        if code == -9:
            mend = (
                "If the system ran short of memory, free some, or choose a smaller model, quant or context_tokens; "
                "the next request starts the engine anew."
            )
        return WorkerDiedError(f"The engine process ended {how} while it was needed.{last}", mend)


class ThreadTransport:
    """A worker in a thread of this process, for debugging; it takes the application along when it crashes."""

    def __init__(self, on_reply: Callable[[Reply], None], on_end: Callable[[LocalRuntimeError], None]) -> None:
        from local_runtime import worker  # not at the top: the module itself is light, but rarely needed here

        self._on_end = on_end
        self._worker = worker.Worker(worker.load_model, on_reply)
        self._thread = threading.Thread(target=self._run, name="local-engine", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """This process."""
        return os.getpid()

    def send(self, command: Command) -> None:
        """Queue a command."""
        self._worker.put(command)

    def close(self) -> None:
        """End the thread; a model that is being loaded is waited for at most 3 s and then left to end by itself."""
        self._worker.put(Shutdown())
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=_SHUTDOWN_S + _TERMINATE_S + _KILL_S)

    def _run(self) -> None:
        end: LocalRuntimeError = WorkerDiedError("The engine was closed before the answer was complete.", "Ask again.")
        try:
            self._worker.run()
        except LocalRuntimeError as error:
            end = error
        except Exception as error:  # noqa: BLE001 - the thread's last act is to say why it ends
            _log.error("the engine's thread ended with %s", described(error))
            end = EngineInternalError(f"The engine's thread ended with {type(error).__name__}.", "See the log.")
        self._on_end(end)


def default_worker_command() -> list[str]:
    """The command line of a worker.

    Raises:
        WorkerDiedError: This program has no Python interpreter to start.
    """
    return python_command("local_runtime.worker")


def worker_environment(threads: int | None) -> dict[str, str]:
    """The environment of a worker.

    Args:
        threads: Threads of the CPU kernels; None leaves the choice to the loader.
    """
    return python_environment() | ({} if threads is None else {"TVM_NUM_THREADS": str(threads)})


def _windows_creation_flags() -> int:
    if sys.platform == "win32":
        return subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
    return 0
