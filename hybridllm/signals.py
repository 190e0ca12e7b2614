"""The measured side of a decision: what is known at this moment, from cached readings that cost nothing to ask for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from hybridllm.capabilities import TOOLS
from hybridllm.latency import DeviceLatency, Latency
from hybridllm.memory import accelerator_headroom_mib, system_headroom_mib
from hybridllm.program_facts import MeasuredByProgram, ProgramFacts
from policies import DEVICE_ZONE, LOCAL, WEEKDAYS, Facts, Place

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybridllm.assessment import Labelled
    from hybridllm.backends.base import Backend
    from hybridllm.connectivity import Connectivity
    from hybridllm.remote import Remote
    from hybridllm.types.chat_request import ChatRequest

__all__ = ["REMOTE", "MeasuredByProgram", "Signals"]

REMOTE = "remote"
"""Name of the remote place."""

_MEMORY_FRESH_S = 1.0
_ACCELERATOR_FRESH_S = 5.0
_ASSUMED_ANSWER_TOKENS = 128


class _Reading:
    """A measurement that is repeated when it is older than it may be, and unknown where it cannot be made."""

    def __init__(self, measure: Callable[[], float | None], fresh_s: float) -> None:
        self._measure = measure
        self._fresh_s = fresh_s
        self._value: float | None = None
        self._at_s: float | None = None

    def get(self, *, measure: bool) -> float | None:
        now = time.monotonic()
        if measure and (self._at_s is None or now - self._at_s > self._fresh_s):
            self._at_s = now
            try:
                self._value = self._measure()
            except Exception:  # noqa: BLE001 - no counter that a system hides may keep the device from answering
                self._value = None
        return self._value


class Signals:
    """Cached readings for one client.

    Args:
        local: The place on the device.
        remote: The remote, if one is configured.
        connectivity: What is known about the way there.
        offline: Whether the operator said that the remote must not be used.
        measured_by_program: Facts that the program measures itself.

    Attributes:
        latency: Estimates by place.
        device_latency: What a first token costs on the device, by the length of the prompt.

    Raises:
        BadRequest: What the program measures is not facts.
    """

    def __init__(
        self,
        local: Backend,
        remote: Remote | None,
        connectivity: Connectivity,
        *,
        offline: bool,
        measured_by_program: MeasuredByProgram | None = None,
    ) -> None:
        self.latency = {LOCAL: Latency(), REMOTE: Latency()}
        self.device_latency = DeviceLatency()
        self._local = local
        self._remote = remote
        self._connectivity = connectivity
        self._offline = offline
        self._program = None if measured_by_program is None else ProgramFacts(measured_by_program)
        self._memory = _Reading(system_headroom_mib, _MEMORY_FRESH_S)
        self._accelerator = _Reading(accelerator_headroom_mib, _ACCELERATOR_FRESH_S)

    def refresh(self) -> None:
        """Repeat the readings that are too old."""
        self._memory.get(measure=True)
        self._accelerator.get(measure=True)

    def facts(
        self,
        labelled: Labelled,
        *,
        deadline_s: float | None = None,
        local_prompt_tokens: int | None = None,
    ) -> Facts:
        """Everything that is known for one request, from what was read before: no I/O.

        Args:
            labelled: The request and its label.
            deadline_s: Seconds that are left for it.
            local_prompt_tokens: Its exact length in the device's tokens, where it was counted.
        """
        now = time.localtime()
        request, joined = labelled.request, labelled.joined
        local, remote = self.latency[LOCAL], self.latency[REMOTE]
        answer_tokens = request.token_limit or _ASSUMED_ANSWER_TOKENS
        prompt_tokens = local_prompt_tokens or estimated_tokens(request)
        local_ttft_ms = self._local_ttft_ms(prompt_tokens)
        measured: dict[str, Any] = {
            "connectivity": self._connectivity.state if self._remote is not None or self._offline else None,
            "memory_headroom_mib": self._memory.get(measure=False),
            "device_memory_headroom_mib": self._accelerator.get(measure=False),
            "local_ready": self._local.ready,
            "local_ttft_ms": local_ttft_ms,
            "local_tokens_per_s": local.tokens_per_s,
            "local_meets_deadline": _meets(deadline_s, local.expected_s(answer_tokens, ttft_ms=local_ttft_ms)),
            "remote_ttft_ms": remote.ttft_ms,
            "remote_tokens_per_s": remote.tokens_per_s,
            "remote_meets_deadline": _meets(deadline_s, remote.expected_s(answer_tokens)),
            "prompt_tokens": prompt_tokens,
            "time_of_day": f"{now.tm_hour:02}:{now.tm_min:02}",
            "weekday": WEEKDAYS[now.tm_wday],
        }
        if self._program is not None:
            measured |= self._program.measured()
        return Facts(
            label=joined.label,
            declared_label=joined.declared_label,
            tags=labelled.tags,
            detected=joined.detected,
            capabilities=request.capabilities,
            max_tokens=request.token_limit,
            deadline_s=deadline_s,
            local_prompt_tokens=local_prompt_tokens,
            places=self._places(),
            **measured,
        )

    def _local_ttft_ms(self, prompt_tokens: int) -> float | None:
        """What this request's first token is expected to take on the device, the wait for others included."""
        queue_s = self._local.queue_s or 0.0
        expected_ms = self.device_latency.expected_ttft_ms(prompt_tokens, queue_s)
        if expected_ms is not None:
            return expected_ms
        usual_ms = self.latency[LOCAL].ttft_ms
        return None if usual_ms is None else usual_ms + 1000 * queue_s

    def _places(self) -> tuple[Place, ...]:
        device = Place(LOCAL, DEVICE_ZONE, self._local.context_tokens, self._local.capabilities)
        if self._remote is None:
            return (device,)
        remote = self._remote
        unavailable = "the client is offline" if self._offline else ""
        return (device, Place(REMOTE, remote.zone, remote.context_tokens, remote.capabilities, unavailable))


def estimated_tokens(request: ChatRequest) -> int:
    """A rough length of the prompt in tokens: four characters of ASCII, or one of anything else, for each."""
    count = 4 * len(request.messages) + sum(_tokens_in(message.text) for message in request.messages)
    if TOOLS in request.capabilities:
        count += sum(_tokens_in(text) for path, text in request.texts() if "tool" in path)
    return count


def _tokens_in(text: str) -> int:
    plain = len(text) if text.isascii() else len(text.encode("ascii", "ignore"))
    return plain // 4 + len(text) - plain


def _meets(deadline_s: float | None, expected_s: float | None) -> bool | None:
    return None if deadline_s is None or expected_s is None else expected_s <= deadline_s
