"""What limits an answer besides its length: biases, the least number of tokens, stop tokens, constraints, and a parser's say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import local_runtime.preparation
from local_runtime.detokenizer import IncrementalDetokenizer
from local_runtime.engine import Engine
from local_runtime.errors import InvalidRequestError, LocalRuntimeError
from local_runtime.events import Event, Failed, Finished, TextDelta, ToolCallDelta
from local_runtime.options import GenerateRequest, SamplingOptions
from local_runtime.preparation import Preparation
from local_runtime.tool_calls.pieces import AnswerPieces
from tests.local_runtime.scripted_runner import END, USER, Script, make_model, make_tokenizer

GREEDY = SamplingOptions(temperature=0)
PROMPT = [40] * 10


def says(text: str, end: int = END) -> Callable[[Sequence[int]], int]:
    """A model that says a text after the prompt, and then wants to end at every place."""
    said = text.encode()

    def say(tokens: Sequence[int]) -> int:
        place = len(tokens) - len(PROMPT)
        return said[place] if place < len(said) else end

    return say


@dataclass
class Answer:
    text: str = ""
    reasoning: str = ""
    ids: list[int] = field(default_factory=list)
    calls: list[ToolCallDelta] = field(default_factory=list)
    reason: str = ""
    error: LocalRuntimeError | None = None


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., Answer]:
    def asked(say: Callable[[Sequence[int]], int], **fields: Any) -> Answer:
        engine = Engine(make_model(Script(), tmp_path, say))
        events: list[Event] = []
        defaults: dict[str, Any] = {"raw_token_ids": PROMPT, "sampling": GREEDY}
        engine.submit(5, GenerateRequest(**(defaults | fields)), events.append)
        while engine.has_work:
            engine.step()
        answer = Answer()
        for event in events:
            if isinstance(event, TextDelta):
                answer.text += event.text
                answer.reasoning += event.reasoning
                answer.ids += event.ids
                answer.calls += event.tool_calls
            elif isinstance(event, Finished):
                answer.reason = event.reason
            elif isinstance(event, Failed):
                answer.error = event.error
        return answer

    return asked


Ask = Callable[..., Answer]


def test_an_answer_goes_on_until_it_has_its_least_tokens(ask: Ask) -> None:
    assert ask(says("abc")).ids == [*b"abc", END]
    for least in (1, 3):
        assert ask(says("abc"), min_tokens=least).ids == [*b"abc", END]
    answer = ask(says("abc"), min_tokens=7)
    assert (len(answer.ids), answer.ids[-1], answer.reason) == (8, END, "stop")
    assert END not in answer.ids[:-1]
    answer = ask(says("abc"), min_tokens=6, max_tokens=6)
    assert (len(answer.ids), answer.reason) == (6, "length")


def test_a_stop_string_ends_nothing_before_that(ask: Ask) -> None:
    say = says("one. two. three. four.")
    assert ask(say, stop=(". ",)).text == "one"
    assert ask(say, stop=(". ",), min_tokens=4).text == "one"
    assert ask(say, stop=(". ",), min_tokens=5).text == "one. two"  # it has begun too early
    assert ask(say, stop=(". ",), min_tokens=16).text == "one. two. three"
    assert ask(say, stop=(". ",), min_tokens=17).text == "one. two. three. four."
    begun = {"answer_begun": "one. t", "stop": (". ",)}
    assert ask(says("one. two. three."), **begun).ids == []  # it was complete already
    assert ask(says("one. two. three."), **begun, min_tokens=1).text == "wo"


def test_a_stop_token_ends_an_answer_and_is_no_part_of_its_text(ask: Ask) -> None:
    answer = ask(says("abcdef"), stop_token_ids=(ord("d"), USER))
    assert (answer.text, answer.ids, answer.reason) == ("abc", [*b"abcd"], "stop")
    answer = ask(says("abc\u00e9"), stop_token_ids=("\u00e9".encode()[1],))
    assert (answer.text, answer.reason) == ("abc\ufffd", "stop")  # the model meant its last bytes
    assert ask(says("abcdef", end=USER), stop_token_ids=(USER,), ignore_eos=True).text == "abcdef"
    answer = ask(says("abcdef"), stop_token_ids=(ord("b"),), min_tokens=4)
    assert b"b"[0] not in answer.ids[:3]


def test_a_bias_changes_what_is_said_and_nothing_else_is_left_after_all_others(ask: Ask) -> None:
    assert ask(says("abc"), logit_bias={str(ord("b")): -60.0}).ids[1] != ord("b")
    assert ask(says("abc"), logit_bias={str(ord("z")): 100.0}, max_tokens=4).text == "zzzz"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"stop_token_ids": (1, 262)}, "stop_token_ids"),
        ({"logit_bias": {"1": 1.0, "262": 1.0}}, "logit_bias"),
    ],
)
def test_a_token_that_the_model_has_not_is_refused(ask: Ask, fields: dict[str, Any], named: str) -> None:
    error = ask(says("abc"), **fields).error
    assert isinstance(error, InvalidRequestError)
    assert named in error.message
    assert "262" in error.message
    assert error.mend


# ---- constraints ----


class Only:
    """A constraint: so many of some letters, and after at least ``least`` of them the end."""

    def __init__(self, letters: bytes, least: int, most: int) -> None:
        self.letters, self.least, self.most = list(letters), least, most
        self.taken: list[int] = []

    def mask(self, logits: np.ndarray) -> None:
        ends = [END] if self.may_end() else []
        kept = {token: logits[token] for token in [*self.letters, *ends]}
        logits.fill(-np.inf)
        for token, value in kept.items():
            logits[token] = value

    def take(self, token: int) -> None:
        self.taken.append(token)

    def is_complete(self) -> bool:
        return len(self.taken) >= self.most

    def forced(self) -> list[int]:
        return []

    def may_end(self) -> bool:
        return len(self.taken) >= self.least


@pytest.fixture
def constrain(monkeypatch: pytest.MonkeyPatch) -> Callable[[Only], None]:
    def use(constraint: Only) -> None:
        def make(preparation: Preparation, request: GenerateRequest, prompt: list[int], said: list[int]) -> Only:
            for token in said:
                constraint.take(token)
            return constraint

        monkeypatch.setattr(Preparation, "_constraint", make)

    return use


Constrain = Callable[[Only], None]


def test_a_constraint_decides_what_is_said_and_when_it_ends(ask: Ask, constrain: Constrain) -> None:
    constrain(Only(b"xyz", least=2, most=5))
    answer = ask(says("azbyc"))
    assert (answer.text, answer.reason) == ("xzxyx", "stop")  # complete, so no token is drawn to end it
    constrain(only := Only(b"ab", least=2, most=50))
    answer = ask(says("abab"))
    assert (answer.text, answer.ids[-1], only.taken) == ("abab", END, answer.ids)
    constrain(Only(b"ab", least=6, most=50))
    assert len(ask(says("ab")).text) == 6  # the model would have ended


def test_what_was_said_before_is_told_to_a_constraint(ask: Ask, constrain: Constrain) -> None:
    constrain(only := Only(b"ab", least=2, most=6))
    assert ask(says("abababab"), answer_begun="ab").text == "abab"
    assert only.taken == [*b"ababab"]
    constrain(only := Only(b"ab", least=2, most=6))
    assert ask(says("abababab"), answer_begun_ids=[*b"aba"]).text == "bab"
    assert only.taken == [*b"ababab"]


def test_least_tokens_and_stop_tokens_hold_within_a_constraint(ask: Ask, constrain: Constrain) -> None:
    constrain(Only(b"ab", least=1, most=50))
    answer = ask(says("a"), min_tokens=4)
    assert (len(answer.ids), answer.ids[-1]) == (5, END)
    constrain(Only(b"ab", least=3, most=50))
    answer = ask(says("bbbbb"), stop_token_ids=(ord("b"),))
    assert answer.text == "aaa"  # no stop token before the answer may end
    constrain(Only(b"b", least=3, most=50))
    assert isinstance(ask(says("b"), stop_token_ids=(ord("b"),)).error, InvalidRequestError)


# ---- a parser ----


class Brackets:
    """A parser: what stands in brackets is a call, what stands between ``~`` a thought; a special token is seen by its name."""

    visible_ids = frozenset({USER})

    def __init__(self, calls: int = 99) -> None:
        self.calls, self.begun, self.closed = calls, 0, 0
        self.inside = ""

    @property
    def has_calls(self) -> bool:
        return self.begun > 0

    @property
    def is_complete(self) -> bool:
        return self.closed >= self.calls

    def push(self, text: str) -> AnswerPieces:
        said, thought, calls = "", "", []
        for character in text:
            if character in "~[":
                self.inside = "" if self.inside == character else character
                self.begun += character == "["
            elif character == "]":
                self.inside = ""
                self.closed += 1
            elif self.inside == "[":
                calls.append(ToolCallDelta(self.begun - 1, arguments=character))
            elif self.inside == "~":
                thought += character
            else:
                said += character
        return AnswerPieces(said, thought, calls)

    def finish(self) -> AnswerPieces:
        return AnswerPieces("(unfinished)" if self.inside else "")


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def use(**fields: Any) -> None:
        monkeypatch.setattr(local_runtime.preparation, "answer_parser", lambda *_: Brackets(**fields))

    return use


Parse = Callable[..., None]


def test_a_parser_says_what_is_text_what_is_thought_and_what_calls_tools(ask: Ask, parse: Parse) -> None:
    parse()
    answer = ask(says("~h\u00e4?~Well [f][g1] ok"))
    assert (answer.reasoning, answer.text, answer.reason) == ("h\u00e4?", "Well  ok", "tool_calls")
    assert [(call.index, call.arguments) for call in answer.calls] == [(0, "f"), (1, "g"), (1, "1")]
    parse()
    assert ask(says("~h~ok")).reason == "stop"


def test_a_parser_ends_an_answer_that_may_call_once(ask: Ask, parse: Parse) -> None:
    parse(calls=1)
    answer = ask(says("[f][g]"))
    assert (answer.ids, [call.arguments for call in answer.calls], answer.reason) == ([*b"[f]"], ["f"], "tool_calls")


def test_stop_strings_look_at_text_only(ask: Ask, parse: Parse) -> None:
    parse()
    answer = ask(says("~a stop~b [stop] c stop d"), stop=("stop",))
    assert (answer.reasoning, answer.text, answer.reason) == ("a stop", "b  c ", "tool_calls")


def test_what_a_parser_holds_back_is_let_go_at_the_end(ask: Ask, parse: Parse) -> None:
    parse()
    answer = ask(says("ok [never closed"), max_tokens=9)
    assert (answer.text, answer.reason) == ("ok (unfinished)", "length")
    parse()
    assert ask(says("ok [never closed")).text == "ok (unfinished)"


def test_special_tokens_reach_a_parser_that_asks_for_them(ask: Ask, parse: Parse) -> None:
    parse()

    def say(tokens: Sequence[int]) -> int:
        place = len(tokens) - len(PROMPT)
        return (ord("a"), USER, ord("b"), END)[min(place, 3)]

    assert ask(say).text == "a<|user|>b"


def test_only_the_named_special_tokens_are_visible(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(tmp_path)
    ids = [*b"a", USER, END, *b"b"]
    for visible, text in ((frozenset(), "ab"), (frozenset({USER}), "a<|user|>b"), (frozenset({END, 97}), "a<|end|>b")):
        detokenizer = IncrementalDetokenizer(tokenizer, visible_ids=visible)
        assert "".join(map(detokenizer.push, ids)) == text
