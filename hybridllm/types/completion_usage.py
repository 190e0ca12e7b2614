"""Token counts of one completion."""

from __future__ import annotations

from hybridllm.types.model import Model

__all__ = ["CompletionTokensDetails", "CompletionUsage", "PromptTokensDetails"]


class PromptTokensDetails(Model):
    """What the prompt's tokens were made of."""

    cached_tokens: int = 0
    """Prompt tokens whose keys and values were already in the cache."""


class CompletionTokensDetails(Model):
    """What the answer's tokens were made of."""

    reasoning_tokens: int = 0
    """Tokens that the model thought with."""


class CompletionUsage(Model):
    """Tokens that the place which answered counted with its own tokenizer."""

    prompt_tokens: int
    """Tokens of the rendered prompt, counted once however many answers there are."""

    completion_tokens: int
    """Tokens generated, of all answers together and thoughts included; the device counts an end-of-turn token as one."""

    total_tokens: int
    """The sum of both."""

    prompt_tokens_details: PromptTokensDetails | None = None
    """What the prompt's tokens were made of, where the place says so."""

    completion_tokens_details: CompletionTokensDetails | None = None
    """What the answer's tokens were made of, where the place says so."""
