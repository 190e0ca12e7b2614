"""``hybridllm.yaml``: a client's arguments in a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hybridllm.errors import BadRequest, ConfigError
from hybridllm.remote import Remote
from policies import PolicyFileError, preset_names
from policies.yaml_document import DocumentNode, read_document_file

__all__ = ["load_config"]

_TEXTS = ("model", "policy", "quant", "target", "cache_dir", "saved_state", "privacy_floor", "audit", "decision_log")
_PATHS = ("cache_dir", "saved_state", "audit", "decision_log")
_INTEGERS = ("threads", "context_tokens", "max_sequences", "max_waiting", "memory_mib")
_NUMBERS = ("label_memory_s",)
_BOOLEANS = ("offline", "watch_policy")
_REMOTE_TEXTS = ("base_url", "model", "zone", "ca_file", "proxy", "api_key", "api_key_env")
_REMOTE_NUMBERS = ("connect_timeout_s", "first_token_timeout_s", "gap_timeout_s", "max_response_mib")
_REMOTE_INTEGERS = ("max_retries", "context_tokens")
_REMOTE_WORDS = ("capabilities", "lacks")


def load_config(path: str | Path) -> dict[str, Any]:
    """Read a configuration file into arguments of a client.

    Keys are the arguments' names; ``remote`` has those of ``Remote``. Relative paths start at the file's folder. No variable
    of the environment is read: the one that ``api_key_env`` names is, when the key is needed.

    Raises:
        ConfigError: The file cannot be used; names file, line and key.
    """
    try:
        return _arguments(read_document_file(Path(path), str(path)), Path(path).parent)
    except PolicyFileError as error:
        raise ConfigError(error.message, error.mend, file=error.file, line=error.line, key=error.key) from None


def _arguments(top: DocumentNode, folder: Path) -> dict[str, Any]:
    keys = top.fields((*_TEXTS, *_INTEGERS, *_NUMBERS, *_BOOLEANS, "remote"))
    arguments: dict[str, Any] = _scalars(keys, _TEXTS, _INTEGERS, _NUMBERS, _BOOLEANS)
    if "policy" in arguments and arguments["policy"] not in preset_names():
        arguments["policy"] = _path(folder, arguments["policy"])
    for name in _PATHS:
        if name in arguments:
            arguments[name] = _path(folder, arguments[name])
    # A model is a name unless it looks like a path, as in a shell.
    if "model" in arguments and ("/" in arguments["model"] or os.sep in arguments["model"]):
        arguments["model"] = _path(folder, arguments["model"])
    if "remote" in keys:
        arguments["remote"] = _remote(keys["remote"], folder)
    return arguments


def _path(folder: Path, text: str) -> str:
    """A path of the file: from its own folder, unless it says where; ``~`` is the user's home."""
    return str(folder / os.path.expanduser(text))  # noqa: PTH111  (Path's raises where there is no such user)


def _remote(node: DocumentNode, folder: Path) -> Remote:
    keys = node.fields(
        (*_REMOTE_TEXTS, *_REMOTE_NUMBERS, *_REMOTE_INTEGERS, *_REMOTE_WORDS), required=("base_url", "model")
    )
    arguments = _scalars(keys, _REMOTE_TEXTS, _REMOTE_INTEGERS, _REMOTE_NUMBERS, ())
    for name in _REMOTE_WORDS:
        if name in keys:
            arguments[name] = frozenset(item.text() for item in keys[name].items())
    if "ca_file" in arguments:
        arguments["ca_file"] = _path(folder, arguments["ca_file"])
    try:
        return Remote(**arguments)
    except BadRequest as error:
        at = keys.get(error.field.removeprefix("remote."), node)
        raise ConfigError(
            f"{at.location}: {error.message}", error.mend, file=at.file, line=at.line, key=error.field
        ) from None


def _scalars(
    keys: dict[str, DocumentNode],
    texts: tuple[str, ...],
    integers: tuple[str, ...],
    numbers: tuple[str, ...],
    booleans: tuple[str, ...],
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, node in keys.items():
        if name in texts:
            values[name] = node.text()
        elif name in integers:
            values[name] = node.integer()
        elif name in numbers:
            values[name] = node.number()
        elif name in booleans:
            values[name] = node.boolean()
    return values
