"""How long an answer of the bundled model pauses when its process is killed: from the kill to the next token; prints JSON."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import statistics
import time

from local_runtime.client import GenerateRequest, LoadOptions, LocalEngine, TextDelta
from local_runtime.options import SamplingOptions

MODEL = "kiosk-assistant"
KILL_AFTER_TOKENS = 20


def pause_s(engine: LocalEngine, request: GenerateRequest) -> float:
    """Kill the engine's process in mid-answer; seconds from the kill to the first token of the process that follows it."""
    tokens, killed, killed_at = 0, None, 0.0
    with engine.generate(request) as answer:
        for event in answer:
            if killed is not None and engine.worker_pid not in (None, killed):
                return time.perf_counter() - killed_at
            tokens += event.tokens if isinstance(event, TextDelta) else 0
            if killed is None and tokens >= KILL_AFTER_TOKENS:
                killed, killed_at = engine.worker_pid, time.perf_counter()
                assert killed is not None
                os.kill(killed, signal.SIGKILL)
    raise RuntimeError("the answer was over before the engine could be killed")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    request = GenerateRequest(
        messages=[{"role": "user", "content": "Tell me about the museum."}],
        max_tokens=400,
        sampling=SamplingOptions(temperature=0.0),
        ignore_eos=True,
    )
    logging.getLogger("local_runtime").setLevel(logging.ERROR)  # each kill is told
    with LocalEngine(LoadOptions(model=MODEL)) as engine:
        loaded = engine.start()
        times = sorted(pause_s(engine, request) for _ in range(rounds))
    result = {
        "benchmark": "engine_killed",
        "model": MODEL,
        "device": loaded.device,
        "rounds": rounds,
        "load_s": round(loaded.load_s, 3),
        "kill_to_next_token_s": {"median": round(statistics.median(times), 3), "max": round(times[-1], 3)},
        "limits": {"kill_to_next_token_s": 3.0},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
