"""What the engine asks of a loaded model: the seam between plain Python and tensors.

:func:`local_runtime.loader.load` gives the real one; tests drive the engine with a scripted one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from local_runtime.errors import OutOfMemoryError
    from local_runtime.options import ModelInfo, SamplingOptions
    from local_runtime.sliding import SlidingWindow
    from local_runtime.state_file import StateShape
    from local_runtime.tokenizer import ChatTokenizer

__all__ = ["Model", "Runner"]


class Runner(Protocol):
    """Computes logits and keeps the key-value cache; used from one thread.

    After :meth:`prefill`, :meth:`score` or :meth:`decode` raised, what the cache holds for the sequences of that call is unknown: the
    engine removes them.

    Attributes:
        vocab_size: Columns of the logits.
        context_tokens: The most tokens in one sequence.
        prefill_chunk_tokens: The most tokens in one call of :meth:`prefill`.
        max_sequences: The most sequences in one call of :meth:`decode`; it may hold more.
        page_tokens: Tokens in one page.
        total_pages: Pages of the cache.
        score_tokens: The most tokens in one call of :meth:`score`.
        activation_eps: Distance from 1 to the next number of the format that activations are in: how finely steps are rounded.
        window: What a sequence has to hold, where :meth:`drop_first` may be called; None where it has to hold all of its tokens.
        can_share: Whether sequences can be forked and restored, and so share what was computed.
        state_identity: What keys and values are computed with; those of another identity are of no use.
        state_shape: How the cache stores them.
    """

    vocab_size: int
    context_tokens: int
    prefill_chunk_tokens: int
    max_sequences: int
    page_tokens: int
    total_pages: int
    score_tokens: int
    activation_eps: float
    window: SlidingWindow | None
    can_share: bool
    state_identity: Mapping[str, str]
    state_shape: StateShape

    def add_sequence(self, sequence_id: int) -> None:
        """Start an empty sequence."""

    def remove_sequence(self, sequence_id: int) -> None:
        """End a sequence and free its pages, those that it shares excepted."""

    def fork_sequence(self, parent_id: int, child_id: int, at_tokens: int | None = None) -> None:
        """Start a sequence with another one's first tokens: whole pages are shared, a begun one is copied into a free one."""

    def prefill(self, sequence_id: int, token_ids: Sequence[int]) -> NDArray[np.float32]:
        """Append tokens to a sequence; gives the logits after the last one, float32 ``[vocab]``."""

    def decode(self, sequence_ids: Sequence[int], token_ids: Sequence[int]) -> NDArray[np.float32]:
        """Append one token to each of several sequences; gives float32 ``[batch, vocab]``."""

    def decode_with_chunk(
        self, sequence_ids: Sequence[int], token_ids: Sequence[int], chunk_id: int, chunk_ids: Sequence[int]
    ) -> NDArray[np.float32]:
        """A decode and a prefill of another sequence in one step; gives the logits after each, float32 ``[batch + 1, vocab]``."""

    def score(self, sequence_id: int, token_ids: Sequence[int]) -> NDArray[np.float32]:
        """Append tokens to a sequence; gives the logits after each of them, float32 ``[tokens, vocab]``."""

    def pop(self, sequence_id: int, tokens: int) -> None:
        """Take the last tokens of a sequence back, and the pages that only they were on."""

    def drop_first(self, sequence_id: int, tokens: int) -> None:
        """Let go of the first tokens that are held of a sequence, in whole pages; what it shares with others stays with them.

        After an exception what is held of it is unknown.
        """

    def read_pages(self, sequence_id: int, tokens: int) -> Iterator[NDArray[Any]]:
        """Keys and values of a sequence's first tokens, in whole pages as ``state_shape`` says, layer after layer in pieces."""

    def restore_sequence(self, sequence_id: int, layers: Sequence[NDArray[Any]]) -> None:
        """Start a sequence with what :meth:`read_pages` gave, as one array a layer; after an exception there is none."""

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
