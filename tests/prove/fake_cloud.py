"""A server on loopback that keeps every byte which reaches it, and answers as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Plan:
    """What the next exchanges do; the last one is repeated."""

    steps: list[str] = field(default_factory=lambda: ["answer"])
    """``answer``, ``late``, ``echo``, ``call``, ``cut``, ``reset``, ``redirect``, ``html`` or a status such as ``503``."""

    says: str = "Hello."
    """The answer."""

    on_arrival: Callable[[], None] | None = None
    """Called once when the first request has arrived whole, before anything is answered."""


class FakeCloud:
    """The server.

    Attributes:
        recorded: Every byte that arrived since it was emptied, connection by connection.
        plan: What to do.
        arrivals: Requests that arrived whole.
    """

    def __init__(self) -> None:
        self.recorded: list[bytearray] = []
        self.plan = Plan()
        self.arrivals = 0
        self._step = 0
        self._server: asyncio.Server | None = None

    @property
    def base_url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    def bytes(self) -> bytes:
        """Everything that arrived; the two halves of something that came over two connections stand together."""
        return b"".join(self.recorded)

    def begin(self, plan: Plan) -> None:
        """Forget what arrived, and follow another plan."""
        self.recorded, self.plan, self._step = [], plan, 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kept = bytearray()
        self.recorded.append(kept)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                line = await reader.readline()
                if not line:
                    writer.close()
                    return
                kept += line
                head += line
            length = next(
                (
                    int(line.split(b":")[1])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length:")
                ),
                0,
            )
            body = b""
            while len(body) < length:
                piece = await reader.read(length - len(body))
                if not piece:
                    break
                kept += piece
                body += piece
            self.arrivals += 1
            arrived, self.plan.on_arrival = self.plan.on_arrival, None
            if arrived is not None:
                arrived()
            step = self.plan.steps[min(self._step, len(self.plan.steps) - 1)]
            self._step += 1
            await self._answer(step, body, writer)
        writer.close()

    async def _answer(self, step: str, body: bytes, writer: asyncio.StreamWriter) -> None:
        send: Callable[[bytes], None] = writer.write
        if step.isdigit():
            quoted = b'{"error": {"message": %s, "code": "said"}}' % json.dumps(body.decode()).encode()
            send(b"HTTP/1.1 %s Said\r\nContent-Type: application/json\r\nRetry-After: 0\r\n" % step.encode())
            send(b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(quoted) + quoted)
        elif step == "redirect":
            send(b"HTTP/1.1 307 Elsewhere\r\nLocation: %s/elsewhere\r\n" % self.base_url.encode())
            send(b"Content-Length: 0\r\nConnection: close\r\n\r\n")
        elif step == "html":
            send(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html>Log in</html>")
        elif step == "reset":
            writer.transport.abort()
            return
        else:
            text = self.plan.says
            if step == "echo":
                said = json.loads(body)["messages"][-1]["content"]
                text = f"{text} {said}" if isinstance(said, str) else text
            if step == "late":
                await asyncio.sleep(0.02)
            send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
            half = len(text) // 2
            pieces: list[dict[str, Any]] = [{"content": piece} for piece in (text[:half], text[half:])]
            reason = "stop"
            tools = json.loads(body).get("tools") if step == "call" else None
            if tools:
                pieces, reason = _call(tools[0]["function"]["name"], text), "tool_calls"
            for piece in pieces:
                send(_chunk(piece))
                if step == "cut":
                    break
            else:
                send(_chunk({}, reason) + b"data: [DONE]\n\n")
        await writer.drain()


def _call(name: str, text: str) -> list[dict[str, Any]]:
    """A call of a tool whose arguments come in two pieces."""
    arguments = json.dumps({"text": text})
    half = len(arguments) // 2
    function = {"name": name, "arguments": arguments[:half]}
    first = {"index": 0, "id": f"call-{len(text)}", "type": "function", "function": function}
    return [{"tool_calls": [first]}, {"tool_calls": [{"index": 0, "function": {"arguments": arguments[half:]}}]}]


def _chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    body = {"model": "cloud", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"
