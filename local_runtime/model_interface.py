"""What the engine asks of a loaded model: the seam between plain Python and tensors.

:func:`local_runtime.loader.load` gives the real one; tests drive the engine with a scripted one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from local_runtime.errors import OutOfMemoryError
    from local_runtime.options import ModelInfo, SamplingOptions
    from local_runtime.tokenizer import ChatTokenizer

__all__ = ["Model", "Runner"]


class Runner(Protocol):
    """Computes logits and keeps the key-value cache; used from one thread.

    After :meth:`prefill` or :meth:`decode` raised, what the cache holds for the sequences of that call is unknown: the
    engine removes them.

    Attributes:
        vocab_size: Columns of the logits.
        context_tokens: The most tokens in one sequence.
        prefill_chunk_tokens: The most tokens in one call of :meth:`prefill`.
        max_sequences: The most sequences at the same time.
        page_tokens: Tokens in one page.
        total_pages: Pages of the cache.
    """

    vocab_size: int
    context_tokens: int
    prefill_chunk_tokens: int
    max_sequences: int
    page_tokens: int
    total_pages: int

    def add_sequence(self, sequence_id: int) -> None:
        """Start an empty sequence."""

    def remove_sequence(self, sequence_id: int) -> None:
        """End a sequence and free its pages."""

    def prefill(self, sequence_id: int, token_ids: Sequence[int]) -> NDArray[np.float32]:
        """Append tokens to a sequence; gives the logits after the last one, float32 ``[vocab]``."""

    def decode(self, sequence_ids: Sequence[int], token_ids: Sequence[int]) -> NDArray[np.float32]:
        """Append one token to each of several sequences; gives float32 ``[batch, vocab]``."""

    def available_pages(self) -> int:
        """Pages that hold nothing."""

    def shortage(self, pages: int) -> OutOfMemoryError | None:
        """What to tell if there is no memory for so many pages in all, those in use among them; None if there is."""

    @property
    def headroom_mib(self) -> float | None:
        """MiB that the process can still take; None where nobody watches that."""

    def close(self) -> None:
        """Free the device's memory; nothing may be called afterwards."""


class Model(Protocol):
    """A loaded model."""

    @property
    def runner(self) -> Runner:
        """Computes the steps."""

    @property
    def tokenizer(self) -> ChatTokenizer:
        """Turns conversations into token ids and back."""

    @property
    def info(self) -> ModelInfo:
        """What was loaded."""

    @property
    def recommended_sampling(self) -> SamplingOptions:
        """How the model's makers want tokens to be drawn, where a request leaves it open."""
