"""What the engine says back about one request, and about itself.

Standard library only, like :mod:`local_runtime.options`: both sides of the worker's pipe use these.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from local_runtime.content import CONTENT, hides_content

if TYPE_CHECKING:
    from local_runtime.errors import LocalRuntimeError

__all__ = [
    "EngineState",
    "EngineStats",
    "Event",
    "Failed",
    "FinishReason",
    "Finished",
    "LikelyToken",
    "StateKept",
    "TextDelta",
    "Timings",
    "TokenLogprob",
    "ToolCallDelta",
    "Usage",
]

FinishReason = Literal["stop", "length", "tool_calls", "cancelled"]
EngineState = Literal["stopped", "loading", "ready", "restarting", "failed"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer.

    Attributes:
        prompt_tokens: Tokens of the prompt, the chat template's own included.
        completion_tokens: Tokens that were generated, an end-of-sequence token included.
        cached_tokens: Prompt tokens whose keys and values were already there and needed no prefill.
        begun_tokens: Tokens of ``answer_begun``, which are neither prompt nor generated.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    begun_tokens: int = 0


@dataclass(frozen=True, slots=True)
class StateKept:
    """A saved state that was written or read.

    Attributes:
        tokens: Tokens whose keys and values it is.
        file_bytes: Size of the file.
        took_s: Seconds that it took, what had to be computed first included.
    """

    tokens: int
    file_bytes: int
    took_s: float


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time of one answer went, in seconds.

    Attributes:
        queue_s: From the arrival in the engine until the first prefill began; includes tokenising the prompt.
        prefill_s: From the beginning of the prefill to the first token.
        decode_s: From the first token to the end.
        ttft_s: From the arrival in the engine to the first token; 0 if there was none.
    """

    queue_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    ttft_s: float = 0.0


@hides_content
@dataclass(frozen=True, slots=True)
class LikelyToken:
    """A token that could have come at a place.

    Attributes:
        token: What it comes to as text; bytes that are no UTF-8 alone become U+FFFD.
        id: Its id.
        logprob: Natural logarithm of its probability under the model's own distribution: before temperature, penalties and
            truncation.
        bytes: What it stands for.
    """

    token: str = field(metadata=CONTENT)
    id: int = field(metadata=CONTENT)
    logprob: float
    bytes: list[int] = field(default_factory=list, metadata=CONTENT)


@hides_content
@dataclass(frozen=True, slots=True)
class TokenLogprob(LikelyToken):
    """A token that did come, and the likeliest ones at its place.

    Attributes:
        top: The likeliest tokens, likeliest first; as many as were asked for.
    """

    top: list[LikelyToken] = field(default_factory=list, metadata=CONTENT)


@hides_content
@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A further piece of a call of a tool.

    Attributes:
        index: Which call of the answer, from 0.
        id: Name of the call; in its first piece only.
        name: The tool's name; in its first piece only.
        arguments: Text to append to the arguments, which are a JSON object when the call is whole.
    """

    index: int
    id: str = field(default="", metadata=CONTENT)
    name: str = field(default="", metadata=CONTENT)
    arguments: str = field(default="", metadata=CONTENT)


@hides_content
@dataclass(frozen=True, slots=True)
class TextDelta:
    """A further piece of the answer.

    Attributes:
        text: The text; whole characters only. Empty where a token gave none yet: half a character, or what may turn out to
            be a stop string.
        tokens: How many tokens were generated since the last delta.
        ids: These tokens. The text of all deltas so far is what all their tokens so far come to, so that another engine
            with the same model can go on exactly here (``GenerateRequest.answer_begun_ids``).
        reasoning: Text to append to what the model thinks before it answers.
        tool_calls: Pieces of calls of tools.
        logprobs: Of each of these tokens, if they were asked for.
    """

    text: str = field(metadata=CONTENT)
    tokens: int
    ids: list[int] = field(default_factory=list, metadata=CONTENT)
    reasoning: str = field(default="", metadata=CONTENT)
    tool_calls: list[ToolCallDelta] = field(default_factory=list, metadata=CONTENT)
    logprobs: list[TokenLogprob] = field(default_factory=list, metadata=CONTENT)


@hides_content
@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of an answer that ended well.

    Attributes:
        reason: ``"stop"`` (end-of-sequence token, stop string or stop token), ``"tool_calls"`` (the same, and the answer calls
            tools), ``"length"`` (max_tokens or the end of the context) or ``"cancelled"``.
        usage: Tokens of the prompt and the answer.
        timings: Where the time went.
        prompt_logprobs: Of every token of the prompt but the first, if they were asked for.
    """

    reason: FinishReason
    usage: Usage = field(default_factory=Usage)
    timings: Timings = field(default_factory=Timings)
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list, metadata=CONTENT)


@dataclass(frozen=True, slots=True)
class Failed:
    """The last event of an answer that ended badly.

    Attributes:
        error: What went wrong; carries a stable ``code``.
    """

    error: LocalRuntimeError


Event: TypeAlias = "TextDelta | Finished | Failed"


@dataclass(frozen=True, slots=True)
class EngineStats:
    """The engine at one moment.

    Attributes:
        state: ``"stopped"`` (no worker), ``"loading"``, ``"ready"``, ``"restarting"`` (the worker died; requests wait for the
            next one) or ``"failed"`` (it died too often; requests are refused for a while, and the next one after that tries
            it again). Of the other fields only ``restarts`` is told unless it is ready.
        running: Requests that hold pages of the key-value cache.
        waiting: Requests that wait for pages or for a free place.
        max_sequences: How many requests can run at the same time.
        pages_total: Pages of the key-value cache.
        pages_free: Pages that hold nothing, or only what is kept for requests that begin in the same way.
        page_tokens: Tokens in a page.
        rss_mib: Resident memory of the engine's process in MiB.
        peak_rss_mib: The highest resident memory so far in MiB.
        requests_total: Requests that were submitted since the model was loaded.
        prompt_tokens_total: Prompt tokens that were prefilled since then.
        completion_tokens_total: Tokens that were generated since then.
        restarts: How often the worker was started again because one had died, since the application started.
        refused_total: Requests that were refused because too many waited, since the model was loaded.
        evicted_total: How often an answer gave its pages back and waited for them again, since then.
        queue_wait_s: How long a request that came now would wait, about; None if that can't be told yet.
        headroom_mib: MiB that the engine's process can still take, its cgroup's limit included; None where it isn't watched.
    """

    state: EngineState = "stopped"
    running: int = 0
    waiting: int = 0
    max_sequences: int = 0
    pages_total: int = 0
    pages_free: int = 0
    page_tokens: int = 0
    rss_mib: float = 0.0
    peak_rss_mib: float = 0.0
    requests_total: int = 0
    prompt_tokens_total: int = 0
    completion_tokens_total: int = 0
    restarts: int = 0
    refused_total: int = 0
    evicted_total: int = 0
    queue_wait_s: float | None = None
    headroom_mib: float | None = None
