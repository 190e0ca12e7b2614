"""How commands reach a worker and replies come back: from a child process over pipes, or from a thread.

Standard library only: the application's process imports this module. A transport calls ``on_reply`` for each reply and
then, exactly once, ``on_end``; both from its own thread. What reached its end unasked is told as a :class:`Death`.
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

from local_runtime.child_process import kill_children, parent_variable, python_command, python_environment
from local_runtime.crash_reports import described
from local_runtime.deaths import Death, how_it_ended, memory_kills
from local_runtime.errors import EngineInternalError, LocalRuntimeError, WorkerDiedError
from local_runtime.inbox import EngineThread
from local_runtime.protocol import Command, Reply, Shutdown, decode_reply, encode, read_frame, write_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import IO

__all__ = [
    "ProcessTransport",
    "ThreadTransport",
    "Transport",
    "default_worker_command",
    "worker_environment",
]

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

    def kill(self, why: str) -> None:
        """Kill the worker, and what it has started, without asking; ``on_end`` follows with ``why`` as the way it ended."""

    def exited(self) -> bool:
        """Whether the worker is gone, even if nothing has told so yet."""

    def abandon(self) -> Death:
        """Wait no longer for the end of a worker that was killed or is gone; returns what is known of it."""

    def close(self) -> None:
        """End the worker, within 3 s; it may be called again and from any thread."""


class ProcessTransport:
    """A worker in a child process.

    Args:
        command: The program and its arguments.
        environment: The child's environment variables.
        on_reply: Called with each reply.
        on_end: Called once when the child is gone: with how it ended, or with why it could not be understood.

    The child ends with the thread that starts it (see :func:`local_runtime.child_process.die_with_parent`), so this must be
    a thread that lasts.

    Raises:
        WorkerDiedError: The child could not be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: dict[str, str],
        on_reply: Callable[[Reply], None],
        on_end: Callable[[Death | LocalRuntimeError], None],
    ) -> None:
        self._on_reply = on_reply
        self._on_end = on_end
        self._closing = False
        self._killed_because = ""
        self._memory_kills = memory_kills()
        self._owner_pid = os.getpid()
        self._stderr_tail: collections.deque[str] = collections.deque(maxlen=20)
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment | parent_variable(),
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

    def kill(self, why: str) -> None:
        """Kill the child and what it has started."""
        if os.getpid() == self._owner_pid:
            self._killed_because = why
            self._kill_tree()

    def exited(self) -> bool:
        """Whether the child is gone; its pipe stays open if another process has inherited the other end."""
        return self._process.poll() is not None

    def abandon(self) -> Death:
        """Wait no longer for the child's end: it can't be killed, or somebody keeps its pipe open."""
        self._outgoing.put(None)
        return self._death()

    def close(self) -> None:
        """End the child: ask it, then have the system ask it, then kill it; within 3 s."""
        if os.getpid() != self._owner_pid:
            return  # A fork of the application must not end its parent's worker.
        self._closing = True
        self._outgoing.put(encode(Shutdown()))
        for timeout_s, then in ((_SHUTDOWN_S, self._process.terminate), (_TERMINATE_S, self._kill_tree)):
            if self._ended_within(timeout_s):
                break
            then()
        else:
            self._ended_within(_KILL_S)
        self._outgoing.put(None)
        if threading.current_thread() is not self._reader:
            self._reader.join(timeout=_KILL_S)

    def _spawn(self, name: str, target: Callable[[IO[bytes]], None], stream: IO[bytes]) -> threading.Thread:
        thread = EngineThread(name, target, stream)
        thread.start()
        return thread

    def _kill_tree(self) -> None:
        """Kill the child and what it has started, such as the process that compiles."""
        if sys.platform == "win32":
            kill_children(self._process.pid)
        else:
            # It leads a session of its own, and so a process group with its own number. ESRCH: they are all gone; EPERM: on
            # macOS, a group of which only the dead leader is left.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()

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
        self._kill_tree()  # what it had started must not outlive it, however it ended
        self._process.wait()
        self._outgoing.put(None)
        self._stderr_reader.join(timeout=0.5)
        killed = bool(self._killed_because) or (ended_by_itself and self._process.returncode < 0)
        if self._closing:
            self._on_end(_closed())
        elif misunderstood is None or killed:
            self._on_end(self._death())
        else:
            self._on_end(misunderstood)

    def _death(self) -> Death:
        code = self._process.poll()
        if code is None:
            return Death(
                f"{self._killed_because}, and does not go away" if self._killed_because else "in an unknown way"
            )
        last_words = self._stderr_tail[-1][:300] if self._stderr_tail else ""
        if self._killed_because:
            return Death(self._killed_because, last_words)
        killed = os.name == "posix" and code == -signal.SIGKILL
        return Death(how_it_ended(code), last_words, killed, killed and memory_kills() > self._memory_kills)


class ThreadTransport:
    """A worker in a thread of this process, for debugging; it takes the application along when it crashes."""

    def __init__(self, on_reply: Callable[[Reply], None], on_end: Callable[[Death | LocalRuntimeError], None]) -> None:
        from local_runtime import worker  # not at the top: the module itself is light, but rarely needed here

        self._on_end = on_end
        self._worker = worker.Worker(worker.load_model, on_reply)
        self._thread = EngineThread("worker", self._run)
        self._thread.start()

    @property
    def pid(self) -> int:
        """This process."""
        return os.getpid()

    def send(self, command: Command) -> None:
        """Queue a command."""
        self._worker.put(command)

    def kill(self, why: str) -> None:
        """A thread can't be killed; nobody supervises one."""
        _log.error("the engine's thread hangs (it would have ended %s); a thread can't be killed", why)

    def exited(self) -> bool:
        """Whether the thread has ended."""
        return not self._thread.is_alive()

    def abandon(self) -> Death:
        """Leave the thread to itself."""
        return Death("in an unknown way")

    def close(self) -> None:
        """End the thread; a model that is being loaded is waited for at most 3 s and then left to end by itself."""
        self._worker.put(Shutdown())
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=_SHUTDOWN_S + _TERMINATE_S + _KILL_S)

    def _run(self) -> None:
        end: LocalRuntimeError = _closed()
        try:
            self._worker.run()
        except LocalRuntimeError as error:
            end = error
        except Exception as error:  # noqa: BLE001 - the thread's last act is to say why it ends
            _log.error("the engine's thread ended with %s", described(error))
            end = EngineInternalError(f"The engine's thread ended with {type(error).__name__}.", "See the log.")
        self._on_end(end)


def _closed() -> WorkerDiedError:
    return WorkerDiedError("The engine was closed before the answer was complete.", "Ask again.")


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
