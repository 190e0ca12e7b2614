"""One answer of a stream of chat completion chunks: text, refusal, thoughts, calls of tools and log probabilities, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hybridllm.backends.base import ContentDelta, ToolCallDelta
from hybridllm.backends.refusals import code_of
from hybridllm.errors import RemoteError
from hybridllm.types.logprobs import LEAST_LOGPROB, TokenLogprob, TopLogprob
from local_runtime.content import CONTENT, hides_content

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hybridllm.backends.base import FinishReason
    from hybridllm.types.chat_request import ChatRequest

__all__ = ["ChoiceReader", "Offered"]

# Where servers put what a model thinks: llama.cpp, SGLang and DeepSeek under the first name, vLLM and OpenRouter under the second.
_THOUGHTS = ("reasoning_content", "reasoning")
_PLAIN = frozenset({"role", "content"})
_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
    "tool_calls": "tool_calls",
}


@hides_content
@dataclass(frozen=True, slots=True)
class Offered:
    """What a request lets an answer have beyond text."""

    tools: frozenset[str] = field(default=frozenset(), metadata=CONTENT)
    """Names of the tools that may be called."""

    logprobs: bool = False
    """Whether log probabilities are wanted."""

    @classmethod
    def by(cls, request: ChatRequest) -> Offered:
        """What a request offers."""
        tools = [] if request.tool_choice == "none" else request.tools or []
        return cls(frozenset([tool.function.name for tool in tools]), bool(request.logprobs))


class ChoiceReader:
    """Reads the pieces of one answer, and keeps what a later piece is checked against.

    Args:
        index: Which of the request's answers.
        offered: What it may have.

    Attributes:
        finish: Why it ended, in the server's word; None while it goes on.
        thinks: Whether the newest piece has something that the model thinks.
    """

    def __init__(self, index: int, offered: Offered) -> None:
        self.finish: str | None = None
        self.thinks = False
        self._index = index
        self._offered = offered
        self._calls: list[tuple[str, str]] = []  # id and name of each

    def read(self, choice: dict[str, Any]) -> ContentDelta | None:
        """What a piece adds; None if nothing.

        Raises:
            RemoteError: It is not what a server may say here. Nothing that it says is part of the message.
        """
        delta = _delta(choice)
        text = delta.get("content")
        if delta.keys() <= _PLAIN and type(text) is str and text and self._goes_on_plainly(choice):
            self.thinks = False
            return ContentDelta(text=_well_formed(text), choice=self._index)  # as most pieces are
        text, refusal = delta.get("content") or "", delta.get("refusal") or ""
        if not isinstance(text, str) or not isinstance(refusal, str):
            raise RemoteError("The remote sent a piece whose content is not text.")
        thoughts = next((delta[name] for name in _THOUGHTS if delta.get(name)), "")
        self.thinks = bool(thoughts)
        # Some servers send thoughts in a structure of their own: a sign of life, and nothing that could be shown.
        reasoning = thoughts if isinstance(thoughts, str) else ""
        calls = self._tool_calls(delta["tool_calls"]) if delta.get("tool_calls") else ()
        if delta.get("function_call"):
            raise RemoteError("The remote called a function in a way that is not supported any more.")
        if (text or refusal or reasoning or calls) and self.finish is not None:
            raise RemoteError("The remote sent more after the end of its answer.")
        logprobs = _logprobs(choice["logprobs"]) if self._offered.logprobs and choice.get("logprobs") else ()
        if choice.get("finish_reason") is not None:
            self.finish = str(choice["finish_reason"])
        if not (text or refusal or reasoning or calls or logprobs):
            return None
        return ContentDelta(
            text=_well_formed(text),
            refusal=_well_formed(refusal),
            reasoning=_well_formed(reasoning),
            tool_calls=calls,
            logprobs=logprobs,
            choice=self._index,
        )

    def _goes_on_plainly(self, choice: dict[str, Any]) -> bool:
        """Whether there is nothing to be said beside the delta, and nothing that it has to be checked against."""
        return self.finish is None and choice.get("finish_reason") is None and not self._offered.logprobs

    def reason(self) -> FinishReason:
        """Why it ended.

        Raises:
            RemoteError: For a reason that nobody knows, or to call tools where there is no call.
        """
        reason = _REASONS.get(self.finish or "")
        if reason is None:
            raise RemoteError(
                "The remote ended its answer for a reason that is not supported.", code=code_of(self.finish)
            )
        if reason == "tool_calls" and not self._calls:
            raise RemoteError("The remote ended its answer to call tools, and called none.")
        return reason

    def _tool_calls(self, pieces: object) -> Sequence[ToolCallDelta]:
        """Pieces of calls. The first of a call has its id and its name, and calls come in the order of their index."""
        if not isinstance(pieces, list):
            raise RemoteError("The remote sent calls of tools that are no list.")
        if not self._offered.tools:
            raise RemoteError("The remote answered with a tool call, and the request had no tools.")
        return [found for piece in pieces if (found := self._tool_call(piece)) is not None]

    def _tool_call(self, piece: object) -> ToolCallDelta | None:
        function = piece.get("function") if isinstance(piece, dict) else None
        if not isinstance(piece, dict) or not isinstance(function, dict | None):
            raise RemoteError("The remote sent a call of a tool that is no object.")
        if piece.get("type") not in (None, "", "function"):
            raise RemoteError("The remote called a tool that is no function.")
        function = function or {}
        id_, name, arguments = piece.get("id") or "", function.get("name") or "", function.get("arguments") or ""
        if not (isinstance(id_, str) and isinstance(name, str) and isinstance(arguments, str)):
            raise RemoteError("The remote sent a call of a tool whose id, name or arguments are not text.")
        id_, name, arguments = _well_formed(id_), _well_formed(name), _well_formed(arguments)
        known = len(self._calls)
        index = piece.get("index")
        if index is None:  # some servers leave it out, and send each call in one piece
            index = known if id_ else known - 1
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index <= known:
            raise RemoteError("The remote sent a call of a tool whose index leaves a gap.")
        if index == known:
            if not id_ or not name:
                raise RemoteError("The remote began a call of a tool without its id or its name.")
            if any(id_ == earlier for earlier, _ in self._calls):
                raise RemoteError("The remote gave two calls of tools one id.")
            if name not in self._offered.tools:
                raise RemoteError("The remote called a tool that the request did not offer.")
            self._calls.append((id_, name))
            return ToolCallDelta(index, id_, name, arguments)
        if (id_ or self._calls[index][0], name or self._calls[index][1]) != self._calls[index]:
            raise RemoteError("The remote changed the id or the name of a call in the middle of it.")
        return ToolCallDelta(index, arguments=arguments) if arguments else None


def _delta(choice: dict[str, Any]) -> dict[str, Any]:
    """A choice's delta. One that brings only the end, or what a filter found, may lack it; one with a whole answer may not."""
    delta = choice.get("delta")
    if delta is None and "message" not in choice and "text" not in choice:
        return {}
    if not isinstance(delta, dict):
        raise RemoteError("The remote sent a choice without a delta.")
    return delta


def _well_formed(text: str) -> str:
    """JSON can spell half of a surrogate pair, which no message could carry on."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _logprobs(said: object) -> Sequence[TokenLogprob]:
    """Log probabilities of a piece's tokens; a piece without any may say so in several ways."""
    tokens = said.get("content") if isinstance(said, dict) else said
    if tokens is None:
        return ()
    if not isinstance(tokens, list):
        raise _no_logprobs()
    return [_token_logprob(token) for token in tokens]


def _token_logprob(said: object) -> TokenLogprob:
    token, logprob, bytes_ = _likely(said)
    top = said.get("top_logprobs") if isinstance(said, dict) else None
    if not isinstance(top, list | None):
        raise _no_logprobs()
    likely = [
        TopLogprob(token=token, logprob=logprob, bytes=bytes_) for token, logprob, bytes_ in map(_likely, top or ())
    ]
    return TokenLogprob(token=token, logprob=logprob, bytes=bytes_, top_logprobs=likely)


def _likely(said: object) -> tuple[str, float, list[int] | None]:
    token, logprob, bytes_ = (
        (said.get("token"), said.get("logprob"), said.get("bytes")) if isinstance(said, dict) else (None, None, None)
    )
    if not isinstance(token, str) or not isinstance(logprob, int | float) or math.isnan(logprob):
        raise _no_logprobs()
    if bytes_ is not None and not (
        isinstance(bytes_, list) and all(isinstance(byte, int) and 0 <= byte <= 255 for byte in bytes_)
    ):
        raise _no_logprobs()
    return _well_formed(token), min(0.0, max(LEAST_LOGPROB, float(logprob))), bytes_


def _no_logprobs() -> RemoteError:
    return RemoteError("The remote sent log probabilities in a shape that nobody knows.", "Ask without logprobs.")
