"""Rotary position embedding: the frequencies that a checkpoint's configuration asks for.

Source: Su et al., "RoFormer" (2021), section 3.4; position interpolation ("linear") from Chen et al. (2023); the
``llama3`` rule is the one published with Llama 3.1: low frequencies are divided by ``factor``, high ones are kept, and
those between are blended.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .config import ModelConfig

__all__ = ["inverse_frequencies"]


def inverse_frequencies(config: ModelConfig) -> np.ndarray:
    """Compute the angle per position of every rotated pair, as ``transformers`` computes it.

    Pair ``i`` of a head is made of its dimensions ``i`` and ``i + head_dim/2``; at position ``p`` it turns by
    ``p * result[i]`` radians.

    Args:
        config: The model's configuration; ``config.rope`` was validated when it was read.

    Returns:
        float32 ``[head_dim / 2]``, highest frequency first.
    """
    rope, head_dim = config.rope, config.head_dim
    exponents = np.arange(0, head_dim, 2, dtype=np.int64).astype(np.float32) / np.float32(head_dim)
    base: np.ndarray = (np.float32(1.0) / np.power(np.float32(rope.theta), exponents)).astype(np.float32)
    if rope.type == "default":
        return base
    if rope.type == "linear":
        return np.asarray(base / np.float32(rope.parameters["factor"]), dtype=np.float32)
    if rope.type == "llama3":
        return _llama3(base, rope.parameters)
    raise ValueError(f"rope type {rope.type!r} passed the configuration's validation without an implementation")


def _llama3(base: np.ndarray, parameters: dict[str, float]) -> np.ndarray:
    factor = parameters["factor"]
    low, high = parameters["low_freq_factor"], parameters["high_freq_factor"]
    trained_context = parameters["original_max_position_embeddings"]

    wavelength = (2 * math.pi / base).astype(np.float32)
    longest_kept, shortest_divided = trained_context / high, trained_context / low
    divided = (base / np.float32(factor)).astype(np.float32)
    blend = (np.float32(trained_context) / wavelength - np.float32(low)) / np.float32(high - low)
    blended = (1 - blend) * divided + blend * base
    result = np.where(wavelength > shortest_divided, divided, base)
    between = (wavelength >= longest_kept) & (wavelength <= shortest_divided)
    return np.asarray(np.where(between, blended, result), dtype=np.float32)
