"""The engine's events of one request as the router knows them: of several answers one stream, one end, and one count of tokens."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from hybridllm.backends.base import ContentDelta, Finished, FinishReason
from hybridllm.types.completion_usage import CompletionTokensDetails, CompletionUsage, PromptTokensDetails
from hybridllm.types.logprobs import LEAST_LOGPROB, TokenLogprob, TopLogprob

if TYPE_CHECKING:
    from collections.abc import Sequence

    from local_runtime.events import Finished as EngineFinished
    from local_runtime.events import TextDelta, ToolCallDelta
    from local_runtime.events import TokenLogprob as EngineLogprob
    from local_runtime.options import GenerateRequest

__all__ = ["LocalAnswers", "one_for_each_answer"]


def one_for_each_answer(request: GenerateRequest, count: int) -> list[GenerateRequest]:
    """What the engine is asked for each of several answers: seeds that follow each other, and the prompt's probabilities once."""
    requests = [request]
    seed = request.sampling.seed
    for index in range(1, count):
        sampling = request.sampling if seed is None else replace(request.sampling, seed=seed + index)
        requests.append(replace(request, sampling=sampling, prompt_logprobs=None))
    return requests


@dataclass(slots=True)
class _Pending:
    """What came of one answer and is not given out yet, and how it ended."""

    tokens: int = 0
    logprobs: list[TokenLogprob] = field(default_factory=list, repr=False)
    end: EngineFinished | None = field(default=None, repr=False)
    reason: FinishReason = "stop"


class LocalAnswers:
    """Joins the answers of one request.

    Args:
        count: How many there are.
        wants_prompt_logprobs: Whether the request asks for log probabilities of its prompt.
    """

    def __init__(self, count: int, *, wants_prompt_logprobs: bool = False) -> None:
        self._pending = [_Pending() for _ in range(count)]
        self._left = count
        self._reasoning_tokens = 0
        self._wants_prompt_logprobs = wants_prompt_logprobs

    @property
    def whole(self) -> bool:
        """Whether all have ended."""
        return not self._left

    def piece(self, choice: int, event: TextDelta) -> ContentDelta | None:
        """What a token comes to; None while it is held back."""
        pending = self._pending[choice]
        pending.tokens += event.tokens
        if event.logprobs:
            pending.logprobs += map(_token_logprob, event.logprobs)
        if event.reasoning:
            self._reasoning_tokens += pending.tokens
        elif not (event.text or event.tool_calls):
            return None
        return self._given_out(choice, event.text, event.reasoning, event.tool_calls)

    def rest(self, choice: int) -> ContentDelta | None:
        """What is left of an answer that has ended: the probabilities of tokens that came to no text, such as its last one."""
        return self._given_out(choice) if self._pending[choice].logprobs else None

    def ended(self, choice: int, event: EngineFinished, reason: FinishReason) -> None:
        """An answer has ended."""
        pending = self._pending[choice]
        pending.end, pending.reason = event, reason
        self._left -= 1

    def finished(self, model: str) -> Finished:
        """The end of all; the prompt counts once, and as cached what was cached for each of them."""
        ends = [pending.end for pending in self._pending if pending.end is not None]
        usages = [end.usage for end in ends]
        first = usages[0]
        prompt_tokens = first.prompt_tokens + first.begun_tokens
        completion_tokens = sum(usage.completion_tokens for usage in usages)
        reasons = tuple([pending.reason for pending in self._pending])
        thought = self._reasoning_tokens
        return Finished(
            reason=reasons[0],
            reasons=reasons if len(reasons) > 1 else (),
            usage=CompletionUsage(
                prompt_tokens=prompt_tokens,
                completion_tokens=completion_tokens,
                total_tokens=prompt_tokens + completion_tokens,
                prompt_tokens_details=PromptTokensDetails(cached_tokens=min(usage.cached_tokens for usage in usages)),
                completion_tokens_details=CompletionTokensDetails(reasoning_tokens=thought) if thought else None,
            ),
            model=model,
            begun_tokens=first.begun_tokens,
            queue_s=max(end.timings.queue_s for end in ends),
            prompt_logprobs=list(map(_token_logprob, ends[0].prompt_logprobs)) if self._wants_prompt_logprobs else None,
        )

    def _given_out(
        self, choice: int, text: str = "", reasoning: str = "", tool_calls: Sequence[ToolCallDelta] = ()
    ) -> ContentDelta:
        pending = self._pending[choice]
        tokens, pending.tokens = pending.tokens, 0
        logprobs: Sequence[TokenLogprob] = ()
        if pending.logprobs:
            logprobs, pending.logprobs = pending.logprobs, []
        return ContentDelta(
            text=text, tokens=tokens, reasoning=reasoning, tool_calls=tool_calls, logprobs=logprobs, choice=choice
        )


def _token_logprob(said: EngineLogprob) -> TokenLogprob:
    top = [TopLogprob(token=one.token, logprob=_bounded(one.logprob), bytes=one.bytes) for one in said.top]
    return TokenLogprob(token=said.token, logprob=_bounded(said.logprob), bytes=said.bytes, top_logprobs=top)


def _bounded(logprob: float) -> float:
    return max(LEAST_LOGPROB, logprob)
