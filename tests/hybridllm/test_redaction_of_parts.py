"""Redaction of calls of tools and their results, and what keeps a request on the device because programs read it."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridllm.detectors import detector_set
from hybridllm.redactable import rewritten
from hybridllm.redaction import redacted
from hybridllm.testing import ScriptedBackend
from hybridllm.types import ChatRequest
from policies import Detector, parse_policy
from tests.hybridllm.loopback import DONE, answer, chunk, stream

MAIL, PHONE = "jane.doe@example.com", "+49 30 1234567"
POLICY = """version: 1
name: redacting
labels: {order: [public, internal, private], unlabeled: private}
zones: {cloud: public}
detectors: [email, phone, payment_card]
rules:
  - name: without-addresses
    when: {detected: [email, phone, payment_card]}
    route: [remote, local]
    redact: [email, phone, payment_card]
default: [remote, local]
"""
DETECTORS = (Detector("email"), Detector("phone"))
TOOL = {"type": "function", "function": {"name": "send"}}


def loop(arguments="{}", result="Sent.", identity="call-1"):
    call = {"id": identity, "type": "function", "function": {"name": "send", "arguments": arguments}}
    return [
        {"role": "user", "content": "Please write."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": identity, "content": result},
    ]


def redact(messages, **fields):
    return redacted(ChatRequest.parse(messages, **fields), detector_set(DETECTORS), ("email", "phone"))


def arguments_of(done):
    return done.request.messages[1].tool_calls[0].function.arguments


@pytest.mark.parametrize("ascii_only", [True, False])
def test_arguments_and_results_get_placeholders_whatever_way_they_are_escaped(ascii_only):
    def written(value):
        return json.dumps(value, ensure_ascii=ascii_only).replace("@", "\\u0040" if ascii_only else "@")

    done = redact(
        loop(written({"to": [MAIL, "bob@example.com"], MAIL: 1}), written({"call": PHONE, "umlaut": "ü", "n": 1.5}))
    )
    assert json.loads(arguments_of(done)) == {"to": ["[EMAIL_1]", "[EMAIL_2]"], "[EMAIL_1]": 1}
    assert json.loads(done.request.messages[2].text) == {"call": "[PHONE_1]", "umlaut": "ü", "n": 1.5}
    assert done.originals == {"[EMAIL_1]": MAIL, "[EMAIL_2]": "bob@example.com", "[PHONE_1]": PHONE}


def test_what_holds_no_find_stays_as_it_was_written():
    arguments = '{ "n" : 1.10, "text": "\\u00fc", "deep": [1e400] }'
    for said in (arguments, arguments.replace("1e400", "1"), "not JSON", '{"cut": "of', '{"a": 1, "a": 2}'):
        assert arguments_of(redact(loop(said))) == said


def test_arguments_that_are_no_json_are_redacted_as_text():
    assert arguments_of(redact(loop('{"to": "jane.doe@example.com", "cut'))) == '{"to": "[EMAIL_1]", "cut'
    twice = '{"to": "jane.doe@example.com", "to": "x"}'
    assert arguments_of(redact(loop(twice))) == '{"to": "[EMAIL_1]", "to": "x"}'


def test_thoughts_are_redacted():
    done = redact([{"role": "assistant", "content": "x", "reasoning_content": f"She is {MAIL}."}])
    assert done.request.messages[0].reasoning_content == "She is [EMAIL_1]."


def test_a_placeholder_that_stands_in_a_schema_is_not_taken_for_ours():
    tool = {"type": "function", "function": {"name": "send", "description": "Takes addresses such as [EMAIL_1]."}}
    assert redact(loop(json.dumps({"to": MAIL})), tools=[tool]).originals == {"[EMAIL_2]": MAIL}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(_JSON, st.text(max_size=8))
@settings(max_examples=200, deadline=None)
def test_both_ways_through_a_request_meet_the_same_texts(value, text):
    asked = ChatRequest.parse(loop(json.dumps(value), json.dumps([text, "\\"])), stop=[text or "x"], user=text or "x")
    seen, again = [], []

    def noted(into):
        return lambda found: into.append(found) or found

    assert rewritten(asked, noted(seen), str) == asked
    longer = rewritten(asked, lambda found: again.append(found) or f"{found}!", str)
    assert seen == again
    assert json.loads(longer.messages[2].text) == [f"{text}!", "\\!"]


@pytest.fixture
def redacting(face, serve, remote_at):
    def make(behaviour, replies=lambda _: "From here."):
        server = serve(behaviour)
        local = ScriptedBackend(replies, capabilities={"tools", "response_format", "chat_template_kwargs"})
        made = face(
            policy=parse_policy(POLICY), local=local, remote=remote_at(server, capabilities={"chat_template_kwargs"})
        )
        return made, server

    return make


def called(*pieces):
    """A stream of a call whose arguments come in these pieces."""
    first = {"index": 0, "id": "call-9", "type": "function", "function": {"name": "send", "arguments": ""}}
    further = [{"index": 0, "function": {"arguments": piece}} for piece in pieces]
    deltas = [{"tool_calls": [piece]} for piece in (first, *further)]
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    return stream(b"".join(chunk(choices=[choice]) for choice in choices) + chunk(finish="tool_calls") + DONE)


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_originals_come_back_in_the_arguments_of_a_call(redacting, size):
    said = json.dumps({"to": "[EMAIL_1]", "text": "for [email_1] and [EMAIL_7]"})
    made, server = redacting(called(*(said[at : at + size] for at in range(0, len(said), size))))
    messages = [{"role": "user", "content": f"Write to {MAIL}"}]
    whole = made.create(messages=messages, tools=[TOOL], privacy="public")
    assert MAIL.encode() not in server.received
    assert whole.route.served_by == "remote"
    [call] = whole.choices[0].message.tool_calls
    assert json.loads(call.function.arguments) == {"to": MAIL, "text": f"for {MAIL} and [EMAIL_7]"}
    assert whole.choices[0].message.privacy == "private", "what was put back is as sensitive as the whole request"


QUOTED = 'Hand "this" to\nC:\\new'


def test_an_original_is_escaped_where_it_stands_in_json(face, serve, remote_at):
    policy = POLICY.replace("detectors: [", "detectors: [{name: note, pattern: '(?s)Hand .*new'}, ")
    policy = policy.replace("redact: [", "redact: [note, ").replace("detected: [", "detected: [note, ")
    server = serve(called('{"text": "[NOTE_1]"}'))
    made = face(policy=parse_policy(policy), local=ScriptedBackend(["x"]), remote=remote_at(server))
    whole = made.create(messages=[{"role": "user", "content": QUOTED}], tools=[TOOL], privacy="public")
    assert json.loads(whole.choices[0].message.tool_calls[0].function.arguments) == {"text": QUOTED}
    assert b"Hand" not in server.received


@pytest.mark.parametrize(
    ("messages", "fields"),
    [
        (loop(identity=MAIL), {}),
        (
            [{"role": "user", "content": "x"}],
            {"tools": [{"type": "function", "function": {"name": "a", "description": MAIL}}]},
        ),
        (
            [{"role": "user", "content": "x"}],
            {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"properties": {MAIL: {}}}}}]},
        ),
        (
            [{"role": "user", "content": "x"}],
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"const": MAIL}}}},
        ),
        ([{"role": "user", "content": "x"}], {"metadata": {"of": MAIL}}),
        ([{"role": "user", "content": "x"}], {"metadata": {MAIL: "x"}}),
        ([{"role": "user", "content": "x"}], {"chat_template_kwargs": {"name": MAIL}}),
        (loop('{"card": 4111111111111111}'), {}),
        (loop('Cut: "jane.doe\\u0040example.com'), {}),
    ],
    ids=["id", "description", "parameters", "schema", "metadata", "metadata-key", "template", "number", "escaped"],
)
def test_what_programs_read_is_not_redacted_and_so_it_stays(redacting, messages, fields):
    made, server = redacting(answer("No."))
    reply = made.create(messages=messages, privacy="public", **fields)
    assert reply.route.served_by == "local"
    assert [attempt.error_type for attempt in reply.route.attempts] == ["RedactionFailed", None]
    assert server.received == b""
