"""Reads JSON character by character, as a model writes it.

Each reader is a generator that is sent one character after another and returns when it has read what it is for. That
makes the result independent of how the text was cut, and a grammar looks like the grammar. Where nothing else is said,
a reader's first argument is the first character of what it reads, and it returns the first character that follows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from typing import TypeAlias, TypeVar

__all__ = ["Malformed", "Reading", "read_compound", "read_space", "read_string", "read_value"]

_T = TypeVar("_T")

Reading: TypeAlias = Generator[None, str, _T]

_SPACE = frozenset(" \t\r\n")
_CLOSES = {"{": "}", "[": "]"}
_SCALAR = frozenset("0123456789+-.eEtrufalsn")


class Malformed(Exception):  # noqa: N818 - not an error of anybody's: it says that a text is only a text
    """The text is not what the reader reads."""


def read_space(ch: str) -> Reading[str]:
    """Read white space, possibly none."""
    while ch in _SPACE:
        ch = yield
    return ch


def read_string() -> Reading[str]:
    """Read a string whose opening quote was read, up to its closing one; returns its value."""
    raw = ['"']
    escaped = False
    while True:
        ch = yield
        raw.append(ch)
        if escaped:
            escaped = False
        elif ch == "\\":
            escaped = True
        elif ch == '"':
            break
    try:
        value = json.loads("".join(raw), strict=False)  # models write line breaks into strings as they are
    except ValueError:
        raise Malformed from None
    assert isinstance(value, str)
    return value


def read_compound(ch: str, tell: Callable[[str], None]) -> Reading[None]:
    """Read an object or an array up to its closing bracket; what is between its brackets isn't judged.

    Args:
        ch: Its opening bracket.
        tell: Called with each of its characters.
    """
    open_brackets = []
    in_string = escaped = False
    while True:
        if in_string:
            if escaped:
                escaped = False
            elif ch == "\\":
                escaped = True
            elif ch == '"':
                in_string = False
        elif ch == '"':
            in_string = True
        elif ch in "{[":
            open_brackets.append(_CLOSES[ch])
        elif ch in "}]" and open_brackets.pop() != ch:
            tell(ch)
            raise Malformed
        tell(ch)
        if not open_brackets:
            return
        ch = yield


def read_value(ch: str) -> Reading[str]:
    """Read a value of any kind and forget it."""
    if ch == '"':
        yield from read_string()
        return (yield)
    if ch in _CLOSES:
        yield from read_compound(ch, lambda _: None)
        return (yield)
    if ch not in _SCALAR:
        raise Malformed
    while ch in _SCALAR:
        ch = yield
    return ch
