"""One answer while it is made: its tokens, what they come to as text, and when it ends.

Everything that a next token depends on is brought here by :meth:`Generation.take`, and only by it. That is why an answer
that was begun in another worker can be gone on with: its tokens are taken again, and what they come to is not given out.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from local_runtime.content import CONTENT, hides_content
from local_runtime.events import Finished, TextDelta, Timings, Usage
from local_runtime.sampling import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from local_runtime.detokenizer import IncrementalDetokenizer, StopStrings
    from local_runtime.events import Event, FinishReason, TokenLogprob, ToolCallDelta
    from local_runtime.healing import Healing
    from local_runtime.logprobs import Logprobs, PromptLogprobs
    from local_runtime.sampling import Sampler
    from local_runtime.sequence import Sequence as TokenSequence
    from local_runtime.speculation import Speculation

__all__ = ["AnswerParser", "AnswerPieces", "Constraint", "Generation"]


class Constraint(Protocol):
    """What the tokens of one answer may be, such as a grammar.

    It is told of every token of the answer by :meth:`take`: those that somebody else has begun it with first.
    """

    def mask(self, logits: NDArray[np.float32]) -> None:
        """Set the logits of tokens that may not come now to ``-inf``, in place; float32 ``[vocab]``.

        The tokens that end an answer are among them unless it may end here.
        """

    def take(self, token: int) -> None:
        """Note that a token has come; one that ends the answer as well."""

    def is_complete(self) -> bool:
        """Whether nothing may follow any more: the answer ends with the token that was taken last."""

    def may_end(self) -> bool:
        """Whether what has come so far is an answer as it should be."""

    def forced(self) -> Sequence[int]:
        """Tokens of the text that has to come next, whatever the model says; none where that is not known."""


class AnswerPieces(Protocol):
    """What a piece of a model's text comes to."""

    @property
    def text(self) -> str:
        """Text of the answer."""

    @property
    def reasoning(self) -> str:
        """What the model thinks before it answers."""

    @property
    def tool_calls(self) -> list[ToolCallDelta]:
        """Pieces of calls of tools."""


class AnswerParser(Protocol):
    """Takes a model's text apart into the answer, what the model thinks, and calls of tools.

    Of an answer that somebody else has begun (``GenerateRequest.answer_begun``) it is given only what follows; where that begins
    is for its maker to know. It keeps nothing back of that text.
    """

    @property
    def visible_ids(self) -> frozenset[int]:
        """Special tokens that are given to :meth:`push` by name; others give no text."""

    @property
    def has_calls(self) -> bool:
        """Whether a call of a tool has begun."""

    @property
    def is_complete(self) -> bool:
        """Whether nothing may follow any more, such as a second call where one is allowed."""

    def push(self, text: str) -> AnswerPieces:
        """Take the next piece of text, whole characters, wherever it is cut."""

    def finish(self) -> AnswerPieces:
        """End of the text: what was held back."""


@hides_content
@dataclass(slots=True)
class _Said:
    """What the tokens came to that were not reported yet."""

    text: str = field(default="", metadata=CONTENT)
    reasoning: str = field(default="", metadata=CONTENT)
    tool_calls: list[ToolCallDelta] = field(default_factory=list, metadata=CONTENT)
    logprobs: list[TokenLogprob] = field(default_factory=list, metadata=CONTENT)


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
        eos_ids: Tokens that end it by the model's own will.
        stop_ids: Tokens that end it because the request says so.
        prompt_tokens: Tokens of its prompt.
        max_tokens: The most tokens to generate.
        min_tokens: Nothing but ``max_tokens``, or a constraint that allows nothing more, ends it before it has so many.
        submitted_at: When it came, in seconds of ``time.perf_counter``.
        begun_tokens: How many of the sequence's tokens are an answer that somebody else has begun.
        healing: Limits the next draws to tokens that say the end of that answer again.
        constraint: Limits all draws. Text that it leaves no choice about is taken without a draw, as the tokens that the model's
            tokenizer makes of it.
        parser: Takes the text apart; None where all of it is the answer.
        logprobs: Tells the log probabilities of its tokens, if they were asked for.
        prompt_logprobs: Collects those of the prompt, if they were asked for.
        speculation: Guesses its next tokens; None where that isn't done.
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
    stop_ids: frozenset[int]
    prompt_tokens: int
    max_tokens: int
    submitted_at: float
    min_tokens: int = 0
    begun_tokens: int = 0
    healing: Healing | None = None
    constraint: Constraint | None = None
    parser: AnswerParser | None = None
    logprobs: Logprobs | None = None
    prompt_logprobs: PromptLogprobs | None = None
    speculation: Speculation | None = None
    end: FinishReason | None = None
    admitted_at: float | None = None
    first_token_at: float | None = None
    in_runner: bool = False
    _said: _Said = field(default_factory=_Said)
    _reported: int = field(init=False)

    def __post_init__(self) -> None:
        self._reported = len(self.sequence.tokens)

    def replay(self, token_ids: Sequence[int]) -> None:
        """Take tokens that were drawn, and whose text was given out, in another worker; afterwards :attr:`end` may be set."""
        self.sampler.continue_after(token_ids, drawn=True)
        for token in token_ids:
            self.take(token)
            if self.end is not None:
                break
        self._forget_unreported()

    def draw(self, logits: NDArray[np.float32]) -> int:
        """Draw a token from ``logits`` (float32 ``[vocab]``) and take it; returns it."""
        token = self.sampler.sample(logits, self._limits())
        self._take_drawn(token, logits)
        return token

    def draw_if_clear(self, logits: NDArray[np.float32], lead: float) -> int | None:
        """Draw and take the most likely token if no other one's logit comes nearer to its own than ``lead``; else None.

        Only where draws are greedy: it is then what :meth:`draw` does with any logits that differ from these by less than half of
        the lead.
        """
        token = self.sampler.clearly_best(logits, lead, self._limits())
        if token is not None:
            self._take_drawn(token, logits)
        return token

    def take(self, token: int) -> None:
        """Take the next token, whose text then waits to be reported; :attr:`end` says whether it was the last.

        With the token that ends the answer, this is all that was held back too: what an event tells of is then always exactly
        what the tokens that it tells of come to.
        """
        sequence = self.sequence
        sequence.tokens.append(token)
        if self.healing is not None and self.healing.open and self.healing.take(token):
            self.begun_tokens += 1
        if self.constraint is not None:
            self.constraint.take(token)
        ended = token in self.eos_ids or token in self.stop_ids
        if not ended:
            self._say(self.detokenizer.push(token))
            if self.end is not None:
                return
        if ended or self._nothing_may_follow():
            # A model that ends by itself meant its last bytes. Where it is cut off, half a character is not its text.
            self._finish("stop", self.detokenizer.flush())
        elif self.completion_tokens == self.max_tokens or sequence.generated == sequence.max_tokens:
            self._finish("length", "")

    def report(self) -> None:
        """Emit what the newest tokens came to, and these tokens, also where they came to nothing yet."""
        tokens = self.sequence.tokens[self._reported :]
        said = self._said
        self._forget_unreported()
        self.emit(TextDelta(said.text, len(tokens), tokens, said.reasoning, said.tool_calls, said.logprobs))

    def finished(self, reason: FinishReason) -> Finished:
        """The last event of an answer that ended well."""
        cached_tokens = min(self.sequence.reused_tokens or 0, self.prompt_tokens)
        usage = Usage(self.prompt_tokens, self.completion_tokens, cached_tokens, self.begun_tokens)
        of_prompt = [] if self.prompt_logprobs is None else self.prompt_logprobs.entries
        return Finished(reason, usage, self._timings(), of_prompt)

    @property
    def completion_tokens(self) -> int:
        """How many tokens were generated, not counting those that only said again how the answer was begun."""
        return len(self.sequence.tokens) - self.prompt_tokens - self.begun_tokens

    def _limits(self) -> Limits | None:
        """What limits the next draw; None if nothing does."""
        healing, constraint = self.healing, self.constraint
        allowed = healing.allowed() if healing is not None and healing.open else None
        forbidden: frozenset[int] | None = None
        if self.min_tokens and self.completion_tokens < self.min_tokens:
            forbidden = self.eos_ids | self.stop_ids
        elif constraint is not None and self.stop_ids and not constraint.may_end():
            forbidden = self.stop_ids  # to the constraint, these are text
        if allowed is None and forbidden is None and constraint is None:
            return None
        return Limits(allowed, forbidden, None if constraint is None else constraint.mask)

    def _take_drawn(self, token: int, logits: NDArray[np.float32]) -> None:
        if self.logprobs is not None:
            self._said.logprobs.append(self.logprobs.of(logits, token))
        self.take(token)
        if self.first_token_at is None:
            self.first_token_at = time.perf_counter()
        self._take_forced()

    def _take_forced(self) -> None:
        """Take the tokens of what has to come next. Each uses up what a draw would have, so that a replay need not know of them."""
        constraint = self.constraint
        if constraint is None or self.end is not None or not self._may_be_forced:
            return
        for token in constraint.forced():
            if token in self.eos_ids or token in self.stop_ids:
                return
            self.sampler.continue_after((token,), drawn=True)
            self.take(token)
            if self.end is not None:
                return

    @property
    def _may_be_forced(self) -> bool:
        """Whether nobody wants to know what the model thought of a token, and nobody else has a say in which tokens come."""
        return self.logprobs is None and not self.sampler.is_biased and (self.healing is None or not self.healing.open)

    def _nothing_may_follow(self) -> bool:
        constraint, parser = self.constraint, self.parser
        return (constraint is not None and constraint.is_complete()) or (parser is not None and parser.is_complete)

    def _say(self, text: str) -> None:
        """Let a piece of the model's text wait to be reported; ends the answer if it completes a stop string."""
        if self.parser is None:
            self._show(text)
        else:
            self._show_pieces(self.parser.push(text))

    def _show_pieces(self, pieces: AnswerPieces) -> None:
        self._said.reasoning += pieces.reasoning
        self._show(pieces.text)
        if self.end is None:
            self._said.tool_calls += pieces.tool_calls

    def _show(self, text: str) -> None:
        if self.completion_tokens < self.min_tokens:  # what a stop string does not end is not searched for one
            self._said.text += text
            return
        shown, stopped = self.stops.push(text)
        self._said.text += shown
        if stopped:
            self._end_as("stop")

    def _finish(self, reason: FinishReason, last: str) -> None:
        """End it, with ``last`` as the end of the model's text; what was held back is let go."""
        self._say(last)
        if self.end is None and self.parser is not None:
            self._show_pieces(self.parser.finish())
        if self.end is None:
            self._said.text += self.stops.flush()
            self._end_as(reason)

    def _end_as(self, reason: FinishReason) -> None:
        calls_tools = reason == "stop" and self.parser is not None and self.parser.has_calls
        self.end = "tool_calls" if calls_tools else reason

    def _forget_unreported(self) -> None:
        self._said = _Said()
        self._reported = len(self.sequence.tokens)

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
