"""What a client was given, checked before anything is made of it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from hybridllm.errors import BadRequest
from hybridllm.labels import known_label
from hybridllm.remote import Remote
from hybridllm.types.message_shape import did_you_mean
from policies import Policy, preset_names

if TYPE_CHECKING:
    from hybridllm.policy_in_force import PolicyInForce
    from hybridllm.policy_watch import PolicyWatch
    from hybridllm.types.chat_request import ChatRequest

__all__ = ["bytes_of", "check_arguments", "conversation_name", "takes_long", "watched"]

_LONG_TEXT_BYTES = 32_768  # more than this is not searched in the event loop: dense figures cost some ms for each kB


def check_arguments(
    remote: object, policy: Policy, *, policy_given: bool, privacy_floor: str | None, label_memory_s: object
) -> None:
    """Check what no other class checks.

    Raises:
        BadRequest: An argument is not usable.
    """
    if remote is not None and not isinstance(remote, Remote):
        raise BadRequest(
            f"remote is a {type(remote).__name__}, expected a Remote.",
            "Write remote=Remote(base_url=…, model=…).",
            field="remote",
        )
    if isinstance(remote, Remote) and policy_given and remote.zone not in policy.zones:
        known = tuple(policy.zones)
        raise BadRequest(
            f"remote.zone is {remote.zone!r}, which the policy {policy.name!r} gives no ceiling.",
            did_you_mean(remote.zone, known) or f"Use one of {', '.join(known) or 'no remote at all'}.",
            field="remote.zone",
        )
    if privacy_floor is not None:
        known_label(privacy_floor, policy.labels, "privacy_floor")
    if not isinstance(label_memory_s, int | float) or isinstance(label_memory_s, bool) or not label_memory_s >= 0:
        raise BadRequest(
            "label_memory_s is not a number of seconds from 0 up.", "Write 3600 for an hour.", field="label_memory_s"
        )


def watched(policy: str | Path | Policy | None, in_force: PolicyInForce, privacy_floor: str | None) -> PolicyWatch:
    """Watches a policy's file.

    Raises:
        BadRequest: The policy did not come from a file.
        ConfigError: The package that watches files is not installed.
    """
    from hybridllm.policy_watch import PolicyWatch

    if not isinstance(policy, str | Path) or policy in preset_names():
        raise BadRequest(
            "watch_policy is given, and the policy is not a file.",
            "Give policy the path of a file.",
            field="watch_policy",
        )
    return PolicyWatch(policy, in_force, privacy_floor=privacy_floor)


def takes_long(policy: Policy, request: ChatRequest) -> bool:
    """Whether the detectors would keep the event loop waiting."""
    if not policy.detectors:
        return False
    from hybridllm.detectors import detector_set

    return detector_set(policy.detectors).slow or bytes_of(request) > _LONG_TEXT_BYTES


def bytes_of(request: ChatRequest) -> int:
    """About how many bytes a request's texts have."""
    return sum(64 + len(text.encode()) for _, text in request.texts())


def conversation_name(key: bytes, request: ChatRequest, dialogue: object | None) -> str:
    """A name for whose request it is, of which nothing can be read; empty where nobody said.

    Args:
        key: Secret of the client.
        request: The request, whose ``user`` counts.
        dialogue: The dialogue that it belongs to, which counts more.
    """
    if dialogue is not None:
        return f"dialogue-{id(dialogue):x}"
    if request.user is None:
        return ""
    return hashlib.blake2s(request.user.encode(), key=key, digest_size=8).hexdigest()
