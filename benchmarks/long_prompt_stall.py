"""Time between tokens of running conversations, undisturbed and while a long prompt arrives, inside the engine; prints JSON.

The two are measured in turns within each run: the same conversations run on undisturbed, then a prompt of 2,000 tokens comes, until
its first token is there. The aim is a mean and a median of at most twice the undisturbed ones.
"""

from __future__ import annotations

import json
import statistics
import time
from typing import Any

from benchmarks._engine import Bench, engine, parser, percentile, spread

RUNNING = (1, 3)
PROMPT_TOKENS = 24
UNDISTURBED_TOKENS = 60
SETTLING_TOKENS = 8


def once(bench: Bench, running: int, long_tokens: int, room_tokens: int) -> dict[str, float]:
    """One run: milliseconds between tokens, and to the long prompt's first token."""
    answers = [bench.ask(bench.prompt(PROMPT_TOKENS), room_tokens - PROMPT_TOKENS) for _ in range(running)]
    for answer in answers:
        bench.run_until(answer, SETTLING_TOKENS)
    began_s = time.perf_counter()
    bench.run_until(answers[-1], len(answers[-1].token_times) + UNDISTURBED_TOKENS)
    came_s = time.perf_counter()
    long = bench.ask(bench.prompt(long_tokens), 1)
    bench.run_until(long, 1)
    until_s = long.token_times[0]
    before = [gap for answer in answers for gap in answer.gaps_s(began_s, came_s)]
    during = [gap for answer in answers for gap in answer.gaps_s(came_s, until_s)]
    bench.engine.cancel_all()
    return {
        "undisturbed_ms": 1000 * statistics.median(before),
        "undisturbed_p95_ms": 1000 * percentile(before, 95),
        "during_ms": 1000 * statistics.median(during),
        "during_p95_ms": 1000 * percentile(during, 95),
        "ratio": statistics.median(during) / statistics.median(before),
        "mean_ratio": statistics.mean(during) / statistics.mean(before),
        "p95_ratio": percentile(during, 95) / percentile(before, 95),
        "long_ttft_ms": 1000 * long.ttft_s,
    }


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--long-tokens", type=int, default=2000)
    chosen = arguments.parse_args()
    context_tokens = chosen.long_tokens + 32
    results: dict[str, Any] = {}
    with engine(chosen, prefix_cache=False, context_tokens=context_tokens, max_sequences=max(RUNNING) + 1) as (
        bench,
        info,
    ):
        alone_ms = []
        for _ in range(chosen.runs):
            alone = bench.ask(bench.prompt(chosen.long_tokens), 1)
            bench.run()
            alone_ms.append(1000 * alone.ttft_s)
        for running in RUNNING:
            runs = [once(bench, running, chosen.long_tokens, context_tokens) for _ in range(chosen.runs)]
            results[str(running)] = {name: spread([run[name] for run in runs]) for name in runs[0]}
    report = {
        "benchmark": "long_prompt_stall",
        "model": chosen.model,
        "quant": info.quant,
        "device": info.device,
        "long_tokens": chosen.long_tokens,
        "long_ttft_alone_ms": spread(alone_ms),
        "running": results,
        "limits": {"ratio": 2.0, "mean_ratio": 2.0},
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
