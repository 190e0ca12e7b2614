"""What places can be able to do: one word for each field that not every place understands."""

from __future__ import annotations

from typing import Final

__all__ = [
    "CAPABILITIES",
    "EXTENDED_SAMPLING",
    "OPENAI_CAPABILITIES",
    "REASONING_CONTENT",
    "TOOLS",
    "TOOL_CHOICE",
    "VISION",
]

EXTENDED_SAMPLING: Final = "extended_sampling"
"""Capability that a place needs for ``top_k``, ``min_p`` and ``repetition_penalty``, which OpenAI does not have."""

TOOLS: Final = "tools"
"""Capability for tools, and for messages that call them or bring their results."""

TOOL_CHOICE: Final = "tool_choice"
"""Capability to force a call: ``tool_choice`` ``required``, or one that names a function."""

VISION: Final = "vision"
"""Capability for pictures in messages."""

REASONING_CONTENT: Final = "reasoning_content"
"""What a remote is declared to have that wants ``reasoning_content`` of earlier messages back. No request needs it."""

OPENAI_CAPABILITIES: Final = frozenset({TOOLS, TOOL_CHOICE, "response_format", "logprobs", "logit_bias", "n"})
"""What a server is taken to have because OpenAI's has it, unless it is said to lack it."""

CAPABILITIES: Final = OPENAI_CAPABILITIES | {
    EXTENDED_SAMPLING, VISION, "min_tokens", "stop_token_ids", "grammar", "prompt_logprobs", "chat_template_kwargs",
}  # fmt: skip
"""Every word that a request can need."""
