"""Who asks: tasks with the awaited face, threads with the blocking one, all at once, until they are told to pause or stop."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Mapping

from hybridllm import AsyncHybridClient, HybridClient
from tests.faults.cells import Outcome
from tests.soak.judging import Asked, Tally
from tests.soak.questions import QUESTIONS

__all__ = ["Gate", "ask_in_thread", "ask_in_turn"]

_PAUSE_S = 0.2


class Gate:
    """Lets askers through, or not; knows how many are on their way. For tasks and threads alike."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._lock = threading.Lock()
        self.under_way = 0
        self.over = False

    def open(self) -> None:
        """Let them through."""
        self._open.set()

    def close(self) -> None:
        """Let nobody through any more; who is on the way goes on."""
        self._open.clear()

    def enter(self) -> bool:
        """Whether this one may go; say ``leave`` afterwards."""
        with self._lock:
            if not self._open.is_set() or self.over:
                return False
            self.under_way += 1
            return True

    def leave(self) -> None:
        """This one has come back."""
        with self._lock:
            self.under_way -= 1


def drawn(chance: random.Random) -> tuple[Asked, bool]:
    """A question, how to ask it, and whether to stream."""
    question = chance.choice(QUESTIONS)
    streaming = chance.random() < 0.6
    deadline_s = chance.choice((None, None, None, None, 0.05, 0.5, 3.0, 10.0))
    stop_after = chance.randrange(1, 12) if streaming and chance.random() < 0.2 else None
    return Asked(question, deadline_s, stop_after), streaming


async def ask_in_turn(
    client: AsyncHybridClient, gate: Gate, tally: Tally, right: Mapping[int, str], chance: random.Random
) -> None:
    """Ask one question after the other."""
    while not gate.over:
        if not gate.enter():
            await asyncio.sleep(0.05)
            continue
        try:
            asked, streaming = drawn(chance)
            tally.note(asked, await _awaited(client, asked, streaming), right[asked.question.number])
        finally:
            gate.leave()
        await asyncio.sleep(chance.random() * _PAUSE_S)


def ask_in_thread(
    client: HybridClient, gate: Gate, tally: Tally, right: Mapping[int, str], chance: random.Random
) -> None:
    """The same in a thread, with the blocking face."""
    while not gate.over:
        if not gate.enter():
            time.sleep(0.05)
            continue
        try:
            asked, streaming = drawn(chance)
            tally.note(asked, _blocking(client, asked, streaming), right[asked.question.number])
        finally:
            gate.leave()
        time.sleep(chance.random() * _PAUSE_S)


async def _awaited(client: AsyncHybridClient, asked: Asked, streaming: bool) -> Outcome:
    outcome, began_s = Outcome(), time.monotonic()
    request = {**asked.question.request, "deadline_s": asked.deadline_s}
    try:
        if streaming:
            async with await client.chat.completions.create(stream=True, **request) as stream:
                try:
                    async for chunk in stream:
                        outcome.take(chunk)
                        if asked.stop_after is not None and len(outcome.pieces) >= asked.stop_after:
                            break
                finally:
                    outcome.take_route(stream.route)
        else:
            outcome.take_whole(await client.chat.completions.create(**request))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is judged
        outcome.error = error
        outcome.attempts = list(getattr(error, "attempts", ())) or outcome.attempts
    outcome.took_s = time.monotonic() - began_s
    return outcome


def _blocking(client: HybridClient, asked: Asked, streaming: bool) -> Outcome:
    outcome, began_s = Outcome(), time.monotonic()
    request = {**asked.question.request, "deadline_s": asked.deadline_s}
    try:
        if streaming:
            with client.chat.completions.create(stream=True, **request) as stream:
                try:
                    for chunk in stream:
                        outcome.take(chunk)
                        if asked.stop_after is not None and len(outcome.pieces) >= asked.stop_after:
                            break
                finally:
                    outcome.take_route(stream.route)
        else:
            outcome.take_whole(client.chat.completions.create(**request))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is judged
        outcome.error = error
        outcome.attempts = list(getattr(error, "attempts", ())) or outcome.attempts
    outcome.took_s = time.monotonic() - began_s
    return outcome
