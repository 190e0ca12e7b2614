"""The official client works against the server unchanged: sync, async, streaming, usage, errors, and the fields it lacks."""

import asyncio
import itertools

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from hybridllm import errors
from hybridllm.testing import ScriptedBackend, ScriptedReply
from tests.server.live_server import KEY, QUESTION, LiveServer

TEXT = "We open at nine, Müller 🙂."


@pytest.fixture(scope="module")
def server():
    backend = ScriptedBackend(itertools.repeat(TEXT), capabilities={"extended_sampling"})
    with LiveServer(backend, keys=[KEY]) as running:
        yield running


@pytest.fixture
def client(server):
    with OpenAI(base_url=server.base_url, api_key=KEY, max_retries=0) as opened:
        yield opened


def test_a_whole_answer(client):
    reply = client.chat.completions.create(model="hybridllm", messages=QUESTION)
    assert reply.choices[0].message.content == TEXT
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert reply.route["served_by"] == "local"
    assert reply._request_id.startswith("req-")


def test_a_stream_with_usage_and_the_route_in_its_last_chunk(client):
    with client.chat.completions.create(
        model="hybridllm", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == TEXT
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == len(TEXT.split())
    assert chunks[-1].route["served_by"] == "local"
    assert [hasattr(chunk, "route") for chunk in chunks].count(True) == 1
    assert len({chunk.id for chunk in chunks}) == 1


def test_without_usage_the_chunk_that_ends_has_the_route(client):
    with client.chat.completions.create(model="hybridllm", messages=QUESTION, stream=True) as stream:
        chunks = list(stream)
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert chunks[-1].route["rule"] == "default"


def test_the_streaming_helper_puts_the_answer_together(client):
    with client.chat.completions.stream(model="hybridllm", messages=QUESTION) as stream:
        for _ in stream:
            pass
        whole = stream.get_final_completion()
    assert whole.choices[0].message.content == TEXT


def test_the_awaited_client(server):
    async def go():
        async with AsyncOpenAI(base_url=server.base_url, api_key=KEY, max_retries=0) as client:
            whole = await client.chat.completions.create(model="hybridllm", messages=QUESTION)
            stream = await client.chat.completions.create(model="hybridllm", messages=QUESTION, stream=True)
            async with stream:
                pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
            return whole.choices[0].message.content, "".join(pieces)

    assert asyncio.run(go()) == (TEXT, TEXT)


def test_an_answer_can_be_put_back_into_the_messages(client, server):
    first = client.chat.completions.create(model="hybridllm", messages=QUESTION).choices[0].message
    for message in (first, first.model_dump()):
        client.chat.completions.create(
            model="hybridllm", messages=[*QUESTION, message, {"role": "user", "content": "And on Sunday?"}]
        )
        asked = server.backend.requests[-1].messages
        assert [one.text for one in asked] == [QUESTION[0]["content"], TEXT, "And on Sunday?"]


def test_labels_tags_and_deadline_come_in_metadata(client):
    reply = client.chat.completions.create(
        model="hybridllm",
        messages=QUESTION,
        metadata={"privacy": "public", "tags": "faq,hours", "deadline_s": "30"},
    )
    assert reply.route["label"] == "private"  # nobody knows what "hours" is, so it is taken for the worst
    known = client.chat.completions.create(model="hybridllm", messages=QUESTION, metadata={"tags": "faq"})
    assert known.route["label"] == "public"


def test_every_field_that_both_have_and_those_that_openai_lacks(client, server):
    given = {
        "max_completion_tokens": 50, "temperature": 0.5, "top_p": 0.9, "frequency_penalty": 0.1, "presence_penalty": 0.2,
        "seed": 7, "stop": ["\n\n"], "user": "u-1", "n": 1,
    }  # fmt: skip
    ours = {"top_k": 20, "min_p": 0.05, "repetition_penalty": 1.1}
    client.chat.completions.create(
        model="hybridllm", messages=QUESTION, logprobs=False, store=False, response_format={"type": "text"}, extra_body=ours,
        **given,
    )  # fmt: skip
    asked = server.backend.requests[-1].model_dump()
    assert {name: asked[name] for name in (*given, *ours)} == {**given, **ours}


def test_the_models(client):
    listed = list(client.models.list())
    assert "hybridllm" in {model.id for model in listed}
    assert client.models.retrieve("hybridllm").owned_by == "hybridllm"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other/model")


@pytest.mark.parametrize(
    ("raised", "expected", "code", "type_"),
    [
        (errors.ContextLengthExceeded("Too long.", field="messages"), openai.BadRequestError,
         "context_length_exceeded", "invalid_request_error"),
        (errors.PolicyDenied("No.", label="private", place="remote"), openai.PermissionDeniedError,
         "policy_denied", "permission_error"),
        (errors.Overloaded("Full.", retry_after_s=2.2), openai.RateLimitError, "overloaded", "rate_limit_error"),
        (errors.EngineError("It died."), openai.InternalServerError, "engine_error", "server_error"),
        (errors.ModelError("Damaged."), openai.InternalServerError, "model_error", "server_error"),
        (errors.DeadlineExceeded("Late."), openai.InternalServerError, "deadline_exceeded", "timeout_error"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_each_error_is_the_clients_exception(raised, expected, code, type_, stream):
    with (
        LiveServer([raised]) as server,
        OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as client,
        pytest.raises(expected) as caught,
    ):
        client.chat.completions.create(model="hybridllm", messages=QUESTION, stream=stream)
    assert caught.value.code == code
    assert caught.value.type == type_
    assert raised.message in caught.value.body["message"]
    assert caught.value.request_id.startswith("req-")
    headers = caught.value.response.headers
    assert headers.get("retry-after") == ("3" if code == "overloaded" else None)
    assert headers.get("x-should-retry") == ("false" if code == "deadline_exceeded" else None)


def test_a_wrong_key_a_wrong_field_and_a_wrong_model(client, server):
    with pytest.raises(openai.AuthenticationError) as caught:
        client.with_options(api_key="key-of-somebody-else-1234").chat.completions.create(
            model="hybridllm", messages=QUESTION
        )
    assert caught.value.code == "invalid_api_key"
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="hybridllm", messages=QUESTION, modalities=["text"])
    assert caught.value.param == "modalities"
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-5", messages=QUESTION)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_the_client_tries_an_overload_again_by_itself():
    with (
        LiveServer([errors.Overloaded("Full."), TEXT]) as server,
        OpenAI(base_url=server.base_url, api_key="any", max_retries=1) as client,
    ):
        reply = client.chat.completions.create(model="hybridllm", messages=QUESTION)
    assert reply.choices[0].message.content == TEXT


def test_an_error_in_mid_stream_raises_and_is_no_whole_answer():
    broken = ScriptedReply("One two three four", error=errors.EngineError("It died."), fail_after=2)
    with LiveServer([broken]) as server, OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as client:
        with client.chat.completions.create(model="hybridllm", messages=QUESTION, stream=True) as stream:
            assert [next(stream).choices[0].delta.content for _ in range(2)] == ["One", " two"]
            with pytest.raises(openai.APIError, match="It died") as caught:
                next(stream)
        assert caught.value.code == "stream_interrupted"
