"""A request with a text of its own in every place that can hold one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from hybridllm.types import ChatRequest

# What stands in a body without being anybody's text.
STRUCTURE = frozenset({
    "m", "system", "developer", "user", "assistant", "tool", "text", "image_url", "function", "json_schema", "object", "string",
    "lark", "high",
})  # fmt: skip
PLAIN: dict[str, Any] = {
    "min_tokens": 1, "max_completion_tokens": 9, "temperature": 0.5, "top_p": 0.5, "top_k": 3, "min_p": 0.1, "repetition_penalty": 1.5,
    "frequency_penalty": 0.5, "presence_penalty": 0.5, "logit_bias": {"17": -5}, "seed": 7, "stop_token_ids": [17], "logprobs": True,
    "top_logprobs": 2, "prompt_logprobs": 2, "parallel_tool_calls": False, "n": 2, "stream": True,
    "stream_options": {"include_usage": True},
}  # fmt: skip
"""Every field that holds no text, with a value that is not what happens anyway; ``max_tokens`` is the other name of one."""


def everything_asked(text: Callable[[], str], **more: Any) -> ChatRequest:
    """A request in which every place that can hold a text holds a new one.

    Args:
        text: Gives them; each has to be a word that can be a name.
        more: Further fields; ``grammar`` takes the place of the response format and of the choice of a tool.
    """
    called, asked_for = text(), text()
    calls = [
        {
            "id": called,
            "type": "function",
            "function": {"name": text(), "arguments": json.dumps({text(): [{"x": text()}]})},
        },
        {"id": asked_for, "type": "function", "function": {"name": text(), "arguments": text()}},
    ]
    messages = [
        {"role": "system", "content": text(), "name": text()},
        {"role": "developer", "content": text()},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": text()},
                {"type": "image_url", "image_url": {"url": f"https://x.example/{text()}.png", "detail": "high"}},
                {"type": "text", "text": text()},
            ],
        },
        {"role": "assistant", "content": text(), "refusal": text(), "name": text(), "reasoning_content": text()},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": asked_for, "content": [{"type": "text", "text": text()}]},
        {"role": "tool", "tool_call_id": called, "content": text(), "name": text()},
        {"role": "assistant", "content": None, "refusal": text()},
    ]
    chosen = text()
    schema = {
        "type": "object",
        "title": text(),
        "properties": {text(): {"type": "string", "enum": [text()], "default": text(), "examples": [{text(): text()}]}},
        "$defs": {text(): {"description": text()}},
    }
    fields: dict[str, Any] = {
        "stop": [text(), text()],
        "user": text(),
        "tools": [
            {"type": "function", "function": {"name": chosen, "description": text(), "parameters": schema}},
            {"type": "function", "function": {"name": text()}},
        ],
        "metadata": {text(): text()},
        "chat_template_kwargs": {text().replace("-", "_"): [text(), {text(): 1}]},
    }
    if "grammar" in more:
        more["grammar"] = {"type": "lark", "text": text()}
    else:
        fields["tool_choice"] = {"type": "function", "function": {"name": chosen}}
        fields["response_format"] = {
            "type": "json_schema",
            "json_schema": {
                "name": text(),
                "description": text(),
                "schema": {"properties": {text(): {"const": text()}}},
            },
        }
    return ChatRequest.parse(messages, **fields, **more)


def strings_in(value: Any) -> Iterator[str]:
    """Every text in a JSON value but the names of fields."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings_in(item)
