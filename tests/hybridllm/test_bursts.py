"""Pieces that come at once are passed on at once, and mean what they mean one by one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from hybridllm import AsyncHybridClient
from hybridllm.backends.base import Backend, Burst, ContentDelta, Finished
from hybridllm.errors import EngineError, RemoteError, StreamInterrupted
from hybridllm.types.completion_usage import CompletionUsage
from tests.hybridllm.loopback import DONE, chunk, stream
from tests.hybridllm.remote_harness import Asker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from hybridllm.backends.base import BackendCall, BackendEvent

QUESTION = [{"role": "user", "content": "When do you open?"}]
WORDS = ("At ", "nine ", "on ", "Sundays.")
BURST = Burst(tuple(ContentDelta(text=word) for word in WORDS))
END_OF_FOUR = Finished("stop", CompletionUsage(prompt_tokens=3, completion_tokens=4, total_tokens=7))


class Bursting(Backend):
    """Yields what it is told, and fails where that is an error."""

    def __init__(self, *events: BackendEvent | EngineError) -> None:
        self.events = events

    async def stream(self, call: BackendCall) -> AsyncGenerator[BackendEvent, None]:
        del call
        for event in self.events:
            if isinstance(event, EngineError):
                raise event
            yield event


def client_of(*events: BackendEvent | EngineError) -> AsyncHybridClient:
    return AsyncHybridClient(local=Bursting(*events))


def test_what_came_in_one_read_is_one_event_and_the_end_stands_alone(serve: object) -> None:
    async def events_of(asker: Asker) -> Sequence[BackendEvent]:
        return [event async for event in asker.backend.stream(asker.call())]

    whole = b"".join(map(chunk, WORDS)) + chunk(finish="stop") + DONE
    with Asker(serve(stream(whole))) as asker:  # type: ignore[operator]  # a fixture
        burst, end = asker.runner.run(events_of(asker))
    assert isinstance(burst, Burst)
    assert [piece.text for piece in burst.pieces] == list(WORDS)
    assert isinstance(end, Finished)


def test_an_error_comes_after_the_pieces_that_stand_before_it(serve: object) -> None:
    texts: list[str] = []

    async def read(asker: Asker) -> None:
        async for event in asker.backend.stream(asker.call()):
            assert isinstance(event, Burst)
            texts.extend(piece.text for piece in event.pieces)

    broken = b"".join(map(chunk, WORDS)) + b"data: nonsense\n\n"
    with Asker(serve(stream(broken))) as asker, pytest.raises(RemoteError, match="not JSON"):  # type: ignore[operator]
        asker.runner.run(read(asker))
    assert texts == list(WORDS)


def test_a_stream_gives_a_chunk_for_each_piece() -> None:
    async def go() -> None:
        async with client_of(BURST, END_OF_FOUR) as client:
            opened = await client.chat.completions.create(messages=QUESTION, stream=True)
            chunks = [one async for one in opened]
            final = await opened.get_final_completion()
        assert [one.choices[0].delta.content for one in chunks] == [*WORDS, None]
        assert [one.choices[0].delta.role for one in chunks] == ["assistant", None, None, None, None]
        assert chunks[-1].choices[0].finish_reason == "stop"
        assert final.choices[0].message.content == "".join(WORDS)
        (attempt,) = final.route.attempts
        assert attempt.usage is not None
        assert attempt.usage.completion_tokens == len(WORDS)

    asyncio.run(go())


def test_a_whole_answer_has_all_of_them() -> None:
    async def go() -> None:
        async with client_of(BURST, BURST, END_OF_FOUR) as client:
            reply = await client.chat.completions.create(messages=QUESTION)
        assert reply.choices[0].message.content == "".join(WORDS) * 2

    asyncio.run(go())


def test_whoever_breaks_off_after_a_burst_has_given_all_of_it() -> None:
    texts: list[str] = []

    async def go() -> None:
        async with client_of(BURST, EngineError("It broke.", "Ask again.")) as client:
            async for one in await client.chat.completions.create(messages=QUESTION, stream=True):
                texts.append(one.choices[0].delta.content)

    with pytest.raises(StreamInterrupted):
        asyncio.run(go())
    assert texts == list(WORDS)


def test_readers_of_one_stream_share_its_pieces() -> None:
    async def go() -> None:
        async with client_of(BURST, BURST, END_OF_FOUR) as client:
            opened = await client.chat.completions.create(messages=QUESTION, stream=True)
            tasks = [asyncio.create_task(anext(opened)) for _ in range(9)]
            got = [(await task).choices[0].delta.content for task in tasks]
            assert await anext(opened, None) is None
        assert sorted(filter(None, got)) == sorted(WORDS * 2)
        assert got.count(None) == 1

    asyncio.run(go())


def test_an_awaitable_that_nobody_waits_for_takes_no_piece_away() -> None:
    async def go() -> None:
        async with client_of(BURST, END_OF_FOUR) as client:
            opened = await client.chat.completions.create(messages=QUESTION, stream=True)
            opened.__anext__().close()
            texts = [one.choices[0].delta.content async for one in opened]
        assert texts == [*WORDS, None]

    asyncio.run(go())


def test_a_closed_stream_gives_nothing_of_a_burst() -> None:
    async def go() -> None:
        async with client_of(BURST, END_OF_FOUR) as client:
            opened = await client.chat.completions.create(messages=QUESTION, stream=True)
            first = await anext(opened)
            await opened.close()
            assert first.choices[0].delta.content == WORDS[0]
            assert [one async for one in opened] == []

    asyncio.run(go())


def test_a_burst_shows_no_content() -> None:
    assert "Sundays" not in repr(BURST)
