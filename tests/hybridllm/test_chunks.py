"""What a server's chunks say, and what they may not say: calls of tools, thoughts, log probabilities and several answers."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridllm.answer import AnswerSoFar
from hybridllm.backends.base import ContentDelta
from hybridllm.backends.chunks import ChunkReader, Sign
from hybridllm.errors import RemoteError
from hybridllm.types import ChatRequest

QUESTION = [{"role": "user", "content": "When do you open?"}]
HOURS = {"type": "function", "function": {"name": "hours"}}
PRICE = {"type": "function", "function": {"name": "price"}}


def reader(**fields):
    return ChunkReader(ChatRequest.parse(QUESTION, **fields))


def choice(delta=None, *, index=0, finish=None, **more):
    return {"index": index, "delta": {} if delta is None else delta, "finish_reason": finish, **more}


def read(reading, *choices, **more):
    return reading.read("", json.dumps({"choices": list(choices), **more}))


def call(index=0, id_=None, name=None, arguments=None):
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    return {"index": index, **({} if id_ is None else {"id": id_, "type": "function"}), "function": function}


def calls(*pieces):
    return choice({"tool_calls": list(pieces)})


def joined(reading, *chunks):
    """The whole answer that these chunks say."""
    so_far = AnswerSoFar()
    for one in chunks:
        for found in read(reading, one):
            if isinstance(found, ContentDelta):
                so_far.add(found)
    return so_far


def test_calls_are_put_together_by_their_index():
    reading = reader(tools=[HOURS, PRICE])
    so_far = joined(
        reading,
        choice({"role": "assistant", "content": None}),
        calls(call(0, "a", "hours", "")),
        calls(call(0, arguments='{"day":')),
        calls(call(1, "b", "price", '{"x'), call(0, arguments=' "Mon"}')),
        calls(call(1, arguments='": 1}')),
        choice(finish="tool_calls"),
    )
    assert [one.model_dump() for one in so_far.first.tool_calls] == [
        {"id": "a", "type": "function", "function": {"name": "hours", "arguments": '{"day": "Mon"}'}},
        {"id": "b", "type": "function", "function": {"name": "price", "arguments": '{"x": 1}'}},
    ]
    assert reading.finished().reason == "tool_calls"


@given(st.lists(st.text(max_size=8), min_size=1, max_size=6), st.data())
def test_arguments_are_passed_on_as_they_come_however_they_are_cut(pieces, data):
    reading = reader(tools=[HOURS])
    first = data.draw(st.integers(0, len(pieces)))
    chunks = [calls(call(0, "a", "hours", "".join(pieces[:first])))]
    chunks += [calls(call(0, arguments=piece)) for piece in pieces[first:]]
    (whole,) = joined(reading, *chunks).first.tool_calls
    assert whole.function.arguments == "".join(pieces)


@pytest.mark.parametrize(
    "again",
    [call(0, "a", None, "x"), call(0, "a", "hours", "x"), call(0, "", "", "x"), {"index": 0, "id": None, "type": None,
     "function": {"name": None, "arguments": "x"}}],
)  # fmt: skip
def test_servers_that_repeat_id_and_name_are_understood(again):
    so_far = joined(reader(tools=[HOURS]), calls(call(0, "a", "hours")), calls(again))
    (one,) = so_far.first.tool_calls
    assert (one.id, one.function.name, one.function.arguments) == ("a", "hours", "x")


def test_a_server_that_leaves_the_index_out_sends_each_call_in_one_piece():
    without = [{"id": id_, "function": {"name": "hours", "arguments": "{}"}} for id_ in "ab"]
    so_far = joined(reader(tools=[HOURS]), calls(without[0]), calls(without[1]))
    assert [one.id for one in so_far.first.tool_calls] == ["a", "b"]


BEGUN = [call(0, "a", "hours", "{")]


@pytest.mark.parametrize(
    ("before", "piece", "said"),
    [
        ([], call(0, None, "hours"), "without its id or its name"),
        ([], call(0, "a"), "without its id or its name"),
        ([], call(1, "a", "hours"), "leaves a gap"),
        (BEGUN, call(2, "c", "hours"), "leaves a gap"),
        ([], call(-1, "a", "hours"), "leaves a gap"),
        ([], call(True, "a", "hours"), "leaves a gap"),
        ([], call("0", "a", "hours"), "leaves a gap"),
        ([], {"function": {"arguments": "{}"}}, "leaves a gap"),
        ([], call(0, "a", "weather"), "did not offer"),
        (BEGUN, call(1, "a", "hours"), "one id"),
        (BEGUN, call(0, "b"), "changed the id or the name"),
        (BEGUN, call(0, None, "price"), "changed the id or the name"),
        ([], call(0, "a", "hours", {"day": "Mon"}), "are not text"),
        ([], call(0, 7, "hours"), "are not text"),
        ([], {"index": 0, "id": "a", "type": "custom", "function": {"name": "hours"}}, "no function"),
        ([], {"index": 0, "id": "a", "function": "hours"}, "no object"),
        ([], "hours", "no object"),
    ],
)
def test_a_call_that_is_none_is_an_error_of_the_attempt(before, piece, said):
    reading = reader(tools=[HOURS, PRICE])
    if before:
        read(reading, calls(*before))
    with pytest.raises(RemoteError, match=said):
        read(reading, calls(piece))


@pytest.mark.parametrize("fields", [{}, {"tools": [HOURS], "tool_choice": "none"}])
def test_a_call_that_was_not_asked_for(fields):
    with pytest.raises(RemoteError, match="the request had no tools"):
        read(reader(**fields), calls(call(0, "a", "hours")))


def test_what_comes_after_the_end_or_is_no_list():
    reading = reader(tools=[HOURS])
    read(reading, choice({"content": "x"}, finish="stop"))
    for late in (calls(*BEGUN), choice({"reasoning": "Hm."}), choice({"content": "y"})):
        with pytest.raises(RemoteError, match="more after the end"):
            read(reading, late)
    with pytest.raises(RemoteError, match="no list"):
        read(reader(tools=[HOURS]), choice({"tool_calls": {"id": "a"}}))
    with pytest.raises(RemoteError, match="not supported any more"):
        read(reader(tools=[HOURS]), choice({"function_call": {"name": "hours"}}))


def test_an_end_for_calls_that_did_not_come():
    reading = reader(tools=[HOURS])
    read(reading, choice({"content": "x"}, finish="tool_calls"))
    with pytest.raises(RemoteError, match="called none"):
        reading.finished()


def test_an_end_as_any_other_after_a_forced_call():
    reading = reader(tools=[HOURS], tool_choice={"type": "function", "function": {"name": "hours"}})
    read(reading, calls(call(0, "a", "hours", "{}")))
    read(reading, choice(finish="stop"))
    assert reading.finished().reason == "stop"


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_thoughts_are_given_out(name):
    reading = reader()
    (thought,) = read(reading, choice({name: "Hm.", "content": None}))
    assert (thought.reasoning, thought.text, thought.is_thought) == ("Hm.", "", True)
    (both,) = read(reading, choice({"reasoning": "So", "reasoning_content": "So", "content": "Nine."}))
    assert (both.reasoning, both.text, both.is_thought) == ("So", "Nine.", False)
    assert read(reading, choice({name: [{"type": "text"}]})) == [Sign.THOUGHT]


def test_tokens_that_were_thought_with_are_counted_apart():
    reading = reader()
    read(reading, choice({"content": "x"}, finish="stop"))
    usage = {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12}
    reading.read(
        "", json.dumps({"choices": [], "usage": {**usage, "completion_tokens_details": {"reasoning_tokens": 7}}})
    )
    assert reading.finished().usage.completion_tokens_details.reasoning_tokens == 7


TOKEN = {"token": "é", "logprob": -0.5, "bytes": [195, 169]}


def test_log_probabilities():
    likely = {"token": "e", "logprob": -12345.0, "bytes": None}
    said = {"content": [{**TOKEN, "top_logprobs": [TOKEN, likely]}], "refusal": None}
    (piece,) = read(reader(logprobs=True, top_logprobs=2), choice({"content": "é"}, logprobs=said))
    (one,) = piece.logprobs
    assert (one.token, one.logprob, one.bytes) == ("é", -0.5, [195, 169])
    assert [(top.token, top.logprob) for top in one.top_logprobs] == [("é", -0.5), ("e", -9999.0)]
    (unasked,) = read(reader(), choice({"content": "é"}, logprobs=said))
    assert unasked.logprobs == ()
    for nothing in (None, {}, {"content": None}, {"content": []}):
        (piece,) = read(reader(logprobs=True), choice({"content": "é"}, logprobs=nothing))
        assert list(piece.logprobs) == []


@pytest.mark.parametrize(
    "said",
    [
        {"content": "x"}, {"content": ["x"]}, {"content": [{"token": 1, "logprob": 0.0}]}, "x",
        {"content": [{"token": "x", "logprob": None}]}, {"content": [{"token": "x", "logprob": 0, "bytes": [256]}]},
        {"content": [{"token": "x", "logprob": float("nan")}]}, {"content": [{**TOKEN, "top_logprobs": {}}]},
    ],
)  # fmt: skip
def test_log_probabilities_in_no_known_shape(said):
    with pytest.raises(RemoteError, match="log probabilities"):
        read(reader(logprobs=True), choice({"content": "x"}, logprobs=said))


def test_several_answers_end_one_by_one():
    reading = reader(n=2)
    first, second = read(reading, choice({"content": "a"}), choice({"content": "b"}, index=1))
    assert [(first.choice, first.text), (second.choice, second.text)] == [(0, "a"), (1, "b")]
    read(reading, choice(index=1, finish="length"))
    assert not reading.whole
    with pytest.raises(RemoteError, match="cut"):
        reading.finished()
    read(reading, choice({"content": "c"}, finish="stop"))
    assert reading.whole
    assert (reading.finished().reason, reading.finished().reasons) == ("stop", ("stop", "length"))


@pytest.mark.parametrize(("count", "index"), [(1, 1), (2, 2), (2, -1), (2, None), (2, "0"), (1, True)])
def test_an_answer_that_was_not_asked_for(count, index):
    with pytest.raises(RemoteError, match="not asked for"):
        read(reader(n=count), choice({"content": "x"}, index=index))


def test_one_answer_needs_no_index():
    (piece,) = read(reader(), {"delta": {"content": "x"}})
    assert piece.text == "x"
    assert reader().read("", json.dumps({"choices": [choice(index=None)]})) == [Sign.EMPTY]
