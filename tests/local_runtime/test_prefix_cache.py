"""What requests that begin in the same way take from each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from local_runtime.engine import Engine
from local_runtime.errors import EngineInternalError, OutOfMemoryError
from local_runtime.page_ledger import PageLedger
from local_runtime.prefix_cache import MOST_IDLE, Prefix, PrefixCache
from tests.local_runtime.ledger_checks import check_books
from tests.local_runtime.scripted_runner import NAN, Script, ScriptedRunner, expected_tokens, make_model
from tests.local_runtime.test_engine import Harness

if TYPE_CHECKING:
    from pathlib import Path

SYSTEM = [(place * 7 + 3) % 256 for place in range(32)]

Build = Callable[..., Harness]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scripted")


@pytest.fixture
def build(folder: Path) -> Build:
    return lambda **fields: Harness(make_model(Script(**fields), folder))


def forks(harness: Harness) -> list[tuple[int, ...]]:
    return [each for kind, each in harness.runner.calls if kind == "fork"]


def prefilled(harness: Harness) -> int:
    return harness.engine.stats().prompt_tokens_total


def answered(harness: Harness, ids: list[int], max_tokens: int = 6) -> int:
    request_id = harness.submit_ids(ids, max_tokens)
    harness.run()
    check_books(harness.engine, harness.runner)
    assert harness.text(request_id) == harness.full_text(ids, max_tokens)
    return harness.end(request_id).usage.cached_tokens


# ---- one after the other ----


def test_a_prompt_that_was_answered_before_is_not_computed_again(build: Build) -> None:
    harness = build()
    assert answered(harness, [*SYSTEM, 1, 2, 3]) == 0
    assert answered(harness, [*SYSTEM, 9, 9]) == 32
    assert answered(harness, [*SYSTEM, 1, 2, 3]) == 34  # all but the last, whose logits are wanted
    assert prefilled(harness) == 35 + 2 + 1
    assert answered(harness, [250, *SYSTEM]) == 0
    harness.assert_empty()


def test_the_next_turn_of_a_conversation_finds_the_answer_too(build: Build) -> None:
    harness = build()
    said = expected_tokens(SYSTEM, 11)
    answered(harness, SYSTEM, 11)
    # The last token was drawn, but never fed.
    assert answered(harness, [*SYSTEM, *said, 5, 6, 7]) == len(SYSTEM) + len(said) - 1


def test_a_beginning_of_less_than_a_page_is_not_worth_a_fork(build: Build) -> None:
    harness = build(page_tokens=16)
    answered(harness, SYSTEM)
    assert answered(harness, [*SYSTEM[:15], 200, 201]) == 0
    assert answered(harness, [*SYSTEM[:16], 200, 201]) == 16


def test_without_the_cache_nothing_stays(folder: Path) -> None:
    model = make_model(Script(), folder)
    harness = Harness(model)
    harness.engine = Engine(model, prefix_cache=False)
    assert answered(harness, SYSTEM) == answered(harness, SYSTEM) == 0
    assert harness.runner.sequences == {}


def test_what_was_cancelled_stays_as_far_as_it_was_computed(build: Build) -> None:
    harness = build(prefill_chunk_tokens=8)
    request_id = harness.submit_ids(SYSTEM, 5)
    for _ in range(2):
        harness.engine.step()
    harness.engine.cancel(request_id)
    assert answered(harness, [*SYSTEM, 3]) == 16


def test_the_same_answer_twice_is_kept_once(build: Build) -> None:
    harness = build()
    for _ in range(3):
        answered(harness, SYSTEM)
    prefixes = harness.engine._scheduler.prefixes
    assert prefixes is not None
    assert prefixes.num_idle == len(harness.runner.sequences) == 1


# ---- at the same time ----


def test_a_burst_with_the_same_beginning_computes_it_once(build: Build) -> None:
    harness = build(max_sequences=4)
    ids = [[*SYSTEM, tail] for tail in range(4)]
    asked = [harness.submit_ids(each, 6) for each in ids]
    harness.run()
    assert prefilled(harness) == len(SYSTEM) + 1 + 3
    for request_id, each in zip(asked, ids, strict=True):
        assert harness.text(request_id) == harness.full_text(each, 6)
    assert [harness.end(request_id).usage.cached_tokens for request_id in asked] == [0, 32, 32, 32]
    harness.assert_empty()


def test_shared_pages_are_counted_once_so_that_more_run_together(build: Build) -> None:
    # Alone each needs 11 of 20 pages; the first 8 of them are the same.
    harness = build(max_sequences=4, total_pages=20, page_tokens=4)
    asked = [harness.submit_ids([*SYSTEM, tail], 11) for tail in range(4)]
    running = 0
    while harness.engine.has_work:
        harness.engine.step()
        running = max(running, harness.engine.stats().running)
        check_books(harness.engine, harness.runner)
    assert running == 4
    assert all(harness.end(request_id).reason in ("stop", "length") for request_id in asked)


def test_a_step_lists_no_more_pages_than_there_are_and_all_take_turns(build: Build) -> None:
    # Three tables of up to 12 pages, most of them shared, in a cache of 20: the runtime has room to list 20 at a time.
    harness = build(max_sequences=3, total_pages=20, page_tokens=4, context_tokens=48)
    asked = {harness.submit_ids([*SYSTEM, tail], 14, ignore_eos=True): [*SYSTEM, tail] for tail in range(3)}
    harness.run()
    batches = [each for kind, each in harness.runner.calls if kind == "decode"]
    assert {len(each) for each in batches} == {1, 2}
    # Nobody has to wait until another one is through: within three steps each has its turn.
    together = batches[batches.index(next(each for each in batches if 2 in each)) : -3]
    assert all({0, 1, 2} <= {row for each in together[start : start + 3] for row in each} for start in range(9))
    for request_id in asked:
        assert harness.end(request_id).usage.completion_tokens == 14
    harness.assert_empty()


# ---- when pages or memory are needed ----


def test_the_oldest_gives_its_last_pages_and_beginnings_stay_longest(build: Build) -> None:
    harness = build(max_sequences=1, total_pages=24, page_tokens=4)
    answered(harness, SYSTEM, 1)  # 8 pages
    answered(harness, [100 + place for place in range(32)], 1)  # 8 pages, 8 are left
    answered(harness, [200 + place for place in range(44)], 4)  # takes 4 more than are free
    prefixes = harness.engine._scheduler.prefixes
    assert prefixes is not None
    assert [prefixes.holder(ids) for ids in (SYSTEM, [100 + place for place in range(32)])] == [(0, 16), (1, 32)]
    assert answered(harness, [*SYSTEM, 1], 1) == 16
    check_books(harness.engine, harness.runner)


def test_nobody_waits_for_what_is_only_kept(build: Build) -> None:
    harness = build(max_sequences=2, total_pages=16, page_tokens=4, context_tokens=64)
    for start in (0, 60, 120):
        answered(harness, [start + place for place in range(20)], 2)
    assert harness.engine.stats().pages_free == 16
    assert answered(harness, [240] * 40, 24) == 0  # takes every page
    harness.assert_empty()


def test_no_more_sequences_are_kept_than_the_runner_may_hold(build: Build) -> None:
    harness = build(total_pages=1024, page_tokens=4)
    for number in range(MOST_IDLE + 5):
        harness.submit_ids([number % 250, number // 250, 1, 2, 3, 4], 1)
    harness.run()
    check_books(harness.engine, harness.runner)
    assert len(harness.runner.sequences) == MOST_IDLE


def test_a_cut_that_ends_at_anothers_beginning_ends_the_entry() -> None:
    ledger = PageLedger(8, 4)
    removed: list[int] = []
    cache = PrefixCache(ledger, remove=removed.append, pop=lambda sequence_id, tokens: None)
    ledger.open(1, 8)
    ledger.grow(1, 28)
    cache.lend(1, list(range(28)))
    assert cache.keep(1, list(range(28)))
    assert cache.free(3)
    assert (ledger.free, ledger.tokens(1), cache.holder(list(range(28)))) == (5, 12, Prefix(1, 12))
    assert cache.free(8)
    assert removed == [1]
    assert not cache.free(9)


def test_where_memory_is_scarce_keeping_takes_none_that_was_not_in_use(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ScriptedRunner, "headroom_mib", property(lambda _: 100.0))
    harness = build(max_sequences=1, total_pages=64, page_tokens=4)
    most = 0
    for start in range(0, 200, 40):
        answered(harness, [start + place for place in range(20)], 4)
        most = max(most, 64 - harness.runner.available_pages())
    assert most == 6  # as many as one request takes
    assert answered(harness, [160 + place for place in range(20)], 4) > 0


def test_who_has_to_make_room_comes_back_to_what_it_had(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local_runtime.scheduler.OPEN_ENDED_TOKENS", 8)
    harness = build(context_tokens=100, page_tokens=4, total_pages=26, prefill_chunk_tokens=64, max_sequences=2)
    asked = {
        harness.submit_ids([start + place for place in range(12)], None, ignore_eos=True): start for start in (0, 100)
    }
    elder, younger = asked
    while not harness.engine.stats().evicted_total:
        harness.engine.step()
    said = len(harness.text(younger))
    harness.engine.cancel(elder)
    harness.run()
    (fork,) = forks(harness)
    assert fork[2] == 12 + sum(1 for kind, each in harness.runner.calls if kind == "decode" and 1 in each)
    assert said
    end = harness.end(younger)
    assert end.usage.completion_tokens == 88
    assert end.usage.cached_tokens == 0  # its prompt was computed for it
    harness.assert_empty()


# ---- failures ----


def test_a_fork_that_fails_costs_only_time(build: Build) -> None:
    harness = build()
    answered(harness, SYSTEM)
    harness.runner.fork_error = True
    assert answered(harness, [*SYSTEM, 1]) == 0
    harness.runner.fork_error = False
    assert answered(harness, [*SYSTEM, 2]) == 32


def test_what_a_failed_request_stood_on_is_not_lent_again(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    harness = build()
    answered(harness, SYSTEM)
    failed = harness.submit_ids([*SYSTEM, NAN], 6)
    harness.run()
    assert isinstance(harness.error(failed), EngineInternalError)
    assert answered(harness, [*SYSTEM, 1]) == 0
    assert answered(harness, [*SYSTEM, 2]) == 32
    # What lacked memory says nothing about what it was forked from.
    lacking = OutOfMemoryError("There is no memory.")

    def fail(sequence_id: int, token_ids: list[int]) -> None:
        raise lacking

    with monkeypatch.context() as patched:
        patched.setattr(harness.runner, "prefill", fail)
        broken = harness.submit_ids([*SYSTEM, 3], 6)
        harness.run()
    assert harness.error(broken) is lacking
    assert answered(harness, [*SYSTEM, 4]) == 32
    check_books(harness.engine, harness.runner)


# ---- the ledger's own checks ----


def test_the_ledger_refuses_what_was_not_kept() -> None:
    ledger = PageLedger(4, 4)
    ledger.open(1, 2)
    with pytest.raises(ValueError, match="in the ledger already"):
        ledger.open(1, 1)
    ledger.grow(1, 8)
    with pytest.raises(ValueError, match="not kept for it"):
        ledger.grow(1, 9)
    ledger.open(2, 2)
    with pytest.raises(ValueError, match="cannot begin with 9 tokens"):
        ledger.fork(1, 2, 9)
    ledger.fork(1, 2, 6)
    assert (ledger.held, ledger.promised, ledger.free, ledger.listed) == (3, 0, 1, 4)
    with pytest.raises(ValueError, match="cannot be taken in"):
        ledger.adopt(3, 8)
    ledger.adopt(3, 4)
    assert (ledger.free, ledger.own_pages(3), ledger.own_pages(1), ledger.frees_pages(2)) == (0, 1, 1, True)
    for sequence_id in (1, 2, 3):
        ledger.close(sequence_id)
    assert (ledger.held, ledger.promised, ledger.free) == (0, 0, 4)


def test_a_sequence_from_elsewhere_can_be_taken_in() -> None:
    ledger = PageLedger(8, 4)
    cache = PrefixCache(ledger, remove=lambda sequence_id: None, pop=lambda sequence_id, tokens: None)
    assert not cache.adopt(7, [1, 2])
    assert cache.adopt(7, list(range(9)))
    assert not cache.adopt(8, list(range(6)))
    assert cache.longest([*range(9), 50]) == Prefix(7, 9)
    assert (ledger.free, ledger.held, cache.idle) == (5, 0, (7,))
