"""Uvicorn's server without its signals and its way to leave the process."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import uvicorn

from hybridllm.errors import ConfigError
from hybridllm.server.http_protocol import ConnectionConfig

if TYPE_CHECKING:
    from collections.abc import Generator

    from starlette.types import ASGIApp

    from hybridllm.server.settings import ServerSettings

__all__ = ["Listener"]

_TICK_S = 1.0


class Listener(uvicorn.Server):
    """Accepts connections and lets an application answer them.

    Args:
        app: The application.
        settings: Where it listens.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        super().__init__(ConnectionConfig(app, settings))
        self._settings = settings
        self._serving: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()
        self._closing = asyncio.Event()

    async def open(self) -> str:
        """Begin to accept connections.

        Returns:
            The address as an URL.

        Raises:
            ConfigError: The address cannot be listened on.
        """
        self._serving = asyncio.create_task(self.serve(), name="hybridllm-server")
        self._serving.add_done_callback(lambda _task: self._listening.set())
        await self._listening.wait()
        if not self.started:
            await self._serving  # it says why
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def stop_accepting(self) -> None:
        """Take no further connections; those that are open stay."""
        for server in self.servers:
            server.close()

    async def close(self) -> None:
        """End what is still open."""
        self.should_exit = True
        self._closing.set()
        if self._serving is not None:
            await self._serving

    async def startup(self, sockets: None = None) -> None:  # type: ignore[override]  # we never hand it any
        """Listen; uvicorn would end the process where it can't."""
        try:
            await super().startup(sockets)
        except SystemExit as leaving:
            failure = leaving.__context__
            why = (failure.strerror or str(failure)) if isinstance(failure, OSError) else "uvicorn cannot start"
            why = why.rpartition(": ")[2].lower().rstrip(".")
            raise ConfigError(
                f"{self._settings.host}:{self._settings.port} cannot be listened on: {why}.",
                "Choose another --port or --host, or end the program that has it.",
                key="port",
            ) from None
        self._listening.set()

    async def main_loop(self) -> None:
        """Wait for the end; once a second the date in the headers is made anew, where uvicorn would wake up ten times."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), _TICK_S)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals are for whoever runs the server."""
        yield
