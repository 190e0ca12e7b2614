"""What of an answer is there so far: its pieces put together, for whoever needs the whole, or needs to know what was given out."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hybridllm.types.tool_call import FunctionCall, ToolCall

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hybridllm.backends.base import ContentDelta, Finished
    from hybridllm.types.logprobs import TokenLogprob

__all__ = ["Answer", "AnswerSoFar", "ChoiceSoFar", "texts_in_json"]

# A text in JSON with an escape in it; the last one also where its end has not come yet.
_JSON_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)(?:"|\\?\Z)', re.DOTALL)
_CUT_ESCAPE = re.compile(r"\\u[0-9a-fA-F]{0,3}\Z")


class ChoiceSoFar:
    """One answer, as far as it has come.

    Attributes:
        logprobs: Log probabilities of its tokens, where they were asked for.
    """

    __slots__ = ("_calls", "_reasoning", "_refusals", "_texts", "logprobs")

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._refusals: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, _CallSoFar] = {}
        self.logprobs: list[TokenLogprob] = []

    def add(self, delta: ContentDelta) -> None:
        """Take the next piece."""
        if delta.text:
            self._texts.append(delta.text)
        if delta.refusal:
            self._refusals.append(delta.refusal)
        if delta.reasoning:
            self._reasoning.append(delta.reasoning)
        for piece in delta.tool_calls:
            call = self._calls.get(piece.index)
            if call is None:
                call = self._calls[piece.index] = _CallSoFar()
            call.id = call.id or piece.id
            call.name = call.name or piece.name
            call.arguments.append(piece.arguments)
        if delta.logprobs:
            self.logprobs += delta.logprobs

    @property
    def text(self) -> str:
        """Its text."""
        return "".join(self._texts)

    @property
    def refusal(self) -> str:
        """The text of a refusal."""
        return "".join(self._refusals)

    @property
    def reasoning(self) -> str:
        """What the model thought."""
        return "".join(self._reasoning)

    @property
    def tool_calls(self) -> list[ToolCall]:
        """Its calls of tools, in the order of their index."""
        return [self._calls[index].so_far() for index in sorted(self._calls)]

    @property
    def is_begun(self) -> bool:
        """Whether there is more of it than thoughts."""
        return bool(self._texts or self._refusals or self._calls)

    @property
    def is_only_text(self) -> bool:
        """Whether its text is all that there is of it."""
        return not (self._refusals or self._reasoning or self._calls)

    def beside_text(self) -> Iterator[str]:
        """Everything else that somebody can read in it: refusal, thoughts, and the calls' names and arguments.

        Of arguments, also the texts in them as a program sees them that has parsed them.
        """
        yield from filter(None, (self.refusal, self.reasoning))
        for call in self._calls.values():
            arguments = "".join(call.arguments)
            yield from filter(None, (call.name, arguments))
            yield from texts_in_json(arguments)


@dataclass(slots=True, repr=False)
class _CallSoFar:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)

    def so_far(self) -> ToolCall:
        return ToolCall(id=self.id, function=FunctionCall(name=self.name, arguments="".join(self.arguments)))


class AnswerSoFar:
    """All answers of one request, as far as they have come; as a truth value, whether anything has come."""

    __slots__ = ("_choices",)

    def __init__(self) -> None:
        self._choices: dict[int, ChoiceSoFar] = {}

    def __bool__(self) -> bool:
        return bool(self._choices)

    def add(self, delta: ContentDelta) -> None:
        """Take the next piece."""
        choice = self._choices.get(delta.choice)
        if choice is None:
            choice = self._choices[delta.choice] = ChoiceSoFar()
        choice.add(delta)

    @property
    def first(self) -> ChoiceSoFar:
        """The answer, or the first one of several."""
        return self._choices.get(0) or ChoiceSoFar()

    def choices(self, count: int) -> tuple[ChoiceSoFar, ...]:
        """So many answers in order, also those of which nothing has come."""
        return tuple(self._choices.get(index) or ChoiceSoFar() for index in range(count))

    def beside_text(self) -> Iterator[str]:
        """Everything that somebody can read in it but the text of ``first``."""
        for index, choice in self._choices.items():
            if index and choice.text:
                yield choice.text
            yield from choice.beside_text()


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    so_far: AnswerSoFar = field(repr=False)
    """What it says."""

    finished: Finished
    """How it ended; its usage counts all places together."""

    @property
    def choices(self) -> tuple[ChoiceSoFar, ...]:
        """As many answers as were asked for."""
        return self.so_far.choices(max(1, len(self.finished.reasons)))


def texts_in_json(document: str) -> Iterator[str]:
    """The texts in a JSON document that are written with escapes, without them.

    Args:
        document: The document, which may end anywhere and need not be valid.
    """
    if "\\" not in document:
        return
    for match in _JSON_TEXT.finditer(document):
        escaped = match.group(1)
        if "\\" in escaped:
            try:
                yield json.loads(f'"{_CUT_ESCAPE.sub("", escaped)}"', strict=False)
            except ValueError:  # an escape that JSON has not: what is there is what can be read
                yield escaped
