"""The keyword arguments of ``chat.completions.create`` that both faces pass on to ``ChatRequest``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hybridllm.types.chat_request import StreamOptions

__all__ = ["RequestFields"]


class RequestFields(TypedDict, total=False):
    """OpenAI's fields as far as they are supported, and three sampling fields of our own; see ``ChatRequest``."""

    model: str | None
    max_tokens: int | None
    max_completion_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    repetition_penalty: float | None
    frequency_penalty: float | None
    presence_penalty: float | None
    seed: int | None
    stop: str | Sequence[str] | None
    user: str | None
    n: Literal[1] | None
    stream_options: StreamOptions | Mapping[str, Any] | None
