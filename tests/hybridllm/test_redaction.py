"""Redaction: what detectors raised may go out with placeholders; what a caller labelled may not."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridllm import HybridClient
from hybridllm.detectors import detector_set
from hybridllm.redaction import Redaction, Restorer, redacted
from hybridllm.testing import ScriptedBackend
from hybridllm.types import ChatRequest
from policies import Detector, parse_policy
from tests.hybridllm.growth import grows_with_the_length
from tests.hybridllm.loopback import answer, chunk, stream

POLICY = """version: 1
name: redacting
labels: {order: [public, internal, private], unlabeled: private, tags: {health: private}}
zones: {cloud: public}
detectors: [email, phone, payment_card, {name: project, words: [Blue Heron], label: internal}]
rules:
  - name: without-addresses
    when: {detected: [email, phone]}
    route: [remote, local]
    redact: [email, phone]
default: [remote, local]
"""
MAIL, PHONE, CARD = "jane.doe@example.com", "+49 30 1234567", "4111 1111 1111 1111"
DETECTORS = parse_policy(POLICY).detectors


def redact(content, names=("email", "phone"), **more):
    request = ChatRequest.parse([{"role": "user", "content": content}], **more)
    return redacted(request, detector_set(DETECTORS), names)


def test_finds_become_typed_placeholders_and_equal_ones_the_same():
    done = redact(f"Write to {MAIL} or call {PHONE}; {MAIL} is better than bob@example.org.")
    assert done.request.messages[0].text == (
        "Write to [EMAIL_1] or call [PHONE_1]; [EMAIL_1] is better than [EMAIL_2]."
    )
    assert done.originals == {"[EMAIL_1]": MAIL, "[PHONE_1]": PHONE, "[EMAIL_2]": "bob@example.org"}


def test_every_text_of_a_request_is_redacted():
    request = ChatRequest.parse(
        [
            {"role": "system", "content": f"a {MAIL}"},
            {"role": "user", "content": [{"type": "text", "text": f"b {MAIL}"}, {"type": "text", "text": PHONE}]},
            {"role": "assistant", "content": "x", "refusal": f"c {MAIL}", "name": MAIL},
        ],
        stop=[MAIL],
        user=MAIL,
    )
    done = redacted(request, detector_set(DETECTORS), ("email", "phone"))
    body = done.request.remote_body("m").decode()
    assert MAIL not in body
    assert PHONE not in body
    assert json.loads(body)["user"] == "EMAIL_1", "a field for plain words gets no brackets"
    assert json.loads(body)["messages"][1]["content"][1]["text"] == "[PHONE_1]"


def test_a_placeholder_that_was_in_the_text_is_not_taken_for_ours():
    done = redact(f"[EMAIL_1] is how you write {MAIL}")
    assert done.request.messages[0].text == "[EMAIL_1] is how you write [EMAIL_2]"
    assert Restorer(done).push("[EMAIL_1] [EMAIL_2]") == f"[EMAIL_1] {MAIL}"


def test_placeholders_stay_apart_and_within_their_own_pattern():
    project = [Detector("proj", words=("Kestrel",)), Detector("PROJ", words=("Heron",))]
    request = ChatRequest.parse([{"role": "user", "content": "Kestrel and Heron and [PROJ_999999999]"}])
    done = redacted(request, detector_set(tuple(project)), ("proj", "PROJ"))
    assert done.request.messages[0].text == "[PROJ_1] and [PROJ_2] and [PROJ_999999999]"
    assert Restorer(done).push("[PROJ_1] [proj_2]") == "Kestrel Heron"


def test_the_time_grows_with_the_number_of_finds_and_not_with_its_square():
    few, many = (" ".join(f"mail{index}@example.com" for index in range(number)) for number in (1000, 4000))
    assert grows_with_the_length(lambda: redact(few), lambda: redact(many))


def test_only_the_named_detectors_are_redacted():
    assert redact(f"{MAIL} {CARD}", ("email",)).request.messages[0].text == f"[EMAIL_1] {CARD}"


@given(st.text("ab[]EMAIL_12 ", max_size=40), st.lists(st.integers(0, 60), max_size=8), st.booleans())
@settings(max_examples=300, deadline=None)
def test_however_a_stream_is_cut_the_same_comes_out(text, cuts, lower):
    text = text + "see [EMAIL_1] and [email_12]x" + text
    redaction = Redaction(
        ChatRequest.parse([{"role": "user", "content": "x"}]),
        {"[EMAIL_1]": MAIL, "[EMAIL_12]": "b@c.example"},
    )
    text = text.lower() if lower else text
    whole = Restorer(redaction)
    expected = whole.push(text) + whole.rest()
    assert MAIL in expected
    assert "b@c.example" in expected
    cut = Restorer(redaction)
    bounds = [0, *sorted(min(at, len(text)) for at in cuts), len(text)]
    pieces = [cut.push(text[start:stop]) for start, stop in pairwise(bounds)]
    assert "".join(pieces) + cut.rest() == expected


@pytest.fixture
def redacting(face, serve, remote_at):
    def make(behaviour, policy=POLICY, replies=lambda _: "From here."):
        server = serve(behaviour)
        made = face(policy=parse_policy(policy), local=ScriptedBackend(replies), remote=remote_at(server))
        return made, server

    return make


def test_the_remote_sees_placeholders_and_the_caller_the_originals(redacting):
    made, server = redacting(answer("I wrote to [EMA", "IL_1] and called [PHONE", "_1", "]", "."))
    messages = [{"role": "user", "content": f"Write to {MAIL}, call {PHONE}"}]
    chunks, opened = made.read(messages=messages, privacy="public")
    text = "".join(choice.delta.content or "" for piece in chunks for choice in piece.choices)
    assert text == f"I wrote to {MAIL} and called {PHONE}."
    assert server.exchanges[0].json["messages"][0]["content"] == "Write to [EMAIL_1], call [PHONE_1]"
    assert MAIL.encode() not in server.received
    route = opened.route
    assert (route.served_by, route.label, route.rule) == ("remote", "private", "without-addresses")
    whole = made.create(messages=messages, privacy="public")
    assert whole.choices[0].message.content == text


def test_an_answer_to_a_redacted_text_is_as_sensitive_as_what_was_sent(redacting):
    made, server = redacting(answer("Fine, I have noted it."))
    history = [{"role": "user", "content": f"I am {MAIL}"}]
    message = made.create(messages=history, privacy="public").choices[0].message
    assert message.privacy == "public"
    again = made.create(messages=[*history, message, {"role": "user", "content": "Go on"}], privacy="public")
    assert (again.route.served_by, again.route.label) == ("remote", "private")
    assert MAIL.encode() not in server.received


def test_an_answer_into_which_something_was_put_back_is_as_sensitive_as_the_whole_request(redacting):
    """A piece of it could leave later without being recognised: cut in the middle of a number, or without the word before."""
    made, server = redacting(answer("Noted: [PHONE_1] for the man who lives in the yellow house next to us"))
    said = "Please note tel: 4711 0815 22 for the man who lives in the yellow house next to us"
    message = made.create(messages=[{"role": "user", "content": said}], privacy="public").choices[0].message
    assert "4711 0815 22" in message.content
    assert message.privacy == "private"
    for copied in (message.content, message.content[7:], message.content[12:]):
        reply = made.create(messages=[{"role": "user", "content": copied}], privacy="public")
        assert reply.route.served_by == "local"
    assert b"0815 22" not in server.received


@pytest.mark.parametrize(
    "said",
    [
        {"privacy": "private"},
        {"privacy": None},
        {"privacy": "public", "tags": ["health"]},
        {"privacy": "internal"},
    ],
)
def test_what_a_caller_labelled_cannot_be_redacted_away(redacting, said):
    made, server = redacting(answer())
    reply = made.create(messages=[{"role": "user", "content": f"I am {MAIL}"}], **said)
    assert reply.route.served_by == "local"
    assert not server.received


@pytest.mark.parametrize(
    "content",
    [
        f"{MAIL} pays with {CARD}",  # another detector finds more than may be redacted
        f"{MAIL} works on Blue Heron",
    ],
)
def test_what_is_still_too_sensitive_afterwards_is_not_sent(redacting, content):
    made, server = redacting(answer())
    reply = made.create(messages=[{"role": "user", "content": content}], privacy="public")
    assert reply.route.served_by == "local"
    assert not server.received


def test_a_find_that_is_split_over_parts_is_redacted_in_both(redacting):
    made, server = redacting(answer("Thanks, [EMAIL_2][EMAIL_3]"))
    content = [{"type": "text", "text": f"{MAIL} or bob@exam"}, {"type": "text", "text": "ple.org, thanks"}]
    reply = made.create(messages=[{"role": "user", "content": content}], privacy="public")
    assert [part["text"] for part in server.exchanges[0].json["messages"][0]["content"]] == [
        "[EMAIL_1] or [EMAIL_2]",
        "[EMAIL_3], thanks",
    ]
    assert reply.choices[0].message.content == "Thanks, bob@example.org"


def test_the_text_is_scanned_again_before_it_goes(redacting, monkeypatch):
    """Even a redaction that leaves everything in place lets nothing out."""
    import hybridllm.redaction

    monkeypatch.setattr(hybridllm.redaction._Placeholders, "put_into", lambda self, text, spans: text)
    made, server = redacting(answer())
    reply = made.create(messages=[{"role": "user", "content": f"I am {MAIL}"}], privacy="public")
    assert reply.route.served_by == "local"
    assert "After redaction the text is still 'private'" in reply.route.attempts[0].error
    assert not server.received


def test_without_redact_nothing_is_redacted(redacting):
    made, server = redacting(answer(), POLICY.replace("    redact: [email, phone]\n", ""))
    reply = made.create(messages=[{"role": "user", "content": f"I am {MAIL}"}], privacy="public")
    assert reply.route.served_by == "local"
    assert not server.received


def test_a_stream_that_breaks_off_gives_what_was_held_back_to_nobody(redacting):
    made, _ = redacting(stream(chunk("Hello [EMAIL") + b""))
    with pytest.raises(Exception, match=r"cut|in the middle"):
        made.read(messages=[{"role": "user", "content": f"I am {MAIL}"}], privacy="public")


def test_explain_says_what_would_be_redacted():
    from hybridllm import Remote

    remote = Remote(base_url="https://llm.example/v1", model="m")
    with HybridClient(local=ScriptedBackend([]), policy=parse_policy(POLICY), remote=remote) as client:
        explanation = client.explain(messages=[{"role": "user", "content": MAIL}], privacy="public")
    decision = explanation.decision
    assert (decision.redact, decision.redacted_places, decision.redacted_label) == (
        ("email", "phone"),
        ("remote",),
        "public",
    )
    assert (decision.label, decision.label_for("remote"), decision.label_for("local")) == (
        "private",
        "public",
        "private",
    )
    assert explanation.facts.detected == {"email"}
    assert explanation.facts.declared_label == "public"
