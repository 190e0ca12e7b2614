"""What ``hybridllm doctor`` looks at: one function for each thing, each giving its finding and, where it isn't fine, the mend."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from local_runtime.errors import LocalRuntimeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybridllm import Remote
    from hybridllm.cli.client_options import ClientOptions, OpenClient
    from local_runtime.options import LoadOptions, Progress
    from policies import Policy

__all__ = [
    "TVM_PINS",
    "Finding",
    "Status",
    "cache_finding",
    "configuration_findings",
    "engine_finding",
    "memory_finding",
    "model_finding",
    "policy_finding",
    "probe_findings",
    "python_finding",
    "remote_finding",
    "tvm_findings",
]

Status = Literal["fine", "warning", "failing"]

TVM_PINS = {"apache-tvm": "0.27.0.post1", "apache-tvm-ffi": "0.1.14.post1", "apache-tvm-ffi-orcjit": "0.1.3"}
"""The versions that the engine was made with; others are known to crash."""

_PROBE_TIMEOUT_S = 60.0
_REMOTE_TIMEOUT_S = 3.0
_LOW_MEMORY_MIB = 512
_LOW_DISK_MIB = 1024
_WIDE_X86 = ("avx2", "avx512f")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report.

    Attributes:
        name: The thing that was looked at.
        status: ``fine``; ``warning``: it works, but something is missing or slow; ``failing``: nothing can be served.
        detail: What was found.
        mend: What to do; empty if it is fine.
    """

    name: str
    status: Status
    detail: str
    mend: str = ""


def python_finding() -> Finding:
    """The interpreter and the system."""
    detail = f"{platform.python_version()} on {platform.system()} {platform.release()} {platform.machine()}"
    return Finding("python", "fine", detail)


def probe_findings() -> list[Finding]:
    """The processor with its instruction set, and the GPU; asked for in a process of its own, which a driver may hang."""
    command = [sys.executable, "-m", "local_runtime.probe"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False)
        found: dict[str, Any] = json.loads(done.stdout)
        targets: list[dict[str, Any]] = found["targets"]
        processor = next(target for target in targets if target["kind"] == "cpu")
    except subprocess.TimeoutExpired:
        return [_no_probe(f"asking for the devices took longer than {_PROBE_TIMEOUT_S:.0f} s")]
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return [_no_probe("the devices could not be asked for")]
    return [_processor_finding(processor, int(found["threads"])), _gpu_finding(targets)]


def _no_probe(what: str) -> Finding:
    return Finding(
        "processor",
        "failing",
        what,
        f"Run {Path(sys.executable).name} -m local_runtime.probe to see why, and use --target cpu.",
    )


def _processor_finding(target: dict[str, Any], threads: int) -> Finding:
    features = [str(feature) for feature in target["features"]]
    shown = " ".join(features) if features else "instruction set unknown"
    cores = f"{threads} core{'' if threads == 1 else 's'}"
    detail = f"{target['name']}, {target['arch']}, {cores}; {shown}"
    if str(target["arch"]).lower() in ("x86_64", "amd64") and features and not set(_WIDE_X86) & set(features):
        return Finding("processor", "warning", detail, "Without AVX2 answers are slow; use a smaller model or a GPU.")
    return Finding("processor", "fine", detail)


def _gpu_finding(targets: list[dict[str, Any]]) -> Finding:
    names = [
        f"{target['name']} ({target['arch']}, {target['free_mib']} of {target['memory_mib']} MiB free)"
        for target in targets
        if target["kind"] != "cpu"
    ]
    return Finding("gpu", "fine", "; ".join(names) or "none answers, so the processor is used")


def memory_finding() -> Finding:
    """Free memory of this machine."""
    import psutil

    memory = psutil.virtual_memory()
    free_mib, total_mib = memory.available // 2**20, memory.total // 2**20
    detail = f"{free_mib} of {total_mib} MiB available"
    if free_mib < _LOW_MEMORY_MIB:
        return Finding(
            "memory", "warning", detail, "Close other programs, or use --quant q4 and a smaller --context-tokens."
        )
    return Finding("memory", "fine", detail)


def tvm_findings(pins: dict[str, str] = TVM_PINS) -> list[Finding]:
    """The installed versions of TVM's packages against the ones that the engine was made with."""
    findings = []
    for name, pinned in pins.items():
        mend = f"Install it with: python -m pip install {name}=={pinned}"
        try:
            installed = version(name)
        except PackageNotFoundError:
            findings.append(Finding(name, "failing", "not installed", mend))
            continue
        if installed == pinned:
            findings.append(Finding(name, "fine", installed))
        else:
            findings.append(Finding(name, "failing", f"{installed}, but only {pinned} is known to work", mend))
    return findings


def cache_finding(cache: Path) -> Finding:
    """Whether the cache can be written, and how much is in it."""
    mend = "Make it writable, or move the cache with HYBRIDLLM_CACHE or --cache-dir."
    try:
        cache.mkdir(parents=True, exist_ok=True)
        used_mib = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()) // 2**20
        free_mib = shutil.disk_usage(cache).free // 2**20
    except OSError as error:
        return Finding("cache", "failing", f"{cache}: {error.strerror or error}", mend)
    detail = f"{cache}: {used_mib} MiB used, {free_mib} MiB free"
    try:
        with tempfile.TemporaryFile(dir=cache):
            pass
    except OSError as error:  # a kiosk's disk may be read-only on purpose: what is compiled already still runs
        said = f"{detail}, but nothing can be added: {error.strerror or error}"
        return Finding("cache", "warning", said, f"To prepare another model: {mend[0].lower()}{mend[1:]}")
    if free_mib < _LOW_DISK_MIB:
        return Finding("cache", "warning", detail, "Free some space there, or move the cache with HYBRIDLLM_CACHE.")
    return Finding("cache", "fine", detail)


def model_finding(model: str) -> Finding:
    """Whether the model is there, whole, and of a kind that the engine runs."""
    from hybridllm.cli.models import summarize, verify
    from local_runtime.paths import model_folder

    try:
        summary = summarize(model_folder(model))
        verify(model_folder(model))
    except LocalRuntimeError as error:
        return Finding("model", "failing", error.message, error.mend)
    return Finding(
        "model",
        "fine",
        f"{summary.name}: {summary.model_type}, {summary.parameters / 1e6:.1f}M parameters, {summary.size_mib:.0f} MiB",
    )


def engine_finding(options: LoadOptions, on_progress: Callable[[Progress], None] | None) -> Finding:
    """Whether the engine really loads the model and gives a token; compiles it if that was never done here."""
    from local_runtime.client import LocalEngine
    from local_runtime.events import Failed, Finished
    from local_runtime.options import GenerateRequest, SamplingOptions

    request = GenerateRequest(
        messages=[{"role": "user", "content": "Hello"}], sampling=SamplingOptions(temperature=0.0), max_tokens=16
    )
    try:
        with LocalEngine(options, on_progress=on_progress) as engine:
            info = engine.start()
            last = None
            for event in engine.generate(request):
                if isinstance(event, Failed):
                    raise event.error
                last = event
    except LocalRuntimeError as error:
        return Finding(
            "engine", "failing", error.message, error.mend or "Run again with HYBRIDLLM_DEBUG=1 and report it."
        )
    assert isinstance(last, Finished)  # the last event of every request
    how = "compiled and loaded" if info.compiled else "loaded"
    return Finding(
        "engine",
        "fine",
        f"{how} in {info.load_s:.1f} s on {info.device}, {info.quant}; first token after {last.timings.ttft_s * 1000:.0f} ms",
    )


def configuration_findings(options: ClientOptions, opener: OpenClient) -> list[Finding]:
    """The policy and the remote as a client would get them; opens a client and asks it nothing."""
    from hybridllm.errors import HybridLLMError, PolicyError

    try:
        client = opener(options, None)
    except PolicyError as error:
        return [Finding("policy", "failing", error.message, error.mend)]
    except HybridLLMError as error:
        return [Finding("configuration", "failing", error.message, error.mend)]
    with client:
        return [policy_finding(client.policy), remote_finding(client.remote, client.policy, offline=client.offline)]


def policy_finding(policy: Policy) -> Finding:
    """The policy that is in force."""
    rules = f"{len(policy.rules)} rule{'' if len(policy.rules) == 1 else 's'}"
    return Finding(
        "policy", "fine", f"{policy.name} ({policy.file}): {rules}, unlabelled counts as {policy.labels.unlabeled}"
    )


def remote_finding(remote: Remote | None, policy: Policy, *, offline: bool = False) -> Finding:
    """Whether the remote's host takes a connection; not a byte is sent over it, and offline not even that is tried."""
    import asyncio

    from hybridllm.egress import EgressGate
    from hybridllm.errors import HybridLLMError, PrivacyViolation
    from hybridllm.permits import PermitOffice
    from hybridllm.policy_in_force import PolicyInForce

    if remote is None:
        return Finding("remote", "fine", "none; this device answers everything")
    ceiling = policy.zones.get(remote.zone)
    sees = f"zone {remote.zone}, may see up to {ceiling}" if ceiling else f"zone {remote.zone}, which may see nothing"
    if offline:
        return Finding("remote", "fine", f"{remote.origin} is not contacted: offline is set ({sees})")
    in_force = PolicyInForce(policy)
    try:
        gate = EgressGate(remote, in_force, PermitOffice(in_force))
    except HybridLLMError as error:
        return Finding("remote", "failing", error.message, error.mend)
    failure = asyncio.run(gate.probe_error(_REMOTE_TIMEOUT_S))
    if isinstance(failure, PrivacyViolation):
        return Finding("remote", "warning", failure.message, failure.mend)
    if failure is not None:
        return Finding(
            "remote",
            "warning",
            f"{remote.origin} takes no connection ({sees})",
            "Check the URL and the network; until then this device answers.",
        )
    return Finding("remote", "fine", f"{remote.origin} takes connections ({sees})")
