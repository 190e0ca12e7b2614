"""Token counts of one completion."""

from __future__ import annotations

from hybridllm.types.model import Model

__all__ = ["CompletionUsage", "PromptTokensDetails"]


class PromptTokensDetails(Model):
    """What the prompt's tokens were made of."""

    cached_tokens: int = 0
    """Prompt tokens whose keys and values were already in the cache."""


class CompletionUsage(Model):
    """Tokens that the place which answered counted with its own tokenizer."""

    prompt_tokens: int
    """Tokens of the rendered prompt."""

    completion_tokens: int
    """Tokens generated; the device counts an end-of-turn token as one."""

    total_tokens: int
    """The sum of both."""

    prompt_tokens_details: PromptTokensDetails | None = None
    """What the prompt's tokens were made of, where the place says so."""
