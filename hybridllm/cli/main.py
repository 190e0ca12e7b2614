"""The program ``hybridllm``."""

from __future__ import annotations

import signal
import sys
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn

from hybridllm.cli.app import Services, app, output_failed
from hybridllm.cli.client_options import open_async_client, open_client
from hybridllm.cli.exit_codes import ExitCode
from hybridllm.cli.terminal import Terminal, output_error, prepare_streams

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from hybridllm.cli.client_options import OpenAsyncClient, OpenClient

__all__ = ["main"]

# Each registers its commands; the order is that of the help.
for _module in (
    "chat",
    "serve",
    "compile_model",
    "models",
    "bench",
    "doctor",
    "policy",
    "policy_verify",
    "policy_simulate",
    "audit",
):
    import_module(f"hybridllm.cli.{_module}")


def _leave(_signal_number: int, _frame: FrameType | None) -> NoReturn:
    """End as after Ctrl-C: the engine is closed, and the terminal is given back as it was."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends us at once
    sys.exit(ExitCode.TERMINATED)


def main(
    argv: Sequence[str] | None = None,
    *,
    opener: OpenClient = open_client,
    async_opener: OpenAsyncClient = open_async_client,
) -> NoReturn:
    """Run the command line and leave with its exit status.

    Args:
        argv: The arguments; None takes the program's own.
        opener: Opens the client; a test of a terminal hands in one with a scripted place in it.
        async_opener: The same for ``serve``.
    """
    prepare_streams()
    signal.signal(signal.SIGTERM, _leave)
    try:
        app(args=None if argv is None else list(argv), obj=Services(opener, async_opener), prog_name="hybridllm")
    except OSError as error:  # from the help and the version, which are written before any command runs
        sys.exit(output_failed(Terminal(), output_error(sys.stdout, error)))
    sys.exit(0)
