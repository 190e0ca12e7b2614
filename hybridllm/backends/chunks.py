"""Chat completion chunks as a server sends them, read into events."""

from __future__ import annotations

import json
from enum import Enum
from typing import Any, TypeGuard

from hybridllm.backends.base import ContentDelta, Finished
from hybridllm.backends.refusals import Refusal, code_of, refusal_of
from hybridllm.errors import RemoteError
from hybridllm.types.completion_usage import CompletionUsage, PromptTokensDetails

__all__ = ["ChunkReader", "Sign"]

# Where servers put what a model thinks: llama.cpp, SGLang and DeepSeek under the first name, vLLM and OpenRouter under the second.
_THOUGHTS = ("reasoning_content", "reasoning")


class Sign(Enum):
    """A chunk came that has nothing for the answer."""

    EMPTY = "empty"
    """It is empty."""

    THOUGHT = "thought"
    """It has something that the model thinks."""


class ChunkReader:
    """Turns chat completion chunks into events and knows whether the answer became whole.

    Attributes:
        refusal: The error that came instead of a chunk; None where none did.
    """

    def __init__(self) -> None:
        self.refusal: Refusal | None = None
        self._finish: str | None = None
        self._usage: CompletionUsage | None = None
        self._model: str | None = None

    @property
    def whole(self) -> bool:
        """Whether the server has said why the answer ended."""
        return self._finish is not None

    def read(self, name: str, data: str) -> list[ContentDelta | Sign]:
        """What one event of the stream says, at least one thing.

        Raises:
            HybridLLMError: It is an error, or no chunk of one choice's text.
        """
        try:
            chunk = json.loads(data)
        except (ValueError, RecursionError):
            raise RemoteError("The remote sent a piece that is not JSON.") from None
        if not isinstance(chunk, dict) or name == "error" or chunk.get("error"):
            self.refusal = refusal_of(data)
            raise self.refusal.in_stream()
        if isinstance(chunk.get("model"), str):
            self._model = chunk["model"][:200]
        if isinstance(chunk.get("usage"), dict):
            self._usage = _usage(chunk["usage"])
        choices = chunk.get("choices")
        if not isinstance(choices, list):
            raise RemoteError("The remote sent a piece without choices.")
        found: list[ContentDelta | Sign] = []
        sign = Sign.EMPTY
        for choice in choices:
            delta = _delta(choice)
            text, refusal = delta.get("content") or "", delta.get("refusal") or ""
            if not isinstance(text, str) or not isinstance(refusal, str):
                raise RemoteError("The remote sent a piece whose content is not text.")
            text, refusal = _well_formed(text), _well_formed(refusal)
            if delta.get("tool_calls") or delta.get("function_call"):
                raise RemoteError("The remote answered with a tool call, and the request had no tools.")
            if (text or refusal) and self._finish is not None:
                raise RemoteError("The remote sent more text after the end of its answer.")
            if text or refusal:
                found.append(ContentDelta(text=text, refusal=refusal))
            elif any(delta.get(name) for name in _THOUGHTS):
                sign = Sign.THOUGHT
            if choice.get("finish_reason") is not None:
                self._finish = str(choice["finish_reason"])
        return found or [sign]

    def finished(self) -> Finished:
        """The end; an error if no piece brought a finish reason."""
        if self._finish is None:
            raise RemoteError("The remote's answer was cut: it ended without a finish reason.", "Ask again.")
        if self._finish not in ("stop", "length", "content_filter"):
            raise RemoteError(
                "The remote ended its answer for a reason that is not supported.", code=code_of(self._finish)
            )
        return Finished(reason=self._finish, usage=self._usage, model=self._model)  # type: ignore[arg-type]


def _well_formed(text: str) -> str:
    """JSON can spell half of a surrogate pair, which no message could carry on."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _delta(choice: object) -> dict[str, Any]:
    """A choice's delta. One that brings only the end, or what a filter found, may lack it; one with a whole answer may not."""
    delta = choice.get("delta") if isinstance(choice, dict) else None
    if delta is None and isinstance(choice, dict) and "message" not in choice and "text" not in choice:
        return {}
    if not isinstance(delta, dict):
        raise RemoteError("The remote sent a choice without a delta.")
    return delta


def _usage(usage: dict[str, Any]) -> CompletionUsage | None:
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens", "total_tokens")]
    whole = [count for count in counts if _is_count(count)]
    if len(whole) != len(counts):
        return None
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    return CompletionUsage(
        prompt_tokens=whole[0],
        completion_tokens=whole[1],
        total_tokens=whole[2],
        prompt_tokens_details=PromptTokensDetails(cached_tokens=cached) if _is_count(cached) else None,
    )


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31
