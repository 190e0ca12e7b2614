"""Everything that the soak's cloud can do instead of answering, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tests.faults.behaviours import (
    COMMENT,
    EMPTY,
    ERROR_EVENT,
    bomb,
    chunked,
    in_a_second,
    late,
    refused_with,
    shorter_than_said,
    trickle,
)
from tests.hybridllm.loopback import DONE, Behaviour, answer, chunk, reset, silent, stalls_after, status, stream

__all__ = ["CONNECTION_FAULTS", "HEALTHY", "HTTP_FAULTS", "NAME_NOT_FOUND", "NEW_KEY_AFTER", "TLS_FAULTS", "all_faults"]

HEALTHY = "healthy"
NAME_NOT_FOUND = "name not found"
"""The one fault that does not happen at the cloud: the resolver knows its name no more."""

CONNECTION_FAULTS = ("refused", "accepted and silent", "reset at once")
TLS_FAULTS = ("another host's certificate", "plaintext on the TLS port", "a handshake that never ends")
NEW_KEY_AFTER = "a revoked key"
"""After this one the client is given another key, or the cloud would be left alone for minutes."""

_LOGIN = {"Content-Type": "text/html"}

HTTP_FAULTS: Mapping[str, Callable[[Sequence[str], int], Behaviour]] = {
    # From the pieces of the right answer, and after how many of them it happens.
    "silent": lambda pieces, at: silent(),
    "late": lambda pieces, at: late(answer(*pieces), 0.4),
    "reset before the head": lambda pieces, at: reset(),
    "closed before the head": lambda pieces, at: lambda exchange: None,
    "429": lambda pieces, at: status(429),
    "429 with a pause": lambda pieces, at: in_a_second(429),
    "429 with a long pause": lambda pieces, at: status(429, headers={"Retry-After": "600"}),
    "500": lambda pieces, at: status(500),
    "503": lambda pieces, at: status(503),
    NEW_KEY_AFTER: lambda pieces, at: refused_with(401, "invalid_api_key"),
    "too long": lambda pieces, at: refused_with(400, "context_length_exceeded"),
    "a login page": lambda pieces, at: stream(b"<html>Log in</html>", headers=_LOGIN),
    "a redirect": lambda pieces, at: status(302, headers={"Location": "http://127.0.0.1:9/"}),
    "wrong content type": lambda pieces, at: stream(begun(pieces, at), headers={"Content-Type": "application/json"}),
    "a compressed bomb": lambda pieces, at: bomb(1),
    "a trickle of empty chunks": lambda pieces, at: trickle(begun(pieces, at), EMPTY),
    "a trickle of comments": lambda pieces, at: trickle(begun(pieces, at), COMMENT),
    "cut": lambda pieces, at: stream(begun(pieces, at)),
    "cut and done": lambda pieces, at: stream(begun(pieces, at) + DONE),
    "cut in its coding": lambda pieces, at: chunked(begun(pieces, at), end=b""),
    "shorter than said": lambda pieces, at: shorter_than_said(begun(pieces, at), 400),
    "reset": lambda pieces, at: reset(begun(pieces, at)),
    "a stall": lambda pieces, at: stalls_after(begun(pieces, at)),
    "a malformed chunk": lambda pieces, at: stream(begun(pieces, at) + b"data: {\n\n"),
    "an error event": lambda pieces, at: stream(begun(pieces, at) + ERROR_EVENT),
    "invalid UTF-8": lambda pieces, at: stream(begun(pieces, at) + b"data: \xff\n\n"),
    "text after the end": lambda pieces, at: stream(begun(pieces, at) + chunk(finish="stop") + chunk(" more") + DONE),
    "no [DONE]": lambda pieces, at: stream(begun(pieces, len(pieces)) + chunk(finish="stop")),
    "cut inside characters": lambda pieces, at: stream(
        begun(pieces, len(pieces)) + chunk(finish="stop") + DONE, piece=7
    ),
}


def begun(pieces: Sequence[str], at: int) -> bytes:
    """A stream up to there."""
    return chunk("", role="assistant") + b"".join(map(chunk, pieces[:at]))


def all_faults() -> tuple[str, ...]:
    """All names, without ``HEALTHY``."""
    return (NAME_NOT_FOUND, *CONNECTION_FAULTS, *TLS_FAULTS, *HTTP_FAULTS)
