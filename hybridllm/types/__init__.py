"""The shapes of OpenAI's chat completions, as far as they are supported, plus the route that an answer took."""

from hybridllm.types.chat_completion import ChatCompletion, Choice
from hybridllm.types.chat_completion_chunk import ChatCompletionChunk, ChoiceDelta, ChunkChoice
from hybridllm.types.chat_completion_message import ChatCompletionMessage
from hybridllm.types.chat_request import ChatRequest, StreamOptions
from hybridllm.types.completion_usage import CompletionUsage, PromptTokensDetails
from hybridllm.types.message_param import (
    AssistantMessageParam,
    DeveloperMessageParam,
    MessageParam,
    SystemMessageParam,
    TextPartParam,
    UserMessageParam,
)
from hybridllm.types.route import Attempt, Handover, Route

__all__ = [
    "AssistantMessageParam",
    "Attempt",
    "ChatCompletion",
    "ChatCompletionChunk",
    "ChatCompletionMessage",
    "ChatRequest",
    "Choice",
    "ChoiceDelta",
    "ChunkChoice",
    "CompletionUsage",
    "DeveloperMessageParam",
    "Handover",
    "MessageParam",
    "PromptTokensDetails",
    "Route",
    "StreamOptions",
    "SystemMessageParam",
    "TextPartParam",
    "UserMessageParam",
]
