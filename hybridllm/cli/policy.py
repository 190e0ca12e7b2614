"""``hybridllm policy``: check a policy file, and ask a policy what it would decide."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hybridllm.cli import options  # noqa: TC001 - typer reads the annotations at run time
from hybridllm.cli.app import app, command, services_of
from hybridllm.cli.client_options import ClientOptions
from hybridllm.cli.exit_codes import ExitCode
from hybridllm.cli.terminal import Terminal

if TYPE_CHECKING:
    from policies import PolicyFileError

__all__ = ["check", "explain", "group"]

_HELP = """Check a policy, or ask what it would decide.

\b
Examples:
  hybridllm policy check kiosk.yaml
  hybridllm policy explain "Hello" --policy kiosk --privacy public
"""

group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=_HELP)
app.add_typer(group, name="policy")


@command(group, "check", "Say whether policy files are understood.")
def check(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Policy files, or presets' names.")],
    place: Annotated[
        list[str] | None,
        typer.Option(
            help="A place besides local that routes may name. May be repeated. [default: remote]", metavar="NAME"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say whether policy files are understood; each finding is one line, FILE:LINE:COLUMN: KEY: MESSAGE.

    \b
    Examples:
      hybridllm policy check kiosk.yaml
      hybridllm policy check policies/*.yaml --json
    """
    from policies import PolicyFileError, load_policy

    terminal = Terminal()
    records: list[dict[str, Any]] = []
    for file in files:
        try:
            policy = load_policy(_path_or_preset(file), places=tuple(place or ["remote"]))
        except PolicyFileError as error:
            records.append(_finding(file, error))
            if not as_json:
                terminal.line(str(error), "red")
        else:
            records.append(
                {"file": file, "ok": True, "name": policy.name, "rules": len(policy.rules), "hash": policy.hash}
            )
            if not as_json:
                terminal.line(f"{file}: fine: {policy.name}, {len(policy.rules)} rules")
    ok = all(record["ok"] for record in records)
    if as_json:
        terminal.line(json.dumps({"ok": ok, "files": records}, ensure_ascii=False))
    if not ok:
        raise typer.Exit(ExitCode.USAGE)


@command(group, "explain", "Say where a message would go, and why.")
def explain(
    context: typer.Context,
    message: Annotated[str, typer.Argument(help="The message whose way is asked for.")] = "Hello",
    policy: options.PolicyOption = None,
    privacy: options.Privacy = None,
    tag: options.Tag = None,
    remote_url: options.RemoteUrl = None,
    remote_model: options.RemoteModel = None,
    offline: options.Offline = False,
    config: options.Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say where a message would go and why, rule by rule; nobody is asked and nothing is sent.

    \b
    Examples:
      hybridllm policy explain "What is my blood pressure?" --tag health
      hybridllm policy explain --policy kiosk --privacy public --remote-url https://llm.example/v1 --remote-model large
    """
    from hybridllm.cli.decision_report import explanation_lines

    terminal = Terminal()
    opener = services_of(context).open_client
    wanted = ClientOptions(
        policy=policy, remote_url=remote_url, remote_model=remote_model, offline=offline, config=config
    )
    with opener(wanted, None) as client:
        explanation = client.explain(
            messages=[{"role": "user", "content": message}], privacy=privacy, tags=tuple(tag or ())
        )
    if as_json:
        terminal.line(json.dumps(explanation.to_dict(), ensure_ascii=False))
        return
    for line in explanation_lines(explanation):
        terminal.line(line)


def _path_or_preset(file: str) -> str | Path:
    from policies import preset_names

    return file if file in preset_names() and not Path(file).exists() else Path(file)


def _finding(file: str, error: PolicyFileError) -> dict[str, Any]:
    return {
        "file": file,
        "ok": False,
        "line": error.line,
        "column": error.column,
        "key": error.key,
        "message": error.problem,
        "mend": error.mend,
    }
