"""The keys that open the server: where they are read from, and how one is compared."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Self

from hybridllm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["SHORTEST_KEY", "ApiKeys"]

SHORTEST_KEY = 16
"""Characters that a key has at least; a shorter one can be guessed over the network."""

_HOW_TO_MAKE = "Make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'."


class ApiKeys:
    """Keys of which any opens the server; what is kept of them is a hash each. Without any, the server is open.

    Args:
        keys: The keys.
    """

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._hashes = _hashes(keys)
        self._variables: tuple[str, ...] = ()
        self._files: tuple[Path, ...] = ()

    @classmethod
    def read(cls, variables: Sequence[str] = (), files: Sequence[str | Path] = ()) -> Self:
        """Keys from where an operator keeps them.

        Args:
            variables: Environment variables with a key each.
            files: Files with a key on every line; empty lines and those that begin with ``#`` do not count.

        Raises:
            ConfigError: One is missing, holds no key, or a key that is too short.
        """
        keys = cls()
        keys._variables, keys._files = tuple(variables), tuple(map(Path, files))
        keys.read_again()
        return keys

    def read_again(self) -> None:
        """Take what stands in the files now; a variable cannot change while the program runs.

        Raises:
            ConfigError: As ``read``; the keys stay as they were.
        """
        if self._variables or self._files:
            found = [_from_variable(name) for name in self._variables]
            for path in self._files:
                found += _from_file(path)
            self._hashes = _hashes(found)

    def fits(self, key: bytes) -> bool:
        """Whether it is one of them; takes as long whether and wherever it fits."""
        given = hashlib.sha256(key).digest()
        fits = False
        for known in self._hashes:
            fits |= hmac.compare_digest(known, given)
        return fits

    def readable_by_others(self) -> tuple[Path, ...]:
        """The files that other users of this machine can read, as far as the platform says so."""
        if os.name != "posix":
            return ()
        return tuple(path for path in self._files if path.stat().st_mode & stat.S_IROTH)

    def __len__(self) -> int:
        return len(self._hashes)

    def __repr__(self) -> str:
        return f"<{len(self)} API keys>"


def _hashes(keys: Iterable[str]) -> tuple[bytes, ...]:
    return tuple({hashlib.sha256(key.encode()).digest() for key in keys})


def _from_variable(name: str) -> str:
    key = os.environ.get(name, "").strip()
    if not key:
        raise ConfigError(f"The environment variable {name} holds no API key.", _HOW_TO_MAKE, key="api_key_env")
    return _long_enough(key, f"The environment variable {name}")


def _from_file(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(
            f"The API keys in {path} cannot be read: {why}.",
            "Give a text file with one key a line.",
            key="api_key_file",
        ) from None
    keys = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not keys:
        raise ConfigError(f"{path} holds no API key.", _HOW_TO_MAKE, key="api_key_file")
    return [_long_enough(key, str(path)) for key in keys]


def _long_enough(key: str, where: str) -> str:
    if len(key) < SHORTEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(
            f"{where} holds an API key that is not {SHORTEST_KEY} or more printable ASCII characters without a space.",
            _HOW_TO_MAKE,
            key="api_key",
        )
    return key
