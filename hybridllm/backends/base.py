"""The seam between the router and a place that answers: a request goes in, events come out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from local_runtime.content import CONTENT, hides_content
from local_runtime.events import ToolCallDelta
from policies import Limits, Retries

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from hybridllm.health import BreakerState
    from hybridllm.permits import Permit
    from hybridllm.types.chat_request import ChatRequest
    from hybridllm.types.completion_usage import CompletionUsage
    from hybridllm.types.logprobs import TokenLogprob

__all__ = [
    "Backend",
    "BackendCall",
    "BackendEvent",
    "Burst",
    "ContentDelta",
    "FinishReason",
    "Finished",
    "Ledger",
    "ToolCallDelta",
]

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
"""Why an answer ended."""


@hides_content
@dataclass(frozen=True, slots=True)
class ContentDelta:
    """A piece of the answer."""

    text: str = field(default="", metadata=CONTENT)
    """Text to append to the answer."""

    refusal: str = field(default="", metadata=CONTENT)
    """Text to append to the refusal."""

    tokens: int = 1
    """Tokens that this piece is made of, as far as the place says so."""

    reasoning: str = field(default="", metadata=CONTENT)
    """Text to append to what the model thinks; it comes before ``text``."""

    tool_calls: Sequence[ToolCallDelta] = field(default=(), metadata=CONTENT)
    """Pieces of calls of tools; they come after ``text``. The first piece of a call has its id and its name, and calls are begun in
    the order of their ``index``, from 0."""

    logprobs: Sequence[TokenLogprob] = field(default=(), metadata=CONTENT)
    """Log probabilities of this piece's tokens, where the request asks for them."""

    choice: int = 0
    """Which of the request's ``n`` answers this is a piece of, from 0."""

    @property
    def is_thought(self) -> bool:
        """Whether it has something that the model thinks, and nothing of its answer."""
        return bool(self.reasoning) and not (self.text or self.refusal or self.tool_calls)

    @property
    def is_plain_text(self) -> bool:
        """Whether it is text and nothing else."""
        return bool(self.text) and not (self.refusal or self.reasoning or self.tool_calls or self.logprobs)


@hides_content
@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is whole, with all of its choices. Always the last event: a stream that ends without it was cut."""

    reason: FinishReason
    """Why it ended; of several answers, the first one."""

    usage: CompletionUsage | None = None
    """Token counts, where the place gives them."""

    model: str | None = None
    """The model that answered, where the place names it."""

    begun_tokens: int = 0
    """Tokens of ``BackendCall.begun``, which the usage counts with the prompt; 0 where the place does not say."""

    queue_s: float | None = None
    """Seconds that the request waited for others before it was begun, where the place says so."""

    reasons: tuple[FinishReason, ...] = ()
    """Why each of several answers ended, in the order of their ``choice``; empty where there is only one."""

    prompt_logprobs: Sequence[TokenLogprob] | None = field(default=None, metadata=CONTENT)
    """Log probabilities of every token of the prompt but the first, where the request asks for them and the place tells them."""


@hides_content
@dataclass(frozen=True, slots=True)
class Burst:
    """Pieces that came at once. It means the same as if they were yielded one by one, and costs less."""

    pieces: tuple[ContentDelta, ...] = field(metadata=CONTENT)
    """The pieces in their order, at least one."""


BackendEvent = ContentDelta | Burst | Finished
"""What a backend yields."""


@dataclass(slots=True)
class Ledger:
    """What an attempt cost so far; the backend writes it, the route shows it."""

    tries: int = 0
    """How often the place was asked."""

    egress_bytes: int = 0
    """Bytes of request bodies that left the device."""


@dataclass(frozen=True, slots=True)
class BackendCall:
    """One attempt at one place."""

    request: ChatRequest = field(repr=False)
    """What is asked."""

    request_id: str
    """Name of the request, the same for all its attempts."""

    deadline_s: float | None = None
    """When it must be over, on the clock of ``time.monotonic``; None for no limit."""

    ledger: Ledger = field(default_factory=Ledger)
    """Where to write what it cost."""

    others_left: bool = False
    """Whether somebody else is asked if this attempt fails; then waiting for a dead connection helps nobody."""

    authorize: Callable[[bytes], Permit] | None = None
    """Mints the permit for exactly these bytes, anew for every try; None at a place on the device."""

    begun: str = field(default="", repr=False)
    """The text that another place has said already and a consumer has; only a place that ``continues`` is given some. The answer goes
    on right after its last character, and what is yielded does not repeat it."""

    whole: bool = False
    """Whether nothing is given out before the answer is whole, so that an attempt may fail at any moment without a loss."""

    limits: Limits = field(default_factory=Limits)
    """How long a remote may take."""

    retries: Retries = field(default_factory=Retries)
    """What is repeated at a remote."""

    conversation: str = ""
    """Name of the conversation or user that the request belongs to, for a fair queue; it says nothing about them."""


class Backend(ABC):
    """A place that answers chat requests. Subclass it to bring your own; only ``stream`` must be written."""

    @property
    def model(self) -> str:
        """Name of the model, as it appears in the answer."""
        return type(self).__name__

    @property
    def capabilities(self) -> frozenset[str]:
        """What it can do beyond plain text chat."""
        return frozenset()

    @property
    def context_tokens(self) -> int | None:
        """Tokens that prompt and answer may have together; None if unknown."""
        return None

    @property
    def ready(self) -> bool:
        """Whether it can answer without being started first."""
        return True

    @property
    def breaker(self) -> BreakerState | None:
        """State of its breaker; None for a place without one."""
        return None

    @property
    def continues(self) -> bool:
        """Whether it can go on with an answer that another place has begun."""
        return False

    @property
    def queue_s(self) -> float | None:
        """Seconds that a request which came now would wait for others, about; None where nobody knows."""
        return None

    async def start(self) -> None:
        """Make ready to answer; called before every attempt, so it must be quick when there is nothing to do."""
        return

    @abstractmethod
    def stream(self, call: BackendCall) -> AsyncGenerator[BackendEvent, None]:
        """Answer a request; write it as an async generator.

        Yields ``ContentDelta`` pieces and, last, exactly one ``Finished``: of several answers (``n``), the pieces may come in any
        order, each with its ``choice``. Only a place whose ``capabilities`` say so is asked for more than one answer in plain text.
        Raises an error of ``hybridllm.errors`` on failure. Closing the iterator cancels the work and frees what it held.
        """

    async def count_prompt_tokens(self, request: ChatRequest) -> int | None:
        """Exact number of tokens of the rendered prompt; None where only the place itself could tell."""
        return None

    async def aclose(self) -> None:
        """Give everything back; afterwards nothing can be asked any more."""
        return
