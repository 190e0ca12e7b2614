"""Neither a log nor a response holds what was asked or answered, whatever goes wrong; and no log what a client could choose."""

import json
import logging

import pytest

from hybridllm import AsyncHybridClient
from hybridllm.server.front import ACCESS_LOG
from hybridllm.testing import ScriptedBackend, ScriptedReply
from tests.hybridllm.leaks import MARK, content
from tests.server.live_server import KEY, LiveServer

ASKED = [{"role": "user", "content": content("question")}]


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.DEBUG)
    return caplog


def access_lines(log):
    return [json.loads(record.getMessage()) for record in log.records if record.name == ACCESS_LOG]


def shown(log):
    """Everything that a handler or a crash reporter would have of the records."""
    return "".join(f"{record.getMessage()} {record.__dict__}" for record in log.records)


def test_one_line_for_each_request_and_nothing_of_it(log):
    with LiveServer(lambda _: content("answer"), keys=[KEY]) as server:
        key = {"Authorization": f"Bearer {KEY}"}
        server.ask(key, messages=ASKED, metadata={"tags": MARK})
        server.ask(key, messages=ASKED, stream=True, user=MARK)
        server.ask(key, messages=ASKED, **{MARK: 1})
        server.request("GET", f"/v1/models/{MARK}", headers=key)
        server.request("GET", f"/{MARK}?{MARK}=1", headers={**key, "X-Request-Id": MARK, "User-Agent": MARK})
        server.request(MARK.upper(), "/livez")  # is no HTTP, so it has no line
        server.request("PROPFIND", "/livez", headers={"X-Y": MARK})
        server.request("GET", "/livez", headers={"Host": f"{MARK}.example"})
        server.request("POST", "/v1/chat/completions", MARK.encode(), {**key, "Content-Type": "application/json"})
    lines = access_lines(log)
    assert [(line["method"], line["path"], line["status"]) for line in lines] == [
        ("POST", "/v1/chat/completions", 200),
        ("POST", "/v1/chat/completions", 200),
        ("POST", "/v1/chat/completions", 400),
        ("GET", "/v1/models/{model}", 404),
        ("GET", "other", 404),
        ("other", "/livez", 405),
        ("GET", "/livez", 421),
        ("POST", "/v1/chat/completions", 400),
    ]
    assert all(line["request_id"].startswith("req-") and line["seconds"] >= 0 for line in lines)
    assert len({line["request_id"] for line in lines}) == len(lines)
    assert [bool(line["completion_id"]) for line in lines] == [True, True] + [False] * 6
    said = shown(log).lower()
    assert MARK not in said
    assert KEY not in said


def test_the_line_says_how_a_stream_ended(log):
    from hybridllm.errors import EngineError

    broken = ScriptedReply("One two three", error=EngineError("It died."), fail_after=1)
    with LiveServer([broken]) as server:
        server.ask(messages=ASKED, stream=True)
    (line,) = access_lines(log)
    assert (line["status"], line["outcome"]) == (200, "stream_interrupted")


def test_no_line_where_none_is_wanted(log):
    with LiveServer(lambda _: "x", access_log=False) as server:
        server.ask(messages=ASKED)
    assert access_lines(log) == []


class BrokenClient(AsyncHybridClient):
    """One with a defect that quotes the request."""

    async def start_run(self, messages, *arguments, **options):
        raise KeyError(messages[0]["content"])


@pytest.mark.parametrize("streamed", [True, False])
def test_a_defect_of_the_client_is_named_by_its_place_only(log, streamed):
    with LiveServer(lambda _: "x", client_class=BrokenClient) as server:
        answer = server.ask(messages=ASKED, stream=streamed)
    assert (answer.status, answer.error["code"]) == (503, "engine_error")
    assert "KeyError at test_no_content.py:" in answer.error["message"]
    assert MARK.encode() not in answer.body
    assert MARK not in shown(log)


@pytest.mark.parametrize("streamed", [True, False])
def test_a_defect_of_the_server_is_named_in_the_log_only(log, monkeypatch, streamed):
    from hybridllm.server import chat

    def broken(body, scope):
        raise KeyError(body["messages"][0]["content"])

    monkeypatch.setattr(chat, "chat_call", broken)
    with LiveServer(lambda _: "x") as server:
        answer = server.ask(messages=ASKED, stream=streamed)
    assert (answer.status, answer.error["code"]) == (500, "internal_error")
    assert answer.headers["x-should-retry"] == "false"
    assert MARK.encode() not in answer.body
    assert MARK not in shown(log)
    assert any("KeyError at test_no_content.py:" in record.getMessage() for record in log.records)


def test_a_defect_in_mid_stream_ends_the_stream_as_an_error(log, monkeypatch):
    from hybridllm.server import chat

    def broken(chunk, route=None):
        raise KeyError(MARK)

    with LiveServer(lambda _: "One two") as server:
        monkeypatch.setattr(chat, "written", broken)
        answer = server.ask(messages=ASKED, stream=True)
    *pieces, last = answer.events
    assert last["error"]["code"] == "internal_error"
    assert not [piece for piece in pieces if "error" in piece]
    assert MARK not in shown(log)
    assert MARK.encode() not in answer.body
    assert any("KeyError at test_no_content.py:" in record.getMessage() for record in log.records)


def test_a_call_shows_none_of_its_content():
    from hybridllm.server.chat_call import chat_call

    call = chat_call({"messages": ASKED, "stop": [MARK], "metadata": {"privacy": "public"}}, {"headers": []})
    assert call.labels == (("metadata.privacy", "public"),)
    assert MARK not in repr(call)


def test_what_the_place_on_the_device_raises_is_not_passed_on(log):
    class Quoting(ScriptedBackend):
        async def stream(self, call):
            raise KeyError(call.request.messages[0].text)
            yield

    with LiveServer(Quoting([])) as server:
        answer = server.ask(messages=ASKED)
    assert (answer.status, answer.error["code"]) == (503, "engine_error")
    assert MARK.encode() not in answer.body
    assert MARK not in shown(log)
