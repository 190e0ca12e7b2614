"""A request's body: read up to a limit and within a time, and understood as one JSON object."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, NoReturn

from hybridllm.errors import BadRequest
from hybridllm.server.guard import header_values
from hybridllm.server.problems import ClientGoneError, Problem, RefusedError
from hybridllm.types.message_shape import field_name

if TYPE_CHECKING:
    from starlette.types import Receive, Scope

    from hybridllm.server.settings import ServerSettings

__all__ = ["check_content_type", "json_object", "read_body"]

_LONG_BYTES = 2**17  # more than this is parsed in a thread: it would keep the event loop waiting for milliseconds


def check_content_type(scope: Scope) -> None:
    """Check that the body is JSON and says so, which no form of a browser's page can.

    Raises:
        RefusedError: It is not.
    """
    kinds = [value.partition(";")[0].strip().lower() for value in header_values(scope, b"content-type")]
    encodings = [value.lower() for value in header_values(scope, b"content-encoding")]
    if kinds != ["application/json"] or any(encoding != "identity" for encoding in encodings):
        raise RefusedError(
            Problem(
                415,
                "The body's content type is not application/json, or the body is compressed. Send plain JSON.",
                code="unsupported_media_type",
            )
        )


async def read_body(scope: Scope, receive: Receive, settings: ServerSettings) -> bytes:
    """The whole body.

    Raises:
        RefusedError: It is longer than the limit, or was not there in time.
        ClientGoneError: The client went away.
    """
    declared = next(header_values(scope, b"content-length"), "0")
    if declared.isdigit() and int(declared) > settings.body_limit_bytes:
        raise _too_long(settings)
    body = bytearray()
    try:
        async with asyncio.timeout(settings.body_timeout_s):
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if len(body) > settings.body_limit_bytes:
                    raise _too_long(settings)
    except TimeoutError:
        raise RefusedError(
            Problem(
                408,
                f"The body was not whole within {settings.body_timeout_s:g} s. Send it faster.",
                code="request_timeout",
                headers=(("connection", "close"),),
            )
        ) from None
    return bytes(body)


async def json_object(body: bytes) -> dict[str, Any]:
    """The body as a JSON object in which every name stands once.

    Raises:
        BadRequest: It is not one.
    """
    return _parsed(body) if len(body) <= _LONG_BYTES else await asyncio.to_thread(_parsed, body)


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=_once_each, parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise BadRequest(f"The body is not UTF-8 at byte {error.start}.", "Send JSON in UTF-8.") from None
    except json.JSONDecodeError as error:
        raise BadRequest(
            f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.", "Send a JSON object."
        ) from None
    except (RecursionError, ValueError):  # nested thousands deep, or an integer of thousands of digits
        raise BadRequest("The body is nested too deep, or has a number that is too long.", "Send less.") from None
    if not isinstance(value, dict):
        raise BadRequest(f"The body is a JSON {type(value).__name__}, expected an object.", "Send a JSON object.")
    return value


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadRequest(f"{field_name(twice)} stands twice in one object of the body.", "Send it once.")
    return found


def _no_number(_word: str) -> NoReturn:
    raise BadRequest("The body has NaN or Infinity, which JSON has not.", "Send a number.")


def _too_long(settings: ServerSettings) -> RefusedError:
    return RefusedError(
        Problem(
            413,
            f"The body is longer than {settings.body_limit_bytes} bytes. Send less, or start the server with --max-body-mib.",
            code="body_too_large",
        )
    )
