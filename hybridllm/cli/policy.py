"""``hybridllm policy``: check a policy file, ask a policy what it would decide, and print the language's schema."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hybridllm.cli import options  # noqa: TC001 - typer reads the annotations at run time
from hybridllm.cli.app import app, command, services_of
from hybridllm.cli.client_options import ClientOptions
from hybridllm.cli.exit_codes import ExitCode
from hybridllm.cli.mistakes import CommandError
from hybridllm.cli.terminal import Terminal

if TYPE_CHECKING:
    from hybridllm import Explanation
    from hybridllm.errors import PolicyError
    from policies import Facts, PolicyFileError

__all__ = ["check", "explain", "group", "path_or_preset", "schema"]

_HELP = """Check a policy, or ask what it would decide.

\b
Examples:
  hybridllm policy check kiosk.yaml
  hybridllm policy verify kiosk.yaml
  hybridllm policy explain "Hello" --policy kiosk --privacy public
  hybridllm policy schema > policy.schema.json
"""

_MAX_FACTS_BYTES = 1 << 20

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
    from hybridllm.errors import PolicyError
    from hybridllm.policy import check_detectors
    from policies import PolicyFileError, load_policy

    terminal = Terminal()
    records: list[dict[str, Any]] = []
    for file in files:
        try:
            policy = load_policy(path_or_preset(file), places=tuple(place or ["remote"]))
            check_detectors(policy)
        except (PolicyFileError, PolicyError) as error:
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
    message: Annotated[
        str | None, typer.Argument(help="The message whose way is asked for. [default: Hello]", show_default=False)
    ] = None,
    policy: options.PolicyOption = None,
    facts: Annotated[
        str | None,
        typer.Option(
            metavar="JSON|@FILE|-",
            help="Explain the decision for these facts, in the place of a message; a missing one is unknown.",
        ),
    ] = None,
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
      hybridllm policy explain --policy kiosk --facts '{"label": "public", "connectivity": "online"}'
    """
    from hybridllm.cli.decision_report import explanation_lines

    terminal = Terminal()
    if facts is not None:
        beside = {
            "a message": message,
            "--privacy": privacy,
            "--tag": tag,
            "--remote-url": remote_url,
            "--remote-model": remote_model,
            "--offline": offline or None,
            "--config": config,
        }
        given = [name for name, value in beside.items() if value is not None]
        if given:
            raise CommandError(f"--facts is given beside {given[0]}. The facts say it all, so leave that out.")
        explanation = _explain_facts(policy, facts)
    else:
        opener = services_of(context).open_client
        wanted = ClientOptions(
            policy=policy, remote_url=remote_url, remote_model=remote_model, offline=offline, config=config
        )
        with opener(wanted, None) as client:
            explanation = client.explain(
                messages=[{"role": "user", "content": "Hello" if message is None else message}],
                privacy=privacy,
                tags=tuple(tag or ()),
            )
    if as_json:
        terminal.line(json.dumps(explanation.to_dict(), ensure_ascii=False))
        return
    for line in explanation_lines(explanation):
        terminal.line(line)


@command(group, "schema", "Print the JSON Schema of policy files.")
def schema(
    place: Annotated[
        list[str] | None,
        typer.Option(
            help="A place besides local that routes may name. May be repeated. [default: remote]", metavar="NAME"
        ),
    ] = None,
) -> None:
    """Print the JSON Schema of policy files, with which an editor completes, explains and checks them.

    \b
    Examples:
      hybridllm policy schema > policy.schema.json
      hybridllm policy schema --place remote --place site-server > policy.schema.json
    """
    from policies.json_schema import policy_schema_json

    Terminal().write(policy_schema_json(tuple(place or ["remote"])))


def _explain_facts(policy: str | None, given: str) -> Explanation:
    """The decision for facts; no client is made."""
    from hybridllm.explanation import Explanation
    from policies import LOCAL, load_policy

    facts = _facts_from(given)
    # The facts say which places there are, so the policy's routes may name them.
    places = ("remote", *(place.name for place in facts.places if place.name != LOCAL))
    return Explanation.of_facts(load_policy(path_or_preset(policy or "offline-first"), places=places), facts)


def _facts_from(given: str) -> Facts:
    from policies import FACT_KINDS, FactError, Facts
    from policies.yaml_document import did_you_mean

    try:
        values = json.loads(_read_facts(given), parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise CommandError(
            f"--facts is not JSON: {error.msg} in line {error.lineno}, column {error.colno}. "
            """Write an object such as '{"label": "public", "connectivity": "online"}'."""
        ) from None
    except (ValueError, RecursionError):
        raise CommandError("--facts is not JSON: it has a number that JSON has not, or is nested too deeply.") from None
    try:
        return Facts.from_dict(values)
    except FactError as error:
        names = values if isinstance(values, dict) else {}
        unknown = next((name for name in names if name not in FACT_KINDS and name != "places"), None)
        mend = did_you_mean(unknown, (*FACT_KINDS, "places")) if unknown is not None else ""
        raise CommandError(f"--facts: {error} {mend}".strip()) from None


def _read_facts(given: str) -> str:
    if given != "-" and not given.startswith("@"):
        return given
    name = "Standard input" if given == "-" else given[1:]
    try:
        if given == "-":
            raw = sys.stdin.buffer.read(_MAX_FACTS_BYTES + 1)
        else:
            with Path(name).open("rb") as stream:
                raw = stream.read(_MAX_FACTS_BYTES + 1)
    except (OSError, ValueError) as error:  # a ValueError is a path with a null character
        reason = getattr(error, "strerror", None) or "the path is not valid"
        raise CommandError(f"{name} cannot be read: {reason}. Check the path.") from None
    if len(raw) > _MAX_FACTS_BYTES:
        raise CommandError(f"{name} is larger than 1 MiB. Facts are one small object.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CommandError(f"{name} is not UTF-8. Save it as UTF-8.") from None


def _refuse_constant(_name: str) -> float:
    raise ValueError


def path_or_preset(file: str) -> str | Path:
    """A preset's name as it is, unless a file has it too; everything else is a path."""
    from policies import preset_names

    return file if file in preset_names() and not Path(file).exists() else Path(file)


def _finding(file: str, error: PolicyFileError | PolicyError) -> dict[str, Any]:
    from policies import PolicyFileError

    return {
        "file": file,
        "ok": False,
        "line": error.line,
        "column": error.column,
        "key": error.key,
        "message": error.problem if isinstance(error, PolicyFileError) else error.message,
        "mend": error.mend,
    }
