"""Measures a checkpoint folder on generated dialogues whose names, values and wordings never occur in training."""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from training.architecture import Architecture
from training.chat_format import END, SPECIAL_TOKENS, encode_prompt
from training.criterion import is_right
from training.dialogues import draw_dialogue
from training.network import Network

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.dialogues import Dialogue
    from training.exchange import Exchange
    from training.phrasings import Split

END_ID = SPECIAL_TOKENS.index(END)
MAX_NEW_TOKENS = 160


def load_network(folder: Path) -> tuple[Network, Tokenizer]:
    """Reads a checkpoint folder that `export_checkpoint` wrote."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    architecture = Architecture(
        vocab_size=config["vocab_size"],
        hidden_size=config["hidden_size"],
        num_layers=config["num_hidden_layers"],
        num_heads=config["num_attention_heads"],
        num_kv_heads=config["num_key_value_heads"],
        head_dim=config["head_dim"],
        intermediate_size=config["intermediate_size"],
        context_tokens=config["max_position_embeddings"],
        rope_theta=config["rope_theta"],
        norm_eps=config["rms_norm_eps"],
    )
    network = Network(architecture)
    network.load_hf_tensors(load_file(folder / "model.safetensors"))
    return network.eval(), Tokenizer.from_file(str(folder / "tokenizer.json"))


def measure(
    network: Network, tokenizer: Tokenizer, dialogues: Sequence[Dialogue], *, batch: int, dtype: torch.dtype
) -> tuple[dict[str, dict[str, float]], list[dict[str, object]]]:
    """Answers every user turn (the turns before it as in the reference) and judges the answers.

    Returns:
        By category: `right` (share), `count`; and the wrong answers with question, reference and sheet.
    """
    cases: list[tuple[Dialogue, Exchange, list[int]]] = []
    for dialogue in dialogues:
        messages = dialogue.messages()
        offset = 0 if dialogue.system is None else 1
        for index, exchange in enumerate(dialogue.exchanges):
            prompt = encode_prompt(tokenizer, messages[: offset + 2 * index + 1])
            if len(prompt) + MAX_NEW_TOKENS <= network.a.context_tokens:
                cases.append((dialogue, exchange, prompt))
    cases.sort(key=lambda case: len(case[2]))
    marks: dict[str, list[bool]] = defaultdict(list)
    wrong: list[dict[str, object]] = []
    for start in range(0, len(cases), batch):
        part = cases[start : start + batch]
        answers = network.generate([case[2] for case in part], MAX_NEW_TOKENS, END_ID, dtype)
        for (dialogue, exchange, _), ids in zip(part, answers, strict=True):
            answer = tokenizer.decode(ids)
            right = is_right(dialogue, exchange, answer)
            marks[exchange.category].append(right)
            if not right:
                wrong.append(
                    {
                        "category": exchange.category, "question": exchange.question, "answer": answer,
                        "reference": exchange.answer, "system": dialogue.system,
                    }
                )  # fmt: skip
    return {
        name: {"right": sum(found) / len(found), "count": len(found)} for name, found in sorted(marks.items())
    }, wrong


def evaluate(
    folder: Path, *, count: int, split: Split = "held", first_seed: int = 0, batch: int = 256, slips: bool = True
) -> dict[str, dict[str, dict[str, float]]]:
    """Accuracy by category as exported ("f16") and after q4 rounding ("q4"); wrong answers go to `folder`/wrong-*.jsonl."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dialogues = [draw_dialogue(seed, split, slips=slips) for seed in range(first_seed, first_seed + count)]
    results = {}
    for name in ("f16", "q4"):
        network, tokenizer = load_network(folder)
        if name == "q4":
            network.round_to_q4()
        network = network.to(device)
        dtype = torch.float32
        results[name], wrong = measure(network, tokenizer, dialogues, batch=batch, dtype=dtype)
        lines = [json.dumps(entry, ensure_ascii=False) for entry in wrong]
        folder.parent.joinpath(f"wrong-{split}-{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return results


def table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """The results as a Markdown table."""
    lines = ["| category | questions | " + " | ".join(results) + " |", "|---|---:|" + "---:|" * len(results)]
    for category, first in next(iter(results.values())).items():
        cells = [f"{100 * result[category]['right']:.1f} %" for result in results.values()]
        lines.append(f"| {category} | {first['count']:.0f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """The command line: `python -m training.evaluate FOLDER`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="checkpoint folder")
    parser.add_argument("--dialogues", type=int, default=1000)
    parser.add_argument("--split", choices=("held", "train"), default="held")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument(
        "--no-slips", action="store_true", help="questions as written, without typing slips, openers and fillers"
    )
    arguments = parser.parse_args()
    results = evaluate(
        arguments.folder,
        count=arguments.dialogues,
        split=arguments.split,
        batch=arguments.batch,
        slips=not arguments.no_slips,
    )
    print(table(results))


if __name__ == "__main__":
    main()
