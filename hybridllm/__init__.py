"""One chat interface over a language model compiled for this device and an optional one in the cloud.

    from hybridllm import HybridClient

    with HybridClient() as client:
        reply = client.chat.completions.create(messages=[{"role": "user", "content": "When do you open?"}])
        print(reply.choices[0].message.content, reply.route.served_by)

Everything is imported when it is first used, so that ``import hybridllm`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybridllm.async_client import AsyncHybridClient
    from hybridllm.backends.base import Backend
    from hybridllm.client import HybridClient
    from hybridllm.conversation import AsyncConversation, Conversation
    from hybridllm.errors import (
        AddressRefused,
        AuditError,
        BadRequest,
        BreakerOpen,
        Cancelled,
        CannotServe,
        ConfigError,
        ContentFiltered,
        ContextLengthExceeded,
        DeadlineExceeded,
        EngineError,
        HybridLLMError,
        ModelError,
        Overloaded,
        PolicyDenied,
        PolicyError,
        PolicyTightened,
        PrivacyViolation,
        RedactionFailed,
        RemoteError,
        RemoteUnreachable,
        StreamInterrupted,
    )
    from hybridllm.explanation import Explanation
    from hybridllm.health import Health
    from hybridllm.policy import load_policy
    from hybridllm.remote import Remote
    from hybridllm.streams import AsyncChatStream, ChatStream
    from hybridllm.types import (
        Attempt,
        ChatCompletion,
        ChatCompletionChunk,
        ChatCompletionMessage,
        ChatRequest,
        CompletionUsage,
        Handover,
        Route,
    )
    from policies import Decision, Facts, Place, Policy, RuleVerdict, decide

__version__ = "0.1.0"

_MODULES = {
    "hybridllm.async_client": ("AsyncHybridClient",),
    "hybridllm.backends.base": ("Backend",),
    "hybridllm.client": ("HybridClient",),
    "hybridllm.conversation": ("AsyncConversation", "Conversation"),
    "hybridllm.errors": (
        "AddressRefused", "AuditError", "BadRequest", "BreakerOpen", "Cancelled", "CannotServe", "ConfigError",
        "ContentFiltered", "ContextLengthExceeded", "DeadlineExceeded", "EngineError", "HybridLLMError", "ModelError", "Overloaded",
        "PolicyDenied", "PolicyError", "PolicyTightened", "PrivacyViolation", "RedactionFailed", "RemoteError", "RemoteUnreachable",
        "StreamInterrupted",
    ),
    "hybridllm.explanation": ("Explanation",),
    "hybridllm.health": ("Health",),
    "hybridllm.policy": ("load_policy",),
    "hybridllm.remote": ("Remote",),
    "hybridllm.streams": ("AsyncChatStream", "ChatStream"),
    "hybridllm.types": (
        "Attempt", "ChatCompletion", "ChatCompletionChunk", "ChatCompletionMessage", "ChatRequest", "CompletionUsage",
        "Handover", "Route",
    ),
    "policies": ("Decision", "Facts", "Place", "Policy", "RuleVerdict", "decide"),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "AddressRefused",
    "AsyncChatStream",
    "AsyncConversation",
    "AsyncHybridClient",
    "Attempt",
    "AuditError",
    "Backend",
    "BadRequest",
    "BreakerOpen",
    "Cancelled",
    "CannotServe",
    "ChatCompletion",
    "ChatCompletionChunk",
    "ChatCompletionMessage",
    "ChatRequest",
    "ChatStream",
    "CompletionUsage",
    "ConfigError",
    "ContentFiltered",
    "ContextLengthExceeded",
    "Conversation",
    "DeadlineExceeded",
    "Decision",
    "EngineError",
    "Explanation",
    "Facts",
    "Handover",
    "Health",
    "HybridClient",
    "HybridLLMError",
    "ModelError",
    "Overloaded",
    "Place",
    "Policy",
    "PolicyDenied",
    "PolicyError",
    "PolicyTightened",
    "PrivacyViolation",
    "RedactionFailed",
    "Remote",
    "RemoteError",
    "RemoteUnreachable",
    "Route",
    "RuleVerdict",
    "StreamInterrupted",
    "__version__",
    "decide",
    "load_policy",
]


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
