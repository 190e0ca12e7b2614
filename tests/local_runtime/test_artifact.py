"""The compile cache: right key, whole entries only, safe with two processes, and no C compiler needed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from local_runtime.artifact import MANIFEST, artifact_key, build_entry, cache_key, read_artifact, sealed
from local_runtime.build import BuildRequest, find_prepared, is_compiled, prepare
from local_runtime.checkpoint import Checkpoint
from local_runtime.errors import LocalRuntimeError
from local_runtime.versions import COMPILED_FROM, CONVERTED_BY, code_digest
from local_runtime.weights import MANIFEST_FILE
from tests.local_runtime.checkpoints import llama_config, write_checkpoint

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def request_for(engine_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> BuildRequest:
    """A request with a cache of its own, to be damaged; its code is that of other tests' models, compiled once for all."""
    folder = write_checkpoint(tmp_path_factory.mktemp("checkpoint"), llama_config(), seed=5)
    shared = prepare(BuildRequest(str(folder), "f32", "cpu", str(engine_cache)), lambda _: None)
    cache = tmp_path_factory.mktemp("cache")
    for entry in (shared.artifact, shared.weights, engine_cache / "targets"):
        shutil.copytree(entry, cache / entry.relative_to(engine_cache))
    return BuildRequest(str(folder), "f32", "cpu", str(cache))


def prepared(request: BuildRequest) -> object:
    return find_prepared(request, Checkpoint.open(request.folder))


def test_the_key_changes_with_everything_that_changes_the_code() -> None:
    config = {"hidden_size": 64}
    keys = {
        artifact_key(config, "q4", {"kind": "llvm", "mcpu": "znver3"}, {}),
        artifact_key({"hidden_size": 65}, "q4", {"kind": "llvm", "mcpu": "znver3"}, {}),
        artifact_key(config, "f16", {"kind": "llvm", "mcpu": "znver3"}, {}),
        artifact_key(config, "q4", {"kind": "llvm", "mcpu": "x86-64"}, {}),
        artifact_key(config, "q4", {"kind": "llvm", "mcpu": "znver3"}, {"machine": "aarch64"}),
    }
    assert len(keys) == 5
    assert artifact_key(config, "q4", {"mcpu": "znver3", "kind": "llvm"}, {}) in keys  # the order of keys says nothing


def test_the_key_changes_with_the_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    before = artifact_key({}, "q4", {}, {})
    for name in ("code_digest", "tvm_version"):
        with monkeypatch.context() as patch:
            patch.setattr(f"local_runtime.versions.{name}", lambda *_: "another")
            assert artifact_key({}, "q4", {}, {}) != before


def test_each_code_digest_covers_what_decides_about_its_entries() -> None:
    package = REPOSITORY / "local_runtime"
    for places in (COMPILED_FROM, CONVERTED_BY):
        assert all((package / place).exists() for place in places)
    assert {"quantization.py", "tvm_compat.py", "kernels"} <= set(COMPILED_FROM)
    assert {"quantization.py", "weights.py", "checkpoint.py"} <= set(CONVERTED_BY)
    assert len({code_digest(COMPILED_FROM), code_digest(CONVERTED_BY), code_digest(("weights.py",))}) == 3


def test_what_was_prepared_is_found_again(request_for: BuildRequest) -> None:
    found = find_prepared(request_for, Checkpoint.open(request_for.folder))
    assert found is not None
    assert read_artifact(found.artifact) is not None
    stages: list[str] = []
    prepare(request_for, lambda progress: stages.append(progress.stage))
    assert "compile" not in stages
    assert "convert" not in stages


def damage_code(folder: Path, how: str) -> None:
    code = folder / "model.o"
    whole = code.read_bytes()
    if how == "cut":
        code.write_bytes(whole[: len(whole) // 2])
    elif how == "flip":
        code.write_bytes(whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:])
    elif how == "missing object":
        code.unlink()
    elif how == "no manifest":
        (folder / MANIFEST).unlink()
    else:
        (folder / MANIFEST).write_text(json.dumps(["something", "else"]))


@pytest.mark.parametrize("how", ["cut", "flip", "missing object", "no manifest", "foreign manifest"])
def test_damaged_code_is_not_used(request_for: BuildRequest, tmp_path: Path, how: str) -> None:
    found = find_prepared(request_for, Checkpoint.open(request_for.folder))
    assert found is not None
    copy = shutil.copytree(found.artifact, tmp_path / found.artifact.name)
    assert read_artifact(copy) is not None
    damage_code(copy, how)
    assert read_artifact(copy) is None


def test_code_of_another_key_is_not_used(request_for: BuildRequest, tmp_path: Path) -> None:
    found = find_prepared(request_for, Checkpoint.open(request_for.folder))
    assert found is not None
    assert read_artifact(shutil.copytree(found.artifact, tmp_path / cache_key({"another": "model"}))) is None


def changed(manifest: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A manifest with other fields, sealed as if it had been written so."""
    body = {name: value for name, value in manifest.items() if name != "manifest_sha256"}
    return sealed({name: value for name, value in {**body, **fields}.items() if value is not None})


@pytest.mark.parametrize(
    "forge",
    [
        lambda manifest: {"objects": [], "sha256": {}},
        lambda manifest: sealed({"objects": [], "sha256": {}, "key": manifest["key"]}),
        lambda manifest: {**manifest, "max_batch": manifest["max_batch"] + 1},
        lambda manifest: changed(manifest, max_batch=None),
        lambda manifest: changed(manifest, objects=[]),
        lambda manifest: changed(manifest, objects="model.o"),
        lambda manifest: [manifest],
    ],
    ids=["nothing in it", "nothing in it, sealed", "a digit", "a field less", "no objects", "a type", "a list"],
)
def test_a_manifest_that_is_not_whole_is_not_used(
    request_for: BuildRequest, tmp_path: Path, forge: Callable[[dict[str, Any]], object]
) -> None:
    found = find_prepared(request_for, Checkpoint.open(request_for.folder))
    assert found is not None
    copy = shutil.copytree(found.artifact, tmp_path / found.artifact.name)
    manifest = json.loads((copy / MANIFEST).read_text())
    assert "max_batch" in manifest
    (copy / MANIFEST).write_text(json.dumps(forge(manifest)))
    assert read_artifact(copy) is None


def other_shape(manifest: dict[str, Any]) -> dict[str, Any]:
    return {**manifest, "entries": [{**manifest["entries"][0], "shape": [7, 7]}, *manifest["entries"][1:]]}


def other_names(manifest: dict[str, Any]) -> dict[str, Any]:
    first, second, *rest = manifest["entries"]
    swapped = [{**first, "name": second["name"]}, {**second, "name": first["name"]}, *rest]
    return changed(manifest, entries=swapped)


@pytest.mark.parametrize(
    "forge",
    [
        other_shape,
        lambda manifest: changed(other_shape(manifest)),
        other_names,
        lambda manifest: changed(manifest, entries=[]),
        lambda manifest: changed(manifest, quant="f16"),
        lambda manifest: changed(manifest, layout="row-major"),
        lambda manifest: changed(manifest, fingerprint="of another checkpoint"),
        lambda manifest: changed(manifest, key="another"),
    ],
    ids=["shape", "shape, sealed", "names", "no entries", "quant", "layout", "fingerprint", "key"],
)
def test_weights_that_are_not_those_of_the_request_are_converted_again(
    request_for: BuildRequest, forge: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    found = find_prepared(request_for, Checkpoint.open(request_for.folder))
    assert found is not None
    file = found.weights / MANIFEST_FILE
    whole = file.read_text()
    file.write_text(json.dumps(forge(json.loads(whole))))
    assert prepared(request_for) is None
    prepare(request_for, lambda _: None)
    assert prepared(request_for) == found
    assert file.read_text() == whole


def test_weights_of_another_checkpoint_of_the_same_form_are_not_used(request_for: BuildRequest, tmp_path: Path) -> None:
    other = write_checkpoint(tmp_path / "other", llama_config(), seed=6)
    theirs = prepare(BuildRequest(str(other), "f32", "cpu", request_for.cache), lambda _: None)
    ours = prepare(request_for, lambda _: None)
    assert (theirs.artifact, theirs.weights.name) != (ours.artifact, ours.weights.name)
    shutil.rmtree(ours.weights)
    shutil.copytree(theirs.weights, ours.weights)
    assert prepared(request_for) is None
    prepare(request_for, lambda _: None)
    assert prepared(request_for) == ours


def test_code_is_known_to_be_there_without_the_weights(request_for: BuildRequest) -> None:
    checkpoint = Checkpoint.open(request_for.folder)
    found = prepare(request_for, lambda _: None)
    shutil.rmtree(found.weights)
    assert prepared(request_for) is None
    assert is_compiled(request_for, checkpoint)
    assert not is_compiled(replace(request_for, quant="f16"), checkpoint)
    assert prepare(request_for, lambda _: None) == found


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_damaged_weights_are_rebuilt(request_for: BuildRequest, damage: str) -> None:
    found = find_prepared(request_for, Checkpoint.open(request_for.folder))
    assert found is not None
    file = found.weights / "weights.bin"
    whole = file.read_bytes()
    file.write_bytes(whole[:-100] if damage == "cut" else bytes([whole[0] ^ 255]) + whole[1:])
    assert prepared(request_for) is None
    prepare(request_for, lambda _: None)
    assert prepared(request_for) is not None
    assert file.read_bytes() == whole


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def build(out: Path) -> None:
        (out / "half").write_text("written")
        raise LocalRuntimeError("the power went out")

    with pytest.raises(LocalRuntimeError, match="power"):
        build_entry(tmp_path / "entry", lambda _: False, build)
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


def test_what_a_killed_build_left_behind_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".entry.abandoned").mkdir()
    (tmp_path / ".entry.abandoned" / "half").write_text("written")
    built = build_entry(
        tmp_path / "entry", lambda path: path.is_dir(), lambda out: (out / "x").write_text("1") and None
    )
    assert built
    assert sorted(path.name for path in tmp_path.iterdir()) == ["entry", "entry.lock"]


@pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o755), (0o027, 0o750), (0o077, 0o700)])
def test_an_entry_is_open_to_whom_the_umask_allows(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        build_entry(tmp_path / "entry", lambda _: False, lambda out: (out / "x").write_text("1") and None)
    finally:
        os.umask(before)
    assert (tmp_path / "entry").stat().st_mode & 0o777 == mode
    assert (tmp_path / "entry" / "x").stat().st_mode & 0o777 == mode & 0o666


def test_builders_that_meet_build_once(tmp_path: Path) -> None:
    built: list[int] = []
    outcomes: list[bool] = []

    def build(out: Path) -> None:
        built.append(1)
        (out / "x").write_text("whole")

    def attempt() -> None:
        outcomes.append(build_entry(tmp_path / "entry", lambda path: (path / "x").is_file(), build))

    threads = [threading.Thread(target=attempt) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert built == [1]
    assert sorted(outcomes) == [False] * 5 + [True]


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(LocalRuntimeError, match="cannot be written"):
        build_entry(blocked / "entry", lambda _: False, lambda _: None)


def test_keys_are_folder_names() -> None:
    assert cache_key({"a": 1}) == cache_key({"a": 1})
    assert len(cache_key({"a": 1})) == 32
    assert set(cache_key({"a": 1})) <= set("0123456789abcdef")


def start_build(request: BuildRequest, **environment: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "local_runtime.build"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        encoding="utf-8",
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(vars(request)))
    process.stdin.close()
    process.stdin = None
    return process


def test_damaged_code_is_rebuilt_by_one_of_two_processes_without_a_compiler(
    request_for: BuildRequest, tmp_path: Path
) -> None:
    found = find_prepared(request_for, Checkpoint.open(request_for.folder))
    assert found is not None
    damage_code(found.artifact, "flip")
    assert prepared(request_for) is None
    processes = [start_build(request_for, PATH=str(tmp_path)) for _ in range(2)]  # an empty folder
    results = [process.communicate(timeout=300) for process in processes]
    last = [json.loads(out.splitlines()[-1]) for out, _ in results]
    assert [process.returncode for process in processes] == [0, 0], results
    assert last[0] == last[1]
    # Which of the two compiles is a race; a step that only waits for the other one is no compilation.
    compiled = [any("generate machine code" in line for line in out.splitlines()) for out, _ in results]
    assert sorted(compiled) == [False, True]
    assert prepared(request_for) == found
    assert [path.name for path in found.artifact.parent.iterdir() if path.name.startswith(".")] == []


def test_the_build_process_reports_errors_as_values(tmp_path: Path) -> None:
    process = start_build(BuildRequest(str(tmp_path / "nothing"), "q4", "cpu", str(tmp_path / "cache")))
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    error = json.loads(out.splitlines()[-1])["error"]
    assert error["code"] == "checkpoint"
    assert "nothing" in error["message"]
