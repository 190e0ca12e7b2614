"""What fuzzing has found once stays mended, and the largest inputs take bounded time."""

import json
import time

import pytest

from hybridllm.errors import BadRequest
from hybridllm.types.chat_request import ChatRequest
from policies import FactError, Facts, PolicyFileError, parse_policy
from policies.yaml_document import read_document
from tests.fuzz.registry import TARGETS
from tests.fuzz.wire_targets import check_sse

HUGE = 10**400
TOO_LONG_TO_WRITE = 10**5000
SAID = [{"role": "user", "content": "x"}]
A_POLICY = (
    "version: 1\nname: n\nlabels: {order: [a, b], unlabeled: b}\nzones: {}\ndefault: [local]\n"
    "rules:\n  - {name: r, when: {tags: {contains: %s}}, route: [local]}\n"
)

# Seconds of processor time that no input may reach; what is measured is a tenth of it to a third.
SLOWEST_S = 8.0
LARGEST = 1 << 20


@pytest.mark.parametrize("escape", [r"\0", r"\ud800", r"\udfff"])
def test_an_escape_that_no_hash_or_file_name_can_carry(escape):
    assert parse_policy(A_POLICY % '"x"').hash
    with pytest.raises(PolicyFileError, match=r"<policy>:7:.*half of a character"):
        parse_policy(A_POLICY % f'"x{escape}"')


@pytest.mark.parametrize("key", ["model", "policy", "cache_dir"])
def test_a_zero_byte_in_a_path_of_the_configuration(key):
    TARGETS["config"].run(f'{key}: "~\\0/y"\n'.encode())


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        ({"local_prompt_tokens": HUGE}, "local_prompt_tokens"),
        ({TOO_LONG_TO_WRITE: 1}, "a int is not a fact"),
        ({"places": [{TOO_LONG_TO_WRITE: 1}]}, "places.0. has an unknown field a int"),
        ({"max_tokens": -TOO_LONG_TO_WRITE}, "max_tokens"),
        ({"places": [{"name": "local", "zone": "device", "context_tokens": HUGE}]}, "context_tokens"),
    ],
)
def test_numbers_of_hundreds_of_digits_are_no_facts(facts, what):
    with pytest.raises(FactError, match=what):
        Facts.from_dict(facts)
    TARGETS["decision"].run(b"\n%%\n" + json.dumps({"local_prompt_tokens": HUGE}).encode())


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "top_k", "seed"])
def test_numbers_that_no_body_can_carry(name):
    with pytest.raises(BadRequest, match=f"^{name} should be less than"):
        ChatRequest.parse(SAID, **{name: TOO_LONG_TO_WRITE})


@pytest.mark.parametrize("name", ["cls", "self", "messages"])
def test_fields_that_are_called_like_our_own_parameters(name):
    with pytest.raises(BadRequest, match=f"^{name} is not a field of a chat request"):
        ChatRequest.parse(SAID, **{name: 1})


@pytest.mark.parametrize(
    "key",
    ["what a user wrote", "a\nb", "x" * 200, TOO_LONG_TO_WRITE, None],
    ids=["words", "two lines", "long", "number", "none"],
)
def test_a_key_that_is_content_is_not_shown(key):
    given = [
        ([{**SAID[0], key: 1}], {}),
        ([{"role": "user", "content": [{"type": "text", "text": "x", key: 1}]}], {}),
        (SAID, {"stream": True, "stream_options": {key: 1}}),
    ]
    if isinstance(key, str):
        given.append((SAID, {key: 1}))
    for messages, fields in given:
        with pytest.raises(BadRequest) as raised:
            ChatRequest.parse(messages, **fields)
        assert "<key>" in str(raised.value)
        assert "<key>" in raised.value.field
        assert str(raised.value).isprintable()


@pytest.mark.parametrize("missing", ["system", "privacy", "kept_local"])
def test_a_saved_conversation_that_lacks_something(missing):
    record = {
        "hybridllm_conversation": 1,
        "system": None,
        "privacy": None,
        "tags": [],
        "kept_local": True,
        "messages": [],
    }
    del record[missing]
    TARGETS["conversation"].run(json.dumps(record).encode())


LARGE = {
    "values": "[" + "a," * (LARGEST // 2 - 1) + "]",
    "keys": "".join(f"k{index}: 1\n" for index in range(LARGEST // 12)),
    "nested": "[" * LARGEST,
    "one text": '"' + "x\n" * (LARGEST // 2 - 1) + '"',
    "comment": "#" * LARGEST,
    "lists": "- " * (LARGEST // 2),
}


@pytest.mark.parametrize(
    "shape", [pytest.param(shape, marks=() if shape == "values" else pytest.mark.slow) for shape in LARGE]
)
def test_the_largest_file_takes_bounded_time(shape):
    text = LARGE[shape]
    assert len(text) <= LARGEST
    began_s = time.process_time()
    with pytest.raises(PolicyFileError) as raised:
        parse_policy(text)
    assert time.process_time() - began_s < SLOWEST_S
    assert len(str(raised.value)) < 300
    with pytest.raises(PolicyFileError, match="longer than 1 MiB"):
        read_document(text + " " * (LARGEST + 1 - len(text)), "f")


def test_a_line_that_arrives_byte_by_byte_costs_no_more_than_its_length():
    began_s = time.process_time()
    check_sse(b"\0" * 8 + b"data: " + b"x" * (1 << 17))
    assert time.process_time() - began_s < SLOWEST_S
