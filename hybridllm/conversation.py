"""A dialogue that remembers what was said and how sensitive it has become, in two faces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from hybridllm.boundary import content_free
from hybridllm.errors import BadRequest
from hybridllm.labels import known_label
from hybridllm.streams import AsyncChatStream, ChatStream, completion

if TYPE_CHECKING:
    from collections.abc import Collection

    from hybridllm.async_client import AsyncHybridClient
    from hybridllm.loop_thread import LoopThread
    from hybridllm.request_fields import RequestFields
    from hybridllm.router import Ended
    from hybridllm.types.chat_completion import ChatCompletion
    from hybridllm.types.chat_request import ChatRequest
    from policies import Policy

__all__ = ["AsyncConversation", "Conversation", "Dialogue"]


class Dialogue:
    """What both faces share: the messages, and the floor, which only rises.

    Args:
        system: A system message that stands first, or None.
        floor: The label to begin with, or None.
    """

    def __init__(self, system: str | None, floor: str | None) -> None:
        self.messages: list[dict[str, Any]] = [] if system is None else [{"role": "system", "content": system}]
        self.floor = floor

    @classmethod
    def begun(cls, policy: Policy, system: object, privacy_floor: object) -> Dialogue:
        """A dialogue from what a caller gave.

        Raises:
            BadRequest: The system message is not a text, or the floor not a label of the policy.
        """
        if system is not None and (not isinstance(system, str) or not system):
            raise BadRequest("system is not a text of at least one character.", "Leave it out.", field="system")
        floor = None if privacy_floor is None else known_label(privacy_floor, policy.labels, "privacy_floor")
        return cls(system, floor)

    def asked(self, content: str) -> list[dict[str, Any]]:
        """The messages of a request that says this next."""
        # Their labels are in the floor, which holds under a policy with other labels too.
        said = [{"role": message["role"], "content": message["content"]} for message in self.messages]
        return [*said, {"role": "user", "content": content}]

    def add(self, request: ChatRequest, ended: Ended) -> None:
        """Remember a question and what of its answer was given out; a request without any answer leaves no trace."""
        if not ended.text:
            return
        labels = ended.assessment.labelled.policy.labels
        self.floor = labels.join(self.floor or labels.order[0], ended.label)
        self.messages.append({"role": "user", "content": request.messages[-1].text})
        self.messages.append({"role": "assistant", "content": ended.text, "privacy": ended.label})


class _Told:
    def __init__(self, dialogue: Dialogue) -> None:
        self._dialogue = dialogue

    @property
    def messages(self) -> list[dict[str, Any]]:
        """A copy of what was said so far; an answer has its label as ``privacy``."""
        return [dict(message) for message in self._dialogue.messages]

    @property
    def label(self) -> str | None:
        """The floor: every further request has at least this label. None before the first answer, unless one was given."""
        return self._dialogue.floor


class AsyncConversation(_Told):
    """A dialogue with ``AsyncHybridClient``; make one with ``client.conversation()``. One request at a time."""

    def __init__(self, client: AsyncHybridClient, dialogue: Dialogue) -> None:
        super().__init__(dialogue)
        self._client = client

    @overload
    async def create(
        self,
        content: str,
        *,
        stream: Literal[False] = False,
        privacy: str | None = None,
        tags: Collection[str] = (),
        deadline_s: float | None = None,
        **fields: Unpack[RequestFields],
    ) -> ChatCompletion: ...

    @overload
    async def create(
        self,
        content: str,
        *,
        stream: Literal[True],
        privacy: str | None = None,
        tags: Collection[str] = (),
        deadline_s: float | None = None,
        **fields: Unpack[RequestFields],
    ) -> AsyncChatStream: ...

    @content_free
    async def create(
        self,
        content: str,
        *,
        stream: bool = False,
        privacy: str | None = None,
        tags: Collection[str] = (),
        deadline_s: float | None = None,
        **fields: Unpack[RequestFields],
    ) -> ChatCompletion | AsyncChatStream:
        """Say something next. The arguments and errors are those of ``chat.completions.create``.

        The label is that of this message; the whole request has at least the conversation's.
        """
        request, run = await self._client.start_run(
            self._dialogue.asked(content),
            privacy,
            tags,
            deadline_s,
            {**fields, "stream": stream},
            dialogue=self._dialogue,
        )
        if not request.stream:
            return completion(run, await run.whole())
        return await AsyncChatStream(run, include_usage=request.include_usage).open()


class Conversation(_Told):
    """A dialogue with ``HybridClient``; make one with ``client.conversation()``. One request at a time."""

    def __init__(self, client: AsyncHybridClient, dialogue: Dialogue, thread: LoopThread) -> None:
        super().__init__(dialogue)
        self._conversation = AsyncConversation(client, dialogue)
        self._thread = thread

    @overload
    def create(
        self,
        content: str,
        *,
        stream: Literal[False] = False,
        privacy: str | None = None,
        tags: Collection[str] = (),
        deadline_s: float | None = None,
        **fields: Unpack[RequestFields],
    ) -> ChatCompletion: ...

    @overload
    def create(
        self,
        content: str,
        *,
        stream: Literal[True],
        privacy: str | None = None,
        tags: Collection[str] = (),
        deadline_s: float | None = None,
        **fields: Unpack[RequestFields],
    ) -> ChatStream: ...

    @content_free
    def create(
        self,
        content: str,
        *,
        stream: bool = False,
        privacy: str | None = None,
        tags: Collection[str] = (),
        deadline_s: float | None = None,
        **fields: Unpack[RequestFields],
    ) -> ChatCompletion | ChatStream:
        """Say something next. The arguments and errors are those of ``chat.completions.create``.

        The label is that of this message; the whole request has at least the conversation's.
        """
        answer: ChatCompletion | AsyncChatStream = self._thread.run(
            self._conversation.create(  # type: ignore[call-overload]
                content, stream=stream, privacy=privacy, tags=tags, deadline_s=deadline_s, **fields
            )
        )
        return ChatStream(answer, self._thread) if isinstance(answer, AsyncChatStream) else answer
