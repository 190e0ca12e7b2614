"""Policies as the SDK uses them: loading with the SDK's own error, and the policy that stands in where there is none."""

from __future__ import annotations

from pathlib import Path

from hybridllm.errors import PolicyError
from policies import Labels, Policy, PolicyFileError
from policies import load_policy as _load_policy

__all__ = ["DEVICE_ONLY", "check_detectors", "load_policy"]

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
        PolicyError: The file is missing, says something that is not understood, or names a detector that cannot be made here;
            says file, line and key.
    """
    if policy is None:
        return DEVICE_ONLY
    if isinstance(policy, Policy):
        check_detectors(policy)
        return policy
    if not isinstance(policy, str | Path):
        raise PolicyError(
            f"policy is a {type(policy).__name__}, expected a preset's name or a file's path.",
            'Write policy="offline-first".',
        )
    try:
        loaded = _load_policy(policy)
    except PolicyFileError as error:
        raise PolicyError(
            error.message, error.mend, file=error.file, line=error.line, column=error.column, key=error.key
        ) from None
    check_detectors(loaded)
    return loaded


def check_detectors(policy: Policy) -> None:
    """Make the detectors that may not be made on this machine: lists of words, patterns, and those that need a package.

    Raises:
        PolicyError: RE2 refuses a pattern, or a package is not installed; names file, line and key.
    """
    if not any(detector.words or detector.pattern or detector.name == "presidio" for detector in policy.detectors):
        return  # the others always can, and need not be loaded before they are used
    from hybridllm.detectors import DetectorError, detector_set

    try:
        detector_set(policy.detectors)
    except DetectorError as error:
        at = next(at for at, detector in enumerate(policy.detectors) if detector.name == error.detector)
        location = policy.detectors[at].location
        key = f"detectors[{at}]"
        file, _, line = location.rpartition(":")
        raise PolicyError(
            f"{location or policy.file or 'the policy'}: {key}: the detector {error.detector!r} {error.message}",
            error.mend,
            file=file or policy.file,
            line=int(line) if line.isdigit() else None,
            key=key,
        ) from None
