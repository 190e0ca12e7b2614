"""When an engine that died is started again, and when it is given up.

Plain arithmetic without clock or process: the supervisor tells what happened, and when, and waits for as long as it is told.
Standard library only: the application's process imports this module.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from local_runtime.deaths import Death
    from local_runtime.errors import WorkerDiedError
    from local_runtime.supervision import Supervision

__all__ = ["CrashLoop"]


class CrashLoop:
    """Counts deaths between which nothing was got done.

    What counts is not how many deaths fall into a minute: a process that takes twenty seconds to load and dies of it never
    dies five times in a minute, and one that is killed every second but gives out some tokens each time still gets there. Nor do
    deaths count that are held against requests: these come to an end by themselves, when the guilty one is convicted.

    Args:
        limits: The supervisor's limits.
        jitter: Gives a number from 0 to 1; spreads restarts of several applications on one machine.
    """

    def __init__(self, limits: Supervision, jitter: Callable[[], float] = random.random) -> None:
        self._limits = limits
        self._jitter = jitter
        self._cool_down_s = limits.cool_down_s
        self._cool_until = 0.0
        self._convictions = 0
        self._kills = 0
        self._unexplained = 0
        self._given_up: Callable[[float], WorkerDiedError] | None = None
        self.deaths = 0
        """Deaths in a row, between which nothing was got done, whoever they are held against."""

    def worked(self) -> None:
        """Something was got done: a token was given out, a question answered, or it was ready for long."""
        self.deaths = self._convictions = self._kills = self._unexplained = 0
        self._cool_down_s = self._limits.cool_down_s
        self._given_up = None

    def died(self, death: Death, *, blamed: bool = False) -> float | None:
        """Count a death.

        Args:
            death: How it came.
            blamed: Whether it is held against requests that were under way.

        Returns:
            Seconds to wait before the next start, 0 after the first death in a row; None if it is to be given up.
        """
        self._kills = self._kills + 1 if death.killed else 0
        self.deaths += 1
        self._unexplained = 0 if blamed else self._unexplained + 1
        if self._unexplained >= self._limits.deaths_in_a_row:
            return None
        if self.deaths == 1:
            return 0.0
        wait_s = min(self._limits.backoff_limit_s, self._limits.backoff_s * 2.0 ** min(self.deaths - 2, 60))
        return wait_s * (0.5 + 0.5 * self._jitter())

    def convict(self, death: Death, *, others_wait: bool) -> tuple[WorkerDiedError, bool]:
        """Put the last deaths down to one request.

        Args:
            death: The last of them.
            others_wait: Whether other requests are under way: they must not suffer for it, and show whether the engine works.

        Returns:
            What this request fails with, and whether the engine is to be given up all the same, because one request after another
            kills it.
        """
        self._convictions += 1
        in_a_row = self._limits.convicted_after
        error = death.convicted(in_a_row, twice_killed=self._kills >= 2)
        give_up = not others_wait and self._convictions >= in_a_row
        self.deaths, self._unexplained = self._convictions * in_a_row if give_up else 0, 0
        return error, give_up

    def give_up(self, death: Death, doing: str, now_s: float) -> WorkerDiedError:
        """Begin a cool-down; one more death after it, and the next one is twice as long.

        Args:
            death: The last one.
            doing: What the engine did, to follow "while it".
            now_s: The supervisor's clock.

        Returns:
            What everything under way fails with.
        """
        deaths, twice_killed = self.deaths, self._kills >= 2
        self._unexplained = self._limits.deaths_in_a_row
        self._given_up = lambda left_s: death.given_up(deaths, doing, left_s, twice_killed=twice_killed)
        cool_down_s = self._cool_down_s
        self._cool_until = now_s + cool_down_s
        self._cool_down_s = min(2 * cool_down_s, self._limits.cool_down_limit_s)
        return self._given_up(cool_down_s)

    def refusal(self, now_s: float) -> WorkerDiedError | None:
        """Why nothing is taken in during a cool-down; None outside of one."""
        given_up, left_s = self._given_up, self._cool_until - now_s
        return None if given_up is None or left_s <= 0 else given_up(left_s)
