"""The pieces of an answer as the server writes them: the same as the chunks that a client gets, written as JSON."""

import asyncio
import json
from types import SimpleNamespace

import pytest

from hybridllm.backends.base import ContentDelta, Finished
from hybridllm.server.event_stream import WrittenPieces, written
from hybridllm.streams import AsyncChatStream
from hybridllm.types import Handover
from hybridllm.types.chat_completion_chunk import ChatCompletionChunk
from hybridllm.types.completion_usage import CompletionUsage

USAGE = CompletionUsage(prompt_tokens=1, completion_tokens=2, total_tokens=3)


def run_of(events, models):
    """A run that gives these events, each while this model answers."""

    async def stream():
        for event, run.model in zip(events, models, strict=True):
            yield event

    run = SimpleNamespace(request_id='chatcmpl-"1"', created=1_700_000_000, model=models[0], stream=stream)
    return run


async def pieces_of(kind, events, models):
    stream = await kind(run_of(events, models), include_usage=True).open()
    return [piece async for piece in stream]


@pytest.mark.parametrize(
    "text",
    [
        "Hello",
        'a "quoted" \\ text',
        "two\nlines\r\t\x00\x1f",
        "äöü 中文 \U0001f600",
        "\u2028\u2029",
        "</script>",
        " ",
        "\ufffd",
    ],
)
def test_a_piece_of_text_is_written_as_the_chunk_would_be(text):
    events = [
        ContentDelta(text),
        ContentDelta(text, choice=1),
        ContentDelta(text),
        Handover(kind="continue", from_place="remote", to_place="local", reason="cut"),
        ContentDelta(text),
        Finished("stop", USAGE),
    ]
    models = ["one", "one", "one", 'another "model" ü', 'another "model" ü', 'another "model" ü']
    chunks = asyncio.run(pieces_of(AsyncChatStream, events, models))
    pieces = asyncio.run(pieces_of(WrittenPieces, events, models))
    assert [isinstance(piece, bytes) for piece in pieces] == [True, True, True, False, True, False, False]
    assert [piece if isinstance(piece, bytes) else written(piece) for piece in pieces] == [*map(written, chunks)]
    for piece, chunk in zip(pieces, chunks, strict=True):
        if isinstance(piece, bytes):
            assert ChatCompletionChunk.model_validate_json(piece) == chunk
            assert json.loads(piece)["choices"][0]["finish_reason"] is None
