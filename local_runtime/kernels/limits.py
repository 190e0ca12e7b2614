"""What the kernels ask of a model, known without loading TVM: so that a model is refused before work is spent on it.

Standard library only: the application's process imports this module.
"""

from __future__ import annotations

from local_runtime.errors import UnsupportedModelError

__all__ = ["MAX_SEQUENCES", "PAGES_FUNCTION", "PAGE_TOKENS", "ROTARY_TABLE_FUNCTION", "require_supported_heads"]

PAGE_TOKENS = 16
"""Tokens in one page of the key-value cache. Fixed: it is also the width of the attention kernels' key tiles."""

MAX_SEQUENCES = 64
"""Most sequences that one step decodes; also what the logits' buffer is planned for when a model is compiled."""


PAGES_FUNCTION = "hybridllm.kv_pages"
"""The function that a compiled cache hands its pages to when it is asked for them; see :mod:`local_runtime.page_access`."""

ROTARY_TABLE_FUNCTION = "hybridllm.rotary_table"
"""The function that makes what the kernel of the rotary embedding reads; see :mod:`local_runtime.rotary_table`."""


def require_supported_heads(num_attention_heads: int, num_key_value_heads: int, head_dim: int) -> None:
    """Check that the attention kernels can serve a model.

    Args:
        num_attention_heads: Query heads.
        num_key_value_heads: Key (and value) heads.
        head_dim: Dimensions of a head.

    Raises:
        UnsupportedModelError: If the query heads are no multiple of the key heads, or head_dim no multiple of 16.
    """
    if num_key_value_heads < 1 or num_attention_heads % num_key_value_heads:
        raise UnsupportedModelError(
            f"num_attention_heads {num_attention_heads} is not a multiple of num_key_value_heads {num_key_value_heads}.",
            "Check both in the checkpoint's config.json.",
        )
    if head_dim < 16 or head_dim % 16:
        raise UnsupportedModelError(
            f"head_dim {head_dim} is not a multiple of 16, which the attention kernels need.",
            "Choose a model whose head_dim is 32, 64, 80, 96, 128 or another multiple of 16.",
        )
