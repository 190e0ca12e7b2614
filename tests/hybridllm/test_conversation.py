"""A conversation keeps its messages, and its label only rises."""

import pytest

from hybridllm import BadRequest
from hybridllm.testing import ScriptedBackend, ScriptedReply
from policies import parse_policy
from tests.hybridllm.loopback import answer, reset

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

        def say(content, *, stream=False, **said):
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
