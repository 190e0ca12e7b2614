"""Makes the bundled model from nothing: tokenizer, data, training, export, evaluation."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path

from safetensors.numpy import load_file
from tokenizers import Tokenizer

from training.architecture import BUNDLED, TINY
from training.data import training_texts
from training.dialogues import MIXES
from training.export import export_checkpoint
from training.train_tokenizer import train_tokenizer
from training.unseen import read_as_separators, unseen_tokens

BUNDLED_FOLDER = Path(__file__).resolve().parent.parent / "local_runtime" / "bundled" / "kiosk-assistant"
TOKENIZER_DIALOGUES = 20_000
EMBEDDINGS = "model.embed_tokens.weight"


def main() -> None:
    """The command line: `python -m training.train_model`."""
    parser = argparse.ArgumentParser(prog="python -m training.train_model", description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("training/out"), help="working folder: tokenizer, log, checkpoint, model"
    )
    parser.add_argument("--steps", type=int, help="training steps (default: those of the bundled model)")
    parser.add_argument(
        "--limit-s", type=float, default=float("inf"), help="pause after this many seconds; --resume goes on"
    )
    parser.add_argument("--pause-at", type=int, help="pause after this step; --resume goes on")
    parser.add_argument("--batch-rows", type=int, help="rows of 2048 tokens in a step, over all GPUs")
    parser.add_argument(
        "--workers", type=int, help="processes that generate dialogues, for each GPU (default: all processors but two)"
    )
    parser.add_argument("--tokenizer", type=Path, help="use this tokenizer.json instead of training one")
    parser.add_argument("--seed", type=int, help="seed of the dialogues and of the first weights")
    parser.add_argument("--rate", type=float, default=1.0, help="factor on the learning rates")
    parser.add_argument("--cooldown", type=float, help="share of the run over which the learning rate falls to zero")
    parser.add_argument(
        "--start-from", type=Path, help="checkpoint folder whose weights and tokenizer a further stage begins with"
    )
    parser.add_argument("--mix", choices=tuple(MIXES), default="practice", help="which questions come up how often")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.add_argument(
        "--dialogues", type=int, default=1500, help="held-out dialogues to evaluate on; 0 leaves that out"
    )
    parser.add_argument("--install", action="store_true", help="copy the result over the bundled model")
    parser.add_argument(
        "--smoke", action="store_true", help="a tiny network and a few steps, to see that everything runs"
    )
    arguments = parser.parse_args()

    from training.evaluate import evaluate, table  # torch is needed only from here on
    from training.peers import Peers
    from training.train import Recipe, train

    peers = Peers()

    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    workers = arguments.workers or max(1, ((os.cpu_count() or 2) - 2) // peers.count)
    architecture, recipe = BUNDLED, Recipe(limit_s=arguments.limit_s, workers=workers, mix=arguments.mix)
    dialogues, tokenizer_dialogues = arguments.dialogues, TOKENIZER_DIALOGUES
    if arguments.smoke:
        architecture = replace(TINY, vocab_size=1024)
        recipe = replace(recipe, steps=4, batch_rows=2, row_tokens=1024, warmup_steps=2, workers=0)
        dialogues, tokenizer_dialogues = min(4, dialogues), 300
    if arguments.steps:
        recipe = replace(recipe, steps=arguments.steps)
    if arguments.batch_rows:
        recipe = replace(recipe, batch_rows=arguments.batch_rows)

    recipe = replace(recipe, pause_at=arguments.pause_at)
    if arguments.seed is not None:
        recipe = replace(recipe, seed=arguments.seed)
    if arguments.cooldown:
        recipe = replace(recipe, cooldown=arguments.cooldown)
    recipe = replace(recipe, muon_lr=recipe.muon_lr * arguments.rate, adam_lr=recipe.adam_lr * arguments.rate)

    start = None
    if arguments.start_from:
        start = load_file(arguments.start_from / "model.safetensors")
        recipe = replace(recipe, prompt_share=0.0, q4_from=0.0, late_prompt_weight=0.0)
    tokenizer_path = out / "tokenizer.json"
    if peers.rank == 0 and not arguments.resume:
        given = arguments.start_from / "tokenizer.json" if arguments.start_from else arguments.tokenizer
        if given:
            tokenizer = Tokenizer.from_file(str(given))
        else:
            print(f"tokenizer: training on {tokenizer_dialogues} dialogues")
            tokenizer = train_tokenizer(training_texts(tokenizer_dialogues), architecture.vocab_size)
        tokenizer.save(str(tokenizer_path))
    peers.wait()
    tokenizer = Tokenizer.from_file(str(tokenizer_path))

    network = train(architecture, tokenizer_path, recipe, out, peers, resume=arguments.resume, start=start)
    peers.close()
    if peers.rank > 0:
        return
    model_folder = out / "model"
    tensors = network.hf_tensors()
    unseen = unseen_tokens(tokenizer, tokenizer_dialogues, recipe.mix)
    tensors[EMBEDDINGS] = read_as_separators(tensors[EMBEDDINGS], tokenizer, unseen)
    export_checkpoint(model_folder, architecture, tensors, tokenizer)
    print(f"exported to {model_folder}")
    if dialogues:
        results = evaluate(model_folder, count=dialogues)
        (out / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        print(table(results))
    if arguments.install:
        export_checkpoint(BUNDLED_FOLDER, architecture, tensors, tokenizer)
        print(f"installed to {BUNDLED_FOLDER}; update its MODEL_CARD.md with the table above")


if __name__ == "__main__":
    main()
