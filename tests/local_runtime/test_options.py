from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from local_runtime.errors import InvalidRequestError
from local_runtime.options import GenerateRequest, LoadOptions, SamplingOptions

if TYPE_CHECKING:
    from collections.abc import Callable

MESSAGES: list[dict[str, Any]] = [{"role": "user", "content": "When do you open?"}]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"model": ""}, "model"),
        ({"model": "m", "quant": "q5"}, "quant"),
        ({"model": "m", "target": ""}, "target"),
        ({"model": "m", "threads": 0}, "threads"),
        ({"model": "m", "threads": True}, "threads"),
        ({"model": "m", "context_tokens": 1}, "context_tokens"),
        ({"model": "m", "context_tokens": "4k"}, "context_tokens"),
        ({"model": "m", "max_sequences": 0}, "max_sequences"),
        ({"model": "m", "max_sequences": 65}, "max_sequences"),
        ({"model": "m", "cache_dir": ""}, "cache_dir"),
    ],
)
def test_a_wrong_load_option_is_named(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        LoadOptions(**fields)
    assert caught.value.message.startswith(f"{named} is ")
    assert caught.value.mend


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("temperature", [None, 0, 0.0, 2.5], [-0.1, math.nan, math.inf, "1", True]),
        ("top_p", [1, 0.01], [0, 1.01, -1]),
        ("top_k", [0, 1, 100], [-1, 1.5]),
        ("min_p", [0, 1], [-0.1, 1.1]),
        ("repetition_penalty", [0.5, 1.3], [0, -1]),
        ("frequency_penalty", [-2, 2], [-2.1, 2.1]),
        ("presence_penalty", [-2, 2], [-2.1, 2.1]),
        ("seed", [None, 0, -(2**63), 2**64 - 1], [2**64, 0.5, True]),
    ],
)
def test_sampling_options_are_checked_one_by_one(name: str, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert getattr(SamplingOptions(**{name: value}), name) == value
    for value in bad:
        with pytest.raises(InvalidRequestError, match=f"^{name} is "):
            SamplingOptions(**{name: value})


@pytest.mark.parametrize(
    ("messages", "named"),
    [
        ([], "messages must be a list"),
        ("hello", "messages must be a list"),
        (["hello"], r"messages\[0\] is a str"),
        ([*MESSAGES, {"content": "x"}], r"messages\[1\]\.role"),
        ([{"role": "user"}], r"messages\[0\]\.content is a NoneType"),
        ([{"role": "user", "content": 3}], r"messages\[0\]\.content is a int"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], r"messages\[0\]\.content\[0\] is not a text part"),
        ([{"role": "user", "content": [{"type": "text"}]}], r"messages\[0\]\.content\[0\] is not a text part"),
    ],
)
def test_a_message_of_the_wrong_shape_is_named_by_its_place(messages: Any, named: str) -> None:
    with pytest.raises(InvalidRequestError, match=named):
        GenerateRequest(messages=messages)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.0}, "max_tokens"),
        ({"stop": ["a"]}, "stop"),
        ({"stop": ("",)}, "stop"),
        ({"stop": "a"}, "stop"),
        ({"chat_template_kwargs": {1: 2}}, "chat_template_kwargs"),
        ({"raw_token_ids": []}, "raw_token_ids"),
        ({"raw_token_ids": [-1]}, "raw_token_ids"),
        ({"raw_token_ids": (1,)}, "raw_token_ids"),
        ({"sampling": {"temperature": 1}}, "sampling"),
        ({"ignore_eos": 1}, "ignore_eos"),
    ],
)
def test_a_wrong_field_of_a_request_is_named(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"^{named} is "):
        GenerateRequest(messages=MESSAGES, **fields)


def test_errors_do_not_quote_what_a_user_may_have_written() -> None:
    secret = "my card number is 4111 1111 1111 1111, and there is a lot more of this"
    builds: tuple[Callable[[], GenerateRequest], ...] = (
        lambda: GenerateRequest(messages=MESSAGES, stop=[secret]),  # type: ignore[arg-type]
        lambda: GenerateRequest(messages=MESSAGES, stop=secret),  # type: ignore[arg-type]
        lambda: GenerateRequest(messages=secret),  # type: ignore[arg-type]
        lambda: GenerateRequest(messages=[{"role": "user", "content": {"text": secret}}]),
        lambda: GenerateRequest(messages=MESSAGES, chat_template_kwargs=[secret]),  # type: ignore[arg-type]
    )
    for build in builds:
        with pytest.raises(InvalidRequestError) as caught:
            build()
        assert "4111" not in str(caught.value)


def test_raw_token_ids_stand_in_for_messages() -> None:
    request = GenerateRequest(raw_token_ids=[1, 2, 3])
    assert request.messages == []


def test_values_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SamplingOptions().temperature = 0.5  # type: ignore[misc]


def test_the_client_half_loads_neither_numpy_nor_tvm_nor_psutil() -> None:
    program = (
        "import sys, local_runtime.client, local_runtime.protocol, local_runtime.options\n"
        "print([name for name in ('numpy', 'tvm', 'tvm_ffi', 'tokenizers', 'psutil', 'pydantic', 'jinja2')"
        " if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
