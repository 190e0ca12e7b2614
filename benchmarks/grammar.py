"""What holding an answer to a grammar costs, on the bundled model; prints JSON.

Pairs of answers with the same seed, prompt and number of tokens take turns, one free and one in a JSON Schema of strings, numbers and
lists that has no end. Each pair gives the difference of their times per token, on the clock and of the processor; the latter says
more on a busy machine, with one thread. A step's mask and the token's way into the grammar are measured on their own as well.

What a schema leaves no choice about is not drawn but taken, several tokens in one pass, which makes such an answer faster than a
free one. ``--schema text`` is one long text, of which nothing is known before: the most that a mask costs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import numpy as np

from local_runtime.engine import Engine
from local_runtime.events import Event, Finished
from local_runtime.grammar import GrammarCompiler
from local_runtime.loader import LoadedModel, load
from local_runtime.options import GenerateRequest, Grammar, LoadOptions, SamplingOptions

SCHEMA: dict[str, Any] = {
    "type": "array",
    "minItems": 1_000,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 40},
            "kind": {"enum": ["room", "shop", "desk"]},
            "floor": {"type": "integer", "minimum": -2, "maximum": 40},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 12}, "maxItems": 4},
        },
        "required": ["name", "kind", "floor", "tags"],
        "additionalProperties": False,
    },
}
GRAMMAR = Grammar("json_schema", json.dumps(SCHEMA))
TEXT = Grammar("json_schema", json.dumps({"type": "string", "minLength": 100_000}))
GRAMMARS = {"records": GRAMMAR, "text": TEXT}
QUESTION = [{"role": "user", "content": "List every room of the museum with its floor."}]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="kiosk-assistant")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--schema", choices=GRAMMARS, default="records")
    arguments = parser.parse_args()
    grammar = GRAMMARS[arguments.schema]
    model = load(LoadOptions(arguments.model, threads=arguments.threads, speculate=False), lambda _: None)
    began = time.perf_counter()
    compiler = GrammarCompiler(model.tokenizer, model.info.vocab_size)
    compiler.constraint(grammar)
    first_s = time.perf_counter() - began
    constraint_us = measure_constraint(compiler, model, grammar, arguments.tokens)
    engine = Engine(model)
    pairs = [measure_pair(engine, grammar, seed, arguments.tokens) for seed in range(arguments.pairs + 1)][1:]
    engine.close()
    free_ms, held_ms = (statistics.median(times[place] for times in pairs) for place in (0, 1))
    slower = sorted((held / free - 1) * 100 for free, held, _, _ in pairs)
    slower_cpu = sorted((held / free - 1) * 100 for _, _, free, held in pairs)
    print(
        json.dumps(
            {
                "benchmark": "grammar",
                "schema": arguments.schema,
                "model": model.info.name,
                "vocabulary": model.info.vocab_size,
                "pairs": arguments.pairs,
                "tokens": arguments.tokens,
                "free_ms_per_token": round(free_ms, 3),
                "held_ms_per_token": round(held_ms, 3),
                "slower_percent": round(statistics.median(slower), 1),
                "slower_percent_spread": [round(slower[0], 1), round(slower[-1], 1)],
                "slower_percent_of_processor": round(statistics.median(slower_cpu), 1),
                "slower_percent_of_processor_spread": [round(slower_cpu[0], 1), round(slower_cpu[-1], 1)],
                "mask_and_take_us": round(statistics.median(constraint_us), 1),
                "mask_and_take_us_p95": round(statistics.quantiles(constraint_us, n=20)[-1], 1),
                "first_grammar_ms": round(first_s * 1000, 1),
            }
        )
    )


def measure_pair(engine: Engine, wanted: Grammar, seed: int, tokens: int) -> tuple[float, float, float, float]:
    """Milliseconds per token of a free answer and of one that is held to a grammar: on the clock, then of the processor.

    Which of the two is first changes from pair to pair.
    """
    order = (None, wanted) if seed % 2 else (wanted, None)
    took = {grammar is None: measure_answer(engine, grammar, seed, tokens) for grammar in order}
    (free, free_cpu), (held, held_cpu) = took[True], took[False]
    return free, held, free_cpu, held_cpu


def measure_answer(engine: Engine, grammar: Grammar | None, seed: int, tokens: int) -> tuple[float, float]:
    """Milliseconds per token, on the clock and of the processor, from the first token on."""
    heard: list[Event] = []
    sampling = SamplingOptions(temperature=1.0, seed=seed)
    # The end of the answer is not wanted, so that both have as many tokens.
    request = GenerateRequest(QUESTION, sampling, tokens, ignore_eos=True, grammar=grammar)
    engine.submit(seed, request, heard.append)
    while not heard:
        engine.step()
    began, began_cpu = time.perf_counter(), time.process_time()
    while engine.has_work:
        engine.step()
    took, took_cpu = time.perf_counter() - began, time.process_time() - began_cpu
    end = heard[-1]
    if not isinstance(end, Finished) or end.usage.completion_tokens != tokens:
        raise SystemExit(f"An answer did not have {tokens} tokens.")
    return took * 1000 / (tokens - 1), took_cpu * 1000 / (tokens - 1)


def measure_constraint(compiler: GrammarCompiler, model: LoadedModel, grammar: Grammar, tokens: int) -> list[float]:
    """Microseconds of the mask and of taking the token, for each token of an answer drawn at random."""
    draw = np.random.default_rng(0)
    took_us = []
    constraint = compiler.constraint(grammar)
    for _ in range(tokens):
        logits = draw.standard_normal(model.info.vocab_size, dtype=np.float32)
        began = time.perf_counter_ns()
        constraint.mask(logits)
        masked = time.perf_counter_ns()
        token = int(np.argmax(logits))
        taking = time.perf_counter_ns()
        constraint.take(token)
        took_us.append((masked - began + time.perf_counter_ns() - taking) / 1000)
    return took_us


if __name__ == "__main__":
    main()
