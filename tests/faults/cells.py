"""One row of the matrix: a fault, with a device that answers and with one that fails, with both faces, streaming and not.

The cells of a row are played at the same time, each in a thread that is waited for only so long: a hang is a failure and not the
end of the run. What must hold in each of them is in ``Cell.judge``.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

from hybridllm import AsyncHybridClient, HybridClient, Remote, load_policy
from hybridllm.errors import CannotServe, EngineError, HybridLLMError, StreamInterrupted
from hybridllm.testing import ScriptedBackend
from hybridllm.types import Attempt
from policies import Retries
from tests.faults.servers import Certificates, Site
from tests.faults.table import RETRIES, WHOLE, WORDS, Fault
from tests.hybridllm.leaks import MARK, content

Face = Literal["blocking", "awaited"]
Device = Literal["answers", "fails", "failed before"]
"""``answers``: the remote is asked first, and the device knows the answer; ``fails``: it is asked after the remote, and fails;
``failed before``: it is asked first, and has failed when the remote is asked, so that nobody else is left."""

FACES: tuple[Face, ...] = ("blocking", "awaited")
DEVICES: tuple[Device, ...] = ("answers", "fails", "failed before")

MARGIN_S = 6.0
"""What a busy machine may add to the time that the policy allows, the pauses between tries included."""
DEADLINE_S = 30.0
QUESTION = [{"role": "user", "content": "When does the café open?"}]
PRIVATE = [{"role": "user", "content": content("private question")}]
NO_ENGINE = "The engine has no model."


@dataclass
class Outcome:
    """What became of a question."""

    pieces: list[str] = field(default_factory=list)
    """Text that was given out, piece by piece."""

    refusal: str = ""
    """Text of a refusal."""

    handed_over_at: int | None = None
    """Pieces that had been given out when another place went on; None where none did."""

    finish_reason: str | None = None
    """How the answer ended; None where it did not become whole."""

    error: BaseException | None = None
    """What was raised."""

    attempts: list[Attempt] = field(default_factory=list)
    """Who was asked."""

    served_by: str = ""
    """Who answered."""

    took_s: float = 0.0
    """How long it took."""

    @property
    def text(self) -> str:
        """All that was given out."""
        return "".join(self.pieces)

    def take(self, chunk: Any) -> None:
        """Read one chunk of a stream."""
        if chunk.handover is not None:
            self.handed_over_at = len(self.pieces)
        for choice in chunk.choices:
            if choice.delta.content:
                self.pieces.append(choice.delta.content)
            self.refusal += choice.delta.refusal or ""
            self.finish_reason = choice.finish_reason or self.finish_reason

    def take_whole(self, reply: Any) -> None:
        """Read a whole answer."""
        self.pieces = [reply.choices[0].message.content or ""]
        self.refusal = reply.choices[0].message.refusal or ""
        self.finish_reason = reply.choices[0].finish_reason
        self.take_route(reply.route)

    def take_route(self, route: Any) -> None:
        """Read which way it went."""
        self.attempts, self.served_by = route.attempts, route.served_by


def failing_device() -> ScriptedBackend:
    """A device that cannot answer."""
    return ScriptedBackend(lambda _: EngineError(NO_ENGINE, "Give it one."), continues=True)


@dataclass(frozen=True)
class Row:
    """One row of the matrix."""

    fault: Fault
    deadline_s: float = DEADLINE_S
    devices: tuple[Device, ...] = DEVICES

    def played(self, certificates: Certificates) -> list[tuple[Cell, Site, Outcome]]:
        """Play all its cells.

        Raises:
            AssertionError: One of them hangs.
        """
        cells = [
            Cell(self.fault, device, face, streaming, self.deadline_s)
            for device in self.devices
            for face in FACES
            for streaming in (True, False)
        ]
        with contextlib.ExitStack() as sites:
            at = [sites.enter_context(self.fault.site(certificates)) for _ in cells]
            waiting = [Waiting(partial(cell.ask, site)) for cell, site in zip(cells, at, strict=True)]
            end_s = time.monotonic() + self.fault.longest_s + 3 * MARGIN_S
            outcomes = [one.result(end_s) for one in waiting]
            for site in at:
                site.stop()  # all of them first: each takes a moment to notice
        return list(zip(cells, at, outcomes, strict=True))

    def check(self, certificates: Certificates) -> None:
        """Play all its cells, and judge them.

        Raises:
            AssertionError: One of them went wrong; a note says which.
        """
        for cell, site, outcome in self.played(certificates):
            try:
                cell.judge(outcome, site)
            except AssertionError as error:
                error.add_note(f"{cell}: {outcome}")
                raise


@dataclass(frozen=True)
class Cell:
    """One cell of the matrix."""

    fault: Fault
    device: Device
    face: Face
    streaming: bool
    deadline_s: float

    def __str__(self) -> str:
        return f"device {self.device}, {self.face}, {'streaming' if self.streaming else 'whole'}"

    def judge(self, outcome: Outcome, site: Site) -> None:
        """What must hold whatever happens."""
        assert outcome.took_s < self.fault.longest_s + MARGIN_S
        assert MARK.encode() not in site.received
        assert all(not attempt.error or "said by the server" not in attempt.error for attempt in outcome.attempts)
        self._judge_answer(outcome)
        self._judge_causes(outcome)
        expected = self.fault.requests
        if self.device == "failed before" and self.fault.requests_alone is not None:
            expected = self.fault.requests_alone
        assert site.requests == expected

    def _judge_answer(self, outcome: Outcome) -> None:
        """A whole answer, or an error of ours and nothing that looks whole."""
        fault = self.fault
        given = fault.given if self.streaming else 0
        if outcome.error is None:
            assert not fault.final
            assert outcome.finish_reason == ("content_filter" if fault.refusal else "stop")
            assert (outcome.text, outcome.refusal) == (("", fault.refusal) if fault.refusal else (WHOLE, ""))
            assert fault.answered or self.device == "answers"
            assert outcome.served_by == ("remote" if fault.answered else "local")
            assert fault.given_at_most or outcome.handed_over_at == (given if given and not fault.answered else None)
            return
        assert fault.final or (not fault.answered and self.device != "answers")
        assert isinstance(outcome.error, HybridLLMError)
        assert outcome.finish_reason is None
        assert outcome.pieces == list(WORDS[: len(outcome.pieces)])
        assert len(outcome.pieces) == given or (fault.given_at_most and len(outcome.pieces) < given)
        if fault.final:
            assert type(outcome.error).__name__ == fault.final
        else:
            assert isinstance(outcome.error, StreamInterrupted if outcome.pieces else CannotServe)
            assert outcome.error.mend

    def _judge_causes(self, outcome: Outcome) -> None:
        """Who failed is written down, and why; the error says both."""
        fault = self.fault
        if fault.final:
            return
        by_place = {attempt.place: attempt for attempt in outcome.attempts}
        order = [attempt.place for attempt in outcome.attempts]
        if self.device == "failed before":
            assert order == ["local", "remote"]
        else:
            assert order == (["remote"] if fault.answered else ["remote", "local"])
        remote = by_place["remote"]
        if fault.answered:
            assert (remote.outcome, remote.error) == ("served", None)
        else:
            assert remote.outcome == "failed"
            assert re.search(fault.cause, str(remote.error)), remote.error
        if "local" in by_place and self.device != "answers":
            assert by_place["local"].error == f"EngineError: {NO_ENGINE}"
        if outcome.error is not None and not outcome.pieces:
            assert NO_ENGINE.rstrip(".") in str(outcome.error)
            assert re.search(fault.cause, str(outcome.error))

    def ask(self, site: Site) -> Outcome:
        """Ask the question while the fault is there, and a private one before and after it."""
        fault = self.fault
        preset = "offline-first" if self.device == "failed before" else "cloud-assist"
        policy = replace(  # without rules, so that nothing that is known already keeps the remote from being asked
            load_policy(preset), rules=(), hedge=None, limits=fault.limits, retries=Retries(most=RETRIES, budget=1.0)
        )
        remote = Remote(
            base_url=site.base_url,
            ca_file=site.ca_file,
            model="cloud-model",
            api_key="sk-canary-key",
            max_response_mib=fault.max_response_mib,
        )
        local = ScriptedBackend(lambda _: WHOLE, continues=True) if self.device == "answers" else failing_device()
        arguments: dict[str, Any] = {"remote": remote, "policy": policy, "local": local}
        if self.face == "blocking":
            with HybridClient(**arguments) as client:
                return self._asked_blocking(client)
        return asyncio.run(self._asked_awaited(AsyncHybridClient(**arguments)))

    def _asked_blocking(self, client: HybridClient) -> Outcome:
        ask_blocking(client, streaming=False, messages=PRIVATE)
        outcome = ask_blocking(
            client, streaming=self.streaming, messages=QUESTION, privacy="public", deadline_s=self.deadline_s
        )
        ask_blocking(client, streaming=False, messages=PRIVATE)
        return outcome

    async def _asked_awaited(self, made: AsyncHybridClient) -> Outcome:
        async with made as client:
            await ask_awaited(client, streaming=False, messages=PRIVATE)
            outcome = await ask_awaited(
                client, streaming=self.streaming, messages=QUESTION, privacy="public", deadline_s=self.deadline_s
            )
            await ask_awaited(client, streaming=False, messages=PRIVATE)
        return outcome


def ask_blocking(client: HybridClient, *, streaming: bool, **request: Any) -> Outcome:
    """Ask, whatever becomes of it."""
    outcome, began_s = Outcome(), time.monotonic()
    try:
        if streaming:
            with client.chat.completions.create(stream=True, **request) as stream:
                try:
                    for chunk in stream:
                        outcome.take(chunk)
                finally:
                    outcome.take_route(stream.route)
        else:
            outcome.take_whole(client.chat.completions.create(**request))
    except HybridLLMError as error:
        outcome.error = error
        outcome.attempts = list(getattr(error, "attempts", ())) or outcome.attempts
    outcome.took_s = time.monotonic() - began_s
    return outcome


async def ask_awaited(client: AsyncHybridClient, *, streaming: bool, **request: Any) -> Outcome:
    """The same with the other face."""
    outcome, began_s = Outcome(), time.monotonic()
    try:
        if streaming:
            async with await client.chat.completions.create(stream=True, **request) as stream:
                try:
                    async for chunk in stream:
                        outcome.take(chunk)
                finally:
                    outcome.take_route(stream.route)
        else:
            outcome.take_whole(await client.chat.completions.create(**request))
    except HybridLLMError as error:
        outcome.error = error
        outcome.attempts = list(getattr(error, "attempts", ())) or outcome.attempts
    outcome.took_s = time.monotonic() - began_s
    return outcome


class Waiting:
    """Something that is done in a thread of its own.

    Args:
        work: What.
    """

    def __init__(self, work: Callable[[], Outcome]) -> None:
        self._work = work
        self._found: list[Outcome] = []
        self._raised: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def result(self, until_s: float) -> Outcome:
        """What came of it, at the latest at a moment on the clock of ``time.monotonic``.

        Raises:
            AssertionError: It hangs.
            BaseException: What it raised.
        """
        self._thread.join(max(0.0, until_s - time.monotonic()))
        assert not self._thread.is_alive(), "it hangs"
        if self._raised:
            raise self._raised[0]
        return self._found[0]

    def _run(self) -> None:
        try:
            self._found.append(self._work())
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            self._raised.append(error)
