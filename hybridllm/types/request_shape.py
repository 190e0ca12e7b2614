"""Checks the fields of a request that have a shape of their own, and what some of them ask of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hybridllm.errors import BadRequest
from hybridllm.types.shape import field_name, items_of, mapping_of, plain_json, shown, well_formed

if TYPE_CHECKING:
    from hybridllm.types.chat_request import ChatRequest

__all__ = [
    "check_together",
    "parse_chat_template_kwargs",
    "parse_logit_bias",
    "parse_metadata",
    "parse_stop",
    "parse_stop_token_ids",
]

_MOST_STOPS = 16
_LARGEST_TOKEN_ID = 2**31 - 1
_MOST_BIASES = 1024
_MOST_BIAS = 100.0
# OpenAI's limits of metadata.
_MOST_PAIRS, _LONGEST_KEY, _LONGEST_VALUE = 16, 64, 512
# Where our own server reads them, and where somebody could think that they are read here too.
_NO_METADATA = ("privacy", "tags", "deadline_s")
# What the engine and servers give a template by themselves.
_TEMPLATES_OWN = (
    "messages", "tools", "documents", "add_generation_prompt", "continue_final_message", "bos_token", "eos_token", "unk_token",
    "pad_token",
)  # fmt: skip


def parse_stop(stop: object) -> list[str]:
    """Check ``stop``: a text or up to 16.

    Raises:
        BadRequest: It is neither.
    """
    texts = [stop] if isinstance(stop, str) else stop
    if not isinstance(texts, Sequence) or isinstance(texts, (bytes, Mapping)):
        raise BadRequest(f"stop is a {type(stop).__name__}, expected text or a list of texts.", field="stop")
    if len(texts) > _MOST_STOPS:
        raise BadRequest(f"stop has {len(texts)} texts, and at most {_MOST_STOPS} are supported.", field="stop")
    for index, text in enumerate(texts):
        if not isinstance(text, str) or not text:
            mend = "Give token ids as stop_token_ids." if _is_token_id(text) else ""
            raise BadRequest(f"stop[{index}] is not a text of at least one character.", mend, field=f"stop[{index}]")
        well_formed(text, f"stop[{index}]")
    return list(texts)


def parse_stop_token_ids(ids: object) -> list[int]:
    """Check ``stop_token_ids``.

    Raises:
        BadRequest: They are no list of up to 16 token ids.
    """
    given = items_of(ids, "stop_token_ids", "a list of token ids", most=_MOST_STOPS)
    for index, token in enumerate(given):
        if not _is_token_id(token):
            field = f"stop_token_ids[{index}]"
            raise BadRequest(
                f"{field} is {shown(token)} and no token id.", "Give whole numbers from 0 up.", field=field
            )
    return list(given)


def parse_logit_bias(biases: object) -> dict[str, float]:
    """Check ``logit_bias``; ids may be whole numbers or their digits.

    Raises:
        BadRequest: It is no mapping from token ids to numbers from -100 to 100.
    """
    if not isinstance(biases, Mapping):
        raise BadRequest(
            f"logit_bias is {shown(biases)}, expected a mapping from token ids to numbers.", field="logit_bias"
        )
    if not biases or len(biases) > _MOST_BIASES:
        raise BadRequest(
            f"logit_bias has {len(biases)} token ids, and 1 to {_MOST_BIASES} are possible.", field="logit_bias"
        )
    checked: dict[str, float] = {}
    for token, bias in biases.items():
        digits = isinstance(token, str) and token.isascii() and token.isdecimal() and len(token) <= 10
        number = int(token) if digits else token
        if not _is_token_id(number):
            raise BadRequest(
                f"logit_bias has a key that is {shown(token)} and no token id.",
                "Use the ids of the model's own vocabulary.",
                field="logit_bias",
            )
        if not isinstance(bias, int | float) or isinstance(bias, bool) or not -_MOST_BIAS <= bias <= _MOST_BIAS:
            raise BadRequest(f"logit_bias.{number} is not a number from -100 to 100.", field=f"logit_bias.{number}")
        checked[str(number)] = float(bias)
    return checked


def parse_chat_template_kwargs(variables: object) -> dict[str, Any]:
    """Check ``chat_template_kwargs``.

    Raises:
        BadRequest: They are no mapping from names to JSON values, or take a name that the template has already.
    """
    where = "chat_template_kwargs"
    if not isinstance(variables, Mapping):
        raise BadRequest(f"{where} is {shown(variables)}, expected a mapping from names to values.", field=where)
    if not variables:
        raise BadRequest(f"{where} is empty.", "Leave it out.", field=where)
    copied = plain_json(variables, where)
    for name in copied:
        if not name.isidentifier():
            raise BadRequest(f"{where} has a key that is no name of a variable.", field=where)
        if name in _TEMPLATES_OWN:
            raise BadRequest(
                f"{where}.{name} is given to the template already.", "Leave it out.", field=f"{where}.{name}"
            )
    assert isinstance(copied, dict)
    return copied


def parse_metadata(metadata: object) -> dict[str, str]:
    """Check ``metadata``, as OpenAI limits it.

    Raises:
        BadRequest: It is no mapping of up to 16 keys of at most 64 characters to texts of at most 512.
    """
    if not isinstance(metadata, Mapping):
        raise BadRequest(f"metadata is {shown(metadata)}, expected a mapping from texts to texts.", field="metadata")
    if not metadata or len(metadata) > _MOST_PAIRS:
        raise BadRequest(f"metadata has {len(metadata)} keys, and 1 to {_MOST_PAIRS} are possible.", field="metadata")
    checked = {}
    for key, value in metadata.items():
        if not isinstance(key, str) or not 0 < len(key) <= _LONGEST_KEY:
            raise BadRequest(f"metadata has a key that is no text of 1 to {_LONGEST_KEY} characters.", field="metadata")
        well_formed(key, "metadata")
        where = f"metadata.{field_name(key)}"
        if key in _NO_METADATA:
            raise BadRequest(
                f"{where} would be passed on and not be read.", f"Give {key} as an argument of its own.", field=where
            )
        if not isinstance(value, str) or len(value) > _LONGEST_VALUE:
            raise BadRequest(f"{where} is not a text of at most {_LONGEST_VALUE} characters.", field=where)
        checked[key] = well_formed(value, where)
    return checked


def parse_stream_options(options: object) -> dict[str, Any]:
    """Check ``stream_options``.

    Raises:
        BadRequest: It has something else than ``include_usage``, or that is no truth value.
    """
    fields = mapping_of(options, "stream_options", "a mapping")
    for name in fields:
        if name != "include_usage":
            field = f"stream_options.{field_name(name)}"
            raise BadRequest(f"{field} is not supported.", "Leave it out.", field=field)
    if not isinstance(fields.get("include_usage", False), bool):
        field = "stream_options.include_usage"
        raise BadRequest(f"{field} should be a valid boolean.", field=field)
    return fields


def check_together(request: ChatRequest) -> None:
    """Check what some fields ask of others.

    Raises:
        BadRequest: The first thing that does not fit.
    """

    def needs(name: str, wanted: str, *, there: bool) -> None:
        if not there:
            raise BadRequest(f"{name} is given without {wanted}.", f"Give {wanted} too, or leave it out.", field=name)

    if request.stream_options is not None:
        needs("stream_options", "stream=True", there=request.stream)
    if request.top_logprobs is not None:
        needs("top_logprobs", "logprobs=True", there=bool(request.logprobs))
    if request.parallel_tool_calls is not None:
        needs("parallel_tool_calls", "tools", there=bool(request.tools))
    if request.max_tokens and request.max_completion_tokens:
        raise BadRequest(
            "max_tokens and max_completion_tokens are both given.", "Give one of them.", field="max_tokens"
        )
    if request.min_tokens and request.token_limit and request.min_tokens > request.token_limit:
        raise BadRequest(
            "min_tokens is more than the most tokens to generate.", "Lower it, or raise max_tokens.", field="min_tokens"
        )
    if request.grammar is not None:
        if request.response_format is not None:
            raise BadRequest(
                "grammar and response_format both say what the answer must be.", "Give one of them.", field="grammar"
            )
        if request.must_call:
            raise BadRequest(
                "grammar and tool_choice both say what the answer must be.", "Give one of them.", field="grammar"
            )


def _is_token_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST_TOKEN_ID
