"""Converting a checkpoint's weights to the form that the compiled functions read, and opening the result.

The converted model is two files in one folder: ``weights.bin``, every tensor at a multiple of 4096 bytes so that it can
be memory-mapped and shared between processes, and ``weights.json``, the manifest that says what lies where.

Conversion streams: it reads a few rows, quantises and lays them out, writes them, and forgets them. It fills a folder that
nobody reads yet: :func:`local_runtime.artifact.build_entry` gives it its final name when it is complete and on the disk.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, get_args

import numpy as np
import numpy.typing as npt

from local_runtime.artifact import sealed, unsealed
from local_runtime.errors import CheckpointError, CompileError, LocalRuntimeError, UnsupportedModelError
from local_runtime.quantization import (
    GROUP_SIZE,
    TILE_ROWS,
    Layout,
    Quantization,
    pack_q4_row_major,
    pack_q4_tiled,
    padded_rows,
    quantize_q4,
    tile_rows,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from local_runtime.checkpoint import Checkpoint
    from local_runtime.models.spec import WeightSpec

__all__ = [
    "MANIFEST_FILE",
    "WEIGHTS_FILE",
    "WeightEntry",
    "WeightsManifest",
    "convert",
    "open_weights",
    "plan",
    "plan_manifest",
]

WEIGHTS_FILE = "weights.bin"
MANIFEST_FILE = "weights.json"
MANIFEST_VERSION = 2

Part = Literal["weight", "qweight", "scale"]

_ALIGNMENT = 4096
# Rows are read so that a block is about this many values: 16 MiB as float32, which bounds the converter's memory.
_BLOCK_VALUES = 4 * 1024 * 1024
_SPARE_DISK_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class WeightEntry:
    """One array of ``weights.bin``.

    Attributes:
        name: The parameter's name in `WeightSpec`.
        part: ``weight``, or ``qweight`` and ``scale`` of a quantised matrix.
        dtype: numpy's name of the type.
        shape: Shape in the chosen layout.
        offset: First byte in the file, a multiple of 4096.
        nbytes: Length in bytes.
        crc32: Checksum of these bytes.
    """

    name: str
    part: Part
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int
    crc32: int = 0


@dataclass(frozen=True)
class WeightsManifest:
    """The content of ``weights.json``.

    Attributes:
        version: Version of this file's form.
        key: The name of the cache entry that this was made for; empty outside a cache.
        quant: ``q4``, ``f16`` or ``f32``.
        layout: ``cpu-tiled`` or ``row-major``.
        fingerprint: `Checkpoint.fingerprint` of the source.
        total_bytes: Size of ``weights.bin``.
        entries: The arrays, in the order of the compiled functions' parameters.
    """

    version: int
    key: str
    quant: Quantization
    layout: Layout
    fingerprint: str
    total_bytes: int
    entries: tuple[WeightEntry, ...]

    @classmethod
    def read(cls, folder: str | Path) -> WeightsManifest:
        """Read the manifest of a converted model.

        Raises:
            CompileError: It is missing, torn, or of another version.
        """
        file = Path(folder) / MANIFEST_FILE
        try:
            stored = json.loads(file.read_text(encoding="utf-8"))
            if stored["version"] != MANIFEST_VERSION:
                raise ValueError(f"version {stored['version']!r} instead of {MANIFEST_VERSION}")
            raw = unsealed(stored)
            raw["entries"] = tuple(_entry(entry) for entry in raw["entries"])
            return cls(**raw)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CompileError(f"The converted weights' manifest {file} cannot be used: {error}.", _REBUILD) from error

    def content_digest(self) -> str:
        """SHA-256 over the arrays' names, forms and checksums: the same for the same weights, wherever they came from."""
        arrays = [(entry.name, entry.part, entry.dtype, entry.shape, entry.crc32) for entry in self.entries]
        return hashlib.sha256(json.dumps(arrays).encode()).hexdigest()

    def matches(self, planned: WeightsManifest) -> bool:
        """Whether this is what was planned: the same source, key, form, and arrays. A plan has no checksums yet."""
        return replace(self, entries=tuple(replace(entry, crc32=0) for entry in self.entries)) == planned


_REBUILD = "Delete the folder; it is converted again from the checkpoint."


def plan(specs: Sequence[WeightSpec], quant: Quantization, layout: Layout) -> list[WeightEntry]:
    """Say what ``weights.bin`` will hold, without reading any weights.

    Args:
        specs: The model's parameters in order.
        quant: Quantisation of the matrices.
        layout: Memory layout of the matrices.

    Returns:
        The arrays with shapes, types and places; checksums are 0.

    Raises:
        UnsupportedModelError: ``q4`` was asked for, and a matrix has a row length that is not a multiple of 32.
    """
    entries: list[WeightEntry] = []
    offset = 0
    for spec in specs:
        for part, dtype, shape in _parts(spec, quant, layout):
            nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            entries.append(WeightEntry(spec.name, part, dtype.name, shape, offset, nbytes))
            offset += -(-nbytes // _ALIGNMENT) * _ALIGNMENT
    return entries


def plan_manifest(
    checkpoint: Checkpoint, specs: Sequence[WeightSpec], quant: Quantization, layout: Layout, key: str = ""
) -> WeightsManifest:
    """Say what `convert` will write, but for the checksums, which are 0.

    Raises:
        CheckpointError: A file of the checkpoint cannot be read.
        UnsupportedModelError: As for `plan`.
    """
    entries = plan(specs, quant, layout)
    total_bytes = entries[-1].offset + -(-entries[-1].nbytes // _ALIGNMENT) * _ALIGNMENT
    return WeightsManifest(MANIFEST_VERSION, key, quant, layout, checkpoint.fingerprint(), total_bytes, tuple(entries))


def convert(
    checkpoint: Checkpoint,
    specs: Sequence[WeightSpec],
    quant: Quantization,
    layout: Layout,
    out_dir: str | Path,
    on_progress: Callable[[float, str], None] | None = None,
    *,
    key: str = "",
) -> WeightsManifest:
    """Convert a checkpoint's weights into ``out_dir``.

    Peak memory is a few blocks of 16 MiB, whatever the model's size. What an exception leaves in the folder is not whole.

    Args:
        checkpoint: The source.
        specs: The model's parameters in order.
        quant: ``q4``, ``f16`` or ``f32``.
        layout: ``cpu-tiled`` or ``row-major``.
        out_dir: An existing folder for the two files.
        on_progress: Called with the part done (0..1) and the name of the parameter being converted.
        key: The name of the cache entry that is made.

    Returns:
        The manifest that was written.

    Raises:
        CheckpointError: A tensor is missing, has the wrong shape, or holds values that are not finite numbers.
        UnsupportedModelError: A tensor's type or size doesn't suit the quantisation, or float16 can't hold it.
        LocalRuntimeError: The disk is full or the folder cannot be written.
    """
    checkpoint.require(specs)
    planned = plan_manifest(checkpoint, specs, quant, layout, key)
    entries, total_bytes = planned.entries, planned.total_bytes
    folder = Path(out_dir)
    report = on_progress or (lambda done, name: None)
    try:
        _check_disk(folder, total_bytes)
        with (folder / WEIGHTS_FILE).open("wb") as stream:
            checksums = _write_all(checkpoint, specs, entries, stream, quant, layout, report)
            stream.truncate(total_bytes)
        summed = tuple(replace(entry, crc32=checksum) for entry, checksum in zip(entries, checksums, strict=True))
        manifest = replace(planned, entries=summed)
        (folder / MANIFEST_FILE).write_text(json.dumps(sealed(asdict(manifest))), encoding="utf-8")
    except OSError as error:
        raise LocalRuntimeError(
            f"The converted weights cannot be written to {folder}: {error.strerror or error}.",
            f"Make {total_bytes >> 20} MiB free there, or choose another cache folder.",
        ) from error
    report(1.0, "")
    return manifest


def open_weights(folder: str | Path, *, verify: bool = True) -> list[tuple[str, Part, npt.NDArray[Any]]]:
    """Memory-map a converted model.

    Args:
        folder: Where `convert` wrote.
        verify: Compare every array with its checksum (reads the whole file once, about a second per 2 GiB).

    Returns:
        ``(name, part, array)`` in the order of the compiled functions' parameters. The arrays are private copy-on-write
        views of the file and keep it mapped while they live.

    Raises:
        CompileError: A file is missing, has another length, does not match its checksum, or an array does not fit its place.
    """
    manifest = WeightsManifest.read(folder)
    file = Path(folder) / WEIGHTS_FILE
    try:
        size = file.stat().st_size
        if size != manifest.total_bytes:
            raise CompileError(f"{file} has {size} bytes instead of {manifest.total_bytes}.", _REBUILD)
        mapped = np.memmap(file, dtype=np.uint8, mode="c")
        slices = [mapped[entry.offset : entry.offset + entry.nbytes] for entry in manifest.entries]
        arrays = [_array(raw, entry) for raw, entry in zip(slices, manifest.entries, strict=True)]
    except OSError as error:
        raise CompileError(f"The converted weights {file} cannot be opened: {error.strerror}.", _REBUILD) from error
    except (ValueError, TypeError) as error:  # what numpy says of a type, shape or place that cannot be
        raise CompileError(f"The converted weights {file} do not fit their manifest: {error}.", _REBUILD) from error
    if verify:
        with ThreadPoolExecutor() as pool:  # zlib lets go of the interpreter lock
            checksums = list(pool.map(zlib.crc32, slices))
        for entry, checksum in zip(manifest.entries, checksums, strict=True):
            if checksum != entry.crc32:
                raise CompileError(f"{entry.name} ({entry.part}) in {file} does not match its checksum.", _REBUILD)
    return [(entry.name, entry.part, array) for entry, array in zip(manifest.entries, arrays, strict=True)]


def _array(raw: npt.NDArray[np.uint8], entry: WeightEntry) -> npt.NDArray[Any]:
    return np.asarray(raw).view(entry.dtype).reshape(entry.shape)


def _parts(spec: WeightSpec, quant: Quantization, layout: Layout) -> list[tuple[Part, np.dtype[Any], tuple[int, ...]]]:
    tiled = layout == "cpu-tiled"
    if spec.kind == "vector":
        return [("weight", np.dtype(np.float32 if tiled or quant == "f32" else np.float16), spec.shape)]
    rows, columns = spec.shape
    tiles = padded_rows(rows) // TILE_ROWS
    if quant != "q4":
        dtype = np.dtype(np.float16 if quant == "f16" else np.float32)
        return [("weight", dtype, (tiles, columns, TILE_ROWS) if tiled else spec.shape)]
    if columns % GROUP_SIZE:
        raise UnsupportedModelError(
            f"q4 needs row lengths that are multiples of {GROUP_SIZE}, but {' + '.join(spec.sources)} has {columns}.",
            "Choose f16 or f32 for this model.",
        )
    groups = columns // GROUP_SIZE
    if tiled:
        qweight_shape: tuple[int, ...] = (tiles, columns, TILE_ROWS // 2)
        return [
            ("qweight", np.dtype(np.uint8), qweight_shape),
            ("scale", np.dtype(np.float16), (tiles, groups, TILE_ROWS)),
        ]
    return [("qweight", np.dtype(np.uint32), (rows, columns // 8)), ("scale", np.dtype(np.float16), (rows, groups))]


def _write_all(
    checkpoint: Checkpoint,
    specs: Sequence[WeightSpec],
    entries: Sequence[WeightEntry],
    stream: BinaryIO,
    quant: Quantization,
    layout: Layout,
    report: Callable[[float, str], None],
) -> list[int]:
    """Write every parameter; returns the checksums of the entries."""
    total_rows = sum(spec.shape[0] * (spec.shape[1] if len(spec.shape) > 1 else 1) for spec in specs)
    done = 0
    checksums: list[int] = []
    remaining = list(entries)
    for spec in specs:
        parts = [remaining.pop(0) for _ in _parts(spec, quant, layout)]
        written = [0] * len(parts)
        sums = [0] * len(parts)
        for block in _blocks(checkpoint, spec):
            report(done / total_rows, spec.name)
            for i, array in enumerate(_encode(block, spec, quant, layout, [part.dtype for part in parts])):
                data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
                stream.seek(parts[i].offset + written[i])
                stream.write(data)
                sums[i] = zlib.crc32(data, sums[i])
                written[i] += data.nbytes
            done += block.size
        if written != [part.nbytes for part in parts]:
            raise AssertionError(f"{spec.name}: wrote {written} bytes of {[part.nbytes for part in parts]}")
        checksums += sums
    return checksums


def _blocks(checkpoint: Checkpoint, spec: WeightSpec) -> Iterator[npt.NDArray[np.float32]]:
    """The parameter's rows in order; every block but the last has a multiple of 32 rows, as tiles need."""
    columns = spec.shape[1] if len(spec.shape) > 1 else 1
    step = max(TILE_ROWS, _BLOCK_VALUES // columns // TILE_ROWS * TILE_ROWS)
    for start in range(0, spec.shape[0], step):
        stop = min(start + step, spec.shape[0])
        pieces = []
        source_start = 0
        for source, rows in zip(spec.sources, spec.source_rows, strict=True):
            first, last = max(start, source_start), min(stop, source_start + rows)
            if first < last:
                piece = checkpoint.read_rows(source, first - source_start, last - source_start)
                if not np.isfinite(piece).all():
                    raise CheckpointError(
                        f"The tensor {source} in {checkpoint.tensors[source].file.name} holds values that are not "
                        f"finite numbers.",
                        "Copy or download the checkpoint again.",
                    )
                pieces.append(piece)
            source_start += rows
        yield pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def _encode(
    block: npt.NDArray[np.float32], spec: WeightSpec, quant: Quantization, layout: Layout, dtypes: Sequence[str]
) -> Sequence[npt.NDArray[Any]]:
    tiled = layout == "cpu-tiled"
    if spec.kind == "vector":
        return [_narrow(block, dtypes[0], spec)]
    if quant == "q4":
        codes, scales = quantize_q4(block)
        return pack_q4_tiled(codes, scales) if tiled else pack_q4_row_major(codes, scales)
    values = _narrow(block, dtypes[0], spec)
    return [tile_rows(values) if tiled else values]


def _narrow(block: npt.NDArray[np.float32], dtype: str, spec: WeightSpec) -> npt.NDArray[Any]:
    if dtype == "float16" and block.size and np.abs(block).max() > np.finfo(np.float16).max:
        raise UnsupportedModelError(
            f"{' + '.join(spec.sources)} holds values beyond the range of float16.", "Choose f32 for this model."
        )
    return block.astype(dtype, copy=False)


def _entry(raw: dict[str, Any]) -> WeightEntry:
    entry = WeightEntry(**{**raw, "shape": tuple(raw["shape"])})
    if entry.part not in get_args(Part):
        raise ValueError(f"unknown part {entry.part!r}")
    return entry


def _check_disk(folder: Path, total_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < total_bytes + _SPARE_DISK_BYTES:
        raise LocalRuntimeError(
            f"The converted weights need {-(-(total_bytes + _SPARE_DISK_BYTES) >> 20)} MiB in {folder.parent}, "
            f"where {free >> 20} MiB are free.",
            "Make room there, or move the cache with HYBRIDLLM_CACHE.",
        )
