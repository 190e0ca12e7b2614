"""``hybridllm models``: which models come with the package, which are compiled, what a folder holds, and what memory it would take."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from math import prod
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from hybridllm.cli import options  # noqa: TC001 - typer reads the annotations at run time
from hybridllm.cli.app import app, command
from hybridllm.cli.exit_codes import ExitCode
from hybridllm.cli.terminal import Terminal

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["CachedModel", "ModelSummary", "cached_models", "summarize", "verify"]

_HELP = """List models, or look into one.

\b
Examples:
  hybridllm models
  hybridllm models show kiosk-assistant
  hybridllm models plan ~/models/Llama-3.2-1B-Instruct
"""

_group = typer.Typer(no_args_is_help=False, invoke_without_command=True, rich_markup_mode=None, help=_HELP)
app.add_typer(_group, name="models")


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """What a checkpoint folder holds, read without loading it.

    Attributes:
        name: The folder's name.
        path: The folder.
        model_type: Hugging Face's name of the architecture.
        parameters: Number of parameters; tied ones once.
        layers: Transformer blocks.
        hidden_size: Width of the residual stream.
        vocab_size: Rows of the embedding.
        context_tokens: Longest context.
        stored_dtype: Type that the checkpoint says it is stored in.
        size_mib: Size of its weight files.
    """

    name: str
    path: str
    model_type: str
    parameters: int
    layers: int
    hidden_size: int
    vocab_size: int
    context_tokens: int
    stored_dtype: str
    size_mib: float


@dataclass(frozen=True, slots=True)
class CachedModel:
    """One compiled model in the cache.

    Attributes:
        key: Name of its folder.
        model_type: Architecture.
        layers: Transformer blocks.
        hidden_size: Width of the residual stream.
        quant: Weight format.
        device: Device that it was compiled for.
        size_mib: Size of the compiled code.
    """

    key: str
    model_type: str
    layers: int
    hidden_size: int
    quant: str
    device: str
    size_mib: float


_AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@_group.callback()
def _default(context: typer.Context, cache_dir: options.CacheDir = None, as_json: _AsJson = False) -> None:
    if context.invoked_subcommand is None:
        list_models(cache_dir, as_json=as_json)
    elif cache_dir is not None or as_json:
        raise typer.BadParameter(f"Write the options after {context.invoked_subcommand!r}.")


@command(_group, "list", "List the bundled and the compiled models.")
def list_models(cache_dir: options.CacheDir = None, as_json: _AsJson = False) -> None:
    """List the bundled models and the compiled ones; this is what hybridllm models does by itself.

    \b
    Examples:
      hybridllm models
      hybridllm models --json
    """
    from local_runtime.paths import bundled_models, cache_folder

    terminal = Terminal()
    cache = cache_folder(cache_dir)
    bundled = [summarize(path) for path in bundled_models().values()]
    cached = cached_models(cache)
    if as_json:
        record = {
            "bundled": [asdict(it) for it in bundled],
            "cache_dir": str(cache),
            "cached": [asdict(it) for it in cached],
        }
        terminal.line(json.dumps(record))
        return
    terminal.line("Bundled:", "bold")
    for model in bundled:
        terminal.line(f"  {model.name}: {_shape(model)}")
    terminal.line(f"Compiled, in {cache}:", "bold")
    for entry in cached:
        terminal.line(
            f"  {entry.key[:12]}: {entry.model_type}, {entry.layers} layers of {entry.hidden_size}, {entry.quant}, "
            f"for {entry.device}, {entry.size_mib:.1f} MiB"
        )
    if not cached:
        terminal.line("  none yet; hybridllm compile makes one ready")


@command(_group, "show", "Say what a checkpoint folder holds.")
def show_model(
    model: Annotated[str, typer.Argument(metavar="FOLDER|NAME", help="A checkpoint folder or a bundled model's name.")],
    as_json: _AsJson = False,
) -> None:
    """Say what a checkpoint folder holds; refuse one whose files are not whole or that this engine cannot run.

    \b
    Examples:
      hybridllm models show kiosk-assistant
      hybridllm models show ~/models/Qwen2.5-0.5B-Instruct --json
    """
    from local_runtime.paths import model_folder

    folder = model_folder(model)
    summary = summarize(folder)
    verify(folder)
    terminal = Terminal()
    if as_json:
        terminal.line(json.dumps(asdict(summary)))
        return
    rows = {
        "Name": summary.name,
        "Folder": summary.path,
        "Architecture": summary.model_type,
        "Parameters": f"{summary.parameters / 1e6:.1f} million",
        "Layers": f"{summary.layers} of width {summary.hidden_size}",
        "Vocabulary": f"{summary.vocab_size} tokens",
        "Context": f"{summary.context_tokens} tokens",
        "Stored as": f"{summary.stored_dtype}, {summary.size_mib:.0f} MiB",
    }
    for name, value in rows.items():
        terminal.line(f"{name + ':':<14}{value}")


@command(_group, "plan", "Say what memory a model would take here.")
def plan_model(
    model: Annotated[str, typer.Argument(metavar="FOLDER|NAME", help="A checkpoint folder or a bundled model's name.")],
    quant: options.Quant = None,
    target: options.Target = None,
    context_tokens: options.ContextTokens = None,
    max_sequences: Annotated[
        int, typer.Option(min=1, max=64, metavar="N", help="Answers at a time that get a whole context each.")
    ] = 4,
    memory_mib: Annotated[
        int | None,
        typer.Option(min=1, metavar="MIB", help="The most that weights, cache and workspace may take together."),
    ] = None,
    free_mib: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="MIB", help="Plan for a machine, or a card, with so much to take. [default: this one]"
        ),
    ] = None,
    as_json: _AsJson = False,
    plain: options.Plain = False,
) -> None:
    """Say what memory a model would take: for each weight format and a spread of contexts, or for those that are named.

    Weights, keys and values of a token and of a full cache, workspace, the engine's process once it is loaded and at its highest. It
    reads config.json and the headers of the weights, if there are any; nothing is loaded. A context that is named is not cut.

    Ends with 0 if there is a way to load the model, and with 5 if there is none.

    \b
    Examples:
      hybridllm models plan kiosk-assistant
      hybridllm models plan ~/models/Qwen2.5-0.5B-Instruct --quant q4 --context-tokens 8192
      hybridllm models plan ~/models/Llama-3.2-1B-Instruct --free-mib 2048 --json
    """
    from hybridllm.cli import plan_report
    from local_runtime.paths import model_folder

    terminal = Terminal(plain=plain)
    plan = plan_report.plan_model(
        model_folder(model),
        target=target or "auto",
        quant=cast("Literal['auto', 'q4', 'f16', 'f32'] | None", quant),
        context_tokens=context_tokens,
        max_sequences=max_sequences,
        memory_mib=memory_mib,
        free_mib=free_mib,
    )
    if as_json:
        terminal.line(json.dumps(plan_report.plan_record(plan)))
    else:
        plan_report.show_plan(plan, terminal)
    if not plan.any_fits:
        raise typer.Exit(ExitCode.CANNOT_SERVE)


def summarize(folder: Path) -> ModelSummary:
    """Read a checkpoint folder's configuration and the sizes of its files.

    Raises:
        CheckpointError: It is no checkpoint, or it has no weights.
        UnsupportedModelError: Its architecture is not implemented.
    """
    from local_runtime.errors import CheckpointError
    from local_runtime.models.config import ModelConfig
    from local_runtime.models.registry import model_weight_specs

    config = ModelConfig.from_folder(folder)
    sizes = [path.stat().st_size for path in folder.glob("*.safetensors")]
    if not sizes:
        raise CheckpointError(f"{folder} holds no *.safetensors file.", "Copy or download the whole checkpoint.")
    return ModelSummary(
        name=folder.name,
        path=str(folder),
        model_type=config.model_type,
        parameters=sum(prod(spec.shape) for spec in model_weight_specs(config)),
        layers=config.num_layers,
        hidden_size=config.hidden_size,
        vocab_size=config.vocab_size,
        context_tokens=config.context_tokens,
        stored_dtype=config.dtype,
        size_mib=round(sum(sizes) / 2**20, 1),
    )


def verify(folder: Path) -> None:
    """Check that a checkpoint is whole and fits together, as the engine does before it loads one.

    Raises:
        CheckpointError: A shard is missing or cut, or a tensor is missing or of another shape than the configuration's.
        TokenizerError: The tokenizer is missing, cannot be read, or does not match the vocabulary.
        UnsupportedModelError: The model asks for something that is not implemented.
    """
    from local_runtime.checkpoint import Checkpoint
    from local_runtime.models.registry import model_weight_specs
    from local_runtime.tokenizer import ChatTokenizer

    checkpoint = Checkpoint.open(folder)
    checkpoint.require(model_weight_specs(checkpoint.config))
    ChatTokenizer.from_folder(folder, checkpoint.config.vocab_size)


def cached_models(cache: Path) -> list[CachedModel]:
    """The compiled models in a cache folder; entries that are not whole are left out, the engine rebuilds them."""
    entries = []
    for manifest in sorted((cache / "artifacts").glob("*/artifact.json")):
        folder = manifest.parent
        if folder.name.startswith("."):
            continue  # being built
        try:
            record: dict[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))
            entries.append(
                CachedModel(
                    key=folder.name,
                    model_type=record["config"]["model_type"],
                    layers=record["config"]["num_layers"],
                    hidden_size=record["config"]["hidden_size"],
                    quant=record["quant"],
                    device=record["target"]["name"],
                    size_mib=round(sum(path.stat().st_size for path in folder.iterdir()) / 2**20, 2),
                )
            )
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return entries


def _shape(model: ModelSummary) -> str:
    return (
        f"{model.model_type}, {model.parameters / 1e6:.1f}M parameters, context of {model.context_tokens} tokens, "
        f"{model.size_mib:.0f} MiB"
    )
