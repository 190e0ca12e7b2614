"""Finds calls of tools in a model's text while it comes, whatever the format, and tells them from text that only looks alike.

A call counts as one from the moment at which its name is that of a tool that the request offers and its arguments have
begun; from then on they are given out as they come. What turns out not to be a call before that is text, all of it. What
goes wrong after it stays with the arguments, which are then no valid JSON: an interface that streams can't take back.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from local_runtime.events import ToolCallDelta
from local_runtime.tool_calls.json_text import Malformed, Reading, read_compound, read_space, read_string, read_value

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__all__ = ["CallReader", "held_back"]

_ARGUMENTS = ("arguments", "parameters")
_KEYS = frozenset({"name", *_ARGUMENTS, "id", "type"})


class CallReader(ABC):
    """Takes a model's text apart into calls of tools and the text around them.

    White space before a call and between calls is layout and no part of the text.

    Args:
        offered: Names of the tools that may be called.
        make_id: Gives the id of the how many-th call, from 0.
        only_one: The text ends with the first call.
        calls_first: Calls come at the beginning or not at all: the text is held to a grammar, and what looks like a call further on
            in it belongs to it.

    Attributes:
        called: How many calls have begun.
        ended: Nothing that follows counts any more.
    """

    def __init__(
        self,
        offered: Collection[str],
        make_id: Callable[[int], str],
        *,
        only_one: bool = False,
        calls_first: bool = False,
    ) -> None:
        self.called = 0
        self.ended = False
        self._offered = frozenset(offered)
        self._make_id = make_id
        self._only_one = only_one
        self._calls_first = calls_first
        self._is_text = False
        """Whether all that follows is text."""
        self._rest = ""
        self._reading: Reading[None] | None = None
        self._raw = ""
        """What was read since the last mark or call, while it may yet turn out to be text."""
        self._space = ""
        """White space after the text that was given out, and other layout."""
        self._after_call = False
        self._said: list[str] = []
        self._deltas: list[ToolCallDelta] = []
        self._mark = ""
        """What :attr:`_raw` begins with."""
        self._in_tail = False
        """Whether only the layout after a call is missing."""
        self._call_just_ended = False
        # The call that is being read.
        self._name = ""
        self._held: list[str] = []
        self._announced = False
        self._has_arguments = False
        self._in_arguments = False

    def begun(self) -> None:
        """Somebody else has begun the answer, with text."""
        self._is_text = self._calls_first

    def push(self, text: str) -> tuple[str, list[ToolCallDelta]]:
        """Take the next piece of text; returns text and pieces of calls."""
        self._rest += text
        while self._rest and not self.ended:
            if self._reading is not None:
                self._read_on(self._reading)
            elif self._is_text:
                self._say_rest()
            elif not self._look():
                break
        if self.ended:
            self._rest = ""
        return self._taken()

    def finish(self) -> tuple[str, list[ToolCallDelta]]:
        """End of the text; returns what was held back."""
        if not self._announced and not self._in_tail:
            self._say(self._raw)
        self._say(self._rest)
        self._rest = self._raw = ""
        if not self._after_call and not self._announced:
            self._said.append(self._space)
        self.ended = True
        return self._taken()

    # ---- what a format says ----

    @abstractmethod
    def _look(self) -> bool:
        """Go on in text: take some of :attr:`_rest`, or begin to read; False if more text has to come before that."""

    @property
    @abstractmethod
    def _end_mark(self) -> str:
        """What ends a call; empty if only the answer's end does."""

    # ---- text ----

    def _say(self, text: str) -> None:
        whole = self._space + text
        kept = whole.rstrip()
        self._space = whole[len(kept) :]
        if kept:
            self._said.append(kept)
            self._after_call = False
            self._is_text = self._is_text or (self._calls_first and not self.called)

    def _say_rest(self) -> None:
        rest, self._rest = self._rest, ""
        self._say(rest)

    def _look_for(self, mark: str) -> bool:
        """Give out the text before ``mark``; True if ``mark`` was found, which then begins :attr:`_rest`."""
        place = self._rest.find(mark)
        found = place >= 0
        if not found:
            place = len(self._rest) - held_back(self._rest, mark)
        self._say(self._rest[:place])
        self._rest = self._rest[place:]
        if self._is_text:
            self._say_rest()
            return False
        return found

    def _begin(self, reading: Reading[None], mark: str = "") -> None:
        """Read what follows ``mark``, with which :attr:`_rest` begins."""
        self._raw = self._mark = mark
        self._rest = self._rest[len(mark) :]
        self._reading = reading
        next(reading)

    # ---- calls ----

    def _read_on(self, reading: Reading[None]) -> None:
        rest, self._rest = self._rest, ""
        start = 0
        for place, ch in enumerate(rest):
            self._call_just_ended = False
            try:
                reading.send(ch)
            except StopIteration:
                self._reading, self._rest, self._raw = None, rest[place + 1 :], ""
                return
            except Malformed:
                self._go_on_without(rest[start : place + 1], rest[place + 1 :])
                return
            if self._call_just_ended:
                self._raw, start = "", place + 1
                if self.ended:
                    return
        if not self._announced:
            self._raw += rest[start:]

    def _go_on_without(self, read: str, rest: str) -> None:
        """What was read since the last mark or call is not in the format: it is text, or belongs to a call that has begun."""
        self._reading = None
        if self._announced and self._in_arguments:
            self._rest = rest
            self._begin(self._spill())
        elif self._announced:  # its arguments are whole, and what was wrong came after them
            self._close()
            self._rest = read[-1] + rest
            self._begin_tail()
        else:
            raw, length = self._raw + read, max(1, len(self._mark))
            self._name, self._held, self._has_arguments = "", [], False
            self._raw, self._mark, self._in_tail = "", "", False
            self._say_after_all(raw[:length])
            self._rest = raw[length:] + rest

    def _say_after_all(self, text: str) -> None:
        """Give out what looked like the beginning of a call; what came after it is looked at again."""
        self._say(text)

    def _begin_tail(self) -> None:  # noqa: B027 - most have nothing
        """Read what a format has after a call, if anything."""

    def _spill(self) -> Reading[None]:
        """Give all that follows to the call that has begun, up to the end mark."""
        mark = self._end_mark
        tail = ""
        while True:
            ch = yield
            tail += ch
            if not mark:
                self._tell(tail)
                tail = ""
            elif tail == mark:
                self._close()
                return
            else:
                while tail and not mark.startswith(tail):
                    self._tell(tail[0])
                    tail = tail[1:]

    def _read_call(self, *, needs_arguments: bool = False) -> Reading[None]:
        """Read the object of a call whose opening brace was read, up to its closing one."""
        ch = yield from read_space((yield))
        while ch != "}":
            if ch != '"':
                raise Malformed
            key = yield from read_string()
            ch = yield from read_space((yield))
            if ch != ":" or (not self._announced and key not in _KEYS):
                raise Malformed
            ch = yield from read_space((yield))
            if key == "name":
                if ch != '"':
                    raise Malformed
                self._name_is((yield from read_string()))
                ch = yield
            elif key in _ARGUMENTS:
                ch = yield from self._read_arguments(ch)
            else:
                ch = yield from read_value(ch)
            ch = yield from read_space(ch)
            if ch == ",":
                ch = yield from read_space((yield))
                if ch != '"':
                    raise Malformed
            elif ch != "}":
                raise Malformed
        if not self._name or (needs_arguments and not self._has_arguments):
            raise Malformed
        self._close()

    def _read_arguments(self, ch: str) -> Reading[str]:
        """Read the arguments: an object, or a string that holds one."""
        if self._has_arguments:
            raise Malformed
        if ch == '"':
            text = yield from read_string()
            if not _is_object(text):
                raise Malformed
            self._has_arguments = True
            self._tell(text)
        elif ch == "{":
            self._has_arguments = True
            self._in_arguments = True
            yield from read_compound(ch, self._tell)
            self._in_arguments = False
        else:
            raise Malformed
        return (yield)

    def _name_is(self, name: str) -> None:
        if self._name or name not in self._offered:
            raise Malformed
        self._name = name
        if self._has_arguments:
            self._announce()

    def _tell(self, arguments: str) -> None:
        """Take a piece of the arguments."""
        if not self._announced:
            self._held.append(arguments)
            if self._name:
                self._announce()
        else:
            self._add(ToolCallDelta(self.called - 1, arguments=arguments))

    def _announce(self) -> None:
        """From here on it is a call."""
        self._announced = True
        self._after_call = True
        self._space = ""
        index = self.called
        self.called += 1
        held, self._held = "".join(self._held), []
        self._add(ToolCallDelta(index, self._make_id(index), self._name, held))

    def _close(self) -> None:
        """A call is whole."""
        if not self._announced:
            self._held = ["{}"]  # no arguments at all
            self._announce()
        self._name, self._held = "", []
        self._announced = self._has_arguments = self._in_arguments = False
        self._mark = ""
        self._call_just_ended = True
        self.ended = self.ended or self._only_one

    def _add(self, delta: ToolCallDelta) -> None:
        """Append a piece of a call, joined with the one before if that is the same call's."""
        if self._deltas and self._deltas[-1].index == delta.index:
            last = self._deltas[-1]
            delta = ToolCallDelta(last.index, last.id, last.name, last.arguments + delta.arguments)
            self._deltas[-1] = delta
        else:
            self._deltas.append(delta)

    def _taken(self) -> tuple[str, list[ToolCallDelta]]:
        text, deltas = "".join(self._said), self._deltas
        self._said, self._deltas = [], []
        return text, deltas


def held_back(text: str, *marks: str) -> int:
    """Length of the longest end of ``text`` that may become one of ``marks``."""
    for length in range(min(len(text), max(map(len, marks), default=0) - 1), 0, -1):
        if any(mark.startswith(text[-length:]) for mark in marks):
            return length
    return 0


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
