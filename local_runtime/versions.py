"""Versions that decide whether something compiled earlier may be used again, read without importing TVM."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import version
from pathlib import Path

__all__ = ["ARTIFACT_FORMAT", "COMPILED_FROM", "CONVERTED_BY", "code_digest", "tvm_version"]

ARTIFACT_FORMAT = 1
"""Raised when the layout of a compiled artifact's folder changes."""

COMPILED_FROM = ("compiler", "kernels", "models", "quantization.py", "tvm_compat.py")
"""Where in this package the code is that shapes compiled code."""

CONVERTED_BY = ("models", "checkpoint.py", "quantization.py", "weights.py")
"""Where in this package the code is that shapes converted weights."""


@cache
def tvm_version() -> str:
    """The exact versions of TVM, its ffi and the loader, as one string."""
    return " ".join(f"{name}=={version(name)}" for name in ("apache-tvm", "apache-tvm-ffi", "apache-tvm-ffi-orcjit"))


@cache
def code_digest(places: tuple[str, ...]) -> str:
    """SHA-256 over the source of everything that shapes a cache entry, so that an edit or an upgrade makes it anew.

    Args:
        places: Files and folders of this package.
    """
    digest = hashlib.sha256()
    package = Path(__file__).parent
    files = [
        file
        for place in places
        for file in ((package / place).rglob("*.py") if "." not in place else [package / place])
    ]
    for path in sorted(files):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()
