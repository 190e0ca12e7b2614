"""The command line's tree, and what every command has in common: services, errors and exit statuses."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ParamSpec, cast

import typer

from hybridllm.boundary import DEBUG_VARIABLE, debugging, without_content
from hybridllm.cli.client_options import open_async_client
from hybridllm.cli.exit_codes import EXIT_CODES_HELP, ExitCode, exit_code_for
from hybridllm.cli.mistakes import CommandError
from hybridllm.cli.terminal import OutputClosedError, OutputFullError, Terminal, abandon_stdout

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybridllm.cli.client_options import OpenAsyncClient, OpenClient

__all__ = ["Services", "app", "command", "output_failed", "services_of"]

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Services:
    """What the commands reach the outside with; a test hands in its own.

    Attributes:
        open_client: Opens a client for the options.
        open_async_client: Opens one for an event loop of one's own.
    """

    open_client: OpenClient
    open_async_client: OpenAsyncClient = open_async_client


_HELP = """Chat with a language model on this device, and with one elsewhere only where a policy allows it.

\b
Examples:
  hybridllm chat "What can you do?"
  hybridllm chat                a conversation
  hybridllm doctor              what is there, what is missing
"""

app = typer.Typer(
    name="hybridllm",
    help=_HELP,
    epilog=EXIT_CODES_HELP,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from hybridllm import __version__

        typer.echo(f"hybridllm {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    pass


def services_of(context: typer.Context) -> Services:
    """The services that the program was started with."""
    return cast("Services", context.obj)


def command(group: typer.Typer, name: str, summary: str) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Register a function as a command whose errors become one line and an exit status.

    Args:
        group: Where it belongs.
        name: The word that a person types.
        summary: What it does, short enough for the list of commands.
    """

    def register(function: Callable[P, None]) -> Callable[P, None]:
        @functools.wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
            _run_guarded(functools.partial(function, *args, **kwargs), Terminal(plain=bool(kwargs.get("plain"))))

        group.command(name, short_help=summary)(guarded)
        return guarded

    return register


def _run_guarded(run: Callable[[], None], terminal: Terminal) -> None:
    try:
        run()
    except KeyboardInterrupt:
        terminal.error("interrupted")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except OutputClosedError:
        abandon_stdout()
        raise typer.Exit(ExitCode.OUTPUT_CLOSED) from None
    except OutputFullError as error:
        raise typer.Exit(output_failed(terminal, error)) from None
    except (typer.Exit, typer.BadParameter):
        raise
    except Exception as error:
        code = error.code if isinstance(error, CommandError) else exit_code_for(error)
        if code is ExitCode.INTERNAL and debugging():
            raise
        terminal.error(_sentence(error, code))
        raise typer.Exit(code) from None


def output_failed(terminal: Terminal, error: OutputFullError) -> ExitCode:
    """Say that standard output takes nothing more, where that can still be said; return the exit status."""
    abandon_stdout()
    with contextlib.suppress(OutputClosedError, OutputFullError):  # standard error may lie on the same full disk
        terminal.error(str(error))
    return ExitCode.CONFIG


def _sentence(error: Exception, code: ExitCode) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if code is not ExitCode.INTERNAL:
        return text
    # The text of an error that nobody expected can quote what a person wrote, so only its class and place are told.
    return f"internal error: {without_content(error)} Set {DEBUG_VARIABLE}=1 to see more."
