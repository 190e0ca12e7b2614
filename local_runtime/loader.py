"""From a request to load a model to a model that answers: find it, prepare it if this machine hasn't yet, start it."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import psutil

from local_runtime.admission import OUT_OF_MEMORY_WORDS
from local_runtime.build import BuildRequest, Prepared, find_prepared, is_compiled
from local_runtime.card_context import hold_context, release_context
from local_runtime.checkpoint import Checkpoint
from local_runtime.child_process import python_command, python_environment
from local_runtime.errors import (
    CompileError,
    LocalRuntimeError,
    OutOfMemoryError,
    TargetError,
    error_from_code,
)
from local_runtime.generation_config import recommended_sampling
from local_runtime.memory import Headroom, accelerator_headroom_mib, system_headroom_mib
from local_runtime.memory_forecast import require_room_for_tokenizer
from local_runtime.memory_plan import MemoryPlan, predict_needs, require_host_room, require_room_to_build
from local_runtime.model_plan import context_to_serve, converted_bytes, recommended_quant, tokenizer_file_bytes
from local_runtime.models.registry import model_weight_specs
from local_runtime.options import LoadOptions, ModelInfo, Progress, SamplingOptions
from local_runtime.paths import cache_folder, model_folder
from local_runtime.process_memory import give_back_freed_memory
from local_runtime.target import ResolvedTarget, cuda_compiler_found, cuda_devices, parse_target_request
from local_runtime.tokenizer import ChatTokenizer

if TYPE_CHECKING:
    from local_runtime.models.config import ModelConfig
    from local_runtime.quantization import Quantization
    from local_runtime.runner import TvmRunner
    from local_runtime.target import DeviceKind

__all__ = ["LoadedModel", "load"]

ProgressCallback = Callable[[Progress], None]

_MIB = 1 << 20
_BUILD_RESERVE_BYTES = 16 * _MIB
"""What a build process may not take of the memory that is left, so that it fails by itself before the system kills it."""

_AMPLE_BYTES = 1024 * _MIB
"""A build that breaks off with more than this to take did not lack memory."""


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to answer.

    Attributes:
        runner: Runs prefill and decode.
        tokenizer: Text to tokens and back, with the chat template.
        info: What was loaded.
        recommended_sampling: How the model's makers want tokens to be drawn.
    """

    runner: TvmRunner
    tokenizer: ChatTokenizer
    info: ModelInfo
    recommended_sampling: SamplingOptions


def load(options: LoadOptions, on_progress: ProgressCallback) -> LoadedModel:
    """Load a model, converting and compiling it first if the cache has nothing for this machine.

    Args:
        options: Which model, and how.
        on_progress: Told what is being done.

    Raises:
        LocalRuntimeError: The checkpoint, the tokenizer, the target, the compiler or the memory refuses; the message says which.
    """
    try:
        return _load(options, on_progress)
    except (CompileError, TargetError, OutOfMemoryError) as error:
        if options.target != "auto" or not cuda_devices():
            raise
        # Nobody asked for the GPU by name, and the device always answers, also with a full card or no CUDA compiler.
        on_progress(Progress("resolve", None, f"The GPU cannot be used, so the processor is: {error.message}"))
        return _load(replace(options, target="cpu"), on_progress)


def _load(options: LoadOptions, on_progress: ProgressCallback) -> LoadedModel:
    with contextlib.ExitStack() as until_failed:
        return _load_within(until_failed, options, on_progress)


def _load_within(
    until_failed: contextlib.ExitStack, options: LoadOptions, on_progress: ProgressCallback
) -> LoadedModel:
    started = time.perf_counter()
    on_progress(Progress("resolve", None, options.model))
    folder = model_folder(options.model)
    checkpoint = Checkpoint.open(folder)
    config = checkpoint.config
    specs = model_weight_specs(config)
    checkpoint.require(specs)
    require_room_for_tokenizer(config.vocab_size, tokenizer_file_bytes(folder), system_headroom_mib())
    tokenizer = ChatTokenizer.from_folder(folder, config.vocab_size)
    give_back_freed_memory()  # before the memory that is left is looked at
    recommended = recommended_sampling(folder)
    parameters = checkpoint.parameter_count(specs)
    quant = options.quant if options.quant != "auto" else recommended_quant(parameters, specs)
    kind, index = _device_of(options.target)
    weights_bytes = converted_bytes(specs, quant, kind)
    if kind == "cuda":
        has_own_memory = accelerator_headroom_mib(index) is not None  # which an integrated device has not
        if has_own_memory:
            require_host_room(kind, system_headroom_mib())
        if hold_context(index):  # so that what is left of the card then is left for the model
            until_failed.callback(release_context, index)

    def plan() -> MemoryPlan:
        return _plan_memory(options, config, kind, index, quant, weights_bytes)

    request = BuildRequest(str(folder), quant, options.target, str(cache_folder(options.cache_dir)))
    prepared = find_prepared(request, checkpoint)
    compiled = prepared is None
    if prepared is None:
        if options.target == "auto" and cuda_devices():
            _require_usable_gpu(request, checkpoint)
        plan()  # Nothing is prepared for minutes that would not fit in the end.
        require_room_to_build(kind, system_headroom_mib())
        prepared = _build_in_own_process(request, checkpoint, on_progress)

    memory = plan()
    cut = memory.said(context_to_serve(options.context_tokens, config.context_tokens))
    on_progress(Progress("load", None, cut or "weights"))
    from local_runtime.runner import TvmRunner
    from local_runtime.weights import WeightsManifest, open_weights

    weights = {(name, part): array for name, part, array in open_weights(prepared.weights, verify=False)}
    threads = options.threads or _default_threads()
    runner = TvmRunner(
        prepared.target,
        prepared.artifact,
        weights,
        vocab_size=config.vocab_size,
        context_tokens=memory.context_tokens,
        max_sequences=options.max_sequences,
        total_tokens=memory.total_tokens,
        threads=threads,
        # An accelerator's memory is taken when it is allocated; a processor's only when it is written to.
        needs=memory.needs if kind == "cpu" else None,
        headroom=Headroom() if kind == "cpu" else None,
        weights_digest=WeightsManifest.read(prepared.weights).content_digest(),
    )
    _try_out(runner, prepared.target)
    runner_info = ModelInfo(
        name=folder.name,
        path=str(folder),
        model_type=config.model_type,
        quant=quant,
        target=prepared.target.spec_json,
        device=_describe_device(prepared.target, threads),
        context_tokens=runner.context_tokens,
        vocab_size=config.vocab_size,
        parameters=parameters,
        weights_mib=sum(array.nbytes for array in weights.values()) / 2**20,
        kv_mib=runner.total_pages * runner.page_tokens * memory.needs.token_bytes / 2**20,
        load_s=time.perf_counter() - started,
        compiled=compiled,
        tool_format="" if tokenizer.tool_format is None else tokenizer.tool_format.name,
        thinks=tokenizer.thought_marks is not None,
    )
    until_failed.pop_all()  # a context that is in use stays
    on_progress(Progress("ready", 1.0, runner_info.device))
    return LoadedModel(runner, tokenizer, runner_info, recommended)


def _require_usable_gpu(request: BuildRequest, checkpoint: Checkpoint) -> None:
    """Refuse a GPU that nothing could be run on or compiled for, before a minute is spent on preparing the model for it.

    Raises:
        TargetError: TVM's runtime for CUDA cannot be loaded, or doesn't find the device.
        CompileError: The model is yet to be compiled, and there is no CUDA compiler.
    """
    from local_runtime.tvm_runtime import Device

    Device("cuda", 0)
    if not cuda_compiler_found() and not is_compiled(request, checkpoint):
        raise CompileError(
            "There is no CUDA compiler here.",
            "Install the package cuda-bindings or NVIDIA's nvcc, or use --target cpu.",
        )


def _try_out(runner: TvmRunner, target: ResolvedTarget) -> None:
    """Run one token, so that a device's own compiler or driver fails here, where it can be answered for, and not in an answer.

    It also brings the weights into memory, where the headroom that later requests are measured by no longer counts them as free.
    """
    try:
        runner.add_sequence(0)
        runner.prefill(0, [0])
        runner.remove_sequence(0)
    except LocalRuntimeError:
        raise
    except (RuntimeError, ValueError) as error:  # what TVM's errors are
        raise CompileError(
            f"The compiled model does not run on {target.name}: {_first_line(error)}.",
            "Please report it." if target.kind == "cpu" else "Use --target cpu.",
        ) from error


def _first_line(error: Exception) -> str:
    """The first line of an error's text, or its type's name."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _default_threads() -> int:
    process = psutil.Process()
    allowed = len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else (psutil.cpu_count() or 1)
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed))


def _device_of(requested: str) -> tuple[DeviceKind, int]:
    """The kind of device that a target request comes to, and which of several."""
    kind, index, _ = parse_target_request(requested)
    if kind == "cuda" or (kind == "auto" and cuda_devices()):
        return "cuda", index
    return ("metal" if kind == "metal" else "cpu"), index


def _plan_memory(
    options: LoadOptions, config: ModelConfig, kind: DeviceKind, index: int, quant: Quantization, weights_bytes: int
) -> MemoryPlan:
    """Predict what the model takes, and fit its cache into what is there at this moment.

    Raises:
        InvalidRequestError: A longer context is asked for than the model has.
        OutOfMemoryError: It doesn't fit.
    """
    context_tokens = context_to_serve(options.context_tokens, config.context_tokens)
    needs = predict_needs(
        config,
        target_kind=kind,
        quant=quant,
        weights_bytes=weights_bytes,
        context_tokens=context_tokens,
        max_sequences=options.max_sequences,
    )
    headroom_mib = system_headroom_mib()
    card_mib = accelerator_headroom_mib(index) if kind == "cuda" else None
    return needs.plan(
        headroom_mib=headroom_mib if card_mib is None else card_mib,
        memory_mib=options.memory_mib,
        context_tokens=context_tokens,
        may_cut_context=options.context_tokens is None,
        max_sequences=options.max_sequences,
    )


def _describe_device(target: ResolvedTarget, threads: int) -> str:
    if target.kind == "cpu":
        return f"{target.name}, {threads} thread{'s' if threads != 1 else ''}"
    return f"{target.name} ({target.kind}:{target.index})"


def _limit_memory(pid: int) -> int | None:
    """Let a build fail by an allocation that is refused, before it has taken what is left and the system kills somebody.

    Linux alone counts what a process writes to against a limit of its own (``RLIMIT_DATA``); elsewhere the check before the build
    has to do.

    Returns:
        The limit in bytes; None where there is no such thing.
    """
    if not hasattr(psutil, "RLIMIT_DATA"):
        return None
    limit_bytes = int(system_headroom_mib() * _MIB) - _BUILD_RESERVE_BYTES
    with contextlib.suppress(psutil.NoSuchProcess):  # it ended at once, and its exit code will say why
        psutil.Process(pid).rlimit(psutil.RLIMIT_DATA, (limit_bytes, limit_bytes))
    return limit_bytes


def _build_in_own_process(request: BuildRequest, checkpoint: Checkpoint, on_progress: ProgressCallback) -> Prepared:
    """Run :mod:`local_runtime.build` and pass its progress on."""
    environment = python_environment()
    environment.pop("TVM_USE_RUNTIME_LIB", None)  # the build process is the one that needs the compiler
    process = subprocess.Popen(
        python_command("local_runtime.build"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        encoding="utf-8",
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    limit_bytes = _limit_memory(process.pid) if _device_of(request.target)[0] == "cpu" else None
    stderr_tail: deque[str] = deque(maxlen=20)
    drain = Thread(target=stderr_tail.extend, args=(process.stderr,), daemon=True)
    drain.start()
    outcome: dict[str, Any] = {}
    try:
        with contextlib.suppress(BrokenPipeError):  # It ended at once: its exit code and last words tell why.
            json.dump(asdict(request), process.stdin)
            process.stdin.close()
        for line in process.stdout:
            message = json.loads(line)
            if "progress" in message:
                on_progress(Progress(**message["progress"]))
            else:
                outcome = message
        code = process.wait()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        drain.join(timeout=1.0)
        process.stdout.close()
        process.stderr.close()
    if "error" in outcome:
        raise error_from_code(outcome["error"]["code"], outcome["error"]["message"], outcome["error"]["mend"])
    if "done" not in outcome:
        said_so = any(words in line.lower() for line in stderr_tail for words in OUT_OF_MEMORY_WORDS)
        # Native code that is refused memory says so, aborts, or reads from where the memory would have been.
        refused = limit_bytes is not None and limit_bytes < _AMPLE_BYTES and code in (-signal.SIGABRT, -signal.SIGSEGV)
        if said_so or refused or code in (-9, 137):
            raise OutOfMemoryError(
                f"Preparing the model {'was killed' if code in (-9, 137) else 'broke off'}, most likely for lack of memory.",
                "Close other programs, raise the memory limit for the first start, or use q4.",
            )
        last = stderr_tail[-1].strip() if stderr_tail else "it said nothing"
        raise CompileError(f"Preparing the model ended with exit code {code}: {last}.", "Please report it.")
    done = outcome["done"]
    prepared = Prepared(ResolvedTarget(**done["target"]), Path(done["artifact"]), Path(done["weights"]))
    return find_prepared(request, checkpoint) or prepared
