"""``/v1/chat/completions``: whole answers and streams."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

from hybridllm.errors import BadRequest, EngineError
from hybridllm.server.asking import completed, opened
from hybridllm.server.body import check_content_type, json_object, read_body
from hybridllm.server.chat_call import ChatCall, chat_call
from hybridllm.server.exchange import exchange_of
from hybridllm.server.problems import ClientGoneError, problem_of
from hybridllm.server.route_headers import route_headers
from hybridllm.steps import with_care

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from hybridllm.async_client import AsyncHybridClient
    from hybridllm.server.exchange import Exchange
    from hybridllm.server.settings import ServerSettings
    from hybridllm.server.work import Slot, Work
    from hybridllm.streams import AsyncChatStream
    from hybridllm.types.chat_completion_chunk import ChatCompletionChunk
    from hybridllm.types.route import Route

__all__ = ["ChatEndpoint"]

_PING = b": ping\n\n"
_DONE = b"data: [DONE]\n\n"
_MOST_ADDED_BYTES = 64 * 1024
_AS_JSON = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":")
).encode  # made once: json.dumps would make one each time


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
        events = _EventStream(send, self._settings.ping_s)
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
            await events.end(_event(problem.body()))
            if problem.status == 500:
                raise

    async def _send_all(self, call: ChatCall, exchange: Exchange, events: _EventStream) -> None:
        stream = await opened(self._client, call, exchange)
        try:
            await events.begin(stream.route)
            last: ChatCompletionChunk | None = None
            while (chunk := await _next_piece(stream, events)) is not None:
                if chunk.handover is not None and chunk.handover.kind == "restart":
                    raise EngineError("The answer began anew, and a client cannot take back what it has.", "Ask again.")
                if last is not None:
                    await events.add(_piece(last))
                    last = None
                # What comes after either of these is there in the same moment, so holding it back costs no time.
                if not chunk.choices or chunk.choices[0].finish_reason is not None:
                    last = chunk
                else:
                    await events.add(_piece(chunk))
            if last is None:
                raise EngineError("The answer ended without saying how.", "Ask again.")
            await events.end(_event(_piece(last, stream.route)) + _DONE)
        finally:
            await stream.close()


class _EventStream:
    """Server-sent events (HTML Living Standard, 9.2) on their way to the client.

    Until the first piece is there, nothing goes out, so that an error still has its status and the headers say which way the
    answer comes. If that takes longer than ``ping_s``, the headers go out without it, and comments show that the server lives.
    """

    def __init__(self, send: Send, ping_s: float) -> None:
        self.begun = False
        self._send = send
        self._ping_s = ping_s
        self._sent_s = time.monotonic()
        self._added = bytearray()
        self._ended = False

    async def begin(self, route: Route | None = None) -> None:
        """Send the headers, unless they have gone out."""
        if self.begun:
            return
        self.begun = True
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"x-accel-buffering", b"no"),  # nginx would hold the pieces back
            *([] if route is None else route_headers(route)),
        ]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def add(self, document: bytes) -> None:
        """Send one event with the next ``flush`` or ``end``, or at once where there are too many."""
        self._added += _event(document)
        if len(self._added) > _MOST_ADDED_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Send what was added."""
        if self._added:
            events, self._added = bytes(self._added), bytearray()
            await self._write(events)

    async def end(self, events: bytes) -> None:
        """Send what was added and the last events, and end the response."""
        self._ended = True
        await self._send({"type": "http.response.body", "body": bytes(self._added) + events, "more_body": False})

    async def tick(self) -> None:
        """Send a comment if there was nothing else for a while."""
        if not self._ended and time.monotonic() - self._sent_s >= self._ping_s:
            await self.begin()
            await self._write(_PING)

    async def _write(self, text: bytes) -> None:
        self._sent_s = time.monotonic()
        await self._send({"type": "http.response.body", "body": text, "more_body": True})


async def _next_piece(stream: AsyncChatStream, events: _EventStream) -> ChatCompletionChunk | None:
    """The next piece; None after the last. What was added goes out if it has to be waited for: so pieces that came together go
    out together."""
    try:
        return await with_care(stream.__anext__(), events.flush)
    except StopAsyncIteration:
        return None


def _event(document: bytes) -> bytes:
    return b"data: " + document + b"\n\n"


def _piece(chunk: ChatCompletionChunk, route: Route | None = None) -> bytes:
    """A chunk as OpenAI writes it, and in the last one the route."""
    document: dict[str, Any] = chunk.model_dump(exclude_none=True)
    for choice in document["choices"]:
        choice.setdefault("finish_reason", None)
    if route is not None:
        document["route"] = route.model_dump()
    return _AS_JSON(document).encode("utf-8", "replace")
