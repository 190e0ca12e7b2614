"""Tokens per second at 1, 4, 16 and 64 conversations at a time, inside the engine; prints JSON.

All conversations begin together, each with a prompt of its own, and are answered to the end. Counted are generated tokens over the
whole time, prefill included.
"""

from __future__ import annotations

import json
import time

from benchmarks._engine import engine, parser, spread


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--conversations", type=int, nargs="+", default=[1, 4, 16, 64])
    arguments.add_argument("--prompt-tokens", type=int, default=64)
    arguments.add_argument("--new-tokens", type=int, default=64)
    chosen = arguments.parse_args()
    context_tokens = chosen.prompt_tokens + chosen.new_tokens
    results = {}
    with engine(chosen, context_tokens=context_tokens, max_sequences=max(chosen.conversations)) as (bench, info):
        for count in chosen.conversations:
            rates, gaps_ms = [], []
            for run in range(chosen.runs + 1):
                began_s = time.perf_counter()
                answers = [bench.ask(bench.prompt(chosen.prompt_tokens), chosen.new_tokens) for _ in range(count)]
                bench.run()
                if run:  # the first one warms up
                    rates.append(count * chosen.new_tokens / (time.perf_counter() - began_s))
                    gaps_ms += [1000 * gap for answer in answers for gap in answer.gaps_s()]
            gaps = spread(gaps_ms)
            results[str(count)] = {"tokens_per_s": spread(rates, 1), "ms_between_tokens": gaps["median"]}
    report = {
        "benchmark": "throughput",
        "model": chosen.model,
        "quant": info.quant,
        "device": info.device,
        "prompt_tokens": chosen.prompt_tokens,
        "new_tokens": chosen.new_tokens,
        "conversations": results,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
