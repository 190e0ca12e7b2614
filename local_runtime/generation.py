"""One answer while it is made: its tokens, what they come to as text, and when it ends.

Everything that a next token depends on is brought here by :meth:`Generation.take`, and only by it. That is why an answer
that was begun in another worker can be gone on with: its tokens are taken again, and what they come to is not given out.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from local_runtime.events import Finished, TextDelta, Timings, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from local_runtime.detokenizer import IncrementalDetokenizer, StopStrings
    from local_runtime.events import Event, FinishReason
    from local_runtime.healing import Healing
    from local_runtime.sampling import Sampler
    from local_runtime.sequence import Sequence as TokenSequence

__all__ = ["Generation"]


@dataclass(eq=False, slots=True)
class Generation:
    """All that belongs to one request while it is in the engine.

    Attributes:
        request_id: The caller's name for it.
        emit: Takes its events.
        sequence: Its tokens; those that somebody else has begun the answer with count as the prompt there.
        sampler: Draws its tokens.
        detokenizer: Turns them into text.
        stops: Looks for stop strings in that text.
        eos_ids: Tokens that end it.
        prompt_tokens: Tokens of its prompt.
        max_tokens: The most tokens to generate.
        submitted_at: When it came, in seconds of ``time.perf_counter``.
        begun_tokens: How many of the sequence's tokens are an answer that somebody else has begun.
        healing: Limits the next draws to tokens that say the end of that answer again.
        end: Why it has ended; None while it goes on.
        admitted_at: When its first prefill began.
        first_token_at: When its first token was drawn here.
        in_runner: Whether the runner knows the sequence.
    """

    request_id: int
    emit: Callable[[Event], None]
    sequence: TokenSequence
    sampler: Sampler
    detokenizer: IncrementalDetokenizer
    stops: StopStrings
    eos_ids: frozenset[int]
    prompt_tokens: int
    max_tokens: int
    submitted_at: float
    begun_tokens: int = 0
    healing: Healing | None = None
    end: FinishReason | None = None
    admitted_at: float | None = None
    first_token_at: float | None = None
    in_runner: bool = False

    def replay(self, token_ids: Sequence[int]) -> None:
        """Take tokens that were drawn, and whose text was given out, in another worker; afterwards :attr:`end` may be set."""
        self.sampler.continue_after(token_ids, drawn=True)
        for token in token_ids:
            self.take(token)
            if self.end is not None:
                break

    def draw(self, logits: NDArray[np.float32]) -> str:
        """Draw a token from ``logits`` (float32 ``[vocab]``) and take it."""
        healing = self.healing
        allowed = healing.allowed() if healing is not None and healing.open else None
        text = self.take(self.sampler.sample(logits, allowed))
        if self.first_token_at is None:
            self.first_token_at = time.perf_counter()
        return text

    def take(self, token: int) -> str:
        """Take the next token; returns the text to give out.

        With the token that ends the answer, this is all that was held back too: what an event tells of is then always exactly
        what the tokens that it tells of come to.
        """
        sequence = self.sequence
        sequence.tokens.append(token)
        if self.healing is not None and self.healing.open and self.healing.take(token):
            self.begun_tokens += 1
        ended = token in self.eos_ids
        text, stopped = ("", False) if ended else self.stops.push(self.detokenizer.push(token))
        if stopped:
            self.end = "stop"
        elif ended:
            # A model that ends by itself meant its last bytes. Where it is cut off, half a character is not its text.
            text += self._finish("stop", self.detokenizer.flush())
        elif self.completion_tokens == self.max_tokens or sequence.generated == sequence.max_tokens:
            text += self._finish("length", "")
        return text

    def report(self, text: str) -> None:
        """Emit what the newest token came to, and that token, also where it came to nothing yet."""
        self.emit(TextDelta(text, 1, self.sequence.tokens[-1:]))

    def finished(self, reason: FinishReason) -> Finished:
        """The last event of an answer that ended well."""
        usage = Usage(self.prompt_tokens, self.completion_tokens, begun_tokens=self.begun_tokens)
        return Finished(reason, usage, self._timings())

    @property
    def completion_tokens(self) -> int:
        """How many tokens were generated, not counting those that only said again how the answer was begun."""
        return len(self.sequence.tokens) - self.prompt_tokens - self.begun_tokens

    def _finish(self, reason: FinishReason, last: str) -> str:
        """End it; returns what was held back, with ``last`` at its end."""
        text, stopped = self.stops.push(last)
        self.end = "stop" if stopped else reason
        return text if stopped else text + self.stops.flush()

    def _timings(self) -> Timings:
        now = time.perf_counter()
        admitted_at = now if self.admitted_at is None else self.admitted_at
        first_token_at = self.first_token_at
        return Timings(
            queue_s=admitted_at - self.submitted_at,
            prefill_s=(now if first_token_at is None else first_token_at) - admitted_at,
            decode_s=0.0 if first_token_at is None else now - first_token_at,
            ttft_s=0.0 if first_token_at is None else first_token_at - self.submitted_at,
        )
