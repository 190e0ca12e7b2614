"""Which device is compiled for, and how requests for another one are read."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from local_runtime.errors import LocalRuntimeError, TargetError
from local_runtime.target import (
    ResolvedTarget,
    cpu_identity,
    cuda_devices,
    detect_cpu_target,
    parse_target_request,
    require_runnable,
    resolve_target,
)

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auto", ("auto", 0, None)),
        (" cpu ", ("cpu", 0, None)),
        ("cuda:2", ("cuda", 2, None)),
        ('{"kind": "llvm", "mcpu": "x86-64"}', ("cpu", 0, {"kind": "llvm", "mcpu": "x86-64"})),
        ('{"kind": "cuda", "arch": "sm_90"}', ("cuda", 0, {"kind": "cuda", "arch": "sm_90"})),
    ],
)
def test_requests_are_read(text: str, expected: object) -> None:
    assert parse_target_request(text) == expected


@pytest.mark.parametrize(
    "text", ["gpu", "cuda:x", "auto:1", "{", '{"kind": "hexagon"}', "", "llvm -mcpu=znver3", '{"kind": []}']
)
def test_other_requests_are_refused_with_a_mend(text: str) -> None:
    with pytest.raises(TargetError) as caught:
        parse_target_request(text)
    assert caught.value.mend


def test_a_cache_that_cannot_be_written_is_named_with_the_mend(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LocalRuntimeError, match=r"The cache folder .*file cannot be written: .* HYBRIDLLM_CACHE"):
        detect_cpu_target(tmp_path / "file")


def test_this_processor_is_asked_once_and_remembered(tmp_path: Path) -> None:
    assert resolve_target("cpu", tmp_path) is None
    detected = detect_cpu_target(tmp_path)
    remembered = resolve_target("cpu", tmp_path)
    assert remembered == detected
    assert detected.spec["kind"] == "llvm"
    assert detected.spec["mcpu"]  # the real processor, not a generic one
    assert detected.layout == "cpu-tiled"


def test_a_torn_or_foreign_memory_of_the_processor_is_asked_again(tmp_path: Path) -> None:
    detected = detect_cpu_target(tmp_path)
    (file,) = (tmp_path / "targets").iterdir()
    whole = json.loads(file.read_bytes())
    for damaged in (file.read_bytes()[:10], b"[]", json.dumps({**whole, "spec": ["kind"]}).encode()):
        file.write_bytes(damaged)
        assert resolve_target("cpu", tmp_path) is None
    file.write_text(json.dumps(whole))
    assert resolve_target("cpu", tmp_path) == detected


def cpu(**spec: object) -> ResolvedTarget:
    return ResolvedTarget("cpu", 0, "this processor", {"kind": "llvm", **spec})


def test_descriptions_that_this_processor_can_run_are_accepted(tmp_path: Path) -> None:
    require_runnable(cpu())
    require_runnable(detect_cpu_target(tmp_path))
    if platform.machine() in ("x86_64", "AMD64"):
        require_runnable(cpu(mcpu="x86-64"))


X86 = platform.machine() in ("x86_64", "AMD64")
FOREIGN = "aarch64-linux-gnu" if X86 else "x86_64-linux-gnu"


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (cpu(mtriple=FOREIGN), "is for .* processors, but this one is"),
        (cpu(mcpu="pentium9"), "names the processor 'pentium9', which LLVM does not know"),
        (cpu(mattr=["+avx512f", "+amx-tile", "+sve2p1"]), "asks for .*, which this processor .* lacks"),
        (cpu(colour="blue"), "does not know the target"),
        (cpu(mcpu=7), "does not know the target"),
        pytest.param(
            ResolvedTarget("cuda", 0, "H100", {"kind": "cuda", "arch": "sm_90"}),
            "No CUDA device answers",
            marks=pytest.mark.skipif(bool(cuda_devices()), reason="a CUDA device answers here"),
        ),
        pytest.param(
            ResolvedTarget("metal", 0, "M9", {"kind": "metal"}),
            "on macOS only",
            marks=pytest.mark.skipif(sys.platform == "darwin", reason="this is a Mac"),
        ),
    ],
)
def test_descriptions_of_other_machines_are_refused_before_anything_is_compiled(
    target: ResolvedTarget, said: str
) -> None:
    with pytest.raises(TargetError, match=said) as caught:
        require_runnable(target)
    assert caught.value.mend


def test_the_processor_has_a_name() -> None:
    assert cpu_identity()["name"]
    assert cpu_identity()["machine"]


@pytest.mark.skipif(bool(cuda_devices()), reason="a CUDA device answers here")
def test_cuda_without_a_device_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="No CUDA device answers"):
        resolve_target("cuda", tmp_path)


def test_the_probe_prints_one_json_object() -> None:
    out = subprocess.run(
        [sys.executable, "-m", "local_runtime.probe"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    report = json.loads(out)
    assert report["targets"][-1]["kind"] == "cpu"
    assert report["targets"][-1]["memory_mib"] > 0
    assert report["threads"] >= 1
