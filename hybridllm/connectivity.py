"""Whether the remote can be reached: a state machine, fed by real traffic first and by empty connections second.

The columns are what is noted; a cell is the state that follows, where an empty one leaves the state as it is. ``x2`` means the
second in a row: one lost packet and one failed answer change little. A login page, a first token and a whole answer from
nowhere are certain.

| state    | answering | answered  | trouble     | captive | unreachable | connected | not connected | in time |
|----------|-----------|-----------|-------------|---------|-------------|-----------|---------------|---------|
| unknown  | online    | online    | degraded    | captive | offline     | online    | offline       |         |
| online   |           |           | degraded x2 | captive | degraded    |           | degraded      |         |
| degraded |           | online x2 |             | captive | offline x2  |           | offline x2    | unknown |
| captive  | online    | online    |             |         | offline x2  |           | offline x2    | unknown |
| offline  | online    | online    | degraded    | captive |             | unknown   |               |         |

An empty connection proves that somebody listens and no more: a login page does, and so does a server that is overloaded. So it
ends ``offline``, and not what is wrong beyond that. In ``degraded`` and ``captive`` half a minute in which nothing is noted leads
back to ``unknown``: only a request can show whether it is over.
"""

from __future__ import annotations

import time
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Connectivity", "Sign"]

_TRUSTED_ONLINE_S = 60.0
_RETRY_OFFLINE_S = 3.0
_HOLD_TROUBLE_S = 30.0


class Sign(Enum):
    """Something that says how the way to the remote is."""

    ANSWERING = "answering"
    """The first token of an answer came."""

    ANSWERED = "answered"
    """The remote did what it was asked, or said why it would not."""

    TROUBLE = "trouble"
    """The remote is there, but silent, overloaded or failing, or its answer broke off."""

    CAPTIVE = "captive"
    """Somebody else answered in its name."""

    UNREACHABLE = "unreachable"
    """A request found no connection."""

    CONNECTED = "connected"
    """An empty connection came about."""

    NOT_CONNECTED = "not connected"
    """An empty connection did not come about."""


# For each state (None for unknown), what follows a sign: the next state, and how many such signs in a row it takes.
_TABLE: dict[str | None, dict[Sign, tuple[str | None, int]]] = {
    None: {
        Sign.ANSWERING: ("online", 1),
        Sign.ANSWERED: ("online", 1),
        Sign.TROUBLE: ("degraded", 1),
        Sign.CAPTIVE: ("captive", 1),
        Sign.UNREACHABLE: ("offline", 1),
        Sign.CONNECTED: ("online", 1),
        Sign.NOT_CONNECTED: ("offline", 1),
    },
    "online": {
        Sign.TROUBLE: ("degraded", 2),
        Sign.CAPTIVE: ("captive", 1),
        Sign.UNREACHABLE: ("degraded", 1),
        Sign.NOT_CONNECTED: ("degraded", 1),
    },
    "degraded": {
        Sign.ANSWERED: ("online", 2),
        Sign.CAPTIVE: ("captive", 1),
        Sign.UNREACHABLE: ("offline", 2),
        Sign.NOT_CONNECTED: ("offline", 2),
    },
    "captive": {
        Sign.ANSWERING: ("online", 1),
        Sign.ANSWERED: ("online", 1),
        Sign.UNREACHABLE: ("offline", 2),
        Sign.NOT_CONNECTED: ("offline", 2),
    },
    "offline": {
        Sign.ANSWERING: ("online", 1),
        Sign.ANSWERED: ("online", 1),
        Sign.TROUBLE: ("degraded", 1),
        Sign.CAPTIVE: ("captive", 1),
        Sign.CONNECTED: (None, 1),
    },
}
_NO_CONNECTION = (Sign.UNREACHABLE, Sign.NOT_CONNECTED)


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
        self._at_s = 0.0
        self._row: Sign | None = None
        self._row_length = 0
        self._listeners: list[Callable[[], None]] = []

    @property
    def state(self) -> str | None:
        """``online``, ``degraded``, ``captive``, ``offline``, or None for unknown."""
        if self._offline:
            return "offline"
        if self._state in ("degraded", "captive") and self._age_s() > _HOLD_TROUBLE_S:
            return None
        return self._state

    @property
    def operator_said_offline(self) -> bool:
        """Whether the remote must not be contacted, not even to see whether it is there."""
        return self._offline

    @property
    def in_doubt(self) -> bool:
        """Whether the last that is known is that no connection came about, so that only a new one can show that it is over."""
        return not self._offline and (
            self.state == "offline" or (self.state is not None and self._row in _NO_CONNECTION)
        )

    @property
    def needs_probe(self) -> bool:
        """Whether what is known is missing, doubtful or old, so that an empty connection before a request is worth its cost."""
        if self._offline:
            return False
        state = self.state
        if state == "offline":
            return self._age_s() > _RETRY_OFFLINE_S
        return state is None or self.in_doubt or (state == "online" and self._age_s() > _TRUSTED_ONLINE_S)

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call something whenever the state changes or comes into doubt; not when it is forgotten with time."""
        self._listeners.append(listener)

    def note_answering(self) -> None:
        """The first token of an answer came."""
        self.note(Sign.ANSWERING)

    def note_success(self) -> None:
        """The remote did what it was asked, or said why it would not."""
        self.note(Sign.ANSWERED)

    def note_trouble(self) -> None:
        """The remote is there, but silent, overloaded or failing."""
        self.note(Sign.TROUBLE)

    def note_captive(self) -> None:
        """Somebody else answered in the remote's name: a login page, a redirect."""
        self.note(Sign.CAPTIVE)

    def note_unreachable(self) -> None:
        """No connection came about."""
        self.note(Sign.UNREACHABLE)

    def note_probe(self, connected: bool) -> None:
        """An empty connection came about, or did not."""
        self.note(Sign.CONNECTED if connected else Sign.NOT_CONNECTED)

    def note(self, sign: Sign) -> None:
        """Take a sign into account."""
        before = (self.state, self.in_doubt)
        state = self.state
        if state != self._state:  # forgotten with time
            self._state, self._row, self._row_length = state, None, 0
        self._count(sign)
        following, needed = _TABLE[state].get(sign, (state, 1))
        if needed == 1 or self._row_length >= needed:
            self._state = following
        # What proves nothing about trouble does not keep it alive either.
        if self._state != state or sign is not Sign.CONNECTED or state not in ("degraded", "captive"):
            self._at_s = self._clock()
        if (self.state, self.in_doubt) != before:
            for listener in self._listeners:
                listener()

    def _count(self, sign: Sign) -> None:
        """How many signs of a kind came in a row. A connection, with or without a first token, ends only a lack of them."""
        if sign in (Sign.ANSWERING, Sign.CONNECTED) and self._row not in _NO_CONNECTION:
            return
        alike = sign is self._row or (sign in _NO_CONNECTION and self._row in _NO_CONNECTION)
        self._row, self._row_length = sign, self._row_length + 1 if alike else 1

    def _age_s(self) -> float:
        return self._clock() - self._at_s
