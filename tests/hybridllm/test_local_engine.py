"""The device for real: a small checkpoint, compiled, behind the client, through the worker's process."""

import os
import signal
import sys
import threading
import time

import psutil
import pytest

from hybridllm import HybridClient
from hybridllm.backends.local import LocalBackend, from_local_error
from hybridllm.errors import (
    BadRequest,
    ContextLengthExceeded,
    DeadlineExceeded,
    EngineError,
    ModelError,
)
from hybridllm.types import ChatRequest
from local_runtime.errors import error_from_code
from tests.engine_cache import ENGINE_CACHE
from tests.hybridllm.faces import AwaitedFace, text_of
from tests.local_runtime.checkpoints import llama_config, write_checkpoint

HELLO = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A random checkpoint, which never ends by itself, and a cache for it."""
    checkpoint = write_checkpoint(tmp_path_factory.mktemp("checkpoint"), llama_config())
    return checkpoint, tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def client(folders):
    progress = []
    checkpoint, cache = folders
    with HybridClient(
        checkpoint, quant="f32", cache_dir=cache, context_tokens=256, on_progress=progress.append
    ) as made:
        made.progress = progress
        assert made.model_info is None
        assert made.engine_stats().state == "stopped"
        yield made


def test_it_loads_and_tells_its_progress(client):
    info = client.load()
    assert (info.model_type, info.quant, info.context_tokens) == ("llama", "f32", 256)
    assert client.model_info == info
    assert client.progress[-1].stage == "ready"
    assert {"resolve", "convert", "compile", "load"} & {step.stage for step in client.progress}


def test_an_answer_is_greedy_and_the_same_in_both_faces(client, folders):
    asked = {"messages": HELLO, "temperature": 0, "max_tokens": 12}
    whole = client.chat.completions.create(**asked)
    assert whole.choices[0].finish_reason in ("stop", "length")
    assert whole.usage.completion_tokens <= 12
    assert whole.route.served_by == "local"
    assert whole.route.ttft_ms > 0
    with client.chat.completions.create(stream=True, **asked) as stream:
        assert text_of(list(stream)) == whole.choices[0].message.content
    checkpoint, cache = folders
    awaited = AwaitedFace(model=checkpoint, quant="f32", cache_dir=cache, context_tokens=256)
    try:
        assert awaited.create(**asked).choices[0].message.content == whole.choices[0].message.content
    finally:
        awaited.close()


def test_a_seed_makes_it_repeatable_and_stop_ends_it(client):
    asked = {"messages": HELLO, "temperature": 1, "max_tokens": 20, "seed": 3, "top_k": 50}
    first = client.chat.completions.create(**asked).choices[0].message.content
    assert client.chat.completions.create(**asked).choices[0].message.content == first
    assert len(first) > 2
    stopped = client.chat.completions.create(**asked, stop=[first[1:3]])
    assert stopped.choices[0].finish_reason == "stop"
    assert stopped.choices[0].message.content == first[: first.index(first[1:3])]


def wait_until(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_closing_a_stream_frees_its_pages(client):
    client.load()
    free = client.engine_stats().pages_free
    in_use = []
    while not any(in_use) and len(in_use) < 10:  # on a busy machine an answer may be whole before anybody looks
        with client.chat.completions.create(messages=HELLO, stream=True, max_tokens=200) as stream:
            next(stream)
            in_use.append(free - client.engine_stats().pages_free)
    assert any(in_use)
    wait_until(lambda: client.engine_stats().running == 0)
    assert client.engine_stats().pages_free == free
    with pytest.raises(DeadlineExceeded):
        client.chat.completions.create(messages=HELLO, max_tokens=200, deadline_s=0.001)
    wait_until(lambda: client.engine_stats().running == 0)
    assert client.engine_stats().pages_free == free


def test_the_wait_for_others_is_part_of_the_expected_first_token(folders):
    checkpoint, cache = folders
    asked = {"messages": HELLO, "temperature": 0, "max_tokens": 200}
    with HybridClient(checkpoint, quant="f32", cache_dir=cache, context_tokens=256, max_sequences=1) as client:
        list(client.chat.completions.create(**asked, stream=True))
        alone_ms = client.explain(messages=HELLO).facts.local_ttft_ms
        streams = [client.chat.completions.create(**asked, stream=True) for _ in range(2)]
        first = [next(streams[0]), next(streams[0])]
        waiting = threading.Thread(target=lambda: list(streams[1]))
        waiting.start()
        queued_ms = alone_ms
        deadline = time.monotonic() + 30
        while queued_ms <= alone_ms and time.monotonic() < deadline:
            queued_ms = client.explain(messages=HELLO).facts.local_ttft_ms
        streams[0].close()
        waiting.join()
        assert first
        assert queued_ms > alone_ms
        assert client.explain(messages=HELLO).facts.local_ttft_ms < queued_ms


def test_cancelling_the_bundled_models_answers_frees_every_page():
    asked = {"messages": [{"role": "user", "content": "Tell me all that you can do."}], "stream": True}
    with HybridClient(cache_dir=ENGINE_CACHE) as bundled:
        bundled.load()

        def pages_in_use():
            stats = bundled.engine_stats()
            return stats.pages_total - stats.pages_free

        assert pages_in_use() == 0
        in_use = []
        for turn in range(5):
            with bundled.chat.completions.create(**asked, temperature=1, seed=turn) as stream:
                next(stream)
                in_use.append(pages_in_use())
            wait_until(lambda: pages_in_use() == 0)
            stats = bundled.engine_stats()
            assert (stats.running, stats.waiting) == (0, 0)
        assert any(in_use)  # not each time: on a busy machine an answer may be whole before anybody looks
        assert bundled.engine_stats().requests_total == 5


def test_a_prompt_that_is_too_long(client):
    with pytest.raises(ContextLengthExceeded, match="256"):
        client.chat.completions.create(messages=[{"role": "user", "content": "word " * 400}])


def test_more_tokens_than_there_is_room_for_are_cut_cold_and_warm(folders):
    checkpoint, cache = folders
    with HybridClient(checkpoint, quant="f32", cache_dir=cache, context_tokens=256) as made:
        for _ in range(3):  # the first time nobody knows the context yet
            reply = made.chat.completions.create(messages=HELLO, max_tokens=5000, temperature=0)
            assert reply.choices[0].finish_reason == "length"
            assert reply.usage.total_tokens == 256


def test_more_tokens_than_there_is_room_for_are_cut_by_the_bundled_model_too():
    with HybridClient(cache_dir=ENGINE_CACHE) as bundled:
        for _ in range(2):
            reply = bundled.chat.completions.create(messages=HELLO, max_tokens=5000, temperature=0)
            assert reply.choices[0].finish_reason in ("stop", "length")


def test_a_request_may_name_the_model_as_the_client_did_cold_and_warm(folders):
    checkpoint, cache = folders
    with HybridClient(str(checkpoint), quant="f32", cache_dir=cache, context_tokens=256) as made:
        for _ in range(2):
            made.chat.completions.create(messages=HELLO, model=str(checkpoint), max_tokens=1)
        made.chat.completions.create(messages=HELLO, model=made.model_info.name, max_tokens=1)


def test_explain_starts_nothing(folders):
    checkpoint, cache = folders
    with HybridClient(checkpoint, cache_dir=cache) as other:
        explained = other.explain(messages=HELLO)
        assert explained.decision.candidates == ("local",)
        assert explained.facts.local_ready is False
        assert other.engine_stats().state == "stopped"


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGKILL")
def test_an_answer_goes_on_where_it_was_when_its_engine_is_killed(client):
    asked = {"messages": HELLO, "temperature": 0, "max_tokens": 100}
    undisturbed = client.chat.completions.create(**asked)
    backend = client._client._backends["local"]
    with client.chat.completions.create(stream=True, **asked) as stream:
        next(stream)
        os.kill(backend._engine.worker_pid, signal.SIGKILL)
        killed = stream.get_final_completion()
    assert killed.choices[0].message.content == undisturbed.choices[0].message.content
    assert killed.usage.completion_tokens == undisturbed.usage.completion_tokens
    assert [attempt.outcome for attempt in killed.route.attempts] == ["served"]


def test_two_clients_at_once_and_one_that_nobody_closes(folders):
    checkpoint, cache = folders
    asked = {"messages": HELLO, "temperature": 0, "max_tokens": 4}
    dropped = HybridClient(checkpoint, quant="f32", cache_dir=cache, context_tokens=256)
    with HybridClient(checkpoint, quant="f32", cache_dir=cache, context_tokens=256) as closed:
        answers = [one.chat.completions.create(**asked).choices[0].message.content for one in (dropped, closed)]
        processes = [psutil.Process(one._client._backends["local"]._engine.worker_pid) for one in (dropped, closed)]
        assert answers[0] == answers[1]
        assert processes[0] != processes[1]
    psutil.wait_procs([processes[1]], timeout=5)
    assert dropped.chat.completions.create(**asked).choices[0].message.content == answers[0]
    with pytest.warns(ResourceWarning, match="without being closed"):
        del dropped
    gone, alive = psutil.wait_procs(processes, timeout=5)
    assert (len(gone), alive) == (2, [])


@pytest.mark.parametrize("streaming", [False, True])
def test_a_folder_that_is_no_checkpoint(tmp_path, streaming):
    with HybridClient(tmp_path) as broken, pytest.raises(ModelError, match=r"config\.json"):
        broken.chat.completions.create(messages=HELLO, stream=streaming)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("checkpoint", ModelError),
        ("unsupported_model", ModelError),
        ("tokenizer", ModelError),
        ("target", ModelError),
        ("compile", ModelError),
        ("invalid_request", BadRequest),
        ("context_length_exceeded", ContextLengthExceeded),
        ("out_of_memory", EngineError),
        ("worker_died", EngineError),
        ("protocol", EngineError),
        ("internal", EngineError),
    ],
)
def test_the_engines_errors_become_ours(code, error):
    mapped = from_local_error(error_from_code(code, "What.", "Mend."))
    assert type(mapped) is error
    assert str(mapped) == "What. Mend."


def test_parts_of_a_message_are_lines_to_the_model():
    parts = [{"type": "text", "text": "open 9-10"}, {"type": "text", "text": "Prices: 3"}]
    request = ChatRequest.model_validate({"messages": [{"role": "user", "content": parts}]})
    assert request.messages[0].text == "open 9-10\nPrices: 3"


def test_a_developer_is_a_system_to_chat_templates_and_a_refusal_is_what_was_said():
    from hybridllm.backends.local_request import engine_messages

    request = ChatRequest.parse(
        [
            {"role": "developer", "content": "a"},
            {"role": "user", "content": [{"type": "text", "text": "b"}], "name": "jane", "privacy": "public"},
            {"role": "assistant", "content": None, "refusal": "c"},
        ]
    )
    assert engine_messages(request) == [
        {"role": "system", "content": "a"},
        {"role": "user", "content": "b", "name": "jane"},
        {"role": "assistant", "content": "c"},
    ]


def test_its_arguments_are_checked_before_anything_starts():
    with pytest.raises(BadRequest, match="threads"):
        LocalBackend("kiosk-assistant", threads=0)


# ---- saved states ----


def test_a_saved_beginning_survives_the_end_of_the_client(folders, tmp_path):
    checkpoint, cache = folders
    arguments = {"quant": "f32", "cache_dir": cache, "context_tokens": 256}
    beginning = [{"role": "system", "content": "You answer for a museum: it opens at nine. " * 3}]
    asked = {
        "messages": [*beginning, {"role": "user", "content": "When?"}],
        "temperature": 0,
        "max_tokens": 12,
        "tools": None,
    }
    path = tmp_path / "kiosk.kv"
    with HybridClient(checkpoint, **arguments) as first:
        expected = first.chat.completions.create(**asked)
        saved = first.save_state(path, messages=beginning)
        assert saved.file_bytes == path.stat().st_size
    with HybridClient(checkpoint, saved_state=path, **arguments) as second:
        answer = second.chat.completions.create(**asked)
    assert answer.choices[0].message.content == expected.choices[0].message.content
    details = answer.usage.prompt_tokens_details
    assert details is not None
    assert details.cached_tokens >= saved.tokens > 60
    face = AwaitedFace(model=checkpoint, **arguments)
    try:
        runner = face._runner
        assert runner.run(face.client.restore_state(path)).tokens == saved.tokens
        again = face.create(**asked)
        assert again.choices[0].message.content == expected.choices[0].message.content
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(BadRequest, match="torn"):
            runner.run(face.client.restore_state(path))
    finally:
        face.close()


# ---- several answers ----


def test_several_answers_of_the_engine_are_those_of_their_seeds(client):
    asked = {"messages": HELLO, "max_tokens": 8, "temperature": 1.0}
    several = client.chat.completions.create(**asked, n=3, seed=5)
    alone = [client.chat.completions.create(**asked, seed=5 + index) for index in range(3)]
    texts = [choice.message.content for choice in several.choices]
    assert texts == [reply.choices[0].message.content for reply in alone]
    assert len(set(texts)) == 3
    assert several.usage.prompt_tokens == alone[0].usage.prompt_tokens
    assert several.usage.completion_tokens == sum(reply.usage.completion_tokens for reply in alone)
    with client.chat.completions.create(**asked, n=3, seed=5, stream=True) as stream:
        assert [choice.message.content for choice in stream.get_final_completion().choices] == texts


def test_stopping_several_answers_of_the_engine_frees_them_all(client):
    with client.chat.completions.create(messages=HELLO, n=3, stream=True) as stream:
        next(stream)
    deadline_s = time.monotonic() + 60
    while (stats := client.engine_stats()).running or stats.waiting:
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
