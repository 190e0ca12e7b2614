"""Hedging: the second place is asked when the first is late, and the one that speaks first answers.

Jeffrey Dean and Luiz André Barroso, "The Tail at Scale", Communications of the ACM 56(2), 2013: waiting for a high percentile
first keeps the extra load to a few per cent. The budget bounds it also where the estimate is wrong.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from hybridllm.attempt import AttemptFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybridllm.attempt import AttemptRun
    from hybridllm.latency import Latency
    from policies import Hedge

__all__ = ["HedgeBudget", "hedge_after_s", "race"]

_MOST_SAVED = 10.0


class HedgeBudget:
    """How many hedges a client may make: each request adds its policy's share of one, each hedge takes one."""

    def __init__(self) -> None:
        self._left = 1.0

    def note_request(self, share: float) -> None:
        """A request came that may be hedged."""
        self._left = min(_MOST_SAVED, self._left + share)

    def take(self) -> bool:
        """Take one hedge; False if none is left."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


def hedge_after_s(hedge: Hedge, latency: Latency) -> float | None:
    """How long to wait for the first place, in seconds; None where its percentile is not known yet."""
    if isinstance(hedge.after, str):
        percentile_ms = latency.percentile_ms(hedge.after)
        return None if percentile_ms is None else percentile_ms / 1000
    return hedge.after


async def race(
    first: AttemptRun,
    second: Callable[[], AttemptRun | None],
    after_s: float,
    note_failure: Callable[[AttemptFailed], None],
) -> tuple[AttemptRun, list[AttemptRun]]:
    """Wait for the first piece of one of two attempts.

    Args:
        first: The attempt at the preferred place.
        second: Makes the other one, or None where it may not be made after all; called once, after ``after_s``.
        after_s: Seconds to wait for the first one alone.
        note_failure: Told of an attempt that failed while the other one goes on.

    Returns:
        The one that answers, and those that were stopped for it.

    Raises:
        AttemptFailed: All of them failed; this is the last failure.
        HybridLLMError: The request has ended.
    """
    task = asyncio.current_task()
    assert task is not None
    others_cancelled = task.cancelling()
    rival = _Rival(second, note_failure, interrupt=task.cancel)
    timer = asyncio.get_running_loop().call_later(after_s, rival.start)
    winner: AttemptRun | None = None
    first_runs = True
    try:
        try:
            await first.first()
            winner = first
        except AttemptFailed as failed:
            first_runs = False
            if not rival.runs:
                raise
            note_failure(failed)
        except asyncio.CancelledError:
            if not rival.interrupted or task.uncancel() > others_cancelled:
                raise
            rival.interrupted = False
        finally:
            timer.cancel()
            rival.let_be()
            if rival.interrupted:  # the first one ended in that very moment, in its own way
                task.uncancel()
        if winner is None:
            winner = await rival.answered()
            return winner, [first] if first_runs else []
        return winner, [rival.run] if rival.run is not None and rival.runs else []
    finally:
        if first_runs and winner is not first:
            await first.aclose(slower=winner is not None)
        if winner is None or winner is first:
            await rival.stop(slower=winner is first)


class _Rival:
    """The second attempt of a race, in a task of its own. The first one has none: mostly it answers before there is a second.

    Args:
        second: Makes it, or None where it may not be made.
        note_failure: Told of its failure while the first one goes on.
        interrupt: Ends the wait for the first one.

    Attributes:
        run: The attempt; None before there is one.
        interrupted: Whether the wait for the first one was ended, which shows there as a cancellation.
    """

    def __init__(
        self,
        second: Callable[[], AttemptRun | None],
        note_failure: Callable[[AttemptFailed], None],
        interrupt: Callable[[], object],
    ) -> None:
        self.run: AttemptRun | None = None
        self.interrupted = False
        self._second = second
        self._note_failure = note_failure
        self._interrupt: Callable[[], object] | None = interrupt
        self._defect: Exception | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def runs(self) -> bool:
        """Whether it may still answer, or has."""
        if self._task is None or self._task.cancelled():
            return False
        return not self._task.done() or not isinstance(self._task.exception(), AttemptFailed)

    def start(self) -> None:
        """Begin; called by the event loop when the first one is late."""
        try:
            self.run = self._second()
        except Exception as defect:  # noqa: BLE001 - raised by whoever waits for the first one
            self._defect = defect
            self._end_the_wait()
            return
        if self.run is not None:
            self._task = asyncio.create_task(self.run.first())
            self._task.add_done_callback(self._ended)

    def let_be(self) -> None:
        """Nobody waits for the first one any more."""
        self._interrupt = None

    async def answered(self) -> AttemptRun:
        """The attempt, when it has its first piece; raises what it failed with."""
        if self._defect is not None:
            raise self._defect
        assert self._task is not None
        assert self.run is not None
        await asyncio.wait({self._task})
        self._task.result()
        return self.run

    async def stop(self, *, slower: bool) -> None:
        """End it, unless it has failed."""
        if self._task is None or self.run is None or not self.runs:
            return
        self._task.cancel()
        await asyncio.wait({self._task})
        if not self._task.cancelled():
            self._task.exception()  # it ended in the same moment; what the winner said counts
        await self.run.aclose(slower=slower)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._interrupt is None or task.cancelled():
            return
        failure = task.exception()
        if isinstance(failure, AttemptFailed):
            self._note_failure(failure)
        else:  # it has answered, or the request has ended
            self._end_the_wait()

    def _end_the_wait(self) -> None:
        if self._interrupt is not None:
            self.interrupted = True
            self._interrupt()
