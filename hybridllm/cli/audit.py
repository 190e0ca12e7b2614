"""``hybridllm audit``: check an audit log, and look at its end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hybridllm.cli.app import app, command
from hybridllm.cli.exit_codes import ExitCode
from hybridllm.cli.mistakes import CommandError
from hybridllm.cli.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["group", "tail", "verify"]

_HELP = """Check an audit log, or look at its end.

\b
Examples:
  hybridllm audit verify
  hybridllm audit tail --follow
"""

_WRONG = 1
"""The exit status of ``verify`` for a log with which something is wrong."""

_WIDTHS = {
    "time": 20, "event": 7, "label": 8, "rule": 16, "place": 7, "zone": 8, "outcome": 21, "bytes": 7, "seconds": 7,
    "request": 41,
}  # fmt: skip
_NUMBERS = ("bytes", "seconds")
_LEFT_OUT = ("request", "zone", "seconds", "rule")
"""The columns that a narrow terminal does without, in this order."""

Folder = Annotated[
    str | None,
    typer.Argument(metavar="FOLDER", help="The log's folder.", show_default="audit in the platform's state folder"),
]

group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=_HELP)
app.add_typer(group, name="audit")


@command(group, "verify", "Say whether an audit log is whole and unchanged.")
def verify(
    folder: Folder = None,
    key_file: Annotated[
        str | None,
        typer.Option(help="The log's key. [default: audit.key in the platform's state folder]", metavar="FILE"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say whether an audit log is whole and unchanged; each finding is one line, FILE:LINE: MESSAGE.

    Ends with exit code 0 if nothing is wrong, 1 if something is, and 2 if the log or its key cannot be read.

    \b
    Examples:
      hybridllm audit verify
      hybridllm audit verify /var/log/kiosk --key-file /run/secrets/audit.key --json
    """
    from hybridllm.audit import default_folder, verify_audit
    from hybridllm.errors import AuditError

    terminal = Terminal()
    try:
        report = verify_audit(default_folder() if folder is None else folder, key_file=key_file)
    except AuditError as error:
        raise CommandError(str(error)) from None
    if as_json:
        terminal.line(json.dumps(report.to_dict(), ensure_ascii=False))
    else:
        for finding in report.findings:
            terminal.line(str(finding), "red")
        for note in report.notes:
            terminal.line(note, "yellow")
        lines = sum(file.lines for file in report.files)
        counted = f"{lines} lines in {len(report.files)} files, numbers {report.first_seq} to {report.last_seq}"
        if report.ok:
            terminal.line(f"{report.folder}: fine: {counted}", "green")
        elif report.files:
            terminal.line(f"{report.folder}: {len(report.findings)} findings: {counted}", "bold")
    if not report.ok:
        raise typer.Exit(_WRONG)


@command(group, "tail", "Show an audit log's last records.")
def tail(
    folder: Folder = None,
    count: Annotated[int, typer.Option("-n", "--lines", min=0, metavar="N", help="How many records.")] = 10,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with every further record, until Ctrl-C.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a record, as in the log.")] = False,
) -> None:
    """Show an audit log's last records, oldest first, one a line; nothing is checked and no key is needed.

    \b
    Examples:
      hybridllm audit tail -n 50
      hybridllm audit tail --follow
      hybridllm audit tail --json | jq 'select(.event == "egress")'
    """
    from hybridllm import audit
    from hybridllm.errors import AuditError

    terminal = Terminal()
    where = audit.default_folder() if folder is None else folder
    try:
        if as_json:
            for record in audit.follow(where, count) if follow else audit.tail(where, count):
                terminal.line(json.dumps(record, ensure_ascii=False))
        else:
            _show(terminal, audit.follow(where, count) if follow else audit.tail(where, count))
    except AuditError as error:
        raise CommandError(str(error), ExitCode.USAGE) from None


def _show(terminal: Terminal, records: Iterable[dict[str, Any]]) -> None:
    columns, short = _columns(terminal), terminal.fancy
    terminal.line(_row(columns, {column: column for column in columns}, short=short), "bold")
    for record in records:
        if record["event"] == "unreadable":
            terminal.line(f"{record['file']}:{record['line']}: unreadable", "red")
        elif record["event"] == "recovered":
            start = _row(("time", "event"), _cells(record), short=False)
            terminal.line(f"{start}  {record.get('dropped_bytes')} bytes of an unfinished line were dropped", "yellow")
        else:
            terminal.line(_row(columns, _cells(record), short=short), _style(record))


def _columns(terminal: Terminal) -> tuple[str, ...]:
    columns = tuple(_WIDTHS)
    for column in _LEFT_OUT:
        if not terminal.fancy or sum(_WIDTHS[kept] + 2 for kept in columns) - 2 <= terminal.out.width:
            break
        columns = tuple(kept for kept in columns if kept != column)
    return columns


def _cells(record: dict[str, Any]) -> dict[str, Any]:
    seconds = record.get("duration_s")
    return {
        **record,
        "time": f"{str(record.get('time'))[:19]}Z",
        "bytes": record.get("body_bytes" if record["event"] == "egress" else "egress_bytes"),
        "seconds": f"{seconds:.2f}" if isinstance(seconds, int | float) else None,
        "request": record.get("request_id"),
    }


def _row(columns: Iterable[str], cells: dict[str, Any], *, short: bool) -> str:
    row = []
    for column in columns:
        width = _WIDTHS[column]
        text = "-" if cells.get(column) in (None, "") else str(cells[column])
        if short and len(text) > width:
            text = f"{text[: width - 1]}…"
        row.append(f"{text:{'>' if column in _NUMBERS else '<'}{width}}")
    return "  ".join(row).rstrip()


def _style(record: dict[str, Any]) -> str:
    if record["event"] == "egress":
        return "cyan"
    return "" if record.get("outcome") == "served" else "yellow"
