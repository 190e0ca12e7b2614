"""What happens to those who are asked: another fault of the cloud every second, and the engines' processes killed or stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

from tests.soak.cloud import CloudProcess
from tests.soak.faults import HEALTHY, NAME_NOT_FOUND, NEW_KEY_AFTER, all_faults

__all__ = ["KEY_VARIABLE", "Disturbances"]

KEY_VARIABLE = "HYBRIDLLM_SOAK_KEY"
"""Environment variable with the clients' key."""

_HEALTHY_SHARE = 0.35
_LONGEST_STOP_S = 2.0


class Disturbances:
    """All of them.

    Args:
        cloud: The cloud.
        engine_pids: Give the engines' processes at this moment, where there are any.
        chance: Draws what happens.
        fault_s: How long a fault stays.
        strike_s: Mean time between two blows to an engine; 0 for none.
        stops_for_ever: Share of the stops that nobody ends, so that the supervisor has to find out.
    """

    def __init__(
        self,
        cloud: CloudProcess,
        engine_pids: Sequence[Callable[[], int | None]],
        chance: random.Random,
        *,
        fault_s: float = 1.0,
        strike_s: float = 5.0,
        stops_for_ever: float = 0.1,
    ) -> None:
        self.faults: Counter[str] = Counter()
        self.strikes: Counter[str] = Counter()
        self._cloud = cloud
        self._engine_pids = engine_pids
        self._chance = chance
        self._fault_s = fault_s
        self._strike_s = strike_s
        self._stops_for_ever = stops_for_ever
        self._fault = HEALTHY
        self._keys = 0
        self._held: dict[int, int] = {}

    @contextlib.contextmanager
    def names(self) -> Iterator[None]:
        """Within this block the cloud's name can become unknown."""
        known = socket.getaddrinfo

        def lookup(host: Any, *arguments: Any, **more: Any) -> Any:
            if host == "localhost" and self._fault == NAME_NOT_FOUND:
                raise socket.gaierror(socket.EAI_NONAME, "unknown")
            return known(host, *arguments, **more)

        with mock.patch.object(socket, "getaddrinfo", lookup):
            yield

    async def change_faults(self) -> None:
        """Another fault again and again. Every one of them comes up before one comes twice."""
        waiting: list[str] = []
        while True:
            if self._chance.random() < _HEALTHY_SHARE:
                self._become(HEALTHY)
            else:
                if not waiting:
                    waiting = list(all_faults())
                    self._chance.shuffle(waiting)
                self._become(waiting.pop())
            await asyncio.sleep(self._fault_s)

    async def strike_engines(self) -> None:
        """An engine is killed, or stopped for a while, again and again."""
        while self._strike_s:
            await asyncio.sleep(self._chance.expovariate(1 / self._strike_s))
            pid = self._chance.choice(self._engine_pids)()
            if pid is None:
                continue
            if self._chance.random() < 0.7:
                self._send(pid, signal.SIGKILL, "killed")
            elif self._chance.random() < self._stops_for_ever:
                self._send(pid, signal.SIGSTOP, "stopped for ever")
            else:
                self._send(pid, signal.SIGSTOP, "stopped")
                self._held[pid] = pid
                await asyncio.sleep(self._chance.random() * _LONGEST_STOP_S)
                self.let_go()

    def calm(self) -> None:
        """The cloud is well, and nobody is held."""
        self._become(HEALTHY)
        self.let_go()

    def let_go(self) -> None:
        """Let those go on that are stopped for a while."""
        for pid in list(self._held):
            self._held.pop(pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def _become(self, fault: str) -> None:
        if self._fault == NEW_KEY_AFTER:
            self._keys += 1
            os.environ[KEY_VARIABLE] = f"sk-soak-{self._keys}"
        self._fault = fault
        self.faults[fault] += 1
        self._cloud.become(HEALTHY if fault == NAME_NOT_FOUND else fault)

    def _send(self, pid: int, number: signal.Signals, what: str) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            self.strikes[what] += 1
