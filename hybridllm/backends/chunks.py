"""Chat completion chunks as a server sends them, read into events."""

from __future__ import annotations

import json
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeGuard

from hybridllm.backends.base import ContentDelta, Finished
from hybridllm.backends.choice_reader import ChoiceReader, Offered
from hybridllm.backends.refusals import Refusal, refusal_of
from hybridllm.errors import RemoteError
from hybridllm.types.completion_usage import CompletionTokensDetails, CompletionUsage, PromptTokensDetails

if TYPE_CHECKING:
    from hybridllm.types.chat_request import ChatRequest

__all__ = ["ChunkReader", "Sign"]


_JSON = json.JSONDecoder()


class Sign(Enum):
    """A chunk came that has nothing for the answer."""

    EMPTY = "empty"
    """It is empty."""

    THOUGHT = "thought"
    """It has something that the model thinks, which is no text."""


class ChunkReader:
    """Turns chat completion chunks into events and knows whether the answer became whole.

    Args:
        request: What was asked, which says what may be answered.

    Attributes:
        refusal: The error that came instead of a chunk; None where none did.
    """

    def __init__(self, request: ChatRequest) -> None:
        self.refusal: Refusal | None = None
        offered = Offered.by(request)
        self._choices = [ChoiceReader(index, offered) for index in range(request.n)]
        self._usage: CompletionUsage | None = None
        self._model: str | None = None
        self._whole = False

    @property
    def whole(self) -> bool:
        """Whether the server has said of every answer why it ended."""
        return self._whole

    def read(self, name: str, data: str) -> list[ContentDelta | Sign]:
        """What one event of the stream says, at least one thing.

        Args:
            name: The event's.
            data: Its data, without white space around it.

        Raises:
            HybridLLMError: It is an error, or no chunk of what was asked for.
        """
        try:
            chunk, end = _JSON.raw_decode(data)  # of what json.loads does, what comes after the white space
        except (ValueError, RecursionError):
            chunk, end = None, -1
        if end != len(data):
            raise RemoteError("The remote sent a piece that is not JSON.")
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
            reader = self._reader_of(choice)
            delta = reader.read(choice)
            if delta is not None:
                found.append(delta)
            elif reader.thinks:
                sign = Sign.THOUGHT
            if reader.finish is not None and not self._whole:
                self._whole = all(reader.finish is not None for reader in self._choices)
        return found or [sign]

    def finished(self) -> Finished:
        """The end; an error if no piece brought a finish reason."""
        if not self._whole:
            raise RemoteError("The remote's answer was cut: it ended without a finish reason.", "Ask again.")
        reasons = tuple([reader.reason() for reader in self._choices])
        return Finished(
            reason=reasons[0], usage=self._usage, model=self._model, reasons=reasons if len(reasons) > 1 else ()
        )

    def _reader_of(self, choice: object) -> ChoiceReader:
        if not isinstance(choice, dict):
            raise RemoteError("The remote sent a choice without a delta.")
        index = choice.get("index")
        if index is None and len(self._choices) == 1:
            index = 0
        if not _is_count(index) or index >= len(self._choices):
            raise RemoteError("The remote sent a piece of an answer that was not asked for.")
        return self._choices[index]


def _usage(usage: dict[str, Any]) -> CompletionUsage | None:
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens", "total_tokens")]
    whole = [count for count in counts if _is_count(count)]
    if len(whole) != len(counts):
        return None
    cached = _detail(usage, "prompt_tokens_details", "cached_tokens")
    reasoning = _detail(usage, "completion_tokens_details", "reasoning_tokens")
    return CompletionUsage(
        prompt_tokens=whole[0],
        completion_tokens=whole[1],
        total_tokens=whole[2],
        prompt_tokens_details=None if cached is None else PromptTokensDetails(cached_tokens=cached),
        completion_tokens_details=None if reasoning is None else CompletionTokensDetails(reasoning_tokens=reasoning),
    )


def _detail(usage: dict[str, Any], group: str, name: str) -> int | None:
    details = usage.get(group)
    count = details.get(name) if isinstance(details, dict) else None
    return count if _is_count(count) else None


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31
