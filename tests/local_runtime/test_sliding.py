"""Answers and prompts longer than what a sequence holds where every layer sees only the last tokens: the engine's side of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from local_runtime.engine import Engine
from local_runtime.errors import EngineInternalError, LocalRuntimeError
from local_runtime.events import Event, StateKept, TextDelta
from local_runtime.memory_plan import CHUNK_TOKENS, SPARE_MIB, MemoryNeeds, predict_needs
from local_runtime.model_plan import Machine, plan_cases
from local_runtime.models.config import ModelConfig
from local_runtime.options import GenerateRequest, SamplingOptions
from local_runtime.page_ledger import PageLedger
from local_runtime.protocol import SaveState
from local_runtime.scheduler import Scheduler, SlideStep
from local_runtime.sequence import Sequence
from local_runtime.sliding import SlidingWindow
from tests.local_runtime.checkpoints import mistral_config, qwen2_config, write_checkpoint
from tests.local_runtime.ledger_checks import check_books
from tests.local_runtime.scripted_runner import Script, make_model, next_token
from tests.local_runtime.test_engine import Harness

Build = Callable[..., Harness]

WINDOW = SlidingWindow(10, 8, 4)
SPAN_PAGES = WINDOW.most_tokens // WINDOW.page_tokens
LONG = [(place * 7 + 3) % 256 for place in range(120)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scripted")


@pytest.fixture
def build(folder: Path) -> Build:
    """An engine whose model sees 10 tokens, and whose cache holds one sequence of them unless told otherwise."""

    def make(*, total_pages: int = SPAN_PAGES, **fields: object) -> Harness:
        sizes = {"context_tokens": 400, "page_tokens": 4, "prefill_chunk_tokens": 8, "window_tokens": 10, **fields}
        return Harness(make_model(Script(total_pages=total_pages, **sizes), folder))  # type: ignore[arg-type]

    return make


def run(harness: Harness) -> int:
    """Run to the end; the most pages that were in use at a time."""
    most = 0
    while harness.engine.has_work:
        harness.engine.step()
        check_books(harness.engine, harness.runner)
        most = max(most, harness.runner.total_pages - harness.runner.available_pages())
    return most


def slides(harness: Harness) -> list[tuple[int, ...]]:
    return [each for kind, each in harness.runner.calls if kind == "drop_first"]


def said(harness: Harness, request_id: int) -> list[int]:
    return [token for event in harness.events[request_id] if isinstance(event, TextDelta) for token in event.ids]


def continued(ids: list[int], count: int) -> list[int]:
    tokens = list(ids)
    while len(tokens) < len(ids) + count:
        tokens.append(next_token(tokens))
    return tokens[len(ids) :]


# ---- one at a time ----


def test_a_long_prompt_and_a_long_answer_never_hold_more_than_their_window_and_a_step(build: Build) -> None:
    harness = build()
    request_id = harness.submit_ids(LONG, 250, ignore_eos=True)
    assert run(harness) == SPAN_PAGES == 6
    assert said(harness, request_id) == continued(LONG, 250)
    assert harness.end(request_id).usage.prompt_tokens == 120
    moved = [tokens for _, tokens in slides(harness)]
    assert sum(moved) >= 120 + 249 - WINDOW.most_tokens
    assert len(moved) <= (120 + 250) / WINDOW.chunk_tokens + 1
    assert harness.runner.sequences == {}  # what has lost its beginning is no beginning for others


def test_an_answer_may_become_as_long_as_the_context_in_a_cache_that_is_much_smaller(build: Build) -> None:
    harness = build()
    request_id = harness.submit_ids(LONG, ignore_eos=True)
    run(harness)
    assert harness.end(request_id).reason == "length"
    assert len(said(harness, request_id)) == 400 - 120
    too_long = harness.submit_ids([1] * 400)
    assert harness.error(too_long).code == "context_length_exceeded"


def test_what_fits_into_the_window_and_a_step_stays_as_it_is(build: Build) -> None:
    harness = build()
    request_id = harness.submit_ids(LONG[:12], WINDOW.most_tokens - 12, ignore_eos=True)
    run(harness)
    assert slides(harness) == []
    assert harness.end(request_id).usage.completion_tokens == WINDOW.most_tokens - 12
    again = harness.submit_ids(LONG[:13], 4)
    run(harness)
    assert harness.end(again).usage.cached_tokens == 12


# ---- several ----


def test_as_many_long_ones_run_together_as_their_windows_fit(build: Build) -> None:
    harness = build(total_pages=3 * SPAN_PAGES, max_sequences=4)
    asked = {harness.submit_ids([tail, *LONG], 60, ignore_eos=True): [tail, *LONG] for tail in range(5)}
    most = 0
    while harness.engine.has_work:
        harness.engine.step()
        check_books(harness.engine, harness.runner)
        most = max(most, harness.engine.stats().running)
    assert most == 3
    for request_id, ids in asked.items():
        assert said(harness, request_id) == continued(ids, 60)


def test_two_that_share_their_beginning_give_up_their_shares_in_a_cache_that_is_just_large_enough(
    build: Build,
) -> None:
    harness = build(total_pages=2 * SPAN_PAGES, max_sequences=2)
    asked = {harness.submit_ids([*LONG[:17], tail], 80, ignore_eos=True): [*LONG[:17], tail] for tail in range(2)}
    assert run(harness) <= 2 * SPAN_PAGES
    assert [kind for kind, _ in harness.runner.calls].count("fork") == 1
    assert {sequence for sequence, _ in slides(harness)} == {0, 1}
    for request_id, ids in asked.items():
        assert said(harness, request_id) == continued(ids, 80)


def test_a_beginning_that_was_kept_before_serves_long_prompts_and_stays(build: Build) -> None:
    harness = build(total_pages=3 * SPAN_PAGES)
    harness.submit_ids(LONG[:20], 1)
    run(harness)
    for _ in range(2):
        request_id = harness.submit_ids(LONG, 30, ignore_eos=True)
        run(harness)
        assert harness.end(request_id).usage.cached_tokens == 20
        assert said(harness, request_id) == continued(LONG, 30)
    harness.assert_empty()


def test_a_kept_beginning_goes_where_its_pages_are_needed(build: Build) -> None:
    harness = build(total_pages=SPAN_PAGES + 1)
    harness.submit_ids(LONG[:20], 1)
    run(harness)
    request_id = harness.submit_ids(LONG, 30, ignore_eos=True)
    run(harness)
    assert harness.end(request_id).usage.cached_tokens == 20
    assert said(harness, request_id) == continued(LONG, 30)


def test_who_makes_room_for_others_comes_back_and_says_the_same(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local_runtime.scheduler.OPEN_ENDED_TOKENS", 4)
    harness = build(total_pages=2 * SPAN_PAGES - 2, max_sequences=2, context_tokens=150)
    asked = {harness.submit_ids([tail, *LONG[:9]], None, ignore_eos=True): [tail, *LONG[:9]] for tail in range(2)}
    run(harness)
    assert harness.engine.stats().evicted_total == 1
    for request_id, ids in asked.items():
        assert said(harness, request_id) == continued(ids, 140)


def test_one_that_cannot_be_moved_fails_alone(build: Build) -> None:
    harness = build(total_pages=2 * SPAN_PAGES, max_sequences=2)
    short = harness.submit_ids(LONG[:4], 16, ignore_eos=True)
    long = harness.submit_ids(LONG, 10)
    harness.runner.slide_error = RuntimeError("the device is gone")
    run(harness)
    assert isinstance(harness.error(long), EngineInternalError)
    assert said(harness, short) == continued(LONG[:4], 16)
    harness.assert_empty()


# ---- what else an answer may ask for ----


def test_an_answer_that_was_begun_elsewhere_goes_on_from_any_place(build: Build) -> None:
    wanted = continued(LONG, 40)
    for begun in (1, 7, 30):
        harness = build()
        request_id = harness.submit_ids(LONG, 40, ignore_eos=True, answer_begun_ids=wanted[:begun])
        run(harness)
        assert said(harness, request_id) == wanted[begun:]


def test_log_probabilities_of_a_long_prompt_are_all_there(build: Build) -> None:
    harness = build()
    request_id = harness.submit_ids(LONG, 2, prompt_logprobs=0)
    run(harness)
    assert len(harness.end(request_id).prompt_logprobs) == len(LONG) - 1


def test_guesses_are_never_taken_back_past_what_has_moved(folder: Path) -> None:
    script = Script(
        total_pages=SPAN_PAGES,
        context_tokens=600,
        page_tokens=4,
        prefill_chunk_tokens=8,
        window_tokens=10,
        score_tokens=8,
    )
    model = make_model(script, folder, lambda tokens: 65 + len(tokens) * 7 % 13 + (len(tokens) % 40 == 0))
    engine = Engine(model, speculate=True)
    events: list[Event] = []
    greedy = SamplingOptions(temperature=0.0)
    engine.submit(1, GenerateRequest(raw_token_ids=LONG[:50], max_tokens=500, sampling=greedy), events.append)
    while engine.has_work:
        engine.step()
        check_books(engine, model.runner)
    tokens = [token for event in events if isinstance(event, TextDelta) for token in event.ids]
    assert tokens == [65 + place * 7 % 13 + (place % 40 == 0) for place in range(50, 550)]
    kinds = [kind for kind, _ in model.runner.calls]
    assert kinds.count("score") > 20
    assert kinds.count("drop_first") > 20


def test_as_much_of_a_long_beginning_is_saved_as_a_sequence_holds(build: Build, tmp_path: Path) -> None:
    harness = build(total_pages=2 * SPAN_PAGES)
    outcomes: list[StateKept | LocalRuntimeError] = []
    path = str(tmp_path / "state.kv")
    messages = [{"role": "system", "content": "x" * 100}]
    harness.engine.save_state(SaveState(77, path, messages), outcomes.append, lambda: None)
    run(harness)
    (outcome,) = outcomes
    assert isinstance(outcome, StateKept)
    assert outcome.tokens == WINDOW.most_tokens
    other = build(total_pages=2 * SPAN_PAGES)
    restored = other.engine.restore_state(path)
    assert isinstance(restored, StateKept)
    request_id = other.submit(
        GenerateRequest([*messages, {"role": "user", "content": "?"}], SamplingOptions(temperature=0.0), max_tokens=5)
    )
    run(other)
    assert other.end(request_id).usage.cached_tokens == WINDOW.most_tokens


# ---- what is planned for ----

MIB = 1 << 20


def needs(config: dict[str, object], context_tokens: int, target_kind: str = "cpu") -> MemoryNeeds:
    parsed = ModelConfig.from_dict(config)
    return predict_needs(
        parsed, target_kind=target_kind, quant="f32", weights_bytes=0, context_tokens=context_tokens, max_sequences=4
    )


def test_the_plan_counts_what_a_sequence_holds_and_serves_the_whole_context() -> None:
    config = mistral_config(sliding_window=1000, max_position_embeddings=32768)
    held = SlidingWindow(1000, CHUNK_TOKENS, 16).most_tokens
    assert (held, needs(config, 32768).held_tokens) == (1536, 1536)
    plenty = needs(config, 32768).plan(
        headroom_mib=100_000, memory_mib=None, context_tokens=32768, may_cut_context=True, max_sequences=4
    )
    assert (plenty.context_tokens, plenty.total_tokens, plenty.said(32768)) == (32768, 4 * held, "")
    fixed_bytes = plenty.needs.runtime_bytes + plenty.needs.workspace_bytes + SPARE_MIB * MIB
    one_mib = (fixed_bytes + plenty.needs.cache_bytes(held)) / MIB
    tight = plenty.needs.plan(
        headroom_mib=one_mib, memory_mib=None, context_tokens=32768, may_cut_context=False, max_sequences=4
    )
    assert (tight.context_tokens, tight.total_tokens) == (32768, held)
    shorter = plenty.needs.plan(
        headroom_mib=one_mib - 0.1, memory_mib=None, context_tokens=32768, may_cut_context=True, max_sequences=4
    )
    assert shorter.context_tokens == shorter.total_tokens < held


def test_where_nothing_can_be_let_go_of_the_plan_is_for_all_tokens() -> None:
    windowed = mistral_config(sliding_window=1000, max_position_embeddings=32768)
    some = qwen2_config(
        sliding_window=100,
        use_sliding_window=True,
        layer_types=["sliding_attention", "full_attention"],
        max_position_embeddings=8192,
    )
    for config, context_tokens, kind in ((windowed, 1536, "cpu"), (some, 8192, "cpu"), (windowed, 8192, "cuda")):
        found = needs(config, context_tokens, kind)
        assert (found.held_tokens, found.sequence_tokens(context_tokens)) == (None, context_tokens)
    assert needs(windowed, 1537).sequence_tokens(1537) == 1536


def test_models_plan_tells_of_the_smaller_cache(tmp_path: Path) -> None:
    config = mistral_config(sliding_window=100, max_position_embeddings=4096)
    parsed = ModelConfig.from_folder(write_checkpoint(tmp_path / "model", config))
    (case,) = plan_cases(tmp_path / "model", parsed, Machine("cpu", 4000.0), quants=["f32"], contexts=[4096])
    held = SlidingWindow(100, CHUNK_TOKENS, 16).most_tokens
    assert (case.verdict, case.served_tokens, case.cache_tokens) == ("fits", 4096, 4 * held)


# ---- the ledger and the scheduler ----


def test_a_share_that_is_given_up_was_never_promised_to_anybody_else() -> None:
    ledger = PageLedger(8, 4, sliding=True)
    ledger.open(1, 4)
    ledger.grow(1, 14)
    ledger.open(2, 4)
    assert ledger.newly_held(1, 12) == 3
    ledger.fork(1, 2, 12)
    ledger.grow(2, 15)
    assert (ledger.held, ledger.promised, ledger.unpromised, ledger.free) == (8, 0, 0, 3)
    ledger.slide(2, 1)
    assert (ledger.held, ledger.promised, ledger.free, ledger.tokens(2), ledger.pages(2)) == (7, 1, 1, 11, 3)
    ledger.slide(1, 2)
    assert (ledger.held, ledger.promised, ledger.free, ledger.tokens(1), ledger.own_pages(1)) == (5, 3, 3, 6, 2)
    for sequence_id in (1, 2):
        ledger.close(sequence_id)
    assert (ledger.held, ledger.promised, ledger.free) == (0, 0, 8)


def test_only_a_window_for_these_pages_and_steps_is_taken() -> None:
    for window in (SlidingWindow(10, 8, 16), SlidingWindow(10, 4, 4)):
        with pytest.raises(ValueError, match="other pages, or for smaller steps"):
            Scheduler(total_pages=8, page_tokens=4, max_sequences=1, prefill_chunk_tokens=8, window=window)


def test_a_sequence_reserves_what_it_holds_at_a_time_and_no_more() -> None:
    scheduler = Scheduler(total_pages=SPAN_PAGES, page_tokens=4, max_sequences=2, prefill_chunk_tokens=8, window=WINDOW)
    scheduler.add(Sequence(1, LONG, 1000))
    step = scheduler.next_step()
    while step is not None and not isinstance(step, SlideStep):
        scheduler.computed(step)  # type: ignore[arg-type]
        assert step.sequence.reserved_pages == SPAN_PAGES  # type: ignore[union-attr]
        step = scheduler.next_step()
    assert isinstance(step, SlideStep)
    assert (step.sequence.held, step.tokens) == (WINDOW.most_tokens, 12)
    scheduler.computed(step)
    assert (step.sequence.held, step.sequence.dropped, scheduler.pages.pages(1)) == (12, 12, 3)
    with pytest.raises(ValueError, match="never fit"):
        Scheduler(
            total_pages=SPAN_PAGES - 1, page_tokens=4, max_sequences=2, prefill_chunk_tokens=8, window=WINDOW
        ).add(Sequence(1, LONG, 1000))
