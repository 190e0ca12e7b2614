"""Checkpoint folders: what whole ones give, and the one sentence that every kind of damage gets."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

from local_runtime.checkpoint import Checkpoint
from local_runtime.errors import CheckpointError, LocalRuntimeError, UnsupportedModelError
from local_runtime.models.llama_weights import weight_specs
from tests.local_runtime.checkpoints import checkpoint_tensors, llama_config, qwen2_config, write_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

INDEX = "model.safetensors.index.json"
SECOND = "model-00002-of-00003.safetensors"


def opened(folder: Path) -> Checkpoint:
    checkpoint = Checkpoint.open(folder)
    checkpoint.require(weight_specs(checkpoint.config))
    return checkpoint


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize(("dtype", "relative_error"), [("float32", 0), ("float16", 2**-11), ("bfloat16", 2**-8)])
def test_tensors_are_read_as_float32_whatever_they_are_stored_as(
    tmp_path: Path, shards: int, dtype: str, relative_error: float
) -> None:
    config = qwen2_config()
    checkpoint = opened(write_checkpoint(tmp_path, config, seed=5, shards=shards, dtype=dtype))
    for name, expected in checkpoint_tensors(config, seed=5).items():
        values = checkpoint.read_rows(name)
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, expected, rtol=relative_error, atol=1e-7 if relative_error else 0)
        np.testing.assert_array_equal(checkpoint.read_rows(name, 3, 9), values[3:9])


def test_a_bfloat16_tensor_is_rounded_to_nearest_even(tmp_path: Path) -> None:
    checkpoint = opened(write_checkpoint(tmp_path, llama_config(), dtype="bfloat16"))
    bits = checkpoint.read_rows("model.embed_tokens.weight").view(np.uint32)
    assert np.all(bits & 0xFFFF == 0)


def test_parameters_are_counted_once(tmp_path: Path) -> None:
    checkpoint = opened(write_checkpoint(tmp_path, qwen2_config()))
    total = sum(values.size for values in checkpoint_tensors(qwen2_config()).values())
    assert checkpoint.parameter_count(weight_specs(checkpoint.config)) == total


def test_the_fingerprint_follows_weights_and_configuration(tmp_path: Path) -> None:
    first = opened(write_checkpoint(tmp_path / "a", llama_config(), seed=1)).fingerprint()
    assert opened(tmp_path / "a").fingerprint() == first
    assert opened(write_checkpoint(tmp_path / "b", llama_config(), seed=2)).fingerprint() != first
    weights = tmp_path / "a" / "model.safetensors"
    os.utime(weights, ns=(0, weights.stat().st_mtime_ns + 1_000_000_000))
    assert opened(tmp_path / "a").fingerprint() != first


def remove_shard(folder: Path) -> None:
    (folder / SECOND).unlink()


def cut_shard(folder: Path) -> None:
    file = folder / SECOND
    file.write_bytes(file.read_bytes()[:-1000])


def cut_header(folder: Path) -> None:
    file = folder / SECOND
    file.write_bytes(file.read_bytes()[:20])


def empty_shard(folder: Path) -> None:
    (folder / SECOND).write_bytes(b"")


def overlong_shard(folder: Path) -> None:
    with (folder / SECOND).open("ab") as stream:
        stream.write(b"more")


def pointer(folder: Path) -> None:
    (folder / SECOND).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")


def rename_in_index(folder: Path) -> None:
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"] = {name.replace("norm", "nrom"): file for name, file in index["weight_map"].items()}
    (folder / INDEX).write_text(json.dumps(index))


def escape_folder(folder: Path) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": {"model.norm.weight": "../elsewhere.safetensors"}}))


def drop_from_index(folder: Path) -> None:
    index = json.loads((folder / INDEX).read_text())
    del index["weight_map"]["model.norm.weight"]
    (folder / INDEX).write_text(json.dumps(index))


def break_index(folder: Path) -> None:
    (folder / INDEX).write_text('{"weight_map": {')


def misshape_index(folder: Path) -> None:
    (folder / INDEX).write_text('{"weight_map": [1]}')


def drop_weights(folder: Path) -> None:
    for file in [folder / INDEX, *folder.glob("*.safetensors")]:
        file.unlink()


def pickles_only(folder: Path) -> None:
    drop_weights(folder)
    (folder / "pytorch_model.bin").touch()


def other_width(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(llama_config(intermediate_size=96)))


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (remove_shard, f"The shard {SECOND} that {INDEX} names is missing"),
        (cut_shard, rf"{SECOND} \(\d+ bytes\) is cut or is no safetensors file"),
        (cut_header, rf"{SECOND} \(20 bytes\) is cut or is no safetensors file"),
        (empty_shard, rf"{SECOND} \(0 bytes\) is cut or is no safetensors file"),
        (overlong_shard, rf"{SECOND} \(\d+ bytes\) is cut or is no safetensors file"),
        (pointer, f"{SECOND} is a Git LFS pointer"),
        (rename_in_index, "lacks the tensor .*nrom.*, which model.safetensors.index.json places there"),
        (escape_folder, r"names the shard '\.\./elsewhere\.safetensors', which is not a plain file name"),
        (drop_from_index, r"lacks the tensor model\.norm\.weight, which its config\.json implies"),
        (break_index, f"{INDEX} is not JSON"),
        (misshape_index, f"{INDEX} has no weight_map from tensors to files"),
        (drop_weights, r"holds no \*\.safetensors file"),
        (pickles_only, "holds PyTorch pickles but no"),
        (other_width, r"has the shape \[160, 64\], but config\.json implies \[96, 64\]"),
    ],
)
def test_damage_is_named_in_one_sentence_with_its_mend(
    tmp_path: Path, damage: Callable[[Path], None], named: str
) -> None:
    folder = write_checkpoint(tmp_path / "model", llama_config(), shards=3)
    opened(folder)
    damage(folder)
    with pytest.raises(CheckpointError, match=named) as caught:
        opened(folder)
    assert "\n" not in str(caught.value)
    assert caught.value.mend or damage is escape_folder


def test_a_folder_that_may_not_be_listed_is_not_called_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_checkpoint(tmp_path, llama_config())
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    assert opened(folder).tensors

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    for name in ("listdir", "scandir"):
        monkeypatch.setattr(os, name, refuse)
    with pytest.raises(CheckpointError, match=r"cannot be listed: Permission denied\. Give this user the right"):
        opened(folder)


def test_a_single_cut_file_is_named(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, llama_config())
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(CheckpointError, match=r"model\.safetensors \(\d+ bytes\) is cut"):
        opened(folder)


def test_a_type_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, llama_config())
    file = folder / "model.safetensors"
    content = file.read_bytes()
    assert content.count(b'"dtype":"F32","shape":[320,64]') == 2
    file.write_bytes(content.replace(b'"dtype":"F32","shape":[320,64]', b'"dtype":"I32","shape":[320,64]'))
    with pytest.raises(UnsupportedModelError, match="is stored as I32, which cannot be read"):
        opened(folder)


def test_a_file_that_is_cut_after_opening_is_noticed(tmp_path: Path) -> None:
    checkpoint = opened(write_checkpoint(tmp_path, llama_config()))
    file = tmp_path / "model.safetensors"
    os.truncate(file, file.stat().st_size - 500)
    last = max(checkpoint.tensors.values(), key=lambda tensor: tensor.offset)
    with pytest.raises(CheckpointError, match="ended while the tensor"):
        checkpoint.read_rows(last.name)
    file.unlink()
    with pytest.raises(LocalRuntimeError, match="cannot be read"):
        checkpoint.read_rows(last.name)
