"""The policy in force: one place that everybody asks, so that a new policy takes effect everywhere at once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from policies import Policy

__all__ = ["PolicyInForce"]


class PolicyInForce:
    """Holds a policy. Reading and replacing it are single steps, so no request ever sees a half of one.

    Args:
        policy: The policy to begin with.

    Attributes:
        replaced: How often a policy was put into force since.
        refused: How often one could not be used.
    """

    def __init__(self, policy: Policy) -> None:
        self._state: tuple[Policy, str] = (policy, "")
        self.replaced = 0
        self.refused = 0

    @property
    def current(self) -> Policy:
        """The policy in force."""
        return self._state[0]

    @property
    def problem(self) -> str:
        """Why nothing may leave the device, where a new policy could not be used; empty where all is well."""
        return self._state[1]

    def replace(self, policy: Policy) -> None:
        """Put another policy in force."""
        self.replaced += 1
        self._state = (policy, "")

    def close_remotes(self, problem: str) -> None:
        """Let nothing leave until ``replace`` is called: the same labels, detectors and rules, but no zone sees anything.

        Args:
            problem: Why, one sentence.
        """
        self.refused += 1
        self._state = (replace(self.current, zones={}, addresses={}), problem)
