"""The real server in a thread of this process: real connections, a real client behind it, and a scripted place on the device."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import threading
import time

from hybridllm import AsyncHybridClient
from hybridllm.server import ApiKeys, ServerSettings, create_app
from hybridllm.server.listener import Listener
from hybridllm.server.work import Work
from hybridllm.testing import ScriptedBackend

KEY = "key-of-the-tests-0123456789"
QUESTION = [{"role": "user", "content": "When do you open?"}]
HELD = 3600.0
"""Seconds that stand for "until somebody stops it"."""


class LiveServer:
    """A server on a free port while its block runs.

    Args:
        local: A backend, or the replies of a scripted one; None for the real engine.
        keys: API keys.
        metrics: What ``/metrics`` shows.
        client: More arguments of the client.
        client_class: What is made of them.
        metrics_on: The setting ``metrics``.
        settings: More settings of the server.
    """

    def __init__(
        self, local, *, keys=(), metrics=None, client=None, client_class=AsyncHybridClient, metrics_on=None, **settings
    ):
        self.backend = local if local is None or isinstance(local, ScriptedBackend) else ScriptedBackend(local)
        self.settings = ServerSettings(port=0, metrics=metrics_on, **settings)
        self._keys = ApiKeys(keys)
        self._metrics = metrics
        self._client_class = client_class
        self._arguments = {"local": self.backend, **(client or {})}
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live-server")
        self._failure = None
        self.url = ""

    def _run(self):
        try:
            with contextlib.closing(self._loop):
                self._loop.run_until_complete(self._serve())
        except BaseException as error:  # noqa: BLE001 - raised again in the test's thread
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self):
        async with self._client_class(**self._arguments) as self.client:
            await self.client.load()
            self.work = Work(self.settings.max_requests)
            app = create_app(self.client, self.settings, keys=self._keys, metrics=self._metrics, work=self.work)
            listener = Listener(app, self.settings)
            self.url = await listener.open()
            self._ready.set()
            await self._stopping.wait()
            self.work.stop_all()
            await self.work.drain(5)
            await listener.close()

    def __enter__(self):
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, *exc_info):
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(timeout=30)
        assert not self._thread.is_alive()
        if self._failure is not None:
            raise self._failure

    @property
    def port(self):
        return int(self.url.rpartition(":")[2])

    @property
    def base_url(self):
        return f"{self.url}/v1"

    def wait_for(self, coroutine):
        """Run a coroutine in the server's event loop and return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=60)

    def call(self, function, *arguments):
        """Call something in the server's event loop and return what it says."""

        async def calling():
            return function(*arguments)

        return self.wait_for(calling())

    def connect(self):
        """A bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def request(self, method, path, body=None, headers=None):
        """One request with nothing in it but what is said here; a body that is no bytes is sent as JSON."""
        given = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            given.setdefault("Content-Type", "application/json")
        return request(self.port, method, path, body, given)

    def ask(self, headers=None, /, **fields):
        """A chat completion; the last messages are the tests' own."""
        return self.request("POST", "/v1/chat/completions", {"messages": QUESTION, **fields}, headers)


class Reply:
    """A whole response."""

    def __init__(self, response):
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        return self.json["error"]

    @property
    def events(self):
        """The data of the server-sent events; ``[DONE]`` stays text."""
        data = [line[6:] for line in self.body.decode().split("\n\n") if line.startswith("data: ")]
        return [text if text == "[DONE]" else json.loads(text) for text in data]


def request(port, method, path, body=None, headers=None):
    """One request on a connection of its own."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request(method, path, body, headers or {})
        with contextlib.closing(connection.getresponse()) as response:
            return Reply(response)


def until(condition, what="it", within_s=30.0):
    """Wait for something that happens in another thread or process."""
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, f"{what} did not happen"
        time.sleep(0.005)


def read_all(connection):
    """Everything that comes until the other side closes."""
    with contextlib.suppress(ConnectionResetError):
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)
