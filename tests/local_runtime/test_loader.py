"""What the loader decides: where it runs, and what becomes of a GPU that cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import local_runtime.loader as loader
import local_runtime.tvm_runtime as tvm_runtime
from local_runtime.build import BuildRequest, Prepared
from local_runtime.errors import CheckpointError, CompileError, OutOfMemoryError, TargetError
from local_runtime.options import LoadOptions, Progress
from tests.local_runtime.checkpoints import llama_config, write_checkpoint


def refuse_gpu(monkeypatch: pytest.MonkeyPatch, error: Exception, devices: tuple[str, ...]) -> list[str]:
    """Pretend that a GPU is there and fails with ``error``; gives the list of targets that are tried."""
    tried: list[str] = []

    def load(options: LoadOptions, on_progress: Callable[[Progress], None]) -> Any:
        tried.append(options.target)
        if options.target != "cpu":
            raise error
        return "loaded"

    monkeypatch.setattr(loader, "_load", load)
    monkeypatch.setattr(loader, "cuda_devices", lambda: devices)
    return tried


@pytest.mark.parametrize(
    "error", [CompileError("no compiler"), TargetError("it hangs"), OutOfMemoryError("it is full")]
)
def test_a_gpu_that_fails_gives_way_to_the_processor(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    tried = refuse_gpu(monkeypatch, error, ("Some GPU",))
    said: list[Progress] = []
    assert loader.load(LoadOptions("anything"), said.append) == "loaded"
    assert tried == ["auto", "cpu"]
    assert "processor" in said[0].detail


def test_a_gpu_that_was_asked_for_by_name_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = refuse_gpu(monkeypatch, TargetError("it hangs"), ("Some GPU",))
    with pytest.raises(TargetError):
        loader.load(LoadOptions("anything", target="cuda"), lambda _: None)
    assert tried == ["cuda"]


def test_a_failure_without_a_gpu_is_the_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = refuse_gpu(monkeypatch, CompileError("broken"), ())
    with pytest.raises(CompileError):
        loader.load(LoadOptions("anything"), lambda _: None)
    assert tried == ["auto"]


def test_a_bad_checkpoint_is_no_reason_to_try_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(loader, "cuda_devices", lambda: ("Some GPU",))
    with pytest.raises(CheckpointError):
        loader.load(LoadOptions(str(tmp_path / "nothing")), lambda _: None)


class BuildReachedError(Exception):
    """Raised in place of a build, which these tests must not reach for a GPU that cannot be used."""


def pretend_gpu(
    monkeypatch: pytest.MonkeyPatch, *, runtime: bool, compiler: bool, compiled: bool
) -> tuple[list[str], list[str]]:
    """Pretend a GPU whose driver answers, and what else there is of CUDA; gives the targets that are looked up and built."""
    looked_up: list[str] = []
    built: list[str] = []

    def device(kind: str, index: int) -> None:
        if not runtime:
            raise TargetError("TVM's library libtvm_runtime_cuda.so cannot be loaded.", "Use --target cpu.")

    def find(request: BuildRequest, checkpoint: object) -> Prepared | None:
        looked_up.append(request.target)
        return None

    def build(request: BuildRequest, *_: object) -> Prepared:
        built.append(request.target)
        raise BuildReachedError

    monkeypatch.setattr(loader, "cuda_devices", lambda: ("Some GPU",))
    monkeypatch.setattr(tvm_runtime, "Device", device)
    monkeypatch.setattr(loader, "cuda_compiler_found", lambda: compiler)
    monkeypatch.setattr(loader, "is_compiled", lambda *_: compiled)
    monkeypatch.setattr(loader, "find_prepared", find)
    monkeypatch.setattr(loader, "_build_in_own_process", build)
    return looked_up, built


@pytest.mark.parametrize(
    ("runtime", "compiler", "compiled", "said"),
    [
        (True, False, False, "no CUDA compiler"),
        (False, True, False, "cannot be loaded"),
        (False, True, True, "cannot be loaded"),
    ],
)
def test_nothing_is_prepared_for_a_gpu_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, runtime: bool, compiler: bool, compiled: bool, said: str
) -> None:
    looked_up, built = pretend_gpu(monkeypatch, runtime=runtime, compiler=compiler, compiled=compiled)
    folder = write_checkpoint(tmp_path / "checkpoint", llama_config())
    progress: list[Progress] = []
    with pytest.raises(BuildReachedError):
        loader.load(LoadOptions(str(folder), cache_dir=str(tmp_path / "cache")), progress.append)
    assert looked_up == ["auto", "cpu"]
    assert built == ["cpu"]
    (fallback,) = [one.detail for one in progress if "processor is" in one.detail]
    assert said in fallback


@pytest.mark.parametrize(("compiler", "compiled"), [(True, False), (False, True)])
def test_a_gpu_with_a_compiler_or_with_compiled_code_is_prepared_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, compiler: bool, compiled: bool
) -> None:
    _, built = pretend_gpu(monkeypatch, runtime=True, compiler=compiler, compiled=compiled)
    folder = write_checkpoint(tmp_path / "checkpoint", llama_config())
    with pytest.raises(BuildReachedError):
        loader.load(LoadOptions(str(folder), cache_dir=str(tmp_path / "cache")), lambda _: None)
    assert built == ["auto"]
