"""What the scheduler itself takes of a step, at 1 to 64 running answers whose prompts begin in the same way; prints JSON.

The bundled model's steps are the shortest there are, so its share is the largest. Counted is all time within the scheduler: turns,
pages, the prefix cache and its tree. The aim is at most 3 % of the steps.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from benchmarks._engine import engine, parser, spread

if TYPE_CHECKING:
    from collections.abc import Callable

ENTRIES = ("add", "next_step", "computed", "remove", "requeue", "room_for_guesses")


class Clock:
    """Seconds within some methods of an object, calls within calls counted once."""

    def __init__(self, watched: object, names: tuple[str, ...]) -> None:
        self.spent_s = 0.0
        self._inside = False
        for name in names:
            setattr(watched, name, self._timed(getattr(watched, name)))

    def _timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **keywords: Any) -> Any:
            if self._inside:
                return method(*args, **keywords)
            self._inside = True
            began_s = time.perf_counter()
            try:
                return method(*args, **keywords)
            finally:
                self.spent_s += time.perf_counter() - began_s
                self._inside = False

        return timed


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--running", type=int, nargs="+", default=[1, 4, 16, 64])
    arguments.add_argument("--prefix-tokens", type=int, default=128)
    arguments.add_argument("--new-tokens", type=int, default=64)
    chosen = arguments.parse_args()
    context_tokens = chosen.prefix_tokens + 16 + chosen.new_tokens
    results = {}
    with engine(chosen, context_tokens=context_tokens, max_sequences=max(chosen.running)) as (bench, info):
        clock = Clock(bench.engine._scheduler, ENTRIES)
        for running in chosen.running:
            shares, per_step_us = [], []
            for run in range(chosen.runs + 1):
                prefix = bench.prompt(chosen.prefix_tokens)
                answers = [bench.ask([*prefix, *bench.prompt(16)], chosen.new_tokens) for _ in range(running)]
                steps, clock.spent_s = 0, 0.0
                began_s = time.perf_counter()
                while bench.engine.has_work:
                    bench.engine.step()
                    steps += 1
                took_s = time.perf_counter() - began_s
                assert all(answer.end is not None for answer in answers)
                if run:  # the first one warms up
                    shares.append(100 * clock.spent_s / took_s)
                    per_step_us.append(1e6 * clock.spent_s / steps)
            results[str(running)] = {"percent_of_step": spread(shares, 3), "us_per_step": spread(per_step_us, 1)}
    report = {
        "benchmark": "scheduler_cost",
        "model": chosen.model,
        "quant": info.quant,
        "device": info.device,
        "running": results,
        "limits": {"percent_of_step": 3.0},
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
