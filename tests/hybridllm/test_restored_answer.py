"""What a remote says about a redacted request gets its originals back in every part, wherever it is cut."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridllm.answer import AnswerSoFar
from hybridllm.backends.base import ContentDelta, Finished, ToolCallDelta
from hybridllm.redaction import Redaction
from hybridllm.restored_answer import AnswerRestorer
from hybridllm.testing import ScriptedBackend
from hybridllm.types import ChatRequest
from policies import parse_policy
from tests.hybridllm.loopback import DONE, chunk, delta, stream
from tests.hybridllm.test_chunks import call

ORIGINAL = 'Anna "Ännchen" \\ Müller\n<anna@example.org>'
REQUEST = ChatRequest.parse([{"role": "user", "content": "x"}])
REDACTION = Redaction(REQUEST, {"[NAME_1]": ORIGINAL})
SAID = "Write to [NAME_1], not [OTHER_1] or [name_1"
ARGUMENTS = '{"to": ["[NAME_1]", "[name_1]!"], "at": [1, 2]}'
HOURS = {"type": "function", "function": {"name": "hours"}}


def cuts(text):
    """Every way to cut a text into some pieces."""
    return st.lists(st.integers(0, len(text)), max_size=12).map(
        lambda at: [text[a:b] for a, b in zip([0, *sorted(at)], [*sorted(at), len(text)], strict=True)]
    )


def restored(events):
    restorer = AnswerRestorer(REDACTION)
    so_far = AnswerSoFar()
    ended = []
    for event in [*events, Finished("stop")]:
        for found in restorer.restore(event):
            if isinstance(found, Finished):
                ended.append(found)
            else:
                assert not ended
                so_far.add(found)
    assert len(ended) == 1
    return so_far, restorer


@given(cuts(SAID), cuts(ARGUMENTS))
def test_every_part_is_restored_however_it_is_cut(said, arguments):
    calls = [ToolCallDelta(0, "[NAME_1]", "hours")] + [ToolCallDelta(0, arguments=piece) for piece in arguments]
    events = [ContentDelta(reasoning=piece) for piece in said]
    events += [ContentDelta(text=piece, choice=1) for piece in said] + [ContentDelta(refusal=piece) for piece in said]
    # Two calls whose pieces take turns.
    events += [
        ContentDelta(tool_calls=[piece, ToolCallDelta(1, piece.id and "b", piece.name, piece.arguments)])
        for piece in calls
    ]
    so_far, restorer = restored(events)
    whole = f"Write to {ORIGINAL}, not [OTHER_1] or [name_1"
    first, second = so_far.choices(2)
    assert (first.reasoning, first.refusal, first.text, second.text) == (whole, whole, "", whole)
    for made in first.tool_calls:
        assert json.loads(made.function.arguments) == {"to": [ORIGINAL, f"{ORIGINAL}!"], "at": [1, 2]}
    assert [made.id for made in first.tool_calls] == ["[NAME_1]", "b"]
    assert restorer.restored


def test_what_needs_nothing_says_that_nothing_was_put_back():
    so_far, restorer = restored([ContentDelta("a ["), ContentDelta("b]")])
    assert (so_far.first.text, restorer.restored) == ("a [b]", False)


POLICY = parse_policy(
    "version: 1\nname: redacting\nlabels: {order: [public, private], unlabeled: private}\n"
    "zones: {cloud: public}\ndetectors: [email]\n"
    "rules:\n  - {name: addresses, when: {detected: {contains: email}}, route: [remote, local], redact: [email]}\n"
    "default: [remote, local]\n"
)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_call_about_a_redacted_request(face, serve, remote_at, streamed):
    behaviour = stream(
        delta(reasoning="For [EMA")
        + delta(reasoning="IL_1].")
        + delta(tool_calls=[call(0, "a", "hours", '{"to": "[EM')])
        + delta(tool_calls=[call(0, arguments='AIL_1]"}')])
        + chunk(finish="tool_calls")
        + DONE
    )
    server = serve(behaviour)
    client = face(policy=POLICY, remote=remote_at(server), local=ScriptedBackend([]))
    question = [{"role": "user", "content": "Write to anna@example.org."}]
    reply = (client.final if streamed else client.create)(messages=question, tools=[HOURS], privacy="public")
    assert reply.route.served_by == "remote"
    assert b"anna@" not in server.received
    (one,) = reply.choices
    assert one.message.reasoning_content == "For anna@example.org."
    assert json.loads(one.message.tool_calls[0].function.arguments) == {"to": "anna@example.org"}
    assert one.message.privacy == "private"  # an original is in it again
