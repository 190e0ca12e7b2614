"""Where things live: the cache folder, and the models that come with the package."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Literal

import platformdirs

from local_runtime.errors import CheckpointError, LocalRuntimeError

__all__ = ["CACHE_VARIABLE", "bundled_models", "cache_folder", "kind_of", "model_folder", "shown_path"]

CACHE_VARIABLE = "HYBRIDLLM_CACHE"
"""Environment variable that moves the cache."""

_BUNDLED = Path(__file__).parent / "bundled"
_MODEL_MEND = "Give the folder of a Hugging Face checkpoint, or a bundled model's name."
_LONGEST_SHOWN = 300


def cache_folder(requested: str | None = None) -> Path:
    """The folder for converted weights and compiled code: ``requested``, else ``$HYBRIDLLM_CACHE``, else the platform's.

    Raises:
        LocalRuntimeError: It begins with the home of a user that there is not.
    """
    chosen = requested or os.environ.get(CACHE_VARIABLE)
    if not chosen:
        return Path(platformdirs.user_cache_dir("hybridllm", appauthor=False))
    try:
        return Path(chosen).expanduser()
    except RuntimeError as error:
        raise LocalRuntimeError(
            f"The cache folder {shown_path(chosen)} begins with the home of a user that cannot be found.",
            f"Name another one with cache_dir or {CACHE_VARIABLE}.",
        ) from error


def bundled_models() -> dict[str, Path]:
    """The models that come with the package, by name."""
    if not _BUNDLED.is_dir():
        return {}
    return {folder.name: folder for folder in sorted(_BUNDLED.iterdir()) if (folder / "config.json").is_file()}


def model_folder(model: str) -> Path:
    """The checkpoint folder for a bundled model's name or a path.

    Raises:
        CheckpointError: It is neither, or the path cannot be followed.
    """
    bundled = bundled_models()
    if model in bundled:
        return bundled[model]
    try:
        folder = Path(model).expanduser()
    except RuntimeError as error:
        raise CheckpointError(
            f"The model folder {shown_path(model)} begins with the home of a user that cannot be found.", _MODEL_MEND
        ) from error
    if kind_of(folder) is None:
        names = ", ".join(bundled) or "none"
        raise CheckpointError(
            f"There is no model {shown_path(repr(model))}: it is not a folder, and the bundled models are {names}.",
            _MODEL_MEND,
        )
    try:
        return folder.resolve()
    except OSError as error:
        raise _cannot_be_followed(folder, error) from error


def kind_of(path: Path) -> Literal["folder", "file", "other"] | None:
    """What is at ``path``, links followed; None where there is nothing.

    `Path.exists` and `Path.is_file` let some of the system's errors through as they are and take others for an absence,
    which differs between versions of Python.

    Raises:
        CheckpointError: It cannot be found out: a folder may not be entered, or the path is none that a system can follow.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise _cannot_be_followed(path, error) from error
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"


def shown_path(path: str | Path) -> str:
    """A path as an error shows it: on one line, and its beginning and end only where it is very long."""
    text = str(path)
    if not text.isprintable():
        text = repr(text)
    if len(text) <= _LONGEST_SHOWN:
        return text
    return f"{text[: _LONGEST_SHOWN // 2]}…{text[-_LONGEST_SHOWN // 4 :]}"


def _cannot_be_followed(path: Path, error: OSError | ValueError) -> CheckpointError:
    refused = isinstance(error, PermissionError)
    mend = "Give this user the right to read it, or name another folder." if refused else _MODEL_MEND
    # The text of a ValueError (a null byte, half of a surrogate pair) is Python's wording, not a person's.
    reason = (error.strerror or "the system refuses it") if isinstance(error, OSError) else "it is not a possible path"
    return CheckpointError(f"{shown_path(path)} cannot be opened: {reason}.", mend)
