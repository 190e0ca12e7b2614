"""The shapes of OpenAI's chat completions, as far as they are supported, plus the route that an answer took."""

from hybridllm.types.chat_completion import ChatCompletion, Choice
from hybridllm.types.chat_completion_chunk import ChatCompletionChunk, ChoiceDelta, ChunkChoice
from hybridllm.types.chat_completion_message import ChatCompletionMessage
from hybridllm.types.chat_request import ChatRequest, StreamOptions
from hybridllm.types.completion_usage import CompletionTokensDetails, CompletionUsage, PromptTokensDetails
from hybridllm.types.content_part import ImagePartParam, ImageUrlParam, TextPartParam
from hybridllm.types.logprobs import ChoiceLogprobs, TokenLogprob, TopLogprob
from hybridllm.types.message_param import (
    AssistantMessageParam,
    DeveloperMessageParam,
    MessageParam,
    SystemMessageParam,
    ToolMessageParam,
    UserMessageParam,
)
from hybridllm.types.response_format import (
    GrammarParam,
    JsonSchemaParam,
    ResponseFormatJsonObject,
    ResponseFormatJsonSchema,
)
from hybridllm.types.route import Attempt, Handover, Route
from hybridllm.types.tool_call import ChoiceDeltaToolCall, ChoiceDeltaToolCallFunction, FunctionCall, ToolCall
from hybridllm.types.tool_param import FunctionParam, NamedToolChoice, ToolFunctionName, ToolParam

__all__ = [
    "AssistantMessageParam",
    "Attempt",
    "ChatCompletion",
    "ChatCompletionChunk",
    "ChatCompletionMessage",
    "ChatRequest",
    "Choice",
    "ChoiceDelta",
    "ChoiceDeltaToolCall",
    "ChoiceDeltaToolCallFunction",
    "ChoiceLogprobs",
    "ChunkChoice",
    "CompletionTokensDetails",
    "CompletionUsage",
    "DeveloperMessageParam",
    "FunctionCall",
    "FunctionParam",
    "GrammarParam",
    "Handover",
    "ImagePartParam",
    "ImageUrlParam",
    "JsonSchemaParam",
    "MessageParam",
    "NamedToolChoice",
    "PromptTokensDetails",
    "ResponseFormatJsonObject",
    "ResponseFormatJsonSchema",
    "Route",
    "StreamOptions",
    "SystemMessageParam",
    "TextPartParam",
    "TokenLogprob",
    "ToolCall",
    "ToolFunctionName",
    "ToolMessageParam",
    "ToolParam",
    "TopLogprob",
    "UserMessageParam",
]
