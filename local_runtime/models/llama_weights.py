"""The parameters of the llama family (Llama, Mistral, Qwen2) in the order of the compiled functions. Knows no TVM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .spec import WeightSpec

if TYPE_CHECKING:
    from .config import ModelConfig
    from .spec import WeightKind

__all__ = ["weight_specs"]


def weight_specs(config: ModelConfig) -> list[WeightSpec]:
    """List the model's parameters in order.

    Query, key and value projections are fused into one matrix (``qkv``), gate and up into another (``gate_up``): one
    large matrix product reads the activations once and splits better over threads than two or three small ones.

    Args:
        config: The model's configuration.

    Returns:
        ``embed``; per layer ``input_norm``, ``qkv``, ``qkv_bias``?, ``o``, ``o_bias``?, ``post_norm``, ``gate_up``,
        ``gate_up_bias``?, ``down``, ``down_bias``?; then ``final_norm``; and ``head`` unless the embeddings are tied.
    """
    hidden, intermediate = config.hidden_size, config.intermediate_size
    query_rows = config.num_heads * config.head_dim
    kv_rows = config.num_kv_heads * config.head_dim

    specs = [_matrix("embed", ("model.embed_tokens",), (config.vocab_size,), hidden, kind_is_embedding=True)]
    for i in range(config.num_layers):
        name, source = f"layers.{i}", f"model.layers.{i}"
        attention, mlp = f"{source}.self_attn", f"{source}.mlp"
        qkv = (f"{attention}.q_proj", f"{attention}.k_proj", f"{attention}.v_proj")
        qkv_rows = (query_rows, kv_rows, kv_rows)
        gate_up = (f"{mlp}.gate_proj", f"{mlp}.up_proj")

        specs.append(_vector(f"{name}.input_norm", (f"{source}.input_layernorm.weight",), (hidden,)))
        specs.append(_matrix(f"{name}.qkv", qkv, qkv_rows, hidden))
        if config.qkv_bias:
            specs.append(_bias(f"{name}.qkv_bias", qkv, qkv_rows))
        specs.append(_matrix(f"{name}.o", (f"{attention}.o_proj",), (hidden,), query_rows))
        if config.o_bias:
            specs.append(_bias(f"{name}.o_bias", (f"{attention}.o_proj",), (hidden,)))
        specs.append(_vector(f"{name}.post_norm", (f"{source}.post_attention_layernorm.weight",), (hidden,)))
        specs.append(_matrix(f"{name}.gate_up", gate_up, (intermediate, intermediate), hidden))
        if config.mlp_bias:
            specs.append(_bias(f"{name}.gate_up_bias", gate_up, (intermediate, intermediate)))
        specs.append(_matrix(f"{name}.down", (f"{mlp}.down_proj",), (hidden,), intermediate))
        if config.mlp_bias:
            specs.append(_bias(f"{name}.down_bias", (f"{mlp}.down_proj",), (hidden,)))
    specs.append(_vector("final_norm", ("model.norm.weight",), (hidden,)))
    if not config.tie_embeddings:
        specs.append(_matrix("head", ("lm_head",), (config.vocab_size,), hidden))
    return specs


def _matrix(
    name: str, modules: tuple[str, ...], rows: tuple[int, ...], columns: int, *, kind_is_embedding: bool = False
) -> WeightSpec:
    kind: WeightKind = "embedding" if kind_is_embedding else "linear"
    return WeightSpec(name, kind, tuple(f"{module}.weight" for module in modules), (sum(rows), columns), rows)


def _bias(name: str, modules: tuple[str, ...], rows: tuple[int, ...]) -> WeightSpec:
    return _vector(name, tuple(f"{module}.bias" for module in modules), rows)


def _vector(name: str, sources: tuple[str, ...], rows: tuple[int, ...]) -> WeightSpec:
    return WeightSpec(name, "vector", sources, (sum(rows),), rows)
