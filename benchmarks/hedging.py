"""Time to the first piece, and extra load, with hedging and without, against a server with a heavy tail; prints JSON.

The server has a process of its own; three requests in a hundred wait a second for its first piece. The device is one that answers
from a script after a fixed time, so that only the hedging differs. The ways take turns, request by request, each with a client of
its own; ``p95`` and ``p90`` hedge after that percentile of what they have measured, ``fixed`` after a tenth of a second.
``extra`` is how many requests were asked of a second place, as a share of all; ``budget`` is the most that the policy allows.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import time
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks._fake_remote import FakeRemote
from hybridllm import AsyncHybridClient, Remote, load_policy
from hybridllm.testing import ScriptedBackend, ScriptedReply
from policies import Hedge, Limits

MESSAGES = [{"role": "user", "content": "When do you open on Sunday?"}]
FIRST_MS = 20.0
TAIL_SHARE = 0.03
TAIL_MS = 1000.0
DEVICE_FIRST_S = 0.1
DEVICE_TOKEN_S = 0.002
WARM_UP = 40
BUDGET = 0.2
WAYS = {
    "none": None,
    "p95": Hedge(after="p95", budget=BUDGET),
    "p90": Hedge(after="p90", budget=BUDGET),
    "fixed": Hedge(after=0.1, budget=BUDGET),
}


@dataclass
class Measured:
    """What one way gave."""

    first_ms: list[float] = field(default_factory=list)
    """Milliseconds to the first piece."""

    hedged: int = 0
    """Requests that a second place was asked."""

    by_device: int = 0
    """Requests that the device answered."""

    def figures(self) -> dict[str, float]:
        """The ones that are reported."""
        cuts = statistics.quantiles(self.first_ms, n=100)
        found = {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98], "mean": statistics.mean(self.first_ms)}
        shares = {"extra": self.hedged / len(self.first_ms), "by_device": self.by_device / len(self.first_ms)}
        return {name: round(value, 1) for name, value in found.items()} | {
            name: round(value, 3) for name, value in shares.items()
        }


async def ask(client: AsyncHybridClient, measured: Measured | None) -> None:
    """One request, read to its end."""
    began_s, first_ms = time.perf_counter(), None
    async with await client.chat.completions.create(messages=MESSAGES, privacy="public", stream=True) as stream:
        async for _ in stream:
            first_ms = (time.perf_counter() - began_s) * 1000 if first_ms is None else first_ms
        route = stream.route
    if measured is not None and first_ms is not None:
        measured.first_ms.append(first_ms)
        measured.hedged += any(attempt.why == "hedge" for attempt in route.attempts)
        measured.by_device += route.served_by == "local"


async def measure(base_url: str, requests: int, at_once: int) -> dict[str, Any]:
    """All ways, taking turns."""
    policy = load_policy("cloud-assist")
    found = {name: Measured() for name in WAYS}
    async with contextlib.AsyncExitStack() as stack:
        clients = {}
        for name, hedge in WAYS.items():
            reply = ScriptedReply("From the device.", first_token_s=DEVICE_FIRST_S, token_s=DEVICE_TOKEN_S)
            clients[name] = await stack.enter_async_context(
                AsyncHybridClient(
                    local=ScriptedBackend(lambda _, reply=reply: reply),
                    remote=Remote(base_url=base_url, model="fake"),
                    policy=replace(policy, hedge=hedge, limits=Limits(first_token_s=10.0)),
                )
            )

        async def line() -> None:
            for turn in range(WARM_UP + requests // at_once):
                for name, client in clients.items():
                    await ask(client, found[name] if turn >= WARM_UP else None)

        await asyncio.gather(*(line() for _ in range(at_once)))
    return {name: measured.figures() for name, measured in found.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000, help="for each way")
    parser.add_argument("--at-once", type=int, default=16)
    arguments = parser.parse_args()
    with FakeRemote(pieces=10, first_ms=FIRST_MS, tail_share=TAIL_SHARE, tail_ms=TAIL_MS) as remote:
        figures = asyncio.run(measure(remote.base_url, arguments.requests, arguments.at_once))
    server = {"first_ms": FIRST_MS, "tail_share": TAIL_SHARE, "tail_ms": TAIL_MS}
    report = {"benchmark": "hedging", **vars(arguments), "unit": "ms", "server": server, "budget": BUDGET}
    print(json.dumps(report | {"device_first_ms": DEVICE_FIRST_S * 1000, **figures}))


if __name__ == "__main__":
    main()
