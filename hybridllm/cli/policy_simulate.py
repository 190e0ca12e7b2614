"""``hybridllm policy simulate``: what another policy would have done with recorded requests."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from hybridllm.cli import options  # noqa: TC001 - typer reads the annotations at run time
from hybridllm.cli.app import command
from hybridllm.cli.mistakes import CommandError
from hybridllm.cli.policy import group, path_or_preset
from hybridllm.cli.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hybridllm.logged_decision import LoggedDecision

__all__ = ["simulate"]

_LINE_EVERY = 50_000
_DRAWN_EVERY = 500
_DIFFERS = 1

_Ttft = Annotated[float | None, typer.Option(min=0, metavar="MS", help="Time to first token, in the log's place.")]
_Speed = Annotated[float | None, typer.Option(min=0.001, metavar="N", help="Tokens per second, in the log's place.")]


@command(group, "simulate", "Say what a policy would change for recorded requests.")
def simulate(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The policy to try: a file, or a preset's name.")],
    log: Annotated[str, typer.Argument(metavar="LOG", help="A decision log that a client wrote.")],
    against_recorded: Annotated[
        bool,
        typer.Option(
            "--against-recorded", help="Compare with who answered and how long it took, not with the decisions of then."
        ),
    ] = False,
    price_prompt: Annotated[
        float | None, typer.Option(min=0, metavar="X", help="The remote's price of a million prompt tokens.")
    ] = None,
    price_completion: Annotated[
        float | None, typer.Option(min=0, metavar="Y", help="The remote's price of a million generated tokens.")
    ] = None,
    local_ttft_ms: _Ttft = None,
    local_tokens_per_s: _Speed = None,
    remote_ttft_ms: _Ttft = None,
    remote_tokens_per_s: _Speed = None,
    place: Annotated[
        list[str] | None,
        typer.Option(
            help="A place besides local that routes may name. May be repeated. [default: remote]", metavar="NAME"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    plain: options.Plain = False,
    quiet: options.Quiet = False,
) -> None:
    """Decide recorded requests again under a policy, and say what would change: places, rules, latency, tokens, cost.

    The facts count as recorded, labels included. Under the policy that wrote the log every decision has to come out the same,
    byte for byte; one that does not ends the command with exit code 1.

    \b
    Examples:
      hybridllm policy simulate kiosk.yaml decisions.jsonl
      hybridllm policy simulate cloud-assist decisions.jsonl --price-prompt 0.15 --price-completion 0.6
    """
    from hybridllm.logged_decision import DecisionLogError, read_decision_log
    from hybridllm.simulation import Assumptions
    from hybridllm.simulation import simulate as decide_again
    from policies import load_policy

    terminal = Terminal(plain=plain, quiet=quiet)
    policy = load_policy(path_or_preset(file), places=tuple(place or ["remote"]))
    assumptions = Assumptions(
        local_ttft_ms=local_ttft_ms,
        local_tokens_per_s=local_tokens_per_s,
        remote_ttft_ms=remote_ttft_ms,
        remote_tokens_per_s=remote_tokens_per_s,
        price_prompt=price_prompt,
        price_completion=price_completion,
    )
    try:
        entries = _with_progress(read_decision_log(log), terminal)
        report = decide_again(policy, entries, assumptions, against_happened=against_recorded)
    except DecisionLogError as error:
        raise CommandError(str(error)) from None
    if not report.requests:
        raise CommandError(f"{log} has no entry. Give a client a decision_log, and let it answer something.")
    if as_json:
        terminal.line(json.dumps(asdict(report), ensure_ascii=False))
    else:
        from hybridllm.cli.simulation_report import print_report

        print_report(report, terminal)
    if report.replay.differing:
        raise typer.Exit(_DIFFERS)


def _with_progress(entries: Iterator[LoggedDecision], terminal: Terminal) -> Iterator[LoggedDecision]:
    """The same entries, while standard error says how many have been decided."""
    if terminal.quiet or not terminal.fancy_progress:
        for count, entry in enumerate(entries, start=1):
            yield entry
            if count % _LINE_EVERY == 0:
                terminal.note(f"Decided again: {count} requests...")
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("Decided again: {task.completed:.0f} requests"), TimeElapsedColumn())
    with Progress(*columns, console=terminal.err, transient=True) as progress:
        task = progress.add_task("", total=None)
        for count, entry in enumerate(entries, start=1):
            yield entry
            if count % _DRAWN_EVERY == 0:
                progress.update(task, completed=count)
