from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local_runtime.engine import Engine
from local_runtime.errors import (
    ContextLengthExceededError,
    EngineInternalError,
    InvalidRequestError,
    LocalRuntimeError,
    OutOfMemoryError,
    OverloadedError,
)
from local_runtime.events import Event, Failed, Finished, TextDelta
from local_runtime.options import GenerateRequest, SamplingOptions
from local_runtime.scheduler import Scheduler
from local_runtime.sequence import Sequence
from tests.local_runtime.scripted_runner import (
    END,
    NAN,
    POISON,
    VOCAB_SIZE,
    Script,
    ScriptedModel,
    ScriptedRunner,
    expected_tokens,
    make_model,
    next_token,
)

if TYPE_CHECKING:
    from pathlib import Path

    from local_runtime.tokenizer import ChatTokenizer

GREEDY = SamplingOptions(temperature=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scripted")


@pytest.fixture
def build(folder: Path) -> Callable[..., Harness]:
    return lambda **fields: Harness(make_model(Script(**fields), folder))


class Harness:
    """An engine with a scripted model, and every event of every request in the order in which it came."""

    def __init__(self, model: ScriptedModel) -> None:
        self.engine = Engine(model)
        self.runner: ScriptedRunner = model.runner
        self.tokenizer: ChatTokenizer = model.tokenizer
        self.events: dict[int, list[Event]] = {}
        self._ids = iter(range(1, 10_000))

    def submit(self, request: GenerateRequest) -> int:
        request_id = next(self._ids)
        self.events[request_id] = []
        self.engine.submit(request_id, request, self.events[request_id].append)
        return request_id

    def submit_ids(self, ids: list[int], max_tokens: int | None = None, **fields: Any) -> int:
        return self.submit(GenerateRequest(raw_token_ids=ids, max_tokens=max_tokens, sampling=GREEDY, **fields))

    def run(self, limit: int = 20_000) -> None:
        while self.engine.has_work:
            self.engine.step()
            limit -= 1
            assert limit, "the engine does not come to an end"

    def text(self, request_id: int) -> str:
        return "".join(event.text for event in self.events[request_id] if isinstance(event, TextDelta))

    def end(self, request_id: int) -> Finished:
        *before, last = self.events[request_id]
        assert all(isinstance(event, TextDelta) for event in before)
        assert isinstance(last, Finished), last
        return last

    def error(self, request_id: int) -> LocalRuntimeError:
        *before, last = self.events[request_id]
        assert all(isinstance(event, TextDelta) for event in before)
        assert isinstance(last, Failed), last
        return last.error

    def full_text(self, ids: list[int], max_tokens: int) -> str:
        tokens = expected_tokens(ids, max_tokens)
        ended = tokens[-1] == END
        # The token of a byte is the byte; a character that max_tokens cuts in two is no part of the text.
        return codecs.getincrementaldecoder("utf-8")("replace").decode(bytes(tokens[: -1 if ended else None]), ended)

    @property
    def active(self) -> set[int]:
        """Sequences of the runner that belong to requests."""
        prefixes = self.engine._scheduler.prefixes
        return set(self.runner.sequences) - set(() if prefixes is None else prefixes.idle)

    def assert_empty(self) -> None:
        """Nobody holds a page but the prefix cache, and the ledger says what the runner says."""
        scheduler = self.engine._scheduler
        assert scheduler.prefixes is not None
        assert self.active == set()
        assert set(scheduler.prefixes.idle) <= set(self.runner.sequences)
        assert scheduler.pages.free == self.runner.available_pages()
        assert self.engine.stats().pages_free == self.runner.total_pages
        assert (self.engine.stats().running, self.engine.stats().waiting) == (0, 0)


Build = Callable[..., Harness]


def prompts(count: int, length: int = 6) -> Iterator[list[int]]:
    for number in range(count):
        yield [(number * 37 + place * 11) % 256 for place in range(length)]


def test_an_answer_is_what_the_model_says_and_no_character_is_split(build: Build) -> None:
    harness = build()
    for ids in prompts(8):
        request_id = harness.submit_ids(ids, 90)
        harness.run()
        expected = expected_tokens(ids, 90)
        assert harness.text(request_id) == harness.full_text(ids, 90)
        end = harness.end(request_id)
        assert end.reason == ("stop" if expected[-1] == END else "length")
        assert end.usage.prompt_tokens == len(ids)
        assert end.usage.completion_tokens == len(expected)
        deltas = [event for event in harness.events[request_id] if isinstance(event, TextDelta)]
        assert [token for delta in deltas for token in delta.ids] == expected
        assert all(delta.tokens == len(delta.ids) == 1 for delta in deltas)
    harness.assert_empty()


def test_many_answers_at_once_are_the_same_as_one_by_one(build: Build) -> None:
    harness = build(max_sequences=3, total_pages=80)
    wanted = {
        harness.submit_ids(ids, 5 + number * 3): (ids, 5 + number * 3) for number, ids in enumerate(prompts(12, 21))
    }
    harness.run()
    for request_id, (ids, max_tokens) in wanted.items():
        assert harness.text(request_id) == harness.full_text(ids, max_tokens)
    assert max(len(sequences) for kind, sequences in harness.runner.calls if kind == "decode") == 3
    harness.assert_empty()


def test_messages_go_through_the_chat_template(build: Build) -> None:
    harness = build()
    messages = [{"role": "user", "content": "Grüß dich <|end|>"}]
    ids = harness.tokenizer.encode_chat(messages)
    assert harness.engine.count_prompt_tokens(messages, {}) == len(ids)
    request_id = harness.submit(GenerateRequest(messages=messages, max_tokens=12, sampling=GREEDY))
    harness.run()
    assert harness.text(request_id) == harness.full_text(ids, 12)
    assert harness.end(request_id).usage.prompt_tokens == len(ids)


def test_without_max_tokens_the_answer_goes_on_to_the_end_of_the_context(build: Build) -> None:
    harness = build(context_tokens=64)
    request_id = harness.submit_ids([7] * 40, ignore_eos=True)
    harness.run()
    assert harness.end(request_id).reason == "length"
    assert harness.end(request_id).usage.completion_tokens == 24
    request_id = harness.submit_ids([7] * 40, max_tokens=1000, ignore_eos=True)
    harness.run()
    assert harness.end(request_id).usage.completion_tokens == 24
    harness.assert_empty()


def test_a_prompt_that_fills_the_context_is_refused_with_numbers(build: Build) -> None:
    harness = build(context_tokens=64)
    for length in (64, 65, 200):
        error = harness.error(harness.submit_ids([1] * length))
        assert isinstance(error, ContextLengthExceededError)
        assert str(length) in error.message
        assert "64" in error.message
        assert str(length - 63) in error.mend
    request_id = harness.submit_ids([1] * 63)
    harness.run()
    assert harness.end(request_id).usage.completion_tokens == 1


def test_a_prompt_that_never_fits_into_the_cache_is_refused(build: Build) -> None:
    harness = build(context_tokens=64, page_tokens=4, total_pages=8)
    assert isinstance(harness.error(harness.submit_ids([1] * 40)), OutOfMemoryError)
    request_id = harness.submit_ids([1] * 20, ignore_eos=True)
    harness.run()
    assert harness.end(request_id).usage.completion_tokens == 12
    harness.assert_empty()


def test_an_end_token_stops_unless_it_is_to_be_ignored(build: Build) -> None:
    harness = build()
    ids = next(
        ids for ids in prompts(200) if END in expected_tokens(ids, 40)[:-1] or expected_tokens(ids, 40)[-1] == END
    )
    stopped = harness.submit_ids(ids, 60)
    ignored = harness.submit_ids(ids, 60, ignore_eos=True)
    harness.run()
    assert harness.end(stopped).reason == "stop"
    assert harness.end(stopped).usage.completion_tokens == len(expected_tokens(ids, 60))
    assert harness.end(ignored).reason == "length"
    assert harness.end(ignored).usage.completion_tokens == 60
    assert harness.text(ignored).startswith(harness.text(stopped))


def test_a_stop_string_over_many_tokens_ends_the_answer_before_it(build: Build) -> None:
    harness = build()
    ids = next(ids for ids in prompts(200) if "façade; 你好" in harness.full_text(ids, 90))
    whole = harness.full_text(ids, 90)
    request_id = harness.submit_ids(ids, 90, stop=("never said", "ade; 你"))
    harness.run()
    assert harness.text(request_id) == whole[: whole.index("ade; 你")]
    assert harness.end(request_id).reason == "stop"
    harness.assert_empty()


def test_a_character_that_max_tokens_cuts_is_left_out(build: Build) -> None:
    harness = build()
    said = ((ids, bytes(token for token in expected_tokens(ids, 90) if token != END)) for ids in prompts(8))
    ids, whole, cut = next(
        (ids, whole, place + 1) for ids, whole in said for place in range(len(whole) - 1) if whole[place] >= 0xC0
    )
    for stop in ((), ("never said",)):
        request_id = harness.submit_ids(ids, cut, stop=stop)
        harness.run()
        assert harness.end(request_id).reason == "length"
        assert harness.end(request_id).usage.completion_tokens == cut
        assert harness.text(request_id) == whole[: cut - 1].decode("utf-8", "replace")


def test_half_a_character_before_the_models_own_end_is_its_text(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    said = iter([ord("a"), 0xE2, 0x82, END])
    monkeypatch.setattr("tests.local_runtime.scripted_runner.next_token", lambda _: next(said))
    harness = build()
    request_id = harness.submit_ids([1, 2, 3], 50)
    harness.run()
    assert (harness.end(request_id).reason, harness.text(request_id)) == ("stop", "a\ufffd")


def test_what_was_held_back_for_a_stop_string_is_given_out_in_the_end(build: Build) -> None:
    harness = build()
    for ids in prompts(20):
        whole = harness.full_text(ids, 40)
        request_id = harness.submit_ids(ids, 40, stop=(whole[-4:] + "!never",))
        harness.run()
        assert harness.text(request_id) == whole


def test_cancel_frees_the_pages_at_once_in_every_state(build: Build) -> None:
    harness = build(max_sequences=2, total_pages=60)
    running = harness.submit_ids([1] * 10, 50)
    prefilling = harness.submit_ids([2] * 60, 50)
    waiting = harness.submit_ids([3] * 10, 50)
    for _ in range(3):
        harness.engine.step()
    assert len(harness.active) == 2
    for request_id, left in ((prefilling, 1), (waiting, 1), (running, 0)):
        assert harness.engine.cancel(request_id)
        assert len(harness.active) == left
        assert harness.end(request_id).reason == "cancelled"
        assert not harness.engine.cancel(request_id)
    harness.assert_empty()
    assert not harness.engine.has_work


def test_a_request_can_be_cancelled_from_its_own_events(build: Build) -> None:
    harness = build()
    others = [harness.submit_ids(ids, 60, ignore_eos=True) for ids in prompts(2)]
    seen: list[Event] = []

    def cancel_at_first(event: Event) -> None:
        seen.append(event)
        if isinstance(event, TextDelta):
            harness.engine.cancel(99_999)
            harness.engine.cancel(others[1])

    harness.engine.submit(99_999, GenerateRequest(raw_token_ids=[5, 6], sampling=GREEDY), cancel_at_first)
    harness.run()
    assert [type(event) for event in seen] == [TextDelta, Finished]
    assert harness.end(others[1]).reason == "cancelled"
    assert harness.end(others[0]).reason == "length"
    harness.assert_empty()


def test_one_poisoned_request_does_not_touch_the_others(build: Build) -> None:
    harness = build(max_sequences=4, total_pages=200)
    healthy = {harness.submit_ids(ids, 40): ids for ids in prompts(3)}
    for request_id in healthy:
        assert harness.events[request_id] == []
    for _ in range(8):
        harness.engine.step()
    poisoned = harness.submit_ids([9, POISON, 9], 40)
    harness.run()
    error = harness.error(poisoned)
    assert isinstance(error, EngineInternalError)
    assert "RuntimeError at scripted_runner.py:" in error.message
    for request_id, ids in healthy.items():
        assert harness.text(request_id) == harness.full_text(ids, 40)
        assert harness.end(request_id).usage.completion_tokens == len(expected_tokens(ids, 40))
        assert harness.end(request_id).usage.prompt_tokens == len(ids)
    harness.assert_empty()
    after = harness.submit_ids([1, 2, 3], 10)
    harness.run()
    assert harness.text(after) == harness.full_text([1, 2, 3], 10)


def test_logits_that_are_no_numbers_end_only_their_request(build: Build) -> None:
    harness = build()
    healthy = harness.submit_ids([1, 2, 3], 20)
    broken = harness.submit_ids([1, NAN, 3], 20)
    harness.run()
    assert isinstance(harness.error(broken), LocalRuntimeError)
    assert harness.text(healthy) == harness.full_text([1, 2, 3], 20)
    harness.assert_empty()


def test_a_failure_of_the_tokenizer_or_template_is_the_requests_own(build: Build) -> None:
    harness = build()
    healthy = harness.submit_ids([1, 2, 3], 20)
    failed = harness.submit(GenerateRequest(messages=[{"role": "user", "content": "half a pair: \ud83d"}]))
    foreign = harness.submit_ids([VOCAB_SIZE])
    harness.run()
    assert harness.error(failed).message
    assert isinstance(harness.error(foreign), InvalidRequestError)
    assert str(VOCAB_SIZE) in harness.error(foreign).message
    assert harness.text(healthy) == harness.full_text([1, 2, 3], 20)


def test_an_unexpected_errors_text_stays_out_of_what_travels(
    build: Build, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    harness = build()

    def refuse(messages: list[dict[str, Any]], **_: Any) -> list[int]:
        raise KeyError(messages[0]["content"])

    monkeypatch.setattr(harness.tokenizer, "encode_chat", refuse)
    failed = harness.submit(GenerateRequest(messages=[{"role": "user", "content": "my secret"}]))
    error = harness.error(failed)
    assert isinstance(error, EngineInternalError)
    assert "KeyError" in error.message
    assert "secret" not in str(error)
    written = capfd.readouterr().err
    assert "in refuse" in written
    assert "secret" not in written


def test_a_request_id_in_use_is_a_mistake_of_the_caller(build: Build) -> None:
    harness = build()
    harness.engine.submit(1, GenerateRequest(raw_token_ids=[1]), lambda event: None)
    with pytest.raises(ValueError, match="already"):
        harness.engine.submit(1, GenerateRequest(raw_token_ids=[1]), lambda event: None)
    harness.engine.close()
    assert harness.runner.closed


def test_timings_add_up(build: Build) -> None:
    harness = build(step_s=0.01, prefill_chunk_tokens=8, max_sequences=1)
    first = harness.submit_ids([1] * 16, 5, ignore_eos=True)
    second = harness.submit_ids([2] * 16, 5, ignore_eos=True)
    harness.run()
    one, two = harness.end(first).timings, harness.end(second).timings
    assert one.queue_s < 0.01
    assert 0.02 <= one.prefill_s < one.prefill_s + one.queue_s == pytest.approx(one.ttft_s)
    assert one.decode_s >= 0.04
    assert two.queue_s >= 0.06
    assert two.ttft_s == pytest.approx(two.queue_s + two.prefill_s)
    stats = harness.engine.stats()
    assert (stats.requests_total, stats.prompt_tokens_total, stats.completion_tokens_total) == (2, 32, 10)
    assert stats.peak_rss_mib >= stats.rss_mib * 0.9 > 1


def test_seeded_sampling_is_reproducible_alone_and_in_company(build: Build) -> None:
    def run(seeds: list[int]) -> list[str]:
        harness = build(max_sequences=4)
        sampling = SamplingOptions(temperature=30.0)
        ids = [
            harness.submit(
                GenerateRequest(
                    raw_token_ids=[1, 2, 3], max_tokens=20, sampling=replace(sampling, seed=seed), ignore_eos=True
                )
            )
            for seed in seeds
        ]
        harness.run()
        return [harness.text(request_id) for request_id in ids]

    together = run([11, 12, 13])
    assert together == [run([seed])[0] for seed in (11, 12, 13)]
    assert len(set(together)) == 3


def test_the_scheduler_hears_whose_request_it_is_and_may_refuse_it(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = build()
    heard: list[str] = []

    def refuse(_: Scheduler, sequence: Sequence) -> None:
        heard.append(sequence.conversation)
        raise OverloadedError("Too many requests wait.", "Ask again later.")

    with monkeypatch.context() as patched:
        patched.setattr(Scheduler, "add", refuse)
        refused = harness.submit_ids([1, 2, 3], 5, conversation="desk 4")
    assert isinstance(harness.error(refused), OverloadedError)
    assert heard == ["desk 4"]
    taken = harness.submit_ids([1, 2, 3], 5)
    harness.run()
    assert harness.text(taken) == harness.full_text([1, 2, 3], 5)
    harness.assert_empty()


def test_open_ended_answers_that_have_to_make_room_lose_nothing(build: Build) -> None:
    harness = build(context_tokens=900, page_tokens=4, total_pages=230, prefill_chunk_tokens=64)
    asked = {harness.submit_ids(ids, None, ignore_eos=True): ids for ids in prompts(3, 9)}
    harness.run(limit=100_000)
    prefills = [sequence for kind, (sequence, *_) in harness.runner.calls if kind == "prefill"]
    assert len(prefills) > len(set(prefills))  # somebody had to start again
    for request_id, ids in asked.items():
        end = harness.end(request_id)
        assert (end.reason, end.usage.completion_tokens) == ("length", 891)
        tokens = list(ids)
        for event in harness.events[request_id]:
            if isinstance(event, TextDelta):
                assert event.ids == [next_token(tokens)]
                tokens += event.ids
    harness.assert_empty()


def test_who_has_no_memory_and_nobody_to_wait_for_is_told(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = OutOfMemoryError("There is no memory.", "Close other programs.")
    # A runner that watches over memory, as the real one does.
    monkeypatch.setattr(ScriptedRunner, "shortage", lambda _, pages: lacking if pages > 8 else None, raising=False)
    harness = build(page_tokens=4)
    small, large = harness.submit_ids([1] * 8, 8), harness.submit_ids([2] * 40, 8)
    harness.run()
    assert harness.text(small) == harness.full_text([1] * 8, 8)
    assert harness.error(large) is lacking
    harness.assert_empty()


def test_a_full_queue_refuses_with_a_word(folder: Path) -> None:
    model = make_model(Script(max_sequences=1), folder)
    harness = Harness(model)
    harness.engine = Engine(model, max_waiting=1)
    taken = [harness.submit_ids(ids, 8) for ids in prompts(3)]
    assert isinstance(harness.error(taken[2]), OverloadedError)
    harness.run()
    assert all(harness.end(request_id).reason for request_id in taken[:2])
    harness.assert_empty()


def test_every_step_and_every_command_is_a_beat(build: Build) -> None:
    harness = build()
    beats = [harness.engine.beat]

    def moved() -> bool:
        beats.append(harness.engine.beat)
        return beats[-1] > beats[-2]

    request_id = harness.submit_ids([1, 2, 3], 40, ignore_eos=True)
    assert moved()
    for _ in range(5):
        harness.engine.step()
        assert moved()
    assert harness.engine.stats().running == 1
    assert moved()
    assert harness.engine.count_prompt_tokens([{"role": "user", "content": "?"}], {})
    assert moved()
    assert harness.engine.cancel(request_id)
    assert moved()
    assert not moved()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_life_of_requests_leaks_a_page_or_speaks_after_its_end(build: Build, data: st.DataObject) -> None:
    harness = build(
        max_sequences=data.draw(st.integers(1, 4), "max_sequences"),
        total_pages=data.draw(st.integers(6, 40), "total_pages"),
        page_tokens=data.draw(st.sampled_from([1, 4, 16]), "page_tokens"),
        prefill_chunk_tokens=data.draw(st.integers(1, 20), "chunk"),
        context_tokens=48,
    )
    wanted: dict[int, tuple[list[int], int]] = {}
    cancelled: set[int] = set()
    actions = st.sampled_from(["submit", "submit", "poison", "step", "step", "step", "cancel"])
    for action in data.draw(st.lists(actions, max_size=40)):
        if action in ("submit", "poison"):
            ids = data.draw(st.lists(st.integers(0, 255), min_size=1, max_size=50))
            max_tokens = data.draw(st.integers(1, 30))
            if action == "poison":
                ids[-1] = POISON
            wanted[harness.submit_ids(ids, max_tokens)] = (ids, max_tokens)
        elif action == "step":
            harness.engine.step()
        elif wanted:
            request_id = data.draw(st.sampled_from(sorted(wanted)))
            if harness.engine.cancel(request_id):
                cancelled.add(request_id)
                assert isinstance(harness.events[request_id][-1], Finished)
        admitted = harness.engine.stats().running
        assert len(harness.active) <= admitted <= harness.runner.max_sequences
    harness.run()
    harness.assert_empty()
    for request_id, (ids, max_tokens) in wanted.items():
        ends = [event for event in harness.events[request_id] if not isinstance(event, TextDelta)]
        assert len(ends) == 1
        assert harness.events[request_id][-1] is ends[0]
        if isinstance(ends[0], Failed):
            too_long = isinstance(ends[0].error, ContextLengthExceededError | OutOfMemoryError)
            assert too_long or POISON in ids
            continue
        room = min(48, harness.runner.total_pages * harness.runner.page_tokens) - len(ids)
        whole = harness.full_text(ids, min(max_tokens, room))
        if request_id in cancelled:
            assert ends[0].reason == "cancelled"
            assert whole.startswith(harness.text(request_id))
        else:
            assert ends[0].reason != "cancelled"
            assert harness.text(request_id) == whole
