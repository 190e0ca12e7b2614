"""Lets a sequence go of its first tokens, which no layer sees any more: what is left of it moves to the beginning.

TVM's runtime frees pages from a sequence's end only, and only those that nobody shares. So the sequence is ended and begun again
with the tokens that are to stay. Its new pages may be any of its old ones, in any order; what those held is still there, for nobody
has written to them in between, and is copied over, one layer's keys or values of one head at a time. It stays what it was to the
last bit: keys remain rotated by the positions that their tokens had, and :mod:`local_runtime.rotary_table` lets later tokens go on
from there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["move_pages"]


def move_pages(layers: Sequence[npt.NDArray[Any]], sources: Sequence[int], targets: Sequence[int]) -> None:
    """Copy pages of a processor's cache to others, which may be among them.

    Args:
        layers: For each layer all pages, ``[pages, 2, kv heads, page tokens, head_dim]``.
        sources: Numbers of the pages to copy.
        targets: Where to, in the same order.
    """
    came, goes = np.asarray(sources, np.intp), np.asarray(targets, np.intp)
    for pages in layers:
        for part in range(pages.shape[1]):
            for head in range(pages.shape[2]):
                # Indexing by a list copies, so a page may be written to that is yet to be read in its old place.
                pages[goes, part, head] = pages[came, part, head]
