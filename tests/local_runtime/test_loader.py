"""What the loader decides: where it runs, and what becomes of a GPU that cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import local_runtime.loader as loader
from local_runtime.errors import CheckpointError, CompileError, OutOfMemoryError, TargetError
from local_runtime.options import LoadOptions, Progress


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
