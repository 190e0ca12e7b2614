"""Calls of tools across the worker's pipe, and across its death."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from local_runtime.client import LocalEngine, Supervision
from local_runtime.errors import InvalidRequestError
from local_runtime.events import Event, Failed, Finished, TextDelta
from local_runtime.options import GenerateRequest, LoadOptions, check_messages
from tests.local_runtime.test_tool_answers import ASK, GREEDY, calls_of, reasoning_of, text_of
from tests.local_runtime.tool_models import TOOLS

WORKER = [sys.executable, str(Path(__file__).with_name("tool_worker.py"))]
REQUEST = GenerateRequest(messages=ASK, sampling=GREEDY, tools=TOOLS)


def expect_the_answer(events: list[Event]) -> None:
    end = events[-1]
    assert isinstance(end, Finished), getattr(end, "error", end)
    assert end.reason == "tool_calls"
    assert (text_of(events), reasoning_of(events)) == ("I look.", "they ask")
    assert [call[1:] for call in calls_of(events)] == [("opening_hours", '{"day": "today"}'), ("now", "{}")]
    assert len({identity for identity, *_ in calls_of(events)}) == 2


def test_calls_thoughts_and_counts_cross_the_pipe() -> None:
    with LocalEngine(LoadOptions("{}"), worker_command=WORKER) as engine:
        expect_the_answer(list(engine.generate(REQUEST)))
        with_tools = engine.count_prompt_tokens(ASK, {}, TOOLS, timeout_s=60)
        assert with_tools > engine.count_prompt_tokens(ASK, timeout_s=60) > 0
        (failed,) = engine.generate(dataclasses.replace(REQUEST, tools=[{"type": "function"}]))
        assert isinstance(failed, Failed)
        assert failed.error.code == "invalid_request"


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal that cannot be caught")
@pytest.mark.parametrize("at", ["reasoning", "first call", "second call"])
def test_calls_go_on_with_the_same_ids_when_the_worker_dies(at: str) -> None:
    def is_there(delta: TextDelta) -> bool:
        index = {"first call": 0, "second call": 1}.get(at)
        if index is None:
            return bool(getattr(delta, at))
        return any(piece.index == index for piece in delta.tool_calls)

    options, impatient = LoadOptions('{"step_s": 0.005}'), Supervision(backoff_s=0.01)
    with LocalEngine(options, worker_command=WORKER, supervision=impatient) as engine:
        engine.start()
        killed = False
        events: list[Event] = []
        for event in engine.generate(REQUEST):
            events.append(event)
            pid = engine.worker_pid
            if not killed and isinstance(event, TextDelta) and is_there(event) and pid is not None:
                killed = True
                os.kill(pid, signal.SIGKILL)
        assert killed
        expect_the_answer(events)


CALL: dict[str, Any] = {"id": "c1", "type": "function", "function": {"name": "now", "arguments": "{}"}}


def test_messages_may_call_tools_and_answer_them() -> None:
    check_messages([
        *ASK,
        {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning_content": "hm"},
        {"role": "tool", "tool_call_id": "c1", "name": "now", "content": "9:30"},
        {"role": "assistant", "content": "Now.", "tool_calls": None},
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"role": "assistant", "content": None}, r"messages\[0\]\.content is a NoneType"),
        ({"role": "assistant", "content": None, "tool_calls": []}, r"messages\[0\]\.content is a NoneType"),
        ({"role": "user", "content": "secret", "tool_calls": [CALL]}, r"tool_calls is not an assistant's"),
        ({"role": "assistant", "tool_calls": {"secret": 1}}, r"messages\[0\]\.tool_calls is no list"),
        ({"role": "assistant", "tool_calls": ["secret"]}, r"messages\[0\]\.tool_calls\[0\] is no call"),
        ({"role": "assistant", "tool_calls": [{**CALL, "id": 5}]}, "is no call with an id"),
        ({"role": "assistant", "tool_calls": [{**CALL, "function": {"name": 5}}]}, "function has no name"),
        ({"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "f", "arguments": 5}}]}, "not JSON text"),
        ({"role": "tool", "content": "secret"}, "has no tool_call_id"),
        ({"role": "user", "content": "secret", "name": 5}, r"messages\[0\]\.name is a int"),
        ({"role": "assistant", "content": "secret", "reasoning_content": []}, r"reasoning_content is a list"),
    ],
)
def test_messages_of_the_wrong_shape_are_named_and_not_quoted(message: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequestError, match=said) as caught:
        check_messages([message])
    assert "secret" not in str(caught.value)
