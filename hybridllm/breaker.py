"""A circuit breaker: a remote that fails several times in a row is left alone for a while, then probed by one request at a time.

- ``closed``: everybody is let through. It ends with ``failures`` failures in a row, or at once where the remote asks for a pause
  that is longer than a request would wait.
- ``open``: nobody is let through. It ends after ``open_s``, doubled with each probe that failed and at most ten times as long;
  or earlier, where nothing was wrong but that no connection came about, and now one does.
- ``half_open``: one request at a time is let through, until its first token is there. It ends with ``successes`` whole answers in a
  row, or with one failure.

It is pure: what it knows of time and chance it is given. Used in one event loop.
"""

from __future__ import annotations

import math
import random
import time
from typing import TYPE_CHECKING

from hybridllm.errors import BreakerOpen
from policies import Breaker

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybridllm.health import BreakerState

__all__ = ["LONGEST_WAIT_S", "CircuitBreaker", "Passage"]

LONGEST_WAIT_S = 5.0
"""The longest pause between two tries of a request; a remote that asks for a longer one is left alone by all requests."""

_LONGEST_OPEN = 10
# Each client adds up to this share of its own, so that a fleet of them does not come back in the same moment.
_JITTER = 0.25
_PROBE_TAKES_S = 1.0


class Passage:
    """Leave for one try. How it ended is said once; what is said afterwards, or of a time before the state changed, is ignored.

    Made by ``CircuitBreaker.admit``.
    """

    def __init__(self, breaker: CircuitBreaker, generation: int) -> None:
        self._breaker = breaker
        self._generation = generation
        self._over = False

    def answering(self) -> None:
        """The first token is there: the next one may probe, but this one's end is not known yet."""
        self._breaker._free(self)

    def succeeded(self) -> None:
        """The remote did what it was asked, or said why it would not."""
        if self._ends():
            self._breaker._note_success(self._generation)

    def failed(self, *, unreachable: bool = False, retry_after_s: float | None = None) -> None:
        """The remote failed.

        Args:
            unreachable: Because no connection came about.
            retry_after_s: The pause that it asked for.
        """
        if self._ends():
            self._breaker._note_failure(self._generation, unreachable, retry_after_s or 0.0)

    def release(self) -> None:
        """It says nothing about the remote how this ended; does nothing where something was said already."""
        self._ends()

    def _ends(self) -> bool:
        first, self._over = not self._over, True
        self._breaker._free(self)
        return first


class CircuitBreaker:
    """The breaker of one remote.

    Args:
        settings: Gives the parameters in force.
        clock: Seconds that only go forward.
        chance: Gives numbers from 0 to 1.
    """

    def __init__(
        self,
        settings: Callable[[], Breaker] = Breaker,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._chance = chance
        self._listeners: list[Callable[[], None]] = []
        self._until_s: float | None = None  # None while it is closed
        self._failures = 0
        self._successes = 0
        self._times_opened = 0
        self._unreachable = False  # the last failure: no connection came about
        self._probe: Passage | None = None
        self._generation = 0

    @property
    def state(self) -> BreakerState:
        """``closed``, ``open`` or ``half_open``."""
        if self._until_s is None:
            return "closed"
        return "open" if self._clock() < self._until_s else "half_open"

    @property
    def waits_for_connection(self) -> bool:
        """Whether it is not closed because no connection came about, the last time; then an empty one would say something."""
        return self._until_s is not None and self._unreachable

    @property
    def open_for_s(self) -> float:
        """Seconds until a request is let through as a probe; 0 unless it is open."""
        return 0.0 if self._until_s is None else max(0.0, self._until_s - self._clock())

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call something whenever it opens, half-opens early, or closes."""
        self._listeners.append(listener)

    def admit(self) -> Passage:
        """Let one try through.

        Raises:
            BreakerOpen: It is left alone; says for how long.
        """
        state = self.state
        if state == "open":
            left_s = self.open_for_s
            failed = f"failed {self._failures} times in a row" if self._failures > 1 else "failed"
            raise BreakerOpen(
                f"The remote {failed} and is left alone for another {math.ceil(left_s)} s.",
                "Try again later.",
                retry_after_s=left_s,
            )
        passage = Passage(self, self._generation)
        if state == "half_open":
            if self._probe is not None:
                raise BreakerOpen(
                    "The remote failed, and another request is just finding out whether it is well again.",
                    "Try again in a second.",
                    retry_after_s=_PROBE_TAKES_S,
                )
            self._probe = passage
        return passage

    def admits_in(self, wait_s: float) -> bool:
        """Whether a try in so many seconds may be let through, as far as it can be known now."""
        return self.open_for_s <= wait_s

    def note_probe(self, connected: bool) -> None:
        """An empty connection came about, or did not, while no request was under way.

        One that did ends the wait if nothing else was wrong than that none came about: whether the remote answers is for a
        request to find out. One that did not saves a request from finding that out.
        """
        if self._until_s is None:
            return
        if connected:
            if self._unreachable and self.state == "open":
                self._until_s = self._clock()
                self._tell()
            self._unreachable = False
        elif self.state == "half_open" and self._probe is None:
            self._unreachable = True
            self._open(0.0)

    def _note_success(self, generation: int) -> None:
        if generation != self._generation:
            return
        self._failures = 0
        if self._until_s is None:
            return
        self._successes += 1
        if self._successes >= self._settings().successes:
            self._until_s = None
            self._times_opened = self._successes = 0
            self._generation += 1
            self._tell()

    def _note_failure(self, generation: int, unreachable: bool, retry_after_s: float) -> None:
        if generation != self._generation:
            return
        self._unreachable = unreachable
        self._failures += 1
        probed = self._until_s is not None
        if probed or self._failures >= self._settings().failures or retry_after_s > LONGEST_WAIT_S:
            self._open(retry_after_s)

    def _open(self, retry_after_s: float) -> None:
        settings = self._settings()
        longest_s = _LONGEST_OPEN * settings.open_s
        open_s = min(settings.open_s * 2.0 ** min(self._times_opened, 10), longest_s)
        open_s = max(open_s, min(retry_after_s, longest_s)) * (1.0 + _JITTER * self._chance())
        self._until_s = self._clock() + open_s
        self._times_opened += 1
        self._successes = 0
        self._probe = None
        self._generation += 1
        self._tell()

    def _free(self, passage: Passage) -> None:
        if self._probe is passage:
            self._probe = None

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()
