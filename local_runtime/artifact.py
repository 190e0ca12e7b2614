"""The compile cache: folders named by everything that changes what is in them, whole or not there at all.

``<cache>/artifacts/<key>/`` holds the object files of a compiled model, ``<cache>/weights/<key>/`` its converted weights. A folder
is made under a temporary name, flushed, described by a manifest with checksums, and renamed into place; a lock file keeps two
processes from doing the same work twice. A manifest names the key of its entry and bears a checksum of itself: an entry that lies
under another key, or that doesn't match its own manifest, is rebuilt.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from local_runtime.errors import LocalRuntimeError
from local_runtime.files import fsync_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["MANIFEST", "artifact_key", "build_entry", "cache_key", "read_artifact", "sealed", "unsealed"]

MANIFEST = "artifact.json"
_REQUIRED_FIELDS = frozenset(
    ("key", "objects", "sha256", "parameters", "prefill_chunk_tokens", "page_tokens", "max_batch", "target", "quant", "config")
)  # fmt: skip
_SEAL = "manifest_sha256"
_LOCK_WAIT_S = 1800.0
_QUIET_WAIT_S = 0.5


def cache_key(parts: dict[str, Any]) -> str:
    """A folder name for these values: 32 hexadecimal digits of SHA-256 over their canonical JSON."""
    return _digest(parts)[:32]


def _digest(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def sealed(body: dict[str, Any]) -> dict[str, Any]:
    """A manifest with the checksum of all that is in it, so that a changed digit is noticed."""
    return {**body, _SEAL: _digest(body)}


def unsealed(manifest: Any) -> dict[str, Any]:
    """What :func:`sealed` was given.

    Raises:
        ValueError: The manifest is no JSON object, or does not match its checksum.
    """
    if not isinstance(manifest, dict):
        raise ValueError("it is not a JSON object")
    body = {name: value for name, value in manifest.items() if name != _SEAL}
    if manifest.get(_SEAL) != _digest(body):
        raise ValueError("it does not match its own checksum")
    return body


def artifact_key(config: dict[str, Any], quant: str, target_spec: dict[str, Any], host: dict[str, Any]) -> str:
    """The key of a compiled model: everything that changes its code.

    Args:
        config: The model's configuration.
        quant: Its weight format.
        target_spec: TVM's description of the device.
        host: What the code around the device's kernels is made for, which ``target_spec`` leaves open; see `ResolvedTarget`.

    The versions of TVM and of our own code are part of it too.
    """
    from local_runtime.versions import ARTIFACT_FORMAT, COMPILED_FROM, code_digest, tvm_version

    return cache_key(
        {
            "format": ARTIFACT_FORMAT,
            "config": config,
            "quant": quant,
            "target": target_spec,
            "host": host,
            "tvm": tvm_version(),
            "code": code_digest(COMPILED_FROM),
        }
    )


def read_artifact(folder: Path) -> dict[str, Any] | None:
    """Read the manifest of a compiled model, or None if the entry is absent, torn, foreign, or not what its manifest says.

    Args:
        folder: The entry, named by its key: one that was made under another key is foreign.
    """
    try:
        manifest = unsealed(json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
        if not manifest.keys() >= _REQUIRED_FIELDS or manifest["key"] != folder.name or not manifest["objects"]:
            return None
        sums = manifest["sha256"]
        for name in manifest["objects"]:
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != sums[name]:
                return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return manifest


@contextmanager
def _locked(folder: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_suffix(".lock"))
    try:
        try:
            lock.acquire(timeout=_QUIET_WAIT_S)
        except Timeout:
            on_wait()
            lock.acquire(timeout=_LOCK_WAIT_S)
    except Timeout:
        raise LocalRuntimeError(
            f"Another process has been preparing {folder.name} for {_LOCK_WAIT_S / 60:.0f} minutes.",
            f"Stop it, or delete {folder.with_suffix('.lock')} if there is none.",
        ) from None
    try:
        yield
    finally:
        lock.release()


def build_entry(
    folder: Path,
    is_whole: Callable[[Path], bool],
    build: Callable[[Path], object],
    on_wait: Callable[[], None] = lambda: None,
) -> bool:
    """Make the cache entry ``folder`` unless it is there and whole.

    Args:
        folder: The entry's final place.
        is_whole: Says whether an existing entry can be used.
        build: Fills the empty folder that it is given.
        on_wait: Told once if another process is at the same work, so that we wait for it.

    Returns:
        True if it was built now, False if it was there already (perhaps made by another process while we waited).

    Raises:
        LocalRuntimeError: The cache cannot be written, or another process holds the entry for too long.
    """
    try:
        if is_whole(folder):
            return False
        with _locked(folder, on_wait):
            if is_whole(folder):
                return False
            _discard_leftovers(folder)
            work = _temporary_name(folder)
            work.mkdir()  # not mkdtemp, whose folders are their maker's alone: who may read the cache is for the umask to say
            try:
                build(work)
                _flush(work)
                if folder.exists():  # torn or foreign: out of the way in one step, then gone
                    torn = _temporary_name(folder)
                    folder.rename(torn)
                    shutil.rmtree(torn, ignore_errors=True)
                work.rename(folder)
                fsync_folder(folder.parent)
            finally:
                shutil.rmtree(work, ignore_errors=True)
            return True
    except OSError as error:
        raise LocalRuntimeError(
            f"The cache entry {folder} cannot be written: {error.strerror or error}.",
            "Make it writable, free some space there, or move the cache with HYBRIDLLM_CACHE.",
        ) from error


def _temporary_name(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")


def _discard_leftovers(folder: Path) -> None:
    """Remove what a killed process left behind; the lock says that nobody is at work here now."""
    for leftover in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _flush(folder: Path) -> None:
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    fsync_folder(folder)
