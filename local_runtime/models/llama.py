"""The llama family: Llama, Mistral and Qwen2, which differ by flags of the configuration.

Pre-norm decoder blocks with rotary position embedding, grouped-query attention and a SwiGLU feed-forward (Touvron et al., 2023;
Ainslie et al., 2023). Read it from top to bottom: feed-forward, attention, block, model. Weights and their order are those of
:mod:`local_runtime.models.llama_weights`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from local_runtime.kernels.ops import CacheShape
from local_runtime.models.rope import inverse_frequencies
from local_runtime.tvm_compat import PagedKVCache, nn

if TYPE_CHECKING:
    from local_runtime.kernels.ops import Ops
    from local_runtime.models.config import ModelConfig

__all__ = ["LlamaForCausalLM"]


class LlamaBlock(nn.Module):  # type: ignore[misc]
    """One decoder block: ``h += attention(norm(h)); h += mlp(norm(h))``."""

    def __init__(self, config: ModelConfig, ops: Ops, index: int) -> None:
        super().__init__()
        self.config, self.ops, self.index = config, ops, index
        self.num_rows = config.num_heads + 2 * config.num_kv_heads
        attention_width = config.num_heads * config.head_dim

        self.input_norm = ops.vector(config.hidden_size)
        self.qkv = ops.matrix(self.num_rows * config.head_dim, config.hidden_size)
        self.qkv_bias = ops.vector(self.num_rows * config.head_dim) if config.qkv_bias else None
        self.o = ops.matrix(config.hidden_size, attention_width)
        self.o_bias = ops.vector(config.hidden_size) if config.o_bias else None
        self.post_norm = ops.vector(config.hidden_size)
        self.gate_up = ops.matrix(2 * config.intermediate_size, config.hidden_size)
        self.gate_up_bias = ops.vector(2 * config.intermediate_size) if config.mlp_bias else None
        self.down = ops.matrix(config.hidden_size, config.intermediate_size)
        self.down_bias = ops.vector(config.hidden_size) if config.mlp_bias else None

    def forward(self, h: nn.Tensor, cache: PagedKVCache) -> nn.Tensor:
        """Advance the residual stream ``h [n, hidden]`` by one block; appends n tokens to ``cache``."""
        ops, config = self.ops, self.config
        tokens = h.shape[0]
        x = ops.rms_norm(h, self.input_norm, config.norm_eps)
        qkv = ops.linear(x, self.qkv, self.qkv_bias).reshape(1, tokens, self.num_rows, config.head_dim)
        scale = ops.attention_scale(config, self.index)
        # Rotary embedding happens inside: the cache knows each token's position in its own sequence.
        attended = cache.attention_with_fused_qkv(self.index, qkv, config.num_heads, scale)
        h = ops.linear(attended.reshape(tokens, config.num_heads * config.head_dim), self.o, self.o_bias, residual=h)
        x = ops.rms_norm(h, self.post_norm, config.norm_eps)
        return ops.linear(
            ops.silu_mul(ops.linear(x, self.gate_up, self.gate_up_bias)), self.down, self.down_bias, residual=h
        )


class LlamaForCausalLM(nn.Module):  # type: ignore[misc]
    """The whole model with the functions that are compiled.

    Args:
        config: Shape and options.
        ops: The device's operators.
    """

    def __init__(self, config: ModelConfig, ops: Ops) -> None:
        super().__init__()
        self.config, self.ops = config, ops
        self.embed = ops.matrix(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList([LlamaBlock(config, ops, index) for index in range(config.num_layers)])
        self.final_norm = ops.vector(config.hidden_size)
        self.head = None if config.tie_embeddings else ops.matrix(config.vocab_size, config.hidden_size)

    def prefill(self, ids: nn.Tensor, positions: nn.Tensor, cache: PagedKVCache) -> nn.Tensor:
        """Read new tokens of one or more sequences.

        Args:
            ids: int32 ``[n]``, the sequences' new tokens behind one another.
            positions: int32 ``[b]``, the rows of ``ids`` after which logits are wanted.
            cache: The key-value cache, told beforehand which sequences they belong to.

        Returns:
            Logits, float32 ``[b, vocab]``.
        """
        return self._logits(self.ops.gather_rows(self._hidden(ids, cache), positions))

    def decode(self, ids: nn.Tensor, cache: PagedKVCache) -> nn.Tensor:
        """Read one token of each of ``b`` sequences: ``ids`` int32 ``[b]`` to logits float32 ``[b, vocab]``."""
        return self._logits(self._hidden(ids, cache))

    def create_cache(self, max_sequences: Any, max_tokens: Any, prefill_chunk_tokens: Any, page_tokens: Any) -> Any:
        """Create the paged key-value cache for so many sequences and tokens."""
        shape = CacheShape(max_sequences, max_tokens, prefill_chunk_tokens, page_tokens)
        return self.ops.paged_cache(shape, self.config, inverse_frequencies(self.config))

    def _hidden(self, ids: nn.Tensor, cache: PagedKVCache) -> nn.Tensor:
        h = self.ops.embedding(self.embed, ids)
        for layer in self.layers:
            h = layer(h, cache)
        return h

    def _logits(self, h: nn.Tensor) -> nn.Tensor:
        normed = self.ops.rms_norm(h, self.final_norm, self.config.norm_eps)
        return self.ops.logits(normed, self.embed if self.head is None else self.head)
