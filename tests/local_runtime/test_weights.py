"""Conversion: right values in every form, bounded memory, nothing half-written, and damage that is noticed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import local_runtime.weights as weights_module
from local_runtime.artifact import build_entry, sealed
from local_runtime.checkpoint import Checkpoint
from local_runtime.errors import CheckpointError, CompileError, LocalRuntimeError, UnsupportedModelError
from local_runtime.models.llama_weights import weight_specs
from local_runtime.quantization import (
    Layout,
    Quantization,
    dequantize_q4,
    unpack_q4_row_major,
    unpack_q4_tiled,
    untile_rows,
)
from local_runtime.weights import (
    MANIFEST_FILE,
    WEIGHTS_FILE,
    WeightsManifest,
    convert,
    open_weights,
    plan,
)
from tests.local_runtime.checkpoints import checkpoint_tensors, llama_config, qwen2_config, write_checkpoint

if TYPE_CHECKING:
    from local_runtime.models.spec import WeightSpec

LAYOUTS: list[Layout] = ["cpu-tiled", "row-major"]
# 330 rows and a vocabulary that is no multiple of 32 exercise the padding.
CONFIG = qwen2_config(vocab_size=330, intermediate_size=96, tie_word_embeddings=False)


def opened(folder: Path) -> tuple[Checkpoint, list[WeightSpec]]:
    checkpoint = Checkpoint.open(folder)
    return checkpoint, weight_specs(checkpoint.config)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("source"), CONFIG, seed=3, shards=2)


def restore(parts: dict[str, np.ndarray], spec: WeightSpec, layout: Layout) -> np.ndarray:
    """Float32 rows of one converted parameter, whatever its form."""
    if spec.kind == "vector":
        return parts["weight"].astype(np.float32)
    if "qweight" in parts:
        if layout == "cpu-tiled":
            return dequantize_q4(*unpack_q4_tiled(parts["qweight"], parts["scale"], spec.shape[0]))
        return dequantize_q4(unpack_q4_row_major(parts["qweight"]), parts["scale"])
    rows = untile_rows(parts["weight"], spec.shape[0]) if layout == "cpu-tiled" else parts["weight"]
    return rows.astype(np.float32)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("quant", ["q4", "f16", "f32"])
def test_every_parameter_arrives_in_order_and_with_its_values(
    source: Path, tmp_path: Path, quant: Quantization, layout: Layout
) -> None:
    checkpoint, specs = opened(source)
    manifest = convert(checkpoint, specs, quant, layout, tmp_path)
    assert manifest == WeightsManifest.read(tmp_path)
    arrays = open_weights(tmp_path)
    assert [(name, part) for name, part, _ in arrays] == [(e.name, e.part) for e in plan(specs, quant, layout)]
    assert all(entry.offset % 4096 == 0 for entry in manifest.entries)

    by_name: dict[str, dict[str, np.ndarray]] = {}
    for name, part, array in arrays:
        by_name.setdefault(name, {})[part] = array
    assert list(by_name) == [spec.name for spec in specs]
    tensors = checkpoint_tensors(CONFIG, seed=3)
    for spec in specs:
        expected = np.concatenate([tensors[name] for name in spec.sources])
        restored = restore(by_name[spec.name], spec, layout)
        assert restored.shape == spec.shape
        if spec.kind != "vector" and quant == "q4":
            error = ((restored.astype(np.float64) - expected) ** 2).sum() / (expected.astype(np.float64) ** 2).sum()
            assert error < 0.008
        else:
            half = layout == "row-major" and quant != "f32" if spec.kind == "vector" else quant == "f16"
            np.testing.assert_allclose(restored, expected, rtol=2**-11 if half else 0, atol=1e-7 if half else 0)


def test_types_are_those_that_the_kernels_expect(source: Path, tmp_path: Path) -> None:
    checkpoint, specs = opened(source)
    expected: dict[tuple[str, str], dict[str, str]] = {
        ("q4", "cpu-tiled"): {"qweight": "uint8", "scale": "float16", "vector": "float32"},
        ("q4", "row-major"): {"qweight": "uint32", "scale": "float16", "vector": "float16"},
        ("f16", "cpu-tiled"): {"weight": "float16", "vector": "float32"},
        ("f16", "row-major"): {"weight": "float16", "vector": "float16"},
        ("f32", "cpu-tiled"): {"weight": "float32", "vector": "float32"},
        ("f32", "row-major"): {"weight": "float32", "vector": "float32"},
    }
    kinds = {spec.name: spec.kind for spec in specs}
    for (quant, layout), types in expected.items():
        convert(checkpoint, specs, quant, layout, tmp_path)  # type: ignore[arg-type]
        found = {
            "vector" if kinds[name] == "vector" else part: array.dtype.name
            for name, part, array in open_weights(tmp_path)
        }
        assert found == types


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_result_does_not_depend_on_the_block_size(
    source: Path, tmp_path: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, specs = opened(source)
    for name in ("whole", "pieces"):
        (tmp_path / name).mkdir()
    whole = convert(checkpoint, specs, "q4", layout, tmp_path / "whole")
    monkeypatch.setattr(weights_module, "_BLOCK_VALUES", 32 * 64)  # blocks that straddle query, key and value
    pieces = convert(checkpoint, specs, "q4", layout, tmp_path / "pieces")
    assert whole == pieces
    assert (tmp_path / "whole" / WEIGHTS_FILE).read_bytes() == (tmp_path / "pieces" / WEIGHTS_FILE).read_bytes()


def test_progress_rises_to_one_and_names_the_parameters(source: Path, tmp_path: Path) -> None:
    checkpoint, specs = opened(source)
    reports: list[tuple[float, str]] = []
    convert(checkpoint, specs, "f16", "row-major", tmp_path, lambda done, name: reports.append((done, name)))
    parts = [done for done, _ in reports]
    assert parts == sorted(parts)
    assert parts[0] == 0.0
    assert reports[-1] == (1.0, "")
    assert [name for _, name in reports[:-1]] == [spec.name for spec in specs]


def test_an_interrupted_conversion_leaves_nothing_in_the_cache_and_can_be_repeated(
    source: Path, tmp_path: Path
) -> None:
    checkpoint, specs = opened(source)
    entry = tmp_path / "weights"

    def interrupt(done: float, name: str) -> None:
        if done > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_entry(entry, Path.is_dir, lambda out: convert(checkpoint, specs, "q4", "cpu-tiled", out, interrupt))
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == []
    build_entry(entry, Path.is_dir, lambda out: convert(checkpoint, specs, "q4", "cpu-tiled", out))
    assert sorted(file.name for file in entry.iterdir()) == [WEIGHTS_FILE, MANIFEST_FILE]
    assert len(open_weights(entry)) == len(plan(specs, "q4", "cpu-tiled"))


def change_byte(folder: Path) -> None:
    with (folder / WEIGHTS_FILE).open("r+b") as stream:
        stream.seek(5000)
        byte = stream.read(1)[0]
        stream.seek(5000)
        stream.write(bytes([byte ^ 1]))


def cut_weights(folder: Path) -> None:
    os.truncate(folder / WEIGHTS_FILE, 5000)


def remove_weights(folder: Path) -> None:
    (folder / WEIGHTS_FILE).unlink()


def cut_manifest(folder: Path) -> None:
    os.truncate(folder / MANIFEST_FILE, 100)


def remove_manifest(folder: Path) -> None:
    (folder / MANIFEST_FILE).unlink()


def age_manifest(folder: Path) -> None:
    content = json.loads((folder / MANIFEST_FILE).read_text())
    (folder / MANIFEST_FILE).write_text(json.dumps({**content, "version": 0}))


def change_first_entry(folder: Path, **fields: object) -> None:
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    del manifest["manifest_sha256"]
    manifest["entries"][0].update(fields)
    (folder / MANIFEST_FILE).write_text(json.dumps(sealed(manifest)))


def change_digit(folder: Path) -> None:
    text = (folder / MANIFEST_FILE).read_text()
    (folder / MANIFEST_FILE).write_text(text.replace('"shape": [330', '"shape": [331', 1))


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (change_byte, r"embed \(weight\) .* does not match its checksum"),
        (cut_weights, "has 5000 bytes instead of"),
        (remove_weights, "cannot be opened"),
        (cut_manifest, "manifest .* cannot be used"),
        (remove_manifest, "manifest .* cannot be used"),
        (age_manifest, "version 0 instead of 2"),
        (change_digit, "manifest .* cannot be used: it does not match its own checksum"),
        (lambda folder: change_first_entry(folder, shape=[331, 64]), "do not fit their manifest"),
        (lambda folder: change_first_entry(folder, dtype="float33"), "do not fit their manifest"),
        (lambda folder: change_first_entry(folder, dtype="object"), "do not fit their manifest"),
        (lambda folder: change_first_entry(folder, offset="0"), "do not fit their manifest"),
    ],
)
def test_a_torn_result_is_noticed(source: Path, tmp_path: Path, damage: Any, named: str) -> None:
    convert(*opened(source), "f32", "row-major", tmp_path)
    damage(tmp_path)
    with pytest.raises(CompileError, match=named) as caught:
        open_weights(tmp_path)
    assert "converted again" in caught.value.mend


def test_opened_weights_can_be_written_without_touching_the_file(source: Path, tmp_path: Path) -> None:
    convert(*opened(source), "f32", "row-major", tmp_path)
    array = open_weights(tmp_path)[0][2]
    array[0, 0] = 123.0
    assert open_weights(tmp_path)[0][2][0, 0] != 123.0


def test_row_lengths_that_are_no_whole_groups_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    checkpoint, specs = opened(write_checkpoint(tmp_path / "model", llama_config(intermediate_size=100)))
    with pytest.raises(UnsupportedModelError, match=r"q4 needs row lengths .*mlp\.down_proj\.weight has 100"):
        convert(checkpoint, specs, "q4", "cpu-tiled", tmp_path)
    assert not (tmp_path / WEIGHTS_FILE).exists()
    convert(checkpoint, specs, "f16", "cpu-tiled", tmp_path)


def overwrite_first_value(folder: Path, value: float) -> None:
    stored = Checkpoint.open(folder).tensors["model.layers.1.mlp.up_proj.weight"]
    with stored.file.open("r+b") as stream:
        stream.seek(stored.offset)
        stream.write(np.float32(value).tobytes())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named(tmp_path: Path, value: float) -> None:
    folder = write_checkpoint(tmp_path / "model", llama_config())
    overwrite_first_value(folder, value)
    with pytest.raises(CheckpointError, match=r"layers\.1\.mlp\.up_proj\.weight .* not finite"):
        convert(*opened(folder), "f32", "cpu-tiled", tmp_path)
    assert not (tmp_path / MANIFEST_FILE).exists()


def test_values_beyond_float16_need_float32(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", llama_config())
    overwrite_first_value(folder, 1e5)
    with pytest.raises(UnsupportedModelError, match="beyond the range of float16"):
        convert(*opened(folder), "f16", "cpu-tiled", tmp_path)
    convert(*opened(folder), "f32", "cpu-tiled", tmp_path)


def test_a_folder_that_cannot_be_written_is_named(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LocalRuntimeError, match="cannot be written to"):
        convert(*opened(source), "f32", "cpu-tiled", tmp_path / "file")


def test_a_full_disk_is_noticed_before_work_begins(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_module, "_SPARE_DISK_BYTES", 2**62)
    with pytest.raises(LocalRuntimeError, match=r"need \d+ MiB in .* MiB are free"):
        convert(*opened(source), "f32", "cpu-tiled", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_a_change_in_any_third_of_a_tensor_is_noticed(tmp_path: Path, place: float) -> None:
    folder = write_checkpoint(tmp_path / "model", llama_config())
    stored = Checkpoint.open(folder).tensors["model.embed_tokens.weight"]
    assert stored.nbytes > 3 * 4096
    before, times = Checkpoint.open(folder).fingerprint(), stored.file.stat()
    with stored.file.open("r+b") as stream:
        stream.seek(stored.offset + int(place * (stored.nbytes - 4)))
        stream.write(np.float32(9).tobytes())
    os.utime(stored.file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert Checkpoint.open(folder).fingerprint() != before


@pytest.fixture(scope="module")
def large_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 147 MiB whose two largest tensors have 64 MiB each."""
    config = llama_config(hidden_size=1024, intermediate_size=1024, num_hidden_layers=1, vocab_size=16384)
    folder = write_checkpoint(tmp_path_factory.mktemp("large"), config, max_tokenizer_vocab=320)
    assert (folder / "model.safetensors").stat().st_size > 145 * 2**20
    return folder


LARGEST_TENSOR_BYTES = 64 * 2**20


@pytest.mark.parametrize("layout", LAYOUTS)
def test_allocations_stay_near_the_largest_tensor(large_source: Path, tmp_path: Path, layout: Layout) -> None:
    checkpoint, specs = opened(large_source)
    tracemalloc.start()  # numpy reports its arrays to it
    try:
        convert(checkpoint, specs, "q4", layout, tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 2**20 < peak < 1.25 * LARGEST_TENSOR_BYTES


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from Linux's /proc")
def test_resident_memory_stays_near_the_largest_tensor(large_source: Path, tmp_path: Path) -> None:
    # VmHWM starts afresh with the program; ru_maxrss would start with what the parent had.
    script = (
        "import re, sys; from local_runtime.checkpoint import Checkpoint\n"
        "from local_runtime.weights import convert; from local_runtime.models.llama_weights import weight_specs\n"
        "c = Checkpoint.open(sys.argv[1])\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1]) * 1024\n"
        "before = peak()\n"
        "convert(c, weight_specs(c.config), 'q4', 'cpu-tiled', sys.argv[2])\n"
        "print(peak() - before)\n"
    )
    command = [sys.executable, "-c", script, str(large_source), str(tmp_path)]
    result = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert 2**20 < int(result.stdout) < 1.25 * LARGEST_TENSOR_BYTES
