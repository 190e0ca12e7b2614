"""A Hugging Face checkpoint folder: finding its shards, checking them, and reading tensors a few rows at a time.

The format of ``.safetensors`` (8-byte little-endian header length, JSON header, raw bytes) is checked by the library;
the bytes are then read with plain file reads rather than a memory map, so that what is read can be counted and freed,
and so that bfloat16, which numpy doesn't have, can be widened here.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from local_runtime.errors import CheckpointError, UnsupportedModelError
from local_runtime.models.config import ModelConfig
from local_runtime.paths import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from local_runtime.models.spec import WeightSpec

__all__ = ["Checkpoint", "StoredTensor"]

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_AGAIN = "Copy or download the file again."
_STORED_DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
_SAMPLE_BYTES = 4096


@dataclass(frozen=True)
class StoredTensor:
    """Where one tensor lies.

    Attributes:
        name: Its name in the checkpoint.
        file: The shard.
        dtype: Safetensors' name of the type, for example ``BF16``.
        shape: Its shape.
        offset: First byte in the file.
        nbytes: Length in bytes.
    """

    name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


class Checkpoint:
    """An opened checkpoint folder: its configuration and the table of its tensors. No weights are held in memory.

    Attributes:
        folder: The folder.
        config: The model's configuration.
        tensors: All tensors by name.
    """

    def __init__(self, folder: Path, config: ModelConfig, tensors: dict[str, StoredTensor]) -> None:
        self.folder = folder
        self.config = config
        self.tensors = tensors

    @classmethod
    def open(cls, folder: str | Path) -> Checkpoint:
        """Read the configuration and every shard's header, and check that the files are whole.

        Raises:
            CheckpointError: The folder is no checkpoint, or a shard is missing, cut, or not in the safetensors format.
            UnsupportedModelError: The architecture, or an option that changes results, is not implemented.
        """
        folder = Path(folder)
        config = ModelConfig.from_folder(folder)
        index_file = folder / _INDEX
        if kind_of(index_file) == "file":
            tensors = _read_indexed(folder, index_file)
        else:
            tensors = {}
            for file in _unindexed_shards(folder):
                tensors.update(_read_header(file))
        return cls(folder, config, tensors)

    def require(self, specs: Iterable[WeightSpec]) -> None:
        """Check that every tensor that the model needs is there with the shape and a type that can be read.

        Raises:
            CheckpointError: A tensor is missing or has another shape than the configuration implies.
            UnsupportedModelError: A tensor is stored in a type other than float32, float16 and bfloat16.
        """
        for spec in specs:
            for index, source in enumerate(spec.sources):
                stored = self.tensors.get(source)
                if stored is None:
                    raise CheckpointError(
                        f"{self.folder} lacks the tensor {source}, which its config.json implies.",
                        "Check that all shards and the right config.json are in the folder.",
                    )
                wanted = spec.source_shape(index)
                if stored.shape != wanted:
                    raise CheckpointError(
                        f"The tensor {source} in {stored.file.name} has the shape {list(stored.shape)}, "
                        f"but config.json implies {list(wanted)}.",
                        "Check that config.json and the weights belong to the same model.",
                    )
                if stored.dtype not in _STORED_DTYPES:
                    raise UnsupportedModelError(
                        f"The tensor {source} in {stored.file.name} is stored as {stored.dtype}, which cannot be read.",
                        "Use a checkpoint in float32, float16 or bfloat16.",
                    )

    def read_rows(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[np.float32]:
        """Read rows ``start:stop`` of a tensor, widened to float32.

        Args:
            name: The tensor's name.
            start: First row.
            stop: Row after the last one; None reads to the end.

        Returns:
            float32 ``[stop - start, …]``, freshly allocated.

        Raises:
            CheckpointError: The file became shorter or unreadable since it was opened.
        """
        stored = self.tensors[name]
        stop = stored.shape[0] if stop is None else stop
        row_shape = stored.shape[1:]
        row_values = int(np.prod(row_shape, dtype=np.int64))
        dtype = _STORED_DTYPES[stored.dtype]
        count = (stop - start) * row_values
        offset = stored.offset + start * row_values * dtype.itemsize
        try:
            raw = np.fromfile(stored.file, dtype=dtype, count=count, offset=offset)
        except OSError as error:
            raise CheckpointError(f"{stored.file} cannot be read: {error.strerror or error}.", _AGAIN) from error
        if raw.size != count:
            raise CheckpointError(f"{stored.file} ended while the tensor {name} was read.", _AGAIN)
        return _widen(raw, stored.dtype).reshape(stop - start, *row_shape)

    def fingerprint(self) -> str:
        """A hash that changes when the weights do, without reading all of them.

        It covers the configuration, and of every shard the name, size, modification time, the place of every tensor, and
        4 KiB of its beginning, its middle and its end.

        Raises:
            CheckpointError: A file cannot be read.
        """
        digest = hashlib.sha256()
        digest.update(json.dumps(self.config.to_dict(), sort_keys=True).encode())
        by_file: dict[Path, list[StoredTensor]] = {}
        for stored in self.tensors.values():
            by_file.setdefault(stored.file, []).append(stored)
        try:
            for file in sorted(by_file):
                stat = file.stat()
                digest.update(f"{file.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
                with file.open("rb") as stream:
                    for stored in sorted(by_file[file], key=lambda tensor: tensor.offset):
                        digest.update(f"{stored.name} {stored.dtype} {stored.shape} {stored.offset}\n".encode())
                        for start in (0, stored.nbytes // 2, max(0, stored.nbytes - _SAMPLE_BYTES)):
                            stream.seek(stored.offset + start)
                            digest.update(stream.read(min(_SAMPLE_BYTES, stored.nbytes - start)))
        except OSError as error:
            raise CheckpointError(
                f"The weights in {self.folder} cannot be read: {error.strerror or error}.",
                "Copy or download the checkpoint again.",
            ) from error
        return digest.hexdigest()

    def parameter_count(self, specs: Iterable[WeightSpec]) -> int:
        """Number of weights of the model that ``specs`` describes; tied embeddings count once."""
        return sum(int(np.prod(spec.shape, dtype=np.int64)) for spec in specs)


def _widen(raw: npt.NDArray[Any], dtype: str) -> npt.NDArray[np.float32]:
    if dtype == "BF16":  # bfloat16 is the upper half of a float32
        bits = raw.astype(np.uint32)
        bits <<= np.uint32(16)
        return bits.view(np.float32)
    return raw.astype(np.float32, copy=False)


def _unindexed_shards(folder: Path) -> list[Path]:
    if kind_of(folder / _SINGLE) == "file":
        return [folder / _SINGLE]
    try:
        files = sorted(folder.iterdir())  # not glob, to which a folder that may not be listed looks empty
    except OSError as error:
        raise CheckpointError(
            f"{folder} cannot be listed: {error.strerror or error}.", "Give this user the right to read the folder."
        ) from error
    shards = [file for file in files if file.suffix == ".safetensors"]
    if shards:
        return shards
    suffixes = {file.suffix for file in files}
    if suffixes & {".bin", ".pt", ".pth"}:
        raise CheckpointError(
            f"{folder} holds PyTorch pickles but no *.safetensors file; pickles can run code and are not read.",
            "Convert it with transformers: model.save_pretrained(folder, safe_serialization=True).",
        )
    if ".gguf" in suffixes:
        raise CheckpointError(
            f"{folder} holds a GGUF file but no *.safetensors file.", "Use the original Hugging Face checkpoint."
        )
    raise CheckpointError(f"{folder} holds no *.safetensors file.", "Copy or download the weights into the folder.")


def _read_indexed(folder: Path, index_file: Path) -> dict[str, StoredTensor]:
    try:
        record = json.loads(index_file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{index_file} cannot be read: {error.strerror or error}.", _AGAIN) from error
    except ValueError as error:
        raise CheckpointError(f"{index_file} is not JSON: {error}.", _AGAIN) from error
    weight_map = record.get("weight_map") if isinstance(record, dict) else None
    if not isinstance(weight_map, dict) or not all(isinstance(file_name, str) for file_name in weight_map.values()):
        raise CheckpointError(f"{index_file} has no weight_map from tensors to files.", _AGAIN)
    by_file: dict[str, list[str]] = {}
    for name, file_name in weight_map.items():
        by_file.setdefault(file_name, []).append(name)

    tensors: dict[str, StoredTensor] = {}
    for file_name, names in sorted(by_file.items()):
        if PurePosixPath(file_name).name != file_name or "\\" in file_name or file_name in ("", ".", ".."):
            raise CheckpointError(
                f"{index_file} names the shard {file_name!r}, which is not a plain file name.", _AGAIN
            )
        file = folder / file_name
        if kind_of(file) != "file":
            raise CheckpointError(
                f"The shard {file_name} that {_INDEX} names is missing from {folder}.",
                "Copy or download all shards into the folder.",
            )
        stored = _read_header(file)
        for name in names:
            if name not in stored:
                raise CheckpointError(
                    f"The shard {file} lacks the tensor {name}, which {_INDEX} places there.",
                    "Copy or download the checkpoint again.",
                )
        tensors.update({name: stored[name] for name in names})
    return tensors


def _read_header(file: Path) -> dict[str, StoredTensor]:
    """Read one shard's header; the library checks that it is well formed and that the file has exactly its length."""
    try:
        with file.open("rb") as stream:
            start = stream.read(64)
            if start.startswith(b"version https://git-lfs"):
                raise CheckpointError(
                    f"{file} is a Git LFS pointer, not the weights themselves.", "Run git lfs pull in the checkpoint."
                )
        with safe_open(str(file), framework="numpy"):
            pass
        with file.open("rb") as stream:
            header_bytes = int.from_bytes(stream.read(8), "little")
            header: dict[str, Any] = json.loads(stream.read(header_bytes))
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror or error}.", _AGAIN) from error
    except (SafetensorError, ValueError) as error:
        size = file.stat().st_size
        raise CheckpointError(f"{file} ({size} bytes) is cut or is no safetensors file: {error}.", _AGAIN) from error

    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        tensors[name] = StoredTensor(
            name, file, entry["dtype"], tuple(entry["shape"]), 8 + header_bytes + begin, end - begin
        )
    return tensors
