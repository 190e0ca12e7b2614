"""How much memory the engine's process is expected to have resident at its highest: what a plan shows and a benchmark measures.

The parts that depend on the model come from :mod:`local_runtime.memory_plan`, which decides with the same numbers; the process's own
were measured on Linux, x86-64. An expectation keeps nothing in reserve: that is :data:`~local_runtime.memory_plan.SPARE_MIB`, apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from local_runtime.errors import OutOfMemoryError
from local_runtime.memory_plan import build_bound_bytes

if TYPE_CHECKING:
    from local_runtime.memory_plan import MemoryNeeds

__all__ = [
    "MemoryForecast",
    "forecast",
    "require_room_for_tokenizer",
    "tokenizer_bytes",
    "tokenizer_reading_bytes",
]

_MIB = 1 << 20

_LIBRARIES_BYTES = 47 * _MIB
"""The interpreter with what loading imports (NumPy, tokenizers, psutil), and the tokenizer library's code that reading one needs."""

_RUNTIME_BYTES = {"cpu": 32 * _MIB, "cuda": 640 * _MIB, "metal": 256 * _MIB}
"""TVM's runtime, the just-in-time linker, the compiled code, and what the engine imports when it first answers."""

_TOKEN_BYTES = 180
"""A token's text in both directions and its bytes, as allocators round them."""

_TABLE_BYTES = 83
"""An entry of the three hash tables of a byte-pair encoding: token to id (33 bytes), id to token (33), merge (17)."""

_TABLE_LOAD = (8, 7)
"""Rust's hash tables grow to the next power of two when more than seven of eight places are taken."""

_JSON_BYTES_A_TOKEN = 60
"""Length of ``tokenizer.json`` for each of its tokens, where there is no file yet."""

_READING_FACTOR = 8.6
"""Memory that reading ``tokenizer.json`` needs for a moment, for each byte of it."""


@dataclass(frozen=True)
class MemoryForecast:
    """What the engine's process is expected to hold, in bytes.

    Attributes:
        libraries_bytes: The interpreter and its libraries.
        tokenizer_bytes: The tokenizer.
        tokenizer_reading_bytes: What reading it needs for a moment beside that.
        runtime_bytes: TVM's runtime and the compiled code.
        weights_bytes: The converted weights. On a processor they are mapped: processes of the same model share them.
        workspace_bytes: Activations and logits.
        cache_bytes: The key-value cache when it is full.
        build_bytes: The most that the process that converts and compiles takes, once, at the first start.
        card_bytes: What a card holds of its own: weights, workspace, cache, code and the process's context. 0 on a processor.
        card_context_bytes: Of these, the context.
    """

    libraries_bytes: int
    tokenizer_bytes: int
    tokenizer_reading_bytes: int
    runtime_bytes: int
    weights_bytes: int
    workspace_bytes: int
    cache_bytes: int
    build_bytes: int
    card_bytes: int = 0
    card_context_bytes: int = 0

    @property
    def before_model_bytes(self) -> int:
        """What the process holds when it looks at what is left for the model."""
        return self.libraries_bytes + self.tokenizer_bytes

    @property
    def loaded_bytes(self) -> int:
        """Resident once the model is loaded and before it answers: no page of the cache was written to, nor the workspace."""
        return self.before_model_bytes + self.runtime_bytes + (0 if self.card_bytes else self.weights_bytes)

    @property
    def loading_peak_bytes(self) -> int:
        """The highest while the model is loaded."""
        return max(self.libraries_bytes + self.tokenizer_bytes + self.tokenizer_reading_bytes, self.loaded_bytes)

    @property
    def peak_bytes(self) -> int:
        """The highest in use, with a full cache."""
        in_use_bytes = self.loaded_bytes + (0 if self.card_bytes else self.workspace_bytes + self.cache_bytes)
        return max(self.loading_peak_bytes, in_use_bytes)

    @property
    def first_start_peak_bytes(self) -> int:
        """The most at the first start: the engine's process waits while another one converts and compiles. An upper bound."""
        return self.before_model_bytes + self.build_bytes

    @property
    def private_bytes(self) -> int:
        """Of the peak, what a second process of the same model takes anew: all but the mapped weights."""
        return self.peak_bytes - (0 if self.card_bytes else self.weights_bytes)


def forecast(
    needs: MemoryNeeds,
    *,
    target_kind: str,
    cache_tokens: int,
    vocab_size: int,
    tokenizer_file_bytes: int | None = None,
    card_context_bytes: int = 0,
) -> MemoryForecast:
    """Add up what the engine's process holds.

    Args:
        needs: What the model takes, from :func:`local_runtime.memory_plan.predict_needs`.
        target_kind: ``cpu``, ``cuda`` or ``metal``.
        cache_tokens: Tokens that the key-value cache holds.
        vocab_size: Tokens of the tokenizer.
        tokenizer_file_bytes: Length of ``tokenizer.json``; None if it isn't known.
        card_context_bytes: What of the needs is the process's context on a card.
    """
    cache_bytes = needs.cache_bytes(cache_tokens)
    on_card = target_kind == "cuda"
    model_bytes = needs.weights_bytes + needs.workspace_bytes + cache_bytes
    return MemoryForecast(
        libraries_bytes=_LIBRARIES_BYTES,
        tokenizer_bytes=tokenizer_bytes(vocab_size),
        tokenizer_reading_bytes=tokenizer_reading_bytes(vocab_size, tokenizer_file_bytes),
        runtime_bytes=_RUNTIME_BYTES[target_kind],
        weights_bytes=needs.weights_bytes,
        workspace_bytes=needs.workspace_bytes,
        cache_bytes=cache_bytes,
        build_bytes=build_bound_bytes(target_kind),
        card_bytes=needs.runtime_bytes + model_bytes if on_card else 0,
        card_context_bytes=card_context_bytes if on_card else 0,
    )


def tokenizer_bytes(vocab_size: int) -> int:
    """A byte-pair tokenizer's tables for so many tokens."""
    most, least = _TABLE_LOAD
    places = 1 << max(0, -(-vocab_size * most // least) - 1).bit_length()
    return vocab_size * _TOKEN_BYTES + places * _TABLE_BYTES


def tokenizer_reading_bytes(vocab_size: int, file_bytes: int | None = None) -> int:
    """What reading ``tokenizer.json`` takes for a moment beside the tokenizer itself."""
    return int(_READING_FACTOR * (vocab_size * _JSON_BYTES_A_TOKEN if file_bytes is None else file_bytes))


def require_room_for_tokenizer(vocab_size: int, file_bytes: int | None, headroom_mib: float) -> None:
    """Refuse to read a tokenizer where the process would be killed for it.

    Args:
        vocab_size: Its tokens.
        file_bytes: Length of ``tokenizer.json``; None if it isn't known.
        headroom_mib: What can be taken.

    Raises:
        OutOfMemoryError: There is less than it takes.
    """
    needed_mib = (tokenizer_bytes(vocab_size) + tokenizer_reading_bytes(vocab_size, file_bytes)) / _MIB
    if headroom_mib < needed_mib:
        raise OutOfMemoryError(
            f"Reading the tokenizer of {vocab_size} tokens takes {needed_mib:.0f} MiB, "
            f"but {max(0.0, headroom_mib):.0f} MiB can be taken.",
            "Close other programs, raise the memory limit, or use a model with a smaller vocabulary.",
        )
