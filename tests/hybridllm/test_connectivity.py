"""Connectivity: the state machine against the table in its documentation, and the watch that notices when a remote is back."""

import asyncio
import functools
import itertools

import pytest

import hybridllm.connectivity
import hybridllm.remote_watch
from hybridllm.breaker import CircuitBreaker
from hybridllm.connectivity import Connectivity, Sign
from hybridllm.remote_watch import RemoteWatch
from policies import CONNECTIVITY, Breaker
from tests.hybridllm.loopback import answer
from tests.hybridllm.remote_harness import Asker, Clock

NO_CONNECTION = {Sign.UNREACHABLE, Sign.NOT_CONNECTED}


def table():
    """The table of the module's documentation: state, sign, next state, and how many in a row it takes."""
    lines = [line for line in hybridllm.connectivity.__doc__.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], *lines[2:])]
    signs = rows[0][1:-1]
    for state, *cells in rows[1:]:
        for sign, cell in zip(signs, cells, strict=False):
            following, _, count = (cell or state).partition(" x")
            yield state, Sign(sign), following, int(count or 1), cells[-1] or state


TABLE = list(table())
WAY_TO = {
    "unknown": [],
    "online": [Sign.ANSWERED],
    "degraded": [Sign.TROUBLE],
    "captive": [Sign.CAPTIVE],
    "offline": [Sign.UNREACHABLE],
}


@pytest.fixture
def clock():
    return Clock()


def at(state, clock):
    connectivity = Connectivity(clock=clock)
    for sign in WAY_TO[state]:
        connectivity.note(sign)
    assert named(connectivity) == state
    return connectivity


def named(connectivity):
    return connectivity.state or "unknown"


def test_the_table_is_about_every_state_and_sign():
    assert {(state, sign) for state, sign, *_ in TABLE} == set(itertools.product(("unknown", *CONNECTIVITY), Sign))


@pytest.mark.parametrize(("state", "sign", "following", "count", "in_time"), TABLE, ids=lambda cell: str(cell)[:20])
def test_what_follows_a_sign(clock, state, sign, following, count, in_time):
    connectivity = at(state, clock)
    for _ in range(count - 1):
        connectivity.note(sign)
        assert named(connectivity) == state
    connectivity.note(sign)
    assert named(connectivity) == following


@pytest.mark.parametrize(("state", "in_time"), sorted({(row[0], row[4]) for row in TABLE}))
def test_what_follows_in_time(clock, state, in_time):
    connectivity = at(state, clock)
    clock.now_s += 29
    assert named(connectivity) == state
    clock.now_s += 2
    assert named(connectivity) == in_time


def test_every_pair_of_signs_leads_to_a_state_and_never_raises(clock):
    for way in itertools.product(Sign, repeat=3):
        connectivity = Connectivity(clock=clock)
        for sign in way:
            connectivity.note(sign)
        assert connectivity.state in (None, *CONNECTIVITY)
        if way[-1] is Sign.CAPTIVE:
            assert connectivity.state == "captive"


@pytest.mark.parametrize("between", [Sign.CONNECTED, Sign.ANSWERING, Sign.ANSWERED, Sign.TROUBLE])
def test_one_lost_packet_now_and_then_does_not_lead_offline(clock, between):
    connectivity = at("online", clock)
    for _ in range(10):
        connectivity.note(Sign.UNREACHABLE)
        connectivity.note(between)
    assert connectivity.state != "offline"
    connectivity.note(Sign.UNREACHABLE)
    connectivity.note(Sign.NOT_CONNECTED)
    assert connectivity.state == "offline"


def test_one_failed_answer_now_and_then_does_not_degrade(clock):
    connectivity = at("online", clock)
    for _ in range(10):
        connectivity.note(Sign.TROUBLE)
        connectivity.note(Sign.ANSWERING)
        connectivity.note(Sign.ANSWERED)
    assert connectivity.state == "online"
    # A first token is not yet an answer: streams that always break off are trouble.
    for _ in range(2):
        connectivity.note(Sign.ANSWERING)
        connectivity.note(Sign.TROUBLE)
    assert connectivity.state == "degraded"


def test_an_empty_connection_does_not_keep_trouble_alive(clock):
    connectivity = at("captive", clock)
    for _ in range(4):
        clock.now_s += 9
        connectivity.note_probe(True)
    assert connectivity.state is None or connectivity.state == "online"


def test_when_an_empty_connection_before_a_request_is_worth_it(clock):
    connectivity = Connectivity(clock=clock)
    assert connectivity.needs_probe
    connectivity.note_success()
    assert not connectivity.needs_probe
    clock.now_s += 61
    assert connectivity.needs_probe
    connectivity.note_probe(True)
    assert not connectivity.needs_probe
    connectivity.note_unreachable()
    assert (connectivity.state, connectivity.in_doubt, connectivity.needs_probe) == ("degraded", True, True)
    connectivity.note_probe(False)
    assert (connectivity.state, connectivity.in_doubt, connectivity.needs_probe) == ("offline", True, False)
    clock.now_s += 4
    assert connectivity.needs_probe
    connectivity.note_probe(True)
    assert (connectivity.state, connectivity.in_doubt, connectivity.needs_probe) == (None, False, True)


def test_an_operator_who_says_offline_is_believed(clock):
    connectivity = Connectivity(offline=True, clock=clock)
    connectivity.note_success()
    assert (connectivity.state, connectivity.needs_probe, connectivity.in_doubt) == ("offline", False, False)


def test_who_subscribed_is_told_of_changes_and_of_doubt(clock):
    connectivity = Connectivity(clock=clock)
    told = []
    connectivity.subscribe(lambda: told.append((connectivity.state, connectivity.in_doubt)))
    connectivity.note_success()
    connectivity.note_success()
    connectivity.note_unreachable()
    connectivity.note_probe(True)
    connectivity.note_unreachable()
    connectivity.note_unreachable()
    assert told == [("online", False), ("degraded", True), ("degraded", False), ("degraded", True), ("offline", True)]


# ---- the watch ----


class Watched:
    """A watch over a made-up remote, with waits of some milliseconds."""

    def __init__(self, *, up=False, offline=False, idle=True, may_probe=True, **waits):
        self.up, self.is_idle, self.allowed = up, idle, may_probe
        self.probes = 0
        self.probed = asyncio.Event()
        self.connectivity = Connectivity(offline=offline)
        self.breaker = CircuitBreaker(lambda: Breaker(failures=2, open_s=60.0))
        self.watch = RemoteWatch(
            self.probe,
            self.connectivity,
            self.breaker,
            idle=lambda: self.is_idle,
            may_probe=lambda: self.allowed,
            **{"first_wait_s": 0.005, "longest_wait_s": 0.02, **waits},
        )

    async def probe(self, timeout_s):
        assert timeout_s > 0
        self.probes += 1
        self.probed.set()
        return self.up

    async def until(self, condition):
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.002)

    async def __aenter__(self):
        self.watch.start()
        return self

    async def __aexit__(self, *exc_info):
        await self.watch.aclose()


def watching(test):
    """Run an async test in a loop of its own, which has to be empty at the end."""

    @functools.wraps(test)
    def run(**fixtures):
        async def go():
            await test(**fixtures)
            assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []

        asyncio.run(go())

    return run


@watching
async def test_a_remote_that_comes_back_is_noticed_without_a_request():
    async with Watched() as one:
        one.connectivity.note_unreachable()
        await one.until(lambda: one.probes >= 3)
        assert one.connectivity.state == "offline"
        one.up = True
        await one.until(lambda: one.connectivity.state is None)
        probes = one.probes
        await asyncio.sleep(0.06)
        assert one.probes == probes  # reachable, and whether it answers is for a request to find out


@watching
async def test_nothing_is_probed_while_all_is_well_or_nothing_is_known():
    async with Watched() as one:
        await asyncio.sleep(0.03)
        one.connectivity.note_success()
        one.connectivity.note_trouble()
        one.connectivity.note_trouble()
        one.breaker.admit().failed()
        one.breaker.admit().failed()  # open, and a connection would not show whether it is well again
        assert (one.connectivity.state, one.breaker.state) == ("degraded", "open")
        await asyncio.sleep(0.03)
        assert one.probes == 0


@watching
async def test_a_breaker_that_waits_for_a_connection_half_opens_early():
    async with Watched(up=True) as one:
        one.breaker.admit().failed(unreachable=True)
        one.breaker.admit().failed(unreachable=True)
        assert one.breaker.state == "open"
        await one.until(lambda: one.breaker.state == "half_open")
        assert one.connectivity.state == "online"


@watching
async def test_doubt_is_cleared_up_in_both_directions():
    async with Watched(up=True) as one:
        one.connectivity.note_success()
        one.connectivity.note_unreachable()
        await one.until(lambda: not one.connectivity.in_doubt)
        assert one.connectivity.state == "degraded"
        one.up = False
        one.connectivity.note_unreachable()
        await one.until(lambda: one.connectivity.state == "offline")


@pytest.mark.parametrize("why", ["offline", "busy", "not allowed"])
def test_nothing_is_probed_where_it_must_not_be(why):
    async def go():
        arguments = {"offline": {"offline": True}, "busy": {"idle": False}, "not allowed": {"may_probe": False}}[why]
        async with Watched(**arguments) as one:
            one.connectivity.note_unreachable()
            one.breaker.admit().failed(unreachable=True)
            one.breaker.admit().failed(unreachable=True)
            await asyncio.sleep(0.06)
            assert one.probes == 0
            if why == "offline":
                assert len(asyncio.all_tasks()) == 1
            one.is_idle = one.allowed = True
            if why != "offline":
                await asyncio.wait_for(one.probed.wait(), 10)

    asyncio.run(go())


@watching
async def test_it_starts_once_and_ends_for_good():
    one = Watched()
    one.watch.start()
    one.watch.start()
    assert len(asyncio.all_tasks()) == 2
    await one.watch.aclose()
    await one.watch.aclose()
    one.watch.start()
    assert len(asyncio.all_tasks()) == 1
    await Watched().watch.aclose()  # never started


@watching
async def test_the_waits_grow_and_begin_anew_after_real_traffic(monkeypatch):
    waits = []

    async def no_change(event, seconds):
        if seconds is None:
            await event.wait()
            return True
        waits.append(seconds)
        await asyncio.sleep(0)
        return False

    monkeypatch.setattr(hybridllm.remote_watch, "_set_within", no_change)  # the waits themselves would take minutes
    async with Watched(first_wait_s=1.0, longest_wait_s=30.0, chance=lambda: 1.0) as one:
        one.connectivity.note_unreachable()
        await one.until(lambda: len(waits) >= 7)
        assert waits[:7] == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
        one.connectivity.note_success()
        waiting = len(waits)
        await asyncio.sleep(0.01)
        assert len(waits) <= waiting + 1
        del waits[:]
        one.connectivity.note_unreachable()
        await one.until(lambda: len(waits) >= 2)
        assert waits[:2] == [1.0, 2.0]


def test_a_watch_that_is_dropped_ends():
    async def go():
        told = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        one = Watched()
        one.watch.start()
        await asyncio.sleep(0)
        del one.watch
        await one.until(lambda: len(asyncio.all_tasks()) == 1)
        one.connectivity.note_unreachable()
        await asyncio.sleep(0.03)
        assert (one.probes, told) == (0, [])

    asyncio.run(go())


def test_a_server_that_is_down_and_then_back(serve):
    """The real gate and a real server: what is sent meanwhile is nothing, and the next request finds it well."""
    server = serve(answer("Back."))

    async def go(asker):
        watch = RemoteWatch(
            asker.gate.probe,
            asker.connectivity,
            asker.circuit,
            idle=lambda: asker.backend.idle,
            may_probe=lambda: True,
            first_wait_s=0.01,
            longest_wait_s=0.05,
        )
        watch.start()
        try:
            assert (await asker.asked()).text == "Back."
            server.down()
            assert (await asker.asked(others_left=True)).error is not None
            async with asyncio.timeout(10):
                while asker.connectivity.state != "offline":
                    await asyncio.sleep(0.005)
            received = len(server.received)
            server.up()
            async with asyncio.timeout(10):
                while asker.connectivity.state == "offline":
                    await asyncio.sleep(0.005)
            assert len(server.received) == received
            assert (await asker.asked()).text == "Back."
            assert asker.connectivity.state == "online"
        finally:
            await watch.aclose()

    with Asker(server) as asker:
        asker.runner.run(go(asker))
