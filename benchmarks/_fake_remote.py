"""A fast OpenAI-compatible server in a process of its own, for benchmarks: it keeps connections open and answers at once, or late.

``with FakeRemote(pieces=20) as remote`` starts it; it ends with the block, or when this process does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["FakeRemote"]

REPOSITORY = Path(__file__).resolve().parents[1]
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"


class FakeRemote:
    """The server's process.

    Args:
        pieces: Pieces of every answer.
        gap_ms: Pause before each piece but the first.
        first_ms: Pause before the first piece.
        tail_share: Share of the requests whose first piece comes later.
        tail_ms: How much later those come.
        cut_after: Pieces after which the connection is closed; 0 for whole answers.
        stall: Whether the connection stays open after them instead, and nothing more comes.
        silent: Whether nothing is ever answered.

    Attributes:
        base_url: Its base URL.
    """

    def __init__(
        self,
        *,
        pieces: int = 20,
        gap_ms: float = 0.0,
        first_ms: float = 0.0,
        tail_share: float = 0.0,
        tail_ms: float = 0.0,
        cut_after: int = 0,
        stall: bool = False,
        silent: bool = False,
    ) -> None:
        command = [sys.executable, "-m", "benchmarks._fake_remote", "--pieces", str(pieces), "--gap-ms", str(gap_ms)]
        command += ["--first-ms", str(first_ms), "--tail-share", str(tail_share), "--tail-ms", str(tail_ms)]
        command += ["--cut-after", str(cut_after), *(["--stall"] if stall else []), *(["--silent"] if silent else [])]
        self._command = command
        self.base_url = ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        port = json.loads(self._process.stdout.readline())["port"]
        self.base_url = f"http://127.0.0.1:{port}/v1"
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.communicate()  # it ends with its standard input
        self._process.wait(timeout=10)


def _chunk(text: str | None, finish: str | None = None, **more: object) -> bytes:
    body = {
        "id": "chatcmpl-fake",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "fake",
        "choices": [{"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": finish}],
        **more,
    }
    return _framed(b"data: " + json.dumps(body).encode() + b"\n\n")


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class _Server(asyncio.Protocol):
    """One connection; requests come one after the other."""

    def __init__(self, arguments: argparse.Namespace, chance: random.Random) -> None:
        self._arguments = arguments
        self._chance = chance
        self._begun = b""
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        count = arguments.cut_after or arguments.pieces
        self._pieces = [_chunk(f" word{index}") for index in range(count)]
        usage = {"prompt_tokens": 7, "completion_tokens": count, "total_tokens": 7 + count}
        self._end = (
            b""
            if arguments.cut_after
            else _chunk(None, "stop") + _chunk(None, usage=usage) + _framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._begun += data
        head, found, body = self._begun.partition(b"\r\n\r\n")
        if not found:
            return
        length = next(
            (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        if len(body) >= length:
            self._begun = body[length:]
            self._task = asyncio.ensure_future(self._answer())

    async def _answer(self) -> None:
        arguments, transport = self._arguments, self._transport
        assert transport is not None
        if arguments.silent:
            return
        late_ms = arguments.tail_ms if self._chance.random() < arguments.tail_share else 0.0
        first_ms = arguments.first_ms + late_ms
        if first_ms:
            await asyncio.sleep(first_ms / 1000)
        transport.write(_HEAD)
        for index, piece in enumerate(self._pieces):
            if index and arguments.gap_ms:
                await asyncio.sleep(arguments.gap_ms / 1000)
            transport.write(piece)
        if not arguments.cut_after:
            transport.write(self._end)
        elif not arguments.stall:
            transport.close()


async def _serve(arguments: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    chance = random.Random(0)
    server = await loop.create_server(lambda: _Server(arguments, chance), "127.0.0.1", 0, backlog=512)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    async with server:
        await loop.run_in_executor(None, sys.stdin.read)


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pieces", type=int, default=20)
    parser.add_argument("--cut-after", type=int, default=0)
    for name in ("--stall", "--silent"):
        parser.add_argument(name, action="store_true")
    for name in ("--gap-ms", "--first-ms", "--tail-share", "--tail-ms"):
        parser.add_argument(name, type=float, default=0.0)
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
