"""The bytes that go to an OpenAI-compatible server: what the caller gave, field by field, and nothing of ours."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hybridllm.capabilities import REASONING_CONTENT
from hybridllm.types.message_param import AssistantMessageParam, ToolMessageParam

if TYPE_CHECKING:
    from collections.abc import Collection

    from hybridllm.types.chat_request import ChatRequest
    from hybridllm.types.message_param import MessageParam
    from hybridllm.types.tool_param import ToolParam

__all__ = ["body_of"]

# As they are; what is None was not given.
_SENT_AS_IS = (
    "max_tokens", "max_completion_tokens", "min_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty",
    "frequency_penalty", "presence_penalty", "logit_bias", "seed", "stop", "stop_token_ids", "logprobs", "top_logprobs",
    "prompt_logprobs", "parallel_tool_calls", "chat_template_kwargs", "metadata", "user",
)  # fmt: skip


def body_of(
    request: ChatRequest, model: str, *, continues: bool = False, capabilities: Collection[str] = frozenset()
) -> bytes:
    """The exact bytes; see ``ChatRequest.remote_body``."""
    thoughts = REASONING_CONTENT in capabilities
    body: dict[str, Any] = {
        "model": model,
        "messages": [_message(message, thoughts=thoughts) for message in request.messages],
    }
    for name in _SENT_AS_IS:
        value = getattr(request, name)
        if value is not None:
            body[name] = value
    if request.n > 1:
        body["n"] = request.n
    if request.tools is not None:
        body["tools"] = [_tool(tool) for tool in request.tools]
    if request.tool_choice is not None:
        choice = request.tool_choice
        body["tool_choice"] = choice if isinstance(choice, str) else choice.model_dump()
    if request.response_format is not None:
        body["response_format"] = request.response_format.model_dump(by_alias=True, exclude_none=True)
    if request.grammar is not None:
        body["grammar"] = request.grammar.model_dump(by_alias=True, exclude_none=True)
    if continues:
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    body["stream"] = True
    body["stream_options"] = {"include_usage": True}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _message(message: MessageParam, *, thoughts: bool) -> dict[str, Any]:
    content = message.content
    fields: dict[str, Any] = {
        "role": message.role,
        "content": [part.model_dump(exclude_none=True) for part in content] if isinstance(content, list) else content,
    }
    if message.name is not None:
        fields["name"] = message.name
    if isinstance(message, ToolMessageParam):
        fields["tool_call_id"] = message.tool_call_id
    if isinstance(message, AssistantMessageParam):
        if message.refusal is not None:
            fields["refusal"] = message.refusal
        if message.reasoning_content is not None and thoughts:
            fields["reasoning_content"] = message.reasoning_content
        if message.tool_calls:
            fields["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.function.name, "arguments": call.function.arguments},
                }
                for call in message.tool_calls
            ]
    return fields


def _tool(tool: ToolParam) -> dict[str, Any]:
    return {"type": "function", "function": tool.function.model_dump(exclude_none=True)}
