"""Turns bytes into Python values of any shape, so that an engine which mutates bytes can reach what JSON cannot say."""

from __future__ import annotations

import json
from collections import OrderedDict, UserDict, UserList, deque
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict

_DEEPEST = 6
_WIDEST = 6


class AnyModel(BaseModel):
    """A pydantic object as another library would pass it: any fields, any values."""

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)


class Bytes:
    """A supply of choices out of bytes; when they are used up, it gives zeros."""

    def __init__(self, data):
        self._data = data
        self._at = 0

    def take(self, count):
        piece = self._data[self._at : self._at + count]
        self._at += count
        return piece

    def below(self, limit):
        piece = self.take(1)
        return piece[0] % limit if piece else 0

    def choice(self, options):
        return options[self.below(len(options))]

    def text(self):
        """Up to 255 bytes as text; what is not UTF-8 becomes lone surrogates."""
        return self.take(self.below(256)).decode("utf-8", "surrogateescape")


_CONSTANTS = (
    None, True, False, 0, 1, -1, 2**31, 2**63, 10**400, 10**5000, 0.0, 0.5, -1.5, 1e308, float("inf"), float("nan"), "", b"",
)  # fmt: skip


def value_from(source, words, depth=0):
    """Any value; ``words`` are the texts that the parser knows, so that it gets past the first check."""
    leaf = depth >= _DEEPEST
    kind = source.below(7 if leaf else 16)
    if kind in (0, 1):
        return source.choice(words)
    if kind == 2:
        return source.text()
    if kind == 3:
        return source.choice(_CONSTANTS)
    if kind == 4:
        return int.from_bytes(source.take(source.below(10)), "little", signed=True)
    if kind == 5:
        return source.text() * source.choice((2, 7, 100))
    if kind == 6:
        return source.take(source.below(20))
    items = [value_from(source, words, depth + 1) for _ in range(source.below(_WIDEST))]
    if kind <= 8:
        return items
    if kind == 9:
        return source.choice((tuple, deque, UserList))(items)
    mapping = {_key_from(source, words): item for item in items}
    if kind <= 12:
        return mapping
    if kind == 13:
        return source.choice((OrderedDict, UserDict, MappingProxyType))(mapping)
    if kind == 14:
        return AnyModel(**{key: item for key, item in mapping.items() if isinstance(key, str) and key.isascii()})
    return {"role": source.choice(words), "content": items[0] if items else source.text(), **mapping}


def _key_from(source, words):
    kind = source.below(6)
    if kind <= 3:
        return source.choice(words)
    return source.text() if kind == 4 else source.choice(_CONSTANTS)


def json_or_any(data, words):
    """The JSON value that the bytes spell, or else a value built from them."""
    if data[:1] in (b"{", b"[", b'"'):
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            pass
    return value_from(Bytes(data), words)


def texts_in(value, depth=0):
    """Every text in a value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, bytes):
        yield value.decode("latin-1")
    elif depth < 50:
        if isinstance(value, BaseModel):
            value = {**value.__dict__, **(value.__pydantic_extra__ or {})}
        if isinstance(value, dict | UserDict | MappingProxyType):
            for key, item in value.items():
                yield from texts_in(key, depth + 1)
                yield from texts_in(item, depth + 1)
        elif isinstance(value, list | tuple | deque | UserList):
            for item in value:
                yield from texts_in(item, depth + 1)
