"""Time to the first token of a prompt whose beginning is cached, against that of its new tokens alone; prints JSON.

Measured in turns: a prompt whose first tokens were answered before, the same number of new tokens as a whole prompt, and the whole
prompt with nothing cached. The aim is a first token within 1.2 times what the new tokens take alone.
"""

from __future__ import annotations

import json

from benchmarks._engine import Answer, engine, parser, spread


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--prefix-tokens", type=int, default=1500)
    arguments.add_argument("--new-tokens", type=int, default=64)
    chosen = arguments.parse_args()
    times_ms: dict[str, list[float]] = {"cached": [], "new_tokens_alone": [], "nothing_cached": []}
    ratios = []
    with engine(chosen, context_tokens=chosen.prefix_tokens + chosen.new_tokens + 16, max_sequences=2) as (bench, info):

        def first_token(ids: list[int]) -> Answer:
            answer = bench.ask(ids, 1)
            bench.run()
            return answer

        prefix = bench.prompt(chosen.prefix_tokens)
        first_token([*prefix, *bench.prompt(1)])
        for run in range(chosen.runs + 1):
            cached = first_token([*prefix, *bench.prompt(chosen.new_tokens)])
            alone = first_token(bench.prompt(chosen.new_tokens))
            whole = first_token(bench.prompt(chosen.prefix_tokens + chosen.new_tokens))
            assert cached.end is not None
            assert cached.end.usage.cached_tokens >= chosen.prefix_tokens
            if run:  # the first one warms up
                for name, answer in (("cached", cached), ("new_tokens_alone", alone), ("nothing_cached", whole)):
                    times_ms[name].append(1000 * answer.ttft_s)
                ratios.append(cached.ttft_s / alone.ttft_s)
    report = {
        "benchmark": "prefix_cache",
        "model": chosen.model,
        "quant": info.quant,
        "device": info.device,
        "prefix_tokens": chosen.prefix_tokens,
        "new_tokens": chosen.new_tokens,
        "ttft_ms": {name: spread(values) for name, values in times_ms.items()},
        "cached_over_new_tokens_alone": spread(ratios, 3),
        "limits": {"cached_over_new_tokens_alone": 1.2},
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
