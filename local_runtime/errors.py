"""Errors of the local engine: one tree, every message one sentence that says what is wrong and how to mend it.

Each class has a stable ``code`` so that an error can cross the worker's pipe and be raised again on the other side.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "CheckpointError",
    "CompileError",
    "ContextLengthExceededError",
    "EngineInternalError",
    "InvalidRequestError",
    "LocalRuntimeError",
    "OutOfMemoryError",
    "OverloadedError",
    "ProtocolError",
    "SavedStateError",
    "TargetError",
    "TokenizerError",
    "UnsupportedModelError",
    "WorkerDiedError",
    "error_from_code",
]


class LocalRuntimeError(Exception):
    """Base of everything that the local engine raises on purpose.

    Args:
        message: What is wrong and where, one sentence without a trailing newline.
        mend: What to do about it, one imperative sentence; empty if nothing can be done.
    """

    code: ClassVar[str] = "local_runtime"
    retry_after_s: float | None = None
    """Seconds after which asking again may help, where that can be told."""

    def __init__(self, message: str, mend: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.mend = mend

    def __str__(self) -> str:
        return f"{self.message} {self.mend}".strip()


class CheckpointError(LocalRuntimeError):
    """The model folder is not a readable checkpoint: a file is missing, cut, or contradicts another."""

    code = "checkpoint"


class UnsupportedModelError(LocalRuntimeError):
    """The checkpoint is readable, but asks for an architecture or an option that is not implemented."""

    code = "unsupported_model"


class TokenizerError(LocalRuntimeError):
    """The tokenizer or its chat template cannot be read, or does not fit the model."""

    code = "tokenizer"


class TargetError(LocalRuntimeError):
    """The requested target does not exist here, or an artifact was built for another one."""

    code = "target"


class CompileError(LocalRuntimeError):
    """TVM could not compile the model, or the compiled artifact cannot be loaded."""

    code = "compile"


class InvalidRequestError(LocalRuntimeError):
    """A generation request has a field of the wrong type or out of range."""

    code = "invalid_request"


class ContextLengthExceededError(LocalRuntimeError):
    """The prompt, or the prompt with the tokens asked for, does not fit the model's context."""

    code = "context_length_exceeded"


class OutOfMemoryError(LocalRuntimeError):
    """The key-value cache or the process has no memory left for this request."""

    code = "out_of_memory"


class OverloadedError(LocalRuntimeError):
    """Too many requests wait already; this one was not taken in."""

    code = "overloaded"


class WorkerDiedError(LocalRuntimeError):
    """The engine process ended while it was needed."""

    code = "worker_died"


class SavedStateError(LocalRuntimeError):
    """A file of saved keys and values cannot be written or read, or is not one of this model as it is loaded now."""

    code = "saved_state"


class ProtocolError(LocalRuntimeError):
    """A frame on the worker's pipe is not one that this version understands."""

    code = "protocol"


class EngineInternalError(LocalRuntimeError):
    """A defect of the engine: an exception that nobody expected."""

    code = "internal"


_BY_CODE: dict[str, type[LocalRuntimeError]] = {
    cls.code: cls
    for cls in (
        LocalRuntimeError,
        CheckpointError,
        UnsupportedModelError,
        TokenizerError,
        TargetError,
        CompileError,
        InvalidRequestError,
        ContextLengthExceededError,
        OutOfMemoryError,
        OverloadedError,
        WorkerDiedError,
        ProtocolError,
        SavedStateError,
        EngineInternalError,
    )
}


def error_from_code(code: str, message: str, mend: str = "", retry_after_s: float | None = None) -> LocalRuntimeError:
    """Build the error that ``code`` names; an unknown code gives the base class."""
    error = _BY_CODE.get(code, LocalRuntimeError)(message, mend)
    error.retry_after_s = retry_after_s
    return error
