"""Errors as OpenAI's clients know them: a status, and ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hybridllm.errors import (
    AuditError,
    BadRequest,
    BreakerOpen,
    Cancelled,
    CannotServe,
    ContentFiltered,
    ContextLengthExceeded,
    DeadlineExceeded,
    EngineError,
    HybridLLMError,
    ModelError,
    Overloaded,
    PolicyDenied,
    PolicyTightened,
    PrivacyViolation,
    RedactionFailed,
    RemoteError,
    StreamInterrupted,
)

if TYPE_CHECKING:
    from starlette.types import Send

__all__ = ["ClientGoneError", "Problem", "RefusedError", "problem_of", "retry_after", "send_problem"]

_INVALID = "invalid_request_error"
_SERVER = "server_error"
# What an official client would otherwise try again by itself, where that cannot help.
_NO_RETRY = (("x-should-retry", "false"),)


@dataclass(frozen=True, slots=True)
class Problem:
    """What a client is told when it gets no answer."""

    status: int
    """HTTP status."""

    message: str
    """What is wrong and what to do, without any content."""

    type: str = _INVALID
    """OpenAI's word for the kind of error."""

    code: str | None = None
    """A stable word for programs."""

    param: str | None = None
    """The field at fault, where there is one."""

    headers: tuple[tuple[str, str], ...] = ()
    """Further headers of the response."""

    def document(self) -> dict[str, object]:
        """The body as OpenAI shapes it."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def body(self) -> bytes:
        """The same as JSON."""
        return json.dumps(self.document()).encode()


class RefusedError(Exception):
    """The server itself refuses a request.

    Args:
        problem: What the client is told.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.problem = problem


class ClientGoneError(Exception):
    """Whoever asked has closed the connection; nobody is left to be answered."""


# The first class that an error is of says what becomes of it.
_KINDS: tuple[tuple[type[HybridLLMError], int, str, str | None], ...] = (
    (ContextLengthExceeded, 400, _INVALID, "context_length_exceeded"),
    (BadRequest, 400, _INVALID, None),
    (PrivacyViolation, 403, "permission_error", "privacy_violation"),
    (PolicyDenied, 403, "permission_error", "policy_denied"),
    (Overloaded, 429, "rate_limit_error", "overloaded"),
    (DeadlineExceeded, 504, "timeout_error", "deadline_exceeded"),
    (StreamInterrupted, 503, _SERVER, "stream_interrupted"),
    (CannotServe, 503, _SERVER, "cannot_serve"),
    (ModelError, 503, _SERVER, "model_error"),
    (EngineError, 503, _SERVER, "engine_error"),
    (BreakerOpen, 503, _SERVER, "breaker_open"),
    (ContentFiltered, 400, _INVALID, "content_filter"),
    (RemoteError, 502, _SERVER, "remote_error"),
    (Cancelled, 503, _SERVER, "stopped"),
    (PolicyTightened, 503, _SERVER, "policy_changed"),
    (RedactionFailed, 503, _SERVER, "redaction_failed"),
    (AuditError, 503, _SERVER, "audit_error"),
)


def problem_of(error: BaseException) -> Problem:
    """What a client is told of an error; of one that nobody expected, nothing."""
    if isinstance(error, RefusedError):
        return error.problem
    if isinstance(error, BadRequest) and error.field == "model":
        return Problem(404, str(error), _INVALID, "model_not_found", "model")
    for kind, status, word, code in _KINDS:
        if isinstance(error, kind):
            return Problem(status, str(error), word, code, getattr(error, "field", "") or None, _headers(error))
    return Problem(
        500,
        "The server has a defect; its log names the place.",
        _SERVER,
        "internal_error",
        headers=_NO_RETRY,
    )


async def send_problem(send: Send, problem: Problem) -> None:
    """Send it as a whole response."""
    body = problem.body()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *((name.encode(), value.encode()) for name, value in problem.headers),
    ]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def retry_after(seconds: float) -> tuple[str, str]:
    """The header that says when to come back, in whole seconds from 1 up."""
    return "retry-after", str(max(1, math.ceil(seconds)))


def _headers(error: HybridLLMError) -> tuple[tuple[str, str], ...]:
    if isinstance(error, DeadlineExceeded):  # the caller has said how long it may take at most
        return _NO_RETRY
    seconds = getattr(error, "retry_after_s", None)
    if seconds is None and isinstance(error, Overloaded):
        seconds = 1.0
    return () if seconds is None else (retry_after(seconds),)
