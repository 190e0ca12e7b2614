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
    runs: dict[asyncio.Task[None], AttemptRun] = {asyncio.create_task(first.first()): first}
    losers: list[AttemptRun] = []
    try:
        done, _ = await asyncio.wait(runs, timeout=after_s)
        if not done:
            other = second()
            if other is not None:
                runs[asyncio.create_task(other.first())] = other
        while True:
            await asyncio.wait(runs, return_when=asyncio.FIRST_COMPLETED)
            for task in [task for task in runs if task.done()]:  # in order: of two, the preferred one wins
                run = runs.pop(task)
                try:
                    task.result()
                except AttemptFailed as failed:
                    if not runs:
                        raise
                    note_failure(failed)
                    continue
                losers = list(runs.values())
                return run, losers
    finally:
        for task in runs:
            task.cancel()
        if runs:
            await asyncio.wait(runs)
        for task, run in runs.items():
            if not task.cancelled():
                task.exception()  # it ended in the same moment; what the winner said counts
            await run.aclose(slower=run in losers)
