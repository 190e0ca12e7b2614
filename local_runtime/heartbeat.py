"""Tells a worker that hangs from one that is slow.

Plain arithmetic over what the supervisor sees at each of its ticks. Two things are signs of a hang: silence, because nobody
answers pings any more (a stopped process, an interpreter in a deadlock), and a step that never ends while pings are answered
(a kernel that waits for a device for ever). A machine under load gives slow signs of both, so:

- time counts in ticks of the supervisor, each of which counts for two intervals at most: when the whole machine was
  suspended, or this process got no processor, the worker is not blamed for the gap;
- a silent process that computes, waits for a disk (swapped out, or reading its libraries from a slow card) or waits for a
  processor is given more time, and one that a debugger holds is left alone;
- how long a step may take is measured in steps that this machine has managed, and after a mistake in this, in four times that.

Standard library only: the application's process imports this module.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from local_runtime.protocol import PongReply
    from local_runtime.supervision import Supervision

__all__ = ["Heartbeat", "Sight", "look_at"]

_PATIENCE = 4.0
"""What the limit of a step is multiplied with when one was taken for stuck: on a slow machine it may just have been long."""

_AT_WORK = 0.05
"""Share of one processor above which a silent process counts as computing."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What the system tells of a process.

    Attributes:
        cpu_s: Processor time that it has used.
        stopped: Whether a signal has stopped it.
        traced: Whether a debugger holds it.
        waiting: Whether it waits for a disk, or is ready to run and has no processor.
    """

    cpu_s: float
    stopped: bool = False
    traced: bool = False
    waiting: bool = False


def look_at(pid: int) -> Sight | None:
    """Ask the system about a process; None if it is gone or can't be asked about."""
    import psutil  # not at the top: it takes a moment to import, and is needed only when something is wrong

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            status, times = process.status(), process.cpu_times()
    except psutil.Error:
        return None
    return Sight(
        cpu_s=times.user + times.system,
        stopped=status == psutil.STATUS_STOPPED,
        traced=status == psutil.STATUS_TRACING_STOP,
        # Elsewhere than on Linux, a process that sleeps is called running too.
        waiting=status == psutil.STATUS_DISK_SLEEP or (status == psutil.STATUS_RUNNING and sys.platform == "linux"),
    )


class Heartbeat:
    """Judges the workers of one engine, one after another.

    Args:
        limits: The supervisor's limits.
        look: Asks the system about a process.
    """

    def __init__(self, limits: Supervision, look: Callable[[int], Sight | None] = look_at) -> None:
        self._limits = limits
        self._look = look
        self._longest_step_s: float | None = None
        self._patience = 1.0
        self.new_worker()

    def new_worker(self) -> None:
        """Forget the last worker, but not how long steps take here."""
        self._frames = -1
        self._silent_s = 0.0
        self._seen: Sight | None = None
        self._seen_at_s = 0.0
        self._pong: PongReply | None = None
        self._same_beat_s = 0.0

    def worked(self, *, finished: bool = False) -> None:
        """A token was given out, or, if ``finished``, a whole request: the machine manages its steps within the limits."""
        self._longest_step_s = self._longest_step_s or 0.0
        if finished:
            self._patience = 1.0

    def tick(
        self, elapsed_s: float, pid: int, *, frames: int, pong: PongReply | None, listening: bool, ready: bool
    ) -> str | None:
        """Judge the worker after another tick.

        Args:
            elapsed_s: Time since the last tick.
            pid: The worker's process.
            frames: How many frames have come from it so far.
            pong: The last pong that came.
            listening: Whether somebody waits for its next frame; a receiver that takes its time makes no silence.
            ready: Whether its model is loaded: loading is no step and takes what it takes.

        Returns:
            None, or why it is to be killed, to follow "The engine process ended ".
        """
        counted_s = min(elapsed_s, 2 * self._limits.ping_s)
        return self._judge_silence(counted_s, pid, frames, listening) or self._judge_step(counted_s, pong, ready)

    def _judge_silence(self, counted_s: float, pid: int, frames: int, listening: bool) -> str | None:
        if frames != self._frames or not listening:
            self._frames = frames
            self._silent_s = 0.0
            self._seen = None
            return None
        self._silent_s += counted_s
        if self._silent_s < self._limits.hang_s / 2:
            return None
        sight = self._look(pid)
        if sight is None:
            return None  # It is gone, which its pipe will tell.
        if sight.traced:
            self._silent_s = 0.0
            return None
        before = self._seen
        if before is None:
            self._seen, self._seen_at_s = sight, self._silent_s
            return None
        if self._silent_s < self._limits.hang_s:
            return None
        used = (sight.cpu_s - before.cpu_s) / max(self._silent_s - self._seen_at_s, 1e-9)
        alive = not sight.stopped and (sight.waiting or used > _AT_WORK)
        if alive and self._silent_s < self._limits.silence_s:
            return None
        return f"by the supervisor's hand, for it had given no sign of life for {self._silent_s:.0f} s"

    def _judge_step(self, counted_s: float, pong: PongReply | None, ready: bool) -> str | None:
        before, self._pong = self._pong, pong
        if pong is None or before is None or pong is before:
            return None
        if pong.beat != before.beat or not ready:
            if ready and before.busy_s:
                self._longest_step_s = max(self._longest_step_s or 0.0, before.busy_s)
            self._same_beat_s = 0.0
            return None
        if not pong.busy_s:
            self._same_beat_s = 0.0
            return None
        self._same_beat_s += counted_s
        stuck_s = min(self._same_beat_s, pong.busy_s)
        if stuck_s <= self._limit_of_a_step_s():
            return None
        self._patience *= _PATIENCE
        return f"by the supervisor's hand, for one step had not come to an end for {stuck_s:.0f} s"

    def _limit_of_a_step_s(self) -> float:
        limits = self._limits
        if self._longest_step_s is None:
            return self._patience * limits.first_step_s
        return self._patience * max(limits.step_s, limits.step_factor * self._longest_step_s)
