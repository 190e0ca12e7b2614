"""The configuration of a llama-family model, read from a checkpoint folder's ``config.json``.

Everything in that file that would change the model's results is either honoured or refused by name: a model that is
computed wrongly without a word is worse than one that is not computed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from local_runtime.errors import CheckpointError, UnsupportedModelError
from local_runtime.paths import kind_of, shown_path

__all__ = ["SUPPORTED_MODEL_TYPES", "ModelConfig", "RopeConfig"]

SUPPORTED_MODEL_TYPES = ("llama", "mistral", "qwen2")

_FOLDER_MEND = "Give the folder of a Hugging Face checkpoint: config.json, *.safetensors and tokenizer.json."
# What transformers assumes when the key is absent, where the family's members differ.
_DEFAULT_KV_HEADS = {"mistral": 8, "qwen2": 32}
_DEFAULT_CONTEXT_TOKENS = {"llama": 2048, "mistral": 131072, "qwen2": 32768}
_ROPE_PARAMETERS: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}


@dataclass(frozen=True)
class RopeConfig:
    """Rotary position embedding.

    Attributes:
        theta: Base of the geometric series of wavelengths.
        type: ``default``, ``linear`` or ``llama3``.
        parameters: What the type needs, by transformers' names: ``factor``; for llama3 also ``low_freq_factor``,
            ``high_freq_factor`` and ``original_max_position_embeddings``.
    """

    theta: float = 10000.0
    type: str = "default"
    parameters: dict[str, float] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class ModelConfig:
    """A llama-family model's shape and options.

    Attributes:
        model_type: ``llama``, ``mistral`` or ``qwen2``.
        hidden_size: Width of the residual stream.
        num_layers: Number of transformer blocks.
        num_heads: Query heads.
        num_kv_heads: Key and value heads; divides ``num_heads``.
        head_dim: Width of one head; even.
        intermediate_size: Width of the MLP.
        vocab_size: Rows of the embedding matrix, which may exceed the tokenizer's vocabulary (padding).
        context_tokens: Longest context: ``max_position_embeddings``.
        norm_eps: Epsilon of the RMS norm.
        rope: Rotary position embedding.
        tie_embeddings: The output head is the embedding matrix.
        qkv_bias: Query, key and value projections have a bias.
        o_bias: The attention's output projection has a bias.
        mlp_bias: The MLP's projections have a bias.
        sliding_window: How many of the last tokens, its own among them, a token sees in the layers that have a window; None where
            none has one, or the context is no longer than it.
        windowed_layers: The layers that have the window.
        hidden_act: Activation of the MLP; always ``silu``.
        bos_ids: Beginning-of-text token ids; may be empty.
        eos_ids: Token ids that end an answer, from config.json and generation_config.json; may be empty.
        dtype: Floating-point type that the checkpoint says it is stored in, for example ``bfloat16``; informative.
    """

    model_type: str
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    context_tokens: int
    norm_eps: float = 1e-6
    rope: RopeConfig = field(default_factory=RopeConfig)
    tie_embeddings: bool = False
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    sliding_window: int | None = None
    windowed_layers: tuple[int, ...] = ()
    hidden_act: str = "silu"
    bos_ids: tuple[int, ...] = ()
    eos_ids: tuple[int, ...] = ()
    dtype: str = "float32"

    @classmethod
    def from_folder(cls, path: str | Path) -> ModelConfig:
        """Read ``config.json`` and, where present, ``generation_config.json``.

        Args:
            path: A checkpoint folder.

        Returns:
            The validated configuration.

        Raises:
            CheckpointError: There is no such folder or file, it may not be read, it is not JSON, or a value is missing or
                impossible.
            UnsupportedModelError: The architecture, or an option that changes results, is not implemented.
        """
        folder = Path(path)
        kind = kind_of(folder)
        if kind is None:
            raise CheckpointError(f"There is no model folder {shown_path(folder)}.", _FOLDER_MEND)
        if kind != "folder":
            raise CheckpointError(f"{folder} is a file, not a model folder.", _FOLDER_MEND)
        file = folder / "config.json"
        if kind_of(file) != "file":
            raise CheckpointError(f"{folder} holds no config.json, so it is no checkpoint.", _FOLDER_MEND)
        raw = _read_object(file)
        generation_file = folder / "generation_config.json"
        generation = _read_object(generation_file) if kind_of(generation_file) == "file" else {}
        return cls.from_dict(raw, generation, where=str(file))

    @classmethod
    def from_dict(
        cls, raw: dict[str, Any], generation: dict[str, Any] | None = None, *, where: str = "config.json"
    ) -> ModelConfig:
        """Validate the parsed ``config.json`` (and ``generation_config.json``); ``where`` names it in errors.

        Raises:
            CheckpointError: A value is missing or impossible.
            UnsupportedModelError: The architecture, or an option that changes results, is not implemented.
        """
        reader = _Reader(raw, where)
        model_type = _model_type(raw, where)
        _refuse_unknown_options(raw, where)

        hidden_size = reader.positive("hidden_size")
        num_heads = reader.positive("num_attention_heads")
        head_dim = reader.positive("head_dim", default=_exact_quotient(hidden_size, num_heads, raw, where))
        kv_default = _DEFAULT_KV_HEADS.get(model_type, num_heads) if "num_key_value_heads" not in raw else num_heads
        num_kv_heads = reader.positive("num_key_value_heads", default=kv_default)
        if num_heads % num_kv_heads:
            raise CheckpointError(
                f"{where} has {num_heads} attention heads, which {num_kv_heads} key-value heads do not divide.",
                "Check num_attention_heads and num_key_value_heads.",
            )
        if head_dim % 2:
            raise CheckpointError(f"{where} has the odd head_dim {head_dim}, which rotary embedding cannot halve.")
        num_layers = reader.positive("num_hidden_layers")
        context_tokens = reader.positive("max_position_embeddings", default=_DEFAULT_CONTEXT_TOKENS[model_type])
        windowed_layers = _windowed_layers(model_type, reader, num_layers)
        window = reader.positive("sliding_window", default=4096) if windowed_layers else None
        if window is None or window >= context_tokens:
            window, windowed_layers = None, ()

        attention_bias = model_type == "llama" and reader.boolean("attention_bias")
        vocab_size = reader.positive("vocab_size")
        generation_reader = _Reader(generation or {}, where.replace("config.json", "generation_config.json"))
        return cls(
            model_type=model_type,
            hidden_size=hidden_size,
            num_layers=num_layers,
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            intermediate_size=reader.positive("intermediate_size"),
            vocab_size=vocab_size,
            context_tokens=context_tokens,
            norm_eps=reader.number("rms_norm_eps", default=1e-6),
            rope=_rope(reader, context_tokens),
            tie_embeddings=reader.boolean("tie_word_embeddings"),
            qkv_bias=model_type == "qwen2" or attention_bias,
            o_bias=attention_bias,
            mlp_bias=model_type == "llama" and reader.boolean("mlp_bias"),
            sliding_window=window,
            windowed_layers=windowed_layers,
            bos_ids=_merge(reader.token_ids("bos_token_id", vocab_size)),
            eos_ids=_merge(
                reader.token_ids("eos_token_id", vocab_size), generation_reader.token_ids("eos_token_id", vocab_size)
            ),
            dtype=str(raw.get("dtype") or raw.get("torch_dtype") or "float32"),
        )

    def is_windowed(self, layer: int) -> bool:
        """Whether a layer's attention has the sliding window."""
        return layer in self.windowed_layers

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain JSON values: the part of a compile-cache key that the model decides."""
        return asdict(self)


class _Reader:
    """Reads typed values of one JSON object and names the key and the file when one is not what it must be."""

    def __init__(self, raw: dict[str, Any], where: str) -> None:
        self.raw = raw
        self.where = where

    def positive(self, key: str, default: int | None = None) -> int:
        value = self.raw.get(key)
        if value is None:
            if default is None:
                raise CheckpointError(f"{self.where} has no {key}.", "Check that the file belongs to this checkpoint.")
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise CheckpointError(f"{key} in {self.where} must be a positive whole number, not {value!r}.")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self.raw.get(key)
        if value is None:
            if default is None:
                raise CheckpointError(f"{self.where} has no {key}.", "Check that the file belongs to this checkpoint.")
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise CheckpointError(f"{key} in {self.where} must be a positive number, not {value!r}.")
        return float(value)

    def boolean(self, key: str) -> bool:
        value = self.raw.get(key)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise CheckpointError(f"{key} in {self.where} must be true or false, not {value!r}.")
        return value

    def token_ids(self, key: str, vocab_size: int) -> tuple[int, ...]:
        value = self.raw.get(key)
        ids = [] if value is None else value if isinstance(value, list) else [value]
        for token_id in ids:
            if isinstance(token_id, bool) or not isinstance(token_id, int) or not -1 <= token_id < vocab_size:
                raise CheckpointError(
                    f"{key} in {self.where} is {token_id!r}, which is no token of a vocabulary of {vocab_size}."
                )
        return tuple(token_id for token_id in ids if token_id >= 0)  # some checkpoints write -1 for "none"


def _read_object(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(
            f"{file} cannot be read: {error.strerror or error}.", "Give this user the right to read the file."
        ) from error
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are both ValueErrors
        raise CheckpointError(f"{file} is not JSON: {error}.", "Copy or download the checkpoint again.") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{file} must hold a JSON object.", "Copy or download the checkpoint again.")
    return value


def _model_type(raw: dict[str, Any], where: str) -> str:
    model_type = raw.get("model_type")
    if model_type not in SUPPORTED_MODEL_TYPES:
        named = f"the architecture {model_type!r}" if model_type else "no model_type"
        raise UnsupportedModelError(
            f"{where} asks for {named}, which is not implemented.",
            f"Use a checkpoint whose model_type is one of {', '.join(SUPPORTED_MODEL_TYPES)}.",
        )
    return str(model_type)


def _refuse_unknown_options(raw: dict[str, Any], where: str) -> None:
    activation = raw.get("hidden_act", "silu")
    if activation not in ("silu", "swish"):
        raise UnsupportedModelError(f"{where} asks for hidden_act {activation!r}; only 'silu' is implemented.")
    if raw.get("quantization_config"):
        method = raw["quantization_config"]
        method = method.get("quant_method", "unknown") if isinstance(method, dict) else method
        raise UnsupportedModelError(
            f"{where} describes an already quantised checkpoint (quant_method {method!r}).",
            "Use the original float16, bfloat16 or float32 checkpoint; it is quantised here when it is loaded.",
        )
    for holder in (raw, raw.get("rope_parameters"), raw.get("rope_scaling")):
        fraction = holder.get("partial_rotary_factor") if isinstance(holder, dict) else None
        if fraction not in (None, 1, 1.0):
            raise UnsupportedModelError(
                f"{where} asks for partial_rotary_factor {fraction!r}; only 1.0 is implemented for this architecture."
            )


def _exact_quotient(hidden_size: int, num_heads: int, raw: dict[str, Any], where: str) -> int:
    if raw.get("head_dim") is None and hidden_size % num_heads:
        raise CheckpointError(
            f"{where} has hidden_size {hidden_size}, which {num_heads} attention heads do not divide, and no head_dim."
        )
    return hidden_size // num_heads


def _windowed_layers(model_type: str, reader: _Reader, num_layers: int) -> tuple[int, ...]:
    """The layers whose attention has a sliding window."""
    raw = reader.raw
    if model_type == "llama" or ("sliding_window" in raw and raw["sliding_window"] is None):
        return ()
    if model_type == "mistral":
        return tuple(range(num_layers))
    if not reader.boolean("use_sliding_window"):
        return ()
    layer_types = raw.get("layer_types")
    if isinstance(layer_types, list):
        known = [kind in ("full_attention", "sliding_attention") for kind in layer_types]
        if len(known) != num_layers or not all(known):
            raise UnsupportedModelError(
                f"layer_types in {reader.where} must name full_attention or sliding_attention for each of {num_layers} layers."
            )
        return tuple(layer for layer, kind in enumerate(layer_types) if kind == "sliding_attention")
    first_windowed = raw.get("max_window_layers", 28)  # older files; 28 is transformers' default
    if isinstance(first_windowed, bool) or not isinstance(first_windowed, int):
        raise CheckpointError(f"max_window_layers in {reader.where} must be a whole number, not {first_windowed!r}.")
    return tuple(range(max(0, first_windowed), num_layers))


def _rope(reader: _Reader, context_tokens: int) -> RopeConfig:
    """Read both spellings: ``rope_parameters`` (transformers 5) and ``rope_theta`` with ``rope_scaling`` (before)."""
    raw, where = reader.raw, reader.where
    section = "rope_parameters" if raw.get("rope_parameters") else "rope_scaling"
    parameters = raw.get(section) or {}
    if not isinstance(parameters, dict):
        raise CheckpointError(f"{section} in {where} must be an object, not {parameters!r}.")
    rope_type = parameters.get("rope_type", parameters.get("type", "default"))
    if rope_type not in _ROPE_PARAMETERS:
        raise UnsupportedModelError(
            f"{where} asks for the rope type {rope_type!r}, which is not implemented.",
            f"Use a checkpoint with one of {', '.join(_ROPE_PARAMETERS)}.",
        )
    inner = _Reader(parameters, f"{section} of {where}")
    theta = inner.number("rope_theta", default=reader.number("rope_theta", default=10000.0))
    values = {}
    for key in _ROPE_PARAMETERS[rope_type]:
        fallback = float(context_tokens) if key == "original_max_position_embeddings" else None
        values[key] = inner.number(key, default=fallback)
    if rope_type == "llama3" and values["high_freq_factor"] <= values["low_freq_factor"]:
        raise CheckpointError(f"{section} of {where} must have high_freq_factor above low_freq_factor.")
    return RopeConfig(theta, str(rope_type), values)


def _merge(*groups: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(token_id for group in groups for token_id in group))
