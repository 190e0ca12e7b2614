"""What a request may say, where, and what becomes of it: labels, tags, deadlines, bodies that are none."""

from dataclasses import replace

import pytest

from hybridllm import AsyncHybridClient
from hybridllm.server.route_headers import header_text
from hybridllm.testing import ScriptedBackend, ScriptedReply
from policies import parse_policy
from tests.server.live_server import QUESTION, LiveServer

POLICY = parse_policy(
    """
version: 1
name: three
labels:
  order: [public, internal, private]
  unlabeled: private
  tags: {faq: public, staff: internal, health: private}
zones: {cloud: public}
rules:
  - name: for-staff
    when: {label: internal}
    route: [local]
default: [local]
"""
)


@pytest.fixture(scope="module")
def server():
    with LiveServer(ScriptedBackend(lambda _: "At nine."), client={"policy": POLICY}) as running:
        yield running


@pytest.mark.parametrize(
    ("headers", "metadata", "label"),
    [
        ({}, None, "private"),
        ({}, {}, "private"),
        ({}, {"privacy": "public"}, "public"),
        ({"X-Hybridllm-Privacy": "public"}, None, "public"),
        ({"X-Hybridllm-Privacy": " internal "}, {"privacy": "public"}, "internal"),
        ({"X-Hybridllm-Privacy": "public"}, {"privacy": "internal"}, "internal"),
        ({"X-Hybridllm-Tags": "faq"}, None, "public"),
        ({"X-Hybridllm-Tags": "faq, staff"}, None, "internal"),
        ({"X-Hybridllm-Tags": "faq"}, {"tags": "health"}, "private"),
        ({"X-Hybridllm-Tags": "faq"}, {"privacy": "internal"}, "internal"),
        ({}, {"privacy": "public", "tags": "unheard-of"}, "private"),
    ],
)
def test_whatever_is_said_anywhere_can_only_raise(server, headers, metadata, label):
    reply = server.ask(headers, metadata=metadata)
    assert reply.status == 200, reply.body
    assert reply.json["route"]["label"] == label
    assert reply.headers["x-hybridllm-label"] == label


def test_a_label_that_stands_in_two_headers_is_joined_too(server):
    with server.connect() as connection:
        body = b'{"messages": [{"role": "user", "content": "x"}]}'
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"X-Hybridllm-Privacy: public\r\nX-Hybridllm-Privacy: internal\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        answer = connection.makefile("rb").read()
    assert b"x-hybridllm-label: internal\r\n" in answer


def test_a_messages_own_label_counts_as_everywhere(server):
    messages = [{"role": "user", "content": "x", "privacy": "internal"}]
    assert server.ask(messages=messages, metadata={"privacy": "public"}).json["route"]["label"] == "internal"


@pytest.mark.parametrize(
    ("headers", "fields", "param", "says"),
    [
        ({}, {"metadata": {"privacy": "pubic"}}, "metadata.privacy", "Use one of public, internal, private"),
        ({"X-Hybridllm-Privacy": "secret"}, {}, "x-hybridllm-privacy", "not a label of the policy"),
        ({}, {"metadata": {"privcy": "private"}}, "metadata.privcy", "Did you mean 'privacy'?"),
        ({}, {"metadata": {"ticket": "17"}}, "metadata.ticket", "passed on to nobody"),
        ({}, {"metadata": {"privacy": None}}, "metadata.privacy", "expected text"),
        ({}, {"metadata": ["privacy"]}, "metadata", "expected an object"),
        ({}, {"metadata": {"tags": "faq,,x"}}, "metadata.tags", "empty tag"),
        ({}, {"metadata": {"tags": "\ud800"}}, "metadata.tags", "surrogate"),
        ({"X-Hybridllm-Privcy": "private"}, {}, "x-hybridllm-privcy", "Did you mean 'x-hybridllm-privacy'?"),
        ({"X-Hybridllm-Route": "local"}, {}, "x-hybridllm-route", "is not known"),
        ({}, {"metadata": {"deadline_s": "soon"}}, "metadata.deadline_s", "Write 3 or 2.5"),
        ({}, {"metadata": {"deadline_s": "-1"}}, "metadata.deadline_s", "above 0"),
        ({}, {"metadata": {"deadline_s": "inf"}}, "metadata.deadline_s", "above 0"),
        ({}, {"metadata": {"deadline_s": True}}, "metadata.deadline_s", "expected text"),
        ({"X-Hybridllm-Deadline-S": "nan"}, {}, "x-hybridllm-deadline-s", "above 0"),
        ({}, {"privacy": "public"}, "privacy", "X-Hybridllm-Privacy"),
        ({}, {"deadline_s": 3}, "deadline_s", "X-Hybridllm-Deadline-S"),
        ({}, {"self": 1}, "self", "not a field"),
        ({}, {"messages": None}, "messages", "messages is missing"),
        ({}, {"messages": "Hello"}, "messages", "expected a list"),
        ({}, {"stream": "yes"}, "stream", "boolean"),
        ({}, {"n": 17}, "n", "less than or equal to 16"),
        ({}, {"tools": []}, "tools", "is empty"),
        ({}, {"functions": []}, "functions", "not supported"),
        ({}, {"temprature": 1}, "temprature", "Did you mean 'temperature'?"),
        ({}, {"stream_options": {"include_usage": True}}, "stream_options", "without stream"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_by_its_name(server, headers, fields, param, says):
    asked = len(server.backend.requests)
    reply = server.ask(headers, **fields)
    assert reply.status == 400
    assert reply.error["param"] == param
    assert reply.error["type"] == "invalid_request_error"
    assert says in reply.error["message"]
    assert len(server.backend.requests) == asked


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not JSON"),
        (b"{", "line 1, column 2"),
        (b"[]", "expected an object"),
        (b'{"messages": []} x', "not JSON"),
        (b'{"stop": "\xff"}', "not UTF-8 at byte 10"),
        ('{"stop": "x"}'.encode("utf-16"), "not UTF-8"),
        (b'{"seed": NaN}', "NaN"),
        (b'{"metadata": {"privacy": "private", "privacy": "public"}}', "privacy stands twice"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "too long"),
    ],
    ids=lambda value: None if isinstance(value, str) else f"{value[:12]!r}",
)
def test_a_body_that_is_no_json_object(server, body, says):
    reply = server.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    assert reply.status == 400
    assert says in reply.error["message"]


def test_a_long_body_is_read_as_well(server):
    messages = [{"role": "user", "content": "long " * 100_000}]
    assert server.ask(messages=messages).status == 200
    assert (
        server.request(
            "POST", "/v1/chat/completions", b'{"x": "' + b"a" * 300_000, {"Content-Type": "application/json"}
        ).status
        == 400
    )


def test_the_shortest_deadline_counts():
    with LiveServer([ScriptedReply("late", first_token_s=3600)] * 2) as server:
        for headers, metadata in (
            ({"X-Hybridllm-Deadline-S": "60"}, {"deadline_s": "0.05"}),
            ({}, {"deadline_s": 0.05}),
        ):
            reply = server.ask(headers, metadata=metadata)
            assert (reply.status, reply.error["code"]) == (504, "deadline_exceeded")
            assert "deadline_s=0.05" in reply.error["message"]
        assert server.backend.cancelled == 2


def test_the_route_stands_in_the_headers(server):
    reply = server.ask(metadata={"privacy": "internal"})
    assert reply.headers["x-hybridllm-rule"] == "for-staff"
    assert reply.headers["x-hybridllm-route"] == "local"
    assert reply.headers["x-hybridllm-reason"] == "Rule 'for-staff' asks local."
    assert reply.json["route"]["rule"] == "for-staff"


def test_no_text_can_begin_another_header():
    assert header_text(" a\r\nX-Injected: 1\x00\ud800 100% ü ") == b"a%0D%0AX-Injected: 1%00? 100%25 %C3%BC"
    assert len(header_text("x" * 5000)) == 1024


def test_an_address_with_a_query_is_refused(server):
    reply = server.request("POST", "/v1/chat/completions?model=x", {"messages": QUESTION})
    assert (reply.status, reply.error["param"]) == (400, None)


def test_labels_are_never_joined_under_another_order_than_the_request_has():
    turned = replace(POLICY, labels=replace(POLICY.labels, order=("public", "private", "internal")))

    class Reloading(AsyncHybridClient):
        """One whose policy is replaced in the moment in which a request begins."""

        async def start_run(self, *arguments, **options):
            self._in_force.replace(turned)
            return await super().start_run(*arguments, **options)

    for streamed in (True, False):
        with LiveServer(lambda _: "x", client={"policy": POLICY}, client_class=Reloading) as server:
            said = {"X-Hybridllm-Privacy": "internal"}
            reply = server.ask(said, metadata={"privacy": "private"}, stream=streamed)
            assert (reply.status, reply.error["code"]) == (503, "policy_changed")
            assert server.backend.requests == []
            assert server.ask(said, stream=streamed).status == 200
