"""A checked chat request: OpenAI's fields as far as they are supported, plus three sampling fields of our own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from hybridllm.errors import BadRequest
from hybridllm.types.message_param import AssistantMessageParam, MessageParam
from hybridllm.types.message_shape import did_you_mean, field_name, parse_messages, well_formed
from hybridllm.types.model import CONTENT, Model

__all__ = ["EXTENDED_SAMPLING", "ChatRequest", "StreamOptions"]

EXTENDED_SAMPLING = "extended_sampling"
"""Capability that a place needs for ``top_k``, ``min_p`` and ``repetition_penalty``, which OpenAI does not have."""

_EXTENDED = ("top_k", "min_p", "repetition_penalty")
_OPENAI_UNSUPPORTED = frozenset({
    "audio", "extra_body", "extra_headers", "extra_query", "function_call", "functions", "logit_bias", "logprobs",
    "metadata", "modalities", "parallel_tool_calls", "prediction", "prompt_cache_key", "reasoning_effort",
    "response_format", "safety_identifier", "service_tier", "store", "timeout", "tool_choice", "tools", "top_logprobs",
    "verbosity", "web_search_options",
})  # fmt: skip
# What these values ask for is what happens anyway, so that saying so is not an error.
_HARMLESS: dict[str, object] = {"logprobs": False, "store": False, "response_format": {"type": "text"}}
_MENDS = {"timeout": "Use deadline_s.", "metadata": "Use tags and privacy."}


class StreamOptions(Model):
    """Options of a streamed answer."""

    include_usage: bool = False
    """Send one more piece at the end, without choices, that brings the token counts."""


class ChatRequest(Model):
    """What is asked of a place: messages and how to sample. Labels, tags and deadlines are not part of it.

    A sampling field that is None is left to the place: the device takes what the model recommends for itself in its
    ``generation_config.json``, and the neutral value where that says nothing; a remote has defaults of its own.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    messages: list[MessageParam]
    """The conversation so far, oldest first."""

    max_tokens: int | None = Field(None, ge=1, lt=2**31)
    """Most tokens to generate; None for as many as the context holds."""

    max_completion_tokens: int | None = Field(None, ge=1, lt=2**31)
    """OpenAI's newer name for ``max_tokens``; give one of them."""

    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False)
    """0 takes the likeliest token every time; 1 leaves the probabilities as they are. None: what the model recommends."""

    top_p: float | None = Field(None, gt=0, le=1)
    """Sample from the likeliest tokens whose probabilities add up to this; 1 for all. None: what the model recommends."""

    top_k: int | None = Field(None, ge=0, lt=2**31)
    """Sample from this many likeliest tokens; 0 for all. None: what the model recommends.

    Not OpenAI's: a remote must be declared to support it.
    """

    min_p: float | None = Field(None, ge=0, le=1)
    """Drop tokens less likely than this share of the likeliest; 0 for none. None: what the model recommends.

    Not OpenAI's: see ``top_k``.
    """

    repetition_penalty: float | None = Field(None, gt=0, le=10)
    """Above 1 makes tokens that already occurred less likely. None: what the model recommends.

    Not OpenAI's: see ``top_k``.
    """

    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    """Lowers a token's logit by this for every time it was generated."""

    presence_penalty: float | None = Field(None, ge=-2, le=2)
    """Lowers a token's logit by this once it was generated."""

    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    """The same seed, request and place give the same answer; a whole number of 64 bits."""

    stop: Annotated[list[str] | None, CONTENT] = None
    """Texts at which the answer ends; they are not part of it. At most 16."""

    user: Annotated[str | None, CONTENT] = None
    """Your name for the end user; sent to a remote that answers, unused on the device."""

    n: Literal[1] = 1
    """Number of answers; only 1 is supported."""

    stream: bool = False
    """Whether the answer comes piece by piece."""

    stream_options: StreamOptions | None = None
    """Options of a streamed answer; only with ``stream=True``."""

    @classmethod
    def parse(cls, messages: object, /, **fields: Any) -> ChatRequest:
        """Check a caller's arguments.

        Args:
            messages: A list of messages, as mappings or message objects.
            fields: The other fields of this class; None means that a field is not given.

        Raises:
            BadRequest: The first thing that is wrong; its ``field`` names where.
        """
        given = {name: value for name, value in fields.items() if value is not None}
        known = tuple(name for name in cls.model_fields if name != "messages")
        for name, value in list(given.items()):
            if name in known:
                continue
            if name in _HARMLESS and value == _HARMLESS[name]:
                del given[name]
                continue
            if name in _OPENAI_UNSUPPORTED:
                raise BadRequest(f"{name} is not supported.", _MENDS.get(name, "Leave it out."), field=name)
            shown = field_name(name)
            raise BadRequest(
                f"{shown} is not a field of a chat request.", did_you_mean(name, known) or "Leave it out.", field=shown
            )
        if "stop" in given:
            given["stop"] = _parse_stop(given["stop"])
        if isinstance(given.get("user"), str):
            well_formed(given["user"], "user")
        if isinstance(given.get("stream_options"), Mapping):
            given["stream_options"] = _parse_stream_options(given["stream_options"])
        try:
            request = cls(messages=parse_messages(messages), **given)
        except ValidationError as error:
            raise _bad_request(error) from None
        if request.stream_options is not None and not request.stream:
            raise BadRequest("stream_options is given without stream=True.", field="stream_options")
        if request.max_tokens and request.max_completion_tokens:
            raise BadRequest(
                "max_tokens and max_completion_tokens are both given.", "Give one of them.", field="max_tokens"
            )
        return request

    @property
    def token_limit(self) -> int | None:
        """The most tokens to generate, by either name."""
        return self.max_tokens or self.max_completion_tokens

    @property
    def capabilities(self) -> frozenset[str]:
        """What a place must be able to do to serve this."""
        return (
            frozenset({EXTENDED_SAMPLING})
            if any(getattr(self, name) is not None for name in _EXTENDED)
            else frozenset()
        )

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a piece that brings the usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    def texts(self) -> Iterator[tuple[str, str]]:
        """Every text of the request that a place would see, as ``(path, text)``."""
        for index, message in enumerate(self.messages):
            yield f"messages[{index}].content", message.text
            if message.name:
                yield f"messages[{index}].name", message.name
            refusal = getattr(message, "refusal", None)
            if refusal:
                yield f"messages[{index}].refusal", refusal
        for index, text in enumerate(self.stop or ()):
            yield f"stop[{index}]", text
        if self.user:
            yield "user", self.user

    def with_answer_begun(self, text: str) -> ChatRequest:
        """The same request with the beginning of its answer as the last message."""
        begun = AssistantMessageParam(role="assistant", content=text)
        return self.model_copy(update={"messages": [*self.messages, begun]})

    def remote_body(self, model: str, *, continues: bool = False) -> bytes:
        """The exact bytes for an OpenAI-compatible server; labels are ours and are left out.

        A remote is always asked to stream, also for an answer that is wanted whole: the gaps between the pieces show
        within seconds whether it is still alive.

        Args:
            model: The model's name there.
            continues: The last message is the beginning of the answer, and the server is to go on with it, in the words of
                vLLM's and SGLang's servers.
        """
        body: dict[str, Any] = {"model": model}
        body["messages"] = [message.model_dump(exclude={"privacy"}, exclude_none=True) for message in self.messages]
        for index, message in enumerate(self.messages):
            if message.content is None:
                body["messages"][index]["content"] = None
        body |= self.model_dump(exclude={"messages", "n", "stream", "stream_options"}, exclude_none=True)
        if continues:
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
        return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _parse_stop(stop: object) -> list[str]:
    texts = [stop] if isinstance(stop, str) else stop
    if not isinstance(texts, Sequence) or isinstance(texts, (bytes, Mapping)):
        raise BadRequest(f"stop is a {type(stop).__name__}, expected text or a list of texts.", field="stop")
    if len(texts) > 16:
        raise BadRequest(f"stop has {len(texts)} texts, and at most 16 are supported.", field="stop")
    for index, text in enumerate(texts):
        if not isinstance(text, str) or not text:
            raise BadRequest(f"stop[{index}] is not a text of at least one character.", field=f"stop[{index}]")
        well_formed(text, f"stop[{index}]")
    return list(texts)


def _parse_stream_options(options: Mapping[str, Any]) -> StreamOptions:
    for name in options:
        if name not in StreamOptions.model_fields:
            field = f"stream_options.{field_name(name)}"
            raise BadRequest(f"{field} is not supported.", "Leave it out.", field=field)
    if not isinstance(options.get("include_usage", False), bool):
        field = "stream_options.include_usage"
        raise BadRequest(f"{field} should be a valid boolean.", field=field)
    return StreamOptions(**options)


def _bad_request(error: ValidationError) -> BadRequest:
    """The first finding in one sentence, without the value that was passed."""
    first = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    if first["loc"] == ("n",):
        return BadRequest("n is not 1, and only one answer per request is supported.", field="n")
    said = first["msg"].removeprefix("Input should be ").rstrip(".")
    return BadRequest(f"{field} should be {said}.", field=field)
