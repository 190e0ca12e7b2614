"""A policy's file that is read again while a client runs: what stands in it comes into force, all of it or nothing.

A file that can no longer be used closes every remote and says so; the device goes on answering under the labels it knew.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from hybridllm.errors import PolicyError
from hybridllm.policy import load_policy

if TYPE_CHECKING:
    from pathlib import Path

    from hybridllm.policy_in_force import PolicyInForce

__all__ = ["PolicyFile"]

_log = logging.getLogger("hybridllm.policy")


class PolicyFile:
    """Where a client's policy came from.

    Args:
        path: The file, or a preset's name.
        in_force: Where its policy is put.
        privacy_floor: The client's own label, which every policy has to know.
    """

    def __init__(self, path: str | Path, in_force: PolicyInForce, *, privacy_floor: str | None = None) -> None:
        self._path = path
        self._in_force = in_force
        self._floor = privacy_floor

    def read_again(self) -> None:
        """Put what stands there now into force."""
        was, was_problem = self._in_force.current, self._in_force.problem
        try:
            policy = load_policy(self._path)
            if self._floor is not None and self._floor not in policy.labels.rank:
                raise PolicyError(f"{self._path}: the client's privacy_floor is not one of its labels.")
        except PolicyError as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the file, nothing may leave because of it
            problem = f"{self._path}: the policy could not be read ({type(error).__name__})."
        else:
            self._in_force.replace(policy)
            if policy.hash != was.hash or was_problem:
                _log.warning("The policy %s is in force now (%s).", policy.name, policy.hash[:12])
            return
        self._in_force.close_remotes(problem)
        if problem != was_problem:
            _log.error("Nothing leaves this device until the policy is mended. %s", problem)
