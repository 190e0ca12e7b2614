"""Faults every second, engines killed and stopped, and clients that go on asking: ``python -m tests.soak --minutes 30``.

The device is the bundled model, behind two clients: an awaited one over plain HTTP, which asks the cloud whatever it knows of it,
and a blocking one over TLS with the preset ``cloud-assist`` and hedging. Both are asked all the time, by many at once. Every minute
everybody pauses, and whatever is still held is counted. Prints one JSON object, and ends with 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hybridllm import AsyncHybridClient, HybridClient, Remote, load_policy
from local_runtime.events import EngineStats
from policies import Breaker, Hedge, Limits
from tests.engine_cache import ENGINE_CACHE
from tests.soak.askers import Gate, ask_in_thread, ask_in_turn
from tests.soak.cloud import CloudProcess
from tests.soak.disturbances import KEY_VARIABLE, Disturbances
from tests.soak.judging import Tally
from tests.soak.questions import QUESTIONS
from tests.soak.resources import Held, leaks

__all__ = ["Plan", "main", "soak"]

LIMITS = Limits(connect_s=0.5, first_token_s=1.0, gap_s=0.5)
BREAKER = Breaker(failures=5, open_s=0.5)
CLIENTS = 2
QUIET_S = 150.0
"""The longest that it may take until everybody has come back: an engine that was stopped has to be found out first."""
SETTLED_S = 20.0
"""The longest that it may take after that until nothing is held any more."""


@dataclass(frozen=True)
class Plan:
    """How long, and how much."""

    seconds: float
    """How long it goes on after the warm-up."""

    warm_up_s: float
    """Disturbances before what is held is counted for the first time."""

    every_s: float = 60.0
    """Time between two counts."""

    strike_s: float = 5.0
    """Mean time between two blows to an engine."""

    stops_for_ever: float = 0.1
    """Share of the stops that the supervisor has to find out."""

    tasks: int = 5
    """Askers with the awaited face."""

    threads: int = 3
    """Askers with the blocking face."""

    seed: int = 0
    """What the disturbances and the questions are drawn from; who meets what also depends on the machine."""


@dataclass
class Report:
    """What came of it."""

    violations: list[str] = field(default_factory=list)
    """What must not be; nothing, if all is well."""

    counts: list[dict[str, Any]] = field(default_factory=list)
    """What was held at each count."""

    figures: dict[str, Any] = field(default_factory=dict)
    """How much was asked and disturbed."""

    def as_json(self) -> str:
        """One line."""
        return json.dumps(
            {"soak": self.figures, "counts": self.counts, "violations": self.violations}, ensure_ascii=False
        )


class Clients:
    """Both clients, and how they are looked into.

    Args:
        cloud: The cloud.
    """

    def __init__(self, cloud: CloudProcess) -> None:
        preset = replace(load_policy("cloud-assist"), limits=LIMITS, breaker=BREAKER)
        self.awaited = AsyncHybridClient(
            cache_dir=ENGINE_CACHE,
            policy=replace(preset, rules=(), hedge=None),
            remote=Remote(base_url=f"http://localhost:{cloud.http_port}/v1", model="cloud", api_key_env=KEY_VARIABLE),
        )
        self.blocking = HybridClient(
            cache_dir=ENGINE_CACHE,
            policy=replace(preset, hedge=Hedge(after=0.3, budget=0.5)),
            remote=Remote(
                base_url=f"https://127.0.0.1:{cloud.https_port}/v1",
                model="cloud",
                api_key_env=KEY_VARIABLE,
                ca_file=cloud.ca_file,
            ),
        )

    async def load(self) -> None:
        """Start both engines."""
        await self.awaited.load()
        await asyncio.to_thread(self.blocking.load)

    async def stats(self) -> list[EngineStats]:
        """Both engines."""
        found = [await self.awaited.engine_stats(), await asyncio.to_thread(self.blocking.engine_stats)]
        return [stats for stats in found if stats is not None]

    def pids(self) -> list[Callable[[], int | None]]:
        """What gives the process of each engine."""
        engines = [one._backends["local"]._engine for one in (self.awaited, self.blocking._client)]  # type: ignore[attr-defined]
        return [lambda engine=engine: engine.worker_pid for engine in engines]  # type: ignore[misc]

    async def close(self) -> None:
        """End both."""
        await self.awaited.close()
        await asyncio.to_thread(self.blocking.close)


async def soak(plan: Plan, tell: Callable[[str], None] = lambda line: None) -> Report:
    """Run the plan.

    Args:
        plan: How long, and how much.
        tell: Told from time to time how far it is.
    """
    report, tally, gate = Report(), Tally(), Gate()
    began_s = time.monotonic()
    os.environ[KEY_VARIABLE] = "sk-soak-0"
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(CloudProcess(Path(folder))) as cloud:
        await asyncio.to_thread(lambda: None)  # the executor's first thread is there before anything is counted
        bare = Held.now()
        clients = Clients(cloud)
        await clients.load()
        right = await right_answers(clients)
        disturbances = Disturbances(
            cloud, clients.pids(), random.Random(plan.seed), strike_s=plan.strike_s, stops_for_ever=plan.stops_for_ever
        )
        tasks = [
            asyncio.create_task(
                ask_in_turn(clients.awaited, gate, tally, right, random.Random(f"{plan.seed} task {number}"))
            )
            for number in range(plan.tasks)
        ]
        threads = [
            threading.Thread(
                target=ask_in_thread,
                args=(clients.blocking, gate, tally, right, random.Random(f"{plan.seed} thread {number}")),
                name=f"asker-{number}",
            )
            for number in range(plan.threads)
        ]
        for thread in threads:
            thread.start()
        with disturbances.names():
            await disturbed(disturbances, gate, plan.warm_up_s)
            held = await counted(clients, gate, disturbances, None, report)
            until_s = time.monotonic() + plan.seconds
            while (left_s := until_s - time.monotonic()) > 0:
                await disturbed(disturbances, gate, min(plan.every_s, left_s))
                await counted(clients, gate, disturbances, held, report)
                tell(
                    f"{time.monotonic() - began_s:.0f} s: {sum(tally.outcomes.values())} asked, {len(tally.wrong)} wrong"
                )
        gate.over = True
        await asyncio.gather(*tasks)
        for thread in threads:
            await asyncio.to_thread(thread.join)
        seen = await asyncio.to_thread(cloud.seen)
        restarts = sum(stats.restarts for stats in await clients.stats())
        await clients.close()
        await settled(lambda: not leaks(bare, Held.now(), clients=0), SETTLED_S)
        report.violations += [
            f"after the end: {leak}" for leak in leaks(bare, Held.now(), clients=0) if "memory" not in leak
        ]
    if seen["private"]:
        report.violations.append(f"{seen['private']} private questions arrived at the cloud")
    report.violations += tally.wrong
    report.figures = {
        "seconds": round(time.monotonic() - began_s, 1),
        "seed": plan.seed,
        "asked": sum(tally.outcomes.values()),
        "outcomes": dict(tally.outcomes.most_common()),
        "wrong": len(tally.wrong),
        "slowest_s": round(tally.slowest_s, 1),
        "faults": dict(disturbances.faults),
        "strikes": dict(disturbances.strikes),
        "engine_restarts": restarts,
        "arrived": seen,
    }
    return report


async def right_answers(clients: Clients) -> dict[int, str]:
    """What the undisturbed device says to each question; both engines have to say the same."""
    right: dict[int, str] = {}
    for question in QUESTIONS:
        private = {**question.request, "privacy": "private"}
        reply = await clients.awaited.chat.completions.create(**private)
        other = await asyncio.to_thread(lambda private=private: clients.blocking.chat.completions.create(**private))
        right[question.number] = reply.choices[0].message.content or ""
        if right[question.number] != other.choices[0].message.content or reply.choices[0].finish_reason != "stop":
            raise SystemExit(f"Question {question.number} has no right answer that both engines agree on.")
    return right


async def disturbed(disturbances: Disturbances, gate: Gate, seconds: float) -> None:
    """So long everybody asks, and everything goes wrong."""
    gate.open()
    at_work = [asyncio.create_task(disturbances.change_faults()), asyncio.create_task(disturbances.strike_engines())]
    try:
        await asyncio.wait(at_work, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in at_work:
            if task.done():
                task.result()  # it never ends by itself
            task.cancel()
        await asyncio.gather(*at_work, return_exceptions=True)
        disturbances.calm()


async def counted(
    clients: Clients, gate: Gate, disturbances: Disturbances, before: Held | None, report: Report
) -> Held:
    """Everybody pauses; what is still held afterwards has leaked."""
    gate.close()
    disturbances.calm()
    if not await settled(lambda: gate.under_way == 0, QUIET_S):
        report.violations.append(f"{gate.under_way} answers have not come to an end in {QUIET_S:g} s")

    async def engines_free() -> bool:
        return all(map(is_free, await clients.stats()))

    if not await settled(engines_free, QUIET_S):
        report.violations.append(f"the engines hold something: {await clients.stats()}")
    if before is not None:
        await settled(lambda: not leaks(before, Held.now(), clients=CLIENTS), SETTLED_S)
    now = Held.now()
    if before is not None:
        report.violations += leaks(before, now, clients=CLIENTS)
    engines = [{"rss_mib": round(stats.rss_mib), "restarts": stats.restarts} for stats in await clients.stats()]
    report.counts.append({**now.report(), "engines": engines})
    return now


def is_free(stats: EngineStats) -> bool:
    """Whether an engine is there and has nothing to do, and holds nothing."""
    return stats.state == "ready" and stats.running == stats.waiting == 0 and stats.pages_free == stats.pages_total


async def settled(condition: Callable[[], bool] | Callable[[], Awaitable[bool]], seconds: float) -> bool:
    """Whether a condition holds within so many seconds."""
    until_s = time.monotonic() + seconds
    while True:
        holds = condition()
        if holds if isinstance(holds, bool) else await holds:
            return True
        if time.monotonic() > until_s:
            return False
        await asyncio.sleep(0.1)


def main() -> int:
    """Run as the command line says; returns 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seconds", type=float, help="instead of --minutes")
    parser.add_argument("--warm-up-s", type=float, default=60.0)
    parser.add_argument("--every-s", type=float, default=60.0, help="time between two counts")
    parser.add_argument("--strike-s", type=float, default=5.0, help="mean time between two blows to an engine")
    parser.add_argument("--stops-for-ever", type=float, default=0.1, help="share of stops that nobody ends")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    plan = Plan(
        seconds=60 * arguments.minutes if arguments.seconds is None else arguments.seconds,
        warm_up_s=arguments.warm_up_s,
        every_s=arguments.every_s,
        strike_s=arguments.strike_s,
        stops_for_ever=arguments.stops_for_ever,
        seed=arguments.seed,
    )
    report = asyncio.run(soak(plan, lambda line: print(line, file=sys.stderr, flush=True)))
    print(report.as_json())
    return int(bool(report.violations))
