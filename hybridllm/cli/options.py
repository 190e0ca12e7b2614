"""Options that several commands share, each written once."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = [
    "CacheDir",
    "Config",
    "ContextTokens",
    "Model",
    "Offline",
    "Plain",
    "PolicyOption",
    "Privacy",
    "Quant",
    "Quiet",
    "RemoteModel",
    "RemoteUrl",
    "Tag",
    "Target",
    "Threads",
]

_QUANTS = ("auto", "q4", "f16", "f32")


def _model_names(incomplete: str) -> list[str]:
    from local_runtime.paths import bundled_models

    return [name for name in bundled_models() if name.startswith(incomplete)]


def _preset_names(incomplete: str) -> list[str]:
    from policies import preset_names

    return [name for name in preset_names() if name.startswith(incomplete)]


def _quant_names(incomplete: str) -> list[str]:
    return [name for name in _QUANTS if name.startswith(incomplete)]


def _checked_quant(value: str | None) -> str | None:
    if value is not None and value not in _QUANTS:
        raise typer.BadParameter(f"{value!r} is not one of {', '.join(_QUANTS)}.")
    return value


Model = Annotated[
    str | None,
    typer.Option(
        help="A Hugging Face checkpoint folder, or a bundled model's name. [default: kiosk-assistant]",
        metavar="FOLDER|NAME",
        autocompletion=_model_names,
    ),
]
Quant = Annotated[
    str | None,
    typer.Option(
        help="Weight format; auto takes what suits the model. [default: auto]",
        metavar="auto|q4|f16|f32",
        autocompletion=_quant_names,
        callback=_checked_quant,
    ),
]
Target = Annotated[
    str | None,
    typer.Option(
        help="auto (a CUDA device that answers, else this processor), cpu, cuda, cuda:N, metal, or a TVM target as JSON.",
        metavar="TARGET",
    ),
]
Threads = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Processor threads of the engine. [default: the physical cores]")
]
ContextTokens = Annotated[
    int | None,
    typer.Option(min=2, metavar="N", help="Tokens that prompt and answer may have. [default: the model's own limit]"),
]
PolicyOption = Annotated[
    str | None,
    typer.Option(
        "--policy",
        help="A preset (offline-first, kiosk, cloud-assist) or a policy file. [default: offline-first]",
        metavar="NAME|FILE",
        autocompletion=_preset_names,
    ),
]
RemoteUrl = Annotated[
    str | None,
    typer.Option(
        help="Base URL of an OpenAI-compatible server that the policy may use. Its key is read from HYBRIDLLM_REMOTE_API_KEY.",
        metavar="URL",
    ),
]
RemoteModel = Annotated[str | None, typer.Option(help="The model's name at the remote.", metavar="NAME")]
Offline = Annotated[bool, typer.Option("--offline", help="Never use the remote, whatever the policy says.")]
Config = Annotated[
    str | None, typer.Option(help="A hybridllm.yaml to start from; options given here win.", metavar="FILE")
]
Privacy = Annotated[
    str | None,
    typer.Option(help="How sensitive the messages are: a label of the policy. [default: private]", metavar="LABEL"),
]
Tag = Annotated[
    list[str] | None,
    typer.Option(help="What the messages are about: a tag of the policy. May be repeated.", metavar="TAG"),
]
Plain = Annotated[
    bool, typer.Option("--plain", help="Plain lines for screen readers: no colours, spinners or cursor movement.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No status line and no progress on standard error.")]
CacheDir = Annotated[
    str | None,
    typer.Option(help="Where compiled models are kept. [default: the platform's cache folder]", metavar="FOLDER"),
]
