"""Whether the remote can be reached, learnt from real traffic first and from empty connections second."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Connectivity"]

_TRUSTED_ONLINE_S = 60.0
_RETRY_OFFLINE_S = 3.0
_HOLD_TROUBLE_S = 30.0


class Connectivity:
    """The state of the way to the remote: one of ``policies.CONNECTIVITY``, or None while nothing is known.

    Args:
        offline: Whether the operator said so; then nothing else counts and nothing is ever probed.
        clock: Seconds that only go forward.
    """

    def __init__(self, *, offline: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._offline = offline
        self._clock = clock
        self._state: str | None = None
        self._since_s = 0.0

    @property
    def state(self) -> str | None:
        """``online``, ``degraded``, ``captive``, ``offline``, or None for unknown.

        Trouble is forgotten after half a minute: only new traffic can show whether it is over.
        """
        if self._offline:
            return "offline"
        if self._state in ("degraded", "captive") and self._age_s() > _HOLD_TROUBLE_S:
            return None
        return self._state

    @property
    def needs_probe(self) -> bool:
        """Whether what is known is missing or old, so that an empty connection is worth its cost."""
        if self._offline:
            return False
        state = self.state
        if state is None:
            return True
        if state == "offline":
            return self._age_s() > _RETRY_OFFLINE_S
        return state == "online" and self._age_s() > _TRUSTED_ONLINE_S

    def note_success(self) -> None:
        """The remote answered as it should."""
        self._note("online")

    def note_trouble(self) -> None:
        """The remote is there, but silent, overloaded or failing."""
        self._note("degraded")

    def note_captive(self) -> None:
        """Somebody else answered in the remote's name: a login page, a redirect."""
        self._note("captive")

    def note_unreachable(self) -> None:
        """No connection came about."""
        self._note("offline")

    def note_probe(self, connected: bool) -> None:
        """An empty connection came about, or did not. A login page accepts connections too, so it proves little."""
        if not connected:
            self._note("offline")
        elif self.state not in ("degraded", "captive"):
            self._note("online")

    def _note(self, state: str) -> None:
        self._state = state
        self._since_s = self._clock()

    def _age_s(self) -> float:
        return self._clock() - self._since_s
