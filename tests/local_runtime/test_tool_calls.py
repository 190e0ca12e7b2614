"""Calls of tools and thoughts in a model's text: every format, however the text is cut, and what only looks like them."""

# ruff: noqa: E501 - answers are written as models write them

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_runtime.tool_calls.call_reader import CallReader
from local_runtime.tool_calls.hermes import HermesReader
from local_runtime.tool_calls.llama3 import Llama3Reader
from local_runtime.tool_calls.mistral import MistralReader
from local_runtime.tool_calls.parser import AnswerParser, call_ids
from local_runtime.tool_calls.reasoning import THOUGHT_MARKS, ThoughtReader

OFFERED = ("stock", "now")
READERS: dict[str, type[CallReader]] = {"hermes": HermesReader, "llama3": Llama3Reader, "mistral": MistralReader}


@dataclass
class Read:
    """What the pieces of an answer come to together."""

    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str, str]] = field(default_factory=list)

    def take(self, pieces: Any) -> None:
        self.text += pieces.text
        self.reasoning += pieces.reasoning
        for delta in pieces.tool_calls:
            if delta.index == len(self.calls):
                assert delta.id
                assert delta.name
                self.calls.append((delta.id, delta.name, ""))
            else:
                assert (delta.index, delta.id, delta.name) == (len(self.calls) - 1, "", "")
            identity, name, arguments = self.calls[-1]
            self.calls[-1] = (identity, name, arguments + delta.arguments)


def parser_of(kind: str, *, only_one: bool = False, thoughts: ThoughtReader | None = None) -> AnswerParser:
    reader = READERS[kind](OFFERED, lambda index: f"id{index}", only_one=only_one) if kind else None
    return AnswerParser(thoughts, reader)


def read(parser: AnswerParser, pieces: list[str]) -> Read:
    found = Read()
    for piece in pieces:
        found.take(parser.push(piece))
    found.take(parser.finish())
    return found


ANSWERS: list[tuple[str, str, str, list[tuple[str, str]]]] = [
    # format, answer, text, calls
    (
        "hermes",
        '<tool_call>\n{"name": "stock", "arguments": {"a": 1}}\n</tool_call>',
        "",
        [("stock", '{"a": 1}')],
    ),
    (
        "hermes",
        'I look.\n<tool_call>\n{"name": "stock", "arguments": {"a": "}</tool_call>{\\"", "b": [1, {"c": null}]}}\n</tool_call>\n'
        '<tool_call>{"arguments":{"x":"é 你好"},"name":"now"}</tool_call>\nDone. \n',
        "I look.\nDone. \n",
        [("stock", '{"a": "}</tool_call>{\\"", "b": [1, {"c": null}]}'), ("now", '{"x":"é 你好"}')],
    ),
    ("hermes", '<tool_call>{"name": "now"}</tool_call>', "", [("now", "{}")]),
    ("hermes", '<tool_call>{"name": "now", "arguments": {}}}\n</tool_call>', "", [("now", "{}")]),
    ("hermes", '<tool_call>{"name": "now", "arguments": {}}', "", [("now", "{}")]),
    ("hermes", '<tool_call>{"name": "now", "arguments": {}}\n</tool_c', "", [("now", "{}")]),
    ("hermes", '<tool_call>{"id": "7", "type": "function", "name": "now", "arguments": {}, "id": -1.5e3}</tool_call>', "", [("now", "{}")]),
    ("hermes", '<tool_call>{"name": "stock", "arguments": "{\\"a\\": 1}"}</tool_call>', "", [("stock", '{"a": 1}')]),
    ("hermes", '<tool_call>{"name": "st\\u006fck", "arguments": {"a": "two\nlines"}}</tool_call>', "", [("stock", '{"a": "two\nlines"}')]),
    # Not calls: all of it is text.
    ("hermes", "Use <tool_call> like this. ", "Use <tool_call> like this. ", []),
    ("hermes", "<tool_call>nothing</tool_call>", "<tool_call>nothing</tool_call>", []),
    ("hermes", '<tool_call>{"name": "other", "arguments": {}}</tool_call>', '<tool_call>{"name": "other", "arguments": {}}</tool_call>', []),
    ("hermes", '<tool_call>{"name": "stock", "argum', '<tool_call>{"name": "stock", "argum', []),
    ("hermes", '<tool_call>{"name": "stock", "arguments": [1]}', '<tool_call>{"name": "stock", "arguments": [1]}', []),
    ("hermes", '<tool_call>{"function": 1}', '<tool_call>{"function": 1}', []),
    ("hermes", "a < b <tool", "a < b <tool", []),
    (
        "hermes",
        '<tool_call> <tool_call>{"name": "now", "arguments": {}}</tool_call>',
        "<tool_call>",
        [("now", "{}")],
    ),
    # What breaks off or goes wrong after the arguments have begun stays with them.
    ("hermes", '<tool_call>{"name": "stock", "arguments": {"a": [1', "", [("stock", '{"a": [1')]),
    ("hermes", '<tool_call>{"name": "stock", "arguments": {"a": [1}}\n</tool_call>hm', "hm", [("stock", '{"a": [1}}\n')]),
    ("hermes", '<tool_call>{"name": "stock", "arguments": {}, oh', "oh", [("stock", "{}")]),
    ("llama3", '{"name": "stock", "parameters": {"a": 1}}', "", [("stock", '{"a": 1}')]),
    (
        "llama3",
        ' <|python_tag|>{"name": "stock", "parameters": {"a": 1}}; {"name": "now", "parameters": {}}\n',
        "",
        [("stock", '{"a": 1}'), ("now", "{}")],
    ),
    ("llama3", '{"type": "function", "name": "now", "arguments": {}}', "", [("now", "{}")]),
    ("llama3", '{"name": "now", "parameters": {}} and so on', " and so on", [("now", "{}")]),
    ("llama3", 'Text. <|python_tag|>{"name": "now", "parameters": {}}', "Text.", [("now", "{}")]),
    # An answer that is JSON by itself, one that talks of JSON, and code.
    ("llama3", '{"name": "now"}', '{"name": "now"}', []),
    ("llama3", '{"degrees": 21}', '{"degrees": 21}', []),
    ("llama3", 'Like {"name": "now", "parameters": {}}', 'Like {"name": "now", "parameters": {}}', []),
    ("llama3", "<|python_tag|>print(1)", "<|python_tag|>print(1)", []),
    ("llama3", "<|py", "<|py", []),
    ("llama3", '{"name": "stock", "parameters": {"a": 1]; more', "", [("stock", '{"a": 1]; more')]),
    ("mistral", '[TOOL_CALLS] [{"name": "stock", "arguments": {"a": 1}}]', "", [("stock", '{"a": 1}')]),
    (
        "mistral",
        'Yes. [TOOL_CALLS][{"name": "stock", "arguments": {"a": "]"}, "id": "x"} , {"arguments": {}, "name": "now"}]\n',
        "Yes.",
        [("stock", '{"a": "]"}'), ("now", "{}")],
    ),
    ("mistral", '[TOOL_CALLS]stock[ARGS]{"a": 1}[TOOL_CALLS]now[CALL_ID]abc123456[ARGS]{}', "", [("stock", '{"a": 1}'), ("now", "{}")]),
    ("mistral", '[TOOL_CALLS]stock {"a": 1}', "", [("stock", '{"a": 1}')]),
    ("mistral", '[TOOL_CALLS]{"name": "now", "arguments": {}}', "", [("now", "{}")]),
    ("mistral", '[TOOL_CALLS]stocks[ARGS]{"a": 1}', '[TOOL_CALLS]stocks[ARGS]{"a": 1}', []),
    ("mistral", "[TOOL_CALLS] [1, 2]", "[TOOL_CALLS] [1, 2]", []),
    ("mistral", "[TOOL_CALLS]stock[ARGS]oh", "[TOOL_CALLS]stock[ARGS]oh", []),
    ("mistral", '[TOOL_CALLS] [{"name": "now", "arguments": {}}, 5', ", 5", [("now", "{}")]),
    ("mistral", "[TOOL_RESULTS] are no [TOOL_CALL", "[TOOL_RESULTS] are no [TOOL_CALL", []),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "answer", "text", "calls"), ANSWERS)
def test_every_format_whole_and_character_by_character(
    kind: str, answer: str, text: str, calls: list[tuple[str, str]]
) -> None:
    expected = Read(text, "", [(f"id{index}", *call) for index, call in enumerate(calls)])
    for size in (len(answer), 1, 2, 3, 7, 10):
        pieces = [answer[start : start + size] for start in range(0, len(answer), size)]
        parser = parser_of(kind)
        assert read(parser, pieces) == expected, size
        assert parser.has_calls == bool(calls)


_KINDS = st.sampled_from(sorted(READERS))
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_CALLS = st.lists(
    st.tuples(st.sampled_from(OFFERED), st.dictionaries(st.text(max_size=8), _JSON, max_size=3), st.booleans()),
    min_size=1,
    max_size=3,
)


def written(kind: str, calls: list[tuple[str, dict[str, Any], bool]]) -> str:
    """Calls as a model of this format writes them; those with True in ASCII."""
    texts = [(name, json.dumps(arguments, ensure_ascii=ascii_only)) for name, arguments, ascii_only in calls]
    if kind == "hermes":
        return "\n".join(f'<tool_call>\n{{"name": "{n}", "arguments": {a}}}\n</tool_call>' for n, a in texts)
    if kind == "llama3":
        return "; ".join(f'{{"name": "{n}", "parameters": {a}}}' for n, a in texts)
    return "[TOOL_CALLS] [" + ", ".join(f'{{"name": "{n}", "arguments": {a}}}' for n, a in texts) + "]"


def cut(text: str, places: list[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(edges)]


@settings(max_examples=150, deadline=None)
@given(kind=_KINDS, calls=_CALLS, places=st.lists(st.integers(0, 10_000), max_size=12))
def test_any_arguments_come_through_however_they_are_cut(
    kind: str, calls: list[tuple[str, dict[str, Any], bool]], places: list[int]
) -> None:
    found = read(parser_of(kind), cut(written(kind, calls), places))
    assert found.text == ""
    assert [(name, json.loads(arguments)) for _, name, arguments in found.calls] == [call[:2] for call in calls]


_PIECES = st.sampled_from([
    "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "<|python_tag|>", "<think>", "</think>", "{", "}", "[", "]",
    '"', "\\", ",", ":", ";", " ", "\n", '"name"', '"arguments"', '"parameters"', '"stock"', "stock", "now", '{"name": "now", "arguments": {',
    '{"name": "stock", "parameters": {}}', "1", "true", "é", "text",
])  # fmt: skip


@settings(max_examples=250, deadline=None)
@given(
    kind=st.sampled_from(["", *sorted(READERS)]),
    thinks=st.sampled_from([None, False, True]),
    parts=st.lists(_PIECES, max_size=20),
    places=st.lists(st.integers(0, 10_000), max_size=12),
    only_one=st.booleans(),
)
def test_nonsense_comes_to_the_same_however_it_is_cut(
    kind: str, thinks: bool | None, parts: list[str], places: list[int], only_one: bool
) -> None:
    def parser() -> AnswerParser:
        thoughts = None if thinks is None else ThoughtReader(THOUGHT_MARKS[0], is_open=thinks)
        return parser_of(kind, only_one=only_one, thoughts=thoughts)

    answer = "".join(parts)
    whole = read(parser(), [answer])
    assert read(parser(), cut(answer, places)) == whole
    assert read(parser(), list(answer)) == whole
    if not whole.calls and thinks is None:
        assert whole.text == answer  # nothing is lost where nothing was a call


@settings(max_examples=100, deadline=None)
@given(kind=_KINDS, calls=_CALLS, length=st.integers(0, 10_000))
def test_what_was_streamed_of_an_answer_that_is_cut_off_stays(
    kind: str, calls: list[tuple[str, dict[str, Any], bool]], length: int
) -> None:
    answer = written(kind, calls)
    whole = read(parser_of(kind), [answer])
    part = read(parser_of(kind), [answer[: length % (len(answer) + 1)]])
    assert len(part.calls) <= len(whole.calls)
    for found, expected in zip(part.calls, whole.calls, strict=False):
        assert found[:2] == expected[:2]
        assert expected[2].startswith(found[2])


def test_arguments_are_told_as_they_come() -> None:
    parser = parser_of("hermes")
    assert not parser.push('<tool_call>{"name": "stock", "arguments": ').tool_calls
    first = parser.push('{"a').tool_calls
    assert [(delta.id, delta.name, delta.arguments) for delta in first] == [("id0", "stock", '{"a')]
    assert [delta.arguments for delta in parser.push('": "x').tool_calls] == ['": "x']


def test_text_before_a_call_is_told_as_it_comes() -> None:
    parser = parser_of("hermes")
    assert parser.push("I look <").text == "I look"  # the space may be layout, the bracket a mark
    assert parser.push("b>. ").text == " <b>."
    assert parser.push("x").text == " x"


@pytest.mark.parametrize("kind", READERS)
def test_only_one_call_is_taken_where_only_one_is_allowed(kind: str) -> None:
    parser = parser_of(kind, only_one=True)
    calls: list[tuple[str, dict[str, Any], bool]] = [("stock", {"a": 1}, False), ("now", {}, False)]
    answer = written(kind, calls)
    end = answer.index("}}") + 2
    assert not parser.is_complete
    before = parser.push(answer[: end - 1])
    assert not parser.is_complete
    assert "".join(delta.arguments for delta in before.tool_calls) == '{"a": 1}'
    parser.push(answer[end - 1 : end])
    assert parser.is_complete
    rest = parser.push(answer[end:])
    assert (rest.text, rest.tool_calls) == ("", [])


@pytest.mark.parametrize(
    ("is_open", "answer", "reasoning", "text"),
    [
        (False, "<think>\nhm\n\nhm\n</think>\n\nHello <think>", "hm\n\nhm", "Hello <think>"),
        (False, " \n<think>hm</think>Hello", "hm", "Hello"),
        (False, "Hello </think>", "", "Hello </think>"),
        (False, " \n Hello", "", " \n Hello"),
        (False, "<thin", "", "<thin"),
        (False, "<think>\n\n</think>\n\nHello", "", "Hello"),
        (True, "\nhm \n</think> Hello", "hm", "Hello"),
        (True, "<think>\nhm</think>Hello", "hm", "Hello"),
        (True, "hm, cut </thi", "hm, cut </thi", ""),
        (True, "hm </think>\n", "hm", ""),
        (True, "", "", ""),
    ],
)
def test_thoughts_and_answers(is_open: bool, answer: str, reasoning: str, text: str) -> None:
    for size in (max(1, len(answer)), 1, 2, 3):
        pieces = [answer[start : start + size] for start in range(0, len(answer), size)]
        parser = parser_of("", thoughts=ThoughtReader(THOUGHT_MARKS[0], is_open=is_open))
        assert read(parser, pieces) == Read(text, reasoning)


def test_a_call_within_a_thought_is_a_thought() -> None:
    call = '<tool_call>{"name": "now"}</tool_call>'
    parser = parser_of("hermes", thoughts=ThoughtReader(THOUGHT_MARKS[0], is_open=False))
    assert read(parser, [f"<think>maybe {call}</think>{call}"]) == Read("", f"maybe {call}", [("id0", "now", "{}")])


def test_ids_follow_from_the_request_and_are_those_of_no_other_call() -> None:
    def ids(make: Callable[[int], str]) -> list[str]:
        return [make(index) for index in (0, 1, 2, 1, 0)]

    first = ids(call_ids(7, [], prefix="", length=9))
    assert first == ids(call_ids(7, [], prefix="", length=9))
    assert first[:2] == first[:2:-1]
    assert len(set(first)) == 3
    assert all(len(each) == 9 and each.isascii() and each.isalnum() for each in first)
    assert set(first).isdisjoint(ids(call_ids(8, [], prefix="", length=9)))
    assert set(first).isdisjoint(ids(call_ids(7, first, prefix="", length=9)))
    assert call_ids(7, [], prefix="call_", length=24)(0).startswith("call_")


def test_a_long_answer_of_one_unfinished_call_stays_cheap() -> None:
    """Every character is looked at a bounded number of times, also where nothing of it turns out to be a call."""
    for answer in (
        '<tool_call>{"name": "stock", "arguments": {"a": "' + "x" * 60_000,
        "<tool_call>{" * 6_000,
        "[TOOL_CALLS]" * 6_000,
    ):
        for kind in READERS:
            found = read(parser_of(kind), [answer[start : start + 50] for start in range(0, len(answer), 50)])
            assert len(found.text) + sum(len(arguments) for *_, arguments in found.calls) > 50_000
