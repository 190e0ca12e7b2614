"""Waits with an end that moves, and steps that may or may not have to wait."""

import asyncio
import time

import pytest

from hybridllm.backends.alarm import Alarm, AlarmRang
from hybridllm.steps import with_care

LONG_S = 60.0


class Ends:
    """The end of the present wait, so many seconds from now."""

    def __init__(self, seconds):
        self.at_s = 0.0
        self.move(seconds)

    def move(self, seconds):
        self.at_s = time.monotonic() + seconds

    def __call__(self):
        return self.at_s


async def done(value, waits=0):
    for _ in range(waits):
        await asyncio.sleep(0)
    return value


@pytest.mark.parametrize("waits", [0, 1, 3])
def test_a_step_in_time_gives_its_value_and_leaves_no_timer(waits):
    async def go():
        alarm = Alarm(Ends(LONG_S))
        values = [await alarm.wait(done(number, waits)) for number in range(3)]
        alarm.close()
        return values, [timer for timer in asyncio.get_running_loop()._scheduled if not timer.cancelled()]

    assert asyncio.run(go()) == ([0, 1, 2], [])


def test_a_step_that_takes_too_long_is_cancelled_and_the_task_lives_on():
    cancelled = []

    async def endless():
        try:
            await asyncio.sleep(LONG_S)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def go():
        alarm = Alarm(Ends(0.02))
        with pytest.raises(AlarmRang):
            await alarm.wait(endless())
        task = asyncio.current_task()
        await asyncio.sleep(0)
        return task.cancelling()

    assert asyncio.run(go()) == 0
    assert cancelled == [True]


def test_an_end_that_moved_later_is_waited_for_and_one_that_moved_earlier_too():
    async def go():
        ends = Ends(0.02)
        alarm = Alarm(ends)

        async def moved(seconds):
            ends.move(seconds)
            alarm.move()
            await asyncio.sleep(0.1)
            return "in time"

        assert await alarm.wait(moved(LONG_S)) == "in time"
        with pytest.raises(AlarmRang):
            await alarm.wait(moved(0.01))

    asyncio.run(go())


def test_somebody_elses_cancellation_stays_one():
    async def go():
        alarm = Alarm(Ends(LONG_S))
        task = asyncio.ensure_future(alarm.wait(asyncio.sleep(LONG_S)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(go())


def test_a_steps_own_error_comes_through():
    async def fails(waits):
        await done(None, waits)
        raise TimeoutError("its own")

    async def go(waits):
        with pytest.raises(TimeoutError, match="its own"):
            await Alarm(Ends(LONG_S)).wait(fails(waits))

    for waits in (0, 2):
        asyncio.run(go(waits))


def test_care_is_taken_only_before_a_wait():
    taken = []

    async def care():
        await asyncio.sleep(0)
        taken.append(True)

    async def go():
        at_once = await with_care(done("now"), care)
        assert taken == []
        return at_once, await with_care(done("later", 2), care)

    assert asyncio.run(go()) == ("now", "later")
    assert taken == [True]


def test_a_step_sees_why_it_is_not_waited_for():
    seen = []

    async def step():
        try:
            await asyncio.sleep(LONG_S)
        except ConnectionError as error:
            await asyncio.sleep(0)  # it may still wait, to give back what it holds
            seen.append(str(error))
            raise

    async def care():
        raise ConnectionError("nobody listens")

    with pytest.raises(ConnectionError, match="nobody listens"):
        asyncio.run(with_care(step(), care))
    assert seen == ["nobody listens"]
