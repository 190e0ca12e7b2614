"""A dialogue that remembers what was said and how sensitive it has become, in two faces."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from hybridllm.answer import ChoiceSoFar
from hybridllm.boundary import content_free
from hybridllm.errors import BadRequest
from hybridllm.labels import known_label
from hybridllm.streams import AsyncChatStream, ChatStream, completion
from hybridllm.types.shape import well_formed

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

    def asked(self, content: str | None) -> list[dict[str, Any]]:
        """The messages of a request that says this next, or goes on from the results of tools.

        Raises:
            BadRequest: A call of a tool has no result yet, or there is nothing to go on from.
        """
        if self.open_calls:
            raise BadRequest(
                f"{len(self.open_calls)} of the last answer's calls of tools have no result yet.",
                "Give each its result with add_tool_result, if only that it was not made.",
                field="messages",
            )
        if content is None:
            if not self.messages or self.messages[-1]["role"] != "tool":
                raise BadRequest(
                    "content is missing, and there are no results of tools to go on from.",
                    "Give the text of the next message.",
                    field="content",
                )
            return self._said
        return [*self._said, {"role": "user", "content": content}]

    @property
    def _said(self) -> list[dict[str, Any]]:
        """The messages as they go into the next request.

        Labels are in the floor, which holds under a policy with other labels too. What a model thought it gets back only while it
        waits for the results of the tools that it called: that is what models are trained on.
        """
        roles = [message["role"] for message in self.messages]
        loop_from = (
            len(roles) - roles[::-1].index("user") if roles and roles[-1] == "tool" and "user" in roles else len(roles)
        )
        said = []
        for index, message in enumerate(self.messages):
            left_out = ("privacy",) if index >= loop_from else ("privacy", "reasoning_content")
            said.append({name: value for name, value in message.items() if name not in left_out})
        return said

    @property
    def open_calls(self) -> list[str]:
        """Ids of the calls in the last answer that have no result yet."""
        calls: list[str] = []
        for message in self.messages:
            if message["role"] == "tool":
                calls.remove(message["tool_call_id"])
            else:
                calls = [call["id"] for call in message.get("tool_calls", ())]
        return calls

    def add_tool_result(self, policy: Policy, tool_call_id: object, content: object, privacy: object) -> None:
        """Remember what a tool returned.

        Raises:
            BadRequest: No call waits for it, it is not a text, or its label is not one of the policy's.
        """
        if tool_call_id not in self.open_calls:
            raise BadRequest(
                "tool_call_id names no call of the last answer that has no result yet.",
                "Give the id of one of its tool_calls.",
                field="tool_call_id",
            )
        if not isinstance(content, str):
            raise BadRequest(
                f"content is a {type(content).__name__}, expected text.", "Write it as JSON.", field="content"
            )
        result: dict[str, Any] = {
            "role": "tool",
            "tool_call_id": tool_call_id,
            "content": well_formed(content, "content"),
        }
        if privacy is not None:
            label = known_label(privacy, policy.labels, "privacy")
            self.rise(policy, label)
            result["privacy"] = label
        self.messages.append(result)

    def rise(self, policy: Policy, label: str) -> None:
        """From now on every request has at least this label."""
        self.floor = policy.labels.join(self.floor or policy.labels.order[0], label)

    def add(self, request: ChatRequest, ended: Ended) -> None:
        """Remember a question and what of its answer was given out; a request without any answer leaves no trace.

        Calls of tools are remembered only of an answer that ended by itself: nobody can give a result for half a call.
        """
        if not ended.texts():
            return
        self.rise(ended.assessment.labelled.policy, ended.label)
        answer: dict[str, Any] = {"role": "assistant", "content": ended.text or None, "privacy": ended.label}
        said = ended.answer or ChoiceSoFar()
        if said.refusal:
            answer["refusal"] = said.refusal
        if said.reasoning:
            answer["reasoning_content"] = said.reasoning
        if said.tool_calls and ended.finish_reason in ("stop", "tool_calls"):
            answer["tool_calls"] = [call.model_dump() for call in said.tool_calls]
        if not (ended.text or said.refusal or "tool_calls" in answer):
            return
        last = request.messages[-1]
        if last.role == "user":
            self.messages.append({"role": "user", "content": last.text})
        self.messages.append(answer)


class _Told:
    def __init__(self, client: AsyncHybridClient, dialogue: Dialogue) -> None:
        self._client = client
        self._dialogue = dialogue

    @property
    def messages(self) -> list[dict[str, Any]]:
        """A copy of what was said so far; an answer has its label as ``privacy``."""
        return copy.deepcopy(self._dialogue.messages)

    @property
    def label(self) -> str | None:
        """The floor: every further request has at least this label. None before the first answer, unless one was given."""
        return self._dialogue.floor

    @content_free
    def add_tool_result(self, tool_call_id: str, content: str, *, privacy: str | None = None) -> None:
        """Give the result of a call in the last answer; once each call has one, ``create()`` without a text goes on.

        Args:
            tool_call_id: The call's ``id``.
            content: What the tool returned, as text.
            privacy: Label of the result, one of the policy's: every further request has at least that. None leaves it to the
                label of the request that it goes into.

        Raises:
            BadRequest: No call of the last answer waits for it, or an argument is not usable.
        """
        self._dialogue.add_tool_result(self._client.policy, tool_call_id, content, privacy)


class AsyncConversation(_Told):
    """A dialogue with ``AsyncHybridClient``; make one with ``client.conversation()``. One request at a time."""

    @overload
    async def create(
        self,
        content: str | None = None,
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
        content: str | None = None,
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
        content: str | None = None,
        *,
        stream: bool = False,
        privacy: str | None = None,
        tags: Collection[str] = (),
        deadline_s: float | None = None,
        **fields: Unpack[RequestFields],
    ) -> ChatCompletion | AsyncChatStream:
        """Say something next. The arguments and errors are those of ``chat.completions.create``.

        The label is that of this message; the whole request has at least the conversation's. Without a text, the answer goes on
        from the results of the tools that the last one called: see ``add_tool_result``. There can be only one answer, so no ``n``.
        """
        if fields.get("n") not in (None, 1):
            raise BadRequest("n is not 1, and a conversation goes on from one answer.", "Leave it out.", field="n")
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
        super().__init__(client, dialogue)
        self._conversation = AsyncConversation(client, dialogue)
        self._thread = thread

    @overload
    def create(
        self,
        content: str | None = None,
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
        content: str | None = None,
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
        content: str | None = None,
        *,
        stream: bool = False,
        privacy: str | None = None,
        tags: Collection[str] = (),
        deadline_s: float | None = None,
        **fields: Unpack[RequestFields],
    ) -> ChatCompletion | ChatStream:
        """Say something next. The arguments and errors are those of ``chat.completions.create``.

        The label is that of this message; the whole request has at least the conversation's. Without a text, the answer goes on
        from the results of the tools that the last one called: see ``add_tool_result``. There can be only one answer, so no ``n``.
        """
        answer: ChatCompletion | AsyncChatStream = self._thread.run(
            self._conversation.create(  # type: ignore[call-overload]
                content, stream=stream, privacy=privacy, tags=tags, deadline_s=deadline_s, **fields
            )
        )
        return ChatStream(answer, self._thread) if isinstance(answer, AsyncChatStream) else answer
