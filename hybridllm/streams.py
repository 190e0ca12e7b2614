"""Answers that come piece by piece: an iterator of chunks and a context manager, in two faces."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Generic, Literal, Self, TypeVar

from hybridllm.answer import Answer
from hybridllm.backends.base import Burst, ContentDelta, Finished
from hybridllm.boundary import content_free, content_free_events
from hybridllm.errors import Cancelled, HybridLLMError
from hybridllm.types.chat_completion import ChatCompletion, Choice
from hybridllm.types.chat_completion_chunk import ChatCompletionChunk, ChoiceDelta, ChunkChoice
from hybridllm.types.chat_completion_message import ChatCompletionMessage
from hybridllm.types.logprobs import ChoiceLogprobs
from hybridllm.types.route import Handover
from hybridllm.types.tool_call import ChoiceDeltaToolCall, ChoiceDeltaToolCallFunction

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator

    from hybridllm.answer import ChoiceSoFar
    from hybridllm.backends.base import ToolCallDelta
    from hybridllm.loop_thread import LoopThread
    from hybridllm.router import RequestRun, RunEvent
    from hybridllm.types.completion_usage import CompletionUsage
    from hybridllm.types.route import Route

__all__ = ["AsyncChatStream", "ChatStream", "Pieces", "completion"]

_P = TypeVar("_P")


def completion(run: RequestRun, answer: Answer) -> ChatCompletion:
    """A whole answer in OpenAI's shape."""
    finished = answer.finished
    reasons = finished.reasons or (finished.reason,)
    prompt_logprobs = finished.prompt_logprobs
    return ChatCompletion(
        id=run.request_id,
        created=run.created,
        model=run.model,
        choices=[
            Choice(
                index=index,
                message=_message(choice, run.answer_label),
                finish_reason=reasons[index],
                logprobs=ChoiceLogprobs(content=choice.logprobs) if choice.logprobs else None,
            )
            for index, choice in enumerate(answer.choices)
        ],
        usage=finished.usage,
        prompt_logprobs=None if prompt_logprobs is None else list(prompt_logprobs),
        route=run.route(),
    )


def _message(choice: ChoiceSoFar, label: str) -> ChatCompletionMessage:
    text, refusal, calls = choice.text, choice.refusal, choice.tool_calls
    return ChatCompletionMessage(
        content=None if (refusal or calls) and not text else text,
        refusal=refusal or None,
        reasoning_content=choice.reasoning or None,
        tool_calls=calls or None,
        privacy=label,
    )


class Pieces(ABC, Generic[_P]):
    """An answer that comes piece by piece, whatever a piece is made of.

    Closing it, or leaving its ``async with`` block, stops the work and frees what it held, and ends the iteration of whoever reads at
    that moment; dropping it does so too, only later.
    """

    def __init__(self, run: RequestRun, *, include_usage: bool) -> None:
        self._run = run
        self._include_usage = include_usage
        self._events: AsyncGenerator[RunEvent, None] = content_free_events(run.stream())
        self._chunks: deque[_P] = deque()
        self._begun: set[int] = set()
        self._finished: Finished | None = None
        self._closed = False
        self._reading = asyncio.Lock()
        self._reader: asyncio.Task[object] | None = None
        self._failure: HybridLLMError | None = None

    @property
    def route(self) -> Route:
        """Which way the answer came, as far as it has come."""
        return self._run.route()

    async def open(self) -> Self:
        """Wait for the first piece, so that whatever fails before it is raised here."""
        self._take(await anext(self._events))
        return self

    def __aiter__(self) -> AsyncIterator[_P]:
        return self

    def __anext__(self) -> Coroutine[object, object, _P]:
        # Pieces often come together: those that are here need none of what waiting for one needs.
        return self._given() if self._chunks and not self._reading.locked() else self._waited()

    async def _given(self) -> _P:
        return self._chunks.popleft() if self._chunks else await self._waited()

    @content_free
    async def _waited(self) -> _P:
        async with self._reading:
            while not self._chunks:
                if self._failure is not None:  # or a stream that was cut would look whole to whoever reads on
                    raise self._failure
                if self._finished is not None or self._closed:
                    raise StopAsyncIteration
                self._take(await self._next_event())
            return self._chunks.popleft()

    @content_free
    async def close(self) -> None:
        """Stop the answer, also while another task waits for its next piece; does nothing once it is whole."""
        self._closed = True
        self._chunks.clear()
        if self._reader is not None:
            self._reader.cancel()
        async with self._reading:
            await self._events.aclose()

    async def __aenter__(self) -> Self:
        return self

    @content_free
    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def _next_event(self) -> RunEvent:
        """The next event; ends the iteration if ``close`` is called meanwhile, by a cancellation that stays in here."""
        self._reader = asyncio.current_task()
        assert self._reader is not None
        others_cancelled = self._reader.cancelling()
        try:
            return await anext(self._events)
        except HybridLLMError as error:
            self._failure = error
            raise
        except asyncio.CancelledError:
            if not self._closed or self._reader.uncancel() > others_cancelled:
                # The work has stopped with it, so whoever reads on has to know that there will be no more.
                self._failure = Cancelled("The answer was stopped before it was whole.", "Ask again.")
                raise
            raise StopAsyncIteration from None
        finally:
            self._reader = None

    def _take(self, event: RunEvent) -> None:
        """Turn an event into the chunks that say so."""
        if isinstance(event, Handover):
            if event.kind == "restart":
                self._begun.clear()
            self._add(self._chunk([], handover=event))
            return
        if isinstance(event, Burst):
            for piece in event.pieces:
                self._take(piece)
            return
        if isinstance(event, ContentDelta):
            if event.is_plain_text:  # most are
                self._chunks.append(self._text(event.choice, self._role(event.choice), event.text))
                return
            delta = ChoiceDelta(
                role=self._role(event.choice),
                content=event.text or None,
                refusal=event.refusal or None,
                reasoning_content=event.reasoning or None,
                tool_calls=[_call_delta(piece) for piece in event.tool_calls] if event.tool_calls else None,
            )
            logprobs = ChoiceLogprobs(content=list(event.logprobs)) if event.logprobs else None
            self._add(self._chunk([ChunkChoice(index=event.choice, delta=delta, logprobs=logprobs)]))
            return
        self._finished = event
        reasons = event.reasons or (event.reason,)
        for index, reason in enumerate(reasons):
            delta = ChoiceDelta(role=self._role(index))
            chunk = self._chunk([ChunkChoice(index=index, delta=delta, finish_reason=reason)])
            if event.prompt_logprobs is not None and index == len(reasons) - 1:
                chunk.prompt_logprobs = list(event.prompt_logprobs)
            self._add(chunk)
        if self._include_usage:
            self._add(self._chunk([], event.usage))

    def _add(self, chunk: ChatCompletionChunk) -> None:
        self._chunks.append(self._piece(chunk))

    @abstractmethod
    def _piece(self, chunk: ChatCompletionChunk) -> _P:
        """A chunk as a piece."""

    @abstractmethod
    def _text(self, choice: int, role: Literal["assistant"] | None, text: str) -> _P:
        """A piece of nothing but text."""

    def _role(self, choice: int) -> Literal["assistant"] | None:
        """The role is said in the first piece of each answer."""
        if choice in self._begun:
            return None
        self._begun.add(choice)
        return "assistant"

    def _chunk(
        self, choices: list[ChunkChoice], usage: CompletionUsage | None = None, handover: Handover | None = None
    ) -> ChatCompletionChunk:
        return ChatCompletionChunk(
            id=self._run.request_id,
            created=self._run.created,
            model=self._run.model,
            choices=choices,
            usage=usage,
            handover=handover,
        )


class AsyncChatStream(Pieces[ChatCompletionChunk]):
    """An answer that comes piece by piece.

    Iterate over it for ``ChatCompletionChunk`` objects. A piece whose ``handover`` is set says that another place goes on from
    here; where its kind is ``restart``, all pieces before it are void. Closing it, or leaving its ``async with`` block, stops the work
    and frees what it held, and ends the iteration of whoever reads at that moment; dropping it does so too, only later.
    """

    @content_free
    async def get_final_completion(self) -> ChatCompletion:
        """Read what is left and return the whole answer.

        Raises:
            Cancelled: The stream was closed before the answer was whole.
            StreamInterrupted: The place failed in the middle, now or when the stream was read before.
        """
        async for _ in self:
            pass
        if self._finished is None:
            raise Cancelled("The stream was closed before the answer was whole.", "Ask again.")
        return completion(self._run, Answer(self._run.answer, self._finished))

    def _piece(self, chunk: ChatCompletionChunk) -> ChatCompletionChunk:
        return chunk

    def _text(self, choice: int, role: Literal["assistant"] | None, text: str) -> ChatCompletionChunk:
        # Made in one step, which costs half.
        return ChatCompletionChunk.model_validate(
            {
                "id": self._run.request_id,
                "created": self._run.created,
                "model": self._run.model,
                "choices": [{"index": choice, "delta": {"role": role, "content": text}}],
            }
        )


def _call_delta(piece: ToolCallDelta) -> ChoiceDeltaToolCall:
    return ChoiceDeltaToolCall(
        index=piece.index,
        id=piece.id or None,
        type="function" if piece.id else None,
        function=ChoiceDeltaToolCallFunction(name=piece.name or None, arguments=piece.arguments),
    )


class ChatStream:
    """An answer that comes piece by piece; the blocking face of ``AsyncChatStream``.

    Any thread may close it, such as the one of a stop button; the thread that iterates then comes to its end.
    """

    def __init__(self, stream: AsyncChatStream, thread: LoopThread) -> None:
        self._stream = stream
        self._thread = thread

    @property
    def route(self) -> Route:
        """Which way the answer came, as far as it has come."""
        return self._stream.route

    def __iter__(self) -> Iterator[ChatCompletionChunk]:
        return self

    @content_free
    def __next__(self) -> ChatCompletionChunk:
        chunk = self._thread.run(_next_or_none(self._stream))
        if chunk is None:
            raise StopIteration
        return chunk

    @content_free
    def get_final_completion(self) -> ChatCompletion:
        """Read what is left and return the whole answer.

        Raises:
            Cancelled: The stream was closed before the answer was whole.
        """
        return self._thread.run(self._stream.get_final_completion())

    @content_free
    def close(self) -> None:
        """Stop the answer; does nothing once it is whole, or after the client was closed."""
        if not self._thread.closed:
            self._thread.run(self._stream.close())

    def __enter__(self) -> Self:
        return self

    @content_free
    def __exit__(self, *exc_info: object) -> None:
        self.close()


async def _next_or_none(stream: AsyncChatStream) -> ChatCompletionChunk | None:
    return await anext(stream, None)
