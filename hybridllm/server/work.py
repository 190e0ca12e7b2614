"""The requests under way: how many there may be, who still listens, and how they are ended when the server ends."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Self, TypeVar

from hybridllm.server.problems import ClientGoneError, Problem, RefusedError, retry_after

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from starlette.types import Receive

__all__ = ["Slot", "Work"]

_T = TypeVar("_T")
_WEIGHT = 0.2  # of the newest request in the mean duration
_STOPPING = Problem(
    503, "The server is ending. Ask again in a moment.", "server_error", "stopping", headers=(("retry-after", "1"),)
)


class Work:
    """All requests under way.

    Args:
        most: How many there may be.

    Attributes:
        draining: Whether no further one is taken.
    """

    def __init__(self, most: int) -> None:
        self.draining = False
        self._most = most
        self._slots: set[Slot] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._mean_s = 1.0

    def begin(self) -> Slot:
        """A place for one request, to be used in a ``with`` block.

        Raises:
            RefusedError: There are too many already, or the server is ending.
        """
        if self.draining:
            raise RefusedError(_STOPPING)
        if len(self._slots) >= self._most:
            raise RefusedError(
                Problem(
                    429,
                    f"The server answers {self._most} requests already. Ask again later.",
                    "rate_limit_error",
                    "overloaded",
                    headers=(retry_after(self._mean_s / self._most),),
                )
            )
        slot = Slot(self)
        self._slots.add(slot)
        self._idle.clear()
        return slot

    async def drain(self, within_s: float) -> bool:
        """Take no further request, and wait for those under way.

        Returns:
            Whether all of them ended by themselves.
        """
        self.draining = True
        try:
            async with asyncio.timeout(within_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def stop_all(self) -> None:
        """End every request; each says so to whoever asked."""
        self.draining = True
        for slot in self._slots:
            slot.stop()

    def _ended(self, slot: Slot, duration_s: float) -> None:
        self._slots.discard(slot)
        self._mean_s += _WEIGHT * (duration_s - self._mean_s)
        if not self._slots:
            self._idle.set()


class Slot:
    """One request's place."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._began_s = time.monotonic()
        self._task: asyncio.Task[object] | None = None
        self._stopped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._work._ended(self, time.monotonic() - self._began_s)

    def stop(self) -> None:
        """End it."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()

    async def run(
        self,
        work: Coroutine[None, None, _T],
        receive: Receive,
        *,
        tick_s: float | None = None,
        on_tick: Callable[[], Awaitable[None]] | None = None,
    ) -> _T:
        """Do the work as long as somebody listens.

        Args:
            work: What is done; it is cancelled when nobody listens any more or the server ends.
            receive: Says when the client goes away; the body has been read from it.
            tick_s: How often ``on_tick`` is called meanwhile; None for never.
            on_tick: Called then.

        Raises:
            ClientGoneError: The client went away.
            RefusedError: The server is ending.
        """
        doing = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(_client_gone(receive))
        self._task = doing
        if self._stopped:
            doing.cancel()
        try:
            while True:
                await asyncio.wait({doing, gone}, timeout=tick_s, return_when=asyncio.FIRST_COMPLETED)
                if doing.done():
                    if doing.cancelled() and self._stopped:
                        raise RefusedError(_STOPPING)
                    return doing.result()
                if gone.done():
                    raise ClientGoneError
                if on_tick is not None:
                    await on_tick()
        finally:
            self._task = None
            gone.cancel()  # it ends in the loop's next turn, for which nobody has to wait
            if not doing.done():
                doing.cancel()
                await asyncio.wait({doing})
            if not doing.cancelled():
                doing.exception()  # whatever the work said while it was being cancelled, nobody wants it any more


async def _client_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
