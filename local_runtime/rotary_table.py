"""Where sequences are that have lost their beginning: what a processor's rotary embedding adds to the places in the cache.

TVM's runtime numbers a sequence's tokens by their places in the cache, from 0 on. A sequence that has let go of its first tokens
(:mod:`local_runtime.page_move`) goes on at a nearer place than its position is, while its keys are rotated by their positions. The
runtime hands the kernel one tensor as it was when the cache was made, meant for frequencies; ours is longer. What follows the
frequencies is written before each step, for each of its tokens: how many tokens its sequence has lost.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import tvm_ffi

from local_runtime.kernels.limits import ROTARY_TABLE_FUNCTION

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LostTokens"]

_ALIGNED_FLOATS = 16
"""Compiled code takes tensors that begin at a multiple of 64 bytes."""

_here = threading.local()


def _make(inverse_frequencies: Any, rows: Any) -> Any:
    """What a cache calls when it is made: a tensor of the frequencies and as many zeros as a step may have tokens."""
    frequencies = np.from_dlpack(inverse_frequencies)
    size = len(frequencies) + int(rows[0])
    memory = np.zeros(size + _ALIGNED_FLOATS, np.float32)
    start = -(memory.ctypes.data // memory.itemsize) % _ALIGNED_FLOATS
    table = memory[start : start + size]
    table[: len(frequencies)] = frequencies
    _here.lost = table[len(frequencies) :]
    return tvm_ffi.from_dlpack(table)


tvm_ffi.register_global_func(ROTARY_TABLE_FUNCTION, _make, override=True)


class LostTokens:
    """How many first tokens each sequence of a cache has lost.

    Args:
        told: Whether the kernel can be told: on a processor. The cache has just been made then, in this thread.

    Attributes:
        can_be_told: The same.
    """

    def __init__(self, *, told: bool) -> None:
        self.can_be_told = told
        self._rows: npt.NDArray[np.float32] = _here.__dict__.pop("lost") if told else np.empty(0, np.float32)
        self._lost: dict[int, int] = {}
        self._told = False

    def add(self, sequence_id: int, tokens: int) -> None:
        """A sequence has lost so many more."""
        self._lost[sequence_id] = self._lost.get(sequence_id, 0) + tokens

    def inherit(self, sequence_id: int, parent_id: int) -> None:
        """A sequence begins as another one does."""
        if parent_id in self._lost:
            self._lost[sequence_id] = self._lost[parent_id]

    def forget(self, sequence_id: int) -> None:
        """There is no such sequence any more."""
        self._lost.pop(sequence_id, None)

    def tell(self, sequence_ids: Sequence[int], new_tokens: Sequence[int]) -> None:
        """Tell the kernel of the next step: so many new tokens of each of these sequences, one after another."""
        if self._lost:
            lost = [self._lost.get(sequence_id, 0) for sequence_id in sequence_ids]
            self._rows[: sum(new_tokens)] = np.repeat(lost, new_tokens)  # whole numbers up to 2**24 are exact
            self._told = True
        elif self._told:  # the next steps are told nothing, so nothing may be left for them
            self._rows[:] = 0
            self._told = False
