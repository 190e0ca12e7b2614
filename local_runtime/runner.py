"""Runs a compiled model: the only module that touches tensors while answers are made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import tvm_ffi

from local_runtime.admission import OUT_OF_MEMORY_WORDS, Admission
from local_runtime.artifact import read_artifact
from local_runtime.errors import CompileError, OutOfMemoryError
from local_runtime.logits_memory import LogitsMemory
from local_runtime.memory_plan import kept_logits_rows, score_tokens
from local_runtime.page_access import PageAccess
from local_runtime.rotary_table import LostTokens
from local_runtime.sliding import sliding_window
from local_runtime.state_file import StateShape, state_identity
from local_runtime.tvm_runtime import Device, load_objects, set_threads, shape_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from local_runtime.memory import Headroom
    from local_runtime.memory_plan import MemoryNeeds
    from local_runtime.target import ResolvedTarget

__all__ = ["TvmRunner"]

Logits = npt.NDArray[np.float32]


class TvmRunner:
    """A loaded model with its key-value cache.

    Not safe for use from several threads. Sequences are known by numbers that the caller chooses.

    Args:
        target: The device.
        artifact: Folder of the compiled code.
        weights: The converted weights by ``(name, part)``, memory-mapped.
        vocab_size: Columns of the logits.
        context_tokens: Most tokens in one sequence.
        max_sequences: Most sequences at a time.
        total_tokens: Tokens that the key-value cache holds for all sequences together.
        threads: Threads of a CPU kernel.
        needs: What the model was predicted to take; with it, no step touches memory that isn't there. Leave it out where the
            device takes all of its memory at once.
        headroom: What is left; ``needs`` wants it.
        weights_digest: Tells these weights from all others, in the identity of what is saved to a file.

    Raises:
        CompileError: The compiled code is torn or was made for other weights.
        TargetError: The device doesn't answer.
        OutOfMemoryError: The device has no room for the weights or for the cache.
    """

    def __init__(
        self,
        target: ResolvedTarget,
        artifact: Path,
        weights: Mapping[tuple[str, Any], npt.NDArray[Any]],
        *,
        vocab_size: int,
        context_tokens: int,
        max_sequences: int,
        total_tokens: int,
        threads: int,
        needs: MemoryNeeds | None = None,
        headroom: Headroom | None = None,
        weights_digest: str = "",
    ) -> None:
        manifest = read_artifact(artifact)
        if manifest is None:
            raise CompileError(f"The compiled model {artifact} is damaged.", "Delete that folder; it is made again.")
        self.vocab_size, self.context_tokens = vocab_size, context_tokens
        self.max_sequences: int = min(max_sequences, manifest["max_batch"])
        self.page_tokens: int = manifest["page_tokens"]
        # No larger than the context, for the cache's buffers are made for a whole chunk; but a decode is one token of each
        # sequence in the same buffers.
        chunk_tokens = min(manifest["prefill_chunk_tokens"], self._whole_pages(context_tokens))
        self.prefill_chunk_tokens: int = max(chunk_tokens, self.max_sequences)
        self.score_tokens: int = min(manifest["max_batch"], score_tokens(self.max_sequences, vocab_size))
        self._logits_memory = LogitsMemory(
            kept_logits_rows(self.max_sequences, vocab_size), on_host=target.kind == "cpu"
        )
        in_float32 = target.kind == "cpu" or manifest["quant"] == "f32"
        self.activation_eps = float(np.finfo(np.float32 if in_float32 else np.float16).eps)
        capacity_tokens = self._whole_pages(total_tokens)
        self._device = Device(target.kind, target.index)
        if target.kind == "cpu":
            set_threads(threads)
        vm = load_objects([artifact / name for name in manifest["objects"]], self._device)
        self._prefill, self._decode = vm["prefill"], vm["decode"]
        self._vm = vm
        self._weights = weights  # keeps the memory mapping alive as long as the tensors over it
        self._parameters = [self._to_device(_find(weights, name)) for name in manifest["parameters"]]
        self._bind_cache_functions()
        try:
            self._cache = vm["create_cache"](
                *(
                    shape_of([value])
                    for value in (
                        self.max_sequences,
                        capacity_tokens,
                        self.prefill_chunk_tokens,
                        self.page_tokens,
                    )
                )
            )
        except (RuntimeError, MemoryError) as error:
            raise OutOfMemoryError(
                f"There is no room for a key-value cache of {capacity_tokens} tokens.",
                "Ask for a smaller context (context_tokens) or fewer sequences at a time.",
            ) from error
        window = manifest["config"]["sliding_window"]
        self.can_share = window is None or target.kind == "cpu"
        if not self.can_share:
            # TVM's kernels look for the window before a chunk only, and let all tokens of the chunk see each other.
            self.prefill_chunk_tokens = min(self.prefill_chunk_tokens, window)
            self.score_tokens = min(self.score_tokens, window)
        self.total_pages = self.available_pages()  # the runtime rounds up by a page of its own
        self._lost = LostTokens(told=target.kind == "cpu")
        self.window = None
        if self._lost.can_be_told:
            room_tokens = min(context_tokens - 1, self.total_pages * self.page_tokens)
            self.window = sliding_window(manifest["config"], self.prefill_chunk_tokens, self.page_tokens, room_tokens)
        self.state_shape = StateShape.of_model(
            manifest["config"], self.page_tokens, "float32" if in_float32 else "float16"
        )
        self.state_identity: Mapping[str, str] = state_identity(manifest, weights_digest)
        self._pages = PageAccess(self._cache, self._device, self.state_shape)
        self._admission: Admission | None = None
        if needs is not None and headroom is not None:
            self._admission = Admission(
                headroom,
                page_bytes=self.page_tokens * needs.token_bytes,
                workspace_bytes=needs.workspace_bytes,
                chunk_tokens=self.prefill_chunk_tokens,
            )

    def _bind_cache_functions(self) -> None:
        get = tvm_ffi.get_global_func
        self._add = get("vm.builtin.kv_state_add_sequence")
        self._remove = get("vm.builtin.kv_state_remove_sequence")
        self._fork = get("vm.builtin.kv_state_fork_sequence")
        self._pop = get("vm.builtin.kv_state_popn")
        self._length = get("vm.builtin.attention_kv_cache_get_sequence_length")
        self._begin = get("vm.builtin.kv_state_begin_forward")
        self._end = get("vm.builtin.kv_state_end_forward")
        self._free_pages = get("vm.builtin.attention_kv_cache_get_num_available_pages")

    def add_sequence(self, sequence_id: int) -> None:
        """Start an empty sequence."""
        self._add(self._cache, sequence_id)

    def remove_sequence(self, sequence_id: int) -> None:
        """End a sequence and free its pages."""
        self._remove(self._cache, sequence_id)
        self._lost.forget(sequence_id)

    def fork_sequence(self, parent_id: int, child_id: int, at_tokens: int | None = None) -> None:
        """Start a sequence with another one's first tokens, whose keys and values the two then share.

        Whole pages are shared until both have ended. A fork within a page takes one page for a copy of its beginning.

        Args:
            parent_id: The sequence to take from; it goes on as before.
            child_id: The new sequence.
            at_tokens: How many of the parent's tokens to take; None takes all.

        Raises:
            ValueError: ``at_tokens`` is below 0, or more than the parent has.
            OutOfMemoryError: The cache has no page left for the copy.
        """
        length = int(self._length(self._cache, parent_id))
        at_tokens = length if at_tokens is None else at_tokens
        if not 0 <= at_tokens <= length:
            raise ValueError(f"a fork at token {at_tokens} of a sequence of {length} tokens")
        # TVM finds out in mid-work that there is no page, and would have lost the parent's by then.
        copies = at_tokens % self.page_tokens > 0
        if copies and self.available_pages() == 0:
            raise self._cache_is_full()
        self._require_memory(new_pages=int(copies), tokens=0)
        self._fork(self._cache, parent_id, child_id, at_tokens)
        self._lost.inherit(child_id, parent_id)

    def available_pages(self) -> int:
        """Pages of the key-value cache that are free."""
        return int(self._free_pages(self._cache))

    def shortage(self, pages: int) -> OutOfMemoryError | None:
        """What to tell if there is no memory for so many pages in all, those in use among them; None if there is."""
        return None if self._admission is None else self._admission.shortage(pages)

    @property
    def headroom_mib(self) -> float | None:
        """MiB that can still be taken, read at most once a second; None if nobody watches over it."""
        return None if self._admission is None else self._admission.headroom.mib()

    def prefill(self, sequence_id: int, token_ids: Sequence[int]) -> Logits:
        """Append tokens to a sequence, at most ``prefill_chunk_tokens``; logits float32 ``[vocab]`` after the last.

        Raises:
            ValueError: There are more tokens than the cache's buffers hold.
            OutOfMemoryError: The cache has no page left, or the device no memory.
        """
        _check_count("tokens of one prefill", len(token_ids), self.prefill_chunk_tokens)
        ids = self._to_device(np.asarray(token_ids, np.int32))
        last = self._to_device(np.asarray([len(token_ids) - 1], np.int32))
        logits = self._forward(
            [sequence_id], [len(token_ids)], 1, lambda: self._prefill(ids, last, self._cache, self._parameters)
        )
        row: Logits = logits[0]
        return row

    def score(self, sequence_id: int, token_ids: Sequence[int]) -> Logits:
        """Append tokens to a sequence, at most ``score_tokens``; logits float32 ``[len(token_ids), vocab]`` after each of them.

        Raises:
            ValueError: There are more tokens than memory for logits was planned for.
            OutOfMemoryError: The cache has no page left, or the device no memory.
        """
        count = len(token_ids)
        _check_count("tokens to score", count, self.score_tokens)
        ids = self._to_device(np.asarray(token_ids, np.int32))
        every = self._to_device(np.arange(count, dtype=np.int32))
        return self._forward(
            [sequence_id], [count], count, lambda: self._prefill(ids, every, self._cache, self._parameters)
        )

    def pop(self, sequence_id: int, tokens: int) -> None:
        """Take the last tokens of a sequence back, and free the pages that only they were on.

        Raises:
            ValueError: ``tokens`` is below 0, or more than the sequence has.
        """
        if not 0 <= tokens <= int(self._length(self._cache, sequence_id)):
            raise ValueError(f"{tokens} tokens cannot be taken back: the sequence has fewer")
        self._pop(self._cache, sequence_id, tokens)

    def drop_first(self, sequence_id: int, tokens: int) -> None:
        """Let go of a sequence's first tokens, which no further one sees; from then on it is as many tokens shorter.

        What it shares with others stays with them. The rest of it moves to pages of its own, of which its old ones are the first to
        be free again: where it shared none, no page is needed that it did not have.

        Args:
            sequence_id: A sequence on a processor.
            tokens: How many, in whole pages, and fewer than it has.

        Raises:
            ValueError: They are not, or this is no processor.
            OutOfMemoryError: The cache has no pages for what was shared. What the sequence holds is unknown then, as after any other
                exception.
        """
        length = int(self._length(self._cache, sequence_id))
        if not self._lost.can_be_told or not 0 < tokens < length or tokens % self.page_tokens:
            raise ValueError(f"{tokens} tokens are no pages that a sequence of {length} can do without")
        layers, old = self._pages.locate(sequence_id, length)
        self._remove(self._cache, sequence_id)
        self._add(self._cache, sequence_id)
        self._reserve(sequence_id, length - tokens)
        _, new = self._pages.locate(sequence_id, length - tokens)
        self._pages.move(layers, old[tokens // self.page_tokens :], new)
        self._lost.add(sequence_id, tokens)

    def read_pages(self, sequence_id: int, tokens: int) -> Iterator[npt.NDArray[Any]]:
        """Keys and values of a sequence's first tokens, whole pages of them, layer after layer in pieces.

        Each piece is ``[pages, 2, kv heads, page tokens, head_dim]`` as the cache stores it, and must be used before the next step.

        Raises:
            ValueError: The sequence has fewer tokens, or they don't fill pages.
        """
        if not 0 < tokens <= int(self._length(self._cache, sequence_id)) or tokens % self.page_tokens:
            raise ValueError(f"{tokens} tokens are no whole pages of a sequence")
        yield from self._pages.read(sequence_id, tokens)

    def restore_sequence(self, sequence_id: int, layers: Sequence[npt.NDArray[Any]]) -> None:
        """Start a sequence with tokens whose keys and values are known: what :meth:`read_pages` gave, as one array a layer.

        Raises:
            OutOfMemoryError: The cache has no room for them, or the device no memory. There is no such sequence then.
        """
        self._add(self._cache, sequence_id)
        try:
            self._reserve(sequence_id, len(layers[0]) * self.page_tokens)
            self._pages.write(sequence_id, layers)
        except BaseException:
            self._remove(self._cache, sequence_id)
            raise

    def decode(self, sequence_ids: Sequence[int], token_ids: Sequence[int]) -> Logits:
        """Append one token to each of some sequences; logits float32 ``[len(sequence_ids), vocab]``.

        Raises:
            ValueError: There are more sequences than the cache was made for.
            OutOfMemoryError: The cache has no page left, or the device no memory.
        """
        _check_count("sequences of one decode", len(sequence_ids), self.max_sequences)
        ids = self._to_device(np.asarray(token_ids, np.int32))
        ones = [1] * len(sequence_ids)
        return self._forward(sequence_ids, ones, len(ones), lambda: self._decode(ids, self._cache, self._parameters))

    def decode_with_chunk(
        self, sequence_ids: Sequence[int], token_ids: Sequence[int], chunk_id: int, chunk_ids: Sequence[int]
    ) -> Logits:
        """Append one token to each of some sequences and several to another one, in one step that reads the weights once.

        Args:
            sequence_ids: Who gets one token.
            token_ids: Those tokens.
            chunk_id: Who gets several.
            chunk_ids: These tokens.

        Returns:
            Logits float32 ``[len(sequence_ids) + 1, vocab]`` after each one's last token.

        Raises:
            ValueError: There are more sequences than the cache was made for, or more tokens than its buffers hold.
            OutOfMemoryError: The cache has no page left, or the device no memory.
        """
        batch, tokens = len(sequence_ids), [*token_ids, *chunk_ids]
        _check_count("sequences of one step", batch + 1, self.max_sequences)
        _check_count("tokens of one step", len(tokens), self.prefill_chunk_tokens)
        ids = self._to_device(np.asarray(tokens, np.int32))
        lasts = self._to_device(np.asarray([*range(batch), len(tokens) - 1], np.int32))
        counts = [1] * batch + [len(chunk_ids)]
        return self._forward(
            [*sequence_ids, chunk_id],
            counts,
            batch + 1,
            lambda: self._prefill(ids, lasts, self._cache, self._parameters),
        )

    def _forward(
        self, sequence_ids: Sequence[int], new_tokens: Sequence[int], rows: int, compute: Callable[[], Any]
    ) -> Logits:
        """Reserve the new tokens' places in the cache, compute, and give so many rows of logits.

        After an exception the cache counts tokens that were not computed: their sequences must be removed, which frees every
        page that they took.
        """
        self._take_pages(sequence_ids, new_tokens)
        try:
            self._require_memory(new_pages=0, tokens=sum(new_tokens))  # the pages are taken, but not touched yet
            self._logits_memory.reserve(rows)
            self._lost.tell(sequence_ids, new_tokens)
            return self._device.fetch(compute())
        except RuntimeError as error:
            if not any(words in str(error).lower() for words in OUT_OF_MEMORY_WORDS):
                raise
            raise OutOfMemoryError(
                "There was no memory left to compute the next tokens.",
                "Close other programs, or load the model with a smaller context_tokens or fewer sequences at a time.",
            ) from error
        finally:
            self._end(self._cache)

    def _take_pages(self, sequence_ids: Sequence[int], new_tokens: Sequence[int]) -> None:
        try:
            self._begin(self._cache, shape_of(list(sequence_ids)), shape_of(list(new_tokens)))
        except RuntimeError as error:
            if self.available_pages() > 0:
                raise
            raise self._cache_is_full() from error

    def _reserve(self, sequence_id: int, tokens: int) -> None:
        """Take the pages of a new sequence's first tokens; what is in them is for somebody else to write."""
        while tokens > 0:
            count = min(tokens, self.prefill_chunk_tokens)
            self._take_pages([sequence_id], [count])
            try:
                self._require_memory(new_pages=0, tokens=0)
            finally:
                self._end(self._cache)
            tokens -= count

    def _require_memory(self, *, new_pages: int, tokens: int) -> None:
        if self._admission is not None:
            self._admission.require_step(self.total_pages - self.available_pages() + new_pages, tokens)

    def _cache_is_full(self) -> OutOfMemoryError:
        return OutOfMemoryError(
            f"The key-value cache is full: all of its {self.total_pages} pages of {self.page_tokens} tokens are in use.",
            "Ask for less at the same time, or load the model where more memory is free.",
        )

    def close(self) -> None:
        """Give the memory back."""
        del self._pages, self._cache, self._parameters, self._weights, self._prefill, self._decode, self._vm

    def _whole_pages(self, tokens: int) -> int:
        """``tokens``, rounded up to whole pages."""
        return -(-tokens // self.page_tokens) * self.page_tokens

    def _to_device(self, array: npt.NDArray[Any]) -> Any:
        try:
            return self._device.view(array)
        except RuntimeError as error:
            raise OutOfMemoryError(
                f"The device has no room for {array.nbytes / 2**20:.0f} MiB more.",
                "Use a smaller model, q4, or the CPU.",
            ) from error


def _check_count(what: str, count: int, most: int) -> None:
    if not 0 < count <= most:
        raise ValueError(f"{count} {what}: at least 1 and at most {most} can be computed at once")


def _find(weights: Mapping[tuple[str, Any], npt.NDArray[Any]], parameter: str) -> npt.NDArray[Any]:
    name, _, part = parameter.rpartition(".")
    try:
        return weights[name, part]
    except KeyError:
        raise CompileError(
            f"The compiled model wants the weight {parameter}, which the converted weights lack.",
            "Delete the cache folder (hybridllm doctor names it); both are made again.",
        ) from None
