"""Errors of the SDK: one tree; every message says what happened and what to do next.

None of them ever carries what a user or a model wrote: a message names fields, places, labels and numbers only.
"""
# ruff: noqa: N818 - the names are the ones that the documentation speaks of; "Error" would add nothing to them.

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hybridllm.types.route import Attempt

__all__ = [
    "AddressRefused",
    "AuditError",
    "BadRequest",
    "BreakerOpen",
    "Cancelled",
    "CannotServe",
    "ConfigError",
    "ContentFiltered",
    "ContextLengthExceeded",
    "DeadlineExceeded",
    "EngineError",
    "HybridLLMError",
    "ModelError",
    "Overloaded",
    "PolicyDenied",
    "PolicyError",
    "PolicyTightened",
    "PrivacyViolation",
    "RedactionFailed",
    "RemoteError",
    "RemoteUnreachable",
    "StreamInterrupted",
]


class HybridLLMError(Exception):
    """Base of everything that the SDK raises on purpose.

    Args:
        message: What is wrong and where, one sentence.
        mend: What to do about it, one imperative sentence; empty if nothing can be done.
    """

    def __init__(self, message: str, mend: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.mend = mend

    def __str__(self) -> str:
        return f"{self.message} {self.mend}".strip()


class BadRequest(HybridLLMError):
    """A request, or an argument of a client or of ``Remote``, is missing, of the wrong shape, or not supported.

    Args:
        message: What is wrong.
        mend: What to write instead.
        field: The field's path, such as ``messages[1].content`` or ``remote.base_url``; empty if none is at fault alone.
    """

    def __init__(self, message: str, mend: str = "", *, field: str = "") -> None:
        super().__init__(message, mend)
        self.field = field


class ContextLengthExceeded(BadRequest):
    """The prompt, or the prompt with the tokens asked for, fits no place that may see it."""


class ConfigError(HybridLLMError):
    """A configuration file cannot be used.

    Args:
        message: What is wrong.
        mend: What to write instead.
        file: The file, as the user named it.
        line: Line in that file, counted from 1; None if unknown.
        key: The key's path, such as ``remote.base_url``.
    """

    def __init__(self, message: str, mend: str = "", *, file: str = "", line: int | None = None, key: str = "") -> None:
        super().__init__(message, mend)
        self.file = file
        self.line = line
        self.key = key


class PolicyError(HybridLLMError):
    """A policy is missing, invalid or not understood; with such a policy nothing can leave the device.

    Args:
        message: What is wrong, beginning with ``file:line:column``.
        mend: What to write instead.
        file: The policy file, as the user named it.
        line: Line, counted from 1; None if the file could not be read at all.
        column: Column, counted from 1; None if the file could not be read at all.
        key: The key's path, such as ``rules[1].when.connectivity``.
    """

    def __init__(
        self,
        message: str,
        mend: str = "",
        *,
        file: str = "",
        line: int | None = None,
        column: int | None = None,
        key: str = "",
    ) -> None:
        super().__init__(message, mend)
        self.file = file
        self.line = line
        self.column = column
        self.key = key


class ModelError(HybridLLMError):
    """The device's model cannot be loaded: no checkpoint, not supported, not compilable here, or damaged."""


class EngineError(HybridLLMError):
    """The local engine failed while it was needed: it died, ran out of memory, or has a defect."""


class Overloaded(HybridLLMError):
    """Too many answers are under way at a place already; nothing was begun.

    Args:
        message: What is full.
        mend: What to do.
        retry_after_s: Seconds after which there is likely to be room; None if nobody can tell.
    """

    def __init__(self, message: str, mend: str = "", *, retry_after_s: float | None = None) -> None:
        super().__init__(message, mend)
        self.retry_after_s = retry_after_s


class PolicyDenied(HybridLLMError):
    """Only a place that may not see this request could have served it. Final: nothing tries elsewhere.

    Args:
        message: Which place was refused and why.
        mend: What a person may change.
        label: The request's label.
        place: The place that was refused.
    """

    def __init__(self, message: str, mend: str = "", *, label: str = "", place: str = "") -> None:
        super().__init__(message, mend)
        self.label = label
        self.place = place


class PrivacyViolation(PolicyDenied):
    """Something tried to send bytes without a permit that fits them. Nothing was sent. Final."""


class AuditError(HybridLLMError):
    """The audit log cannot be written, read or trusted; what it cannot record does not leave the device.

    Args:
        message: What is wrong.
        mend: What to do.
        file: The file or folder; empty if none is at fault alone.
    """

    def __init__(self, message: str, mend: str = "", *, file: str = "") -> None:
        super().__init__(message, mend)
        self.file = file


class PolicyTightened(HybridLLMError):
    """A policy that came into force after the decision does not allow what was about to be sent. Nothing was sent."""


class RedactionFailed(HybridLLMError):
    """A text could not be redacted so that a place may see it. Nothing was sent."""


class CannotServe(HybridLLMError):
    """Every place that may see the request was tried, or ruled out, and none could answer.

    Args:
        message: What happened at each place.
        mend: What to do.
        attempts: What was tried, in order.
    """

    def __init__(self, message: str, mend: str = "", *, attempts: Sequence[Attempt] = ()) -> None:
        super().__init__(message, mend)
        self.attempts = tuple(attempts)


class StreamInterrupted(CannotServe):
    """A place failed after it had given a part of the answer: what was received so far is incomplete."""


class RemoteError(HybridLLMError):
    """The remote answered with an error, or with something that is not a chat completion.

    Args:
        message: What it answered, without any content.
        mend: What to do.
        status: HTTP status; None if the failure lies in the body or the connection.
        code: The server's machine-readable error code, if it gave one.
        retry_after_s: Seconds that the server asked us to wait; None if it did not.
    """

    def __init__(
        self,
        message: str,
        mend: str = "",
        *,
        status: int | None = None,
        code: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, mend)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s


class RemoteUnreachable(RemoteError):
    """No connection to the remote: the name is unknown, it refused, it was silent, or TLS failed."""


class AddressRefused(RemoteUnreachable):
    """The remote's name leads to an address that its zone does not allow. Nothing was sent, and another place may answer."""


class ContentFiltered(RemoteError):
    """The remote refused the request for what it says. Final: nothing tries elsewhere, or its filter would be got around."""


class BreakerOpen(RemoteError):
    """The remote failed several times in a row, or refused its key, and is left alone for a while; nothing was sent."""


class DeadlineExceeded(HybridLLMError, TimeoutError):
    """The request's ``deadline_s`` passed before the answer was whole."""


class Cancelled(HybridLLMError):
    """The answer was stopped before it was whole: the stream was closed, or the client."""
