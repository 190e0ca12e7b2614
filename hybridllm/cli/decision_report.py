"""Words for a decision that has not been carried out: where a request would go, and what each rule said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridllm.cli.route_report import place_words
from policies.errors import printable

if TYPE_CHECKING:
    from hybridllm import Explanation
    from policies import RuleVerdict

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
    if decision.redacted_places:
        places = ", ".join(place_words(name) for name in decision.redacted_places)
        found = ", ".join(decision.redact)
        lines.append(f"Redacted:    for {places}: {found}; what is left has the label {decision.redacted_label}")
    lines += [f"Left out:    {place_words(out.place)}: {out.why}" for out in decision.struck_out]
    lines += [_verdict_line(verdict) for verdict in explanation.trace]
    return lines


def _verdict_line(verdict: RuleVerdict) -> str:
    """A rule, what became of it, and the facts that it read."""
    line = f"Rule {verdict.rule} ({verdict.location}): {verdict.verdict}"
    if verdict.condition:
        line += f", since {verdict.condition} does not hold"
    read = ", ".join(f"{name}={_value(value)}" for name, value in verdict.facts.items())
    return f"{line}; read {read}" if read else line


def _value(value: object) -> str:
    """A fact's value as a policy would write it."""
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return printable(f"[{', '.join(map(str, value))}]")
    return f"{value:.10g}" if isinstance(value, float) else printable(str(value))


def _said_by(explanation: Explanation) -> str:
    sources = "; ".join(f"{source.said_by}: {source.label}" for source in explanation.label_sources)
    return f" ({sources})" if sources else ""
