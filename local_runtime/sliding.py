"""How much of a sequence the key-value cache has to hold where every layer sees only the last tokens.

The cache lets go of what is before the window in strides, for that means moving what is in it (:mod:`local_runtime.page_move`):
whenever the tokens of the next step would no longer fit into what the sequence may hold. That is the window, and as much as the
largest step computes: so a long prompt moves once for each of its chunks, and an answer once for as many tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SlidingWindow", "sliding_window", "window_of_all_layers"]


@dataclass(frozen=True, slots=True)
class SlidingWindow:
    """What one sequence holds.

    Attributes:
        window_tokens: Tokens that a token sees, its own among them.
        chunk_tokens: The most tokens of one step.
        page_tokens: Tokens in a page.
    """

    window_tokens: int
    chunk_tokens: int
    page_tokens: int

    @property
    def most_tokens(self) -> int:
        """The most tokens that a sequence ever holds, in whole pages."""
        least = self.window_tokens + self.page_tokens - 1  # what is left where whole pages were let go of
        return -(-(least + self.chunk_tokens) // self.page_tokens) * self.page_tokens

    def unseen(self, held_tokens: int) -> int:
        """How many of a sequence's first tokens no further token sees, in whole pages."""
        return max(0, held_tokens - self.window_tokens) // self.page_tokens * self.page_tokens


def window_of_all_layers(config: Mapping[str, Any]) -> int | None:
    """The window that every layer has, in tokens; None where a token may have to be kept for ever.

    Args:
        config: A model's configuration, as `ModelConfig.to_dict` gives it.
    """
    window: int | None = config["sliding_window"] if len(config["windowed_layers"]) == config["num_layers"] else None
    return window


def sliding_window(
    config: Mapping[str, Any], chunk_tokens: int, page_tokens: int, room_tokens: int
) -> SlidingWindow | None:
    """What a sequence of a model holds; None where it holds all of its tokens.

    Args:
        config: The model's configuration, as `ModelConfig.to_dict` gives it.
        chunk_tokens: The most tokens of one step.
        page_tokens: Tokens in a page.
        room_tokens: The most tokens that a sequence can come to hold; where letting go would begin beyond that, it never begins.
    """
    window_tokens = window_of_all_layers(config)
    if window_tokens is None:
        return None
    window = SlidingWindow(window_tokens, chunk_tokens, page_tokens)
    return window if window.most_tokens <= room_tokens else None
