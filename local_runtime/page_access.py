"""Direct access to the pages of a key-value cache, which TVM's runtime otherwise keeps to itself.

The runtime can export and import pages, but only of a cache that holds one sequence, whose import empties the cache first, and
only where the rotary embedding does not come as data. What it does hand out, page by page, is the cache's memory: to the function
that was given for reading keys and values back. That function is ours, and keeps hold of what it is handed.
"""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import tvm_ffi

from local_runtime.kernels.limits import PAGES_FUNCTION
from local_runtime.page_move import move_pages

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from local_runtime.state_file import StateShape
    from local_runtime.tvm_runtime import Device

__all__ = ["PageAccess"]

_here = threading.local()


def _take(pages: Any, position_map: Any, _keys: Any, _values: Any, _layer: int) -> None:
    """What the runtime calls for each layer with all of the layer's pages and the places of some tokens in them."""
    _here.taken.append((pages, position_map))


tvm_ffi.register_global_func(PAGES_FUNCTION, _take, override=True)


class PageAccess:
    """The pages of one cache, to be read, written and moved whole.

    Args:
        cache: TVM's cache object.
        device: Where it lives.
        shape: How it stores keys and values.
    """

    def __init__(self, cache: Any, device: Device, shape: StateShape) -> None:
        self._cache, self._device, self._shape = cache, device, shape
        self._page_tokens = shape.page_tokens
        self._describe = tvm_ffi.get_global_func("vm.builtin.attention_kv_cache_debug_get_kv")

    def locate(self, sequence_id: int, tokens: int) -> tuple[list[Any], list[int]]:
        """Where a sequence's first tokens are: each layer's memory, and the numbers of their pages.

        Args:
            sequence_id: A sequence with at least so many tokens.
            tokens: How many, at least 1.
        """
        _, heads, _, head_dim = self._shape.page
        # The runtime checks the shape of a place to write to, and nobody writes there: it never becomes real memory.
        nowhere = tvm_ffi.from_dlpack(np.empty((self._shape.num_layers, tokens, heads, head_dim), np.float32))
        _here.taken = []
        try:
            self._describe(self._cache, sequence_id, 0, tokens, nowhere, nowhere)
            taken = _here.taken
        finally:
            del _here.taken
        positions = self._device.to_host(taken[0][1])
        return [pages for pages, _ in taken], [
            int(position) // self._page_tokens for position in positions[:: self._page_tokens]
        ]

    def read(self, sequence_id: int, tokens: int) -> Iterator[npt.NDArray[Any]]:
        """The pages of a sequence's first tokens, ``[run of pages, 2, kv heads, page tokens, head_dim]``, in order.

        Layer by layer, and in each as many arrays as there are runs of neighbouring pages. On a CPU each is a view of the cache.
        """
        layers, pages = self.locate(sequence_id, tokens)
        for memory in layers:
            for first, count in _runs(pages):
                yield self._device.read_rows(memory, first, count)

    def write(self, sequence_id: int, layers: Sequence[npt.NDArray[Any]]) -> None:
        """Overwrite the pages of a sequence's first tokens.

        Args:
            sequence_id: A sequence with at least as many tokens.
            layers: For each layer ``[pages, 2, kv heads, page tokens, head_dim]``.
        """
        memories, pages = self.locate(sequence_id, len(layers[0]) * self._page_tokens)
        for memory, values in zip(memories, layers, strict=True):
            start = 0
            for first, count in _runs(pages):
                self._device.write_rows(memory, first, values[start : start + count])
                start += count

    def move(self, layers: Sequence[Any], sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copy pages to others of a processor's cache; see :func:`local_runtime.page_move.move_pages`."""
        move_pages([self._device.to_host(memory) for memory in layers], sources, targets)


def _runs(pages: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Runs of neighbouring pages as (first page, how many)."""
    # Within a run, a page's number and its place differ by the same amount.
    for _, run in itertools.groupby(enumerate(pages), lambda place: place[1] - place[0]):
        numbers = [page for _, page in run]
        yield numbers[0], len(numbers)
