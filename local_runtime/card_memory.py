"""What a model takes of a CUDA card's memory, allocation by allocation.

A card's memory is taken when a program asks for it, not when it is written to, and in whole blocks; so each tensor that the runtime
allocates is listed here with its own size. The process's context comes on top (:mod:`local_runtime.card_context`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from local_runtime.kernels.limits import MAX_SEQUENCES, PAGE_TOKENS
from local_runtime.memory_plan import CHUNK_TOKENS, MemoryNeeds, kept_logits_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from local_runtime.models.config import ModelConfig

__all__ = ["CardNeeds", "allocated_bytes", "card_needs", "tensors_bytes"]

_MIB = 1 << 20

_BLOCK_BYTES = 2 * _MIB
"""The driver takes a card's memory in blocks of this size (``cuMemGetAllocationGranularity``); seen on an H100."""

_LARGEST_SHARING_BYTES = 1 * _MIB
"""Allocations up to this size share blocks, larger ones have blocks of their own; seen on an H100."""

_SHARING_STEP_BYTES = 512
"""The distance of neighbours in a shared block."""

_CODE_BYTES = _BLOCK_BYTES
"""The kernels' machine code and the streams."""

_INDEX_BYTES = 128 * _MIB
"""TVM's buffer for the numbers of pages, fixed (``CachedPagedKVCacheAuxDataManager``, 32 Mi integers)."""


def allocated_bytes(size_bytes: int) -> int:
    """What the card is short of after an allocation of so many bytes."""
    step_bytes = _SHARING_STEP_BYTES if size_bytes <= _LARGEST_SHARING_BYTES else _BLOCK_BYTES
    return -(-size_bytes // step_bytes) * step_bytes


def tensors_bytes(sizes_bytes: Iterable[int]) -> int:
    """What tensors of these sizes take, each allocated by itself, as weights are."""
    return sum(allocated_bytes(size) for size in sizes_bytes)


@dataclass(frozen=True)
class CardNeeds(MemoryNeeds):
    """What a model takes of a card's memory, in bytes.

    Attributes:
        num_layers: Each layer's keys and values are an allocation of their own.
    """

    num_layers: int = 1

    def cache_bytes(self, tokens: int) -> int:
        """The key-value cache for so many tokens; TVM adds a page of its own."""
        pages = -(-tokens // PAGE_TOKENS) + 1
        return self.num_layers * allocated_bytes(pages * self._layer_page_bytes)

    def cache_tokens(self, available_bytes: int) -> int:
        """The most tokens whose cache fits into so many bytes, in whole pages; 0 if none does."""
        layer_bytes = max(0, available_bytes) // self.num_layers
        step_bytes = _SHARING_STEP_BYTES if layer_bytes < _BLOCK_BYTES else _BLOCK_BYTES
        layer_bytes = layer_bytes // step_bytes * step_bytes
        if layer_bytes < _BLOCK_BYTES:
            layer_bytes = min(layer_bytes, _LARGEST_SHARING_BYTES)
        return max(0, (layer_bytes // self._layer_page_bytes - 1) * PAGE_TOKENS)

    @property
    def _layer_page_bytes(self) -> int:
        return PAGE_TOKENS * self.token_bytes // self.num_layers


def card_needs(
    config: ModelConfig,
    *,
    quant: str,
    weights_bytes: int,
    context_tokens: int,
    max_sequences: int,
    context_bytes: int,
) -> CardNeeds:
    """What a model takes of a card's memory.

    Args:
        config: The model's shape.
        quant: The weight format.
        weights_bytes: What the weights' tensors take there, by :func:`tensors_bytes`.
        context_tokens: The context to serve; a chunk of a prompt is no longer than that.
        max_sequences: Sequences that are decoded at a time.
        context_bytes: What the process's context takes that is not there yet.
    """
    element_bytes = 4 if quant == "f32" else 2
    chunk_tokens = max(min(CHUNK_TOKENS, -(-context_tokens // PAGE_TOKENS) * PAGE_TOKENS), max_sequences)
    buffers = (
        *_activations(config, element_bytes),
        *_cache_buffers(config, element_bytes, chunk_tokens),
        *_logits(config, max_sequences),
    )
    return CardNeeds(
        runtime_bytes=context_bytes + _CODE_BYTES,
        weights_bytes=weights_bytes,
        workspace_bytes=tensors_bytes(buffers),
        token_bytes=2 * config.num_layers * config.num_kv_heads * config.head_dim * element_bytes,
        num_layers=config.num_layers,
    )


def _activations(config: ModelConfig, element_bytes: int) -> Iterator[int]:
    """The buffers of the compiled program, which are as large as its bounds, whatever the context.

    A step for prompts and one for single tokens have three each for all of a model's blocks: one of the widest value (gate and up),
    two of the second widest; the former also has two for the rows whose logits are wanted.
    """
    qkv_width = (config.num_heads + 2 * config.num_kv_heads) * config.head_dim
    widths = sorted((2 * config.intermediate_size, config.intermediate_size, qkv_width), reverse=True)
    widest, second = widths[0], max(widths[1], config.hidden_size)
    for tokens in (CHUNK_TOKENS, MAX_SEQUENCES):
        for width in (widest, second, second):
            yield tokens * width * element_bytes
    for _ in range(2):
        yield MAX_SEQUENCES * config.hidden_size * element_bytes


def _cache_buffers(config: ModelConfig, element_bytes: int, chunk_tokens: int) -> Iterator[int]:
    """The cache's buffers beside its pages: queries, keys and values after rotation, what is attended, and sums of exponentials."""
    yield _INDEX_BYTES
    for heads in (config.num_heads, config.num_heads, config.num_kv_heads, config.num_kv_heads):
        yield chunk_tokens * heads * config.head_dim * element_bytes
    for _ in range(2):
        yield chunk_tokens * config.num_heads * 4


def _logits(config: ModelConfig, max_sequences: int) -> Iterator[int]:
    """The buffers for each number of rows, from one on, that are kept until they are too many."""
    left_rows = kept_logits_rows(max_sequences, config.vocab_size)
    for rows in range(1, max_sequences + 1):
        left_rows -= rows
        if left_rows < 0:
            return
        yield rows * config.vocab_size * 4
