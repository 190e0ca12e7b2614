"""For your own tests: a place on the device that says what you wrote down, without a model.

from hybridllm import HybridClient
from hybridllm.testing import ScriptedBackend

with HybridClient(local=ScriptedBackend(["We open at nine."])) as client:
    reply = client.chat.completions.create(messages=[{"role": "user", "content": "When do you open?"}])
    assert reply.choices[0].message.content == "We open at nine."

It can also think, call tools, tell log probabilities and give several answers: see ``ScriptedReply``.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hybridllm.backends.base import (
    Backend,
    BackendCall,
    BackendEvent,
    ContentDelta,
    Finished,
    FinishReason,
    ToolCallDelta,
)
from hybridllm.capabilities import OPENAI_CAPABILITIES
from hybridllm.errors import CannotServe
from hybridllm.types.completion_usage import CompletionTokensDetails, CompletionUsage
from hybridllm.types.logprobs import TokenLogprob, TopLogprob
from local_runtime.content import CONTENT, hides_content

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence

    from hybridllm.types.chat_request import ChatRequest

__all__ = ["ScriptedBackend", "ScriptedCall", "ScriptedReply"]

_PIECE = re.compile(r"\s*\S+|\s+$")


@hides_content
@dataclass(frozen=True, slots=True)
class ScriptedCall:
    """A call of a tool in a ``ScriptedReply``."""

    name: str = field(metadata=CONTENT)
    """The tool's name."""

    arguments: Mapping[str, Any] | str = field(default="{}", metadata=CONTENT)
    """The arguments, which are written as JSON; a text is given out as it is, valid or not."""

    id: str = field(default="", metadata=CONTENT)
    """Name of the call; empty for one that no other call of the backend has."""


@hides_content
@dataclass(frozen=True, slots=True)
class ScriptedReply:
    """One answer of a ``ScriptedBackend``. Every piece that it is given out in counts as a token."""

    text: str = field(default="", metadata=CONTENT)
    """What it says; given out word by word."""

    finish_reason: FinishReason | None = None
    """How it ends; None for ``tool_calls`` where it calls one, and else ``stop``."""

    error: BaseException | None = field(default=None, metadata=CONTENT)
    """Raised instead of ending, after ``fail_after`` pieces."""

    fail_after: int = 0
    """Pieces given out before ``error`` is raised."""

    first_token_s: float = 0.0
    """Wait before the first piece."""

    token_s: float = 0.0
    """Wait before every further piece."""

    reasoning: str = field(default="", metadata=CONTENT)
    """What it thinks first; given out word by word."""

    tool_calls: Sequence[ScriptedCall] = field(default=(), metadata=CONTENT)
    """Tools that it calls after its text. Each is given out piece by piece, its id and its name first."""

    logprob: float = 0.0
    """Log probability of every word of the text, for requests that ask for them."""


class ScriptedBackend(Backend):
    """A place that answers from a script.

    Args:
        replies: Answers in order, as text, ``ScriptedReply`` or an exception to raise; or a function from the request
            to one of them. A list that is used up makes the next request fail with ``CannotServe``. A request for ``n`` answers
            takes so many of them.
        model: Name of the model.
        capabilities: What it claims to be able to do; unless you say otherwise, what every server like OpenAI's can.
        continues: Whether it goes on with an answer that another place has begun. Where its own text begins in the same way, the
            rest of that follows, else all of it.
        context_tokens: Its context, for policies that look at it.
        start_s: How long the first ``start`` takes.
        start_error: Raised by ``start``.

    Attributes:
        requests: Every request that it was asked, in order.
        calls: The same with what belongs to each attempt.
        cancelled: How many answers were stopped before they were whole.
        closed: Whether the client has closed it.
    """

    def __init__(
        self,
        replies: Iterable[str | ScriptedReply | BaseException]
        | Callable[[ChatRequest], str | ScriptedReply | BaseException],
        *,
        model: str = "scripted",
        capabilities: Iterable[str] = OPENAI_CAPABILITIES,
        continues: bool = False,
        context_tokens: int | None = None,
        start_s: float = 0.0,
        start_error: BaseException | None = None,
    ) -> None:
        self._script = replies if callable(replies) else None
        self._replies = iter(()) if callable(replies) else iter(replies)
        self._model = model
        self._capabilities = frozenset(capabilities)
        self._continues = continues
        self._context_tokens = context_tokens
        self._start_s = start_s
        self._start_error = start_error
        self._ready = start_s == 0.0 and start_error is None
        self.requests: list[ChatRequest] = []
        self.calls: list[BackendCall] = []
        self.cancelled = 0
        self.closed = False

    @property
    def model(self) -> str:
        """Name of the model."""
        return self._model

    @property
    def capabilities(self) -> frozenset[str]:
        """What it claims to be able to do."""
        return self._capabilities

    @property
    def continues(self) -> bool:
        """Whether it goes on with an answer that another place has begun."""
        return self._continues

    @property
    def context_tokens(self) -> int | None:
        """Its context."""
        return self._context_tokens

    @property
    def ready(self) -> bool:
        """Whether ``start`` has been through."""
        return self._ready

    async def start(self) -> None:
        """Wait ``start_s`` the first time, or raise ``start_error``."""
        if self._ready:
            return
        await asyncio.sleep(self._start_s)
        if self._start_error is not None:
            raise self._start_error
        self._ready = True

    async def count_prompt_tokens(self, request: ChatRequest) -> int | None:
        """Words count as tokens here."""
        return sum(len(message.text.split()) for message in request.messages)

    async def stream(self, call: BackendCall) -> AsyncGenerator[BackendEvent, None]:
        """Give out the next reply of the script."""
        self.requests.append(call.request)
        self.calls.append(call)
        call.ledger.tries += 1
        scripts = [self._script_of(call, choice) for choice in range(call.request.n)]
        finished = False
        try:
            going = list(scripts)
            while going:
                for script in list(going):
                    error = script.error_now
                    if error is not None:
                        finished = True
                        raise error
                    if script.next is None:
                        going.remove(script)
                        continue
                    await asyncio.sleep(script.wait_s)
                    yield script.take()
            finished = True
            yield await self._finished(call.request, scripts)
        finally:
            if not finished:
                self.cancelled += 1

    async def _finished(self, request: ChatRequest, scripts: Sequence[_Script]) -> Finished:
        prompt_tokens = await self.count_prompt_tokens(request) or 0
        tokens = sum(script.given for script in scripts)
        thought = sum(script.thought for script in scripts)
        reasons = tuple([script.reason for script in scripts])
        prompt_logprobs = None
        if request.prompt_logprobs is not None:
            words = [word for message in request.messages for word in _PIECE.findall(message.text)]
            prompt_logprobs = [_logprob(word, 0.0, request.prompt_logprobs) for word in words[1:]]
        return Finished(
            reason=reasons[0],
            reasons=reasons if len(reasons) > 1 else (),
            usage=CompletionUsage(
                prompt_tokens=prompt_tokens,
                completion_tokens=tokens,
                total_tokens=prompt_tokens + tokens,
                completion_tokens_details=CompletionTokensDetails(reasoning_tokens=thought) if thought else None,
            ),
            model=self._model,
            prompt_logprobs=prompt_logprobs,
        )

    async def aclose(self) -> None:
        """Remember that the client closed it."""
        self.closed = True

    def _script_of(self, call: BackendCall, choice: int) -> _Script:
        reply = self._next(call.request)
        if isinstance(reply, BaseException):
            raise reply
        if isinstance(reply, str):
            reply = ScriptedReply(reply)
        return _Script(reply, call, choice, f"call_{len(self.requests)}_{choice}")

    def _next(self, request: ChatRequest) -> str | ScriptedReply | BaseException:
        if self._script is not None:
            return self._script(request)
        try:
            return next(self._replies)
        except StopIteration:
            raise CannotServe(
                f"The script has no reply for request number {len(self.requests)}.", "Write one more down."
            ) from None


class _Script:
    """One reply, in the pieces that it is given out in."""

    def __init__(self, reply: ScriptedReply, call: BackendCall, choice: int, name: str) -> None:
        self.reason: FinishReason = reply.finish_reason or ("tool_calls" if reply.tool_calls else "stop")
        self.given = self.thought = 0
        self._reply = reply
        self._limit = call.request.token_limit
        self._pieces = _pieces(reply, call, choice, name)
        self.next: ContentDelta | None = next(self._pieces, None)

    @property
    def error_now(self) -> BaseException | None:
        """The error that it breaks off with before the next piece, at the latest where it would end."""
        return self._reply.error if self.next is None or self.given == self._reply.fail_after else None

    @property
    def wait_s(self) -> float:
        """Seconds to wait before the next piece."""
        return self._reply.token_s if self.given else self._reply.first_token_s

    def take(self) -> ContentDelta:
        """The next piece."""
        piece = self.next
        assert piece is not None
        self.given += 1
        self.thought += bool(piece.reasoning)
        self.next = next(self._pieces, None)
        if self.next is not None and self.given == self._limit:
            self.reason, self.next = "length", None
        return piece


def _pieces(reply: ScriptedReply, call: BackendCall, choice: int, name: str) -> Iterator[ContentDelta]:
    for word in _PIECE.findall(reply.reasoning):
        yield ContentDelta(reasoning=word, choice=choice)
    request = call.request
    for word in _PIECE.findall(reply.text.removeprefix(call.begun)):
        logprobs = (_logprob(word, reply.logprob, request.top_logprobs or 0),) if request.logprobs else ()
        yield ContentDelta(text=word, logprobs=logprobs, choice=choice)
    for index, scripted in enumerate(reply.tool_calls):
        begun = ToolCallDelta(index, scripted.id or f"{name}_{index}", scripted.name)
        yield ContentDelta(tool_calls=(begun,), choice=choice)
        arguments = scripted.arguments
        if not isinstance(arguments, str):
            arguments = json.dumps(dict(arguments), ensure_ascii=False)
        for piece in _PIECE.findall(arguments):
            yield ContentDelta(tool_calls=(ToolCallDelta(index, arguments=piece),), choice=choice)


def _logprob(word: str, logprob: float, likeliest: int) -> TokenLogprob:
    likely = TopLogprob(token=word, logprob=logprob, bytes=list(word.encode()))
    return TokenLogprob(**likely.model_dump(), top_logprobs=[likely] if likeliest else [])
