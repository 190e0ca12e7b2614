"""The least that a server in between can do: take the request in, send its bytes on, and pass the answer's bytes back.

Starlette and uvicorn in front, as ``hybridllm serve`` has them, and httpx behind. It reads nothing, decides nothing and checks
nothing, so what it adds to a call is what a second hop costs on this machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

from benchmarks._fake_remote import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.requests import Request

__all__ = ["relay"]


@contextlib.contextmanager
def relay(remote_url: str) -> Iterator[str]:
    """A process that passes everything on to `remote_url`; gives its own base URL."""
    command = [sys.executable, "-m", "benchmarks._relay", "--to", remote_url]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}/v1"
    finally:
        process.terminate()
        process.wait(timeout=30)


def main() -> None:
    """Serve until told to end."""
    import httpx
    import uvicorn
    from starlette.applications import Starlette
    from starlette.responses import StreamingResponse
    from starlette.routing import Route

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", required=True)
    url = f"{parser.parse_args().to}/chat/completions"
    client = httpx.AsyncClient(trust_env=False)
    headers = {"content-type": "application/json", "accept": "text/event-stream", "accept-encoding": "identity"}

    async def pass_on(request: Request) -> StreamingResponse:
        sent = client.build_request("POST", url, content=await request.body(), headers=headers)
        answer = await client.send(sent, stream=True)

        async def body() -> AsyncIterator[bytes]:
            try:
                async for piece in answer.aiter_raw():
                    yield piece
            finally:
                await answer.aclose()

        return StreamingResponse(body(), answer.status_code, media_type=answer.headers["content-type"])

    # With its protocol named, asyncio switches Nagle's algorithm off for what it accepts; else each answer waits 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    app = Starlette(routes=[Route("/v1/chat/completions", pass_on, methods=["POST"])])
    uvicorn.Server(uvicorn.Config(app, http="httptools", log_level="error", access_log=False)).run([listener])


if __name__ == "__main__":
    main()
