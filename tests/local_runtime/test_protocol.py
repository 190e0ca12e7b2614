from __future__ import annotations

import contextlib
import io
import json
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_runtime import errors
from local_runtime.errors import InvalidRequestError, LocalRuntimeError, ProtocolError
from local_runtime.events import EngineStats, Timings, Usage
from local_runtime.options import GenerateRequest, LoadOptions, ModelInfo, Progress, SamplingOptions
from local_runtime.protocol import (
    MAX_FRAME_BYTES,
    PROTOCOL_VERSION,
    Cancel,
    Command,
    CountPromptTokens,
    DeltaReply,
    FailedReply,
    FinishedReply,
    Generate,
    Hello,
    HelloReply,
    Load,
    ProgressReply,
    PromptTokensReply,
    ReadyReply,
    Reply,
    Shutdown,
    Stats,
    StatsReply,
    check_version,
    decode_command,
    decode_reply,
    encode,
    read_frame,
    write_frame,
)

REQUEST = GenerateRequest(
    messages=[{"role": "user", "content": [{"type": "text", "text": "tschüss 🙂"}]}],
    sampling=SamplingOptions(temperature=0, top_k=5, seed=2**64 - 1),
    max_tokens=7,
    stop=("\n", "Ende"),
    chat_template_kwargs={"think": False, "deep": [1, {"a": None}]},
)
COMMANDS: list[Command] = [
    Hello(),
    Load(1, LoadOptions("m", quant="q4", threads=2, cache_dir="c")),
    Generate(2, REQUEST),
    Generate(3, GenerateRequest(raw_token_ids=[0, 5], ignore_eos=True)),
    Cancel(2),
    Stats(4),
    CountPromptTokens(5, [{"role": "user", "content": "x"}], {"a": 1}),
    Shutdown(),
]
INFO = ModelInfo("n", "/p", "llama", "q4", "t", "cpu", 512, 1000, 12345, 1.5, 2.0, 0.25, True)
REPLIES: list[Reply] = [
    HelloReply(1, 42),
    ProgressReply(1, Progress("convert", 0.5, "embed")),
    ProgressReply(1, Progress("resolve")),
    ReadyReply(1, INFO),
    DeltaReply(2, "tschüss 🙂", 3),
    FinishedReply(2, "length", Usage(3, 4, 0), Timings(0.1, 0.2, 0.3, 0.4)),
    FailedReply(2, "checkpoint", "No config.json.", "Give a checkpoint."),
    StatsReply(4, EngineStats("ready", 1, 2, 4, 64, 32, 16, 100.5, 200.0, 7, 70, 700)),
    PromptTokensReply(5, 11),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda message: message.type)
def test_commands_cross_the_pipe_unchanged(command: Command) -> None:
    assert decode_command(encode(command)) == command


@pytest.mark.parametrize("reply", REPLIES, ids=lambda message: message.type)
def test_replies_cross_the_pipe_unchanged(reply: Reply) -> None:
    assert decode_reply(encode(reply)) == reply


@given(st.text(), st.integers(0, 2**31))
def test_any_text_crosses_the_pipe_unchanged(text: str, tokens: int) -> None:
    reply = DeltaReply(1, text, tokens)
    assert decode_reply(encode(reply)) == reply


def test_a_lone_surrogate_crosses_the_pipe() -> None:
    reply = DeltaReply(1, "\ud83d", 1)
    assert decode_reply(encode(reply)) == reply


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_frames_come_out_as_they_went_in(payloads: list[bytes]) -> None:
    stream = io.BytesIO()
    for payload in payloads:
        write_frame(stream, payload)
    stream.seek(0)
    for payload in payloads:
        assert read_frame(stream) == payload
    assert read_frame(stream) is None


@given(st.binary(min_size=1, max_size=50), st.data())
def test_a_cut_frame_is_an_error_and_not_an_end(payload: bytes, data: st.DataObject) -> None:
    whole = struct.pack("<I", len(payload)) + payload
    cut = io.BytesIO(whole[: data.draw(st.integers(1, len(whole) - 1))])
    with pytest.raises(ProtocolError):
        read_frame(cut)


def test_a_length_beyond_the_limit_is_refused_before_memory_is_taken() -> None:
    with pytest.raises(ProtocolError, match=str(MAX_FRAME_BYTES)):
        read_frame(io.BytesIO(struct.pack("<I", MAX_FRAME_BYTES + 1)))
    with pytest.raises(ProtocolError, match="longer than"):
        encode(DeltaReply(1, "x" * MAX_FRAME_BYTES, 1))


def body(message: Command | Reply, **changes: Any) -> bytes:
    content = json.loads(encode(message))
    for name, value in changes.items():
        if value is ...:
            del content[name]
        else:
            content[name] = value
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"type": "cancel", "id": NaN}', "not JSON"),
        (b"[1]", "not a JSON object"),
        (b"{}", "no type"),
        (b'{"type": ["load"]}', "no type"),
        (b'{"type": "format_disk"}', "no type"),
        (b"[" * 100_000, "not JSON"),
        (body(Cancel(1), id=...), "cancel lacks the field 'id'"),
        (body(Cancel(1), id="1"), "cancel.id must be a whole number"),
        (body(Cancel(1), id=True), "cancel.id must be a whole number"),
        (body(Cancel(1), id=1.0), "cancel.id must be a whole number"),
        (body(Cancel(1), force=True), "unknown field 'force'"),
        (body(Hello(), version=None), "hello.version"),
        (body(Load(1, LoadOptions("m")), options={"model": "m", "gpu": 1}), "load.options has an unknown field 'gpu'"),
        (body(Load(1, LoadOptions("m")), options=[]), "load.options must be an object"),
        (body(Load(1, LoadOptions("m")), options={"model": "m", "quant": "q5"}), "load.options.quant must be one of"),
        (body(Generate(1, REQUEST), request={"stop": "a"}), "request.stop must be a list"),
        (body(Generate(1, REQUEST), request={"stop": [1]}), r"request.stop\[0\] must be a string"),
        (body(Generate(1, REQUEST), request={"messages": ["a"]}), r"request.messages\[0\] must be an object"),
    ],
)
def test_whatever_is_not_in_the_protocol_is_refused_by_name(payload: bytes, expected: str) -> None:
    with pytest.raises(ProtocolError, match=expected):
        decode_command(payload)


def test_a_sound_frame_with_a_value_out_of_range_is_the_requests_fault() -> None:
    with pytest.raises(InvalidRequestError, match="max_tokens"):
        decode_command(body(Generate(1, REQUEST), request={"raw_token_ids": [1], "max_tokens": 0}))


@settings(max_examples=300)
@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner), max_leaves=5))
def test_no_value_in_a_frame_raises_anything_but_our_own_errors(value: Any) -> None:
    for message in COMMANDS + REPLIES:
        content = json.loads(encode(message))
        for name in content.keys() - {"type"}:
            payload = json.dumps({**content, name: value}).encode()
            decode = decode_command if message in COMMANDS else decode_reply
            with contextlib.suppress(LocalRuntimeError):
                assert decode(payload).type == message.type


def test_a_value_that_json_lacks_is_refused_when_it_is_sent() -> None:
    request = GenerateRequest(raw_token_ids=[1], chat_template_kwargs={"when": object()})
    with pytest.raises(ProtocolError, match="no form"):
        encode(Generate(1, request))
    with pytest.raises(ProtocolError, match="no form"):
        encode(Generate(1, GenerateRequest(raw_token_ids=[1], chat_template_kwargs={"x": float("nan")})))


def test_versions_must_be_equal() -> None:
    check_version(PROTOCOL_VERSION)
    with pytest.raises(ProtocolError, match="version 999"):
        check_version(999)


def test_every_error_of_the_tree_survives_the_crossing() -> None:
    for name in errors.__all__:
        cls = getattr(errors, name)
        if isinstance(cls, type) and issubclass(cls, LocalRuntimeError):
            reply = decode_reply(encode(FailedReply.of(3, cls("What.", "Mend."))))
            assert isinstance(reply, FailedReply)
            assert type(reply.error()) is cls
            assert (reply.error().message, reply.error().mend) == ("What.", "Mend.")
