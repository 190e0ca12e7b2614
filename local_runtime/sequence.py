"""One sequence of tokens on its way through the engine: its tokens, how many of them the cache holds, its pages."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from local_runtime.content import CONTENT, hides_content

__all__ = ["Sequence", "SequenceState"]


class SequenceState(enum.Enum):
    """Where a sequence stands."""

    WAITING = "waiting"
    PREFILLING = "prefilling"
    RUNNING = "running"
    DONE = "done"


@hides_content
@dataclass(eq=False, slots=True)
class Sequence:
    """The tokens of one request.

    The cache holds the keys and values of ``tokens[dropped:cached]``. What is not cached yet is prefilled in chunks; once only
    the newest token is missing, the sequence is decoded. Where a grammar leaves no choice, several tokens come at once, and are fed
    one after the other, or together while nobody else runs, before the next draw. A sequence that loses its pages starts again with
    ``cached = 0`` and prefills its prompt together with the tokens generated so far, so nothing of the answer is lost; of
    these it takes from others, or from what was kept of itself, what it finds.

    Attributes:
        sequence_id: The runner's name for it; unique as long as the engine lives. It gets another one when the prefix cache keeps
            what it has computed, and the runner knows that under the old one.
        tokens: The prompt, then what was generated.
        prompt_tokens: How many of ``tokens`` are the prompt.
        max_tokens: The most tokens to generate, at least 1.
        cached: How many of ``tokens`` were computed, and not lost since.
        dropped: How many of these, from the first on, the cache has let go of, for no further token sees them.
        state: Where it stands; only the scheduler changes it.
        reserved_pages: Pages that the scheduler keeps for it.
        alone: Never decode it in one batch with others (it was in a batch that failed).
        conversation: Whose it is; conversations that wait take turns. Sequences without a name share one turn.
        open_ended: Nobody said how long the answer may become: pages for ``max_tokens`` are not reserved all at once.
        overtaken: How often another one was admitted before it because that one was smaller; only the queue counts.
        admission: The how many-th admission was its own; only the scheduler counts.
        admitted_at_s: When it was first admitted, by the scheduler's clock.
        chunk_tokens: The most tokens in one prefill step of it; None leaves that to the scheduler.
        no_prefix: Take nothing from the prefix cache: the logits after each token of its prompt are wanted, or a fork has failed.
        prefix_tokens: How many of its first tokens were taken from another sequence since it was admitted.
        reused_tokens: The same before its very first prefill step; None until then.
    """

    sequence_id: int
    tokens: list[int] = field(metadata=CONTENT)
    max_tokens: int
    prompt_tokens: int = field(init=False)
    cached: int = 0
    dropped: int = 0
    state: SequenceState = SequenceState.WAITING
    reserved_pages: int = 0
    alone: bool = False
    conversation: str = field(default="", metadata=CONTENT)
    open_ended: bool = False
    overtaken: int = 0
    admission: int = 0
    admitted_at_s: float | None = None
    chunk_tokens: int | None = None
    no_prefix: bool = False
    prefix_tokens: int = 0
    reused_tokens: int | None = None

    def __post_init__(self) -> None:
        if not self.tokens or self.max_tokens < 1:
            raise ValueError("a sequence needs at least one prompt token and room for one more")
        self.prompt_tokens = len(self.tokens)

    @property
    def missing(self) -> int:
        """How many tokens the cache has not been given yet."""
        return len(self.tokens) - self.cached

    @property
    def next_token(self) -> int:
        """The token that is fed next."""
        return self.tokens[self.cached]

    @property
    def held(self) -> int:
        """How many tokens the key-value cache holds."""
        return self.cached - self.dropped

    @property
    def generated(self) -> int:
        """How many tokens were generated."""
        return len(self.tokens) - self.prompt_tokens

    @property
    def max_total_tokens(self) -> int:
        """The most tokens that this sequence can come to: prompt and answer."""
        return self.prompt_tokens + self.max_tokens
