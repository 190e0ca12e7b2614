"""Times what comes before anybody is asked: label join with detectors and memory, and the decision; prints JSON.

The request has 2 kB of text in three messages; the policy is the preset ``kiosk`` with every detector that needs no extra;
an hour's answers are remembered. Times are in microseconds.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from typing import TYPE_CHECKING

from hybridllm.label_memory import LabelMemory
from hybridllm.labels import join_labels
from hybridllm.types import ChatRequest
from policies import DETECTORS, Detector, Facts, Place, decide, load_policy

if TYPE_CHECKING:
    from collections.abc import Callable

_PROSE = (
    "the museum opens at nine and closes at six on weekdays tickets cost seven euros and children under twelve are free "
    "please ask at the desk for a map of the garden the lift is beside the stairs dogs wait outside we sell coffee"
)
_WORDS = _PROSE.split()


def _text(characters: int, start: int) -> str:
    """So many characters of prose, with a number now and then, that no other start gives."""
    words: list[str] = []
    length, at = 0, start * 7
    while length < characters:
        word = str(at % 97) if at % 13 == 0 else _WORDS[(at * at + start) % len(_WORDS)]
        words.append(word)
        length += len(word) + 1
        at += 1
    return " ".join(words)[:characters]


def _timed(call: Callable[[], object], repeats: int) -> list[float]:
    samples_us = []
    for _ in range(repeats):
        began = time.perf_counter_ns()
        call()
        samples_us.append((time.perf_counter_ns() - began) / 1000)
    return samples_us


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=2000)
    repeats = parser.parse_args().repeats
    kiosk = load_policy("kiosk")
    policy = dataclasses.replace(kiosk, detectors=tuple(Detector(name) for name in DETECTORS if name != "presidio"))
    memory = LabelMemory()
    for number in range(100):
        memory.remember(
            f"answer {number} " + " ".join(f"w{number}x{word}" for word in range(60)), "private", policy.labels
        )
    request = ChatRequest.parse(
        [
            {"role": "system", "content": _text(700, 1)},
            {"role": "assistant", "content": _text(700, 2)},
            {"role": "user", "content": _text(648, 3)},
        ]
    )
    facts = Facts(
        label="public",
        declared_label="public",
        tags=frozenset(),
        detected=frozenset(),
        connectivity="online",
        memory_headroom_mib=4096.0,
        places=(Place("local", "device", 4096, frozenset()), Place("remote", "cloud", None, frozenset())),
    )

    def join() -> object:
        return join_labels(policy, request, privacy="public", tags=(), memory=memory)

    joined = join_labels(policy, request, privacy="public", tags=(), memory=memory)
    if joined.label != "public":
        raise SystemExit(f"Something raised the label, so not everything was looked at: {joined.sources}")
    whole = _timed(lambda: (join(), decide(policy, facts)), repeats)
    without = dataclasses.replace(policy, detectors=())
    parts = {
        "join_us": _timed(join, repeats),
        "join_without_detectors_us": _timed(
            lambda: join_labels(without, request, privacy="public", tags=(), memory=memory), repeats
        ),
        "join_without_memory_us": _timed(lambda: join_labels(policy, request, privacy="public", tags=()), repeats),
        "decision_us": _timed(lambda: decide(policy, facts), repeats),
    }
    cuts = statistics.quantiles(whole, n=100)
    print(
        json.dumps(
            {
                "benchmark": "request_overhead",
                "bytes": sum(len(text.encode()) for _, text in request.texts()),
                "detectors": len(policy.detectors),
                "remembered": len(memory),
                "median_us": round(statistics.median(whole), 1),
                "p05_us": round(cuts[4], 1),
                "p95_us": round(cuts[94], 1),
                "parts": {name: round(statistics.median(samples), 1) for name, samples in parts.items()},
            }
        )
    )


if __name__ == "__main__":
    main()
