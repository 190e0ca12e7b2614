"""A primary that is down for a while: it is not hammered, nobody waits for it, and that it is back is noticed without a request."""

import asyncio
import time
from dataclasses import replace

import pytest

from hybridllm import AsyncHybridClient, HybridClient, Remote, load_policy
from hybridllm.testing import ScriptedBackend
from policies import Breaker, Retries
from tests.faults.cells import ask_awaited, ask_blocking
from tests.faults.table import RIGHT, WHOLE
from tests.hybridllm.loopback import LoopbackServer, status

QUESTION = {"messages": [{"role": "user", "content": "When does the café open?"}], "privacy": "public"}
BACK_WITHIN_S = 60.0
FAILURES = 5


def client_of(kind, server, **handling):
    return kind(
        local=ScriptedBackend(lambda _: WHOLE, continues=True),
        remote=Remote(base_url=server.base_url, model="cloud-model"),
        policy=replace(load_policy("cloud-assist"), hedge=None, **handling),
    )


def wait_until(condition):
    end_s = time.monotonic() + BACK_WITHIN_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.02)


@pytest.mark.parametrize("streaming", [True, False])
def test_down_for_a_while_and_then_back(streaming):
    with LoopbackServer(RIGHT) as server, client_of(HybridClient, server) as client:
        assert ask_blocking(client, streaming=streaming, **QUESTION).served_by == "remote"
        server.down()
        for _ in range(5):
            outcome = ask_blocking(client, streaming=streaming, **QUESTION)
            assert (outcome.text, outcome.served_by) == (WHOLE, "local")
        wait_until(lambda: client.connectivity == "offline")
        last = ask_blocking(client, streaming=streaming, **QUESTION)
        assert [attempt.place for attempt in last.attempts] == ["local"]
        asked = len(server.exchanges)
        server.up()
        wait_until(lambda: client.connectivity != "offline")
        assert len(server.exchanges) == asked
        back = ask_blocking(client, streaming=streaming, **QUESTION)
        assert (back.text, back.served_by) == (WHOLE, "remote")
        assert [attempt.outcome for attempt in back.attempts] == ["served"]


def test_one_after_the_other_the_breaker_spares_it():
    with LoopbackServer(status(503)) as server:
        breaker = Breaker(failures=FAILURES, open_s=600.0)
        with client_of(HybridClient, server, breaker=breaker, rules=()) as client:
            for _ in range(30):
                outcome = ask_blocking(client, streaming=False, **QUESTION)
                assert (outcome.text, outcome.served_by) == (WHOLE, "local")
            assert outcome.attempts[0].error_type == "BreakerOpen"
            assert outcome.attempts[0].egress_bytes == 0
        assert len(server.exchanges) == FAILURES


def test_all_at_once_the_budget_bounds_the_retries():
    """Without a breaker every request fails once; beyond that only what the budget gives is tried again."""
    count, budget, given = 40, 0.1, 3

    async def ask_all(server):
        retries = Retries(most=5, budget=budget)
        async with client_of(
            AsyncHybridClient, server, breaker=Breaker(failures=10_000), retries=retries, rules=()
        ) as client:
            return await asyncio.gather(*(ask_awaited(client, streaming=True, **QUESTION) for _ in range(count)))

    with LoopbackServer(status(503)) as server:
        outcomes = asyncio.run(ask_all(server))
        assert {(outcome.text, outcome.served_by) for outcome in outcomes} == {(WHOLE, "local")}
        assert count <= len(server.exchanges) <= count + int(count * budget) + given + 1
        assert sum(outcome.attempts[0].tries for outcome in outcomes) == len(server.exchanges)
