"""A request in the engine's words, and which requests the engine can serve."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from hybridllm.capabilities import CAPABILITIES, TOOL_CHOICE, VISION
from hybridllm.types.message_param import AssistantMessageParam, ToolMessageParam
from hybridllm.types.tool_param import NamedToolChoice

if TYPE_CHECKING:
    from hybridllm.backends.base import BackendCall
    from hybridllm.types.chat_request import ChatRequest
    from local_runtime.options import GenerateRequest

__all__ = ["engine_capabilities", "engine_messages", "engine_request", "engine_tools"]

_SAMPLING = (
    "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty", "seed",
)  # fmt: skip
_BY_GRAMMAR = frozenset({"response_format", "grammar", TOOL_CHOICE})


@cache
def engine_capabilities() -> frozenset[str]:
    """What the engine can do, whatever the model: everything but pictures, and grammars only with the package that reads them."""
    able = CAPABILITIES - {VISION}
    return able if find_spec("llguidance") is not None else able - _BY_GRAMMAR


def engine_messages(request: ChatRequest) -> list[dict[str, Any]]:
    """Messages as chat templates know them: a developer is a system, a refusal is what the assistant said."""
    messages = []
    for message in request.messages:
        fields: dict[str, Any] = {
            "role": "system" if message.role == "developer" else message.role,
            "content": message.text or getattr(message, "refusal", None) or "",
        }
        if message.name:
            fields["name"] = message.name
        if isinstance(message, ToolMessageParam):
            fields["tool_call_id"] = message.tool_call_id
        if isinstance(message, AssistantMessageParam):
            if message.reasoning_content:
                fields["reasoning_content"] = message.reasoning_content
            if message.tool_calls:
                fields["tool_calls"] = [call.model_dump() for call in message.tool_calls]
        messages.append(fields)
    return messages


def engine_tools(request: ChatRequest) -> list[dict[str, Any]]:
    """The tools in OpenAI's shape, without their labels."""
    return [tool.model_dump(exclude={"privacy"}, exclude_none=True) for tool in request.tools or ()]


def engine_request(call: BackendCall) -> GenerateRequest:
    """What the engine is asked in an attempt.

    Raises:
        InvalidRequestError: The engine cannot serve it; it says why.
    """
    from local_runtime.options import GenerateRequest, SamplingOptions

    request = call.request
    sampling = {name: getattr(request, name) for name in _SAMPLING if getattr(request, name) is not None}
    choice = request.tool_choice
    named = choice.function.name if isinstance(choice, NamedToolChoice) else None
    # Where the answer has to be a call, nothing is left of it that could have another form.
    form = None if request.must_call else request.grammar or request.response_format
    return GenerateRequest(
        messages=engine_messages(request),
        sampling=SamplingOptions(**sampling),
        max_tokens=request.token_limit,
        min_tokens=request.min_tokens or 0,
        stop=tuple(request.stop or ()),
        stop_token_ids=tuple(request.stop_token_ids or ()),
        logit_bias=request.logit_bias or {},
        logprobs=(request.top_logprobs or 0) if request.logprobs else None,
        prompt_logprobs=request.prompt_logprobs,
        grammar=None if form is None else form.as_grammar(),
        tools=engine_tools(request),
        tool_choice="required" if named is not None else choice or "auto",  # type: ignore[arg-type]  # one of the three words
        callable_tools=() if named is None else (named,),
        parallel_tool_calls=request.parallel_tool_calls is not False,
        chat_template_kwargs=request.chat_template_kwargs or {},
        answer_begun=call.begun,
        conversation=call.conversation,
    )
