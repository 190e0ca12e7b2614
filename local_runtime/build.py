"""The build process: converts weights and compiles code into the cache, then ends. ``python -m local_runtime.build``.

It runs apart from the worker so that TVM's compiler (some 300 MiB) is never part of a process that answers, and so that a crash of
the compiler is an error message. Standard input carries one JSON object (:class:`BuildRequest`); standard output carries JSON lines:
``{"progress": {...}}`` while at work, then ``{"done": {...}}`` or ``{"error": {...}}``.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from local_runtime.artifact import MANIFEST, artifact_key, build_entry, cache_key, read_artifact, sealed
from local_runtime.checkpoint import Checkpoint
from local_runtime.child_process import die_with_parent
from local_runtime.errors import CompileError, EngineInternalError, LocalRuntimeError
from local_runtime.kernels.limits import require_supported_heads
from local_runtime.models.registry import model_weight_specs
from local_runtime.options import Progress
from local_runtime.target import ResolvedTarget, detect_cpu_target, require_runnable, resolve_target
from local_runtime.versions import ARTIFACT_FORMAT, CONVERTED_BY, code_digest
from local_runtime.weights import WeightsManifest, convert, open_weights, plan, plan_manifest

if TYPE_CHECKING:
    from local_runtime.quantization import Quantization

__all__ = ["BuildRequest", "Prepared", "find_prepared", "is_compiled", "main", "prepare"]

ProgressCallback = Callable[[Progress], None]

_CHECKSUM_LIMIT_BYTES = 256 * 2**20


@dataclass(frozen=True)
class BuildRequest:
    """What to prepare: a checkpoint folder, a weight format, a target request, and the cache folder, all resolved but the target."""

    folder: str
    quant: Quantization
    target: str
    cache: str


@dataclass(frozen=True)
class Prepared:
    """What is in the cache for a request: the device, and the folders of its compiled code and of its converted weights."""

    target: ResolvedTarget
    artifact: Path
    weights: Path


def _entries(request: BuildRequest, checkpoint: Checkpoint, target: ResolvedTarget) -> tuple[Path, Path]:
    cache = Path(request.cache)
    artifact = cache / "artifacts" / artifact_key(checkpoint.config.to_dict(), request.quant, target.spec, target.host)
    weights_key = cache_key(
        {
            "format": ARTIFACT_FORMAT,
            "source": checkpoint.fingerprint(),
            "quant": request.quant,
            "layout": target.layout,
            "code": code_digest(CONVERTED_BY),
        }
    )
    return artifact, cache / "weights" / weights_key


def _weights_whole(folder: Path, planned: WeightsManifest) -> bool:
    """Whether converted weights can be used: they are what was planned, and their checksums fit where that takes but a moment."""
    try:
        if not WeightsManifest.read(folder).matches(planned):
            return False
        open_weights(folder, verify=planned.total_bytes <= _CHECKSUM_LIMIT_BYTES)
    except CompileError:
        return False
    return True


def find_prepared(request: BuildRequest, checkpoint: Checkpoint) -> Prepared | None:
    """What the cache holds for ``request``, or None if anything is missing or torn. Compiles nothing, loads no compiler.

    Raises:
        TargetError: The device that was asked for doesn't answer.
    """
    target = resolve_target(request.target, Path(request.cache))
    if target is None:
        return None
    artifact, weights = _entries(request, checkpoint, target)
    specs = model_weight_specs(checkpoint.config)
    planned = plan_manifest(checkpoint, specs, request.quant, target.layout, weights.name)
    if read_artifact(artifact) is None or not _weights_whole(weights, planned):
        return None
    return Prepared(target, artifact, weights)


def is_compiled(request: BuildRequest, checkpoint: Checkpoint) -> bool:
    """Whether the cache holds code for ``request``, with or without the weights. Compiles nothing, loads no compiler.

    Raises:
        TargetError: The device that was asked for doesn't answer.
    """
    target = resolve_target(request.target, Path(request.cache))
    return target is not None and read_artifact(_entries(request, checkpoint, target)[0]) is not None


def prepare(request: BuildRequest, on_progress: ProgressCallback) -> Prepared:
    """Convert and compile what the cache lacks.

    Raises:
        LocalRuntimeError: The checkpoint, the target, the compiler or the disk refuses; the message says which.
    """
    checkpoint = Checkpoint.open(request.folder)
    config = checkpoint.config
    specs = model_weight_specs(config)
    checkpoint.require(specs)
    require_supported_heads(config.num_heads, config.num_kv_heads, config.head_dim)
    on_progress(Progress("resolve", None, "asking what this processor can do"))
    target = _resolve_with_compiler(request)
    plan(specs, request.quant, target.layout)
    artifact, weights = _entries(request, checkpoint, target)
    if read_artifact(artifact) is None:
        require_runnable(target)

    def convert_into(out_dir: Path) -> None:
        convert(
            checkpoint,
            specs,
            request.quant,
            target.layout,
            out_dir,
            lambda done, detail: on_progress(Progress("convert", done, detail)),
            key=weights.name,
        )

    def compile_into(out_dir: Path) -> None:
        from local_runtime.compiler.compile import compile_model

        program = compile_model(
            config,
            request.quant,
            target,
            out_dir,
            lambda done, detail: on_progress(Progress("compile", done, detail)),
        )
        sums = {name: _sha256(out_dir / name) for name in program["objects"]}
        manifest = {
            **program,
            "key": artifact.name,
            "sha256": sums,
            "target": target.to_dict(),
            "quant": request.quant,
            "config": config.to_dict(),
        }
        (out_dir / MANIFEST).write_text(json.dumps(sealed(manifest), indent=1), encoding="utf-8")

    def waiting() -> None:
        on_progress(Progress("resolve", None, "waiting for another process that prepares the same model"))

    planned = plan_manifest(checkpoint, specs, request.quant, target.layout, weights.name)
    build_entry(weights, lambda entry: _weights_whole(entry, planned), convert_into, waiting)
    build_entry(artifact, lambda entry: read_artifact(entry) is not None, compile_into, waiting)
    return Prepared(target, artifact, weights)


def _resolve_with_compiler(request: BuildRequest) -> ResolvedTarget:
    """The target of ``request``; the compiler is asked about this processor where the cache doesn't know it yet."""
    cache = Path(request.cache)
    target = resolve_target(request.target, cache)
    if target is None:
        detect_cpu_target(cache)
        target = resolve_target(request.target, cache)
    if target is None:
        raise LocalRuntimeError(
            f"The description of this processor was written to {cache} and cannot be read from there.",
            "Check that disk, or move the cache with HYBRIDLLM_CACHE.",
        )
    return target


def _sha256(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def _say(out: IO[str], kind: str, value: dict[str, Any]) -> None:
    out.write(json.dumps({kind: value}) + "\n")
    out.flush()


_NO_MEMORY = {
    "code": "out_of_memory",
    "message": "There is not enough memory to prepare the model.",
    "mend": "Close other programs, or use q4.",
}


def main() -> int:
    """Run one build; returns the process's exit code (0 done, 1 refused)."""
    die_with_parent()
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints must not mix with the JSON lines
    try:
        request = BuildRequest(**json.load(sys.stdin))
        prepared = prepare(request, lambda progress: _say(out, "progress", asdict(progress)))
    except LocalRuntimeError as error:
        _say(out, "error", {"code": error.code, "message": error.message, "mend": error.mend})
        return 1
    except MemoryError:
        _say(out, "error", _NO_MEMORY)
        return 1
    except Exception as error:  # noqa: BLE001 - the last line of defence of a process: it is reported, not swallowed
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:  # a library could not be mapped
            _say(out, "error", _NO_MEMORY)
            return 1
        import traceback

        traceback.print_exc()
        internal = EngineInternalError(f"Preparing the model failed unexpectedly ({type(error).__name__}: {error}).")
        _say(out, "error", {"code": internal.code, "message": internal.message, "mend": "Please report it."})
        return 1
    _say(
        out,
        "done",
        {"target": prepared.target.to_dict(), "artifact": str(prepared.artifact), "weights": str(prepared.weights)},
    )
    return 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
