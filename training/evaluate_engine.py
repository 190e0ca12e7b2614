"""Measures a model as people get it, compiled and run by the engine, on held-out dialogues. Needs no PyTorch.

Examples: `python -m training.evaluate_engine`, `python -m training.evaluate_engine --slips --quant q4 --json accuracy.json`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from local_runtime.client import LocalEngine
from local_runtime.options import GenerateRequest, LoadOptions, SamplingOptions
from training.criterion import is_right
from training.dialogues import FACT_CATEGORIES, draw_dialogue

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SAID_BY_THE_SHEET = (*FACT_CATEGORIES, "follow-up", "hours", "open at", "policy", "list")
NOT_IN_THE_SHEET = ("unknown",)
MAX_NEW_TOKENS = 160


def share_interval(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share by Wilson's formula (E. B. Wilson, 1927), as two shares."""
    z = 1.96
    middle = (right + z * z / 2) / (count + z * z)
    half = z / (count + z * z) * (right * (count - right) / count + z * z / 4) ** 0.5
    return middle - half, middle + half


def summary(marks: Mapping[str, Sequence[bool]], name: str, categories: Sequence[str]) -> str:
    """One line about several categories together."""
    found = [mark for category in categories for mark in marks.get(category, ())]
    if not found:
        return f"{name}: not asked"
    low, high = share_interval(sum(found), len(found))
    return f"{name}: {sum(found)} of {len(found)}, {100 * sum(found) / len(found):.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def main() -> None:
    """The command line: `python -m training.evaluate_engine`."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate_engine", description=__doc__)
    parser.add_argument("model", nargs="?", default="kiosk-assistant", help="checkpoint folder or bundled model")
    parser.add_argument("--quant", choices=("auto", "q4", "f16", "f32"), default="auto")
    parser.add_argument("--dialogues", type=int, default=300)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--slips", action="store_true", help="questions as typed: with slips, openers and fillers")
    parser.add_argument("--json", type=Path, help="write every answer with its mark to this file")
    arguments = parser.parse_args()

    marks: dict[str, list[bool]] = defaultdict(list)
    answers: list[dict[str, object]] = []
    sampling = SamplingOptions(temperature=0.0)
    last = arguments.first_seed + arguments.dialogues
    with LocalEngine(LoadOptions(model=arguments.model, quant=arguments.quant)) as engine:
        for seed in range(arguments.first_seed, last):
            dialogue = draw_dialogue(seed, "held", slips=arguments.slips)
            messages = [dict(message) for message in dialogue.messages()]
            offset = 0 if dialogue.system is None else 1
            for index, exchange in enumerate(dialogue.exchanges):
                request = GenerateRequest(
                    messages=messages[: offset + 2 * index + 1], max_tokens=MAX_NEW_TOKENS, sampling=sampling
                )
                said = "".join(getattr(event, "text", "") for event in engine.generate(request))
                right = is_right(dialogue, exchange, said)
                marks[exchange.category].append(right)
                answers.append(
                    {
                        "seed": seed, "category": exchange.category, "right": right, "question": exchange.question,
                        "answer": said, "reference": exchange.answer,
                    }
                )  # fmt: skip
            if sys.stderr.isatty():
                print(f"\r{seed + 1 - arguments.first_seed} of {arguments.dialogues}", end="", file=sys.stderr)
    print("| category | questions | right |\n|---|---:|---:|")
    for category in sorted(marks):
        found = marks[category]
        print(f"| {category} | {len(found)} | {100 * sum(found) / len(found):.1f} % |")
    print(summary(marks, "said by the sheet", SAID_BY_THE_SHEET))
    print(summary(marks, "not in the sheet", NOT_IN_THE_SHEET))
    if arguments.json:
        arguments.json.write_text(json.dumps(answers, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
