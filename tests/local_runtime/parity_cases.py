"""The models whose numbers must agree with ``transformers``, and the stored reference they are compared with.

``tools/make_parity_reference.py`` writes the reference; both sides make the checkpoint from the same configuration and
seed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.local_runtime.checkpoints import checkpoint_tensors, llama_config, mistral_config, qwen2_config

__all__ = [
    "DECODE_COLUMN_STRIDE",
    "DECODE_STEPS",
    "FIXTURE",
    "GREEDY_TOKENS",
    "PARITY_CASES",
    "PROMPT_TOKENS",
    "ParityCase",
    "ParityReference",
    "load_references",
]

FIXTURE = Path(__file__).parent / "fixtures" / "parity.npz"
PROMPT_TOKENS = 40
WINDOW_TOKENS = 23
DECODE_STEPS = 64
GREEDY_TOKENS = 128
# The decode logits are stored for every third token of the vocabulary: each one depends on the whole hidden state, and
# the prefill's logits, stored in full, cover every row of the head.
DECODE_COLUMN_STRIDE = 3


@dataclass(frozen=True)
class ParityCase:
    """One model of the comparison."""

    name: str
    config: dict[str, Any]
    seed: int

    def prompt_ids(self) -> list[int]:
        """The tokens that are prefilled: `PROMPT_TOKENS` of them."""
        return self._random_ids(self.seed + 1000, PROMPT_TOKENS)

    def forced_ids(self) -> list[int]:
        """The tokens that are fed one by one after the prompt, whatever the model would have chosen."""
        return self._random_ids(self.seed + 2000, DECODE_STEPS)

    def weights_sha256(self) -> str:
        """Hash of the generated weights: says whether a reference was made from the same ones."""
        digest = hashlib.sha256()
        for name, values in sorted(checkpoint_tensors(self.config, self.seed).items()):
            digest.update(name.encode())
            digest.update(values.tobytes())
        return digest.hexdigest()

    def _random_ids(self, seed: int, count: int) -> list[int]:
        random = np.random.RandomState(seed)
        return [int(token_id) for token_id in random.randint(0, self.config["vocab_size"], size=count)]


PARITY_CASES = (
    ParityCase("llama-gqa", llama_config(), seed=11),
    ParityCase("llama-mha-tied", llama_config(num_key_value_heads=4, tie_word_embeddings=True), seed=12),
    ParityCase(
        "llama-llama3-rope-bias",
        llama_config(
            hidden_size=128,
            num_attention_heads=8,
            attention_bias=True,
            mlp_bias=True,
            rope_parameters={
                "rope_type": "llama3",
                "rope_theta": 500000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            },
        ),
        seed=23,
    ),
    ParityCase(
        "llama-linear-rope",
        llama_config(
            num_hidden_layers=3,
            rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0},
        ),
        seed=24,
    ),
    ParityCase("mistral-wide-heads", mistral_config(num_key_value_heads=1, head_dim=32), seed=25),
    ParityCase("qwen2-gqa-tied", qwen2_config(), seed=16),
    ParityCase(
        "qwen2-mha-untied",
        qwen2_config(
            hidden_size=128,
            intermediate_size=256,
            num_key_value_heads=4,
            tie_word_embeddings=False,
            rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
        ),
        seed=17,
    ),
    ParityCase("mistral-window", mistral_config(sliding_window=WINDOW_TOKENS), seed=26),
    ParityCase(
        "qwen2-some-layers-windowed",
        qwen2_config(
            num_hidden_layers=3,
            sliding_window=WINDOW_TOKENS,
            use_sliding_window=True,
            layer_types=["full_attention", "sliding_attention", "sliding_attention"],
        ),
        seed=27,
    ),
)


@dataclass(frozen=True)
class ParityReference:
    """What ``transformers`` computed for one case in float32.

    Attributes:
        weights_sha256: `ParityCase.weights_sha256` of the weights that were used.
        prefill_logits: float32 ``[vocab]`` after the last prompt token.
        decode_logits: float32 ``[DECODE_STEPS, ceil(vocab / DECODE_COLUMN_STRIDE)]``: row i after feeding forced token
            i, for the vocabulary's columns ``0, DECODE_COLUMN_STRIDE, …``.
        greedy_ids: The `GREEDY_TOKENS` tokens that argmax chooses after the prompt; end-of-text ids do not end it.
        inverse_frequencies: float32 ``[head_dim / 2]``: the rotary embedding's.
    """

    weights_sha256: str
    prefill_logits: np.ndarray
    decode_logits: np.ndarray
    greedy_ids: list[int]
    inverse_frequencies: np.ndarray


def load_references(path: Path = FIXTURE) -> dict[str, ParityReference]:
    """Read a reference file, by case name."""
    with np.load(path, allow_pickle=False) as arrays:
        hashes = json.loads(str(arrays["about"]))["weights_sha256"]
        return {
            name: ParityReference(
                weights_sha256=sha256,
                prefill_logits=arrays[f"{name}/prefill_logits"],
                decode_logits=arrays[f"{name}/decode_logits"],
                greedy_ids=[int(token_id) for token_id in arrays[f"{name}/greedy_ids"]],
                inverse_frequencies=arrays[f"{name}/inverse_frequencies"],
            )
            for name, sha256 in hashes.items()
        }
