"""Whether the memory that a sequence is going to touch is really there.

The cache's pages are reserved when a model is loaded, but an operating system hands memory out when it is first written to. TVM takes
the page that was freed last, so pages that were in use once are in memory, and all others are not: what a step takes anew is what
goes beyond the most pages that were ever in use together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from local_runtime.errors import OutOfMemoryError

if TYPE_CHECKING:
    from local_runtime.memory import Headroom

__all__ = ["OUT_OF_MEMORY_WORDS", "Admission"]

_MIB = 1 << 20

OUT_OF_MEMORY_WORDS = ("out of memory", "out_of_memory", "bad_alloc", "cannot allocate", "memoryerror")
"""How allocators say that there is no memory; TVM and LLVM pass their words on in errors of their own."""

_SPARE_BYTES = 8 * _MIB
"""What must be left beyond a new sequence's own needs."""

_STEP_SPARE_BYTES = 2 * _MIB
"""The same for a step of a sequence that was admitted: it is not given up before it must be."""


class Admission:
    """Weighs what is to come against what is left.

    Args:
        headroom: What is left.
        page_bytes: Keys and values of one page in all layers.
        workspace_bytes: What the steps themselves take once, beside the cache.
        chunk_tokens: The length of a step that has touched all of the workspace.
    """

    def __init__(self, headroom: Headroom, *, page_bytes: int, workspace_bytes: int, chunk_tokens: int) -> None:
        self.headroom = headroom
        self._page_bytes = page_bytes
        self._workspace_bytes = workspace_bytes
        self._chunk_tokens = chunk_tokens
        self._touched_pages = 0
        self._touched_tokens = 0

    def shortage(self, pages: int) -> OutOfMemoryError | None:
        """What to tell if there is no memory for so many pages in all, those in use among them; None if there is."""
        needed_bytes = self._new_bytes(pages, self._chunk_tokens)
        if needed_bytes == 0 or self.headroom.covers(needed_bytes + _SPARE_BYTES):
            return None
        return OutOfMemoryError(
            f"The prompt and its answer need {needed_bytes / _MIB:.0f} MiB more for keys and values and {_SPARE_BYTES // _MIB} in "
            f"reserve, but {self.headroom.mib():.0f} MiB can be taken.",
            "Ask for fewer max_tokens or with a shorter prompt, close other programs, or load the model with a smaller "
            "context_tokens or fewer max_sequences.",
        )

    def require_step(self, pages: int, tokens: int) -> None:
        """Check that a step can be computed, and count what it touches.

        Args:
            pages: Pages in use with this step.
            tokens: Tokens that the step computes.

        Raises:
            OutOfMemoryError: The memory is gone; computing it could get the process killed.
        """
        needed_bytes = self._new_bytes(pages, tokens)
        if needed_bytes:
            if not self.headroom.covers(needed_bytes + _STEP_SPARE_BYTES):
                raise OutOfMemoryError(
                    f"Another program has taken the memory that the next tokens need: {needed_bytes / _MIB:.0f} MiB, "
                    f"but {self.headroom.mib():.0f} MiB can be taken.",
                    "Close other programs, or load the model with a smaller context_tokens or fewer max_sequences.",
                )
            self.headroom.take(needed_bytes)
        self._touched_pages = max(self._touched_pages, pages)
        self._touched_tokens = max(self._touched_tokens, min(tokens, self._chunk_tokens))

    def _new_bytes(self, pages: int, tokens: int) -> int:
        new_pages = max(0, pages - self._touched_pages)
        new_tokens = max(0, min(tokens, self._chunk_tokens) - self._touched_tokens)
        return new_pages * self._page_bytes + self._workspace_bytes * new_tokens // self._chunk_tokens
