"""``client.chat.completions`` of the awaited client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Unpack, overload

from hybridllm.boundary import content_free
from hybridllm.streams import AsyncChatStream, completion

if TYPE_CHECKING:
    from collections.abc import Collection

    from hybridllm.async_client import AsyncHybridClient
    from hybridllm.request_fields import RequestFields
    from hybridllm.types.chat_completion import ChatCompletion

__all__ = ["AsyncChat", "AsyncCompletions"]


class AsyncChat:
    """``client.chat``."""

    def __init__(self, client: AsyncHybridClient) -> None:
        self.completions = AsyncCompletions(client)


class AsyncCompletions:
    """``client.chat.completions``."""

    def __init__(self, client: AsyncHybridClient) -> None:
        self._client = client

    @overload
    async def create(
        self,
        *,
        messages: object,
        stream: Literal[False] = False,
        privacy: str | None = None,
        tags: Collection[str] = (),
        deadline_s: float | None = None,
        **fields: Unpack[RequestFields],
    ) -> ChatCompletion: ...

    @overload
    async def create(
        self,
        *,
        messages: object,
        stream: Literal[True],
        privacy: str | None = None,
        tags: Collection[str] = (),
        deadline_s: float | None = None,
        **fields: Unpack[RequestFields],
    ) -> AsyncChatStream: ...

    @content_free
    async def create(
        self,
        *,
        messages: object,
        stream: bool = False,
        privacy: str | None = None,
        tags: Collection[str] = (),
        deadline_s: float | None = None,
        **fields: Unpack[RequestFields],
    ) -> ChatCompletion | AsyncChatStream:
        """Ask for an answer.

        Args:
            messages: The conversation, oldest message first, in OpenAI's shape; a message may have a ``privacy`` label.
            stream: Whether to return an ``AsyncChatStream`` as soon as the first piece is there.
            privacy: Label of the whole request, one of the policy's.
            tags: Tags of the request; the policy says what label each has.
            deadline_s: Seconds within which the answer has to be whole.
            fields: The other fields, as in ``ChatRequest``.

        Raises:
            BadRequest: The request is not usable; nothing was asked.
            PolicyDenied: Only a place that may not see the request could serve it.
            CannotServe: Every place that may see it was asked and failed.
            DeadlineExceeded: ``deadline_s`` is over.
        """
        request, run = await self._client.start_run(messages, privacy, tags, deadline_s, {**fields, "stream": stream})
        if not request.stream:
            return completion(run, await run.whole())
        return await AsyncChatStream(run, include_usage=request.include_usage).open()
