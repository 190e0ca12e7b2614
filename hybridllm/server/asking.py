"""From a checked call to the client's answer. As ``create`` does it, for readers who cannot know that what they have is void."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridllm.boundary import content_free
from hybridllm.errors import PolicyTightened
from hybridllm.server.chat_call import joined_label
from hybridllm.server.event_stream import WrittenPieces
from hybridllm.streams import completion

if TYPE_CHECKING:
    from hybridllm.async_client import AsyncHybridClient
    from hybridllm.router import RequestRun
    from hybridllm.server.chat_call import ChatCall
    from hybridllm.server.exchange import Exchange
    from hybridllm.types.chat_completion import ChatCompletion
    from hybridllm.types.chat_request import ChatRequest

__all__ = ["completed", "opened"]


@content_free
async def completed(client: AsyncHybridClient, call: ChatCall, exchange: Exchange) -> ChatCompletion:
    """A whole answer; raises as ``create`` does."""
    _, run = await _begun(client, call, exchange, stream=False)
    return completion(run, await run.whole())


@content_free
async def opened(client: AsyncHybridClient, call: ChatCall, exchange: Exchange) -> WrittenPieces:
    """A stream whose first piece is there; raises as ``create`` does."""
    request, run = await _begun(client, call, exchange, stream=True)
    return await WrittenPieces(run, include_usage=request.include_usage).open()


async def _begun(
    client: AsyncHybridClient, call: ChatCall, exchange: Exchange, *, stream: bool
) -> tuple[ChatRequest, RequestRun]:
    """A request under way, of which nobody has been asked yet."""
    policy = client.policy
    request, run = await client.start_run(
        call.messages,
        joined_label(policy, call.labels),
        call.tags,
        call.deadline_s,
        {**call.fields, "stream": stream},
        may_restart=False,
    )
    if len(call.labels) > 1 and run.policy.labels != policy.labels:  # a reload in this very moment
        raise PolicyTightened("A policy with other labels came into force, and several were given.", "Ask again.")
    exchange.completion_id = run.request_id
    return request, run
