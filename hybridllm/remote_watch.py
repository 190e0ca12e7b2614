"""Notices that a remote is back before a request has to find it out: empty connections while nothing else is under way.

They carry nothing of anybody. None is opened while the operator has said offline, or no policy lets the remote's zone see
anything; and none where real traffic says how things are, or where a connection would not show it.
"""

from __future__ import annotations

import asyncio
import random
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hybridllm.breaker import CircuitBreaker
    from hybridllm.connectivity import Connectivity

__all__ = ["RemoteWatch"]

# A loop holds its tasks weakly, and one that is collected together with its client would be reported as lost.
_under_way: set[asyncio.Task[None]] = set()


class RemoteWatch:
    """A task of the event loop that waits until there is something to find out, and then probes, ever more seldom.

    Args:
        probe: Opens an empty connection within so many seconds and says whether it came about: ``EgressGate.probe``.
        connectivity: Says when something is in doubt, and learns what was found.
        breaker: The same.
        idle: Whether nothing is under way at the remote.
        may_probe: Whether the policy in force lets the remote see anything at all.
        first_wait_s: Wait before the first probe.
        longest_wait_s: Longest wait between two; it doubles up to there.
        timeout_s: How long a connection may take.
        chance: Gives numbers from 0 to 1.
    """

    def __init__(
        self,
        probe: Callable[[float], Awaitable[bool]],
        connectivity: Connectivity,
        breaker: CircuitBreaker,
        *,
        idle: Callable[[], bool],
        may_probe: Callable[[], bool],
        first_wait_s: float = 1.0,
        longest_wait_s: float = 30.0,
        timeout_s: float = 2.0,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._probe = probe
        self._connectivity = connectivity
        self._breaker = breaker
        self._idle = idle
        self._may_probe = may_probe
        self._first_wait_s = first_wait_s
        self._longest_wait_s = longest_wait_s
        self._wait_s = first_wait_s
        self._timeout_s = timeout_s
        self._chance = chance
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        connectivity.subscribe(self._changed.set)
        breaker.subscribe(self._changed.set)

    def __del__(self) -> None:
        task = getattr(self, "_task", None)
        if task is not None and not task.done():
            try:
                task.get_loop().call_soon_threadsafe(task.cancel)
            except RuntimeError:  # the loop was closed without an end of its tasks, and reports them itself
                _under_way.discard(task)

    def start(self) -> None:
        """Begin to watch, in the running event loop; does nothing the second time, and nothing while the client is offline."""
        if self._closed or self._connectivity.operator_said_offline:
            return
        if self._task is None or self._task.done():
            watching = _watching(weakref.ref(self), self._changed)
            self._task = asyncio.get_running_loop().create_task(watching, name="hybridllm-remote-watch")
            _under_way.add(self._task)
            self._task.add_done_callback(_under_way.discard)

    async def aclose(self) -> None:
        """End it; does nothing the second time."""
        self._closed = True
        task, self._task = self._task, None
        if task is not None and not task.done() and task.get_loop() is asyncio.get_running_loop():
            task.cancel()
            await asyncio.wait([task])

    def _next_wait_s(self) -> float | None:
        """How long to wait before the next look; None while there is nothing to find out."""
        if not self._in_doubt():
            self._wait_s = self._first_wait_s
            return None
        return self._wait_s * (
            0.5 + 0.5 * self._chance()
        )  # by chance, so that many clients do not come at the same moment

    async def _look(self) -> None:
        if self._in_doubt() and self._idle() and self._may_probe():
            connected = await self._probe(self._timeout_s)
            self._connectivity.note_probe(connected)
            self._breaker.note_probe(connected)
        self._wait_s = min(2 * self._wait_s, self._longest_wait_s)

    def _in_doubt(self) -> bool:
        return self._connectivity.in_doubt or self._breaker.waits_for_connection


async def _watching(owner: weakref.ref[RemoteWatch], changed: asyncio.Event) -> None:
    """Watch for as long as somebody has the watch: a client that is dropped takes it along."""
    while (watch := owner()) is not None:
        changed.clear()
        wait_s = watch._next_wait_s()
        del watch
        if await _set_within(changed, wait_s):
            continue  # what was in doubt may be clear now, or the other way round
        watch = owner()
        if watch is not None:
            await watch._look()


async def _set_within(event: asyncio.Event, seconds: float | None) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
