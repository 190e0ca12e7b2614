"""Writes a Hugging Face checkpoint folder (float16 safetensors, tokenizer, chat template)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import save_file

from training.chat_format import BOS, CHAT_TEMPLATE, END, PAD, SPECIAL_TOKENS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tokenizers import Tokenizer

    from training.architecture import Architecture


def export_checkpoint(
    folder: Path, architecture: Architecture, tensors: Mapping[str, np.ndarray], tokenizer: Tokenizer
) -> None:
    """Writes the folder that the runtime and `transformers` both read.

    Args:
        folder: created if need be; its files are replaced.
        architecture: the network's sizes.
        tensors: Hugging Face names to arrays [out, in] (or [hidden] for norms) of any float dtype.
        tokenizer: the trained tokenizer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    half = {name: np.ascontiguousarray(array, dtype=np.float16) for name, array in sorted(tensors.items())}
    for name, array in half.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name} does not fit in float16")
    save_file(half, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # the writer makes it private; a package's files are readable by all
    tokenizer.save(str(folder / "tokenizer.json"))
    ids = {token: index for index, token in enumerate(SPECIAL_TOKENS)}
    _write_json(folder / "config.json", architecture.hf_config())
    _write_json(
        folder / "generation_config.json",
        {"bos_token_id": ids[BOS], "eos_token_id": ids[END], "pad_token_id": ids[PAD], "do_sample": False},
    )
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BOS,
            "eos_token": END,
            "pad_token": PAD,
            "add_bos_token": False,
            "add_eos_token": False,
            "clean_up_tokenization_spaces": False,
            "model_max_length": architecture.context_tokens,
            "added_tokens_decoder": {
                str(index): {
                    "content": token,
                    "lstrip": False,
                    "normalized": False,
                    "rstrip": False,
                    "single_word": False,
                    "special": True,
                }
                for token, index in ids.items()
            },
            "chat_template": CHAT_TEMPLATE,
        },
    )


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
