"""How an engine process ended, in words for whoever waited for it.

Standard library only: the application's process imports this module.
"""

from __future__ import annotations

import contextlib
import signal
from dataclasses import dataclass
from pathlib import Path

from local_runtime.errors import LocalRuntimeError, WorkerDiedError

__all__ = ["Death", "how_it_ended", "memory_kills"]

_VMSTAT = Path("/proc/vmstat")

_ASK_AGAIN = "Ask again; the engine starts anew."
_MEMORY_MEND = (
    "Free memory, give a smaller context_tokens, max_sequences or memory_mib, or choose a smaller model or quant."
)


@dataclass(frozen=True, slots=True)
class Death:
    """The end of an engine process that nobody asked for.

    Attributes:
        how: Completes "The engine process ended ...".
        last_words: The last line of its standard error; the engine writes no content there.
        killed: Whether somebody killed it outright (SIGKILL), as the system does when memory is short.
        for_memory: Whether the kernel counted a kill for memory meanwhile. It may have been for memory all the same: not
            every system tells, and a daemon that watches the memory kills like anybody else.
    """

    how: str
    last_words: str = ""
    killed: bool = False
    for_memory: bool = False

    @classmethod
    def by(cls, error: LocalRuntimeError) -> Death:
        """The end of a process with which no further word could be exchanged."""
        return cls(f"because of an error ({error.message.rstrip('.')})")

    @property
    def words(self) -> str:
        """How it ended and its last words, to follow "The engine process ended "."""
        memory = ", for the system ran short of memory" if self.for_memory else ""
        said = f" Its last words: {self.last_words}" if self.last_words else ""
        return f"{self.how}{memory}.{said}"

    def error(self) -> WorkerDiedError:
        """For whoever waited for this one process."""
        return WorkerDiedError(f"The engine process ended {self.words}", self._mend(_ASK_AGAIN, self.killed))

    def given_up(self, deaths: int, doing: str, retry_after_s: float, *, twice_killed: bool) -> WorkerDiedError:
        """For whoever waits for an engine that is not started again for now.

        Args:
            deaths: How often in a row it died without getting anything done.
            doing: What it did the last time, to follow "while it".
            retry_after_s: How long the cool-down goes on.
            twice_killed: Whether it was killed outright the last two times.
        """
        error = WorkerDiedError(
            f"The engine process died {_times(deaths)} in a row without getting anything done, "
            f"and the last time, while it {doing}, it ended {self.words}",
            self._mend(f"A request in {max(1, round(retry_after_s))} s or later tries it again.", twice_killed),
        )
        error.retry_after_s = retry_after_s
        return error

    def convicted(self, deaths: int, *, twice_killed: bool) -> WorkerDiedError:
        """For the request that kills the engine.

        Args:
            deaths: How often the engine died while it worked on this request.
            twice_killed: Whether it was killed outright the last two times.
        """
        return WorkerDiedError(
            f"The engine process died {_times(deaths)} while it worked on this request, the last time on nothing else; "
            f"it ended {self.words}",
            self._mend("Don't send this request again as it is; others are served.", twice_killed),
        )

    def _mend(self, otherwise: str, may_be_memory: bool) -> str:
        if self.for_memory:
            return f"{_MEMORY_MEND} {otherwise}"
        if may_be_memory:
            return f"If the system runs short of memory: {_MEMORY_MEND[0].lower()}{_MEMORY_MEND[1:]} {otherwise}"
        return otherwise


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def how_it_ended(returncode: int) -> str:
    """What a return code says, to follow "The engine process ended ": negative ones are signals."""
    if returncode >= 0:
        return f"with exit code {returncode}"
    try:
        return f"by signal {signal.Signals(-returncode).name}"
    except ValueError:
        return f"by signal {-returncode}"


def memory_kills() -> int:
    """How many processes the kernel has killed for memory so far, in cgroups too (Linux, proc_vmstat(5)); 0 if it doesn't say."""
    with contextlib.suppress(OSError, ValueError):
        for line in _VMSTAT.read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
