"""``hybridllm doctor``: what is there, what is missing, and how to mend it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hybridllm.cli import options  # noqa: TC001 - typer reads the annotations at run time
from hybridllm.cli.app import app, command, services_of
from hybridllm.cli.client_options import ClientOptions
from hybridllm.cli.engine_options import engine_options
from hybridllm.cli.exit_codes import ExitCode
from hybridllm.cli.mistakes import CommandError
from hybridllm.cli.terminal import Terminal, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hybridllm.cli.client_options import OpenClient
    from hybridllm.cli.doctor_checks import Finding
    from local_runtime.options import LoadOptions

__all__ = ["doctor"]

_STYLES = {"fine": "green", "warning": "yellow", "failing": "red"}


@command(app, "doctor", "Say what is fine and what needs mending.")
def doctor(
    context: typer.Context,
    model: options.Model = None,
    quant: options.Quant = None,
    target: options.Target = None,
    threads: options.Threads = None,
    policy: options.PolicyOption = None,
    remote_url: options.RemoteUrl = None,
    remote_model: options.RemoteModel = None,
    config: options.Config = None,
    cache_dir: options.CacheDir = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Do not load the model and let it answer, which may have to compile it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    plain: options.Plain = False,
    quiet: options.Quiet = False,
) -> None:
    """Look at everything that an answer needs; say of each thing that it is fine, or how to mend it.

    Ends with exit code 0 if this device can answer, 5 if it cannot, and 3 if the configuration file cannot be used.

    \b
    Examples:
      hybridllm doctor
      hybridllm doctor --quick --json
      hybridllm doctor --model ~/models/Llama-3.2-1B-Instruct --remote-url https://llm.example/v1 --remote-model large
    """
    terminal = Terminal(plain=plain, quiet=quiet)
    for name, value in (("--model", model), ("--config", config)):
        if value is not None and not value.strip():
            raise CommandError(f"{name} is empty. Name one, or leave it out.")
    configured, mistake = _configured(config)
    wanted = engine_options(
        model=model or configured.get("model"),
        quant=quant or configured.get("quant"),
        target=target or configured.get("target"),
        threads=threads or configured.get("threads"),
        context_tokens=configured.get("context_tokens"),
        cache_dir=cache_dir or configured.get("cache_dir"),
    )
    if "max_sequences" in configured:
        wanted = replace(wanted, max_sequences=configured["max_sequences"])
    client_options = ClientOptions(policy=policy, remote_url=remote_url, remote_model=remote_model, config=config)
    findings = []
    opener = services_of(context).open_client
    for finding in _findings(terminal, wanted, client_options, opener, mistake=mistake, quick=quick):
        findings.append(finding)
        if not as_json:
            _print(terminal, finding)
    can_serve = all(finding.status != "failing" for finding in findings)
    if as_json:
        record = {"can_serve": can_serve, "findings": [asdict(finding) for finding in findings]}
        terminal.line(json.dumps(record, ensure_ascii=False))
    else:
        terminal.line("This device can answer." if can_serve else "This device cannot answer yet.", "bold")
    if not can_serve:
        raise typer.Exit(ExitCode.CANNOT_SERVE if mistake is None else ExitCode.CONFIG)


def _configured(config: str | None) -> tuple[dict[str, Any], Finding | None]:
    """What the configuration file says; the finding if it cannot be used."""
    if config is None:
        return {}, None
    from hybridllm.cli.doctor_checks import Finding
    from hybridllm.config import load_config
    from hybridllm.errors import ConfigError

    try:
        return load_config(config), None
    except ConfigError as error:
        return {}, Finding("configuration", "failing", error.message, error.mend)


def _findings(
    terminal: Terminal,
    wanted: LoadOptions,
    client_options: ClientOptions,
    opener: OpenClient,
    *,
    mistake: Finding | None,
    quick: bool,
) -> Iterator[Finding]:
    """The findings in the order of the report, each as soon as it is known."""
    from hybridllm.cli import doctor_checks as checks
    from hybridllm.cli.progress import LoadProgress
    from local_runtime.paths import cache_folder

    yield checks.python_finding()
    yield from checks.probe_findings()
    yield checks.memory_finding()
    tvm = checks.tvm_findings()
    yield from tvm
    cache = checks.cache_finding(cache_folder(wanted.cache_dir))
    yield cache
    if mistake is not None:  # nobody knows which model, policy and remote were meant
        yield mistake
        return
    model = checks.model_finding(wanted.model)
    yield model
    if not quick and all(finding.status != "failing" for finding in (*tvm, cache, model)):
        with LoadProgress(terminal) as progress:
            engine = checks.engine_finding(wanted, progress)
        yield engine
    yield from checks.configuration_findings(client_options, opener)


def _print(terminal: Terminal, finding: Finding) -> None:
    terminal.line(f"{finding.name + ':':<24}{finding.status}: {printable(finding.detail)}", _STYLES[finding.status])
    if finding.mend:
        terminal.line(f"{'':<24}{finding.mend}")
