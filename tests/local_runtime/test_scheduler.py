from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_runtime.errors import OutOfMemoryError, OverloadedError
from local_runtime.fair_queue import MAX_OVERTAKES
from local_runtime.scheduler import OPEN_ENDED_TOKENS, DecodeStep, EvictStep, PrefillStep, Scheduler, Step
from local_runtime.sequence import Sequence, SequenceState


def make(total_pages: int = 16, page_tokens: int = 4, max_sequences: int = 4, chunk: int = 8) -> Scheduler:
    return Scheduler(
        total_pages=total_pages, page_tokens=page_tokens, max_sequences=max_sequences, prefill_chunk_tokens=chunk
    )


def sequence(sequence_id: int, prompt: int, answer: int) -> Sequence:
    return Sequence(sequence_id, list(range(prompt)), answer)


def advance(scheduler: Scheduler, step: Step) -> None:
    """What an engine does after a step: draw tokens, and let go who is done."""
    assert isinstance(step, PrefillStep | DecodeStep)
    scheduler.computed(step)
    chunk = step if isinstance(step, PrefillStep) else step.chunk
    drawn = step.sequences if isinstance(step, DecodeStep) else ()
    if chunk is not None and chunk.is_last:
        drawn = (*drawn, chunk.sequence)
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


def test_a_chunk_rides_with_a_decode_where_the_runner_can() -> None:
    scheduler = Scheduler(total_pages=64, page_tokens=4, max_sequences=4, prefill_chunk_tokens=8, mixed=True)
    first, second = sequence(1, prompt=4, answer=60), sequence(2, prompt=120, answer=2)
    scheduler.add(first)
    step = scheduler.next_step()
    assert isinstance(step, PrefillStep)
    advance(scheduler, step)
    scheduler.add(second)
    chunks = []
    while second.state is not SequenceState.RUNNING:
        step = scheduler.next_step()
        assert isinstance(step, DecodeStep)
        assert step.sequences == (first,)
        chunks.append(None if step.chunk is None else step.chunk.end - step.chunk.start)
        advance(scheduler, step)
    assert sum(chunk or 0 for chunk in chunks) == 120
    assert chunks[15] is None  # now and then a decode by itself, to measure the others by
    assert chunks.count(None) == len(chunks) // 16
    # One who was in a step that failed goes by itself, and so does everybody meanwhile.
    third = sequence(3, prompt=20, answer=2)
    scheduler.add(third)
    first.alone = True
    kinds = set()
    while third.state is not SequenceState.DONE:
        step = scheduler.next_step()
        assert step is not None
        assert not isinstance(step, DecodeStep) or step.chunk is None
        kinds.add(type(step))
        advance(scheduler, step)
    assert kinds == {DecodeStep, PrefillStep}


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


# ---- turns ----


def of(conversation: str, sequence_id: int, prompt: int = 4, answer: int = 4) -> Sequence:
    return Sequence(sequence_id, list(range(prompt)), answer, conversation=conversation)


def admissions(scheduler: Scheduler) -> list[int]:
    """Run to the end; the order in which sequences were admitted."""
    order: list[int] = []
    while (step := scheduler.next_step()) is not None:
        assert not isinstance(step, EvictStep)
        if isinstance(step, PrefillStep) and step.start == 0:
            order.append(step.sequence.sequence_id)
        advance(scheduler, step)
    return order


def test_conversations_take_turns_and_each_keeps_its_order() -> None:
    scheduler = make(max_sequences=1)
    for number in range(4):
        scheduler.add(of("flood", number))
    scheduler.add(of("patient", 10))
    scheduler.add(of("patient", 11))
    scheduler.add(of("", 20))
    scheduler.add(of("", 21))
    assert admissions(scheduler) == [0, 10, 20, 1, 11, 21, 2, 3]


def test_a_large_one_is_overtaken_a_few_times_and_then_nobody_passes() -> None:
    scheduler = make(total_pages=10, page_tokens=4, max_sequences=3)
    held = [of(f"holder {number}", number, prompt=12, answer=4) for number in range(2)]  # 4 pages each
    for each in held:
        scheduler.add(each)
    scheduler.next_step()
    large = of("large", 50, prompt=30, answer=4)  # 9 pages, where 2 are left
    scheduler.add(large)
    small = [of("small", 100 + number, prompt=2, answer=2) for number in range(MAX_OVERTAKES + 3)]
    for each in small:
        scheduler.add(each)
    for _ in range(MAX_OVERTAKES):
        scheduler.next_step()
        (overtaker,) = [each for each in small if each.state is SequenceState.PREFILLING]
        scheduler.remove(overtaker)
    scheduler.next_step()
    assert large.overtaken == MAX_OVERTAKES
    assert all(each.state is not SequenceState.PREFILLING for each in small)
    for each in held:
        scheduler.remove(each)
    scheduler.next_step()
    assert large.state is SequenceState.PREFILLING


def test_a_sequence_sent_back_goes_before_every_turn() -> None:
    scheduler = make(max_sequences=1)
    one, two = of("a", 1), of("b", 2)
    scheduler.add(one)
    scheduler.next_step()
    scheduler.add(two)
    scheduler.requeue(one)
    step = scheduler.next_step()
    assert isinstance(step, PrefillStep)
    assert step.sequence is one


# ---- limits ----


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def limited(max_waiting: int, max_sequences: int = 2) -> tuple[Scheduler, Clock]:
    clock = Clock()
    scheduler = Scheduler(
        total_pages=16,
        page_tokens=4,
        max_sequences=max_sequences,
        prefill_chunk_tokens=8,
        max_waiting=max_waiting,
        clock=clock,
    )
    return scheduler, clock


def test_one_more_than_may_wait_is_refused_with_the_time_that_was_measured() -> None:
    scheduler, clock = limited(max_waiting=3)
    assert scheduler.queue_wait_s == 0.0
    for number in range(5):  # two are admitted, three wait
        scheduler.add(of(f"c{number}", number))
        scheduler.next_step()
    with pytest.raises(OverloadedError, match="3 requests wait already") as refused:
        scheduler.add(of("late", 9))
    assert refused.value.retry_after_s is None  # nobody has ended yet: nothing was measured
    assert refused.value.mend
    clock.now_s += 6.0
    for sequence_id in (0, 1):
        scheduler.remove(next(each for each in scheduler._prefilling.values() if each.sequence_id == sequence_id))
    scheduler.next_step()
    scheduler.add(of("c5", 5))
    scheduler.add(of("c6", 6))
    assert scheduler.queue_wait_s == pytest.approx(6.0 * 4 / 2)
    with pytest.raises(OverloadedError) as refused:
        scheduler.add(of("late", 9))
    assert refused.value.retry_after_s == pytest.approx(6.0 * 4 / 2)
    assert scheduler.refused_total == 2
    assert scheduler.num_waiting == 3


def test_where_nobody_may_wait_a_free_place_is_still_taken() -> None:
    scheduler, _ = limited(max_waiting=0)
    first, second, third = (of("x", number) for number in range(3))
    scheduler.add(first)
    scheduler.add(second)
    with pytest.raises(OverloadedError):
        scheduler.add(third)
    assert third.state is SequenceState.DONE
    scheduler.remove(third)  # as an engine may do with whatever it was refused
    scheduler.remove(first)
    scheduler.add(of("x", 4))
    assert scheduler.num_waiting == 0


def test_the_estimate_follows_newer_times_and_counts_those_that_run_together() -> None:
    scheduler, clock = limited(max_waiting=9, max_sequences=2)
    for number, took_s in enumerate((10.0, 20.0)):
        each = of("x", number)
        scheduler.add(each)
        scheduler.next_step()
        clock.now_s += took_s
        scheduler.remove(each)
    mean_s = 10.0 + 0.2 * 10.0
    wide = Sequence(5, [1] * 40, 20)  # 15 of the 16 pages: nobody else can run beside it
    scheduler.add(wide)
    scheduler.add(of("y", 6, prompt=8))
    scheduler.next_step()
    assert scheduler.num_admitted == 1
    assert scheduler.queue_wait_s == pytest.approx(mean_s * 2 / 1)
    assert scheduler.has_work


# ---- open-ended answers ----


def open_ended(sequence_id: int, prompt: int, room: int) -> Sequence:
    return Sequence(sequence_id, [1] * prompt, room, open_ended=True)


def test_open_ended_answers_run_beside_each_other_in_a_cache_that_holds_one_context() -> None:
    scheduler = make(total_pages=128, page_tokens=16, chunk=512)
    one, two = open_ended(1, 100, 1900), open_ended(2, 100, 1900)
    for each in (one, two):
        scheduler.add(each)
    scheduler.next_step()
    assert (one.state, two.state) == (SequenceState.PREFILLING, SequenceState.PREFILLING)
    assert one.reserved_pages == scheduler.pages_for(100 + OPEN_ENDED_TOKENS)


def test_the_youngest_open_ended_answer_makes_room_once_and_loses_nothing() -> None:
    scheduler = make(total_pages=64, page_tokens=16, chunk=512)  # 1024 tokens
    one, two = open_ended(1, 100, 900), open_ended(2, 100, 900)
    scheduler.add(one)
    scheduler.add(two)
    evicted: list[int] = []
    said: list[int] = []
    while (step := scheduler.next_step()) is not None:
        if isinstance(step, EvictStep):
            assert step.error is None
            evicted.append(step.sequence.sequence_id)
            said = list(step.sequence.tokens)
            assert len(said) > 100 + OPEN_ENDED_TOKENS
            assert (step.sequence.state, step.sequence.cached) == (SequenceState.WAITING, 0)
            continue
        if isinstance(step, PrefillStep) and evicted and step.start == 0:
            assert step.sequence.tokens == said
            assert one.state is SequenceState.DONE
            assert step.sequence.reserved_pages == scheduler.pages_for(1000)
        advance(scheduler, step)
    assert evicted == [2]
    assert scheduler.evicted_total == 1
    assert (one.generated, two.generated) == (900, 900)
    assert scheduler.unreserved_pages == 64


def test_an_answer_with_a_limit_is_never_sent_back_for_an_open_ended_one() -> None:
    scheduler = make(total_pages=64, page_tokens=16, chunk=512)
    open_one, limited_one = open_ended(1, 100, 900), Sequence(2, [1] * 100, 500)
    scheduler.add(open_one)
    scheduler.add(limited_one)
    evicted: list[Sequence] = []
    while (step := scheduler.next_step()) is not None:
        if isinstance(step, EvictStep):
            evicted.append(step.sequence)
        else:
            advance(scheduler, step)
    assert evicted == [open_one]
    assert (open_one.generated, limited_one.generated) == (900, 500)


# ---- memory ----


class Memory:
    """So many pages have memory behind them."""

    def __init__(self, pages: int) -> None:
        self.pages = pages
        self.asked: list[int] = []

    def shortage(self, pages: int) -> OutOfMemoryError | None:
        self.asked.append(pages)
        return OutOfMemoryError(f"{pages} pages") if pages > self.pages else None


def watched(memory: Memory) -> Scheduler:
    return Scheduler(total_pages=16, page_tokens=4, max_sequences=4, prefill_chunk_tokens=64, shortage=memory.shortage)


def test_who_finds_no_memory_waits_for_those_who_run_and_fails_alone() -> None:
    memory = Memory(pages=6)
    scheduler = watched(memory)
    running, waiting = of("a", 1, prompt=12, answer=4), of("b", 2, prompt=12, answer=4)
    scheduler.add(running)
    scheduler.add(waiting)
    assert isinstance(scheduler.next_step(), PrefillStep)
    assert waiting.state is SequenceState.WAITING
    assert memory.asked == [4, 8]
    memory.pages = 3  # another program takes the rest
    scheduler.remove(running)
    step = scheduler.next_step()
    assert isinstance(step, EvictStep)
    assert step.sequence is waiting
    assert step.error is not None
    assert "4 pages" in step.error.message
    scheduler.remove(waiting)
    assert scheduler.next_step() is None
    assert scheduler.unreserved_pages == 16


def test_a_smaller_one_runs_where_the_first_finds_no_memory() -> None:
    scheduler = watched(Memory(pages=2))
    large, small = of("a", 1, prompt=12, answer=4), of("b", 2, prompt=4, answer=4)
    scheduler.add(large)
    scheduler.add(small)
    step = scheduler.next_step()
    assert isinstance(step, PrefillStep)
    assert step.sequence is small
    scheduler.remove(small)
    refused = scheduler.next_step()
    assert isinstance(refused, EvictStep)
    assert refused.sequence is large


def test_an_open_ended_answer_that_finds_no_memory_to_go_on_with_ends() -> None:
    memory = Memory(pages=1000)
    scheduler = Scheduler(
        total_pages=64, page_tokens=16, max_sequences=4, prefill_chunk_tokens=512, shortage=memory.shortage
    )
    one, two = open_ended(1, 100, 900), open_ended(2, 100, 900)
    scheduler.add(one)
    scheduler.add(two)
    evicted = []
    while (step := scheduler.next_step()) is not None:
        if isinstance(step, EvictStep):
            evicted.append((step.sequence.sequence_id, step.error is None))
            if step.error is not None:
                scheduler.remove(step.sequence)
            continue
        advance(scheduler, step)
        if one.generated == 200:
            memory.pages = scheduler.pages_for(100 + OPEN_ENDED_TOKENS)
    # The younger one goes first; then its elder finds no more either, and last the younger one as a whole.
    assert evicted == [(2, True), (1, False), (2, False)]
    assert scheduler.unreserved_pages == 64


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_mix_of_conversations_open_ends_and_limits_ends_and_leaks_nothing(data: st.DataObject) -> None:
    memory = Memory(pages=data.draw(st.integers(6, 12)))
    scheduler = Scheduler(
        total_pages=data.draw(st.integers(4, 12)),
        page_tokens=data.draw(st.sampled_from([64, 100, 256])),
        max_sequences=3,
        prefill_chunk_tokens=200,
        max_waiting=4,
        shortage=memory.shortage,
    )
    longest = scheduler.total_pages * scheduler.page_tokens
    alive: list[Sequence] = []
    evictions: dict[int, int] = {}
    ids = iter(range(1000))

    def take(step: Step) -> None:
        if not isinstance(step, EvictStep):
            advance(scheduler, step)
        elif step.error is not None:
            scheduler.remove(step.sequence)
        else:
            assert step.sequence.reserved_pages == 0
            evictions[step.sequence.sequence_id] = evictions.get(step.sequence.sequence_id, 0) + 1

    for action in data.draw(
        st.lists(st.sampled_from(["add", "add", "step", "steps", "cancel", "memory"]), max_size=40)
    ):
        if action == "add":
            prompt = data.draw(st.integers(1, min(600, longest - 1)))
            room = longest - prompt if data.draw(st.booleans()) else data.draw(st.integers(1, longest - prompt))
            each = Sequence(
                next(ids),
                [1] * prompt,
                room,
                conversation=data.draw(st.sampled_from(["", "a", "b", "c"])),
                open_ended=data.draw(st.booleans()),
            )
            waiting = scheduler.num_waiting
            try:
                scheduler.add(each)
                alive.append(each)
            except OverloadedError:
                assert waiting >= 4
        elif action == "cancel" and alive:
            scheduler.remove(alive.pop(data.draw(st.integers(0, len(alive) - 1))))
        elif action == "memory":
            memory.pages = data.draw(st.integers(0, 12))
        else:
            for _ in range(1 if action == "step" else 150):
                if (step := scheduler.next_step()) is None:
                    break
                take(step)
        alive = [each for each in alive if each.state is not SequenceState.DONE]
        assert scheduler.num_waiting <= 4 + 3  # those sent back come on top
        assert scheduler.unreserved_pages >= 0
        assert sum(each.reserved_pages for each in alive) + scheduler.unreserved_pages == scheduler.total_pages
        for each in alive:
            if each.state is not SequenceState.WAITING:
                assert scheduler.pages_for(each.cached) <= each.reserved_pages
    steps = 0
    while (step := scheduler.next_step()) is not None:
        take(step)
        steps += 1
        assert steps < 60_000, "somebody starves"
    assert all(each.state is SequenceState.DONE for each in alive)
    assert scheduler.unreserved_pages == scheduler.total_pages
    assert all(count == 1 for count in evictions.values())
