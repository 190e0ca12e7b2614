"""Times what the client adds to a bare httpx call to the same server on loopback; prints JSON in milliseconds.

The server has a process of its own, keeps connections open, and sends 20 pieces at once. Bare is httpx alone, which sends the same
bytes and does what anybody has to do who wants the text: it reads the stream line by line and takes the text out of each piece's
JSON, and checks nothing; for ``whole`` it joins the pieces. Ours is ``AsyncHybridClient``, which sends to the same server
whatever may leave. Both take turns, so that what else the machine does meets both alike. ``added`` is the difference of the
two distributions' percentiles. ``cpu`` is the mean processor time of the calling process, which other work does not lengthen.

``served`` is httpx again, to ``hybridllm serve`` in front of the same server; ``relay`` is httpx to a server that only passes bytes
on (Starlette, uvicorn and httpx). What ``relay`` adds is the price of a second hop, and ``beyond_relay`` is what ours adds to that.
These two take turns with bare calls of their own (``bare_beside_servers``): with two more processes between them, every call
finds the processor's caches colder.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import httpx

from benchmarks._fake_remote import REPOSITORY, FakeRemote
from benchmarks._relay import relay
from hybridllm import AsyncHybridClient, Remote
from hybridllm.testing import ScriptedBackend

MESSAGES = [
    {"role": "system", "content": "You are the assistant of a museum. Answer briefly, and only from the sheet."},
    {"role": "user", "content": "When do you open on Sunday?"},
]
WARM_UP = 100
LIMITS_MS = {"client": {"p50": 0.5, "p99": 2.0}, "served": {"p50": 2.0}}

Call = Callable[[], Awaitable[object]]


async def read_lines(client: httpx.AsyncClient, url: str, sent: bytes, headers: dict[str, str]) -> str:
    """A bare call whose answer is read line by line."""
    texts = []
    async with client.stream("POST", url, content=sent, headers=headers) as response:
        async for line in response.aiter_lines():  # to the end, or the connection could not be used again
            if line.startswith("data: {"):
                texts += [choice["delta"].get("content") or "" for choice in json.loads(line[6:])["choices"]]
    return "".join(texts)


async def read_whole(client: httpx.AsyncClient, url: str, sent: bytes, headers: dict[str, str]) -> str:
    """A bare call whose answer comes in one document."""
    response = await client.post(url, content=sent, headers=headers)
    if response.status_code != 200:
        raise SystemExit(f"The server answered with status {response.status_code}.")
    return str(response.json()["choices"][0]["message"]["content"])


class Samples:
    """What was measured of one way to call, in milliseconds."""

    def __init__(self) -> None:
        self.wall_ms: list[float] = []
        self.cpu_ms: list[float] = []

    def figures(self) -> dict[str, float]:
        """The ones that are reported."""
        cuts = statistics.quantiles(self.wall_ms, n=100)
        return {"p50": cuts[49], "p90": cuts[89], "p99": cuts[98], "cpu": statistics.mean(self.cpu_ms)}


async def timed(calls: dict[str, Call], repeats: int) -> dict[str, Samples]:
    """Call, taking turns."""
    samples = {name: Samples() for name in calls}
    for turn in range(WARM_UP + repeats):
        if turn == WARM_UP:
            gc.collect()
        for name, call in calls.items():
            began_ns, cpu_ns = time.perf_counter_ns(), time.process_time_ns()
            await call()
            took_ns, cpu_took_ns = time.perf_counter_ns() - began_ns, time.process_time_ns() - cpu_ns
            if turn >= WARM_UP:
                samples[name].wall_ms.append(took_ns / 1e6)
                samples[name].cpu_ms.append(cpu_took_ns / 1e6)
    return samples


def report(alone: dict[str, Samples], beside_servers: dict[str, Samples]) -> dict[str, object]:
    """Figures of each way, and what the others add to the bare call of the same round."""
    figures: dict[str, dict[str, float]] = {}
    added: dict[str, dict[str, float]] = {}
    for turns, bare_name in ((alone, "bare"), (beside_servers, "bare_beside_servers")):
        found = {name: samples.figures() for name, samples in turns.items()}
        for name, of_one in found.items():
            figures[bare_name if name == "bare" else name] = of_one
            if name != "bare":
                added[name] = difference(of_one, found["bare"])
    rounded = {name: {key: round(value, 3) for key, value in of_one.items()} for name, of_one in figures.items()}
    if "served" not in figures:
        return {**rounded, "added": added}
    return {**rounded, "added": added, "beyond_relay": difference(figures["served"], figures["relay"])}


def difference(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    """What one way takes more than another."""
    return {key: round(value - other[key], 3) for key, value in one.items()}


@contextlib.contextmanager
def served(remote_url: str) -> Iterator[str | None]:
    """``hybridllm serve`` in front of a server; None where it is not installed."""
    try:
        import starlette
        import uvicorn
    except ImportError:
        yield None
        return
    del starlette, uvicorn
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "hybridllm.yaml"
        config.write_text(json.dumps({"policy": "cloud-assist", "remote": {"base_url": remote_url, "model": "fake"}}))
        command = [sys.executable, "-m", "hybridllm", "serve", "--config", str(config), "--port", str(port)]
        process = subprocess.Popen(
            command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ
        )
        try:
            base_url = f"http://127.0.0.1:{port}"
            deadline_s = time.monotonic() + 60
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if httpx.get(f"{base_url}/livez").status_code == 200:
                        break
                if process.poll() is not None or time.monotonic() > deadline_s:
                    raise SystemExit("hybridllm serve did not come up.")
                time.sleep(0.1)
            yield f"{base_url}/v1"
        finally:
            process.terminate()
            process.wait(timeout=30)


async def measure(remote_url: str, served_url: str | None, relay_url: str, repeats: int) -> dict[str, object]:
    """Both ways to read an answer."""
    url = f"{remote_url}/chat/completions"
    headers = {"content-type": "application/json", "accept": "text/event-stream", "accept-encoding": "identity"}
    sent = json.dumps(
        {"model": "fake", "messages": MESSAGES, "stream": True, "stream_options": {"include_usage": True}}
    )
    to_server = json.dumps(
        {"model": "hybridllm", "messages": MESSAGES, "metadata": {"privacy": "public"}, "stream": True}
    )
    to_server_whole = json.dumps({"model": "hybridllm", "messages": MESSAGES, "metadata": {"privacy": "public"}})
    remote = Remote(base_url=remote_url, model="fake")
    local = ScriptedBackend(["The device was asked."])
    figures: dict[str, object] = {}
    async with (
        httpx.AsyncClient(trust_env=False) as bare,
        AsyncHybridClient(remote=remote, local=local, policy="cloud-assist") as client,
    ):

        async def stream() -> None:
            async with await client.chat.completions.create(messages=MESSAGES, privacy="public", stream=True) as answer:
                async for _ in answer:
                    pass

        async def whole() -> None:
            await client.chat.completions.create(messages=MESSAGES, privacy="public")

        ways: dict[str, dict[str, Call]] = {
            "streaming": {"bare": lambda: read_lines(bare, url, sent.encode(), headers), "client": stream},
            "whole": {"bare": lambda: read_lines(bare, url, sent.encode(), headers), "client": whole},
        }
        through: dict[str, dict[str, Call]] = {name: {} for name in ways}
        if served_url is not None:
            at = f"{served_url}/chat/completions"
            passed_on = f"{relay_url}/chat/completions"
            for name, calls in through.items():
                calls["bare"] = ways[name]["bare"]
                calls["relay"] = lambda: read_lines(bare, passed_on, sent.encode(), headers)
            through["streaming"]["served"] = lambda: read_lines(bare, at, to_server.encode(), headers)
            through["whole"]["served"] = lambda: read_whole(bare, at, to_server_whole.encode(), headers)
        for name, calls in ways.items():
            alone = await timed(calls, repeats)
            figures[name] = report(alone, await timed(through[name], repeats) if through[name] else {})
        if local.calls:
            raise SystemExit("The device answered, so the figures are not those of the way to the remote.")
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--pieces", type=int, default=20)
    parser.add_argument("--no-server", action="store_true", help="leave hybridllm serve out")
    arguments = parser.parse_args()
    with FakeRemote(pieces=arguments.pieces) as remote, contextlib.ExitStack() as stack:
        url = None if arguments.no_server else stack.enter_context(served(remote.base_url))
        relay_url = "" if url is None else stack.enter_context(relay(remote.base_url))
        figures = asyncio.run(measure(remote.base_url, url, relay_url, arguments.repeats))
    print(
        json.dumps(
            {
                "benchmark": "client_overhead",
                "pieces": arguments.pieces,
                "repeats": arguments.repeats,
                "unit": "ms",
                **figures,
                "limits_added_ms": LIMITS_MS,
            }
        )
    )


if __name__ == "__main__":
    main()
