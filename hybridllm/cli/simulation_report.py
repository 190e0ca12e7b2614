"""A simulation's report for a person: a table with the old and the new, a chart, and what became of which requests."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from hybridllm.cli.route_report import place_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hybridllm.cli.terminal import Terminal
    from hybridllm.simulation import Side, SimulationReport, Transition

__all__ = ["print_report"]

_BAR_COLUMNS = 40
_TRANSITIONS_SHOWN = 20
_OLD_STYLE, _NEW_STYLE = "dim", "cyan"

_Row = tuple[str, ...]


def print_report(report: SimulationReport, terminal: Terminal) -> None:
    """Write the report to standard output."""
    old_name = "happened" if report.against == "happened" else "recorded"
    for line in _head_lines(report):
        terminal.line(line)
    terminal.line()
    _table(terminal, ("", old_name, "new", "change"), _compared_rows(report))
    for title, old, new in (
        ("Requests by the place asked first", _named(report.old.places), _named(report.new.places)),
        ("Requests by rule", report.old.rules, report.new.rules),
    ):
        terminal.line()
        terminal.line(title, "bold")
        _chart(terminal, old_name, old, new, report.requests)
    if report.transitions:
        terminal.line()
        terminal.line("What would change", "bold")
        shown = report.transitions[:_TRANSITIONS_SHOWN]
        _table(terminal, ("rule", "place", "could leave", "requests"), [_transition_row(row) for row in shown])
        if len(report.transitions) > len(shown):
            terminal.line(f"and {len(report.transitions) - len(shown)} more, see --json")


def _head_lines(report: SimulationReport) -> list[str]:
    recorded = ", ".join(f"{_short(policy)}: {count}" for policy, count in report.recorded_policies.items())
    lines = [
        f"Policy:      {_short(f'{report.policy} {report.policy_hash}')}",
        f"Requests:    {report.requests} (decided by {recorded})",
        f"Replay:      {_replay_words(report)}",
        f"Changes:     {report.changed_place} requests would go to another place; {report.newly_leave} could newly leave "
        f"the device, {report.no_longer_leave} no longer",
    ]
    if report.unknown_labels:
        lines.append(
            f"Labels:      {report.unknown_labels} requests have a label that this policy does not know; they count as its "
            "top label"
        )
    return lines


def _short(policy: str) -> str:
    name, _, digest = policy.rpartition(" ")
    return f"{name} {digest[:12]}"


def _replay_words(report: SimulationReport) -> str:
    replay = report.replay
    if not replay.compared:
        return "none of them was decided by this policy"
    words = f"{replay.identical} of {replay.compared} identical"
    if replay.moved:
        words += f", {replay.moved} the same but for the file or line of the rule"
    if replay.differing:
        lines = ", ".join(map(str, replay.differing_lines))
        more = " and more" if replay.differing > len(replay.differing_lines) else ""
        words += f", {replay.differing} DIFFERENT, in line {lines}{more} of the log"
    return words


def _named(places: Mapping[str, int]) -> dict[str, int]:
    return {_place(place): count for place, count in places.items()}


def _place(place: str) -> str:
    return place_words(place) if place else "nobody"


def _compared_rows(report: SimulationReport) -> list[_Row]:
    old, new, requests = report.old, report.new, report.requests
    rows: list[_Row] = []
    for place in _either(old.places, new.places):
        first = old.places.get(place, 0), new.places.get(place, 0)
        rows.append(_shares(f"Asked first: {_place(place)}", *first, requests))
    for rule in _either(old.rules, new.rules):
        rows.append(_shares(f"Rule: {rule}", old.rules.get(rule, 0), new.rules.get(rule, 0), requests))
    rows.append(_shares("Could leave the device", old.could_leave, new.could_leave, requests))
    if old.redacted or new.redacted:
        rows.append(_shares("Could leave redacted", old.redacted, new.redacted, requests))
    for name, before_s, after_s in (
        ("Latency, median", old.latency.median_s, new.latency.median_s),
        ("Latency, 95 of 100 within", old.latency.p95_s, new.latency.p95_s),
    ):
        change = "" if before_s is None or after_s is None else f"{after_s - before_s:+.2f} s"
        rows.append((name, _seconds(before_s), _seconds(after_s), change))
    if old.latency.unknown or new.latency.unknown:
        rows.append(_counts("Latency unknown", old.latency.unknown, new.latency.unknown))
    for place in _either(old.tokens, new.tokens):
        rows.append(_counts(f"Prompt tokens: {_place(place)}", *(_tokens(side, place)[0] for side in (old, new))))
        rows.append(_counts(f"Generated tokens: {_place(place)}", *(_tokens(side, place)[1] for side in (old, new))))
        without = [_tokens(side, place)[2] for side in (old, new)]
        if any(without):
            rows.append(_counts(f"Length unknown: {_place(place)}", *without))
    if old.cost is not None and new.cost is not None:
        rows.append(("Cost at the remote", f"{old.cost:.4f}", f"{new.cost:.4f}", f"{new.cost - old.cost:+.4f}"))
    return rows


def _either(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    return list(dict.fromkeys((*old, *new)))


def _tokens(side: Side, place: str) -> tuple[int, int, int]:
    tokens = side.tokens.get(place)
    return (0, 0, 0) if tokens is None else (tokens.prompt, tokens.completion, tokens.unknown)


def _shares(name: str, old: int, new: int, requests: int) -> _Row:
    return (name, f"{old} ({old / requests:.1%})", f"{new} ({new / requests:.1%})", f"{new - old:+d}")


def _counts(name: str, old: int, new: int) -> _Row:
    return (name, str(old), str(new), f"{new - old:+d}")


def _seconds(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f} s"


def _transition_row(row: Transition) -> _Row:
    leaves = "newly" if row.newly_leaves else "no longer" if row.no_longer_leaves else "as before"
    old_place, new_place = _place(row.old_place), _place(row.new_place)
    return (
        row.old_rule if row.old_rule == row.new_rule else f"{row.old_rule} -> {row.new_rule}",
        old_place if old_place == new_place else f"{old_place} -> {new_place}",
        leaves,
        str(row.requests),
    )


def _table(terminal: Terminal, header: _Row, rows: Sequence[_Row]) -> None:
    """Numbers stand right; on a terminal Rich draws it, elsewhere columns of spaces do."""
    numeric = [all(row[column][:1] in "+-0123456789u" for row in rows) for column in range(len(header))]
    if terminal.fancy:
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="bold")
        for name, right in zip(header, numeric, strict=True):
            table.add_column(name, justify="right" if right else "left", overflow="fold")
        for row in rows:
            table.add_row(*row)
        terminal.show(table)
        return
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    for row in (header, *rows):
        cells = zip(row, widths, numeric, strict=True)
        terminal.line(
            "  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in cells).rstrip()
        )


def _chart(terminal: Terminal, old_name: str, old: Mapping[str, int], new: Mapping[str, int], requests: int) -> None:
    """Two bars for each name, one above the other; the full width is all requests."""
    block = "█" if not terminal.plain and _can_print("█") else "#"
    names = _either(old, new)
    width = max(len(name) for name in names)
    sides = ((old_name, old, _OLD_STYLE), ("new", new, _NEW_STYLE))
    side_width = max(len(side) for side, _, _ in sides)
    columns = _BAR_COLUMNS
    if terminal.fancy:
        columns = max(8, min(columns, terminal.out.width - width - side_width - len("    100.0%") - 1))
    for name in names:
        for position, (side, counts, style) in enumerate(sides):
            share = counts.get(name, 0) / requests
            bar = block * (max(1, round(share * columns)) if share else 0)
            shown = name if position == 0 or terminal.plain else ""  # lines that are read out have to stand alone
            line = f"{shown:<{width}}  {side:<{side_width}}  {bar:<{columns}} {share:6.1%}"
            terminal.line(line, style)


def _can_print(character: str) -> bool:
    try:
        character.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
