"""``hybridllm serve``: an OpenAI-compatible server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from hybridllm.cli import options  # noqa: TC001 - typer reads the annotations at run time
from hybridllm.cli.app import app, command, services_of
from hybridllm.cli.client_options import ClientOptions
from hybridllm.cli.exit_codes import ExitCode
from hybridllm.cli.mistakes import CommandError
from hybridllm.cli.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hybridllm.cli.client_options import OpenAsyncClient
    from hybridllm.server.api_keys import ApiKeys
    from hybridllm.server.run import Ready
    from hybridllm.server.settings import ServerSettings

__all__ = ["serve"]

_NEEDED = ("h11", "prometheus_client", "starlette", "uvicorn")


@command(app, "serve", "Serve the chat completions API over HTTP.")
def serve(
    context: typer.Context,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but a loopback address needs an API key.", metavar="ADDRESS")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.", metavar="N")
    ] = 8080,
    api_key_file: Annotated[
        list[str] | None,
        typer.Option(help="File with a key that opens the server on each line. May be repeated.", metavar="FILE"),
    ] = None,
    api_key_env: Annotated[
        list[str] | None,
        typer.Option(help="Environment variable with such a key. May be repeated.", metavar="NAME"),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(help="A name that clients may call the server by. May be repeated.", metavar="NAME"),
    ] = None,
    metrics: Annotated[
        bool | None,
        typer.Option(
            "--metrics/--no-metrics", help="Serve /metrics for Prometheus. [default: on a loopback address only]"
        ),
    ] = None,
    access_log: Annotated[
        bool,
        typer.Option("--access-log/--no-access-log", help="Log a JSON object for each request, without any content."),
    ] = True,
    max_requests: Annotated[
        int, typer.Option(min=1, help="Chat completions at the same time; one more gets 429.", metavar="N")
    ] = 64,
    max_body_mib: Annotated[int, typer.Option(min=1, help="Largest body of a request.", metavar="N")] = 4,
    ping_s: Annotated[
        float, typer.Option(min=0.1, help="Silence after which a stream gets a keep-alive.", metavar="SECONDS")
    ] = 15.0,
    drain_s: Annotated[
        float, typer.Option(min=0.0, help="Time that running answers get when the server ends.", metavar="SECONDS")
    ] = 30.0,
    model: options.Model = None,
    quant: options.Quant = None,
    target: options.Target = None,
    threads: options.Threads = None,
    context_tokens: options.ContextTokens = None,
    policy: options.PolicyOption = None,
    remote_url: options.RemoteUrl = None,
    remote_model: options.RemoteModel = None,
    offline: options.Offline = False,
    config: options.Config = None,
    plain: options.Plain = False,
    quiet: options.Quiet = False,
) -> None:
    """Serve the chat completions API over HTTP, for OpenAI's clients and whatever speaks like them.

    SIGTERM and Ctrl-C let running answers become whole, a second one ends them; SIGHUP reads the policy and the key files again.

    \b
    Examples:
      hybridllm serve
      hybridllm serve --config hybridllm.yaml --port 9000
      hybridllm serve --host 0.0.0.0 --api-key-file keys.txt --allowed-host llm.example
      hybridllm serve --policy kiosk --remote-url https://llm.example/v1 --remote-model large
    """
    if any(find_spec(name) is None for name in _NEEDED):
        raise CommandError(
            "The server needs packages that are not installed. Install them: pip install 'hybridllm[server]'.",
            ExitCode.CONFIG,
        )
    from hybridllm.server import ApiKeys, ServerSettings

    terminal = Terminal(plain=plain, quiet=quiet)
    keys = ApiKeys.read(api_key_env or (), api_key_file or ())
    for path in keys.readable_by_others():
        terminal.warn(f"Other users of this machine can read {path}. Make it yours alone: chmod 600 {path}.")
    settings = ServerSettings(
        host=host,
        port=port,
        allowed_hosts=frozenset(allowed_host or ()),
        metrics=metrics,
        max_requests=max_requests,
        body_limit_bytes=max_body_mib * 2**20,
        ping_s=ping_s,
        drain_s=drain_s,
        access_log=access_log,
    )
    settings.check(keys)
    client_options = ClientOptions(
        model, quant, target, threads, context_tokens, policy, remote_url, remote_model, offline, config
    )
    with _logging(quiet=quiet):
        ended_by = asyncio.run(_serve(terminal, services_of(context).open_async_client, client_options, settings, keys))
    if ended_by is not None:
        raise typer.Exit(ExitCode.INTERRUPTED if ended_by == signal.SIGINT else ExitCode.TERMINATED)


async def _serve(
    terminal: Terminal, opener: OpenAsyncClient, client_options: ClientOptions, settings: ServerSettings, keys: ApiKeys
) -> int | None:
    from hybridllm import __version__
    from hybridllm.cli.progress import LoadProgress
    from hybridllm.metrics import Metrics
    from hybridllm.server import serve

    metrics = Metrics(__version__)

    def say(ready: Ready) -> None:
        progress.close()
        model = f", model {ready.model}" if ready.model else ""
        terminal.line(f"Listening on {ready.url}, policy {ready.policy}{model}.")

    with LoadProgress(terminal) as progress:
        async with opener(client_options, progress, (metrics.observe,)) as client:
            return await serve(client, settings, keys=keys, metrics=metrics, on_ready=say)


@contextlib.contextmanager
def _logging(*, quiet: bool) -> Iterator[None]:
    """What the package logs goes to standard error: requests as they are, everything else with its level and name."""
    from hybridllm.server.front import ACCESS_LOG

    plain, named = logging.StreamHandler(sys.stderr), logging.StreamHandler(sys.stderr)
    named.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    ours, access = logging.getLogger("hybridllm"), logging.getLogger(ACCESS_LOG)
    before = [(logger, logger.level, logger.propagate) for logger in (ours, access)]
    ours.addHandler(named)
    ours.setLevel(logging.WARNING if quiet else logging.INFO)
    access.addHandler(plain)
    access.setLevel(logging.INFO)
    access.propagate = False
    try:
        yield
    finally:
        ours.removeHandler(named)
        access.removeHandler(plain)
        for logger, level, propagate in before:
            logger.setLevel(level)
            logger.propagate = propagate
