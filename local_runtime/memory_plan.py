"""Predicts what a model takes before anything large is allocated, and cuts the key-value cache to what is there.

The prediction is what is expected to become resident (:mod:`local_runtime.memory_forecast` adds what the process takes whatever the
model); what is kept in reserve is apart. Weights are mapped from a file, which a kernel can drop and read again; they count in full
nevertheless, for every token reads all of them. The cache's pages and the workspace take memory when they are first used;
:mod:`local_runtime.admission` watches over that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from local_runtime.errors import OutOfMemoryError
from local_runtime.kernels.limits import MAX_SEQUENCES, PAGE_TOKENS
from local_runtime.sliding import sliding_window

if TYPE_CHECKING:
    from local_runtime.models.config import ModelConfig

__all__ = [
    "CHUNK_TOKENS",
    "LEAST_CONTEXT_TOKENS",
    "SPARE_MIB",
    "MemoryNeeds",
    "MemoryPlan",
    "build_bound_bytes",
    "kept_logits_rows",
    "logits_rows",
    "predict_needs",
    "require_host_room",
    "require_room_for_libraries",
    "require_room_to_build",
    "score_tokens",
]

_MIB = 1 << 20

CHUNK_TOKENS = 512
"""Tokens that one prefill step reads at most, as models are compiled."""

LEAST_CONTEXT_TOKENS = 512
"""A context that nobody asked for is not cut below this: less holds no question with its instructions and an answer."""

SPARE_MIB = 32
"""Left free beyond what is predicted: the tokenizer's and Python's own objects, what allocators cannot give out again, and logits of
tokens that are scored (for prompts' log probabilities, and to check guesses), which with their copy come to 24 MiB at most."""

_SCORE_BYTES = 8 * _MIB
"""Logits of tokens that are scored in one step, where decodes don't need more."""

_RUNTIME_MIB = {"cpu": 32, "cuda": 640, "metal": 256}
"""What the process grows by when it loads TVM's runtime, its linker and the compiled code: on a CPU 27 MiB, of which 20 are mapped
files; for CUDA, whose driver and context live in it too, 300 MiB of its own and 345 of mapped files. Metal's is an estimate."""

_LIBRARIES_MIB = 40
"""What a process grows by when it imports what loading takes (NumPy, the tokenizer, TVM's interface): 30 MiB, half of them files."""

_BUILD_MIB = {"cpu": 232, "cuda": 800, "metal": 300}
"""What a build process needs so that it neither is killed nor crawls: on a CPU 130 MiB of its own, hardly more for a larger model, and
of the compiler's 165 MiB of mapped code the 100 that are in use at a time; for CUDA 440 MiB of its own beside 600 of mapped code."""

_BUILD_PEAK_MIB = {"cpu": 336, "cuda": 1100, "metal": 480}
"""The most that a build process has resident, with all of the compiler's mapped code, a part of which a system that is short of memory
drops: on a CPU 300 MiB, whatever the model. Metal's is an estimate."""

_CACHE_SHARE = 0.5
"""Beyond one whole sequence, the cache takes at most this part of what is left: the rest of the machine wants to live too."""

_STEP_BYTES = 1 * _MIB
"""What the first steps take whatever the model: the threads' stacks, the cache's tables, and the kernels' scratch memory."""


@dataclass(frozen=True)
class MemoryNeeds:
    """What a model takes, in bytes.

    Attributes:
        runtime_bytes: Code and objects of the process that are not there yet.
        weights_bytes: Converted weights.
        workspace_bytes: Activations of one chunk of a prompt, the cache's own buffers, and logits.
        token_bytes: Keys and values of one token in all layers.
        held_tokens: The most tokens that one sequence holds, where it lets go of its first ones; None where it holds all.
    """

    runtime_bytes: int
    weights_bytes: int
    workspace_bytes: int
    token_bytes: int
    held_tokens: int | None = None

    def sequence_tokens(self, context_tokens: int) -> int:
        """The most tokens that a sequence of a context of so many has in the cache at a time."""
        return context_tokens if self.held_tokens is None else min(context_tokens, self.held_tokens)

    def cache_bytes(self, tokens: int) -> int:
        """The key-value cache for so many tokens; TVM adds a page of its own."""
        return (-(-tokens // PAGE_TOKENS) + 1) * PAGE_TOKENS * self.token_bytes

    def cache_tokens(self, available_bytes: int) -> int:
        """The most tokens whose cache fits into so many bytes, in whole pages; 0 if none does."""
        return max(0, (available_bytes // (PAGE_TOKENS * self.token_bytes) - 1) * PAGE_TOKENS)

    def plan(
        self,
        *,
        headroom_mib: float,
        memory_mib: int | None,
        context_tokens: int,
        may_cut_context: bool,
        max_sequences: int,
    ) -> MemoryPlan:
        """Decide how large the cache becomes.

        Args:
            headroom_mib: What can be taken where the weights and the cache will live.
            memory_mib: The most that weights, cache and workspace may take together, if somebody set it.
            context_tokens: The context to serve.
            may_cut_context: Whether a shorter context is acceptable, as it is where nobody asked for this one.
            max_sequences: How many sequences shall have room at full length, if it can be.

        Raises:
            OutOfMemoryError: Not even the shortest acceptable context fits.
        """
        fixed_bytes = self.weights_bytes + self.workspace_bytes
        left_bytes = int((headroom_mib - SPARE_MIB) * _MIB) - fixed_bytes - self.runtime_bytes
        if memory_mib is not None:
            left_bytes = min(left_bytes, memory_mib * _MIB - fixed_bytes)
        one_tokens = self.sequence_tokens(context_tokens)
        whole_tokens = one_tokens * max_sequences
        plan = MemoryPlan(self, context_tokens, whole_tokens, whole_tokens)
        if self.cache_bytes(whole_tokens) <= left_bytes * _CACHE_SHARE:
            return plan
        fitting_tokens = self.cache_tokens(left_bytes)
        if fitting_tokens >= one_tokens:
            shared_tokens = self.cache_tokens(int(left_bytes * _CACHE_SHARE))
            return replace(plan, total_tokens=min(whole_tokens, max(one_tokens, shared_tokens)))
        least_tokens = min(one_tokens, LEAST_CONTEXT_TOKENS) if may_cut_context else one_tokens
        if fitting_tokens < least_tokens:
            raise self._too_little(least_tokens, fitting_tokens, headroom_mib, memory_mib)
        return replace(plan, context_tokens=fitting_tokens, total_tokens=fitting_tokens)

    def _too_little(
        self, tokens: int, fitting_tokens: int, headroom_mib: float, memory_mib: int | None
    ) -> OutOfMemoryError:
        parts_bytes = {
            "weights": self.weights_bytes,
            "workspace": self.workspace_bytes,
            f"a cache of {tokens} tokens": self.cache_bytes(tokens),
        }
        rest_mib = self.runtime_bytes / _MIB + SPARE_MIB
        needed_mib = sum(parts_bytes.values()) / _MIB
        listed = ", ".join(f"{what} {size / _MIB:.0f}" for what, size in parts_bytes.items())
        if memory_mib is not None and needed_mib > memory_mib:
            said = f"The model needs {needed_mib:.0f} MiB ({listed}), but memory_mib allows {memory_mib}."
            more = "a larger memory_mib"
        else:
            said = (
                f"The model needs {needed_mib + rest_mib:.0f} MiB ({listed}, runtime and reserve {rest_mib:.0f}), "
                f"but {max(0.0, headroom_mib):.0f} MiB can be taken."
            )
            more = "more memory"
        shorter = f"context_tokens of at most {fitting_tokens}" if fitting_tokens >= PAGE_TOKENS else "quant q4"
        return OutOfMemoryError(said, f"Use {shorter}, a smaller model, fewer max_sequences, or give it {more}.")


@dataclass(frozen=True)
class MemoryPlan:
    """How a model will be loaded.

    Attributes:
        needs: What it takes.
        context_tokens: The context that is served.
        total_tokens: What the key-value cache holds.
        wanted_tokens: What it would hold if memory were plenty.
    """

    needs: MemoryNeeds
    context_tokens: int
    total_tokens: int
    wanted_tokens: int

    @property
    def cache_bytes(self) -> int:
        """Bytes of the key-value cache."""
        return self.needs.cache_bytes(self.total_tokens)

    def said(self, wanted_context_tokens: int) -> str:
        """What was cut, for a person; empty if nothing was."""
        if self.context_tokens < wanted_context_tokens:
            return (
                f"memory is short: a context of {self.context_tokens} tokens instead of {wanted_context_tokens}, "
                "one answer at a time when it is full"
            )
        if self.total_tokens < self.wanted_tokens:
            return f"memory is short: a cache of {self.total_tokens} tokens instead of {self.wanted_tokens}"
        return ""


def predict_needs(
    config: ModelConfig,
    *,
    target_kind: str,
    quant: str,
    weights_bytes: int,
    context_tokens: int,
    max_sequences: int,
    context_bytes: int = 0,
) -> MemoryNeeds:
    """What a model takes where its weights and its cache live: this machine's memory, or a card's.

    What is given here is what is expected; what is kept in reserve beside it is :data:`SPARE_MIB`.

    Args:
        config: The model's shape.
        target_kind: ``cpu``, ``cuda`` or ``metal``.
        quant: The weight format.
        weights_bytes: What the converted weights take there, by :func:`local_runtime.model_plan.converted_bytes`.
        context_tokens: The context to serve; a chunk of a prompt is no longer than that.
        max_sequences: Sequences that are decoded at a time.
        context_bytes: What the process's context on a card takes that is not there yet.
    """
    if target_kind == "cuda":
        from local_runtime.card_memory import card_needs  # which builds on what is here

        return card_needs(
            config,
            quant=quant,
            weights_bytes=weights_bytes,
            context_tokens=context_tokens,
            max_sequences=max_sequences,
            context_bytes=context_bytes,
        )
    element_bytes = 4 if target_kind == "cpu" or quant == "f32" else 2
    # A processor's memory is taken when it is written to, a card's as the program asks for it: for the longest chunk.
    chunk_tokens = min(CHUNK_TOKENS, max(context_tokens, max_sequences)) if target_kind == "cpu" else CHUNK_TOKENS
    window = None
    if target_kind == "cpu":
        window = sliding_window(config.to_dict(), chunk_tokens, PAGE_TOKENS, context_tokens - 1)
    return MemoryNeeds(
        runtime_bytes=_RUNTIME_MIB[target_kind] * _MIB,
        weights_bytes=weights_bytes,
        workspace_bytes=chunk_tokens * _activations(config) * element_bytes
        + logits_rows(max_sequences, config.vocab_size) * config.vocab_size * 4
        + _STEP_BYTES
        + (0 if window is None else window.most_tokens * config.head_dim * element_bytes),  # one head's, while it moves
        token_bytes=2 * config.num_layers * config.num_kv_heads * config.head_dim * element_bytes,
        held_tokens=None if window is None else window.most_tokens,
    )


def _activations(config: ModelConfig) -> int:
    """Values that a step holds for each of its tokens.

    TVM plans three buffers for all of a model's blocks: one becomes as large as the widest value (gate and up), and two as the
    second widest (the feed-forward's product; queries, keys and values). The cache has its own for queries, keys and values after
    rotation, and for the attention over earlier tokens.
    """
    attention_width = config.num_heads * config.head_dim
    qkv_width = attention_width + 2 * config.num_kv_heads * config.head_dim
    widest, second = sorted((2 * config.intermediate_size, config.intermediate_size, qkv_width), reverse=True)[:2]
    return widest + 2 * max(second, config.hidden_size) + qkv_width + attention_width


def score_tokens(max_sequences: int, vocab_size: int) -> int:
    """The most tokens after each of which one step gives logits.

    A decode gives a row for each of ``max_sequences``, so that much is planned for; and a little more costs nothing to speak of.
    """
    return max(max_sequences, min(MAX_SEQUENCES, _SCORE_BYTES // (4 * vocab_size)))


def kept_logits_rows(max_sequences: int, vocab_size: int) -> int:
    """The most rows in all the buffers of logits that are kept for later steps; see :mod:`local_runtime.logits_memory`."""
    return 2 * score_tokens(max_sequences, vocab_size)


def logits_rows(max_sequences: int, vocab_size: int) -> int:
    """Rows of logits that come to be held at the same time while answers are decoded.

    TVM keeps one buffer for each number of rows that was asked for, and all of them from 1 to ``max_sequences`` are, until they
    are too many; a step's logits are copied once, each answer has a copy to draw from, and drawing makes two more for a moment.
    """
    every_number = max_sequences * (max_sequences + 1) // 2
    return min(every_number, kept_logits_rows(max_sequences, vocab_size)) + 2 * max_sequences + 2


def require_room_for_libraries(headroom_mib: float) -> None:
    """Refuse to load anything where the libraries alone would not fit, before they are imported.

    Raises:
        OutOfMemoryError: There is less than they take.
    """
    if headroom_mib < _LIBRARIES_MIB:
        raise OutOfMemoryError(
            f"The engine's libraries take {_LIBRARIES_MIB} MiB before any model, but {max(0.0, headroom_mib):.0f} MiB can be taken.",
            "Close other programs, or raise the memory limit.",
        )


def require_host_room(target_kind: str, headroom_mib: float) -> None:
    """Refuse a device whose runtime alone would not fit into this machine's memory.

    Raises:
        OutOfMemoryError: There is less than it takes.
    """
    needed_mib = _RUNTIME_MIB[target_kind] + SPARE_MIB
    if headroom_mib < needed_mib:
        raise OutOfMemoryError(
            f"The runtime for {target_kind} takes {needed_mib} MiB of this machine's memory, "
            f"but {max(0.0, headroom_mib):.0f} MiB can be taken.",
            "Close other programs, raise the memory limit, or use --target cpu.",
        )


def build_bound_bytes(target_kind: str) -> int:
    """The most that a process that converts and compiles has resident. It gets along with less: see :func:`require_room_to_build`."""
    return _BUILD_PEAK_MIB[target_kind] * _MIB


def require_room_to_build(target_kind: str, headroom_mib: float) -> None:
    """Refuse to convert and compile a model where the process that does it would be killed.

    Raises:
        OutOfMemoryError: There is less than it takes.
    """
    needed_mib = _BUILD_MIB[target_kind]
    if headroom_mib < needed_mib:
        raise OutOfMemoryError(
            f"Preparing the model for this machine takes {needed_mib} MiB once, but {max(0.0, headroom_mib):.0f} MiB can be taken.",
            "Close other programs or raise the memory limit for the first start; or prepare it with `hybridllm compile` on a "
            "machine of this kind and bring its cache folder.",
        )
