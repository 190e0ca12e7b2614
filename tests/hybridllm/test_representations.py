"""Representations show how long content is, and never what it says; what is sent and stored is unchanged."""

import dataclasses
import pprint
import typing

import pytest
from rich.pretty import pretty_repr

import hybridllm.types
from hybridllm.answer import Answer, AnswerSoFar
from hybridllm.backends.base import BackendCall, ContentDelta, Finished
from hybridllm.cli.conversation import Conversation
from hybridllm.testing import ScriptedBackend, ScriptedCall, ScriptedReply
from hybridllm.types import (
    Attempt,
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionMessage,
    ChatRequest,
    Choice,
    ChoiceDelta,
    ChunkChoice,
    FunctionCall,
    Route,
    TokenLogprob,
    ToolCall,
    UserMessageParam,
)
from hybridllm.types.model import Model
from local_runtime import events, options, protocol, sequence
from local_runtime.scheduler import DecodeStep, PrefillStep
from tests.hybridllm.leaks import MARK, content

# What is no content: names that a program or an operator gave, and sentences of ours.
SHOWN = {
    "privacy": "privacy",
    "id": "req-1",
    "model": "m",
    **dict.fromkeys(
        (
            "place",
            "error",
            "error_type",
            "from_place",
            "to_place",
            "served_by",
            "rule",
            "rule_location",
            "reason",
            "label",
            "policy",
            "policy_hash",
        ),
        "x",
    ),
}
MODELS = [
    found
    for name in hybridllm.types.__all__
    if isinstance(found := getattr(hybridllm.types, name), type) and issubclass(found, Model)
]


def holds_text(annotation):
    if annotation is str:
        return True
    if typing.get_origin(annotation) is typing.Literal:
        return False
    return any(map(holds_text, typing.get_args(annotation)))


def shown(value):
    return "\n".join([repr(value), str(value), f"{value}", pretty_repr(value), pprint.pformat(value)])


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_field_that_may_hold_text_is_hidden_or_known_to_hold_no_content(model):
    for name, field in model.model_fields.items():
        if holds_text(field.annotation):
            assert MARK not in shown(model.model_construct(**{name: SHOWN.get(name, content(name))})), name


def test_a_message_shows_its_length_and_its_label():
    message = UserMessageParam(role="user", content="When do you open today?", privacy="private")
    assert repr(message) == "UserMessageParam(content=<23 characters>, name=None, privacy='private', role='user')"
    assert repr(ContentDelta("ü")) == (
        "ContentDelta(text=<1 character>, refusal=<0 characters>, tokens=1, reasoning=<0 characters>, tool_calls=<0 items>, "
        "logprobs=<0 items>, choice=0)"
    )


def test_whole_requests_and_answers():
    request = ChatRequest.parse(
        [
            {"role": "system", "content": content("system")},
            {"role": "user", "content": [{"type": "text", "text": content("part")}], "name": content("name")},
            {"role": "assistant", "content": content("said"), "refusal": content("refusal")},
        ],
        stop=[content("stop")],
        user=content("user"),
    )
    route = Route(
        served_by="local", rule="r", rule_location="f:1", reason="x", label="l", policy="p", policy_hash="h",
        attempts=[Attempt(place="local", outcome="served", started_s=0.0)],
    )  # fmt: skip
    call = ToolCall(id=content("id"), function=FunctionCall(name=content("tool"), arguments=content("arguments")))
    message = ChatCompletionMessage(
        content=content("answer"), refusal=content("refusal"), reasoning_content=content("thought"), tool_calls=[call]
    )
    answer = ChatCompletion(
        id="i", created=1, model="m", choices=[Choice(message=message, finish_reason="stop")], route=route
    )
    delta = ChoiceDelta(content=content("piece"), refusal=content("refusal"))
    piece = ChatCompletionChunk(id="i", created=1, model="m", choices=[ChunkChoice(delta=delta)])
    for value in (request, answer, piece, [request], {"answer": answer}, (message, delta)):
        assert MARK not in shown(value)
    assert request.model_dump_json().count(MARK) == 7
    assert answer.model_dump_json().count(MARK) == 6
    assert piece.model_dump()["choices"][0]["delta"]["content"] == content("piece")
    assert ChatRequest.model_validate_json(request.model_dump_json()) == request
    assert request.remote_body("m").count(MARK.encode()) == 7


TOKEN = TokenLogprob(token=content("token"), logprob=-0.5, bytes=list(content("token").encode()))
SO_FAR = AnswerSoFar()
SO_FAR.add(ContentDelta(text=content("text"), reasoning=content("thought"), logprobs=[TOKEN]))
TOKENS = [4711471147, 4712471247]
MESSAGES = [{"role": "user", "content": content("user")}]
GENERATE = options.GenerateRequest(
    messages=MESSAGES, stop=(content("stop"),), chat_template_kwargs={content("key"): content("value")},
    raw_token_ids=TOKENS,
)  # fmt: skip
SEQUENCE = sequence.Sequence(1, list(TOKENS), 5)


@pytest.mark.parametrize(
    "value",
    [
        ContentDelta(
            text=content("text"),
            refusal=content("refusal"),
            reasoning=content("thought"),
            tool_calls=[events.ToolCallDelta(0, name=content("tool"), arguments=content("arguments"))],
            logprobs=[TOKEN],
        ),
        Finished("stop", prompt_logprobs=[TOKEN]),
        ScriptedReply(
            reasoning=content("thought"), tool_calls=[ScriptedCall(content("tool"), {"k": content("v")}, content("id"))]
        ),
        ScriptedCall(content("tool"), {"k": content("v")}, content("id")),
        Answer(SO_FAR, Finished("stop")),
        SO_FAR.first,
        BackendCall(request=ChatRequest.parse(MESSAGES), request_id="r"),
        ScriptedReply(content("text"), error=RuntimeError(content("error"))),
        ScriptedBackend([content("reply")]),
        Conversation(system=content("system"), messages=MESSAGES),
        GENERATE,
        protocol.Generate(1, GENERATE),
        protocol.CountPromptTokens(1, MESSAGES, {"k": content("value")}),
        protocol.DeltaReply(1, content("text"), 1),
        events.TextDelta(content("text"), 1),
        SEQUENCE,
        PrefillStep(SEQUENCE, 0, 2),
        DecodeStep((SEQUENCE,)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_on_their_way(value):
    said = shown(value)
    assert MARK not in said
    assert not any(str(token) in said for token in TOKENS)
    assert type(value).__name__ in said


@pytest.mark.parametrize("module", [events, options, protocol, sequence])
def test_every_text_and_every_list_of_the_engines_values_is_hidden_or_known_to_hold_no_content(module):
    known = {
        "LoadOptions", "ModelInfo", "Progress", "SamplingOptions", "EngineStats",  # about the model
        "Finished", "FinishedReply", "FailedReply.code", "FailedReply.message", "FailedReply.mend",  # our own words
        "SaveState.path", "RestoreState.path", "GenerateRequest.tool_choice",  # a program's own, and one of three words
    }  # fmt: skip
    for cls in vars(module).values():
        if not dataclasses.is_dataclass(cls) or cls.__name__ in known:
            continue
        for field in dataclasses.fields(cls):
            may_hold_content = any(word in str(field.type) for word in ("str", "list", "dict", "tuple", "bytes", "Any"))
            if may_hold_content and f"{cls.__name__}.{field.name}" not in known:
                assert field.metadata.get("content"), (cls, field.name)
                assert "shown" in cls.__repr__.__qualname__, cls


def test_equality_hashes_and_the_wire_do_not_change():
    assert protocol.decode_command(protocol.encode(protocol.Generate(1, GENERATE))) == protocol.Generate(1, GENERATE)
    assert ContentDelta("a") == ContentDelta("a")
    assert len({ContentDelta("a"), ContentDelta("a"), ContentDelta("b")}) == 2
