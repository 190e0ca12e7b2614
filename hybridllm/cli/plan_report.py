"""What ``hybridllm models plan`` finds and how it is shown."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hybridllm.cli.terminal import Terminal
    from local_runtime.model_plan import Case, Machine
    from local_runtime.quantization import Quantization

__all__ = ["ModelPlan", "plan_model", "plan_record", "show_plan"]

_MIB = 1 << 20
_STYLES = {"fits": "green", "cut": "yellow", "too large": "red", "unsupported": "dim"}


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """A model, a machine, and what each way to load the one on the other comes to.

    Attributes:
        name: The folder's name.
        model_type: Hugging Face's name of the architecture.
        parameters: Number of parameters; tied ones once.
        context_tokens: The model's own longest context.
        stored_mib: Size of the checkpoint's weight files; None where there are none.
        recommended_quant: What ``--quant auto`` comes to.
        max_sequences: Answers at a time.
        machine: What was planned for.
        cases: The ways to load it.
    """

    name: str
    model_type: str
    parameters: int
    context_tokens: int
    stored_mib: float | None
    recommended_quant: Quantization
    max_sequences: int
    machine: Machine
    cases: list[Case]

    @property
    def any_fits(self) -> bool:
        """Whether there is a way to load it."""
        return any(case.verdict in ("fits", "cut") for case in self.cases)

    @property
    def no_room_to_build(self) -> str:
        """Why the first start, which converts and compiles, would be refused here; empty if it would not."""
        from local_runtime.errors import OutOfMemoryError
        from local_runtime.memory_plan import require_room_to_build

        before_mib = max((case.memory.before_model_bytes / _MIB for case in self.cases if case.memory), default=0.0)
        try:
            require_room_to_build(self.machine.kind, self.machine.headroom_mib - before_mib)
        except OutOfMemoryError as error:
            return str(error)
        return ""


def plan_model(
    folder: Path,
    *,
    target: str,
    quant: Literal["auto", "q4", "f16", "f32"] | None,
    context_tokens: int | None,
    max_sequences: int,
    memory_mib: int | None,
    free_mib: int | None,
) -> ModelPlan:
    """Plan a model. Reads ``config.json`` and, where there are weights, their files' headers; loads neither them nor TVM.

    For a card that is here, a process of its own makes a context on it for a moment, to see what that takes.

    Args:
        folder: The checkpoint.
        target: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``metal``.
        quant: One weight format, or None for all.
        context_tokens: One context, which is not cut, or None for a spread.
        max_sequences: Answers at a time.
        memory_mib: The most that weights, cache and workspace may take.
        free_mib: What can be taken, where it is not this machine's memory that counts.

    Raises:
        LocalRuntimeError: The checkpoint, the target or a number is refused; the message says which.
    """
    from local_runtime.checkpoint import Checkpoint
    from local_runtime.model_plan import parameters_of, plan_cases, recommended_quant
    from local_runtime.models.config import ModelConfig
    from local_runtime.models.registry import model_weight_specs
    from local_runtime.quantization import QUANTIZATIONS

    config = ModelConfig.from_folder(folder)
    specs = model_weight_specs(config)
    files = list(folder.glob("*.safetensors"))
    if files:
        Checkpoint.open(folder).require(specs)
    parameters = parameters_of(specs)
    recommended = recommended_quant(parameters, specs)
    machine = machine_for(target, free_mib)
    chosen = QUANTIZATIONS if quant is None else (recommended if quant == "auto" else quant,)
    return ModelPlan(
        name=folder.name,
        model_type=config.model_type,
        parameters=parameters,
        context_tokens=config.context_tokens,
        stored_mib=sum(file.stat().st_size for file in files) / _MIB if files else None,
        recommended_quant=recommended,
        max_sequences=max_sequences,
        machine=machine,
        cases=plan_cases(
            folder,
            config,
            machine,
            quants=chosen,
            contexts=None if context_tokens is None else (context_tokens,),
            max_sequences=max_sequences,
            memory_mib=memory_mib,
            may_cut_context=context_tokens is None,
        ),
    )


def machine_for(target: str, free_mib: int | None) -> Machine:
    """The memory that a target's models live in.

    Args:
        target: As for ``LoadOptions.target``.
        free_mib: What can be taken there, if not what can be now.

    Raises:
        TargetError: The target doesn't exist, or is a card and none is here.
    """
    from local_runtime.card_context import USUAL_CONTEXT_MIB, context_bytes
    from local_runtime.errors import TargetError
    from local_runtime.memory import accelerator_headroom_mib, system_headroom_mib
    from local_runtime.model_plan import Machine
    from local_runtime.target import parse_target_request

    kind, index, _ = parse_target_request(target)
    card_mib = accelerator_headroom_mib(index) if kind in ("auto", "cuda") else None
    if kind == "cuda" or card_mib is not None:
        free_card_mib = card_mib if free_mib is None else float(free_mib)
        if free_card_mib is None:
            raise TargetError(
                "The memory of a CUDA card cannot be read here.",
                "Say how much it has free with --free-mib, or use --target cpu.",
            )
        context = None if card_mib is None else context_bytes(index)
        context_mib = USUAL_CONTEXT_MIB if context is None else context / _MIB
        return Machine("cuda", system_headroom_mib(), free_card_mib, context_mib, context is not None)
    return Machine(
        "metal" if kind == "metal" else "cpu", system_headroom_mib() if free_mib is None else float(free_mib)
    )


def plan_record(plan: ModelPlan) -> dict[str, Any]:
    """The plan as plain values for JSON; sizes in MiB."""
    from local_runtime.memory_plan import SPARE_MIB

    return {
        "name": plan.name,
        "model_type": plan.model_type,
        "parameters": plan.parameters,
        "context_tokens": plan.context_tokens,
        "stored_mib": None if plan.stored_mib is None else round(plan.stored_mib, 1),
        "recommended_quant": plan.recommended_quant,
        "max_sequences": plan.max_sequences,
        "machine": asdict(plan.machine),
        "reserve_mib": SPARE_MIB,
        "first_start": plan.no_room_to_build or "fits",
        "cases": [_case_record(case) for case in plan.cases],
    }


def _case_record(case: Case) -> dict[str, Any]:
    record: dict[str, Any] = {
        "quant": case.quant,
        "context_tokens": case.context_tokens,
        "verdict": case.verdict,
        "served_tokens": case.served_tokens,
        "cache_tokens": case.cache_tokens,
        "token_bytes": case.token_bytes,
        "said": case.said,
    }
    if case.memory is not None:
        memory = case.memory
        sizes = {name.removesuffix("_bytes"): size for name, size in asdict(memory).items()}
        sizes |= {
            "loading_peak": memory.loading_peak_bytes,
            "loaded": memory.loaded_bytes,
            "peak": memory.peak_bytes,
            "private": memory.private_bytes,
            "first_start_peak": memory.first_start_peak_bytes,
        }
        record["memory_mib"] = {name: round(size / _MIB, 1) for name, size in sizes.items()}
    return record


def show_plan(plan: ModelPlan, terminal: Terminal) -> None:
    """Write the plan for a person."""
    from local_runtime.memory_plan import SPARE_MIB

    stored = (
        "no weights in the folder" if plan.stored_mib is None else f"{plan.stored_mib:.0f} MiB of weights in the folder"
    )
    terminal.line(
        f"{plan.name}: {plan.model_type}, {plan.parameters / 1e6:.1f}M parameters, context of {plan.context_tokens} tokens, {stored}",
        "bold",
    )
    machine = plan.machine
    card = "" if machine.card_mib is None else f" of this machine and {machine.card_mib:.0f} MiB of the card"
    terminal.line(
        f"{machine.headroom_mib:.0f} MiB{card} can be taken; {SPARE_MIB} stay in reserve. Answers at a time: {plan.max_sequences}."
    )
    memory = next((case.memory for case in plan.cases if case.memory is not None), None)
    if memory is not None:
        terminal.line(
            f"In every case: libraries {_mib(memory.libraries_bytes)}, tokenizer {_mib(memory.tokenizer_bytes)}, "
            f"runtime and code {_mib(memory.runtime_bytes)} MiB. The first start, which converts and compiles, takes at most "
            f"{_mib(memory.first_start_peak_bytes)} MiB."
        )
    if machine.kind == "cuda":
        how = "measured here" if machine.context_measured else "an H100's, for none can be measured here"
        terminal.line(f"Of the card, the process's context takes {machine.context_mib:.0f} MiB ({how}).")
    terminal.line()
    on_card = memory is not None and memory.card_bytes > 0
    terminal.line(
        f"{'':6}{'context':>8}{'weights':>9}{'KiB/token':>11}{'cache':>8}{'workspace':>11}{'loaded':>8}{'peak':>8}"
        + (f"{'card':>8}" if on_card else ""),
        "bold",
    )
    for case in plan.cases:
        terminal.line(_row(case, plan.recommended_quant), _STYLES[case.verdict])
    if any(case.quant == plan.recommended_quant for case in plan.cases):
        terminal.line("MiB where nothing else is said. *: what --quant auto takes.", "dim")
    for said in _refusals(plan.cases):
        terminal.line(said)
    if plan.any_fits and plan.no_room_to_build:
        terminal.line(f"First start: {plan.no_room_to_build}", "yellow")


def _row(case: Case, recommended: str) -> str:
    name = f"{case.quant}{'*' if case.quant == recommended else ''}"
    if case.memory is None:
        return f"{name:6}{'':8}{case.said}"
    memory = case.memory
    sizes = (
        f"{case.context_tokens:>8}{_mib(memory.weights_bytes):>9}{case.token_bytes / 1024:>11.1f}{_mib(memory.cache_bytes):>8}"
        f"{_mib(memory.workspace_bytes):>11}{_mib(memory.loaded_bytes):>8}{_mib(memory.peak_bytes):>8}"
    )
    card = f"{_mib(memory.card_bytes):>8}" if memory.card_bytes else ""
    return f"{name:6}{sizes}{card}  {_verdict(case)}"


def _verdict(case: Case) -> str:
    if case.verdict != "cut":
        return case.verdict
    if case.served_tokens < case.context_tokens:
        return f"context cut to {case.served_tokens}"
    return f"cache cut to {case.cache_tokens} tokens"


def _refusals(cases: list[Case]) -> Iterator[str]:
    """Why the largest cases of each format are refused: one sentence a format, that of the shortest context."""
    seen = set()
    for case in cases:
        if case.verdict == "too large" and case.quant not in seen:
            seen.add(case.quant)
            yield f"{case.quant}, {case.context_tokens} tokens: {case.said}"


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / _MIB:.0f}"
