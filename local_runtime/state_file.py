"""Keys and values of a prompt in a file, so that a model that is loaded again need not compute them again.

A file is a magic number, the length of a header, the header as JSON, the pages of the key-value cache layer by layer from the next
multiple of 4096 bytes on, and a checksum of all before it (BLAKE2b). The header says what the pages were computed with: they mean
nothing to another model, quantisation, memory layout or version, so such a file is refused, as is one that is torn or altered.

It holds what the prompt said: its tokens, and keys and values of which they could be told. Only its owner can read it. The checksum
is against mishaps; whoever may write the file can make a sound one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from local_runtime.content import CONTENT, hides_content
from local_runtime.errors import SavedStateError
from local_runtime.files import replacing
from local_runtime.versions import COMPILED_FROM, code_digest, tvm_version

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

__all__ = ["FORMAT_VERSION", "SavedState", "StateShape", "read_state", "state_identity", "write_state"]

FORMAT_VERSION = 1

_MAGIC = b"HLLMKV\r\n"
_LENGTH_BYTES = 8
_ALIGNMENT = 4096
_DIGEST_BYTES = 32
_MOST_HEADER_BYTES = 64 << 20
_SPARE_DISK_BYTES = 16 << 20

_AGAIN = "Save it again with the model as it is loaded now."
_DIFFERENCES = {
    "model": "another model",
    "quant": "another quantisation",
    "target": "another kind of device",
    "tvm": "another version of TVM",
    "code": "another version of hybridllm",
}


@dataclass(frozen=True, slots=True)
class StateShape:
    """How a cache stores keys and values.

    Attributes:
        num_layers: Layers of the model.
        page: Shape of a page in one layer: ``(2, kv heads, page tokens, head_dim)``.
        dtype: NumPy's name of the numbers' type.
    """

    num_layers: int
    page: tuple[int, int, int, int]
    dtype: str

    @classmethod
    def of_model(cls, config: Mapping[str, Any], page_tokens: int, dtype: str) -> StateShape:
        """The shape for a model's configuration, as `ModelConfig.to_dict` gives it."""
        return cls(config["num_layers"], (2, config["num_kv_heads"], page_tokens, config["head_dim"]), dtype)

    @property
    def page_tokens(self) -> int:
        """Tokens in one page."""
        return self.page[2]

    def layer_bytes(self, pages: int) -> int:
        """Size of one layer's pages."""
        return pages * int(np.prod(self.page, dtype=np.int64)) * np.dtype(self.dtype).itemsize


def state_identity(manifest: Mapping[str, Any], weights_digest: str) -> dict[str, str]:
    """What keys and values depend on, besides the tokens and the way that the cache stores them.

    The processor's own model is no part of it: a file may be copied to other machines of the same kind.

    Args:
        manifest: The compiled model's; see :mod:`local_runtime.artifact`.
        weights_digest: Tells the converted weights from all others.
    """
    model = json.dumps([manifest["config"], weights_digest], sort_keys=True)
    return {
        "model": hashlib.sha256(model.encode()).hexdigest(),
        "quant": manifest["quant"],
        "target": manifest["target"]["kind"],
        "tvm": tvm_version(),
        "code": code_digest(COMPILED_FROM),
    }


@hides_content
@dataclass(frozen=True, slots=True)
class SavedState:
    """What a file holds.

    Attributes:
        tokens: The prompt's tokens, as many as fill the pages.
        layers: For each layer its pages ``[pages, 2, kv heads, page tokens, head_dim]``, memory-mapped and read-only.
        file_bytes: Size of the file.
    """

    tokens: list[int] = field(metadata=CONTENT)
    layers: list[npt.NDArray[Any]] = field(metadata=CONTENT)
    file_bytes: int


def write_state(
    path: Path, identity: Mapping[str, str], shape: StateShape, tokens: Sequence[int], pages: Iterable[npt.NDArray[Any]]
) -> int:
    """Write a file, whole or not at all.

    Args:
        path: Where to; what is there is replaced.
        identity: What the pages were computed with.
        shape: How they are stored.
        tokens: The tokens that fill them.
        pages: The pages in order, layer after layer, in pieces.

    Returns:
        The size of the file in bytes.

    Raises:
        SavedStateError: It cannot be written.
        ValueError: The tokens don't fill the pages.
    """
    count, rest = divmod(len(tokens), shape.page_tokens)
    if rest or not count:
        raise ValueError(f"{len(tokens)} tokens don't fill pages of {shape.page_tokens}")
    header = {
        "format": FORMAT_VERSION,
        "identity": dict(identity),
        "num_layers": shape.num_layers,
        "page": list(shape.page),
        "dtype": shape.dtype,
        "tokens_sha256": _tokens_digest(tokens),
        "tokens": list(tokens),
    }
    raw = json.dumps(header, separators=(",", ":")).encode()
    start = _data_start(len(raw))
    data_bytes = shape.num_layers * shape.layer_bytes(count)
    total_bytes = start + data_bytes + _DIGEST_BYTES
    head = (_MAGIC + len(raw).to_bytes(_LENGTH_BYTES, "little") + raw).ljust(start, b"\0")
    try:
        _check_disk(path, total_bytes)
        with replacing(path) as file:
            checksum = hashlib.blake2b(head, digest_size=_DIGEST_BYTES)
            file.write(head)
            for piece in pages:
                data = np.ascontiguousarray(piece).reshape(-1).view(np.uint8).data
                checksum.update(data)
                file.write(data)
            if file.tell() != start + data_bytes:
                raise ValueError(f"{file.tell() - start} bytes of pages instead of {data_bytes}")
            file.write(checksum.digest())
    except OSError as error:
        raise SavedStateError(
            f"The state cannot be written to {path}: {error.strerror or error}.",
            f"Give a path in a folder that this user may write to, where {(total_bytes >> 20) + 1} MiB are free.",
        ) from error
    return total_bytes


def read_state(path: Path, identity: Mapping[str, str], shape: StateShape, most_pages: int) -> SavedState:
    """Map a file into memory and check all of it.

    Args:
        path: The file.
        identity: What its pages must have been computed with.
        shape: How they must be stored.
        most_pages: The most pages that it may have.

    Raises:
        SavedStateError: It is missing, torn, altered, too large, or not of this model as it is loaded now.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(len(_MAGIC) + _LENGTH_BYTES)
            header_bytes = int.from_bytes(head[len(_MAGIC) :], "little")
            if head[: len(_MAGIC)] != _MAGIC or len(head) < len(_MAGIC) + _LENGTH_BYTES:
                raise SavedStateError(f"{path} holds no saved state.", "Give a file that save_state has written.")
            if header_bytes > min(_MOST_HEADER_BYTES, size):
                raise _torn(path)
            raw = file.read(header_bytes)
    except OSError as error:
        raise SavedStateError(
            f"The saved state {path} cannot be read: {error.strerror or error}.", "Save it first, or correct the path."
        ) from error
    header = _header(path, raw)
    _require_same(path, header, identity, shape)
    tokens = header["tokens"]
    pages = len(tokens) // shape.page_tokens
    start, layer_bytes = _data_start(header_bytes), shape.layer_bytes(pages)
    if size != start + shape.num_layers * layer_bytes + _DIGEST_BYTES:
        raise _torn(path)
    if pages > most_pages:
        raise SavedStateError(
            f"{path} holds {len(tokens)} tokens, but the key-value cache has room for {most_pages * shape.page_tokens}.",
            "Load the model with a larger context_tokens, or save a shorter prompt.",
        )
    mapped = _mapped(path)
    checksum = hashlib.blake2b(mapped[:-_DIGEST_BYTES].data, digest_size=_DIGEST_BYTES).digest()
    if checksum != mapped[-_DIGEST_BYTES:].tobytes():
        raise SavedStateError(f"{path} was altered or damaged: its checksum does not fit.", _AGAIN)
    bounds = range(start, size - _DIGEST_BYTES, layer_bytes)
    layers = [mapped[at : at + layer_bytes].view(shape.dtype).reshape(pages, *shape.page) for at in bounds]
    return SavedState(tokens, layers, size)


def _mapped(path: Path) -> npt.NDArray[np.uint8]:
    try:
        return np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
    except (OSError, ValueError) as error:  # it became another file, or an empty one, since it was looked at
        raise SavedStateError(f"The saved state {path} cannot be mapped into memory.", "Try again.") from error


def _header(path: Path, raw: bytes) -> dict[str, Any]:
    """The header's values, of the types that they must have."""
    try:
        header = json.loads(raw)
        format_version = header["format"]
        if type(format_version) is not int:
            raise _torn(path)
        if format_version != FORMAT_VERSION:
            raise SavedStateError(
                f"{path} has the format {format_version} of saved states, but this version of hybridllm reads {FORMAT_VERSION}.",
                _AGAIN,
            )
        tokens = header["tokens"]
        sound = (
            isinstance(tokens, list)
            and all(type(token) is int and 0 <= token < 1 << 31 for token in tokens)
            and isinstance(header["identity"], dict)
            and header["tokens_sha256"] == _tokens_digest(tokens)
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _torn(path) from None
    if not sound:
        raise _torn(path)
    return dict(header)


def _require_same(path: Path, header: dict[str, Any], identity: Mapping[str, str], shape: StateShape) -> None:
    stored = header["identity"]
    for name in sorted(identity.keys() | stored.keys(), key=[*_DIFFERENCES, *identity, *stored].index):
        if stored.get(name) != identity.get(name):
            raise SavedStateError(
                f"{path} was saved with {_DIFFERENCES.get(name, f'another {name}')} than the one that is loaded.",
                _AGAIN,
            )
    if (header.get("num_layers"), header.get("page"), header.get("dtype")) != (
        shape.num_layers,
        list(shape.page),
        shape.dtype,
    ):
        raise SavedStateError(f"{path} was saved with another layout of the key-value cache.", _AGAIN)
    if not header["tokens"] or len(header["tokens"]) % shape.page_tokens:
        raise _torn(path)


def _torn(path: Path) -> SavedStateError:
    return SavedStateError(f"{path} is torn: it is not as long as it says, or its header cannot be read.", _AGAIN)


def _data_start(header_bytes: int) -> int:
    return -(-(len(_MAGIC) + _LENGTH_BYTES + header_bytes) // _ALIGNMENT) * _ALIGNMENT


def _tokens_digest(tokens: Sequence[int]) -> str:
    return hashlib.sha256(np.asarray(tokens, "<i4").tobytes()).hexdigest()


def _check_disk(path: Path, total_bytes: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    free_bytes = shutil.disk_usage(path.parent).free
    if free_bytes < total_bytes + _SPARE_DISK_BYTES:
        raise SavedStateError(
            f"The state needs {(total_bytes >> 20) + 1} MiB in {path.parent}, where {free_bytes >> 20} are free.",
            "Make room there, or give another path.",
        )
