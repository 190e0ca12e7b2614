"""A verification's report for a person: the findings with their counterexamples, then what may leave and what if a fact is unknown."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

from hybridllm.cli.terminal import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hybridllm.cli.terminal import Terminal
    from policies import Facts, Finding, Policy, PolicyFileError, UnknownSignal, Verification

__all__ = ["print_unreadable", "print_verification"]

_NAMES_SHOWN = 6
_STYLES = {"error": "red", "warning": "yellow", "information": "dim"}
_NOTHING = "-"


def print_unreadable(terminal: Terminal, error: PolicyFileError) -> None:
    """Write the finding of a file that is not understood."""
    terminal.line(str(error), "red")


def print_verification(
    terminal: Terminal, file: str, policy: Policy, verification: Verification, *, against: str | None, ok: bool
) -> None:
    """Write the report to standard output.

    Args:
        terminal: Where to.
        file: The policy, as the user named it.
        policy: The policy.
        verification: What was found.
        against: The policy that it was compared with, as the user named it.
        ok: Whether it passes.
    """
    for finding in verification.findings:
        _print_finding(terminal, file, finding, against)
    errors = sum(finding.severity == "error" for finding in verification.findings)
    warnings = sum(finding.severity == "warning" for finding in verification.findings)
    counted = ", ".join(_count(*one) for one in ((errors, "error"), (warnings, "warning")) if one[0])
    verdict = "fine" if ok else "fails"
    size = ", ".join(_count(*one) for one in ((len(policy.rules), "rule"), (len(policy.guarantees), "guarantee")))
    head = f"{file}: {verdict}: {policy.name}, {size}"
    terminal.line(f"{head}; {counted}" if counted else head, "green" if ok else "red")
    if any(finding.kind == "undecided" for finding in verification.findings):
        return  # tables of what was seen until then would read as if nothing else could leave
    if verification.may_leave:
        labels = policy.labels.order
        cells = {(row.zone, row.label): (row.rules, row.redacted) for row in verification.may_leave}
        rows = [
            (zone, *(_rules(*cells[zone, label]) for label in labels))
            for zone in dict.fromkeys(row.zone for row in verification.may_leave)
        ]
        terminal.line()
        terminal.line("What may leave, and by which rules", "bold")
        _table(terminal, ("zone", *labels), rows)
    if verification.unknown_signals:
        terminal.line()
        terminal.line("While a fact is unknown", "bold")
        rows = [row for signal in verification.unknown_signals for row in _signal_rows(signal)]
        _table(terminal, ("fact", "cannot match", "label", "then decides"), rows)


def _print_finding(terminal: Terminal, file: str, finding: Finding, against: str | None) -> None:
    subject = f"{finding.subject}: " if finding.subject else ""
    text = f"{finding.location}: {finding.severity}: {subject}{finding.message} {finding.mend}".rstrip()
    terminal.line(printable(text), _STYLES[finding.severity])
    if finding.severity == "information" or finding.facts is None:
        return
    if finding.request:
        terminal.line(f"  a request {finding.request}")
    shown = _as_json(finding.facts)
    terminal.line(f"  facts: {shown}")
    terminal.line(f"  hybridllm policy explain --policy {shlex.quote(file)} --facts {shlex.quote(shown)}")
    if against is not None and finding.old_facts is not None:
        old = shlex.quote(_as_json(finding.old_facts))
        terminal.line(f"  hybridllm policy explain --policy {shlex.quote(against)} --facts {old}")


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def _as_json(facts: Facts) -> str:
    # Without what is unknown anyway: this line is meant to be read, and copied.
    known = facts.to_dict()
    known["places"] = [{name: value for name, value in place.items() if value} for place in known["places"]]
    return json.dumps(known)


def _rules(whole: Sequence[str], redacted: Sequence[str]) -> str:
    return _listed([*whole, *(f"{rule} (redacted)" for rule in redacted)])


def _listed(names: Iterable[str]) -> str:
    words = list(names)
    if len(words) > _NAMES_SHOWN + 1:
        words = [*words[:_NAMES_SHOWN], f"{len(words) - _NAMES_SHOWN} more"]
    return ", ".join(words) or _NOTHING


def _signal_rows(signal: UnknownSignal) -> list[tuple[str, ...]]:
    """One row for all labels of which the same is true."""
    alike: dict[tuple[tuple[str, tuple[str, ...]], ...], list[str]] = {}
    for label, rules in signal.remaining.items():
        alike.setdefault(rules, []).append(label)
    rows: list[tuple[str, ...]] = []
    for at, (rules, labels) in enumerate(alike.items()):
        shown = _listed(f"{rule} ({', '.join(route)})" for rule, route in rules)
        whose = "any" if len(alike) == 1 and len(labels) > 1 else ", ".join(labels)
        unmatched = f"counts as {signal.counts_as}" if signal.counts_as else _listed(signal.cannot_match)
        rows.append((signal.fact if at == 0 else "", unmatched if at == 0 else "", whose, shown))
    return rows


def _table(terminal: Terminal, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """On a terminal Rich draws it; elsewhere columns of spaces do."""
    if terminal.fancy:
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in header:
            table.add_column(name, overflow="fold")
        for row in rows:
            table.add_row(*row)
        terminal.show(table)
        return
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    for row in (header, *rows):
        cells = zip(row, widths, strict=True)
        terminal.line("  ".join(cell.ljust(width) for cell, width in cells).rstrip())
