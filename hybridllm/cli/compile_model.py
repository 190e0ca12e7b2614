"""``hybridllm compile``: make a model ready, so that the first answer does not wait for the compiler."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from hybridllm.cli import options  # noqa: TC001 - typer reads the annotations at run time
from hybridllm.cli.app import app, command
from hybridllm.cli.engine_options import engine_options
from hybridllm.cli.mistakes import CommandError
from hybridllm.cli.terminal import Terminal

if TYPE_CHECKING:
    from local_runtime.options import ModelInfo

__all__ = ["compile_model"]


@command(app, "compile", "Make a model ready ahead of time.")
def compile_model(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="FOLDER|NAME",
            help="A Hugging Face checkpoint folder, or a bundled model's name. [default: kiosk-assistant]",
        ),
    ] = None,
    quant: options.Quant = None,
    target: options.Target = None,
    threads: options.Threads = None,
    context_tokens: options.ContextTokens = None,
    cache_dir: options.CacheDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object about the model.")] = False,
    plain: options.Plain = False,
    quiet: options.Quiet = False,
) -> None:
    """Convert and compile a model into the cache, and load it once to see that it works.

    \b
    Examples:
      hybridllm compile
      hybridllm compile ~/models/Llama-3.2-1B-Instruct --quant q4
      hybridllm compile --target cuda --json
    """
    from hybridllm.cli.progress import LoadProgress
    from local_runtime.client import LocalEngine

    if model is not None and not model.strip():
        raise CommandError("The model's name is empty. Name a folder or a bundled model, or leave it out.")
    terminal = Terminal(plain=plain, quiet=quiet)
    wanted = engine_options(
        model=model, quant=quant, target=target, threads=threads, context_tokens=context_tokens, cache_dir=cache_dir
    )
    began_s = time.monotonic()
    with LoadProgress(terminal, verbose=True) as progress, LocalEngine(wanted, on_progress=progress) as engine:
        info = engine.start()
        took_s = time.monotonic() - began_s
    if as_json:
        terminal.line(json.dumps({**asdict(info), "took_s": round(took_s, 3)}))
    else:
        terminal.line(_report(info, took_s))


def _report(info: ModelInfo, took_s: float) -> str:
    did = "compiled and loaded" if info.compiled else "was compiled already; loaded"
    return (
        f"{info.name} ({info.model_type}, {info.parameters / 1e6:.1f}M parameters, {info.quant}) {did} in {took_s:.1f} s: "
        f"{info.device}, {info.weights_mib:.0f} MiB of weights, context of {info.context_tokens} tokens."
    )
