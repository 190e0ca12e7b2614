"""Many streams at once for a while, over one client to a fast remote in a process of its own; prints JSON.

They begin one after the other within the first tenth of the time. Each is read to its end, then the next one begins. Resident
memory and open files of this process are sampled every second:
after the first quarter of the time, when everything has been used once, and until the end. Exits with 1 if a stream ended with an
error or was not whole, or if memory or open files grew.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import sys
import time
from collections import Counter

import psutil

from benchmarks._fake_remote import FakeRemote
from hybridllm import AsyncHybridClient, HybridLLMError, Remote
from hybridllm.testing import ScriptedBackend

MESSAGES = [{"role": "user", "content": "When do you open on Sunday?"}]
RAMP_SHARE = 0.1
WARM_UP_SHARE = 0.25
MOST_GROWTH_MIB = 8.0
"""What an interpreter's free lists and the allocator's arenas may still take after the warm-up."""


class Load:
    """So many streams, each followed by the next one.

    Args:
        client: Who is asked.
        pieces: Pieces that an answer has.
    """

    def __init__(self, client: AsyncHybridClient, pieces: int) -> None:
        self.streams = 0
        self.pieces = 0
        self.wrong: Counter[str] = Counter()
        self.first_ms: list[float] = []
        self._client = client
        self._text = "".join(f" word{index}" for index in range(pieces))

    async def run(self, from_s: float, until_s: float) -> None:
        """Ask from one moment to another on the clock of ``time.monotonic``."""
        await asyncio.sleep(from_s - time.monotonic())
        while time.monotonic() < until_s:
            began_s = time.monotonic()
            try:
                await self._one(began_s)
            except HybridLLMError as error:
                self.wrong[type(error).__name__] += 1

    async def _one(self, began_s: float) -> None:
        text, finish = "", None
        async with await self._client.chat.completions.create(
            messages=MESSAGES, privacy="public", stream=True
        ) as stream:
            async for chunk in stream:
                for choice in chunk.choices:
                    if choice.delta.content:
                        if not text:
                            self.first_ms.append((time.monotonic() - began_s) * 1000)
                        text += choice.delta.content
                        self.pieces += 1
                    finish = choice.finish_reason or finish
            served_by = stream.route.served_by
        self.streams += 1
        if (text, finish, served_by) != (self._text, "stop", "remote"):
            self.wrong["not the whole answer of the remote"] += 1


async def sampled(until_s: float) -> list[tuple[float, int]]:
    """Resident memory in MiB and open files, each second until a moment on the clock of ``time.monotonic``."""
    process, samples = psutil.Process(), []
    while time.monotonic() < until_s:
        await asyncio.sleep(min(1.0, max(0.0, until_s - time.monotonic())))
        samples.append((process.memory_info().rss / (1 << 20), process.num_fds() if hasattr(process, "num_fds") else 0))
    return samples


async def measure(base_url: str, streams: int, seconds: float, pieces: int) -> dict[str, object]:
    """Run the load."""
    remote = Remote(base_url=base_url, model="fake")
    local = ScriptedBackend(lambda _: "The device was asked.")
    async with AsyncHybridClient(remote=remote, local=local, policy="cloud-assist") as client:
        load = Load(client, pieces)
        began_s, cpu_s = time.monotonic(), time.process_time()
        warm_s, until_s = began_s + WARM_UP_SHARE * seconds, began_s + seconds
        step_s = RAMP_SHARE * seconds / streams
        tasks = [asyncio.create_task(load.run(began_s + index * step_s, until_s)) for index in range(streams)]
        await asyncio.sleep(warm_s - began_s)
        gc.collect()
        samples = await sampled(until_s - 0.5)
        await asyncio.gather(*tasks)
        took_s, cpu_s = time.monotonic() - began_s, time.process_time() - cpu_s
        files_idle = psutil.Process().num_fds() if hasattr(psutil.Process(), "num_fds") else 0
    third = max(1, len(samples) // 3)
    rss_early, rss_late = (statistics.median(rss for rss, _ in part) for part in (samples[:third], samples[-third:]))
    files_early, files_late = (max(files for _, files in part) for part in (samples[:third], samples[-third:]))
    cuts = statistics.quantiles(load.first_ms, n=100)
    return {
        "streams_read": load.streams,
        "streams_per_s": round(load.streams / took_s, 1),
        "cpu_share": round(cpu_s / took_s, 2),
        "pieces_per_s": round(load.pieces / took_s, 1),
        "first_piece_ms": {"p50": round(cuts[49], 1), "p95": round(cuts[94], 1), "p99": round(cuts[98], 1)},
        "wrong": dict(load.wrong),
        "rss_mib": {"after_warm_up": round(rss_early, 1), "at_the_end": round(rss_late, 1)},
        "open_files": {"after_warm_up": files_early, "at_the_end": files_late, "afterwards": files_idle},
        "grew": rss_late - rss_early > MOST_GROWTH_MIB or files_late > files_early + streams // 10,
    }


def main() -> int:
    """Measure and print; returns 1 if something went wrong or grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument(
        "--seconds", type=float, default=12.0, help="how long (default: 12; 60 for the figure that is aimed at)"
    )
    parser.add_argument("--pieces", type=int, default=20)
    parser.add_argument("--gap-ms", type=float, default=100.0, help="pause of the server between two pieces")
    arguments = parser.parse_args()
    with FakeRemote(pieces=arguments.pieces, gap_ms=arguments.gap_ms) as remote:
        figures = asyncio.run(measure(remote.base_url, arguments.streams, arguments.seconds, arguments.pieces))
    print(json.dumps({"benchmark": "concurrent_streams", **vars(arguments), **figures}))
    return int(bool(figures["wrong"] or figures["grew"]))


if __name__ == "__main__":
    sys.exit(main())
