"""``hybridllm policy verify``: what a policy lets leave the device, decided over all facts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hybridllm.cli import options  # noqa: TC001 - typer reads the annotations at run time
from hybridllm.cli.app import command
from hybridllm.cli.policy import group, path_or_preset
from hybridllm.cli.terminal import Terminal

if TYPE_CHECKING:
    from policies import Policy, PolicyFileError

__all__ = ["verify"]

_FINDINGS = 1
"""Exit status where something was found; a program only has to tell it from 0."""


@command(group, "verify", "Prove what policies let leave this device.")
def verify(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Policy files, or presets' names.")],
    against: Annotated[
        str | None,
        typer.Option(
            metavar="OLD", help="Another policy: find whatever a zone gets that it did not get under that one."
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail as well.")] = False,
    place: Annotated[
        list[str] | None,
        typer.Option(
            help="A place besides local that routes may name. May be repeated. [default: remote]", metavar="NAME"
        ),
    ] = None,
    max_states: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Give up after so many states, which is an error. [default: 5000000]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    plain: options.Plain = False,
) -> None:
    """Decide over all facts what policies let leave this device, and find rules that cannot be meant as they stand.

    Errors are text that reaches a zone which may not see it, broken guarantees, rules that never decide, and with --against
    whatever could not leave under OLD. Ends with exit code 0 if there is no error, else 1.

    \b
    Examples:
      hybridllm policy verify kiosk.yaml
      hybridllm policy verify kiosk.yaml --against kiosk --strict
      hybridllm policy verify policies/*.yaml --json
    """
    from hybridllm.cli.verification_report import print_unreadable, print_verification
    from policies import PolicyFileError, load_policy
    from policies import verify as verify_policy
    from policies.verification import MAX_STATES

    terminal = Terminal(plain=plain)
    places = tuple(place or ["remote"])
    records: list[dict[str, Any]] = []

    def loaded(file: str) -> Policy | None:
        try:
            return load_policy(path_or_preset(file), places=places)
        except PolicyFileError as error:
            records.append({"file": file, "ok": False, "findings": [_unreadable(error)]})
            if not as_json:
                print_unreadable(terminal, error)
            return None

    old = None if against is None else loaded(against)
    # Without the policy to compare with, a file that is fine by itself must not be called fine.
    for file in files if against is None or old is not None else ():
        policy = loaded(file)
        if policy is None:
            continue
        verification = verify_policy(policy, against=old, max_states=max_states or MAX_STATES)
        ok = verification.passes(strict=strict)
        about = {"file": file, "ok": ok, "name": policy.name, "rules": len(policy.rules), "hash": policy.hash}
        records.append(about | verification.to_dict())
        if not as_json:
            if len(records) > 1:
                terminal.line()
            print_verification(terminal, file, policy, verification, against=against, ok=ok)
    all_ok = all(record["ok"] for record in records)
    if as_json:
        terminal.line(json.dumps({"ok": all_ok, "files": records}, ensure_ascii=False))
    if not all_ok:
        raise typer.Exit(_FINDINGS)


def _unreadable(error: PolicyFileError) -> dict[str, Any]:
    return {
        "kind": "unreadable",
        "severity": "error",
        "location": error.file if error.line is None else f"{error.file}:{error.line}",
        "subject": error.key,
        "message": error.problem,
        "mend": error.mend,
        "facts": None,
        "old_facts": None,
        "request": "",
    }
