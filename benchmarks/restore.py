"""Times a saved state: what a prompt's prefill takes, and what restoring it in a fresh engine takes instead; prints JSON.

For the bundled model, and for one with the geometry of Qwen2.5-0.5B and random weights. Each run starts two engines: one computes a
beginning, answers a question after it and saves it; the other restores it and answers the same question. Seconds of the first answer
are counted inside the engine, from the request's arrival; those of ``restore`` are the caller's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._engine import BUNDLED, HALF_BILLION, random_checkpoint
from local_runtime.client import Finished, GenerateRequest, LoadOptions, LocalEngine, TextDelta
from local_runtime.options import SamplingOptions

FACT = (
    "Room {number} shows works of the year {year}; it opens at nine and closes at six, and on Mondays it stays shut. "
)
QUESTION = {"role": "user", "content": "When does room 3 open?"}


def beginning(engine: LocalEngine, tokens: int) -> list[dict[str, Any]]:
    """A system message with facts, of about so many tokens."""
    text = ""
    number = 0
    while True:
        number += 1
        longer = text + FACT.format(number=number, year=1500 + 7 * number)
        if engine.count_prompt_tokens([{"role": "system", "content": longer}]) > tokens:
            return [{"role": "system", "content": text}]
        text = longer


def answer(engine: LocalEngine, messages: list[dict[str, Any]]) -> tuple[list[int], Finished]:
    """A short greedy answer: its tokens and its end."""
    request = GenerateRequest([*messages, QUESTION], SamplingOptions(temperature=0.0), max_tokens=16, ignore_eos=True)
    with engine.generate(request) as stream:
        events = list(stream)
    end = events[-1]
    assert isinstance(end, Finished), end
    return [token for event in events if isinstance(event, TextDelta) for token in event.ids], end


def run(options: LoadOptions, tokens: int, file: Path) -> dict[str, float]:
    """One run: seconds, and how much the file holds."""
    with LocalEngine(options) as first:
        messages = beginning(first, tokens)
        said, computed = answer(first, messages)
        saved = first.save_state(file, messages)
    with LocalEngine(options) as second:
        second.start()
        started = time.perf_counter()
        second.restore_state(file)
        restore_s = time.perf_counter() - started
        said_again, restored = answer(second, messages)
    assert said == said_again, "the answer after a restore is another one"
    return {
        "prompt_tokens": computed.usage.prompt_tokens,
        "saved_tokens": saved.tokens,
        "file_mib": saved.file_bytes / 2**20,
        "save_s": saved.took_s,
        "computed_ttft_s": computed.timings.ttft_s,
        "restore_s": restore_s,
        "restored_ttft_s": restored.timings.ttft_s,
        "restore_over_prefill": (restore_s + restored.timings.ttft_s) / computed.timings.ttft_s,
    }


def measure(options: LoadOptions, tokens: int, runs: int) -> dict[str, Any]:
    """Several runs: the median, the least and the most of each figure."""
    with tempfile.TemporaryDirectory() as folder:
        results = [run(options, tokens, Path(folder) / "state.kv") for _ in range(runs)]
    figures: dict[str, Any] = {"runs": runs}
    for name in results[0]:
        values = [result[name] for result in results]
        figures[name] = {
            "median": round(statistics.median(values), 4),
            "min": round(min(values), 4),
            "max": round(max(values), 4),
        }
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--bundled-tokens", type=int, default=600)
    parser.add_argument("--tokens", type=int, default=1000, help="of the 0.5B geometry; 0 leaves it out")
    arguments = parser.parse_args()
    report = {BUNDLED: measure(LoadOptions(BUNDLED), arguments.bundled_tokens, arguments.runs)}
    if arguments.tokens:
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = random_checkpoint(Path(folder))
            options = LoadOptions(str(checkpoint), context_tokens=2 * arguments.tokens, cache_dir=f"{folder}/cache")
            report[HALF_BILLION] = measure(options, arguments.tokens, arguments.runs)
    print(json.dumps({"benchmark": "restore", **report}))


if __name__ == "__main__":
    main()
