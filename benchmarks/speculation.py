"""Times greedy answers with guessed tokens and without, in alternation and in this process; prints JSON, a line for each kind.

| kind | prompts | what is to be expected |
|---|---|---|
| ``quoting`` | questions whose answers stand in a fact sheet word for word, and requests to say it again | faster |
| ``free`` | questions without a sheet | no slower |
| ``misleading`` | random tokens in which every pair returns with another one after it | no slower |

Tokens a second are those of decoding: from the first token to the end. Medians are those of each prompt over all rounds, and the
spread is that of whole rounds; ``speedup`` is the time without guesses over the time with them. Exits with 1 if an answer differs,
or if a kind is more than 5 % slower.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from local_runtime.engine import Engine
from local_runtime.events import Event, Failed, Finished, TextDelta
from local_runtime.loader import load
from local_runtime.options import GenerateRequest, LoadOptions, SamplingOptions

if TYPE_CHECKING:
    from local_runtime.model_interface import Model

SHEET = """You are the kiosk assistant of the Harbour Museum.

Opening hours:
- Monday: closed
- Tuesday to Friday: 10:00 to 17:30
- Saturday: 9:00 to 19:00
- Sunday: 9:00 to 18:00

Tickets:
- Adults: 14 euros
- Children up to 12 years: free
- Groups of ten and more: 9 euros each, please call 040 555 0142 two days before

The café Mast & Anker is on the second floor, next to the lighthouse lamp. The cloakroom is on the ground floor, to the left of the
ticket desk. Lost property is kept at the information desk for thirty days."""
QUOTING = (
    "What are your opening hours?",
    "List all opening hours, please.",
    "How much is a ticket?",
    "Where is the café?",
    "Repeat everything that you know about the museum.",
    "What do groups pay?",
)
FREE = (
    "Tell me a story about the sea.",
    "Who are you?",
    "Write a poem about a lighthouse.",
    "What can I do on a rainy day?",
    "Thank you!",
    "Why is the sky blue?",
)
MISLEADING_PROMPTS = 4
MISLEADING_PAIRS = 40
MOST_SLOWER = 0.05


@dataclass
class Round:
    """All prompts of a kind, once."""

    decode_s: list[float] = field(default_factory=list)
    tokens: int = 0
    steps: int = 0
    answers: list[list[int]] = field(default_factory=list)


def requests_of(kind: str, vocab_size: int, max_tokens: int) -> list[GenerateRequest]:
    """The prompts of a kind."""
    greedy = SamplingOptions(temperature=0)
    if kind == "misleading":
        draw, requests = random.Random(17), []
        for _ in range(MISLEADING_PROMPTS):
            pairs = [[draw.randrange(3, vocab_size) for _ in range(2)] for _ in range(MISLEADING_PAIRS)]
            ids = [token for _ in range(4) for pair in pairs for token in (*pair, draw.randrange(3, vocab_size))]
            requests.append(GenerateRequest(raw_token_ids=ids, sampling=greedy, max_tokens=max_tokens, ignore_eos=True))
        return requests
    sheet: list[dict[str, Any]] = [{"role": "system", "content": SHEET}] if kind == "quoting" else []
    return [
        GenerateRequest(messages=[*sheet, {"role": "user", "content": text}], sampling=greedy, max_tokens=max_tokens)
        for text in (QUOTING if kind == "quoting" else FREE)
    ]


def answer(engine: Engine, requests: list[GenerateRequest]) -> Round:
    """Answer one after the other."""
    done = Round()
    for request in requests:
        events: list[Event] = []
        engine.submit(1, request, events.append)
        while engine.has_work:
            engine.step()
        *deltas, end = events
        if isinstance(end, Failed):
            raise end.error
        assert isinstance(end, Finished)
        pieces = [event for event in deltas if isinstance(event, TextDelta)]
        done.answers.append([token for piece in pieces for token in piece.ids])
        done.decode_s.append(end.timings.decode_s)
        done.tokens += len(done.answers[-1]) - 1  # the first is the prefill's
        done.steps += len(pieces) - 1
    return done


def figures(median: float, rounds: list[float]) -> dict[str, float]:
    """A median over the rounds, and the lowest and highest round."""
    return {"median": round(median, 3), "min": round(min(rounds), 3), "max": round(max(rounds), 3)}


def measure(model: Model, kind: str, rounds: int, max_tokens: int) -> dict[str, Any]:
    """Time a kind; both engines begin without having learnt anything."""
    requests = requests_of(kind, model.info.vocab_size, max_tokens)
    engines = {speculate: Engine(model, prefix_cache=False, speculate=speculate) for speculate in (False, True)}
    answer(engines[False], requests)  # touches the memory
    done: dict[bool, list[Round]] = {False: [], True: []}
    for number in range(rounds):
        for speculate in (False, True) if number % 2 else (True, False):
            done[speculate].append(answer(engines[speculate], requests))
    first = done[False][0]
    typical_s = {speculate: _typical_s(done[speculate]) for speculate in (False, True)}
    rates = {speculate: [first.tokens / sum(each.decode_s) for each in done[speculate]] for speculate in (False, True)}
    ratios = [sum(a.decode_s) / sum(b.decode_s) for a, b in zip(done[False], done[True], strict=True)]
    return {
        "tokens": first.tokens,
        "tokens_per_step": round(statistics.median(each.tokens / each.steps for each in done[True]), 2),
        "tokens_per_s_without": figures(first.tokens / typical_s[False], rates[False]),
        "tokens_per_s_with": figures(first.tokens / typical_s[True], rates[True]),
        "speedup": figures(typical_s[False] / typical_s[True], ratios),
        "same_answers": all(each.answers == first.answers for each in done[False] + done[True]),
    }


def _typical_s(rounds: list[Round]) -> float:
    """The time of all prompts, each with the median of its rounds: what else the machine did in one of them doesn't count."""
    by_prompt = zip(*(each.decode_s for each in rounds), strict=True)
    return float(sum(statistics.median(times) for times in by_prompt))


def main() -> int:
    """Measure and print; returns 1 if an answer differs or guessing is slower."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="kiosk-assistant")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--max-tokens", type=int, default=160)
    arguments = parser.parse_args()
    model = load(LoadOptions(arguments.model, max_sequences=1), lambda _: None)
    failed = False
    for kind in ("quoting", "free", "misleading"):
        result = measure(model, kind, arguments.rounds, arguments.max_tokens)
        print(json.dumps({"benchmark": "speculation", "kind": kind, **vars(arguments), **result}), flush=True)
        failed |= not result["same_answers"] or result["speedup"]["median"] < 1 - MOST_SLOWER
    model.runner.close()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
