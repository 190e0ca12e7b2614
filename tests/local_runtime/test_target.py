"""Which device is compiled for, and how requests for another one are read."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import local_runtime.target as target_module
from local_runtime import tvm_compat
from local_runtime.errors import LocalRuntimeError, TargetError
from local_runtime.kernels.cpu.linear_ir import Lanes
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


def with_features(monkeypatch: pytest.MonkeyPatch, **present: bool) -> None:
    """Pretend that the system says so of these features."""
    real = tvm_compat.host_cpu_features()
    monkeypatch.setattr(tvm_compat, "host_cpu_features", lambda: {**real, **present})


def lanes_of(target: ResolvedTarget) -> Lanes:
    return Lanes.of_target(tvm_compat.as_tvm_target(target.spec))


@pytest.mark.skipif(not X86, reason="names features of x86")
def test_features_that_are_masked_are_not_compiled_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        tvm_compat.tvm.target.Target,
        "from_device",
        lambda _: tvm_compat.tvm.target.Target({"kind": "llvm", "mcpu": "skylake-avx512"}),
    )
    names = ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
    with_features(monkeypatch, avx=True, avx2=True, fma=True, **dict.fromkeys(names, True))
    assert lanes_of(detect_cpu_target(tmp_path)) == Lanes(16, 32)
    with_features(monkeypatch, avx=True, avx2=True, fma=True, **dict.fromkeys(names, False))
    masked = detect_cpu_target(tmp_path)
    assert lanes_of(masked) == Lanes(8, 16)
    assert "-avx512f" in masked.spec["mattr"]
    require_runnable(masked)
    with pytest.raises(TargetError, match="avx512f"):  # the name alone asks for what is masked
        require_runnable(cpu(mcpu="skylake-avx512"))
    with_features(monkeypatch, **dict.fromkeys(("avx", "avx2", "fma", *names), False))
    assert lanes_of(detect_cpu_target(tmp_path)) == Lanes(4, 16)


@pytest.mark.skipif(not X86, reason="names features of x86")
def test_features_that_the_name_leaves_out_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        tvm_compat.tvm.target.Target,
        "from_device",
        lambda _: tvm_compat.tvm.target.Target({"kind": "llvm", "mcpu": "x86-64"}),
    )
    with_features(monkeypatch, avx=True, avx2=True, fma=True, avx512f=False, shstk=True)
    detected = detect_cpu_target(tmp_path)
    assert lanes_of(detected) == Lanes(8, 16)
    assert {"+avx2", "+fma"} <= set(detected.spec["mattr"])
    assert "+shstk" not in detected.spec["mattr"]  # nothing that a kernel would use


def test_a_gpu_that_answers_is_compiled_for_with_this_processor_as_its_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target_module, "cuda_devices", lambda: ("Some GPU",))
    request = '{"kind": "cuda", "arch": "sm_90"}'
    assert resolve_target(request, tmp_path) is None  # the host is yet to be asked about
    here = detect_cpu_target(tmp_path)
    found = resolve_target(request, tmp_path)
    assert found is not None
    assert found.host == here.spec
    assert tvm_compat.as_tvm_target(found.spec, on_device=True).host.export() == (
        tvm_compat.as_tvm_target(here.spec).export()
    )


def test_a_description_without_a_triple_is_this_architectures_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = resolve_target('{"kind": "llvm"}', tmp_path)
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    there = resolve_target('{"kind": "llvm"}', tmp_path)
    assert here is not None
    assert there is not None
    assert here.spec == there.spec
    assert here.host != there.host


@pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_what_is_remembered_is_open_to_whom_the_umask_allows(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        detect_cpu_target(tmp_path / "cache")
    finally:
        os.umask(before)
    (file,) = (tmp_path / "cache" / "targets").iterdir()
    assert file.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize(
    ("packages", "nvcc", "found"),
    [(("cuda", "cuda.bindings"), None, True), ((), "/opt/nvcc", True), (("cuda",), None, False), ((), None, False)],
)
def test_a_cuda_compiler_is_nvrtc_or_nvcc(
    monkeypatch: pytest.MonkeyPatch, packages: tuple[str, ...], nvcc: str | None, found: bool
) -> None:
    def find_spec(name: str) -> object:
        if "cuda" not in packages:
            raise ModuleNotFoundError(name)
        return "spec" if name in packages else None

    monkeypatch.setattr(target_module.importlib.util, "find_spec", find_spec)
    monkeypatch.setattr(target_module.shutil, "which", lambda _: nvcc)
    assert target_module.cuda_compiler_found() is found


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
