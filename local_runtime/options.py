"""What a person can ask of the engine, as plain values: how to load a model and how to generate from it.

Standard library only: the application's process imports this module, and it must not drag numpy or TVM in.
Every class checks its own fields when it is built, so a wrong value is named where it was given and not in the worker.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

from local_runtime.content import CONTENT, hides_content
from local_runtime.errors import InvalidRequestError
from local_runtime.kernels.limits import MAX_SEQUENCES

__all__ = [
    "GenerateRequest",
    "Grammar",
    "GrammarKind",
    "LoadOptions",
    "ModelInfo",
    "Progress",
    "ProgressStage",
    "Quantization",
    "SamplingOptions",
    "check_messages",
]

Quantization = Literal["auto", "q4", "f16", "f32"]
GrammarKind = Literal["json_schema", "json_object", "lark", "regex"]
ToolChoice = Literal["none", "auto", "required"]
ProgressStage = Literal["resolve", "convert", "compile", "load", "ready"]

_MOST_LOGPROBS = 20
_MOST_LOGIT_BIAS = 100.0
_MIN_SEED, _MAX_SEED = -(2**63), 2**64 - 1


def _fail(name: str, value: object, expected: str, *, content: bool = False) -> InvalidRequestError:
    # Only short scalars are quoted, and none where a value may be a piece of somebody's conversation.
    quoted = not content and (value is None or isinstance(value, bool | int | float | str))
    shown = repr(value) if quoted else f"a {type(value).__name__}"
    if len(shown) > 60:
        shown = f"a {type(value).__name__} of {len(shown)} characters"
    return InvalidRequestError(f"{name} is {shown}, but must be {expected}.", f"Give {name} as {expected}.")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_number(name: str, value: object, low: float, high: float, expected: str, *, above_low: bool = False) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _fail(name, value, expected)
    if value < low or value > high or (above_low and value == low):
        raise _fail(name, value, expected)


def _check_int(name: str, value: object, low: int, expected: str, high: int | None = None) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < low or (high is not None and value > high):
        raise _fail(name, value, expected)


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """Which model to load and how.

    Attributes:
        model: A checkpoint folder, or the name of a bundled model.
        quant: ``"q4"``, ``"f16"``, ``"f32"``, or ``"auto"`` for the model's recommended one.
        target: ``"auto"`` (CUDA when a device answers, else this CPU), ``"cpu"``, ``"cuda"``, ``"cuda:N"`` for the N-th
            card, ``"metal"``, or a TVM target as a JSON object.
        threads: Worker threads of the CPU kernels; None takes the physical cores that this process may use.
        context_tokens: The context to serve, at most the model's own; None takes the model's own.
        max_sequences: How many answers are generated at the same time, at most 64; further ones wait.
        cache_dir: Where compiled models and converted weights are kept; None takes the platform's cache folder.
        max_waiting: How many requests may wait; a further one is refused with ``OverloadedError``.
        memory_mib: The most memory in MiB for weights, key-value cache and workspace together; None takes what is free.
        prefix_cache: Keep the keys and values of prompts and answers for requests that begin in the same way.
        saved_state: File of a saved state that is restored whenever the model is loaded, also after the engine's process died;
            one that cannot be used is told of in the log, and its prompt is computed as usual.
        speculate: Guess the next tokens from what was said before, where that pays; greedy answers stay the same.

    Raises:
        InvalidRequestError: A field has the wrong type or is out of range.
    """

    model: str
    quant: Quantization = "auto"
    target: str = "auto"
    threads: int | None = None
    context_tokens: int | None = None
    max_sequences: int = 4
    cache_dir: str | None = None
    max_waiting: int = 32
    memory_mib: int | None = None
    prefix_cache: bool = True
    speculate: bool = True
    saved_state: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or not self.model.strip():
            raise _fail("model", self.model, "a checkpoint folder or the name of a bundled model")
        if self.quant not in get_args(Quantization):
            raise _fail("quant", self.quant, "one of " + ", ".join(get_args(Quantization)))
        if not isinstance(self.target, str) or not self.target.strip():
            raise _fail("target", self.target, 'a target such as "auto", "cpu" or "cuda"')
        if self.threads is not None:
            _check_int("threads", self.threads, 1, "a whole number from 1 to 1024", 1024)
        if self.context_tokens is not None:
            _check_int("context_tokens", self.context_tokens, 2, "a whole number of at least 2")
        _check_int("max_sequences", self.max_sequences, 1, f"a whole number from 1 to {MAX_SEQUENCES}", MAX_SEQUENCES)
        _check_int("max_waiting", self.max_waiting, 0, "a whole number from 0 to 10000", 10_000)
        if self.memory_mib is not None:
            _check_int("memory_mib", self.memory_mib, 1, "a whole number of at least 1 MiB")
        if self.cache_dir is not None and (not isinstance(self.cache_dir, str) or not self.cache_dir):
            raise _fail("cache_dir", self.cache_dir, "a folder's path")
        if self.saved_state is not None and (not isinstance(self.saved_state, str) or not self.saved_state):
            raise _fail("saved_state", self.saved_state, "a file's path")
        for name in ("prefix_cache", "speculate"):
            if not isinstance(getattr(self, name), bool):
                raise _fail(name, getattr(self, name), "True or False")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the loading of a model is.

    Attributes:
        stage: What is being done; ``"ready"`` comes once, at the end.
        done: The part of this stage that is done, from 0 to 1; None when it can't be known.
        detail: A few words for a person, such as the tensor or the function at work.
    """

    stage: ProgressStage
    done: float | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What was loaded.

    Attributes:
        name: The model's name for people.
        path: The checkpoint folder.
        model_type: Hugging Face's ``model_type``.
        quant: The quantisation in use: ``"q4"``, ``"f16"`` or ``"f32"``.
        target: The TVM target in use, as one line.
        device: The device in words, such as ``"cpu, 2 threads"``.
        context_tokens: The context that is served.
        vocab_size: Rows of the logits.
        parameters: The model's parameters, tied ones counted once.
        weights_mib: Memory of the weights in MiB.
        kv_mib: Memory of the key-value cache in MiB.
        load_s: Seconds from the request to load until the model could answer.
        compiled: True if this load had to compile, False if the compile cache had everything.
        tool_format: How the model calls tools (``"hermes"``, ``"llama3"``, ``"mistral"`` or ``"mistral-named"``); empty if it can't.
        thinks: Whether it may think before it answers.
    """

    name: str
    path: str
    model_type: str
    quant: str
    target: str
    device: str
    context_tokens: int
    vocab_size: int
    parameters: int
    weights_mib: float
    kv_mib: float
    load_s: float
    compiled: bool
    tool_format: str = ""
    thinks: bool = False


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """How the next token is drawn; applied in the order penalties, temperature, top_k, top_p, min_p.

    None leaves a choice to the model (its ``generation_config.json``), and where that says nothing, to the neutral value.

    Attributes:
        temperature: 0 takes the most likely token always (greedy); 1, the neutral value, leaves the distribution as it is.
        top_p: Keep the most likely tokens that together reach this probability; 1 keeps all.
        top_k: Keep this many of the most likely tokens; 0 keeps all.
        min_p: Keep tokens at least this many times as likely as the most likely one; 0 keeps all.
        repetition_penalty: Divides (positive) or multiplies (negative) the logits of tokens seen in the prompt or
            the answer; 1 does nothing (Keskar et al., 2019, "CTRL").
        frequency_penalty: Subtracted from a token's logit for each time that it occurs in the answer; OpenAI's.
        presence_penalty: Subtracted once from the logit of a token that occurs in the answer; OpenAI's.
        seed: Makes the draws reproducible; None takes fresh randomness.

    Raises:
        InvalidRequestError: A field has the wrong type or is out of range.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        def number(name: str, low: float, high: float, expected: str, *, above_low: bool = False) -> None:
            value = getattr(self, name)
            if value is not None:
                _check_number(name, value, low, high, expected, above_low=above_low)

        number("temperature", 0.0, 100.0, "a number from 0 to 100")
        number("top_p", 0.0, 1.0, "a number above 0 and at most 1", above_low=True)
        if self.top_k is not None:
            _check_int("top_k", self.top_k, 0, "a whole number of at least 0 (0 keeps all tokens)")
        number("min_p", 0.0, 1.0, "a number from 0 to 1")
        number("repetition_penalty", 0.0, 100.0, "a number above 0", above_low=True)
        number("frequency_penalty", -2.0, 2.0, "a number from -2 to 2")
        number("presence_penalty", -2.0, 2.0, "a number from -2 to 2")
        if self.seed is not None:
            _check_int("seed", self.seed, _MIN_SEED, "a 64-bit whole number", _MAX_SEED)

    def over(self, recommended: SamplingOptions) -> SamplingOptions:
        """These options, with ``recommended``'s where these leave the choice open."""
        open_choices = [name.name for name in fields(self) if getattr(self, name.name) is None]
        return replace(self, **{name: getattr(recommended, name) for name in open_choices})


@hides_content
@dataclass(frozen=True, slots=True)
class Grammar:
    """What the text of an answer must be.

    Attributes:
        kind: ``"json_schema"`` (every answer is a JSON document that the schema allows), ``"json_object"`` (any JSON object),
            ``"lark"`` or ``"regex"``.
        text: The schema as JSON, the grammar in llguidance's dialect of Lark, or the regular expression; empty for
            ``"json_object"``.

    Raises:
        InvalidRequestError: A field has the wrong type.
    """

    kind: GrammarKind
    text: str = field(default="", metadata=CONTENT)

    def __post_init__(self) -> None:
        if self.kind not in get_args(GrammarKind):
            raise _fail("grammar.kind", self.kind, "one of " + ", ".join(get_args(GrammarKind)))
        if not isinstance(self.text, str) or bool(self.text) != (self.kind != "json_object"):
            raise _fail("grammar.text", self.text, "a schema or grammar, and empty for json_object", content=True)


@hides_content
@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """One answer to generate.

    Attributes:
        messages: The conversation in OpenAI's shape: each ``{"role": str, "content": text}``, where text is a string or
            a list of ``{"type": "text", "text": str}``; calls of tools and their results as :func:`check_messages` says.
        sampling: How tokens are drawn.
        max_tokens: The most tokens to generate; None goes on to the end of the context.
        stop: Strings that end the answer; neither the string nor what follows it is part of the text.
        chat_template_kwargs: Further variables for the model's chat template.
        raw_token_ids: Token ids to use as the prompt in place of ``messages``, for measurements and parity checks.
        ignore_eos: Go on after an end-of-sequence token, for measurements that need a fixed number of tokens.
        answer_begun: How the answer begins, said by somebody else: it goes on right after its last character, and what is given
            out does not repeat it.
        answer_begun_ids: Tokens that this request has generated before, in another worker, after ``answer_begun`` if there is
            some: the answer goes on exactly as it would have; they count as generated, and what they come to is not given out
            again.
        conversation: Name of the conversation that it belongs to; those that wait take turns by it.
        min_tokens: No end-of-sequence token, stop string or stop token ends the answer before it has so many tokens.
        stop_token_ids: Tokens that end the answer as an end-of-sequence token does.
        logit_bias: Added to the logits of tokens before anything else; ids as decimal strings, -100 forbids a token, 100 all others.
        logprobs: Tell the log probability of every token and of so many likelier ones (0 to 20); None tells nothing.
        prompt_logprobs: The same for the prompt's own tokens.
        grammar: What the text of the answer must be; None leaves it free.
        tools: Functions that the model may call, in OpenAI's shape; the chat template writes them into the prompt.
        tool_choice: Whether the answer may (``"auto"``), must (``"required"``) or must not (``"none"``) be calls of tools.
        callable_tools: Names of the tools that ``"required"`` allows; empty allows all.
        parallel_tool_calls: Whether one answer may call several tools.

    Raises:
        InvalidRequestError: A field has the wrong type or is out of range; the message names it with its index.
    """

    messages: list[dict[str, Any]] = field(default_factory=list, metadata=CONTENT)
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    max_tokens: int | None = None
    stop: tuple[str, ...] = field(default=(), metadata=CONTENT)
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict, metadata=CONTENT)
    raw_token_ids: list[int] | None = field(default=None, metadata=CONTENT)
    ignore_eos: bool = False
    answer_begun: str = field(default="", metadata=CONTENT)
    answer_begun_ids: list[int] | None = field(default=None, metadata=CONTENT)
    conversation: str = field(default="", metadata=CONTENT)
    min_tokens: int = 0
    stop_token_ids: tuple[int, ...] = field(default=(), metadata=CONTENT)
    logit_bias: dict[str, float] = field(default_factory=dict, metadata=CONTENT)
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    grammar: Grammar | None = field(default=None, metadata=CONTENT)
    tools: list[dict[str, Any]] = field(default_factory=list, metadata=CONTENT)
    tool_choice: ToolChoice = "auto"
    callable_tools: tuple[str, ...] = field(default=(), metadata=CONTENT)
    parallel_tool_calls: bool = True

    def __post_init__(self) -> None:
        check_messages(self.messages, may_be_empty=self.raw_token_ids is not None)
        if not isinstance(self.sampling, SamplingOptions):
            raise _fail("sampling", self.sampling, "SamplingOptions")
        if self.max_tokens is not None:
            _check_int("max_tokens", self.max_tokens, 1, "a whole number of at least 1, or None for as many as fit")
        if not isinstance(self.stop, tuple) or not all(isinstance(text, str) and text for text in self.stop):
            raise _fail("stop", self.stop, "a tuple of strings that are not empty", content=True)
        if not isinstance(self.chat_template_kwargs, dict) or not all(
            isinstance(name, str) for name in self.chat_template_kwargs
        ):
            raise _fail("chat_template_kwargs", self.chat_template_kwargs, "a mapping with names as keys", content=True)
        if not isinstance(self.ignore_eos, bool):
            raise _fail("ignore_eos", self.ignore_eos, "True or False")
        for name in ("raw_token_ids", "answer_begun_ids"):
            ids = getattr(self, name)
            if ids is not None and (
                not isinstance(ids, list) or not ids or not all(_is_int(token) and token >= 0 for token in ids)
            ):
                raise _fail(name, ids, "a list of at least one token id", content=True)
        if not isinstance(self.answer_begun, str):
            raise _fail("answer_begun", self.answer_begun, "a string", content=True)
        if not isinstance(self.conversation, str):
            raise _fail("conversation", self.conversation, "a string")
        self._check_limits()
        self._check_tools()

    def _check_limits(self) -> None:
        _check_int("min_tokens", self.min_tokens, 0, "a whole number of at least 0")
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise _fail("min_tokens", self.min_tokens, f"at most max_tokens ({self.max_tokens})")
        if not isinstance(self.stop_token_ids, tuple) or not all(_is_int(t) and t >= 0 for t in self.stop_token_ids):
            raise _fail("stop_token_ids", self.stop_token_ids, "a tuple of token ids")
        if not isinstance(self.logit_bias, dict):
            raise _fail("logit_bias", self.logit_bias, "a mapping from token ids to numbers")
        for token, bias in self.logit_bias.items():
            if not isinstance(token, str) or not token.isascii() or not token.isdecimal():
                raise _fail("logit_bias", self.logit_bias, "a mapping whose keys are token ids as decimal strings")
            _check_number(
                f"logit_bias[{token[:20]}]", bias, -_MOST_LOGIT_BIAS, _MOST_LOGIT_BIAS, "a number from -100 to 100"
            )
        for name in ("logprobs", "prompt_logprobs"):
            value = getattr(self, name)
            if value is not None:
                _check_int(name, value, 0, f"a whole number from 0 to {_MOST_LOGPROBS}, or None", _MOST_LOGPROBS)
        if self.grammar is not None and not isinstance(self.grammar, Grammar):
            raise _fail("grammar", self.grammar, "a Grammar", content=True)

    def _check_tools(self) -> None:
        if not isinstance(self.tools, list) or not all(isinstance(tool, dict) for tool in self.tools):
            raise _fail("tools", self.tools, "a list of mappings", content=True)
        if self.tool_choice not in get_args(ToolChoice):
            raise _fail("tool_choice", self.tool_choice, "one of " + ", ".join(get_args(ToolChoice)))
        if not isinstance(self.callable_tools, tuple) or not all(isinstance(n, str) for n in self.callable_tools):
            raise _fail("callable_tools", self.callable_tools, "a tuple of names", content=True)
        if self.tool_choice == "required" and not self.tools:
            raise InvalidRequestError("tool_choice is required, but there are no tools.", "Give tools.")
        if not isinstance(self.parallel_tool_calls, bool):
            raise _fail("parallel_tool_calls", self.parallel_tool_calls, "True or False")
        if self.grammar is not None and self.tools and self.tool_choice == "required":
            raise InvalidRequestError(
                "grammar and tool_choice required both say what the answer must be.", "Give one of them."
            )


def check_messages(messages: object, *, may_be_empty: bool = False) -> None:
    """Check that ``messages`` has OpenAI's shape with text content only.

    An assistant's message may have ``tool_calls`` in place of content, and ``reasoning_content``; a tool's has ``tool_call_id``.

    Raises:
        InvalidRequestError: It has not; the message names the index and the field, and never quotes content.
    """
    if not isinstance(messages, list) or (not messages and not may_be_empty):
        raise InvalidRequestError(
            "messages must be a list with at least one message.",
            'Give messages=[{"role": "user", "content": "..."}].',
        )
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise InvalidRequestError(
                f"messages[{index}] is a {type(message).__name__}, but must be a mapping with role and content.",
                'Give each message as {"role": "user", "content": "..."}.',
            )
        role = message.get("role")
        if not isinstance(role, str) or not role:
            raise InvalidRequestError(
                f"messages[{index}].role must be a string such as system, user or assistant.",
                "Give each message its role.",
            )
        calls = message.get("tool_calls")
        if calls is not None:
            _check_calls(index, role, calls)
        if role == "tool" and not isinstance(message.get("tool_call_id"), str):
            raise InvalidRequestError(
                f"messages[{index}] is a tool's, but has no tool_call_id.", "Give the id of the call that it answers."
            )
        for name in ("name", "reasoning_content"):
            if message.get(name) is not None and not isinstance(message[name], str):
                raise InvalidRequestError(
                    f"messages[{index}].{name} is a {type(message[name]).__name__}, but must be a string.",
                    f"Give {name} as a string, or leave it out.",
                )
        if message.get("content") is not None or not calls:
            _check_content(index, message.get("content"))


def _check_calls(index: int, role: str, calls: object) -> None:
    if role != "assistant" or not isinstance(calls, list):
        what = "is no list" if role == "assistant" else "is not an assistant's"
        raise InvalidRequestError(
            f"messages[{index}].tool_calls {what}.", "Give a list of calls, in an assistant's message only."
        )
    for place, call in enumerate(calls):
        where = f"messages[{index}].tool_calls[{place}]"
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(call, Mapping) or not isinstance(call.get("id"), str) or not isinstance(function, Mapping):
            raise InvalidRequestError(
                f"{where} is no call with an id and a function.",
                'Give each call as {"id": "...", "type": "function", "function": {"name": "...", "arguments": "{...}"}}.',
            )
        if not isinstance(function.get("name"), str) or not isinstance(function.get("arguments", ""), str | Mapping):
            raise InvalidRequestError(
                f"{where}.function has no name, or arguments that are not JSON text.",
                "Give its name and its arguments as strings.",
            )


def _check_content(index: int, content: object) -> None:
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        raise InvalidRequestError(
            f"messages[{index}].content is a {type(content).__name__}, but must be a string or a list of text parts.",
            "Give content as a string.",
        )
    for part_index, part in enumerate(content):
        where = f"messages[{index}].content[{part_index}]"
        if not isinstance(part, Mapping) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise InvalidRequestError(
                f"{where} is not a text part; local models here read text only.",
                'Give each part as {"type": "text", "text": "..."}.',
            )
