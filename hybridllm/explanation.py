"""What would happen to a request, without asking anybody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from policies import decide

if TYPE_CHECKING:
    from hybridllm.labels import LabelSource
    from policies import Decision, Facts, Policy, RuleVerdict

__all__ = ["Explanation"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision and everything that led to it."""

    decision: Decision
    """Who would be asked, in order, and who was struck out."""

    trace: tuple[RuleVerdict, ...]
    """Every rule's verdict and the facts that it read."""

    facts: Facts
    """Everything that was known."""

    label: str
    """The request's label."""

    label_sources: tuple[LabelSource, ...]
    """Who said what about the label."""

    @classmethod
    def of_facts(cls, policy: Policy, facts: Facts, label_sources: tuple[LabelSource, ...] = ()) -> Explanation:
        """What a policy decides for facts, whoever measured or made them up; no client is needed and nothing is asked."""
        decision = decide(policy, facts)
        return cls(decision, decision.trace, facts, decision.label, label_sources)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; no content of the request is among them."""
        return {
            "decision": self.decision.to_dict(),
            "trace": [
                {
                    "rule": verdict.rule,
                    "verdict": verdict.verdict,
                    "condition": verdict.condition,
                    "facts": verdict.facts,
                    "location": verdict.location,
                }
                for verdict in self.trace
            ],
            "facts": self.facts.to_dict(),
            "label": self.label,
            "label_sources": [{"label": source.label, "said_by": source.said_by} for source in self.label_sources],
        }
