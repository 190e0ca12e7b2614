"""What the scheduler asks the engine to do next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from local_runtime.errors import OutOfMemoryError
    from local_runtime.sequence import Sequence

__all__ = ["DecodeStep", "EvictStep", "ForkStep", "PrefillStep", "SlideStep", "Step"]


@dataclass(frozen=True, slots=True)
class ForkStep:
    """Start a sequence with the first tokens of another one; if the runner knows it already, it is ended first.

    Attributes:
        sequence: Nothing of it was computed yet.
        source: The other one's number in the runner.
        tokens: How many tokens to take.
    """

    sequence: Sequence
    source: int
    tokens: int


@dataclass(frozen=True, slots=True)
class PrefillStep:
    """Compute ``sequence.tokens[start:end]``; with ``start == 0`` the runner does not know the sequence yet."""

    sequence: Sequence
    start: int
    end: int

    @property
    def is_last(self) -> bool:
        """True if the next token can be drawn after this chunk."""
        return self.end == len(self.sequence.tokens)


@dataclass(frozen=True, slots=True)
class DecodeStep:
    """Feed the newest token of each sequence, in this order.

    Attributes:
        sequences: Who gets a token.
        chunk: A chunk of a prompt to compute in the same step.
    """

    sequences: tuple[Sequence, ...]
    chunk: PrefillStep | None = None


@dataclass(frozen=True, slots=True)
class EvictStep:
    """Free what the runner holds for a sequence.

    Attributes:
        sequence: Waits again, and its tokens are kept; or, with an error, it has to be ended and removed.
        error: Why it cannot go on.
        kept: What the runner holds under its number belongs to the prefix cache now: it is not to be freed, and the sequence needs
            a new number.
    """

    sequence: Sequence
    error: OutOfMemoryError | None = None
    kept: bool = False


@dataclass(frozen=True, slots=True)
class SlideStep:
    """Let the runner forget the first tokens that it holds of a sequence: nothing that is computed from here on sees them.

    Attributes:
        sequence: Which one.
        tokens: How many, in whole pages.
    """

    sequence: Sequence
    tokens: int


Step: TypeAlias = ForkStep | PrefillStep | DecodeStep | EvictStep | SlideStep
