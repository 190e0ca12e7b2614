from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_runtime.scheduler import DecodeStep, PrefillStep, Scheduler
from local_runtime.sequence import Sequence, SequenceState


def make(total_pages: int = 16, page_tokens: int = 4, max_sequences: int = 4, chunk: int = 8) -> Scheduler:
    return Scheduler(
        total_pages=total_pages, page_tokens=page_tokens, max_sequences=max_sequences, prefill_chunk_tokens=chunk
    )


def sequence(sequence_id: int, prompt: int, answer: int) -> Sequence:
    return Sequence(sequence_id, list(range(prompt)), answer)


def advance(scheduler: Scheduler, step: PrefillStep | DecodeStep) -> None:
    """What an engine does after a step: draw tokens, and let go who is done."""
    scheduler.computed(step)
    drawn = step.sequences if isinstance(step, DecodeStep) else ((step.sequence,) if step.is_last else ())
    for each in drawn:
        each.tokens.append(1)
        assert each.cached == len(each.tokens) - 1
        if each.generated == each.max_tokens:
            scheduler.remove(each)


def test_a_prompt_is_prefilled_in_chunks_and_then_decoded() -> None:
    scheduler = make()
    one = sequence(1, prompt=20, answer=3)
    scheduler.add(one)
    chunks = []
    for _ in range(3):
        step = scheduler.next_step()
        assert isinstance(step, PrefillStep)
        chunks.append((step.start, step.end, step.is_last))
        advance(scheduler, step)
    assert chunks == [(0, 8, False), (8, 16, False), (16, 20, True)]
    assert one.state == SequenceState.RUNNING
    for _ in range(2):
        step = scheduler.next_step()
        assert step == DecodeStep((one,))
        advance(scheduler, step)
    assert one.state.value == "done"
    assert scheduler.next_step() is None
    assert scheduler.unreserved_pages == 16


def test_a_long_prompt_does_not_stall_a_running_answer_for_more_than_one_chunk() -> None:
    scheduler = make(total_pages=64)
    first, second = sequence(1, prompt=4, answer=20), sequence(2, prompt=40, answer=4)
    scheduler.add(first)
    step = scheduler.next_step()
    assert step is not None
    advance(scheduler, step)
    scheduler.add(second)
    kinds = []
    for _ in range(10):
        step = scheduler.next_step()
        assert step is not None
        kinds.append(type(step))
        advance(scheduler, step)
    assert kinds == [DecodeStep, PrefillStep] * 5


def test_pages_for_the_whole_answer_are_reserved_before_it_begins() -> None:
    scheduler = make(total_pages=10, page_tokens=4)
    large, small = sequence(1, prompt=20, answer=12), sequence(2, prompt=5, answer=4)
    scheduler.add(large)
    scheduler.add(small)
    scheduler.next_step()
    assert (large.reserved_pages, scheduler.unreserved_pages) == (8, 2)
    assert small.state is SequenceState.WAITING  # It would need 3 pages.
    scheduler.remove(large)
    step = scheduler.next_step()
    assert isinstance(step, PrefillStep)
    assert step.sequence is small


def test_nobody_overtakes_in_the_queue() -> None:
    scheduler = make(total_pages=10, page_tokens=4)
    holder, large, small = sequence(1, 12, 4), sequence(2, 30, 4), sequence(3, 1, 1)
    for each in (holder, large, small):
        scheduler.add(each)
    scheduler.next_step()
    assert small.state is SequenceState.WAITING
    scheduler.remove(holder)
    scheduler.next_step()
    assert (large.state, small.state) == (SequenceState.PREFILLING, SequenceState.PREFILLING)


def test_a_sequence_that_can_never_fit_is_refused() -> None:
    scheduler = make(total_pages=2, page_tokens=4)
    with pytest.raises(ValueError, match="never fit"):
        scheduler.add(sequence(1, prompt=8, answer=1))
    scheduler.add(sequence(2, prompt=7, answer=1))


def test_a_sequence_sent_back_starts_again_with_its_answer_so_far() -> None:
    scheduler = make()
    one, two = sequence(1, 4, 9), sequence(2, 4, 9)
    for each in (one, two):
        scheduler.add(each)
    for _ in range(4):
        step = scheduler.next_step()
        assert step is not None
        advance(scheduler, step)
    said = list(one.tokens)
    scheduler.requeue(two)
    scheduler.requeue(one)
    step = scheduler.next_step()
    assert step == PrefillStep(one, 0, len(said))
    assert one.tokens == said
    assert one.prompt_tokens == 4


def test_sequences_that_go_alone_take_turns_with_the_others() -> None:
    scheduler = make(total_pages=64)
    sequences = [sequence(number, 2, 12) for number in range(4)]
    for each in sequences:
        scheduler.add(each)
        each.alone = each.sequence_id >= 2
    batches = []
    while (step := scheduler.next_step()) is not None:
        if isinstance(step, DecodeStep):
            batches.append(tuple(each.sequence_id for each in step.sequences))
        advance(scheduler, step)
    assert set(batches) == {(0,), (0, 1), (1,), (2,), (3,)}
    assert all(each.generated == 12 for each in sequences)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_life_of_many_sequences_leaks_nothing_and_starves_nobody(data: st.DataObject) -> None:
    scheduler = make(
        total_pages=data.draw(st.integers(4, 12)), page_tokens=data.draw(st.integers(1, 5)), max_sequences=3, chunk=4
    )
    alive: list[Sequence] = []
    admitted_order: list[int] = []
    ids = iter(range(1000))
    longest = scheduler.total_pages * scheduler.page_tokens
    for action in data.draw(
        st.lists(st.sampled_from(["add", "step", "step", "step", "cancel", "requeue"]), max_size=60)
    ):
        if action == "add":
            prompt = data.draw(st.integers(1, longest - 1))
            alive.append(sequence(next(ids), prompt, data.draw(st.integers(1, longest - prompt))))
            scheduler.add(alive[-1])
        elif action == "cancel" and alive:
            victim = alive.pop(data.draw(st.integers(0, len(alive) - 1)))
            scheduler.remove(victim)
        elif action == "requeue":
            admitted = [each for each in alive if each.state in (SequenceState.PREFILLING, SequenceState.RUNNING)]
            if admitted:
                scheduler.requeue(admitted[-1])
        elif action == "step":
            step = scheduler.next_step()
            assert (step is None) == (not alive)
            if isinstance(step, PrefillStep) and step.start == 0 and step.sequence.sequence_id not in admitted_order:
                admitted_order.append(step.sequence.sequence_id)
            if step is not None:
                advance(scheduler, step)
            alive = [each for each in alive if each.state is not SequenceState.DONE]
        reserved = sum(each.reserved_pages for each in alive)
        assert reserved + scheduler.unreserved_pages == scheduler.total_pages
        assert scheduler.unreserved_pages >= 0
        for each in alive:
            if each.state is not SequenceState.WAITING:
                assert scheduler.pages_for(len(each.tokens)) <= each.reserved_pages
    steps = 0
    while (step := scheduler.next_step()) is not None:
        advance(scheduler, step)
        steps += 1
        assert steps < 5000, "somebody starves"
    assert scheduler.unreserved_pages == scheduler.total_pages
    assert (scheduler.num_waiting, scheduler.num_admitted) == (0, 0)
    assert all(each.state is SequenceState.DONE for each in alive)
    assert admitted_order == sorted(admitted_order)
