"""Whether it lives, whether it can answer, the watchdog's food, and the metrics."""

import asyncio
import os
import re
from dataclasses import replace

import pytest

from hybridllm import AsyncHybridClient, EngineError, Remote
from hybridllm.metrics import Metrics
from hybridllm.server.notify import Notifier
from hybridllm.server.run import serve
from hybridllm.server.settings import ServerSettings
from hybridllm.testing import ScriptedBackend
from local_runtime.events import EngineStats
from tests.server.live_server import LiveServer


class IllClient(AsyncHybridClient):
    """One that says of itself what a test wants."""

    state = "well"

    async def health(self):
        health = await super().health()
        if self.state == "failed":
            return replace(health, device_ready=False, device_problem="The engine rests.")
        if self.state == "loading":
            return replace(health, device_ready=False, device_problem="")
        if self.state == "restarting":
            return replace(health, device_ready=False, engine=EngineStats(state="restarting"))
        if self.state == "raises":
            raise EngineError("It does not say.")
        return health


@pytest.mark.parametrize(
    ("state", "status", "document"),
    [
        ("well", 200, {"ready": True}),
        ("failed", 503, {"ready": False, "reason": "The engine rests."}),
        ("loading", 503, {"ready": False, "reason": "The device's model is not loaded yet."}),
        ("restarting", 503, {"ready": False, "reason": "The device's model is not loaded yet."}),
        ("raises", 503, {"ready": False, "reason": "It does not say."}),
    ],
)
def test_ready_means_that_an_answer_can_be_given(state, status, document):
    with LiveServer(lambda _: "x", client_class=IllClient) as server:
        server.client.state = state
        reply = server.request("GET", "/readyz")
        assert (reply.status, reply.json) == (status, document)
        assert server.request("GET", "/livez").json == {"alive": True}


def test_a_client_that_does_not_say_how_it_is_is_not_ready(monkeypatch):
    from hybridllm.server import status

    class SilentClient(AsyncHybridClient):
        async def health(self):
            await asyncio.Event().wait()

    monkeypatch.setattr(status, "_HEALTH_S", 0.05)
    with LiveServer(lambda _: "x", client_class=SilentClient) as server:
        reply = server.request("GET", "/readyz")
    assert reply.status == 503
    assert "did not say" in reply.json["reason"]


def test_the_models_of_both_places():
    remote = Remote(base_url="https://llm.example/v1", model="family/large")
    with LiveServer(lambda _: "x", client={"remote": remote, "offline": True}) as server:
        listed = server.request("GET", "/v1/models").json
        assert listed["object"] == "list"
        owners = {model["id"]: model["owned_by"] for model in listed["data"]}
        assert (owners["hybridllm"], owners["family/large"]) == ("hybridllm", "remote")
        one = server.request("GET", "/v1/models/family/large")
        assert one.json == next(model for model in listed["data"] if model["id"] == "family/large")
        assert server.ask(model="family/large").status == 200


def test_metrics_count_requests_and_show_the_clients_health():
    metrics = Metrics("1.2.3")
    with LiveServer(lambda _: "x", metrics=metrics, client={"observers": (metrics.observe,)}) as server:
        server.ask()
        server.ask(n=17)
        text = server.request("GET", "/metrics").body.decode()
        assert server.request("HEAD", "/metrics").status == 200
    assert re.search(r'^hybridllm_requests_total\{.*route="local".*\} 1\.0$', text, re.MULTILINE)
    assert 'hybridllm_http_requests_total{route="/v1/chat/completions",status="400"} 1.0' in text
    assert 'version="1.2.3"' in text


def test_metrics_can_be_left_out():
    with LiveServer(lambda _: "x", metrics=Metrics("1"), metrics_on=False) as server:
        assert server.request("GET", "/metrics").status == 404


class Told(Notifier):
    """Remembers what would be told."""

    def __init__(self, watchdog_s):
        super().__init__("/nowhere", watchdog_s)
        self.messages = []

    def _tell(self, text):
        self.messages.append(text.partition("\n")[0])


def test_the_watchdog_is_fed_by_a_server_that_can_answer_only():
    async def go():
        told = Told(watchdog_s=0.04)
        async with IllClient(local=ScriptedBackend(lambda _: "x")) as client:
            running = asyncio.create_task(serve(client, ServerSettings(port=0), notifier=told))
            while told.messages.count("WATCHDOG=1") < 3:
                await asyncio.sleep(0.005)
            client.state = "failed"
            await asyncio.sleep(0.05)  # the one that is under way
            fed = told.messages.count("WATCHDOG=1")
            await asyncio.sleep(0.3)
            assert told.messages.count("WATCHDOG=1") == fed
            client.state = "restarting"
            while told.messages.count("WATCHDOG=1") == fed:
                await asyncio.sleep(0.005)
            running.cancel()
            await asyncio.wait({running})
            assert running.cancelled()
            return told.messages

    messages = asyncio.run(asyncio.wait_for(go(), 60))
    assert messages[0] == "READY=1"
    assert messages.count("READY=1") == 1


def test_nobody_is_told_where_there_is_nobody():
    environment = {}
    notifier = Notifier.from_environment(environment)
    assert notifier.watchdog_s is None
    notifier.ready("well")  # and nothing happens


@pytest.mark.parametrize(
    ("variables", "watchdog_s"),
    [
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "30000000"}, 30.0),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "0"}, None),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "often"}, None),
        ({"NOTIFY_SOCKET": "vsock:2:1", "WATCHDOG_USEC": "30000000"}, None),
        ({"WATCHDOG_USEC": "30000000"}, None),
    ],
)
def test_the_service_managers_variables_are_for_this_process_only(variables, watchdog_s):
    environment = {"OTHER": "stays", **variables}
    assert Notifier.from_environment(environment).watchdog_s == watchdog_s
    assert environment == {"OTHER": "stays"}


def test_a_service_manager_that_is_gone_is_said_once(caplog, tmp_path):
    notifier = Notifier(str(tmp_path / "gone"))
    for _ in range(3):
        notifier.alive()
    assert len([record for record in caplog.records if "cannot be told" in record.getMessage()]) == 1
