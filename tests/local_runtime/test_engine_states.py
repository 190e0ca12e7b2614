"""Any life of an engine whose requests share beginnings: nothing leaks, nobody starves, and the tokens are the same as without."""

from __future__ import annotations

import tempfile
from pathlib import Path
from unittest.mock import patch

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from local_runtime.engine import Engine
from local_runtime.errors import LocalRuntimeError, OutOfMemoryError
from local_runtime.events import Event, Failed, Finished, TextDelta
from local_runtime.options import GenerateRequest, SamplingOptions
from local_runtime.pace import Pace
from local_runtime.sliding import SlidingWindow
from tests.local_runtime.ledger_checks import check_books
from tests.local_runtime.scripted_runner import NAN, POISON, Script, ScriptedRunner, expected_tokens, make_model

CONTEXT_TOKENS = 72
OPEN_ENDED_TOKENS = 6
BEGINNINGS = [[(start * 37 + place * 11) % 256 for place in range(40)] for start in range(3)]
MOST_STEPS = 6000

_folder = tempfile.TemporaryDirectory()
_model = make_model(Script(), Path(_folder.name))


class SteadyPace(Pace):
    """Steps that take what they take, so that a life can be lived again."""

    def decoded(self, took_s: float) -> None:
        super().decoded(0.004)

    def prefilled(self, tokens: int, took_s: float) -> None:
        super().prefilled(tokens, 0.002 + 0.0004 * tokens)

    def rode(self, tokens: int, took_s: float) -> None:
        super().rode(tokens, 0.005 + 0.0004 * tokens)


class EngineStates(RuleBasedStateMachine):
    @initialize(
        total_pages=st.integers(5, 40),
        page_tokens=st.sampled_from([1, 4, 16]),
        chunk=st.integers(1, 24),
        max_sequences=st.integers(1, 5),
        prefix_cache=st.sampled_from([True, True, True, False]),
        window_tokens=st.sampled_from([None, 2, 7, 20]),
    )
    def load(
        self,
        total_pages: int,
        page_tokens: int,
        chunk: int,
        max_sequences: int,
        prefix_cache: bool,
        window_tokens: int | None,
    ) -> None:
        self.room = min(CONTEXT_TOKENS, total_pages * page_tokens)
        if window_tokens is not None:
            # As the real runner does: where a window and a step don't fit, or the whole context does, nothing slides.
            most_tokens = SlidingWindow(window_tokens, chunk, page_tokens).most_tokens
            window_tokens = window_tokens if most_tokens <= min(self.room, CONTEXT_TOKENS - 1) else None
        if window_tokens is not None:
            self.room = CONTEXT_TOKENS
        script = Script(
            context_tokens=CONTEXT_TOKENS,
            total_pages=total_pages,
            page_tokens=page_tokens,
            prefill_chunk_tokens=chunk,
            max_sequences=max_sequences,
            window_tokens=window_tokens,
        )
        self.memory_pages = total_pages
        self.runner = ScriptedRunner(script)
        self.runner.shortage = self._shortage  # type: ignore[method-assign]  # a runner that watches over memory
        model = type(_model)(self.runner, _model.tokenizer, _model.info)
        self.engine = Engine(model, prefix_cache=prefix_cache)
        self.engine._scheduler.pace = SteadyPace(chunk)
        self.asked: dict[int, tuple[list[int], int]] = {}
        self.events: dict[int, list[Event]] = {}
        self.cancelled: set[int] = set()
        self.lacked_memory = False
        self.patch = patch("local_runtime.scheduler.OPEN_ENDED_TOKENS", OPEN_ENDED_TOKENS)
        self.patch.start()

    def _shortage(self, pages: int) -> OutOfMemoryError | None:
        return OutOfMemoryError(f"{pages} pages") if pages > self.memory_pages else None

    def _submit(self, ids: list[int], max_tokens: int | None, conversation: str) -> None:
        if len(ids) >= self.room:
            ids = ids[: self.room - 1]
        request_id = len(self.asked)
        self.asked[request_id] = ids, min(max_tokens or self.room, self.room - len(ids))
        events = self.events[request_id] = []
        request = GenerateRequest(
            raw_token_ids=ids,
            max_tokens=max_tokens,
            sampling=SamplingOptions(temperature=0),
            conversation=conversation,
        )
        self.engine.submit(request_id, request, events.append)

    @rule(
        beginning=st.sampled_from(BEGINNINGS),
        length=st.integers(1, 40),
        tail=st.lists(st.integers(0, 255), max_size=6),
        max_tokens=st.none() | st.integers(1, 20),
        conversation=st.sampled_from(["", "a", "b"]),
        times=st.sampled_from([1, 1, 3]),
    )
    def ask(
        self, beginning: list[int], length: int, tail: list[int], max_tokens: int | None, conversation: str, times: int
    ) -> None:
        for _ in range(times):
            self._submit([*beginning[:length], *tail], max_tokens, conversation)

    @precondition(lambda self: any(isinstance(each[-1], Finished) for each in self.events.values() if each))
    @rule(data=st.data(), tail=st.lists(st.integers(0, 255), min_size=1, max_size=8), max_tokens=st.integers(1, 12))
    def ask_on(self, data: st.DataObject, tail: list[int], max_tokens: int) -> None:
        ended = [request_id for request_id, each in self.events.items() if each and isinstance(each[-1], Finished)]
        request_id = data.draw(st.sampled_from(ended))
        self._submit([*self.asked[request_id][0], *self._said(request_id), *tail], max_tokens, "")

    @rule(
        beginning=st.sampled_from(BEGINNINGS),
        length=st.integers(1, 30),
        poison=st.sampled_from([POISON, NAN]),
        more=st.integers(0, 8),
    )
    def ask_for_trouble(self, beginning: list[int], length: int, poison: int, more: int) -> None:
        self._submit([*beginning[:length], poison, *beginning[:more]], 8, "")

    @rule(steps=st.integers(1, 30))
    def step(self, steps: int) -> None:
        for _ in range(steps):
            if not self.engine.has_work:
                break
            self.engine.step()
            check_books(self.engine, self.runner)

    @precondition(lambda self: bool(self.asked))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.asked)))
        if self.engine.cancel(request_id):
            self.cancelled.add(request_id)

    @rule(fails=st.booleans())
    def forks_fail(self, fails: bool) -> None:
        self.runner.fork_error = fails

    @rule(pages=st.integers(0, 40))
    def memory_changes(self, pages: int) -> None:
        self.lacked_memory = self.lacked_memory or pages < self.runner.total_pages
        self.memory_pages = pages

    @invariant()
    def the_books_are_right(self) -> None:
        if hasattr(self, "engine"):
            check_books(self.engine, self.runner)

    def _said(self, request_id: int) -> list[int]:
        return [token for event in self.events[request_id] if isinstance(event, TextDelta) for token in event.ids]

    def teardown(self) -> None:
        if not hasattr(self, "engine"):
            return
        try:
            for _ in range(MOST_STEPS):
                if not self.engine.has_work:
                    break
                self.engine.step()
            assert not self.engine.has_work, "somebody starves"
            check_books(self.engine, self.runner)
            assert self.engine._scheduler.pages.held == self.engine._scheduler.pages.promised == 0
            for request_id, (ids, max_tokens) in self.asked.items():
                self._check_answer(request_id, ids, max_tokens)
            prefixes = self.engine._scheduler.prefixes
            if prefixes is not None:
                prefixes.clear()
            assert self.runner.sequences == {}
            assert self.runner.available_pages() == self.engine._scheduler.pages.free == self.runner.total_pages
        finally:
            self.patch.stop()

    def _check_answer(self, request_id: int, ids: list[int], max_tokens: int) -> None:
        *before, last = self.events[request_id]
        assert all(isinstance(event, TextDelta) for event in before)
        said, wanted = self._said(request_id), expected_tokens(ids, max_tokens)
        if isinstance(last, Failed):
            assert isinstance(last.error, LocalRuntimeError)
            troubled = POISON in ids or NAN in ids
            assert troubled or (self.lacked_memory and isinstance(last.error, OutOfMemoryError))
            assert said == wanted[: len(said)]
        elif isinstance(last, Finished) and last.reason == "cancelled":
            assert request_id in self.cancelled
            assert said == wanted[: len(said)]
        else:
            assert isinstance(last, Finished)
            assert said == wanted
            assert 0 <= last.usage.cached_tokens < last.usage.prompt_tokens == len(ids)


EngineStates.TestCase.settings = settings(
    max_examples=80, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestEngineStates = EngineStates.TestCase
