"""What loading a model would come to on this machine, from its ``config.json`` alone: for each weight format and context length.

Nothing is loaded and no weights are read. The same functions choose the context and the weight format when a model is loaded
(:mod:`local_runtime.loader`), and the same plan cuts its cache or refuses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from local_runtime.card_memory import tensors_bytes
from local_runtime.errors import InvalidRequestError, OutOfMemoryError, UnsupportedModelError
from local_runtime.memory_forecast import forecast, require_room_for_tokenizer
from local_runtime.memory_plan import predict_needs, require_host_room
from local_runtime.models.registry import model_weight_specs
from local_runtime.paths import kind_of
from local_runtime.quantization import GROUP_SIZE, QUANTIZATIONS
from local_runtime.weights import plan as plan_weights

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from local_runtime.memory_forecast import MemoryForecast
    from local_runtime.memory_plan import MemoryNeeds, MemoryPlan
    from local_runtime.models.config import ModelConfig
    from local_runtime.models.spec import WeightSpec
    from local_runtime.quantization import Quantization
    from local_runtime.target import DeviceKind

__all__ = [
    "DEFAULT_CONTEXT_LIMIT_TOKENS",
    "Case",
    "Machine",
    "context_spread",
    "context_to_serve",
    "converted_bytes",
    "parameters_of",
    "plan_cases",
    "recommended_quant",
    "tokenizer_file_bytes",
]

Verdict = Literal["fits", "cut", "too large", "unsupported"]

DEFAULT_CONTEXT_LIMIT_TOKENS = 8192
"""Context that is served when nobody says: the model's own, but no more than this, for its cache is memory."""

_AUTO_F16_LIMIT_PARAMETERS = 100_000_000
"""``quant="auto"``: up to this size a model stays in float16, where 4 bits would cost quality and save nothing to speak of."""

_SHOWN_CONTEXTS_TOKENS = (1024, 4096, 32768)
_MIB = 1 << 20


def context_to_serve(requested: int | None, available: int) -> int:
    """The context that is served.

    Raises:
        InvalidRequestError: More is asked for than the model has.
    """
    if requested is None:
        return min(available, DEFAULT_CONTEXT_LIMIT_TOKENS)
    if requested > available:
        raise InvalidRequestError(
            f"context_tokens is {requested}, but the model's context is {available} tokens.",
            f"Ask for at most {available}.",
        )
    return requested


def parameters_of(specs: Sequence[WeightSpec]) -> int:
    """Parameters of a model; tied ones once."""
    total = 0
    for spec in specs:
        count = 1
        for size in spec.shape:
            count *= size
        total += count
    return total


def recommended_quant(parameters: int, specs: Sequence[WeightSpec]) -> Quantization:
    """The weight format for a model of so many parameters."""
    whole_groups = all(spec.shape[1] % GROUP_SIZE == 0 for spec in specs if spec.kind != "vector")
    return "q4" if parameters > _AUTO_F16_LIMIT_PARAMETERS and whole_groups else "f16"


def converted_bytes(specs: Sequence[WeightSpec], quant: Quantization, kind: DeviceKind) -> int:
    """How much memory the converted weights will take, which is known before they are converted.

    Raises:
        UnsupportedModelError: The matrices don't suit the format.
    """
    entries = plan_weights(specs, quant, "cpu-tiled" if kind == "cpu" else "row-major")
    if kind == "cuda":
        return tensors_bytes(entry.nbytes for entry in entries)
    return entries[-1].offset + entries[-1].nbytes


def tokenizer_file_bytes(folder: Path) -> int | None:
    """Length of a checkpoint's ``tokenizer.json``; None where there is none."""
    file = folder / "tokenizer.json"
    return file.stat().st_size if kind_of(file) == "file" else None


def context_spread(config: ModelConfig) -> tuple[int, ...]:
    """Context lengths worth a look, the one that is served when nobody says and the model's own among them."""
    shown = {length for length in _SHOWN_CONTEXTS_TOKENS if length < config.context_tokens}
    return tuple(sorted({*shown, context_to_serve(None, config.context_tokens), config.context_tokens}))


@dataclass(frozen=True)
class Machine:
    """Where the model would be loaded.

    Attributes:
        kind: The kind of device.
        headroom_mib: MiB of this machine's memory that can be taken, a cgroup's limit included.
        card_mib: MiB that can be taken of a card's memory; None where the device has none of its own, or none is here.
        context_mib: MiB of them that a process's context takes (:mod:`local_runtime.card_context`).
        context_measured: Whether that was measured on this card.
    """

    kind: DeviceKind
    headroom_mib: float
    card_mib: float | None = None
    context_mib: float = 0.0
    context_measured: bool = False


@dataclass(frozen=True)
class Case:
    """One way to load the model.

    Attributes:
        quant: The weight format.
        context_tokens: The context that was asked for.
        verdict: ``fits``: in full; ``cut``: with a shorter context or a smaller cache; ``too large``: it would be refused;
            ``unsupported``: the model cannot be had in this format.
        served_tokens: The context that would be served; 0 if none.
        cache_tokens: Tokens that the key-value cache would hold for all answers; for ``too large``, those that were asked for.
        token_bytes: Keys and values of one token.
        memory: What it is expected to take; None for ``unsupported``.
        said: Why it is cut or refused; empty if it isn't.
    """

    quant: Quantization
    context_tokens: int
    verdict: Verdict
    served_tokens: int
    cache_tokens: int
    token_bytes: int
    memory: MemoryForecast | None
    said: str = ""


def plan_cases(
    folder: Path,
    config: ModelConfig,
    machine: Machine,
    *,
    quants: Sequence[Quantization] = QUANTIZATIONS,
    contexts: Sequence[int] | None = None,
    max_sequences: int = 4,
    memory_mib: int | None = None,
    may_cut_context: bool = True,
) -> list[Case]:
    """Plan each weight format with each context.

    Args:
        folder: The checkpoint; of it, only the size of ``tokenizer.json`` is looked at.
        config: Its configuration.
        machine: What it is planned for.
        quants: Weight formats.
        contexts: Context lengths; None for a spread.
        max_sequences: Answers at a time.
        memory_mib: As in ``LoadOptions``.
        may_cut_context: Whether a shorter context would do, as it does when nobody asks for one.

    Raises:
        InvalidRequestError: A context is longer than the model's.
        UnsupportedModelError: No file implements this ``model_type``.
    """
    specs = model_weight_specs(config)
    planner = _Planner(config, machine, tokenizer_file_bytes(folder), max_sequences, memory_mib, may_cut_context)
    cases = []
    for quant in quants:
        try:
            weights_bytes = converted_bytes(specs, quant, machine.kind)
        except UnsupportedModelError as error:
            cases.append(Case(quant, config.context_tokens, "unsupported", 0, 0, 0, None, str(error)))
            continue
        for wanted in contexts or context_spread(config):
            cases.append(planner.case(quant, weights_bytes, context_to_serve(wanted, config.context_tokens)))
    return cases


@dataclass(frozen=True)
class _Planner:
    """What is the same for all cases of a model."""

    config: ModelConfig
    machine: Machine
    tokenizer_file_bytes: int | None
    max_sequences: int
    memory_mib: int | None
    may_cut_context: bool

    def case(self, quant: Quantization, weights_bytes: int, context_tokens: int) -> Case:
        """Plan one."""
        needs = predict_needs(
            self.config,
            target_kind=self.machine.kind,
            quant=quant,
            weights_bytes=weights_bytes,
            context_tokens=context_tokens,
            max_sequences=self.max_sequences,
            context_bytes=round(self.machine.context_mib * _MIB),
        )
        whole_tokens = needs.sequence_tokens(context_tokens) * self.max_sequences
        whole = self._memory(needs, whole_tokens)
        try:
            plan = self._plan(needs, whole, context_tokens)
        except OutOfMemoryError as error:
            return Case(quant, context_tokens, "too large", 0, whole_tokens, needs.token_bytes, whole, str(error))
        said = plan.said(context_tokens)
        return Case(
            quant,
            context_tokens,
            "cut" if said else "fits",
            plan.context_tokens,
            plan.total_tokens,
            needs.token_bytes,
            self._memory(needs, plan.total_tokens),
            said,
        )

    def _plan(self, needs: MemoryNeeds, whole: MemoryForecast, context_tokens: int) -> MemoryPlan:
        """Ask what loading asks, in its order."""
        left_mib = self.machine.headroom_mib - whole.libraries_bytes / _MIB
        require_room_for_tokenizer(self.config.vocab_size, self.tokenizer_file_bytes, left_mib)
        left_mib -= whole.tokenizer_bytes / _MIB
        if self.machine.card_mib is not None:
            require_host_room(self.machine.kind, left_mib)
        return needs.plan(
            headroom_mib=left_mib if self.machine.card_mib is None else self.machine.card_mib,
            memory_mib=self.memory_mib,
            context_tokens=context_tokens,
            may_cut_context=self.may_cut_context,
            max_sequences=self.max_sequences,
        )

    def _memory(self, needs: MemoryNeeds, cache_tokens: int) -> MemoryForecast:
        return forecast(
            needs,
            target_kind=self.machine.kind,
            cache_tokens=cache_tokens,
            vocab_size=self.config.vocab_size,
            tokenizer_file_bytes=self.tokenizer_file_bytes,
            card_context_bytes=round(self.machine.context_mib * _MIB),
        )
