"""The keyword arguments of ``chat.completions.create`` that both faces pass on to ``ChatRequest``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hybridllm.types.chat_request import StreamOptions
    from hybridllm.types.response_format import GrammarParam, ResponseFormatParam
    from hybridllm.types.tool_param import NamedToolChoice, ToolParam

__all__ = ["RequestFields"]


class RequestFields(TypedDict, total=False):
    """OpenAI's fields as far as they are supported, and fields of our own; see ``ChatRequest``."""

    model: str | None
    max_tokens: int | None
    max_completion_tokens: int | None
    min_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    repetition_penalty: float | None
    frequency_penalty: float | None
    presence_penalty: float | None
    logit_bias: Mapping[str, float] | Mapping[int, float] | None
    seed: int | None
    stop: str | Sequence[str] | None
    stop_token_ids: Sequence[int] | None
    logprobs: bool | None
    top_logprobs: int | None
    prompt_logprobs: int | None
    response_format: ResponseFormatParam | Mapping[str, Any] | None
    grammar: GrammarParam | Mapping[str, Any] | None
    tools: Sequence[ToolParam | Mapping[str, Any]] | None
    tool_choice: Literal["none", "auto", "required"] | NamedToolChoice | Mapping[str, Any] | None
    parallel_tool_calls: bool | None
    chat_template_kwargs: Mapping[str, Any] | None
    metadata: Mapping[str, str] | None
    user: str | None
    n: int | None
    stream_options: StreamOptions | Mapping[str, Any] | None
