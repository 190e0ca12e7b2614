"""A conversation keeps its messages, and its label only rises."""

import pytest

from hybridllm import BadRequest
from hybridllm.testing import ScriptedBackend, ScriptedCall, ScriptedReply
from policies import parse_policy
from tests.hybridllm.loopback import DONE, answer, chunk, delta, reset, stream
from tests.hybridllm.test_chunks import call

POLICY = parse_policy(
    "version: 1\nname: cloud-first\nlabels: {order: [public, internal, private], unlabeled: private, tags: {faq: public}}\n"
    "zones: {cloud: public, site: internal}\ndefault: [remote, local]\n"
)


@pytest.fixture
def talk(face, serve, remote_at):
    """A conversation on either face, its local script, and what the remote gets to see."""

    def start(replies=lambda _: "From here.", behaviour=None, **more):
        server = serve(behaviour or answer("From", " afar."))
        backend = ScriptedBackend(replies)
        made = face(policy=POLICY, local=backend, remote=remote_at(server, max_retries=0))
        conversation = made.client.conversation(**more)

        def say(content=None, *, stream=False, **said):
            if made.name == "blocking":
                answered = conversation.create(content, stream=stream, **said)
                return answered.get_final_completion() if stream else answered

            async def go():
                answered = await conversation.create(content, stream=stream, **said)
                return await answered.get_final_completion() if stream else answered

            return made._runner.run(go())

        return conversation, say, backend, server

    return start


@pytest.mark.parametrize("stream", [False, True])
def test_what_was_private_once_keeps_the_rest_here(talk, stream):
    conversation, say, backend, server = talk(system="Be brief.")
    assert conversation.label is None
    first = say("When do you open?", stream=stream, tags=["faq"])
    assert (first.route.served_by, conversation.label) == ("remote", "public")
    second = say("I feel ill.", stream=stream)
    assert (second.route.served_by, conversation.label) == ("local", "private")
    third = say("Where is the exit?", stream=stream, privacy="public", tags=["faq"])
    assert (third.route.served_by, third.route.label, conversation.label) == ("local", "private", "private")
    assert third.choices[0].message.privacy == "private"
    assert len(server.exchanges) == 1
    assert [message.text for message in backend.requests[-1].messages] == [
        "Be brief.",
        "When do you open?",
        "From afar.",
        "I feel ill.",
        "From here.",
        "Where is the exit?",
    ]
    assert [message.get("privacy") for message in conversation.messages] == [
        None, None, "public", None, "private", None, "private",
    ]  # fmt: skip


def test_a_floor_can_be_given_and_messages_are_a_copy(talk):
    conversation, say, _, server = talk(privacy_floor="internal")
    assert say("Hello", privacy="public").route.label == "internal"
    conversation.messages[0]["content"] = "changed"
    assert conversation.messages[0]["content"] == "Hello"
    assert not server.received


def test_a_request_without_an_answer_leaves_no_trace(talk):
    conversation, say, _, _ = talk(replies=[RuntimeError("broken"), "Here."], behaviour=reset())
    with pytest.raises(Exception, match="Nobody could answer"):
        say("Hello", privacy="public")
    assert (conversation.messages, conversation.label) == ([], None)
    assert say("Hello again", privacy="public").route.served_by == "local"
    assert len(conversation.messages) == 2


def test_what_was_given_out_of_an_answer_that_broke_off_is_kept(talk):
    conversation, say, _, _ = talk(replies=[ScriptedReply("a b c", error=RuntimeError("x"), fail_after=2)])
    with pytest.raises(Exception, match="in the middle"):
        say("Secret", stream=True)
    assert [message["content"] for message in conversation.messages] == ["Secret", "a b"]
    assert conversation.label == "private"


def test_what_cannot_be_a_conversation(talk):
    with pytest.raises(BadRequest, match="privacy_floor is 'secret'"):
        talk(privacy_floor="secret")
    with pytest.raises(BadRequest, match="system is not a text"):
        talk(system="")


def test_the_remote_sees_the_messages_and_no_label(talk):
    conversation, say, _, server = talk(behaviour=answer("Yes."))
    say("One", privacy="public")
    say("Two", privacy="public")
    assert server.exchanges[1].json["messages"] == [
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Two"},
    ]
    assert conversation.label == "public"


# ---- tools ----

HOURS = {"type": "function", "function": {"name": "hours"}}
ASKS = ScriptedReply("One moment.", reasoning="Ask.", tool_calls=[ScriptedCall("hours", {"day": "Mon"}, id="a")])
ASKS_TWICE = ScriptedReply(tool_calls=[ScriptedCall("hours", id="a"), ScriptedCall("hours", id="b")])


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_and_its_result_goes_on(talk, stream):
    conversation, say, backend, _ = talk(replies=[ASKS, "At nine.", "Good bye."])
    first = say("When do you open on Monday?", stream=stream, tools=[HOURS])
    (call,) = first.choices[0].message.tool_calls
    conversation.add_tool_result(call.id, '{"opens": 9}')
    second = say(None, stream=stream, tools=[HOURS])
    assert second.choices[0].message.content == "At nine."
    assert [message.role for message in backend.requests[1].messages] == ["user", "assistant", "tool"]
    assert backend.requests[1].messages[1].reasoning_content == "Ask."
    say("Thank you.", stream=stream, tools=[HOURS])
    asked = backend.requests[2].messages
    assert [message.role for message in asked] == ["user", "assistant", "tool", "assistant", "user"]
    assert asked[1].tool_calls[0].function.arguments == '{"day": "Mon"}'
    assert asked[1].reasoning_content is None  # that loop is over
    assert asked[2].text == '{"opens": 9}'
    assert conversation.messages[1]["reasoning_content"] == "Ask."
    assert len(conversation.messages) == 6


def test_a_private_result_keeps_the_rest_here(talk, serve):
    conversation, say, _, server = talk(
        replies=["From here.", "Still here."],
        behaviour=stream(delta(tool_calls=[call(0, "a", "hours", "{}")]) + chunk(finish="tool_calls") + DONE),
    )
    assert say("Hello", privacy="public", tools=[HOURS]).route.served_by == "remote"
    conversation.add_tool_result("a", "The visitor is ill.", privacy="private")
    assert conversation.label == "private"
    reply = say(privacy="public", tools=[HOURS])
    assert (reply.route.served_by, reply.route.label) == ("local", "private")
    assert conversation.messages[2]["privacy"] == "private"
    assert say("Thank you.", privacy="public").route.served_by == "local"
    assert len(server.exchanges) == 1


def test_a_public_result_goes_to_the_remote_without_its_label(talk):
    calls = stream(delta(tool_calls=[call(0, "a", "hours", "{}")]) + chunk(finish="tool_calls") + DONE)
    conversation, say, _, server = talk(behaviour=calls)
    say("Hello", privacy="public", tools=[HOURS])
    conversation.add_tool_result("a", "nine", privacy="public")
    say(privacy="public", tools=[HOURS])
    assert server.exchanges[1].json["messages"] == [
        {"role": "user", "content": "Hello"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "a", "type": "function", "function": {"name": "hours", "arguments": "{}"}}],
        },
        {"role": "tool", "content": "nine", "tool_call_id": "a"},
    ]


def test_every_call_needs_its_result_first(talk):
    conversation, say, _, _ = talk(replies=[ASKS_TWICE, "Done."])
    with pytest.raises(BadRequest, match="content is missing"):
        say(None)
    with pytest.raises(BadRequest, match="names no call"):
        conversation.add_tool_result("a", "nine")
    say("Hello", tools=[HOURS])
    conversation.add_tool_result("b", "ten")
    for again in ("b", "c", None, ["a"]):
        with pytest.raises(BadRequest, match="names no call"):
            conversation.add_tool_result(again, "nine")
    for content in (None, "More"):
        with pytest.raises(BadRequest, match="1 of the last answer's calls of tools have no result") as raised:
            say(content, tools=[HOURS])
        assert raised.value.field == "messages"
    with pytest.raises(BadRequest, match="content is a dict, expected text"):
        conversation.add_tool_result("a", {"opens": 9})
    with pytest.raises(BadRequest, match="privacy is 'secret'"):
        conversation.add_tool_result("a", "nine", privacy="secret")
    conversation.add_tool_result("a", "nine")
    assert say(None, tools=[HOURS]).choices[0].message.content == "Done."
    assert [message["role"] for message in conversation.messages] == ["user", "assistant", "tool", "tool", "assistant"]


def test_half_a_call_is_not_remembered_and_its_label_is(talk):
    broken = ScriptedReply(tool_calls=[ScriptedCall("hours", {"day": "Mon"})], error=RuntimeError("x"), fail_after=2)
    cut = ScriptedReply("One moment.", tool_calls=[ScriptedCall("hours", {"day": "Mon day"})])
    conversation, say, _, _ = talk(replies=[broken, cut, "Fine."])
    with pytest.raises(Exception, match="in the middle"):
        say("Secret", stream=True, tools=[HOURS])
    assert (conversation.messages, conversation.label) == ([], "private")
    assert say("Again", tools=[HOURS], max_tokens=4).choices[0].finish_reason == "length"
    assert conversation.messages[-1] == {"role": "assistant", "content": "One moment.", "privacy": "private"}
    assert say("And now?").choices[0].message.content == "Fine."


def test_a_refusal_stays_a_refusal(talk):
    refuses = stream(delta(refusal="I may not.") + chunk(finish="stop") + DONE)
    conversation, say, _, server = talk(behaviour=refuses)
    say("Hello", privacy="public")
    say("Please", privacy="public")
    assert conversation.messages[1] == {
        "role": "assistant",
        "content": None,
        "refusal": "I may not.",
        "privacy": "public",
    }
    assert server.exchanges[1].json["messages"][1] == {"role": "assistant", "content": None, "refusal": "I may not."}


def test_there_is_one_answer(talk):
    _, say, backend, _ = talk()
    with pytest.raises(BadRequest, match="goes on from one answer"):
        say("Hello", n=2)
    assert backend.requests == []
