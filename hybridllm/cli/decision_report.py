"""Words for a decision that has not been carried out: where a request would go, and what each rule said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridllm.cli.route_report import place_words

if TYPE_CHECKING:
    from hybridllm import Explanation

__all__ = ["explanation_lines"]


def explanation_lines(explanation: Explanation) -> list[str]:
    """The decision and its trace, one line for each thing to know."""
    decision = explanation.decision
    candidates = ", then ".join(place_words(name) for name in decision.candidates)
    lines = [
        f"Would ask:   {candidates or 'nobody; it cannot be served'}",
        f"Rule:        {decision.rule} ({decision.location})",
        f"Label:       {decision.label}{_said_by(explanation)}",
        f"Policy:      {decision.policy_name}",
    ]
    lines += [f"Left out:    {place_words(out.place)}: {out.why}" for out in decision.struck_out]
    for verdict in explanation.trace:
        because = f", since {verdict.condition} does not hold" if verdict.condition else ""
        lines.append(f"Rule {verdict.rule} ({verdict.location}): {verdict.verdict}{because}")
    return lines


def _said_by(explanation: Explanation) -> str:
    sources = "; ".join(f"{source.said_by}: {source.label}" for source in explanation.label_sources)
    return f" ({sources})" if sources else ""
