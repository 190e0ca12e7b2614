"""What a place must be able to do for a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridllm.capabilities import EXTENDED_SAMPLING, TOOL_CHOICE, TOOLS, VISION
from hybridllm.types.content_part import ImagePartParam
from hybridllm.types.message_param import AssistantMessageParam, ToolMessageParam

if TYPE_CHECKING:
    from hybridllm.types.chat_request import ChatRequest

__all__ = ["needed_capabilities"]

_EXTENDED = ("top_k", "min_p", "repetition_penalty")
_NAMED_AS_FIELDS = (
    "min_tokens", "stop_token_ids", "grammar", "prompt_logprobs", "chat_template_kwargs", "tools", "response_format", "logit_bias",
)  # fmt: skip


def needed_capabilities(request: ChatRequest) -> frozenset[str]:
    """What a place must be able to do to serve a request."""
    needed = {name for name in _NAMED_AS_FIELDS if getattr(request, name) is not None}
    if any(getattr(request, name) is not None for name in _EXTENDED):
        needed.add(EXTENDED_SAMPLING)
    if request.must_call:
        needed.add(TOOL_CHOICE)
    if request.logprobs:
        needed.add("logprobs")
    if request.n > 1:
        needed.add("n")
    for message in request.messages:
        if isinstance(message, ToolMessageParam) or (isinstance(message, AssistantMessageParam) and message.tool_calls):
            needed.add(TOOLS)
        elif isinstance(message.content, list) and any(isinstance(part, ImagePartParam) for part in message.content):
            needed.add(VISION)
    return frozenset(needed)
