"""The client with a scripted place on the device: shapes, streams, routes, labels, deadlines, life and death."""

import asyncio
import gc
import inspect
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from hybridllm import AsyncHybridClient, HybridClient, Remote, load_policy
from hybridllm.async_completions import AsyncCompletions
from hybridllm.client import Completions
from hybridllm.errors import (
    BadRequest,
    Cancelled,
    ContextLengthExceeded,
    DeadlineExceeded,
    EngineError,
    HybridLLMError,
    ModelError,
    PolicyDenied,
    PolicyError,
    StreamInterrupted,
)
from hybridllm.testing import ScriptedBackend, ScriptedReply
from tests.hybridllm.faces import text_of


def test_an_answer_has_openais_shape_and_its_route(face, question):
    client = face(local=ScriptedBackend(["We open at nine."], model="small"))
    reply = client.create(messages=question)
    assert reply.object == "chat.completion"
    assert reply.model == "small"
    assert reply.choices[0].message.content == "We open at nine."
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens == 8
    route = reply.route
    assert (route.served_by, route.rule, route.label, route.policy) == ("local", "default", "private", "offline-first")
    assert route.rule_location.startswith("policies/presets/offline-first.yaml:")
    assert route.reason == "Rule 'default' asks local."
    assert [(attempt.place, attempt.outcome) for attempt in route.attempts] == [("local", "served")]
    assert route.egress_bytes == 0
    assert route.ttft_ms > 0
    assert reply.model_dump()["route"]["served_by"] == "local"


def test_a_stream_gives_the_same_text_in_pieces(face, question):
    client = face(local=ScriptedBackend(["We open at nine."] * 3))
    chunks, stream = client.read(messages=question)
    assert text_of(chunks) == "We open at nine."
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert all(chunk.choices[0].delta.role is None for chunk in chunks[1:])
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert stream.route.attempts[0].outcome == "served"
    chunks, _ = client.read(messages=question, stream_options={"include_usage": True})
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 4
    assert all(chunk.usage is None and len(chunk.choices) == 1 for chunk in chunks[:-1])
    assert client.final(messages=question).choices[0].message.content == "We open at nine."


def test_an_answer_can_be_put_back_into_the_messages(face, question):
    local = ScriptedBackend(["At nine.", "Yes."])
    client = face(local=local)
    message = client.create(messages=question).choices[0].message
    client.create(messages=[*question, message, {"role": "user", "content": "Sure?"}])
    assert [one.text for one in local.requests[1].messages] == ["When do you open?", "At nine.", "Sure?"]


def test_an_empty_answer_is_an_answer(face, question):
    client = face(local=ScriptedBackend(["", ""]))
    assert client.create(messages=question).choices[0].message.content == ""
    chunks, _ = client.read(messages=question)
    assert [(chunk.choices[0].delta.role, chunk.choices[0].finish_reason) for chunk in chunks] == [
        ("assistant", "stop")
    ]


def test_a_token_limit_ends_with_length(face, question):
    client = face(local=ScriptedBackend(["one two three four"]))
    reply = client.create(messages=question, max_tokens=2)
    assert reply.choices[0].finish_reason == "length"
    assert reply.choices[0].message.content == "one two"


def test_closing_a_stream_cancels_the_work(face, question):
    local = ScriptedBackend([ScriptedReply("a b c d e f", token_s=0.01)])
    client = face(local=local)
    chunks, stream = client.read(limit=2, messages=question)
    assert len(chunks) == 2
    assert local.cancelled == 1
    assert stream.route.attempts[0].outcome == "cancelled"
    with pytest.raises(Cancelled, match="closed before"):
        client.final_of(stream)


def test_an_error_before_the_first_piece_comes_as_it_is(face, question):
    error = EngineError("The engine's process ended.", "Ask again.")
    client = face(local=ScriptedBackend([error, error, ModelError("No such folder.")]))
    with pytest.raises(EngineError, match=r"The engine's process ended\. Ask again\."):
        client.create(messages=question)
    with pytest.raises(EngineError):
        client.read(messages=question)
    with pytest.raises(ModelError):
        client.create(messages=question)


def test_an_error_in_the_middle_is_never_a_whole_answer(face, question):
    broken = ScriptedReply("a b c", error=EngineError("The engine died."), fail_after=2)
    client = face(local=ScriptedBackend([broken, broken]))
    with pytest.raises(StreamInterrupted, match="in the middle of its answer: The engine died") as raised:
        client.read(messages=question)
    assert raised.value.attempts[0].outcome == "failed"
    with pytest.raises(EngineError):
        client.create(messages=question)


def test_a_place_of_somebody_elses_making_fails_with_an_error_of_ours(face, question):
    client = face(local=ScriptedBackend([ValueError("the secret text")]))
    with pytest.raises(EngineError) as raised:
        client.create(messages=question)
    assert "secret" not in str(raised.value)


def test_an_error_while_starting(face, question):
    client = face(local=ScriptedBackend(["never"], start_error=ModelError("The folder is no checkpoint.")))
    with pytest.raises(ModelError, match="no checkpoint"):
        client.create(messages=question)
    with pytest.raises(ModelError):
        client.load()


def test_a_stream_that_broke_off_never_looks_whole_when_it_is_read_on(question):
    broken = ScriptedReply("a b c", error=EngineError("The engine died."), fail_after=2)
    with HybridClient(local=ScriptedBackend([broken])) as client:
        stream = client.chat.completions.create(messages=question, stream=True)
        for read in (list, list, lambda cut: cut.get_final_completion()):
            with pytest.raises(StreamInterrupted, match="The engine died"):
                read(stream)


def test_a_deadline_bounds_the_start_the_wait_and_the_stream(face, question):
    slow = ScriptedReply("a b c d e f g h", token_s=0.1)
    for local in (
        ScriptedBackend(["never"], start_s=5),
        ScriptedBackend([ScriptedReply("never", first_token_s=5)]),
        ScriptedBackend([slow]),
    ):
        client = face(local=local)
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=r"deadline_s=0\.2"):
            client.create(messages=question, deadline_s=0.2)
        assert time.monotonic() - began < 2
    client = face(local=ScriptedBackend([slow]))
    with pytest.raises(TimeoutError):
        client.read(messages=question, deadline_s=0.2)


@pytest.mark.parametrize("deadline", [0, -1, "1", float("nan"), float("inf"), 10**400, True])
def test_a_deadline_that_is_none(face, question, deadline):
    with pytest.raises(BadRequest, match="deadline_s"):
        face().create(messages=question, deadline_s=deadline)


def test_context_too_long_is_the_callers_to_mend(face):
    client = face(local=ScriptedBackend(["never"], context_tokens=10))
    long = [{"role": "user", "content": "word " * 50}]
    with pytest.raises(ContextLengthExceeded, match="50 tokens does not fit its context of 10") as raised:
        client.create(messages=long)
    assert raised.value.mend == "Shorten the conversation."


def test_context_too_long_and_too_private_for_the_remote(face, serve, remote_at):
    server = serve()
    local = ScriptedBackend(["never"], context_tokens=10)
    client = face(local=local, remote=remote_at(server))
    with pytest.raises(PolicyDenied, match="may see 'public' at most, and the request is 'private'") as raised:
        client.create(messages=[{"role": "user", "content": "word " * 50}])
    assert (raised.value.place, raised.value.label) == ("remote", "private")
    assert local.requests == []
    assert server.connections == 0


def test_models_may_be_named_but_do_not_route(face, question):
    client = face(local=ScriptedBackend(["a", "b"], model="small"))
    assert client.create(messages=question, model="small").model == "small"
    assert client.create(messages=question, model="hybridllm").model == "small"
    with pytest.raises(BadRequest, match="Did you mean 'small'"):
        client.create(messages=question, model="smal")


def test_explain_decides_and_asks_nobody(face, question, serve, remote_at):
    server = serve()
    local = ScriptedBackend([])
    client = face(local=local, remote=remote_at(server), policy="kiosk")
    explained = client.client.explain(messages=question, privacy="public", tags=["faq"])
    assert explained.decision.candidates == ("local", "remote")
    assert explained.label == "public"
    assert explained.facts.tags == {"faq"}
    assert [verdict.rule for verdict in explained.trace][-1] == "default"
    private = client.client.explain(messages=question)
    assert private.decision.candidates == ("local",)
    assert private.label_sources[0].said_by == "unlabeled"
    assert private.to_dict()["decision"]["struck_out"][0]["code"] == "label"
    assert local.requests == []
    assert server.connections == 0


def test_a_closed_client_says_so(face, question):
    local = ScriptedBackend(["a"])
    client = face(local=local)
    client.create(messages=question)
    client.client.close() if client.name == "blocking" else client._runner.run(client.client.close())
    assert local.closed
    with pytest.raises(Cancelled, match="The client is closed"):
        client.create(messages=question)


def test_facts_that_the_program_measures(face, question, tmp_path):
    policy = tmp_path / "budget.yaml"
    policy.write_text(
        "version: 1\nname: budget\nlabels: {order: [public, private], unlabeled: private}\nzones: {cloud: public}\n"
        "rules: [{name: broke, when: {budget_left: {le: 0}}, route: [local]}]\ndefault: [remote, local]\n",
        encoding="utf-8",
    )
    client = face(local=ScriptedBackend(["a"]), policy=policy, facts=lambda: {"budget_left": 0})
    assert client.create(messages=question, privacy="public").route.rule == "broke"
    for wrong in ({"label": "public"}, {"budget_left": "none"}, {"no_fact": 1}, {"local_ready": 1}):
        with pytest.raises(BadRequest, match=next(iter(wrong))):
            face(policy=policy, facts=lambda wrong=wrong: wrong)
    with pytest.raises(BadRequest, match="returned NoneType"):
        face(policy=policy, facts=lambda: None)


def test_a_program_that_cannot_measure_costs_no_answer(face, question, caplog):
    client = face(facts=lambda: 1 / 0)
    assert client.create(messages=question).choices[0].message.content == "Here I am."
    assert "failed with ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "error", "part"),
    [
        ({"policy": "kioks"}, PolicyError, "Did you mean 'kiosk'"),
        ({"policy": 3}, PolicyError, "policy is a int"),
        ({"remote": "https://host"}, BadRequest, "expected a Remote"),
        ({"remote": Remote(base_url="https://h/v1", model="m", zone="sit")}, BadRequest, "Did you mean 'site'"),
        ({"privacy_floor": "secret"}, BadRequest, "privacy_floor"),
        ({"quant": "q5", "local": None}, BadRequest, "quant"),
        ({"model": "", "local": None}, BadRequest, "model"),
    ],
)
def test_arguments_that_cannot_be_used(face, arguments, error, part):
    with pytest.raises(error, match=part):
        face(**arguments)


def test_a_policy_error_names_file_line_column_and_key(face, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("version: 1\nname: x\nlabls: {}\n", encoding="utf-8")
    with pytest.raises(PolicyError) as raised:
        face(policy=path)
    error = raised.value
    assert (error.file, error.line, error.column, error.key) == (str(path), 3, 1, "labls")
    assert str(error).startswith(f"{path}:3:1: labls: unknown key")


def test_without_a_policy_nothing_can_leave(face, question, serve, remote_at):
    server = serve()
    client = face(local=ScriptedBackend(["Here."]), policy=None, remote=remote_at(server))
    reply = client.create(messages=question, privacy="public")
    assert (reply.route.served_by, reply.route.policy) == ("local", "device-only")
    assert server.connections == 0


def test_a_loaded_policy_is_taken_as_it_is(face, question):
    client = face(policy=load_policy("kiosk"))
    assert client.create(messages=question).route.policy == "kiosk"


# ---- the blocking face by itself ----


def test_threads_may_share_a_client(question):
    with HybridClient(local=ScriptedBackend(lambda _: ScriptedReply("a b c", token_s=0.002))) as client:
        answers = []
        threads = [
            threading.Thread(target=lambda: answers.append(client.chat.completions.create(messages=question)))
            for _ in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=20)
        assert [answer.choices[0].message.content for answer in answers] == ["a b c"] * 12
        assert len({answer.id for answer in answers}) == 12


def test_closing_the_client_ends_what_is_under_way(question):
    client = HybridClient(local=ScriptedBackend([ScriptedReply("never", first_token_s=30)]))
    failures = []

    def ask():
        try:
            client.chat.completions.create(messages=question)
        except HybridLLMError as error:
            failures.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.2)
    client.close()
    thread.join(timeout=5)
    assert not thread.is_alive()
    assert isinstance(failures[0], Cancelled)
    client.close()


def test_a_client_that_was_never_used_closes_without_a_thread():
    before = threading.active_count()
    client = HybridClient(local=ScriptedBackend([]))
    assert threading.active_count() == before
    client.close()


def test_a_client_that_nobody_closes_warns_and_leaves_no_thread(question):
    client = HybridClient(local=ScriptedBackend(["a"]))
    client.chat.completions.create(messages=question)
    thread = client._thread._thread
    assert thread.is_alive()
    gc.disable()  # nothing may wait for the cycle collector
    try:
        with pytest.warns(ResourceWarning, match="without being closed"):
            del client
    finally:
        gc.enable()
    thread.join(timeout=5)
    assert not thread.is_alive()


def test_a_stream_may_be_closed_by_another_thread_while_it_is_read(question):
    local = ScriptedBackend([ScriptedReply("a b c", token_s=30), "Still here."])
    with HybridClient(local=local) as client:
        stream = client.chat.completions.create(messages=question, stream=True)
        chunks = []
        reader = threading.Thread(target=lambda: chunks.extend(stream))
        reader.start()
        time.sleep(0.2)
        stream.close()
        reader.join(timeout=5)
        assert not reader.is_alive()
        assert text_of(chunks) == "a"
        assert (local.cancelled, stream.route.attempts[0].outcome) == (1, "cancelled")
        with pytest.raises(Cancelled, match="closed before"):
            stream.get_final_completion()
        assert client.chat.completions.create(messages=question).choices[0].message.content == "Still here."


def test_a_stream_whose_reader_was_cancelled_never_looks_whole(question):
    async def go():
        local = ScriptedBackend([ScriptedReply("a b c", token_s=30)])
        async with AsyncHybridClient(local=local) as client:
            opened = await client.chat.completions.create(messages=question, stream=True)
            await anext(opened)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(opened), 0.1)
            for _ in range(2):
                with pytest.raises(Cancelled, match="before it was whole"):
                    [chunk async for chunk in opened]

    asyncio.run(go())


def test_closing_a_stream_ends_its_reader_and_leaves_the_readers_task_alone(question):
    async def read(stream):
        chunks = [chunk async for chunk in stream]
        await asyncio.sleep(0)  # a cancellation that was left behind would show here
        return chunks

    async def go():
        async with AsyncHybridClient(
            local=ScriptedBackend(lambda _: ScriptedReply("a b", token_s=30)),
        ) as client:
            closed = await client.chat.completions.create(messages=question, stream=True)
            cancelled = await client.chat.completions.create(messages=question, stream=True)
            tasks = [asyncio.create_task(read(stream)) for stream in (closed, cancelled)]
            await asyncio.sleep(0.05)
            await closed.close()
            assert text_of(await tasks[0]) == "a"
            assert tasks[0].cancelling() == 0
            tasks[1].cancel()
            with pytest.raises(asyncio.CancelledError):
                await tasks[1]
            await cancelled.close()

    asyncio.run(go())


def test_a_stream_that_is_dropped_stops_the_work(question):
    local = ScriptedBackend([ScriptedReply("a b c", token_s=30)])
    with HybridClient(local=local) as client:
        stream = client.chat.completions.create(messages=question, stream=True)
        next(stream)
        del stream
        deadline = time.monotonic() + 5
        while not local.cancelled and time.monotonic() < deadline:
            time.sleep(0.01)
        assert local.cancelled == 1


def test_requests_that_race_with_close_all_come_to_an_end(question):
    for _ in range(10):
        client = HybridClient(local=ScriptedBackend(lambda _: "a"))
        client.chat.completions.create(messages=question)
        ended = []

        def ask(client=client, ended=ended):
            try:
                while True:
                    client.chat.completions.create(messages=question)
            except Cancelled:
                ended.append(True)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        closers = [threading.Thread(target=client.close) for _ in range(2)]
        for thread in (*threads, *closers):
            thread.start()
        for thread in (*threads, *closers):
            thread.join(timeout=10)
            assert not thread.is_alive()
        assert len(ended) == len(threads)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_is_told_to_make_its_own_client():
    program = textwrap.dedent("""
        import os
        from hybridllm import Cancelled, HybridClient
        from hybridllm.testing import ScriptedBackend
        ask = [{"role": "user", "content": "x"}]
        client = HybridClient(local=ScriptedBackend(lambda _: "Yes."))
        client.chat.completions.create(messages=ask)
        child = os.fork()
        if child == 0:
            try:
                client.chat.completions.create(messages=ask)
            except Cancelled as error:
                print(error, flush=True)
            client.close()
            with HybridClient(local=ScriptedBackend(["Mine."])) as own:
                print(own.chat.completions.create(messages=ask).choices[0].message.content, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        print(client.chat.completions.create(messages=ask).choices[0].message.content)
        client.close()
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout.splitlines() == [
        "The client was made before this process was forked. Make a new one in every process.",
        "Mine.",
        "Yes.",
    ], done.stderr


def test_the_faces_take_the_same_arguments():
    for blocking, awaited in (
        (HybridClient, AsyncHybridClient),
        (HybridClient.explain, AsyncHybridClient.explain),
        (HybridClient.load, AsyncHybridClient.load),
        (HybridClient.from_config, AsyncHybridClient.from_config),
        (Completions.create, AsyncCompletions.create),
    ):
        assert inspect.signature(blocking).parameters == inspect.signature(awaited).parameters
        documented = [inspect.getdoc(one).partition("Args:")[2] for one in (blocking, awaited)]
        assert documented[0] == documented[1].replace("an ``Async", "a ``")
    public = {name for name in dir(AsyncHybridClient) if not name.startswith("_")} - {"start_run"}
    assert {name for name in dir(HybridClient) if not name.startswith("_")} == public


def test_a_missed_deadline_is_remembered(face, question):
    client = face(local=ScriptedBackend([ScriptedReply("late", first_token_s=1), "b"]))
    with pytest.raises(DeadlineExceeded):
        client.create(messages=question, deadline_s=0.2, max_tokens=1)
    explained = client.client.explain(messages=question, deadline_s=0.1, max_tokens=1)
    assert explained.facts.local_ttft_ms > 150
    assert explained.facts.local_meets_deadline is False
    assert explained.decision.rule == "too-late-here"


def test_it_works_inside_somebody_elses_event_loop(question):
    async def go():
        with HybridClient(local=ScriptedBackend(["Yes."])) as client:
            return client.chat.completions.create(messages=question)

    assert asyncio.run(go()).choices[0].message.content == "Yes."


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
@pytest.mark.parametrize("streaming", [False, True])
def test_ctrl_c_stops_the_answer_and_the_client_goes_on(streaming):
    program = textwrap.dedent(f"""
        from hybridllm import HybridClient
        from hybridllm.testing import ScriptedBackend, ScriptedReply
        local = ScriptedBackend([ScriptedReply("a " * 1000, token_s=0.05, first_token_s={0 if streaming else 30}), "Still here."])
        ask = [{{"role": "user", "content": "x"}}]
        with HybridClient(local=local) as client:
            try:
                if {streaming}:
                    with client.chat.completions.create(messages=ask, stream=True) as stream:
                        for chunk in stream:
                            print("chunk", flush=True)
                else:
                    print("chunk", flush=True)
                    client.chat.completions.create(messages=ask)
            except KeyboardInterrupt:
                print("interrupted", local.cancelled)
            print(client.chat.completions.create(messages=ask).choices[0].message.content)
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "chunk\n"
    time.sleep(0.3)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert time.monotonic() - began < 3, err
    assert process.returncode == 0, err
    assert out.splitlines()[-2:] == ["interrupted 1", "Still here."]
