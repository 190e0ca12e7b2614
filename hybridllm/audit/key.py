"""The key that seals the log, and where it and the log live unless somebody says otherwise."""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from typing import TYPE_CHECKING

from hybridllm.audit.files import as_audit_errors, shown, write_whole
from hybridllm.errors import AuditError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LOCK_WAIT_S", "default_folder", "default_key_file", "key_id", "load_key", "make_key"]

LOCK_WAIT_S = 10.0
"""How long to wait for another process that writes the key or the log."""

_KEY_BYTES = 32
_LONGEST_KEY_BYTES = 4096


def default_folder() -> Path:
    """Where the log lives unless another folder is named: ``audit`` in the platform's state folder."""
    return _state_folder() / "audit"


def default_key_file() -> Path:
    """Where the key lives unless another file is named: ``audit.key`` in the platform's state folder."""
    return _state_folder() / "audit.key"


def _state_folder() -> Path:
    from platformdirs import user_state_path

    return user_state_path("hybridllm", appauthor=False)


def key_id(key: bytes) -> str:
    """A name for a key, which says nothing about it: the log carries it, to tell a wrong key from a changed line."""
    return hmac.digest(key, b"hybridllm audit key", "sha256").hex()[:16]


def load_key(path: Path) -> bytes:
    """Read a key.

    Raises:
        AuditError: There is none, it is too short, or other users can read it.
    """
    # Links are followed: secrets that are mounted into a container are links.
    with as_audit_errors(path, "read"), path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        key = file.read(_LONGEST_KEY_BYTES + 1)
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise AuditError(
            f"Other users have rights to the audit key {shown(path)}, so they could forge the log.",
            f"Take them away: chmod 600 {shown(path)}.",
            file=str(path),
        )
    if not _KEY_BYTES <= len(key) <= _LONGEST_KEY_BYTES:
        raise AuditError(
            f"{shown(path)} is not an audit key: it has not {_KEY_BYTES} to {_LONGEST_KEY_BYTES} bytes.",
            "Name the key's file, or move this one away to have a key made.",
            file=str(path),
        )
    return key


def make_key(path: Path) -> bytes:
    """Read a key; make one of random bytes first if there is none. Two processes at once get the same one.

    Raises:
        AuditError: It cannot be read or made.
    """
    from filelock import FileLock, Timeout

    with as_audit_errors(path.parent, "made"):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with as_audit_errors(path, "made"):
        if not os.path.lexists(path):
            try:
                with FileLock(path.with_name(f".{path.name}.lock"), timeout=LOCK_WAIT_S, mode=0o600):
                    if not os.path.lexists(path):
                        write_whole(path, secrets.token_bytes(_KEY_BYTES))
            except Timeout:
                raise AuditError(
                    f"Another process has been making the audit key {shown(path)} for {LOCK_WAIT_S:.0f} s.",
                    "Stop it, then try again.",
                    file=str(path),
                ) from None
    return load_key(path)
