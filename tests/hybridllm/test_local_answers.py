"""The device's answers: what the engine says of each, joined to one stream with one end."""

import asyncio
import math
from contextlib import aclosing

import pytest

from hybridllm.answer import AnswerSoFar
from hybridllm.backends.base import BackendCall, Finished
from hybridllm.backends.local import LocalBackend
from hybridllm.errors import Cancelled, EngineError, Overloaded
from hybridllm.types import ChatRequest
from local_runtime import events
from local_runtime.errors import LocalRuntimeError, OverloadedError

QUESTION = [{"role": "user", "content": "When do you open?"}]
TOOL = {"type": "function", "function": {"name": "hours"}}


def delta(text="", **more):
    return events.TextDelta(text, 1, **more)


def end(reason="stop", *, completion=2, cached=0, queue_s=0.0, **more):
    usage = events.Usage(prompt_tokens=7, completion_tokens=completion, cached_tokens=cached)
    return events.Finished(reason, usage, events.Timings(queue_s=queue_s), **more)


class ScriptedEngine:
    """Says what was written down for each request, in turns, as soon as all are there.

    Attributes:
        requests: What was asked.
        cancelled: Which of them were cancelled.
    """

    def __init__(self, *scripts, refuses_from=None):
        self.scripts = scripts
        self.requests = []
        self.cancelled = []
        self._receivers = []
        self._refuses_from = refuses_from

    def submit(self, request, on_event):
        number = len(self.requests)
        if number == self._refuses_from:
            raise OverloadedError("Too many wait.", "Ask later.")
        self.requests.append(request)
        self._receivers.append(on_event)
        if len(self.requests) == len(self.scripts):
            for step in range(max(map(len, self.scripts))):
                for script, receive in zip(self.scripts, self._receivers, strict=True):
                    if step < len(script):
                        receive(script[step])
        return _Handle(self, number)


class _Handle:
    def __init__(self, engine, number):
        self._engine = engine
        self._number = number

    def cancel(self):
        self._engine.cancelled.append(self._number)


def asked(engine, *, stop_after=None, **fields):
    """The answer so far, and the events."""
    backend = LocalBackend("kiosk-assistant")
    backend._engine = engine
    so_far, said = AnswerSoFar(), []

    async def go():
        call = BackendCall(request=ChatRequest.parse(QUESTION, **fields), request_id="r")
        async with aclosing(backend.stream(call)) as stream:
            async for event in stream:
                said.append(event)
                if not isinstance(event, Finished):
                    so_far.add(event)
                if len(said) == stop_after:
                    return

    try:
        asyncio.run(go())
    finally:
        assert backend.queue_s == 0.0  # nothing counts as under way any more
    return so_far, said


def test_thoughts_calls_and_text_become_pieces():
    script = [
        delta(reasoning="Hm"),
        delta(reasoning="."),
        delta(),
        delta("One moment."),
        delta(tool_calls=[events.ToolCallDelta(0, "a", "hours", "{")]),
        delta(tool_calls=[events.ToolCallDelta(0, arguments="}")]),
        end("tool_calls", completion=6),
    ]
    so_far, said = asked(ScriptedEngine(script), tools=[TOOL])
    assert (so_far.first.reasoning, so_far.first.text) == ("Hm.", "One moment.")
    (call,) = so_far.first.tool_calls
    assert (call.id, call.function.name, call.function.arguments) == ("a", "hours", "{}")
    assert [event.tokens for event in said[:-1]] == [1, 1, 2, 1, 1]
    assert said[-1].reason == "tool_calls"
    assert said[-1].reasons == ()
    assert said[-1].usage.completion_tokens_details.reasoning_tokens == 2


def likely(token, logprob, *top):
    return events.TokenLogprob(token, 5, logprob, list(token.encode()), list(top))


def test_log_probabilities_come_with_the_text_of_their_tokens():
    script = [
        delta("", logprobs=[likely("\ufffd", -1.0)]),
        delta("é", logprobs=[likely("\ufffd", -math.inf, events.LikelyToken("e", 6, -math.inf, [101]))]),
        delta("", logprobs=[likely("<end>", -0.5)]),
        end(prompt_logprobs=[likely("do", -3.0)]),
    ]
    so_far, said = asked(ScriptedEngine(script), logprobs=True, prompt_logprobs=1)
    assert [[one.logprob for one in event.logprobs] for event in said[:-1]] == [[-1.0, -9999.0], [-0.5]]
    assert so_far.first.logprobs[1].top_logprobs[0].logprob == -9999.0
    assert [(one.token, one.logprob) for one in said[-1].prompt_logprobs] == [("do", -3.0)]
    _, said = asked(ScriptedEngine([end()]))
    assert said[-1].prompt_logprobs is None


def test_several_answers_are_one_stream_with_one_end():
    engine = ScriptedEngine(
        [delta("a"), delta("A"), end(cached=3, queue_s=0.1)],
        [delta("b"), end("length", completion=1, cached=7, queue_s=0.3)],
    )
    so_far, said = asked(engine, n=2, seed=2**63 - 1, prompt_logprobs=0)
    assert [choice.text for choice in so_far.choices(2)] == ["aA", "b"]
    assert [event.choice for event in said[:-1]] == [0, 1, 0]
    finished = said[-1]
    assert (finished.reason, finished.reasons, finished.queue_s) == ("stop", ("stop", "length"), 0.3)
    usage = finished.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (7, 3, 10)
    assert usage.prompt_tokens_details.cached_tokens == 3
    assert [request.sampling.seed for request in engine.requests] == [2**63 - 1, 2**63]
    assert [request.prompt_logprobs for request in engine.requests] == [0, None]
    assert engine.cancelled == []


def test_without_a_seed_each_draws_by_itself():
    engine = ScriptedEngine([end()], [end()])
    asked(engine, n=2)
    assert [request.sampling.seed for request in engine.requests] == [None, None]


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (events.Failed(LocalRuntimeError("It broke.", "Ask again.")), EngineError),
        (end("cancelled"), Cancelled),
    ],
)
def test_one_that_fails_ends_the_others(bad, error):
    engine = ScriptedEngine([delta("a")] * 5, [delta("b"), bad], [delta("c")] * 5)
    with pytest.raises(error):
        asked(engine, n=3)
    assert engine.cancelled == [0, 2]


def test_stopping_frees_all():
    engine = ScriptedEngine([delta("a")] * 5, [end()], [delta("c")] * 5)
    asked(engine, n=3, stop_after=3)
    assert engine.cancelled == [0, 2]


def test_one_that_finds_no_place_in_the_queue_gives_up_those_of_the_others():
    engine = ScriptedEngine([], [], [], refuses_from=2)
    with pytest.raises(Overloaded):
        asked(engine, n=3)
    assert engine.cancelled == [0, 1]
