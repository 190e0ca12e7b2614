"""``/v1/chat/completions``: whole answers and streams."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from hybridllm.errors import BadRequest, EngineError
from hybridllm.server.asking import completed, opened
from hybridllm.server.body import check_content_type, json_object, read_body
from hybridllm.server.chat_call import ChatCall, chat_call
from hybridllm.server.event_stream import DONE, EventStream, event, written
from hybridllm.server.exchange import exchange_of
from hybridllm.server.problems import ClientGoneError, problem_of
from hybridllm.server.route_headers import route_headers
from hybridllm.steps import with_care

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from hybridllm.async_client import AsyncHybridClient
    from hybridllm.server.event_stream import WrittenPieces
    from hybridllm.server.exchange import Exchange
    from hybridllm.server.settings import ServerSettings
    from hybridllm.server.work import Slot, Work
    from hybridllm.types.chat_completion_chunk import ChatCompletionChunk

__all__ = ["ChatEndpoint"]


class ChatEndpoint:
    """The endpoint, as an ASGI application.

    Args:
        client: Who answers.
        work: The requests under way.
        settings: Limits of the body, and how long a stream may be silent.
    """

    def __init__(self, client: AsyncHybridClient, work: Work, settings: ServerSettings) -> None:
        self._client = client
        self._work = work
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            RefusedError: The server does not take it; nothing was sent.
            HybridLLMError: The client could not answer it; nothing was sent.
            ClientGoneError: Nobody waits for the answer any more.
        """
        if scope["query_string"]:
            raise BadRequest("The address has a query, and no parameters are supported there.", "Leave it out.")
        check_content_type(scope)
        with self._work.begin() as slot:
            body = await json_object(await read_body(scope, receive, self._settings))
            call = chat_call(body, scope)
            del body
            answer = self._streamed if call.stream else self._whole
            await answer(call, exchange_of(scope), slot, receive, send)

    async def _whole(self, call: ChatCall, exchange: Exchange, slot: Slot, receive: Receive, send: Send) -> None:
        completion = await slot.run(completed(self._client, call, exchange), receive)
        body = completion.model_dump_json().encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            *route_headers(completion.route),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    async def _streamed(self, call: ChatCall, exchange: Exchange, slot: Slot, receive: Receive, send: Send) -> None:
        events = EventStream(send, self._settings.ping_s)
        try:
            await slot.run(
                self._send_all(call, exchange, events), receive, tick_s=self._settings.ping_s / 2, on_tick=events.tick
            )
        except (ClientGoneError, asyncio.CancelledError):
            raise
        except Exception as error:  # a defect too is told as an event, since the status has gone out
            if not events.begun:
                raise
            problem = problem_of(error)
            exchange.outcome = problem.code or "invalid_request"
            await events.end(event(problem.body()))
            if problem.status == 500:
                raise

    async def _send_all(self, call: ChatCall, exchange: Exchange, events: EventStream) -> None:
        stream = await opened(self._client, call, exchange)
        try:
            await events.begin(stream.route)
            last: ChatCompletionChunk | None = None
            while (chunk := await _next_piece(stream, events)) is not None:
                if last is not None:
                    await events.add(written(last))
                    last = None
                if isinstance(chunk, bytes):
                    await events.add(chunk)
                    continue
                if chunk.handover is not None and chunk.handover.kind == "restart":
                    raise EngineError("The answer began anew, and a client cannot take back what it has.", "Ask again.")
                # What comes after either of these is there in the same moment, so holding it back costs no time.
                if not chunk.choices or chunk.choices[0].finish_reason is not None:
                    last = chunk
                else:
                    await events.add(written(chunk))
            if last is None:
                raise EngineError("The answer ended without saying how.", "Ask again.")
            await events.end(event(written(last, stream.route)) + DONE)
        finally:
            await stream.close()


async def _next_piece(stream: WrittenPieces, events: EventStream) -> ChatCompletionChunk | bytes | None:
    """The next piece; None after the last. What was added goes out if it has to be waited for: so pieces that came together go
    out together."""
    try:
        return await with_care(stream.__anext__(), events.flush)
    except StopAsyncIteration:
        return None
