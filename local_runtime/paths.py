"""Where things live: the cache folder, and the models that come with the package."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from local_runtime.errors import CheckpointError

__all__ = ["CACHE_VARIABLE", "bundled_models", "cache_folder", "model_folder"]

CACHE_VARIABLE = "HYBRIDLLM_CACHE"
"""Environment variable that moves the cache."""

_BUNDLED = Path(__file__).parent / "bundled"


def cache_folder(requested: str | None = None) -> Path:
    """The folder for converted weights and compiled code: ``requested``, else ``$HYBRIDLLM_CACHE``, else the platform's."""
    chosen = requested or os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("hybridllm", appauthor=False))


def bundled_models() -> dict[str, Path]:
    """The models that come with the package, by name."""
    if not _BUNDLED.is_dir():
        return {}
    return {folder.name: folder for folder in sorted(_BUNDLED.iterdir()) if (folder / "config.json").is_file()}


def model_folder(model: str) -> Path:
    """The checkpoint folder for a bundled model's name or a path.

    Raises:
        CheckpointError: It is neither.
    """
    bundled = bundled_models()
    if model in bundled:
        return bundled[model]
    folder = Path(model).expanduser()
    if not folder.exists():
        names = ", ".join(bundled) or "none"
        raise CheckpointError(
            f"There is no model {model!r}: it is not a folder, and the bundled models are {names}.",
            "Give the folder of a Hugging Face checkpoint, or a bundled model's name.",
        )
    return folder.resolve()
