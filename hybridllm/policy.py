"""Policies as the SDK uses them: loading with the SDK's own error, and the policy that stands in where there is none."""

from __future__ import annotations

from pathlib import Path

from hybridllm.errors import PolicyError
from policies import Labels, Policy, PolicyFileError
from policies import load_policy as _load_policy

__all__ = ["DEVICE_ONLY", "load_policy"]

DEVICE_ONLY = Policy(
    name="device-only",
    labels=Labels(order=("public", "internal", "private"), unlabeled="private"),
    zones={},
    rules=(),
    default=("local",),
    description="Stands in where no policy is given: without zones nothing can leave the device.",
    file="hybridllm/policy.py",
    default_location="hybridllm/policy.py",
)
"""The policy of a client that was given none: the device answers, and no remote may see anything."""


def load_policy(policy: str | Path | Policy | None) -> Policy:
    """Load a policy from a preset's name or a YAML file; a policy that is loaded already is returned as it is.

    Args:
        policy: ``offline-first``, ``kiosk``, ``cloud-assist``, a file's path, a policy, or None for no remote at all.

    Raises:
        PolicyError: The file is missing, or says something that is not understood; names file, line, column and key.
    """
    if policy is None:
        return DEVICE_ONLY
    if isinstance(policy, Policy):
        return policy
    if not isinstance(policy, str | Path):
        raise PolicyError(
            f"policy is a {type(policy).__name__}, expected a preset's name or a file's path.",
            'Write policy="offline-first".',
        )
    try:
        return _load_policy(policy)
    except PolicyFileError as error:
        raise PolicyError(
            error.message, error.mend, file=error.file, line=error.line, column=error.column, key=error.key
        ) from None
