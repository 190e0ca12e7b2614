"""The bundled model as the net: what it says when the remote fails is what it would have said, to the last character."""

from dataclasses import replace

import pytest

from hybridllm import HybridClient, Remote, load_policy
from policies import Limits
from tests.engine_cache import ENGINE_CACHE
from tests.faults.behaviours import ERROR_EVENT
from tests.faults.cells import MARGIN_S, ask_blocking
from tests.hybridllm.loopback import LoopbackServer, chunk, free_port, reset, silent, stalls_after, status, stream

SHEET = """You are the kiosk assistant of the Harbour Museum.

Opening hours:
- Monday: closed
- Tuesday to Friday: 10:00 to 17:30
- Sunday: 9:00 to 18:00"""
ASKED = {
    "messages": [
        {"role": "system", "content": SHEET},
        {"role": "user", "content": "When are you open on Sunday?"},
    ],
    "privacy": "public",
    "temperature": 0,
    "max_tokens": 64,
}
LIMITS = Limits(connect_s=5.0, first_token_s=0.4, gap_s=0.4)
CUTS = 8


@pytest.fixture(scope="module")
def device():
    with HybridClient(cache_dir=ENGINE_CACHE) as client:
        client.load()
        yield client


@pytest.fixture(scope="module")
def said(device):
    """What the device says to it when nobody disturbs it."""
    text = ask_blocking(device, streaming=True, **ASKED).text
    assert "9:00 to 18:00" in text
    return text


@pytest.fixture(scope="module")
def asking(device):
    """Asks through clients that share the one engine."""

    def ask(base_url, streaming):
        policy = replace(load_policy("cloud-assist"), rules=(), hedge=None, limits=LIMITS)
        remote = Remote(base_url=base_url, model="cloud-model", max_retries=0)
        local = device._client._backends["local"]
        client = HybridClient(local=Shared(local), remote=remote, policy=policy)
        with client:
            return ask_blocking(client, streaming=streaming, **ASKED)

    return ask


class Shared:
    """A place that one client may close without ending it for the others."""

    def __init__(self, backend):
        self._backend = backend

    def __getattr__(self, name):
        return getattr(self._backend, name)

    async def aclose(self):
        return None


FAULTS = {
    "silent": silent(),
    "503": status(503),
    "reset": reset(),
    "login page": stream(b"<html></html>", headers={"Content-Type": "text/html"}),
    "an error event": stream(ERROR_EVENT),
}


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_before_the_first_token(asking, said, fault, streaming):
    with LoopbackServer(fault) as server:
        outcome = asking(server.base_url, streaming)
    assert (outcome.text, outcome.finish_reason, outcome.served_by) == (said, "stop", "local")
    assert [attempt.place for attempt in outcome.attempts] == ["remote", "local"]
    assert outcome.took_s < LIMITS.first_token_s + MARGIN_S


@pytest.mark.parametrize("streaming", [True, False])
def test_nobody_there(asking, said, streaming):
    outcome = asking(f"http://127.0.0.1:{free_port()}/v1", streaming)
    assert (outcome.text, outcome.finish_reason, outcome.served_by) == (said, "stop", "local")


@pytest.mark.parametrize("part", range(1, CUTS))
@pytest.mark.parametrize("ending", ["cut", "stall"])
def test_in_the_middle_it_goes_on_with_its_own_words(asking, said, part, ending):
    """Cut anywhere, also inside a word: it has to end the word as it would have done."""
    begun = said[: len(said) * part // CUTS]
    data = b"".join(map(chunk, (begun[:5], begun[5:])))
    with LoopbackServer(stream(data) if ending == "cut" else stalls_after(data)) as server:
        outcome = asking(server.base_url, streaming=True)
    assert (outcome.text, outcome.finish_reason) == (said, "stop")
    assert [attempt.why for attempt in outcome.attempts] == ["first", "continue"]


def test_it_goes_on_with_words_that_are_not_its_own(asking):
    begun = "On Sunday we are open from"
    with LoopbackServer(stream(chunk(begun))) as server:
        outcome = asking(server.base_url, streaming=True)
    assert outcome.pieces[: outcome.handed_over_at] == [begun]
    assert len(outcome.text) > len(begun)
    assert outcome.finish_reason == "stop"
