"""For your own tests: a place on the device that says what you wrote down, without a model.

from hybridllm import HybridClient
from hybridllm.testing import ScriptedBackend

with HybridClient(local=ScriptedBackend(["We open at nine."])) as client:
    reply = client.chat.completions.create(messages=[{"role": "user", "content": "When do you open?"}])
    assert reply.choices[0].message.content == "We open at nine."
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hybridllm.backends.base import Backend, BackendCall, BackendEvent, ContentDelta, Finished, FinishReason
from hybridllm.errors import CannotServe
from hybridllm.types.completion_usage import CompletionUsage
from local_runtime.content import CONTENT, hides_content

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable

    from hybridllm.types.chat_request import ChatRequest

__all__ = ["ScriptedBackend", "ScriptedReply"]

_PIECE = re.compile(r"\s*\S+|\s+$")


@hides_content
@dataclass(frozen=True, slots=True)
class ScriptedReply:
    """One answer of a ``ScriptedBackend``."""

    text: str = field(default="", metadata=CONTENT)
    """What it says; given out word by word."""

    finish_reason: FinishReason = "stop"
    """How it ends."""

    error: BaseException | None = field(default=None, metadata=CONTENT)
    """Raised instead of ending, after ``fail_after`` pieces."""

    fail_after: int = 0
    """Pieces given out before ``error`` is raised."""

    first_token_s: float = 0.0
    """Wait before the first piece."""

    token_s: float = 0.0
    """Wait before every further piece."""


class ScriptedBackend(Backend):
    """A place that answers from a script.

    Args:
        replies: Answers in order, as text, ``ScriptedReply`` or an exception to raise; or a function from the request
            to one of them. A list that is used up makes the next request fail with ``CannotServe``.
        model: Name of the model.
        capabilities: What it claims to be able to do.
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
        capabilities: Iterable[str] = (),
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
        reply = self._next(call.request)
        if isinstance(reply, BaseException):
            raise reply
        if isinstance(reply, str):
            reply = ScriptedReply(reply)
        pieces = _PIECE.findall(reply.text.removeprefix(call.begun))
        limit = call.request.token_limit
        finished = False
        given = 0
        try:
            for index, piece in enumerate(pieces):
                if reply.error is not None and index == reply.fail_after:
                    finished = True
                    raise reply.error
                if limit is not None and index == limit:
                    break
                await asyncio.sleep(reply.token_s if index else reply.first_token_s)
                yield ContentDelta(text=piece)
                given += 1
            finished = True
            if reply.error is not None:
                raise reply.error
            prompt_tokens = await self.count_prompt_tokens(call.request) or 0
            yield Finished(
                reason="length" if given < len(pieces) else reply.finish_reason,
                usage=CompletionUsage(
                    prompt_tokens=prompt_tokens, completion_tokens=given, total_tokens=prompt_tokens + given
                ),
                model=self._model,
            )
        finally:
            if not finished:
                self.cancelled += 1

    async def aclose(self) -> None:
        """Remember that the client closed it."""
        self.closed = True

    def _next(self, request: ChatRequest) -> str | ScriptedReply | BaseException:
        if self._script is not None:
            return self._script(request)
        try:
            return next(self._replies)
        except StopIteration:
            raise CannotServe(
                f"The script has no reply for request number {len(self.requests)}.", "Write one more down."
            ) from None
