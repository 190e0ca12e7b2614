"""Keeps what TVM holds for logits within a bound.

TVM's virtual machine gives no buffer back: it keeps each for the next one of exactly its size. The logits of a step are a buffer of
their own, so every number of rows that ever was computed would leave one behind, and all of them from 1 to 64 come to 2,080 rows.
"""

from __future__ import annotations

import ctypes
import sys
from typing import TYPE_CHECKING, Any

import tvm_ffi

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LogitsMemory"]


class LogitsMemory:
    """The buffers of logits that TVM keeps.

    Args:
        most_rows: The most rows in all of them together.
        on_host: Whether they are in this machine's memory.
    """

    def __init__(self, most_rows: int, *, on_host: bool) -> None:
        self._most_rows = most_rows
        self._kept: set[int] = set()
        self._clear: Callable[[], None] = tvm_ffi.get_global_func("vm.builtin.memory_manager.clear")
        self._trim = _trim() if on_host else None

    def reserve(self, rows: int) -> None:
        """Note that a step is going to compute so many rows, and let go of all buffers that nobody uses if these are too many.

        A tensor that is alive keeps its buffer. The buffers of activations go too; the next steps take them anew, which costs
        a few milliseconds at most.
        """
        if rows in self._kept:
            return
        if self._kept and sum(self._kept) + rows > self._most_rows:
            self._clear()
            if self._trim is not None:
                self._trim(0)
            self._kept.clear()
        self._kept.add(rows)


def _trim() -> Any:
    """glibc's function that gives free memory back to the system, which otherwise stays in pieces where no larger buffer fits."""
    if sys.platform != "linux":
        return None
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    return trim
