"""Frames on a pipe, and the strict reading of what is in them.

A frame is a 4-byte little-endian length and that many bytes. What a frame may say is given by dataclasses: their
annotations are the schema, and anything else is a :class:`ProtocolError`.
"""

from __future__ import annotations

import dataclasses
import functools
import struct
import types
import typing
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from local_runtime.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

__all__ = ["MAX_FRAME_BYTES", "build", "checked_length", "read_frame", "write_frame"]

MAX_FRAME_BYTES = 64 * 1024 * 1024
"""The longest payload; longer ones are a mistake or an attack, and neither side allocates for them."""

_LENGTH = struct.Struct("<I")
_T = TypeVar("_T")


def write_frame(stream: BinaryIO, payload: bytes) -> None:
    """Write one frame and flush it.

    Raises:
        ProtocolError: ``payload`` is longer than :data:`MAX_FRAME_BYTES`.
        OSError: The other side is gone.
    """
    stream.write(_LENGTH.pack(checked_length(len(payload))) + payload)
    stream.flush()


def read_frame(stream: BinaryIO) -> bytes | None:
    """Read one frame; None at a clean end of the stream.

    Raises:
        ProtocolError: The stream ends inside a frame, or the frame is longer than :data:`MAX_FRAME_BYTES`.
    """
    header = _read_exactly(stream, _LENGTH.size)
    if header is None:
        return None
    length = checked_length(_LENGTH.unpack(header)[0])
    payload = _read_exactly(stream, length)
    if payload is None and length:
        raise ProtocolError(f"The pipe ended where a frame of {length} bytes should begin.")
    return payload or b""


def _read_exactly(stream: BinaryIO, length: int) -> bytes | None:
    data = bytearray()
    while len(data) < length:
        piece = stream.read(length - len(data))
        if not piece:
            if not data:
                return None
            raise ProtocolError(f"The pipe ended after {len(data)} of {length} bytes.")
        data += piece
    return bytes(data)


def checked_length(length: int) -> int:
    """Give ``length`` back.

    Raises:
        ProtocolError: It is more than :data:`MAX_FRAME_BYTES`.
    """
    if length > MAX_FRAME_BYTES:
        raise ProtocolError(
            f"A frame of {length} bytes is longer than the {MAX_FRAME_BYTES} that are allowed.", "Shorten the request."
        )
    return length


@functools.cache
def _fields(cls: Any) -> dict[str, tuple[Callable[[Any, str], Any], bool]]:
    """For each field of a dataclass: how to read its value, and whether it must be there."""
    hints = get_type_hints(cls)
    return {
        entry.name: (
            _reader(hints[entry.name]),
            entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING,
        )
        for entry in dataclasses.fields(cls)
    }


def build(cls: type[_T], body: object, where: str) -> _T:
    """Make a dataclass from a parsed JSON object.

    Args:
        cls: The dataclass; its annotations may use str, int, float, bool, Any, ``X | None``, Literal, list, dict,
            ``tuple[X, ...]`` and other dataclasses.
        body: The parsed JSON value.
        where: What to call it in an error.

    Raises:
        ProtocolError: A field is unknown, missing or of the wrong type; the message names it.
    """
    if not isinstance(body, dict):
        raise ProtocolError(f"{where} must be an object.")
    fields = _fields(typing.cast("typing.Hashable", cls))
    for name in body:
        if name not in fields:
            raise ProtocolError(f"{where} has an unknown field {name[:40]!r}.")
    values = {}
    for name, (reader, required) in fields.items():
        if name in body:
            values[name] = reader(body[name], f"{where}.{name}")
        elif required:
            raise ProtocolError(f"{where} lacks the field {name!r}.")
    return cls(**values)


def _reader(hint: Any) -> Callable[[Any, str], Any]:
    """Make the function that checks one JSON value against a type annotation."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return lambda value, where: value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return functools.partial(build, hint)
    if origin is Literal:
        return functools.partial(_read_literal, arguments)
    if origin in (types.UnionType, typing.Union):
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return functools.partial(_read_optional, _reader(inner))
    if origin is list:
        return functools.partial(_read_list, _reader(arguments[0]), list)
    if origin is tuple:
        return functools.partial(_read_list, _reader(arguments[0]), tuple)
    if origin is dict:
        return functools.partial(_read_scalar, (dict,), "an object")
    if hint is float:
        return lambda value, where: float(_read_scalar((int, float), "a number", value, where))
    names = {int: "a whole number", str: "a string", bool: "true or false"}
    return functools.partial(_read_scalar, (hint,), names[hint])


def _read_scalar(allowed: tuple[type, ...], expected: str, value: Any, where: str) -> Any:
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        raise ProtocolError(f"{where} must be {expected}.")
    return value


def _read_literal(allowed: tuple[Any, ...], value: Any, where: str) -> Any:
    if value not in allowed:
        raise ProtocolError(f"{where} must be one of {', '.join(map(str, allowed))}.")
    return value


def _read_optional(inner: Callable[[Any, str], Any], value: Any, where: str) -> Any:
    return None if value is None else inner(value, where)


def _read_list(inner: Callable[[Any, str], Any], make: Callable[[Any], Any], value: Any, where: str) -> Any:
    if not isinstance(value, list):
        raise ProtocolError(f"{where} must be a list.")
    return make(inner(item, f"{where}[{index}]") for index, item in enumerate(value))
