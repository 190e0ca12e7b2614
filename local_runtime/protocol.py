"""The language between an application and its engine process: length-prefixed JSON frames over two pipes.

A frame is a 4-byte little-endian length and that many bytes of UTF-8 JSON: one object whose ``type`` names one of the
messages below and whose other keys are exactly that message's fields. Parsing is strict: an unknown type or field, a
missing field or a value of the wrong type is a :class:`ProtocolError`, never a guess. Both sides begin with a ``hello``
that carries :data:`PROTOCOL_VERSION`; unequal versions do not talk.

Standard library only: the application's process imports this module.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias, TypeVar, get_args

# The annotations below are read at run time: they are the schema that incoming frames are checked against.
from local_runtime.content import CONTENT, hides_content
from local_runtime.errors import LocalRuntimeError, ProtocolError, error_from_code
from local_runtime.events import (  # noqa: TC001 - read at run time
    EngineStats,
    FinishReason,
    Timings,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from local_runtime.options import GenerateRequest, LoadOptions, ModelInfo, Progress  # noqa: TC001 - read at run time
from local_runtime.wire import MAX_FRAME_BYTES, build, checked_length, read_frame, write_frame

__all__ = [
    "MAX_FRAME_BYTES",
    "PROTOCOL_VERSION",
    "Cancel",
    "Command",
    "CountPromptTokens",
    "DeltaReply",
    "FailedReply",
    "FinishedReply",
    "Generate",
    "Hello",
    "HelloReply",
    "Load",
    "Ping",
    "PongReply",
    "ProgressReply",
    "PromptTokensReply",
    "ReadyReply",
    "Reply",
    "RestoreState",
    "SaveState",
    "Shutdown",
    "StateReply",
    "Stats",
    "StatsReply",
    "check_version",
    "decode_command",
    "decode_reply",
    "encode",
    "read_frame",
    "write_frame",
]

PROTOCOL_VERSION = 3


# ---- commands: application → engine ----


@dataclass(frozen=True, slots=True)
class Hello:
    """The first frame of the application."""

    type: ClassVar[str] = "hello"
    version: int = PROTOCOL_VERSION


@dataclass(frozen=True, slots=True)
class Load:
    """Load a model; answered by any number of ``progress`` and then ``ready`` or ``failed``."""

    type: ClassVar[str] = "load"
    id: int
    options: LoadOptions


@dataclass(frozen=True, slots=True)
class Generate:
    """Generate an answer; answered by any number of ``delta`` and then ``finished`` or ``failed``."""

    type: ClassVar[str] = "generate"
    id: int
    request: GenerateRequest


@dataclass(frozen=True, slots=True)
class Cancel:
    """End the answer ``id`` soon; it ends with ``finished`` as usual. An answer that has ended is no error."""

    type: ClassVar[str] = "cancel"
    id: int


@dataclass(frozen=True, slots=True)
class Stats:
    """Ask for the engine's state; answered by ``stats``."""

    type: ClassVar[str] = "stats"
    id: int


@hides_content
@dataclass(frozen=True, slots=True)
class CountPromptTokens:
    """Ask how many tokens a conversation comes to; answered by ``prompt_tokens`` or ``failed``."""

    type: ClassVar[str] = "count_prompt_tokens"
    id: int
    messages: list[dict[str, Any]] = field(metadata=CONTENT)
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict, metadata=CONTENT)
    tools: list[dict[str, Any]] = field(default_factory=list, metadata=CONTENT)


@hides_content
@dataclass(frozen=True, slots=True)
class SaveState:
    """Write the keys and values of a conversation's prompt into a file; answered by ``state`` or ``failed``."""

    type: ClassVar[str] = "save_state"
    id: int
    path: str
    messages: list[dict[str, Any]] = field(metadata=CONTENT)
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict, metadata=CONTENT)
    tools: list[dict[str, Any]] = field(default_factory=list, metadata=CONTENT)


@dataclass(frozen=True, slots=True)
class RestoreState:
    """Read such a file into the prefix cache; answered by ``state`` or ``failed``."""

    type: ClassVar[str] = "restore_state"
    id: int
    path: str


@dataclass(frozen=True, slots=True)
class Ping:
    """Ask for a sign of life; answered by ``pong``, without waiting for what is being computed."""

    type: ClassVar[str] = "ping"
    id: int


@dataclass(frozen=True, slots=True)
class Shutdown:
    """Cancel everything, then end the process."""

    type: ClassVar[str] = "shutdown"


Command: TypeAlias = (
    Hello | Load | Generate | Cancel | Stats | CountPromptTokens | SaveState | RestoreState | Ping | Shutdown
)


# ---- replies: engine → application ----


@dataclass(frozen=True, slots=True)
class HelloReply:
    """The first frame of the engine."""

    type: ClassVar[str] = "hello"
    version: int
    pid: int


@dataclass(frozen=True, slots=True)
class ProgressReply:
    """How far the loading is."""

    type: ClassVar[str] = "progress"
    id: int
    progress: Progress


@dataclass(frozen=True, slots=True)
class ReadyReply:
    """The model is loaded."""

    type: ClassVar[str] = "ready"
    id: int
    info: ModelInfo


@hides_content
@dataclass(frozen=True, slots=True)
class DeltaReply:
    """A further piece of an answer."""

    type: ClassVar[str] = "delta"
    id: int
    text: str = field(metadata=CONTENT)
    tokens: int
    ids: list[int] = field(default_factory=list, metadata=CONTENT)
    """The tokens since the last delta; with them another worker can go on exactly here."""
    reasoning: str = field(default="", metadata=CONTENT)
    tool_calls: list[ToolCallDelta] = field(default_factory=list, metadata=CONTENT)
    logprobs: list[TokenLogprob] = field(default_factory=list, metadata=CONTENT)


@hides_content
@dataclass(frozen=True, slots=True)
class FinishedReply:
    """The end of an answer that went well."""

    type: ClassVar[str] = "finished"
    id: int
    reason: FinishReason
    usage: Usage
    timings: Timings
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list, metadata=CONTENT)


@dataclass(frozen=True, slots=True)
class FailedReply:
    """The end of a command that went wrong; ``code`` is that of a :class:`LocalRuntimeError`."""

    type: ClassVar[str] = "failed"
    id: int
    code: str
    message: str
    mend: str
    retry_after_s: float | None = None

    @classmethod
    def of(cls, id: int, error: LocalRuntimeError) -> FailedReply:  # noqa: A002 - the field's name on the wire
        """The reply that carries ``error``."""
        return cls(id, error.code, error.message, error.mend, error.retry_after_s)

    def error(self) -> LocalRuntimeError:
        """The error that this reply carries."""
        return error_from_code(self.code, self.message, self.mend, self.retry_after_s)


@dataclass(frozen=True, slots=True)
class StatsReply:
    """The engine's state."""

    type: ClassVar[str] = "stats"
    id: int
    stats: EngineStats


@dataclass(frozen=True, slots=True)
class PongReply:
    """A sign of life.

    Attributes:
        beat: Grows with everything that the engine gets done: a step, a command, a stage of loading.
        busy_s: How long it has been at what it does now; 0 while it has nothing to do.
    """

    type: ClassVar[str] = "pong"
    id: int
    beat: int
    busy_s: float


@dataclass(frozen=True, slots=True)
class PromptTokensReply:
    """The number of tokens of a conversation, the chat template's own included."""

    type: ClassVar[str] = "prompt_tokens"
    id: int
    count: int


@dataclass(frozen=True, slots=True)
class StateReply:
    """A state was written or read.

    Attributes:
        tokens: Tokens whose keys and values it has.
        bytes: Size of the file.
        took_s: Seconds that it took.
    """

    type: ClassVar[str] = "state"
    id: int
    tokens: int
    bytes: int
    took_s: float


Reply: TypeAlias = (
    HelloReply
    | ProgressReply
    | ReadyReply
    | DeltaReply
    | FinishedReply
    | FailedReply
    | StatsReply
    | PromptTokensReply
    | PongReply
    | StateReply
)

_COMMANDS: dict[str, type[Command]] = {cls.type: cls for cls in get_args(Command)}
_REPLIES: dict[str, type[Reply]] = {cls.type: cls for cls in get_args(Reply)}


# ---- messages ----


def encode(message: Command | Reply) -> bytes:
    """Write a message as the payload of a frame.

    Raises:
        ProtocolError: The message holds a value that JSON has no form for, or is too long.
    """
    body = {"type": message.type, **dataclasses.asdict(message)}
    try:
        # ASCII escapes let a lone surrogate pass; the tokenizer then refuses it with a sentence of its own.
        payload = json.dumps(body, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise ProtocolError(
            f"The {message.type} message has a value that JSON has no form for: {error}.",
            "Use only strings, numbers, booleans, None, lists and mappings.",
        ) from None
    checked_length(len(payload))
    return payload


def decode_command(payload: bytes) -> Command:
    """Parse the payload of a frame that the application sent.

    Raises:
        ProtocolError: It is not one of the commands.
        InvalidRequestError: It is one, but a value in it is out of range.
    """
    return _decode(payload, _COMMANDS)


def decode_reply(payload: bytes) -> Reply:
    """Parse the payload of a frame that the engine sent.

    Raises:
        ProtocolError: It is not one of the replies.
    """
    return _decode(payload, _REPLIES)


def check_version(version: int) -> None:
    """Compare the other side's version with ours.

    Raises:
        ProtocolError: They differ.
    """
    if version != PROTOCOL_VERSION:
        raise ProtocolError(
            f"The other side speaks version {version} of the worker protocol, this one version {PROTOCOL_VERSION}.",
            "Install one version of hybridllm for both and start again.",
        )


_M = TypeVar("_M")


def _decode(payload: bytes, known: dict[str, type[_M]]) -> _M:
    try:
        body = json.loads(payload, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise ProtocolError(f"A frame of {len(payload)} bytes is not JSON in UTF-8.") from None
    if not isinstance(body, dict):
        raise ProtocolError("A frame is not a JSON object.")
    kind = body.pop("type", None)
    if not isinstance(kind, str) or kind not in known:
        raise ProtocolError("A frame has no type that this version knows.")
    return build(known[kind], body, kind)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
