"""What a request with tools, or to a model that thinks, needs besides its prompt: a parser of the answer, and a grammar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from local_runtime.errors import InvalidRequestError
from local_runtime.grammar_schema import check_schema
from local_runtime.tool_calls.bound_answers import answer_or_calls
from local_runtime.tool_calls.grammars import call_grammar, optional_call_grammar, with_thought
from local_runtime.tool_calls.parser import AnswerParser, call_ids
from local_runtime.tool_calls.reasoning import ThoughtReader

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from local_runtime.options import GenerateRequest, Grammar
    from local_runtime.tokenizer import ChatTokenizer
    from local_runtime.tool_calls.formats import ToolFormat

__all__ = ["answer_grammar", "answer_parser", "shown_tools", "template_variables"]

_RESERVED = ("messages", "tools")


def template_variables(chat_template_kwargs: Mapping[str, Any], tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What to give to the tokenizer's ``encode_chat`` and ``encode_begun`` besides messages.

    Raises:
        InvalidRequestError: A variable of the caller's has the name of a field.
    """
    for name in _RESERVED:
        if name in chat_template_kwargs:
            raise InvalidRequestError(f"A chat template variable may not be called {name}.", f"Pass it as {name}.")
    return {**chat_template_kwargs, "tools": tools}


def shown_tools(request: GenerateRequest) -> list[dict[str, Any]]:
    """The tools that the model is told of: none if it must not call any."""
    return [] if request.tool_choice == "none" else request.tools


def answer_parser(
    tokenizer: ChatTokenizer, request: GenerateRequest, prompt: Sequence[int], request_id: int
) -> AnswerParser | None:
    """What takes the answer apart; None where all of it is text.

    Args:
        tokenizer: The model's.
        request: What was asked.
        prompt: The tokens of its prompt, at whose end a thought may begin.
        request_id: Its number, from which the ids of calls follow.

    Raises:
        InvalidRequestError: It has tools, and the model can't call any.
    """
    tools = shown_tools(request)
    tool_format = _checked_format(tokenizer, tools)
    if tool_format is None and request.raw_token_ids is not None:
        return None
    marks = tokenizer.thought_marks
    if tool_format is None and marks is None:
        return None
    thoughts = calls = None
    visible: list[str] = []
    if marks is not None:
        thoughts = ThoughtReader(marks, is_open=_ends_with(tokenizer, prompt, marks.begin))
        visible += (marks.begin, marks.end)
        if request.answer_begun:
            thoughts.begun()
    if tool_format is not None:
        used = [call.get("id", "") for message in request.messages for call in message.get("tool_calls") or ()]
        make_id = call_ids(request_id, used, prefix=tool_format.id_prefix, length=tool_format.id_length)
        calls = tool_format.reader(
            _callable_names(request),
            make_id,
            only_one=not request.parallel_tool_calls,
            calls_first=request.grammar is not None,
        )
        visible += tool_format.marks
        if request.answer_begun:
            calls.begun()
    ids = {tokenizer.added_token_id(mark) for mark in visible}
    return AnswerParser(thoughts, calls, {token for token in ids if token is not None} & tokenizer.special_ids)


def answer_grammar(tokenizer: ChatTokenizer, request: GenerateRequest, prompt: Sequence[int]) -> Grammar | None:
    """What the tokens of the answer have to be: the request's grammar, or calls of its tools; None if they are free.

    A model that thinks may do so first. Where calling is left to it, tools with ``strict`` bind the arguments of their calls, and
    an answer in words keeps to the request's grammar; one that was begun in words calls nothing.

    Args:
        tokenizer: The model's.
        request: What was asked.
        prompt: The tokens of its prompt, at whose end a thought may begin.

    Raises:
        InvalidRequestError: It has tools, and the model can't call any; or calls are required where something is said already; or
            they could not be told from an answer that keeps to the grammar.
    """
    grammar = request.grammar
    tools = shown_tools(request)
    tool_format = _checked_format(tokenizer, tools)
    if tool_format is not None:
        functions = [_function(tool) for tool in tools]
        strict = [function["name"] for function in functions if function.get("strict") is True]
        if request.tool_choice == "required":
            if request.answer_begun:
                raise InvalidRequestError(
                    "An answer that was begun as text can't be held to calls of tools.", "Ask again from its beginning."
                )
            names = _callable_names(request)
            chosen = [function for function in functions if function["name"] in names]
            _check_schemas(functions, names)
            grammar = call_grammar(tool_format, chosen, tokenizer.added_token_id, parallel=request.parallel_tool_calls)
        elif grammar is not None:
            if not request.answer_begun:
                _check_schemas(functions, strict)
                grammar = answer_or_calls(
                    tool_format,
                    functions,
                    tokenizer.added_token_id,
                    parallel=request.parallel_tool_calls,
                    answer=grammar,
                )
        elif strict:
            _check_schemas(functions, strict)
            grammar = optional_call_grammar(
                tool_format, functions, tokenizer.added_token_id, parallel=request.parallel_tool_calls
            )
    marks = tokenizer.thought_marks
    if grammar is None or marks is None or request.answer_begun or request.raw_token_ids is not None:
        return grammar
    is_open = _ends_with(tokenizer, prompt, marks.begin)
    return with_thought(grammar, marks, tokenizer.added_token_id, is_open=is_open)


def _checked_format(tokenizer: ChatTokenizer, tools: list[dict[str, Any]]) -> ToolFormat | None:
    if not tools:
        return None
    for index, tool in enumerate(tools):
        function = tool.get("function")
        if (
            tool.get("type") != "function"
            or not isinstance(function, dict)
            or not isinstance(function.get("name"), str)
        ):
            raise InvalidRequestError(
                f"tools[{index}] is no function with a name.",
                'Give each tool as {"type": "function", "function": {"name": …, "parameters": …}}.',
            )
        parameters = function.get("parameters")
        if parameters is not None and not isinstance(parameters, dict):
            raise InvalidRequestError(
                f"tools[{index}].function.parameters is no JSON Schema.",
                "Give the schema of an object, or leave it out.",
            )
    tool_format = tokenizer.tool_format
    if tool_format is None:
        template = tokenizer.tool_template
        if template is None or not template.habits.shows_tools:
            raise InvalidRequestError(
                "This model can't call tools: its chat template has no place for them.",
                "Ask without tools, or use a model that was trained to call tools.",
            )
        raise InvalidRequestError(
            "This model calls tools in a format that is not implemented.",
            "Ask without tools, or use a model that calls them as Hermes, Qwen, Llama 3 or Mistral do.",
        )
    return tool_format


def _check_schemas(functions: Sequence[Mapping[str, Any]], names: Collection[str]) -> None:
    """Refuse a schema that calls can't be held to, where they have to be."""
    for index, function in enumerate(functions):
        if function["name"] in names and function.get("parameters"):
            check_schema(function["parameters"], f"tools[{index}].function.parameters")


def _callable_names(request: GenerateRequest) -> list[str]:
    """Names of the tools that may be called.

    Raises:
        InvalidRequestError: One that has to be called isn't there.
    """
    names = [_function(tool)["name"] for tool in request.tools]
    if any(name not in names for name in request.callable_tools):
        raise InvalidRequestError("callable_tools names a tool that isn't among the tools.", "Name one of the tools.")
    return list(request.callable_tools) or names


def _function(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = tool["function"]
    assert isinstance(function, dict)
    return function


def _ends_with(tokenizer: ChatTokenizer, prompt: Sequence[int], mark: str) -> bool:
    """Whether a prompt ends with a mark, not counting white space."""
    tail = tokenizer.decode(prompt[-len(mark.encode()) - 8 :], skip_special_tokens=False)
    return tail.rstrip().endswith(mark)
