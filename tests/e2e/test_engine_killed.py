"""The model in the box, and its process killed and stopped in the middle of its answers: nobody sees more than a pause."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local_runtime.client import LocalEngine, Supervision
from local_runtime.events import Event, Failed, Finished, TextDelta
from local_runtime.options import GenerateRequest, LoadOptions, SamplingOptions
from tests.engine_cache import ENGINE_CACHE
from tests.lanes import some_every_day

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends SIGKILL and SIGSTOP")

SHEET = (Path(__file__).resolve().parents[2] / "examples" / "fact_sheets" / "museum.md").read_text(encoding="utf-8")
OPTIONS = LoadOptions(model="kiosk-assistant", cache_dir=str(ENGINE_CACHE))
ANSWER_TOKENS = 44


def request(question: str, *, sampling: SamplingOptions, answer_begun: str = "") -> GenerateRequest:
    messages = [{"role": "system", "content": SHEET}, {"role": "user", "content": question}]
    return GenerateRequest(
        messages=messages, max_tokens=ANSWER_TOKENS, sampling=sampling, answer_begun=answer_begun, ignore_eos=True
    )


GREEDY = SamplingOptions(temperature=0.0)
SEEDED = SamplingOptions(temperature=0.9, top_p=0.95, repetition_penalty=1.1, seed=7)
QUESTIONS = {
    "greedy": request("Wie heißt das Café? \U0001f3ab 你好", sampling=GREEDY),  # characters of several tokens
    "seeded": request("Tell me about lost property.", sampling=SEEDED),
    "begun elsewhere": request("When do you open on Sunday?", sampling=GREEDY, answer_begun="On Sund"),
}


class Answer:
    """One answer; calls ``disturb`` with the number of its tokens after each delta."""

    def __init__(
        self, engine: LocalEngine, asked: GenerateRequest, disturb: Callable[[int], None] | None = None
    ) -> None:
        self.events: list[Event] = []
        self.tokens = 0
        self._disturb = disturb
        self._last = threading.Event()
        engine.submit(asked, self)

    def __call__(self, event: Event) -> None:
        assert not self._last.is_set(), "an event after the last one"
        self.events.append(event)
        if isinstance(event, TextDelta):
            self.tokens += event.tokens
            if self._disturb is not None:
                self._disturb(self.tokens)
        else:
            self._last.set()

    def whole(self) -> tuple[str, list[int], Finished]:
        """Its text, its tokens and its end."""
        assert self._last.wait(240), "no last event"
        *deltas, end = self.events
        assert not isinstance(end, Failed), end.error
        assert isinstance(end, Finished)
        pieces = [event for event in deltas if isinstance(event, TextDelta)]
        return "".join(piece.text for piece in pieces), [token for piece in pieces for token in piece.ids], end


@pytest.fixture(scope="module")
def undisturbed() -> Iterator[dict[str, tuple[str, list[int], Finished]]]:
    """What each question is answered when nothing happens."""
    with LocalEngine(OPTIONS) as engine:
        yield {name: Answer(engine, asked).whole() for name, asked in QUESTIONS.items()}


@pytest.fixture
def engine() -> Iterator[LocalEngine]:
    with LocalEngine(OPTIONS, supervision=Supervision(ping_s=0.2, hang_s=2.0)) as started:
        started.start()
        yield started


def same(answer: Answer, expected: tuple[str, list[int], Finished]) -> None:
    text, ids, end = answer.whole()
    assert text == expected[0]
    assert ids == expected[1]
    before = expected[2].usage
    assert (end.reason, end.usage.prompt_tokens, end.usage.completion_tokens, end.usage.begun_tokens) == (
        expected[2].reason,
        before.prompt_tokens,
        before.completion_tokens,
        before.begun_tokens,
    )


def send(engine: LocalEngine, number: signal.Signals) -> None:
    pid = engine.worker_pid
    if pid is not None:
        os.kill(pid, number)


class At:
    """Sends a signal to the worker whenever so many tokens more have come."""

    def __init__(self, engine: LocalEngine, every: int, number: signal.Signals = signal.SIGKILL) -> None:
        self._engine, self._every, self._next, self._number = engine, every, every, number
        self.sent = 0

    def __call__(self, tokens: int) -> None:
        if tokens >= self._next:
            self._next = tokens + self._every
            self.sent += 1
            send(self._engine, self._number)


@pytest.mark.parametrize("name", some_every_day(QUESTIONS, lambda name: name == "greedy"))
def test_killed_at_every_tenth_token_an_answer_is_whole(
    engine: LocalEngine, undisturbed: dict[str, tuple[str, list[int], Finished]], name: str
) -> None:
    kill = At(engine, 14 if name == "begun elsewhere" else 10)
    answer = Answer(engine, QUESTIONS[name], kill)
    same(answer, undisturbed[name])
    assert engine.stats().restarts >= 2  # the last kill may come when the answer is on its way already


def test_stopped_in_mid_answer_it_goes_on(
    engine: LocalEngine, undisturbed: dict[str, tuple[str, list[int], Finished]]
) -> None:
    stop = At(engine, 30, signal.SIGSTOP)
    answer = Answer(engine, QUESTIONS["greedy"], stop)
    same(answer, undisturbed["greedy"])
    assert engine.stats().restarts == 1


def test_answers_at_the_same_time_survive_each_others_deaths(
    engine: LocalEngine, undisturbed: dict[str, tuple[str, list[int], Finished]]
) -> None:
    kill = At(engine, 20)
    answers = {name: Answer(engine, asked, kill if name == "greedy" else None) for name, asked in QUESTIONS.items()}
    for name, answer in answers.items():
        same(answer, undisturbed[name])
    assert engine.stats().restarts >= 1


def test_killed_while_loading_it_loads_again() -> None:
    killed: list[int] = []

    def kill(progress: object) -> None:
        if not killed:
            killed.append(engine.worker_pid or 0)
            send(engine, signal.SIGKILL)

    with LocalEngine(OPTIONS, on_progress=kill) as engine:
        assert engine.start(timeout_s=240).name == "kiosk-assistant"
        assert engine.stats().restarts == 1
        assert engine.worker_pid not in (None, killed[0])
