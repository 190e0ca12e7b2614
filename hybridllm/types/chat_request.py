"""A checked chat request: OpenAI's fields as far as they are supported, and fields of our own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import ConfigDict, Field, ValidationError

from hybridllm.capabilities import EXTENDED_SAMPLING
from hybridllm.errors import BadRequest
from hybridllm.types.capability import needed_capabilities
from hybridllm.types.message_param import AssistantMessageParam, MessageParam
from hybridllm.types.message_shape import parse_messages
from hybridllm.types.model import CONTENT, Model
from hybridllm.types.request_body import body_of
from hybridllm.types.request_shape import (
    check_together,
    parse_chat_template_kwargs,
    parse_logit_bias,
    parse_metadata,
    parse_stop,
    parse_stop_token_ids,
    parse_stream_options,
)
from hybridllm.types.request_texts import request_texts
from hybridllm.types.response_format import (
    GrammarParam,
    ResponseFormatJsonSchema,
    ResponseFormatParam,
    ResponseFormatText,
    parse_grammar,
    parse_response_format,
)
from hybridllm.types.shape import did_you_mean, field_name, well_formed
from hybridllm.types.tool_param import NamedToolChoice, ToolChoice, ToolParam
from hybridllm.types.tool_shape import parse_tool_choice, parse_tools

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

__all__ = ["EXTENDED_SAMPLING", "ChatRequest", "StreamOptions"]

_OPENAI_UNSUPPORTED = frozenset({
    "audio", "extra_body", "extra_headers", "extra_query", "function_call", "functions", "modalities", "prediction",
    "prompt_cache_key", "reasoning_effort", "safety_identifier", "service_tier", "store", "timeout", "verbosity",
    "web_search_options",
})  # fmt: skip
# What these values ask for is what happens anyway, so that saying so is not an error.
_HARMLESS: dict[str, object] = {"store": False, "logprobs": False, "min_tokens": 0}
_MENDS = {
    "timeout": "Use deadline_s.",
    "functions": "Use tools.",
    "function_call": "Use tool_choice.",
    "extra_body": "Give its fields as arguments of their own.",
}
_MOST_CHOICES = 16
_MOST_LOGPROBS = 20


class StreamOptions(Model):
    """Options of a streamed answer."""

    include_usage: bool = False
    """Send one more piece at the end, without choices, that brings the token counts."""


class ChatRequest(Model):
    """What is asked of a place: messages, tools, and how to answer. Labels, tags and deadlines are not part of it.

    A sampling field that is None is left to the place: the device takes what the model recommends for itself in its
    ``generation_config.json``, and the neutral value where that says nothing; a remote has defaults of its own.

    Fields that not every place understands are sent only to a place that does: see ``capabilities``.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    messages: list[MessageParam]
    """The conversation so far, oldest first."""

    max_tokens: int | None = Field(None, ge=1, lt=2**31)
    """Most tokens to generate; None for as many as the context holds."""

    max_completion_tokens: int | None = Field(None, ge=1, lt=2**31)
    """OpenAI's newer name for ``max_tokens``; give one of them."""

    min_tokens: int | None = Field(None, ge=1, lt=2**31)
    """Nothing ends the answer before it has so many tokens. Not OpenAI's: see ``top_k``."""

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

    logit_bias: Annotated[dict[str, float] | None, CONTENT] = None
    """Added to the logits of tokens, by token id: -100 forbids a token, 100 all others. Ids are of one model's vocabulary, so let a
    rule send such requests to one place."""

    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    """The same seed, request and place give the same answer; a whole number of 64 bits."""

    stop: Annotated[list[str] | None, CONTENT] = None
    """Texts at which the answer ends; they are not part of it. At most 16."""

    stop_token_ids: Annotated[list[int] | None, CONTENT] = None
    """Tokens at which the answer ends, at most 16; ids as in ``logit_bias``. Not OpenAI's: see ``top_k``."""

    logprobs: bool | None = None
    """Whether to tell the log probability of each token of the answer."""

    top_logprobs: int | None = Field(None, ge=0, le=_MOST_LOGPROBS)
    """How many of the likeliest tokens to tell beside each; only with ``logprobs=True``."""

    prompt_logprobs: int | None = Field(None, ge=0, le=_MOST_LOGPROBS)
    """Tell the log probability of each token of the prompt, and of so many of the likeliest beside it. Not OpenAI's: see ``top_k``."""

    response_format: Annotated[ResponseFormatParam | None, CONTENT] = None
    """What the answer has to be: any JSON object, or JSON that a schema allows."""

    grammar: Annotated[GrammarParam | None, CONTENT] = None
    """A grammar or regular expression that the answer has to match. Not OpenAI's: see ``top_k``."""

    tools: list[ToolParam] | None = None
    """Functions that the model may call; at most 128."""

    tool_choice: Annotated[ToolChoice | None, CONTENT] = None
    """``auto`` lets the model decide whether to call tools, ``none`` forbids it, ``required`` makes it, and a function's name makes it
    call that one. None: ``auto``."""

    parallel_tool_calls: bool | None = None
    """Whether one answer may call several tools. None: it may."""

    chat_template_kwargs: Annotated[dict[str, Any] | None, CONTENT] = None
    """Further variables for the model's chat template, such as ``enable_thinking``. Not OpenAI's: see ``top_k``."""

    metadata: Annotated[dict[str, str] | None, CONTENT] = None
    """Up to 16 pairs that a remote stores beside the request; unused on the device. Labels and tags are arguments of ``create``."""

    user: Annotated[str | None, CONTENT] = None
    """Your name for the end user; sent to a remote that answers, unused on the device."""

    n: int = Field(1, ge=1, le=_MOST_CHOICES)
    """Number of answers, at most 16."""

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
            if name in _HARMLESS and type(value) is type(_HARMLESS[name]) and value == _HARMLESS[name]:
                del given[name]
                continue
            if name in known:
                continue
            if name in _OPENAI_UNSUPPORTED:
                raise BadRequest(f"{name} is not supported.", _MENDS.get(name, "Leave it out."), field=name)
            shown = field_name(name)
            raise BadRequest(
                f"{shown} is not a field of a chat request.", did_you_mean(name, known) or "Leave it out.", field=shown
            )
        for name, parse in _SHAPES.items():
            if name in given:
                given[name] = parse(given[name])
        if isinstance(given.get("user"), str):
            well_formed(given["user"], "user")
        if "tool_choice" in given:
            given["tool_choice"] = parse_tool_choice(given["tool_choice"], given.get("tools", ()))
        try:
            request = cls(messages=parse_messages(messages), **given)
        except ValidationError as error:
            raise _bad_request(error) from None
        check_together(request)
        return request

    @property
    def token_limit(self) -> int | None:
        """The most tokens to generate, by either name."""
        return self.max_tokens or self.max_completion_tokens

    @property
    def must_call(self) -> bool:
        """Whether the answer has to be a call of a tool."""
        return self.tool_choice == "required" or isinstance(self.tool_choice, NamedToolChoice)

    @property
    def capabilities(self) -> frozenset[str]:
        """What a place must be able to do to serve this."""
        return needed_capabilities(self)

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a piece that brings the usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def says_more(self) -> bool:
        """Whether it says something beside messages and tools, which may have labels of their own."""
        given = (
            self.stop, self.user, self.grammar, self.metadata, self.chat_template_kwargs, self.logit_bias, self.stop_token_ids,
        )  # fmt: skip
        return any(given) or isinstance(self.response_format, ResponseFormatJsonSchema)

    def texts(self) -> Iterator[tuple[str, str]]:
        """Every text of the request that a place would see, as ``(path, text)``; see ``request_texts``."""
        return request_texts(self)

    def with_answer_begun(self, text: str) -> ChatRequest:
        """The same request with the beginning of its answer as the last message."""
        begun = AssistantMessageParam(role="assistant", content=text)
        return self.model_copy(update={"messages": [*self.messages, begun]})

    def remote_body(self, model: str, *, continues: bool = False, capabilities: Collection[str] = frozenset()) -> bytes:
        """The exact bytes for an OpenAI-compatible server; labels are ours and are left out.

        A remote is always asked to stream, also for an answer that is wanted whole: the gaps between the pieces show
        within seconds whether it is still alive.

        Args:
            model: The model's name there.
            continues: The last message is the beginning of the answer, and the server is to go on with it, in the words of
                vLLM's and SGLang's servers.
            capabilities: What the server can do; one without ``reasoning_content`` gets no thoughts of earlier answers.
        """
        return body_of(self, model, continues=continues, capabilities=capabilities)


def _parse_form(given: object) -> ResponseFormatParam | None:
    """``response_format``; any text is what happens anyway."""
    form = parse_response_format(given)
    return None if isinstance(form, ResponseFormatText) else form


_SHAPES: dict[str, Callable[[Any], Any]] = {
    "stop": parse_stop,
    "stop_token_ids": parse_stop_token_ids,
    "logit_bias": parse_logit_bias,
    "response_format": _parse_form,
    "grammar": parse_grammar,
    "tools": parse_tools,
    "chat_template_kwargs": parse_chat_template_kwargs,
    "metadata": parse_metadata,
    "stream_options": lambda options: StreamOptions(**parse_stream_options(options)),
}


def _bad_request(error: ValidationError) -> BadRequest:
    """The first finding in one sentence, without the value that was passed."""
    first = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    said = first["msg"].removeprefix("Input should be ").rstrip(".")
    return BadRequest(f"{field} should be {said}.", field=field)
