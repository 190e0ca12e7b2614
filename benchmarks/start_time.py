"""Times a fresh process from its start to the first token and to the end of an answer of the bundled model; prints JSON.

``first`` starts with an empty cache, so it converts and compiles; ``warm`` finds everything in the cache. Seconds are wall clock
from just before the process is started, as a person would feel it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]

PROGRAM = """
import json, sys, time
started = float(sys.argv[1])
from hybridllm import HybridClient
with HybridClient(offline=True) as client:
    messages = [{"role": "system", "content": "Opening hours: Monday to Friday 9:00 to 17:00, Sunday 10:30 to 16:00."},
                {"role": "user", "content": "When do you open on Sunday?"}]
    with client.chat.completions.create(messages=messages, temperature=0, max_tokens=32, stream=True) as stream:
        first = None
        for chunk in stream:
            if first is None and chunk.choices and chunk.choices[0].delta.content:
                first = time.time() - started
    print(json.dumps({"first_token_s": first, "answer_s": time.time() - started}))
"""


def start(cache: str) -> dict[str, float]:
    """Start one process on ``cache``; seconds to the first token and to the whole answer."""
    environment = {**os.environ, "HYBRIDLLM_CACHE": cache, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", PROGRAM, repr(time.time())]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    times: dict[str, float] = json.loads(result.stdout)
    return times


def summary(values: list[float]) -> dict[str, Any]:
    """Median and spread."""
    figures = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(value, 3) for name, value in figures.items()} | {"runs": len(values)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first-runs", type=int, default=3)
    parser.add_argument("--warm-runs", type=int, default=7)
    arguments = parser.parse_args()
    first = []
    for _ in range(arguments.first_runs):
        with tempfile.TemporaryDirectory() as cache:
            first.append(start(cache))
    with tempfile.TemporaryDirectory() as cache:
        start(cache)
        warm = [start(cache) for _ in range(arguments.warm_runs)]
    report = {
        name: {key: summary([run[key] for run in runs]) for key in ("first_token_s", "answer_s")}
        for name, runs in (("first", first), ("warm", warm))
        if runs
    }
    print(json.dumps({"benchmark": "start_time", **report, "limits": {"first_s": 40.0, "warm_first_token_s": 2.0}}))


if __name__ == "__main__":
    main()
