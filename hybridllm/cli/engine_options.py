"""From command-line options to the engine's own, for the commands that work on the engine without a client."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from local_runtime.options import LoadOptions, Quantization

__all__ = ["DEFAULT_MODEL", "engine_options"]

DEFAULT_MODEL = "kiosk-assistant"


def engine_options(
    *,
    model: str | None,
    quant: str | None,
    target: str | None,
    threads: int | None = None,
    context_tokens: int | None = None,
    cache_dir: str | None = None,
) -> LoadOptions:
    """The engine's load options; None leaves the engine's default.

    Raises:
        InvalidRequestError: A value is out of range.
    """
    from local_runtime.options import LoadOptions

    return LoadOptions(
        model=model or DEFAULT_MODEL,
        quant=cast("Quantization", quant or "auto"),
        target=target or "auto",
        threads=threads,
        context_tokens=context_tokens,
        cache_dir=cache_dir,
    )
