"""The remote's key: looked for when a client is made, and read at the moment when it is sent and not before."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hybridllm.errors import ConfigError
from hybridllm.remote import is_key

if TYPE_CHECKING:
    from hybridllm.remote import Remote

__all__ = ["check_key_is_there", "read_key"]


def check_key_is_there(remote: Remote) -> None:
    """Check that the variable with the key exists, without reading it.

    Raises:
        ConfigError: It does not.
    """
    name = remote.api_key_env
    if name is None:
        return
    # Not `in os.environ`, which reads the value to find out. Windows does not tell cases apart and keeps capitals.
    wanted = name.upper() if os.name == "nt" else name
    if not any(wanted == known for known in os.environ):
        raise _missing(name)


def read_key(remote: Remote) -> str | None:
    """The key to send; None if the remote needs none.

    Raises:
        ConfigError: The variable that should hold it does not.
    """
    name = remote.api_key_env
    if name is None:
        return remote.api_key
    key = os.environ.get(name)
    if not key:
        raise _missing(name)
    if not is_key(key):
        raise ConfigError(
            f"The environment variable {name} holds no key: it has to be printable ASCII without spaces.",
            "Check it for line breaks and quotes.",
            key="remote.api_key_env",
        )
    return key


def _missing(name: str) -> ConfigError:
    return ConfigError(
        f"The environment variable {name}, which remote.api_key_env names, is not set.",
        "Set it, or leave api_key_env out.",
        key="remote.api_key_env",
    )
