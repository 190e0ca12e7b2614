"""The connections to a remote: which one is used, how many are kept, and that a place is never lost."""

import asyncio
from contextlib import asynccontextmanager

import httpcore
import pytest

from hybridllm.egress.pool import DirectPool

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"
CLOSING = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nOK"


class Stream:
    """A connection whose other side gives the same answer to every request."""

    def __init__(self, answer):
        self.answer = answer
        self.to_read = b""
        self.requests = 0
        self.closed = False
        self.hung_up = False

    async def read(self, max_bytes, timeout=None):
        if self.answer is None:
            await asyncio.Event().wait()
        data, self.to_read = self.to_read[:max_bytes], self.to_read[max_bytes:]
        return data

    async def write(self, buffer, timeout=None):
        if b"POST " in buffer:
            self.requests += 1
            self.to_read = self.answer or b""

    async def aclose(self):
        self.closed = True

    def get_extra_info(self, info):
        return self.hung_up


class Backend:
    """Makes such connections; ``None`` for one that is silent, an error for one that does not come about."""

    def __init__(self, answer=ANSWER):
        self.answer = answer
        self.streams = []

    async def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None):
        if isinstance(self.answer, Exception):
            raise self.answer
        self.streams.append(Stream(self.answer))
        return self.streams[-1]


def request(pool_s=5.0):
    made = httpcore.Request(
        "POST", "http://10.0.0.7/", headers=[("host", "10.0.0.7"), ("content-length", "0")], content=b""
    )
    made.extensions = {"timeout": {"connect": 5.0, "read": 5.0, "write": 5.0, "pool": pool_s}}
    return made


@asynccontextmanager
async def pool_of(backend, **more):
    pool = DirectPool(backend, None, **{"most": 3, "most_idle": 2, "idle_s": 60.0, **more})
    try:
        yield pool
    finally:
        await pool.aclose()
        assert all(stream.closed for stream in backend.streams)


async def asked(pool, **more):
    response = await pool.handle_async_request(request(**more))
    body = b"".join([piece async for piece in response.stream])
    await response.aclose()
    return body


def test_one_connection_serves_one_request_after_another():
    async def go():
        backend = Backend()
        async with pool_of(backend) as pool:
            assert [await asked(pool) for _ in range(5)] == [b"OK"] * 5
        assert [stream.requests for stream in backend.streams] == [5]

    asyncio.run(go())


def test_the_one_that_was_used_last_is_used_first_and_no_more_are_kept_than_said():
    async def go():
        backend = Backend()
        async with pool_of(backend) as pool:
            responses = [await pool.handle_async_request(request()) for _ in range(3)]
            for response in responses:
                assert b"".join([piece async for piece in response.stream]) == b"OK"
                await response.aclose()
            assert [stream.closed for stream in backend.streams] == [True, False, False]
            await asked(pool)
            assert [stream.requests for stream in backend.streams] == [1, 1, 2]

    asyncio.run(go())


def test_what_has_expired_or_was_hung_up_is_closed_and_not_used():
    async def go():
        backend = Backend()
        async with pool_of(backend, idle_s=0.0) as pool:
            await asked(pool)
            await asyncio.sleep(0.01)
            await asked(pool)
            assert [stream.requests for stream in backend.streams] == [1, 1]
            assert backend.streams[0].closed
        async with pool_of(backend) as pool:
            await asked(pool)
            backend.streams[-1].hung_up = True
            await asked(pool)
            assert backend.streams[-2].closed
            assert backend.streams[-1].requests == 1

    asyncio.run(go())


@pytest.mark.parametrize("answer", [CLOSING, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nOK", b"nonsense\r\n\r\n"])
def test_a_connection_that_cannot_be_used_again_is_not(answer):
    async def go():
        backend = Backend(answer)
        async with pool_of(backend, most=1) as pool:
            for _ in range(4):  # its place is given back each time
                try:
                    await asked(pool, pool_s=0.01)
                except httpcore.RemoteProtocolError:
                    assert answer is not CLOSING
            assert [stream.requests for stream in backend.streams] == [1] * 4
            assert all(stream.closed for stream in backend.streams)

    asyncio.run(go())


def test_an_answer_that_nobody_reads_to_its_end_closes_its_connection():
    async def go():
        backend = Backend()
        async with pool_of(backend, most=1) as pool:
            for _ in range(3):
                response = await pool.handle_async_request(request(0.01))
                await response.aclose()
                await response.aclose()  # a second time changes nothing
            assert len(backend.streams) == 3

    asyncio.run(go())


def test_more_requests_than_may_be_under_way_wait_and_are_told_when_it_takes_too_long():
    async def go():
        backend = Backend()
        async with pool_of(backend, most=1) as pool:
            first = await pool.handle_async_request(request())
            with pytest.raises(httpcore.PoolTimeout):
                await asked(pool, pool_s=0.01)
            waiting = asyncio.create_task(asked(pool))
            await asyncio.sleep(0.01)
            assert not waiting.done()
            await first.aclose()
            assert await waiting == b"OK"

    asyncio.run(go())


def test_no_place_is_lost_where_a_request_fails_or_is_cancelled():
    async def go():
        backend = Backend(httpcore.ConnectError("no"))
        async with pool_of(backend, most=1) as pool:
            for _ in range(3):
                with pytest.raises(httpcore.ConnectError):
                    await asked(pool, pool_s=0.01)
            backend.answer = None  # silent
            for _ in range(3):
                task = asyncio.create_task(asked(pool, pool_s=0.01))
                await asyncio.sleep(0.01)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            backend.answer = ANSWER
            assert await asked(pool, pool_s=0.01) == b"OK"

    asyncio.run(go())


def test_nothing_is_sent_after_everything_was_closed():
    async def go():
        class Slow(Backend):
            async def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None):
                await may_connect.wait()
                return await super().connect_tcp(host, port)

        may_connect = asyncio.Event()
        backend = Slow()
        pool = DirectPool(backend, None, most=1, most_idle=1, idle_s=60.0)
        connecting, waiting = asyncio.create_task(asked(pool)), asyncio.create_task(asked(pool))
        await asyncio.sleep(0.01)
        await pool.aclose()
        may_connect.set()
        for task in (connecting, waiting):
            with pytest.raises(httpcore.ConnectError):
                await task
        assert [stream.requests for stream in backend.streams] == [0]
        assert backend.streams[0].closed

    asyncio.run(go())
