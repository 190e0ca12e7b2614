"""What letting go of pages before a sliding window costs, of prefill and of decoding, and how many pages it saves; prints JSON.

A model of random weights whose layers all have a window answers one long prompt at length, so that its sequence moves again and
again (:mod:`local_runtime.page_move`). The aim is that moving takes at most 2 % of the steps that decode.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._engine import engine, parser, spread
from tests.local_runtime.checkpoints import qwen2_config, write_checkpoint

GEOMETRY: dict[str, Any] = {
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 512,
    "max_position_embeddings": 32768,
    "use_sliding_window": True,
    "max_window_layers": 0,
}
"""38 million parameters."""


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--window-tokens", type=int, default=1024)
    arguments.add_argument("--prompt-tokens", type=int, default=4096)
    arguments.add_argument("--new-tokens", type=int, default=1600)
    arguments.set_defaults(runs=3)
    chosen = arguments.parse_args()
    shares: dict[str, list[float]] = {"prefill": [], "decode": []}
    moves_ms, decodes_ms, most_pages = [], [], 0
    with tempfile.TemporaryDirectory() as scratch:
        config = qwen2_config(**GEOMETRY, sliding_window=chosen.window_tokens)
        chosen.model = str(write_checkpoint(Path(scratch) / "windowed", config))
        chosen.cache_dir = chosen.cache_dir or scratch
        context_tokens = chosen.prompt_tokens + chosen.new_tokens + 16
        with engine(chosen, context_tokens=context_tokens, max_sequences=1, quant="q4") as (bench, info):
            runner = bench.engine._runner
            assert runner.window is not None
            spent_s = 0.0

            def timed(sequence_id: int, tokens: int, move: Any = runner.drop_first) -> None:
                nonlocal spent_s
                began_s = time.perf_counter()
                move(sequence_id, tokens)
                spent_s += time.perf_counter() - began_s
                moves_ms.append(1000 * (time.perf_counter() - began_s))

            runner.drop_first = timed  # type: ignore[method-assign]
            for run in range(chosen.runs + 1):
                answer = bench.ask(bench.prompt(chosen.prompt_tokens), chosen.new_tokens)
                for phase in shares:
                    began_s, spent_s = time.perf_counter(), 0.0
                    while bench.engine.has_work and not (phase == "prefill" and answer.token_times):
                        bench.engine.step()
                        most_pages = max(most_pages, runner.total_pages - runner.available_pages())
                    took_s = time.perf_counter() - began_s
                    if run:  # the first one warms up
                        shares[phase].append(100 * spent_s / took_s)
                if run:
                    decodes_ms += [1000 * gap_s for gap_s in answer.gaps_s()]
                else:
                    moves_ms.clear()
            report = {
                "benchmark": "sliding_window",
                "device": info.device,
                "window_tokens": chosen.window_tokens,
                "prompt_tokens": chosen.prompt_tokens,
                "new_tokens": chosen.new_tokens,
                "pages": {"most_in_use": most_pages, "of_all_tokens": -(-context_tokens // runner.page_tokens)},
                "move_ms": spread(moves_ms),
                "decode_ms": spread(decodes_ms),
                "moving_percent_of": {phase: spread(values) for phase, values in shares.items()},
                "limits": {"moving_percent_of_decode": 2.0},
            }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
