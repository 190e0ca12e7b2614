"""Times how fast the device takes over from a remote that fails, with the bundled model; prints JSON in milliseconds.

All ways take turns within one run. Times are the consumer's: from the call, or from the last piece of the remote's, to the next
piece. ``device`` asks the device alone, so it is the local time to the first token that the others are compared with; ``over``
is what remains of a way's time when that, and what the policy lets the remote take, are taken off.

| way | the remote | the policy lets it take |
|---|---|---|
| ``refused`` | refuses connections, and is tried each time | nothing |
| ``known_offline`` | is known to be offline | nothing |
| ``black_hole`` | never answers to a connection (Linux only) | ``connect_s`` |
| ``silent`` | accepts, and says nothing | ``first_token_s`` |
| ``cut`` | closes the connection in mid-answer; the device goes on | nothing |
| ``stalled`` | falls silent in mid-answer; the device goes on | ``gap_s`` |

In the last two, the device's own time is that of the attempt which goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import statistics
import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from benchmarks._fake_remote import FakeRemote
from hybridllm import HybridClient, Remote, load_policy
from hybridllm.backends.local import LocalBackend
from policies import Breaker, Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

SHEET = """You are the kiosk assistant of the Harbour Museum.

Opening hours:
- Monday: closed
- Tuesday to Friday: 10:00 to 17:30
- Saturday: 9:00 to 19:00
- Sunday: 9:00 to 18:00"""
ASKED: dict[str, Any] = {
    "messages": [{"role": "system", "content": SHEET}, {"role": "user", "content": "What are your opening hours?"}],
    "privacy": "public",
    "temperature": 0,
    "max_tokens": 96,
}
LIMITS = Limits(connect_s=0.3, first_token_s=0.5, gap_s=0.4)
REMOTE_PIECES = 5
MOST_OVER_MS = 50


@dataclass
class Taken:
    """One measurement, in milliseconds."""

    waited_ms: float
    """What the consumer waited."""

    local_ms: float | None = None
    """The device's own part, where the way has one of its own."""


class SharedBackend(LocalBackend):
    """The one engine, which no client ends but the benchmark."""

    async def aclose(self) -> None:
        """Go on."""


def first_piece(client: HybridClient) -> Taken:
    """From the call to the first piece."""
    began_s = time.perf_counter()
    with client.chat.completions.create(stream=True, **ASKED) as stream:
        for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                waited_ms = (time.perf_counter() - began_s) * 1000
                break
    expect(stream.route.served_by == "local", stream.route.reason)
    return Taken(waited_ms)


def handover(client: HybridClient) -> Taken:
    """From the remote's last piece to the device's first."""
    last_s, waited_ms, moved = 0.0, 0.0, False
    with client.chat.completions.create(stream=True, **ASKED) as stream:
        for chunk in stream:
            moved = moved or chunk.handover is not None
            if chunk.choices and chunk.choices[0].delta.content:
                now_s = time.perf_counter()
                if moved:
                    waited_ms = (now_s - last_s) * 1000
                    break
                last_s = now_s
    attempts = stream.route.attempts
    expect([attempt.why for attempt in attempts] == ["first", "continue"], stream.route.reason)
    return Taken(waited_ms, attempts[1].ttft_ms)


def expect(holds: bool, what: str) -> None:
    """Give up where something else was measured than is said."""
    if not holds:
        raise SystemExit(f"Not what was to be measured: {what}")


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """A port whose queue is full, so that Linux drops what comes."""
    with contextlib.ExitStack() as held:
        server = held.enter_context(contextlib.closing(socket.socket()))
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port = int(server.getsockname()[1])
        for _ in range(3):
            waiting = held.enter_context(contextlib.closing(socket.socket()))
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        yield port


def refusing_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def client_of(backend: LocalBackend, base_url: str | None, *, knows: bool = False) -> HybridClient:
    """A client whose remote is asked first, each time; with ``knows`` it goes by what it knows of the network."""
    policy = replace(load_policy("cloud-assist"), hedge=None, limits=LIMITS, breaker=Breaker(failures=1_000_000))
    if not knows:
        policy = replace(policy, rules=())
    remote = None if base_url is None else Remote(base_url=base_url, model="fake", max_retries=0)
    return HybridClient(local=backend, remote=remote, policy=policy)


def summary(takens: list[Taken], baseline_ms: float, allowed_ms: float) -> dict[str, float]:
    """Median and spread; ``over`` is what is left beyond the device's own time and the policy's."""
    waited_ms = sorted(taken.waited_ms for taken in takens)
    over_ms = [
        taken.waited_ms - allowed_ms - (baseline_ms if taken.local_ms is None else taken.local_ms) for taken in takens
    ]
    figures = {
        "median": statistics.median(waited_ms),
        "min": waited_ms[0],
        "max": waited_ms[-1],
        "allowed": allowed_ms,
        "over_median": statistics.median(over_ms),
        "over_max": max(over_ms),
    }
    return {name: round(value, 1) for name, value in figures.items()}


def measure(rounds: int) -> dict[str, Any]:
    """All ways, taking turns."""
    backend = SharedBackend("kiosk-assistant")
    takens: dict[str, list[Taken]] = {}
    with contextlib.ExitStack() as stack:
        cut = stack.enter_context(FakeRemote(cut_after=REMOTE_PIECES))
        stalled = stack.enter_context(FakeRemote(cut_after=REMOTE_PIECES, stall=True))
        silent = stack.enter_context(FakeRemote(silent=True))
        urls = {"device": None, "refused": f"http://127.0.0.1:{refusing_port()}/v1", "silent": silent.base_url}
        urls["known_offline"] = urls["refused"]
        if sys.platform == "linux":
            urls["black_hole"] = f"http://127.0.0.1:{stack.enter_context(black_hole())}/v1"
        clients = {
            name: stack.enter_context(client_of(backend, url, knows=name == "known_offline"))
            for name, url in urls.items()
        }
        moving = {
            name: stack.enter_context(client_of(backend, remote.base_url))
            for name, remote in (("cut", cut), ("stalled", stalled))
        }
        clients["device"].load()
        for turn in range(rounds + 1):
            for name, client in clients.items():
                taken = first_piece(client)
                if turn:  # the first round warms up
                    takens.setdefault(name, []).append(taken)
            for name, client in moving.items():
                taken = handover(client)
                if turn:
                    takens.setdefault(name, []).append(taken)
        backend._engine.close()  # what no client does here
    baseline_ms = statistics.median(taken.waited_ms for taken in takens["device"])
    allowed_ms = {"black_hole": LIMITS.connect_s, "silent": LIMITS.first_token_s, "stalled": LIMITS.gap_s}
    return {name: summary(found, baseline_ms, 1000 * allowed_ms.get(name, 0.0)) for name, found in takens.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    figures = measure(arguments.rounds)
    print(
        json.dumps({"benchmark": "takeover", **vars(arguments), "unit": "ms", **figures, "aim_over_ms": MOST_OVER_MS})
    )


if __name__ == "__main__":
    main()
