"""Small random-initialised checkpoint folders for tests, in the form that ``transformers`` writes and reads.

The weights come from numpy's legacy generator, whose stream is frozen for good, so that a seed means the same weights
in every environment: a stored reference stays valid.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from local_runtime.models.config import ModelConfig
from local_runtime.models.llama_weights import weight_specs

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "CHATML_TEMPLATE",
    "SPECIAL_TOKENS",
    "byte_level_tokenizer",
    "checkpoint_tensors",
    "llama_config",
    "metaspace_tokenizer",
    "mistral_config",
    "qwen2_config",
    "write_checkpoint",
]

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

CHATML_TEMPLATE = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

_CORPUS = (
    "The museum opens at nine in the morning and closes at six in the evening, except on Mondays.",
    "Where is the cloakroom? It is on the ground floor, to the left of the ticket desk.",
    "A ticket costs twelve euros; children under six enter for free. Call 020 7946 0123 for groups.",
    "Das Café im ersten Stock öffnet um zehn Uhr. Größere Gruppen bitten wir um Anmeldung.",
    "博物馆早上九点开门，晚上六点关门。门票十二欧元。",
    "def main(argv):\n    return [int(x) for x in argv if x.isdigit()]\n",
)

_COMMON: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 320,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    "bos_token_id": 0,
    "eos_token_id": 2,
}


def llama_config(**overrides: Any) -> dict[str, Any]:
    """A ``config.json`` of a two-layer Llama; ``overrides`` replace or add keys."""
    return {"model_type": "llama", "architectures": ["LlamaForCausalLM"], **_COMMON, **overrides}


def mistral_config(**overrides: Any) -> dict[str, Any]:
    """A ``config.json`` of a two-layer Mistral without a sliding window."""
    return {
        "model_type": "mistral",
        "architectures": ["MistralForCausalLM"],
        **_COMMON,
        "sliding_window": None,
        **overrides,
    }


def qwen2_config(**overrides: Any) -> dict[str, Any]:
    """A ``config.json`` of a two-layer Qwen2 with tied embeddings (its projections always have a bias)."""
    return {
        "model_type": "qwen2",
        "architectures": ["Qwen2ForCausalLM"],
        **_COMMON,
        "tie_word_embeddings": True,
        "rms_norm_eps": 1e-6,
        "use_sliding_window": False,
        **overrides,
    }


def checkpoint_tensors(config: Mapping[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    """Random float32 tensors by their Hugging Face names.

    Scales are chosen so that attention is neither flat nor saturated and logits have a spread of a few units: a mistake
    anywhere then shows in the logits, and the best token has a clear lead.
    """
    random = np.random.RandomState(seed)
    parsed = ModelConfig.from_dict(dict(config))
    tensors: dict[str, np.ndarray] = {}
    for spec in weight_specs(parsed):
        for index, source in enumerate(spec.sources):
            shape = spec.source_shape(index)
            values = random.standard_normal(shape)
            if spec.name.endswith("norm"):
                values = 1.0 + 0.1 * values
            elif spec.kind == "vector":
                values *= 0.1
            elif spec.kind == "embedding":
                values *= 3.0 / np.sqrt(parsed.hidden_size)
            else:
                values *= 1.5 / np.sqrt(shape[1])
            tensors[source] = values.astype(np.float32)
    return tensors


def write_checkpoint(
    folder: str | Path,
    config: Mapping[str, Any],
    *,
    seed: int = 0,
    shards: int = 1,
    dtype: str = "float32",
    tokenizer: Tokenizer | None = None,
    chat_template: str | None = CHATML_TEMPLATE,
    max_tokenizer_vocab: int | None = None,
) -> Path:
    """Write a complete random-initialised checkpoint.

    Args:
        folder: Where to write; made if it is not there.
        config: The content of ``config.json``; see `llama_config`, `mistral_config`, `qwen2_config`.
        seed: Decides the weights.
        shards: Number of ``.safetensors`` files; more than one comes with an index.
        dtype: ``float32``, ``float16`` or ``bfloat16``: how the weights are stored, rounded from the same values.
        tokenizer: By default a byte-level BPE of at most ``vocab_size`` tokens.
        chat_template: Jinja source, or None for a tokenizer without a template.
        max_tokenizer_vocab: Caps the default tokenizer's vocabulary.

    Returns:
        The folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**config, "dtype": dtype}, indent=2), encoding="utf-8")
    _write_weights(folder, _stored(checkpoint_tensors(config, seed), dtype), shards)

    vocab_size = int(config["vocab_size"])
    tokenizer = tokenizer or byte_level_tokenizer(min(vocab_size, max_tokenizer_vocab or vocab_size))
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer_config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIAL_TOKENS[0],
        "eos_token": SPECIAL_TOKENS[2],
        "clean_up_tokenization_spaces": False,
    }
    if chat_template is not None:
        tokenizer_config["chat_template"] = chat_template
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config, indent=2), encoding="utf-8")
    return folder


def byte_level_tokenizer(vocab_size: int = 320) -> Tokenizer:
    """A byte-level BPE whose first three tokens are `SPECIAL_TOKENS`, with at most ``vocab_size`` tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    return tokenizer


def metaspace_tokenizer(vocab_size: int = 420) -> Tokenizer:
    """A BPE of the kind that SentencePiece checkpoints (Llama 2, Mistral) are converted to.

    Spaces are written as U+2581, a space is put before the text, characters outside the vocabulary fall back to one
    token per UTF-8 byte, and decoding strips the first space again.
    """
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(vocab_size=vocab_size - 256 - 3, show_progress=False)
    learner.train_from_iterator([text for text in _CORPUS if text.isascii()], trainer)
    learned = json.loads(learner.to_str())["model"]

    pieces = [*SPECIAL_TOKENS, *byte_tokens, *sorted(learned["vocab"], key=learned["vocab"].__getitem__)]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={piece: index for index, piece in enumerate(pieces)},
            merges=[tuple(pair) for pair in learned["merges"]],
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    tokenizer.normalizer = learner.normalizer
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS])
    return tokenizer


def _stored(tensors: dict[str, np.ndarray], dtype: str) -> dict[str, tuple[str, np.ndarray]]:
    """Safetensors' name of the type and the array of its bits, per tensor."""
    if dtype == "bfloat16":
        return {name: ("BF16", _round_to_bfloat16(values)) for name, values in tensors.items()}
    numpy_dtype, code = {"float32": (np.float32, "F32"), "float16": (np.float16, "F16")}[dtype]
    return {name: (code, values.astype(numpy_dtype)) for name, values in tensors.items()}


def _round_to_bfloat16(values: np.ndarray) -> np.ndarray:
    bits = values.view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16)


def _write_weights(folder: Path, tensors: dict[str, tuple[str, np.ndarray]], shards: int) -> None:
    names = list(tensors)
    if shards == 1:
        _write_safetensors(folder / "model.safetensors", tensors)
        return
    weight_map: dict[str, str] = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: tensors[name] for name in names[shard::shards]}
        _write_safetensors(folder / file, part)
        weight_map.update(dict.fromkeys(part, file))
    total = sum(values.nbytes for _, values in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")


def _write_safetensors(file: Path, tensors: dict[str, tuple[str, np.ndarray]]) -> None:
    if all(code != "BF16" for code, _ in tensors.values()):
        save_file({name: values for name, (_, values) in tensors.items()}, str(file), metadata={"format": "pt"})
        return
    # numpy has no bfloat16, so the library's numpy writer cannot name it; the format itself is a length, a JSON header
    # and the bytes.
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, (code, values) in tensors.items():
        header[name] = {"dtype": code, "shape": list(values.shape), "data_offsets": [offset, offset + values.nbytes]}
        offset += values.nbytes
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with file.open("wb") as stream:
        stream.write(len(encoded).to_bytes(8, "little"))
        stream.write(encoded)
        for _, values in tensors.values():
            stream.write(values.tobytes())
