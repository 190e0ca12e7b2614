"""Which device to compile for, and how it is described to TVM.

Nothing here loads TVM's compiler: a CPU's exact description (``host_cpu_spec``) is asked for once by the build process and kept
in the cache, keyed by what identifies the processor; a GPU's comes from attributes that TVM's runtime reads from the device.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import json
import platform
import shutil
import sys
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from local_runtime.errors import LocalRuntimeError, TargetError

__all__ = [
    "DeviceKind",
    "ResolvedTarget",
    "cpu_identity",
    "cuda_compiler_found",
    "cuda_devices",
    "cuda_driver",
    "detect_cpu_target",
    "parse_target_request",
    "require_runnable",
    "resolve_target",
]

DeviceKind = Literal["cpu", "cuda", "metal"]
Layout = Literal["cpu-tiled", "row-major"]

_CUDA_DRIVER = {"linux": "libcuda.so.1", "win32": "nvcuda.dll"}
_SPEC_SUFFIX = ".target.json"
_INSTRUCTION_SETS = (
    "avx", "fma", "f16c", "amx", "sse4", "bmi", "sve", "sme", "dotprod", "i8mm", "bf16", "fullfp16",
)  # fmt: skip
"""How LLVM's names of instruction sets begin that code may use; its other features only tune what is chosen."""


@dataclass(frozen=True)
class ResolvedTarget:
    """A device and its description for the compiler.

    Attributes:
        kind: What sort of device runs the model.
        index: Which of several devices of that kind.
        name: The device's own name, for people.
        spec: TVM's target as a dict (TVM 0.27 takes targets as dicts); what the artifact is compiled for.
        host: What the code that is no kernel runs on and ``spec`` leaves open: of a GPU the description of this processor, of a
            CPU its architecture and operating system.
    """

    kind: DeviceKind
    index: int
    name: str
    spec: dict[str, Any]
    host: dict[str, Any] = field(default_factory=dict)

    @property
    def layout(self) -> Layout:
        """The order in which weights lie in memory for this device's kernels."""
        return "cpu-tiled" if self.kind == "cpu" else "row-major"

    @property
    def spec_json(self) -> str:
        """The description in a canonical form, fit for hashing."""
        return json.dumps(self.spec, sort_keys=True, separators=(",", ":"))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def parse_target_request(request: str) -> tuple[str, int, dict[str, Any] | None]:
    """Split ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``metal`` or a JSON object into (kind, index, spec).

    Raises:
        TargetError: The text is none of these.
    """
    text = request.strip()
    if text.startswith("{"):
        try:
            spec = json.loads(text)
        except json.JSONDecodeError as error:
            raise TargetError(
                f"--target is not valid JSON ({error.msg} at character {error.pos}).",
                'Write it like {"kind": "llvm", "mcpu": "x86-64-v3"}.',
            ) from None
        named = spec.get("kind")
        kind = {"llvm": "cpu", "cuda": "cuda", "metal": "metal"}.get(named, "") if isinstance(named, str) else ""
        if not kind:
            raise TargetError(
                f"--target names the kind {named!r}, which this engine cannot run.",
                "Use llvm, cuda or metal.",
            )
        return kind, 0, spec
    kind, _, index = text.partition(":")
    if kind not in ("auto", "cpu", "cuda", "metal") or (index and not index.isdecimal()) or (index and kind == "auto"):
        raise TargetError(
            f"There is no target {request!r}.", "Use auto, cpu, cuda, cuda:N, metal or a TVM target as a JSON object."
        )
    return kind, int(index or 0), None


def resolve_target(request: str, cache_dir: Path) -> ResolvedTarget | None:
    """Find the device for ``request`` without loading the compiler.

    Args:
        request: As for :func:`parse_target_request`; ``auto`` takes a CUDA device that answers, else the CPU.
            Metal is used only when it is asked for: it was compiled for, never run.
        cache_dir: Where the description of this processor was kept by an earlier build.

    Returns:
        The target, or None if this processor's description, which is a GPU's host, isn't known yet and the build process must ask
        the compiler.

    Raises:
        TargetError: The device that was asked for does not answer.
    """
    kind, index, spec = parse_target_request(request)
    if kind == "auto":
        kind = "cuda" if cuda_devices() else "cpu"
    if kind == "cpu":
        if spec is not None:
            return _cpu_target(spec)
        return _read_cpu_target(cache_dir)
    if kind == "cuda":
        device = _cuda_target(index, spec)
    else:
        device = ResolvedTarget(
            "metal", index, "Metal device", spec or {"kind": "metal", "max_threads_per_block": 1024}
        )
    host = _read_cpu_target(cache_dir)
    return replace(device, host=host.spec) if host is not None else None


def _cpu_target(spec: dict[str, Any]) -> ResolvedTarget:
    # A description without a triple is compiled for wherever it is compiled.
    host = {"machine": _machine_name(platform.machine()), "system": platform.system()}
    return ResolvedTarget("cpu", 0, cpu_identity()["name"], spec, host)


@cache
def cpu_identity() -> dict[str, str]:
    """What tells this processor from another one: architecture, model name and instruction-set flags."""
    identity = {
        "machine": platform.machine(),
        "system": platform.system(),
        "name": platform.processor() or "CPU",
        "flags": "",
    }
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").split("\n\n")[0].splitlines():
            key, _, value = (part.strip() for part in line.partition(":"))
            if key == "model name" or (key == "CPU part" and identity["name"] in ("", "CPU", "aarch64")):
                identity["name"] = value
            elif key in ("flags", "Features"):
                identity["flags"] = " ".join(sorted(value.split()))
            elif key in ("cpu family", "model", "stepping", "CPU implementer"):
                identity[key] = value
    return identity


def _cpu_target_path(cache_dir: Path) -> Path:
    from local_runtime.versions import code_digest, tvm_version

    asked = {**cpu_identity(), "tvm": tvm_version(), "code": code_digest(("target.py", "tvm_compat.py"))}
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]
    return cache_dir / "targets" / f"cpu-{digest}{_SPEC_SUFFIX}"


def _read_cpu_target(cache_dir: Path) -> ResolvedTarget | None:
    try:
        spec = json.loads(_cpu_target_path(cache_dir).read_text(encoding="utf-8"))["spec"]
        if spec["kind"] != "llvm":
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent, torn or foreign: the build process writes it anew
    return _cpu_target(spec)


def require_runnable(target: ResolvedTarget) -> None:
    """Refuse a description whose code would not run on this machine, before any is made. Loads the compiler for a CPU's.

    Raises:
        TargetError: TVM doesn't know the target, no such device is here, or the code would be for another processor.
    """
    if target.kind == "cuda" and not cuda_devices():
        raise _no_cuda_device()
    if target.kind == "metal" and sys.platform != "darwin":
        raise TargetError("Metal devices answer on macOS only.", "Use --target cpu.")
    if target.kind == "cpu":
        _require_this_processor(target.spec)


def _require_this_processor(spec: dict[str, Any]) -> None:
    from local_runtime.tvm_compat import as_tvm_target, host_cpu_spec, tvm

    wanted, here = as_tvm_target(spec), as_tvm_target(host_cpu_spec())
    machine = _machine_name(str(spec.get("mtriple") or platform.machine()).partition("-")[0])
    if machine != _machine_name(platform.machine()):
        raise TargetError(
            f"--target is for {machine} processors, but this one is {_machine_name(platform.machine())}.",
            "Use --target cpu here, and the other one on a machine that has it.",
        )
    codegen = tvm.target.codegen
    name = spec.get("mcpu")
    if name is not None and name not in map(str, codegen.llvm_get_cpu_archlist(wanted)):
        raise TargetError(
            f"--target names the processor {name!r}, which LLVM does not know.",
            'Use --target cpu for the one that is here, or a name such as "x86-64-v3".',
        )
    asked, present = (set(map(str, codegen.llvm_get_cpu_features(one))) for one in (wanted, here))
    lacking = sorted(name for name in asked - present if name.startswith(_INSTRUCTION_SETS))
    if lacking:
        raise TargetError(
            f"--target asks for {', '.join(lacking)}, which this processor ({cpu_identity()['name']}) lacks.",
            "Use --target cpu for what is here.",
        )


def _machine_name(machine: str) -> str:
    """One name for each architecture; systems and compilers have several."""
    lower = machine.lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(lower, lower)


def detect_cpu_target(cache_dir: Path) -> ResolvedTarget:
    """Ask TVM's compiler what this processor is, and keep the answer. Loads the compiler.

    Raises:
        LocalRuntimeError: The cache folder cannot be written.
    """
    from local_runtime.files import write_atomically
    from local_runtime.tvm_compat import host_cpu_spec
    from local_runtime.versions import tvm_version

    spec = host_cpu_spec()
    path = _cpu_target_path(cache_dir)
    try:
        write_atomically(path, json.dumps({"spec": spec, "tvm": tvm_version()}).encode())
        # For whoever may enter the folder, which was made as the umask says; a temporary file is its maker's alone.
        path.chmod(path.parent.stat().st_mode & 0o644)
    except OSError as error:
        raise LocalRuntimeError(
            f"The cache folder {cache_dir} cannot be written: {error.strerror or error}.",
            "Make it writable, free some space there, or move the cache with HYBRIDLLM_CACHE.",
        ) from error
    return _cpu_target(spec)


@cache
def cuda_driver() -> ctypes.CDLL | None:
    """NVIDIA's driver library, or None where it isn't installed."""
    library = _CUDA_DRIVER.get(sys.platform)
    try:
        return ctypes.CDLL(library) if library else None
    except OSError:
        return None


@cache
def cuda_devices() -> tuple[str, ...]:
    """Names of the CUDA devices that answer, asked of the driver itself; empty where there is no driver or no device.

    ``CUDA_VISIBLE_DEVICES`` is obeyed, as the driver does.
    """
    driver = cuda_driver()
    count = ctypes.c_int()
    if driver is None or driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return ()
    names = []
    for ordinal in range(count.value):
        name = ctypes.create_string_buffer(128)
        if driver.cuDeviceGetName(name, len(name), ordinal) == 0:
            names.append(name.value.decode(errors="replace"))
    return tuple(names)


def cuda_compiler_found() -> bool:
    """Whether one of the compilers is installed that TVM can make CUDA code with: NVRTC (``cuda-bindings``) or nvcc."""
    try:
        bindings = importlib.util.find_spec("cuda.bindings")
    except ModuleNotFoundError:  # not even the package that it is part of
        bindings = None
    return bindings is not None or shutil.which("nvcc") is not None


def _cuda_target(index: int, spec: dict[str, Any] | None) -> ResolvedTarget:
    names = cuda_devices()
    if spec is None and not names:
        raise _no_cuda_device()
    if spec is None and index >= len(names):
        raise TargetError(
            f"There is no CUDA device {index}; devices 0 to {len(names) - 1} answer.", "Name one of those."
        )
    name = names[index] if index < len(names) else "CUDA device"
    return ResolvedTarget("cuda", index, name, spec or _cuda_spec(index))


def _no_cuda_device() -> TargetError:
    return TargetError(
        "No CUDA device answers on this machine.",
        "Install NVIDIA's driver, or use --target cpu (hybridllm doctor shows what is there).",
    )


def _cuda_spec(index: int) -> dict[str, Any]:
    """TVM's description of a CUDA device, from the driver's attributes (cuDeviceGetAttribute, CUDA driver API)."""
    driver = cuda_driver()

    def attribute(number: int) -> int:
        value = ctypes.c_int()
        if driver is None or driver.cuDeviceGetAttribute(ctypes.byref(value), number, index) != 0:
            raise TargetError(f"CUDA device {index} does not answer.", "Check it with nvidia-smi, or use --target cpu.")
        return value.value

    major, minor = attribute(75), attribute(76)  # COMPUTE_CAPABILITY_MAJOR, _MINOR
    return {
        "kind": "cuda",
        "arch": f"sm_{major}{minor}",
        "max_threads_per_block": attribute(1),
        "max_shared_memory_per_block": attribute(8),
        "thread_warp_size": attribute(10),
    }
