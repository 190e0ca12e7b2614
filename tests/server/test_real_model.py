"""The whole of it for real: ``hybridllm serve`` with the bundled model, the official client, and the engine behind it."""

import asyncio
import signal
import sys

import psutil
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.engine_cache import ENGINE_CACHE, program
from tests.server.live_server import LiveServer, until
from tests.server.server_process import ServerProcess

ASKED = {"model": "hybridllm", "messages": [{"role": "user", "content": "What can you do?"}], "temperature": 0}


@pytest.fixture(scope="module")
def server():
    with ServerProcess(program("-m", "hybridllm"), "--offline", HYBRIDLLM_CACHE=str(ENGINE_CACHE)) as running:
        running.listening(within_s=300)
        yield running
        if sys.platform != "win32":
            engines = psutil.Process(running.process.pid).children(recursive=True)
            assert engines
            running.process.send_signal(signal.SIGTERM)
            assert running.ended() == 0
            assert psutil.wait_procs(engines, timeout=30)[1] == []


def test_the_bundled_model_answers_the_official_client_in_every_way(server):
    with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["hybridllm", "kiosk-assistant"]
        whole = client.chat.completions.create(**ASKED, max_completion_tokens=24)
        with client.chat.completions.create(
            **ASKED, max_tokens=24, stream=True, stream_options={"include_usage": True}
        ) as stream:
            chunks = list(stream)
    text = whole.choices[0].message.content
    assert text
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text
    assert whole.model == "kiosk-assistant"
    assert 1 <= whole.usage.completion_tokens <= 24
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert whole.route["served_by"] == chunks[-1].route["served_by"] == "local"

    async def awaited():
        async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
            answers = await asyncio.gather(*(client.chat.completions.create(**ASKED, max_tokens=24) for _ in range(3)))
            return {answer.choices[0].message.content for answer in answers}

    assert asyncio.run(awaited()) == {text}


def test_it_is_ready_and_shows_the_engines_pages(server):
    assert server.get("/readyz").json == {"ready": True}
    text = server.get("/metrics").body.decode()
    assert "hybridllm_build_info{" in text
    assert server.ask(max_tokens=100_000).status in (200, 400)


def test_a_client_that_goes_away_frees_the_engines_pages():
    with LiveServer(None, client={"cache_dir": ENGINE_CACHE}) as server:

        def stats():
            return server.wait_for(server.client.engine_stats())

        idle = stats()
        assert idle.pages_free == idle.pages_total
        endless = {**ASKED, "temperature": 1.5, "max_tokens": 1500, "extra_body": {"top_k": 0}}
        with OpenAI(base_url=server.base_url, api_key="none", max_retries=0) as client:
            with client.chat.completions.create(**endless, stream=True) as stream:
                next(stream)
                generated = stats()
            until(lambda: stats().running == 0, "the end of the work")
            after = stats()
        assert generated.requests_total == 1
        assert after.completion_tokens_total < 1000  # it was stopped, and did not come to its end
        assert after.pages_free == after.pages_total
