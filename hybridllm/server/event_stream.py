"""Server-sent events: the pieces of an answer as bytes, and their way to the client."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Literal

from hybridllm.server.route_headers import route_headers
from hybridllm.streams import Pieces
from hybridllm.types.chat_completion_chunk import ChatCompletionChunk

if TYPE_CHECKING:
    from starlette.types import Send

    from hybridllm.router import RequestRun
    from hybridllm.types.route import Route

__all__ = ["DONE", "EventStream", "WrittenPieces", "event", "written"]

DONE = b"data: [DONE]\n\n"
"""The event after the last one."""

_PING = b": ping\n\n"
_MOST_ADDED_BYTES = 64 * 1024
_AS_JSON = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":")
).encode  # made once: json.dumps would make one each time


class WrittenPieces(Pieces[ChatCompletionChunk | bytes]):
    """An answer whose pieces of nothing but text come as the JSON that they are sent as; all others come as chunks."""

    def __init__(self, run: RequestRun, *, include_usage: bool) -> None:
        super().__init__(run, include_usage=include_usage)
        self._model = ""
        self._head = ""

    def _piece(self, chunk: ChatCompletionChunk) -> ChatCompletionChunk:
        return chunk

    def _text(self, choice: int, role: Literal["assistant"] | None, text: str) -> bytes:
        run = self._run
        if self._model != run.model:  # another place goes on
            self._model = run.model
            chunk = {
                "id": run.request_id,
                "object": "chat.completion.chunk",
                "created": run.created,
                "model": run.model,
            }
            self._head = f'{_AS_JSON(chunk)[:-1]},"choices":[{{"index":'
        said = "" if role is None else f'"role":"{role}",'
        document = f'{self._head}{choice},"delta":{{{said}"content":{_AS_JSON(text)}}},"finish_reason":null}}]}}'
        return document.encode("utf-8", "replace")


class EventStream:
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
        self._added += event(document)
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


def event(document: bytes) -> bytes:
    """One event."""
    return b"data: " + document + b"\n\n"


def written(chunk: ChatCompletionChunk, route: Route | None = None) -> bytes:
    """A chunk as OpenAI writes it, and in the last one the route."""
    document: dict[str, Any] = chunk.model_dump(exclude_none=True)
    for choice in document["choices"]:
        choice.setdefault("finish_reason", None)
    if route is not None:
        document["route"] = route.model_dump()
    return _AS_JSON(document).encode("utf-8", "replace")
