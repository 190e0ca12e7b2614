"""The server's life: listen, load the model, say that it is ready, answer, read the policy again, drain, end."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hybridllm.boundary import without_content
from hybridllm.errors import HybridLLMError
from hybridllm.server.api_keys import ApiKeys
from hybridllm.server.app import create_app
from hybridllm.server.listener import Listener
from hybridllm.server.notify import Notifier
from hybridllm.server.signals import Signals
from hybridllm.server.status import why_not_alive
from hybridllm.server.work import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from hybridllm.async_client import AsyncHybridClient
    from hybridllm.server.settings import ServerSettings
    from hybridllm.server.status import MetricsSink

__all__ = ["Ready", "serve"]

_log = logging.getLogger("hybridllm.server")
_LAST_WORDS_S = 2.0


@dataclass(frozen=True, slots=True)
class Ready:
    """A server that can answer."""

    url: str
    """Where it listens."""

    model: str
    """The device's model; empty with a place of your own."""

    policy: str
    """Name of the policy in force."""


async def serve(
    client: AsyncHybridClient,
    settings: ServerSettings,
    *,
    keys: ApiKeys | None = None,
    metrics: MetricsSink | None = None,
    on_ready: Callable[[Ready], None] = lambda _ready: None,
    notifier: Notifier | None = None,
) -> int | None:
    """Serve until a signal comes; in the main thread of a program that is there for it.

    The first SIGTERM or Ctrl-C drains: no further connection, and ``drain_s`` for the answers under way. The second one ends
    them at once. SIGHUP reads the policy and the key files again.

    Args:
        client: Who answers; it is closed by whoever made it.
        settings: Where to listen, and the limits.
        keys: The keys that open the server.
        metrics: What ``/metrics`` shows; it is also told of every response.
        on_ready: Told once that answers can be given.
        notifier: Tells the service manager; None for the one that the environment names.

    Returns:
        The signal that ended it at once; None if it ended in order.

    Raises:
        ConfigError: The address cannot be listened on, or needs a key.
        HybridLLMError: The model cannot be loaded.
    """
    return await _Life(
        client,
        settings,
        keys=keys or ApiKeys(),
        metrics=metrics,
        on_ready=on_ready,
        notifier=notifier or Notifier.from_environment(),
    ).run()


class _Life:
    def __init__(
        self,
        client: AsyncHybridClient,
        settings: ServerSettings,
        *,
        keys: ApiKeys,
        metrics: MetricsSink | None,
        on_ready: Callable[[Ready], None],
        notifier: Notifier,
    ) -> None:
        self._client = client
        self._settings = settings
        self._keys = keys
        self._on_ready = on_ready
        self._notifier = notifier
        self._work = Work(settings.max_requests)
        self._listener = Listener(create_app(client, settings, keys=keys, metrics=metrics, work=self._work), settings)
        self._side_tasks: set[asyncio.Task[None]] = set()
        self._ready: Ready | None = None

    async def run(self) -> int | None:
        asyncio.get_running_loop().set_exception_handler(_log_without_content)
        with Signals(self._reload_soon) as signals:
            url = await self._listener.open()
            try:
                if await self._loaded(url, signals.ending):
                    if self._notifier.watchdog_s is not None:
                        self._beside(self._feed_watchdog(self._notifier.watchdog_s / 2))
                    await signals.ending.wait()
                    self._notifier.stopping()
                    await self._drain(signals.ending_now)
            finally:
                for task in self._side_tasks:
                    task.cancel()
                self._work.stop_all()
                await self._work.drain(_LAST_WORDS_S)
                await self._listener.close()
            return signals.last if signals.ending_now.is_set() else None

    async def _loaded(self, url: str, ending: asyncio.Event) -> bool:
        """Load the model and say so; False if a signal to end came meanwhile."""
        loading = asyncio.ensure_future(self._client.load())
        if not await _before(loading, ending):
            return False
        info = loading.result()
        self._ready = Ready(url, "" if info is None else info.name, self._client.policy.name)
        self._notifier.ready(self._status())
        self._on_ready(self._ready)
        return True

    async def _drain(self, ending_now: asyncio.Event) -> None:
        self._listener.stop_accepting()
        draining = asyncio.ensure_future(self._work.drain(self._settings.drain_s))
        if await _before(draining, ending_now) and not draining.result():
            _log.warning("Answers that were not whole after %g s were ended.", self._settings.drain_s)

    async def _feed_watchdog(self, every_s: float) -> None:
        """The service manager ends and starts a server that it does not hear from; so it hears only from one that can answer."""
        silent = ""
        while True:
            why = await why_not_alive(self._client)
            if not why:
                self._notifier.alive()
            elif why != silent:
                _log.error("The service manager's watchdog is not fed: %s", why)
            silent = why
            await asyncio.sleep(every_s)

    def _reload_soon(self) -> None:
        self._beside(self._reload())

    async def _reload(self) -> None:
        self._notifier.reloading()
        for name, read in (("policy", self._client.reload_policy), ("API keys", self._read_keys)):
            try:
                await read()
            except HybridLLMError as error:
                _log.error("The %s were not read again: %s", name, error)
        if self._client.policy_problem:
            _log.error("Nothing leaves this device: %s", self._client.policy_problem)
        else:
            _log.info("The policy %s is in force.", self._client.policy.name)
        if self._ready is None:
            self._notifier.status("Loading the model")
        else:
            self._notifier.ready(self._status())

    async def _read_keys(self) -> None:
        await asyncio.to_thread(self._keys.read_again)

    def _status(self) -> str:
        policy = "a policy that cannot be used" if self._client.policy_problem else self._client.policy.name
        return f"Listening on {'' if self._ready is None else self._ready.url}, policy {policy}"

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._side_tasks.add(task)
        task.add_done_callback(self._side_tasks.discard)


async def _before(work: asyncio.Future[Any], event: asyncio.Event) -> bool:
    """Wait for work or for an event; the work is cancelled where the event comes first."""
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({work, waiting}, return_when=asyncio.FIRST_COMPLETED)
        return work.done()
    finally:
        for task in (work, waiting):
            task.cancel()
        await asyncio.wait({work, waiting})


def _log_without_content(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What the event loop would log with its traceback."""
    error = context.get("exception")
    _log.error("%s %s", context.get("message"), "" if error is None else without_content(error))
