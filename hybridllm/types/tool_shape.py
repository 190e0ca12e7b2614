"""Checks tools, the choice among them, and calls of them, and says in one sentence what is wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from hybridllm.errors import BadRequest
from hybridllm.types.shape import items_of, mapping_of, only_fields, plain_json, shown, text_of, well_formed
from hybridllm.types.strict_schema import check_strict
from hybridllm.types.tool_call import FunctionCall, ToolCall
from hybridllm.types.tool_param import FunctionParam, NamedToolChoice, ToolChoice, ToolFunctionName, ToolParam

__all__ = ["MOST_ID_CHARACTERS", "parse_tool_calls", "parse_tool_choice", "parse_tools"]

MOST_ID_CHARACTERS = 256
"""Longest id of a call."""

_MOST_TOOLS = 128
_FUNCTION_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CHOICES = ("none", "auto", "required")
_OPENAIS_OWN = ("index", "parsed_arguments")  # what libraries add to a call; it says nothing more


def parse_tools(tools: object) -> list[ToolParam]:
    """Check ``tools``.

    Raises:
        BadRequest: The first thing that is wrong, with its path.
    """
    given = items_of(tools, "tools", "a list of tools", most=_MOST_TOOLS)
    parsed = [_parse_tool(tool, f"tools[{index}]") for index, tool in enumerate(given)]
    names = [tool.function.name for tool in parsed]
    for index, name in enumerate(names):
        if name in names[:index]:
            field = f"tools[{index}].function.name"
            raise BadRequest(f"{field} is the name of an earlier tool too.", "Give each tool its own.", field=field)
    return parsed


def _parse_tool(tool: object, where: str) -> ToolParam:
    fields = mapping_of(tool, where, "a mapping with 'type' and 'function'")
    _check_type(fields.get("type"), where)
    only_fields(fields, ("type", "function", "privacy"), where, "a tool")
    privacy = fields.get("privacy")
    if privacy is not None:
        privacy = text_of(privacy, f"{where}.privacy")
    at = f"{where}.function"
    function = mapping_of(fields.get("function"), at, "a mapping with 'name'")
    only_fields(function, ("name", "description", "parameters", "strict"), at, "a function")
    description, strict = function.get("description"), function.get("strict")
    if description is not None:
        if not isinstance(description, str):
            raise BadRequest(f"{at}.description is {shown(description)}, expected text.", field=f"{at}.description")
        well_formed(description, f"{at}.description")
    if strict is not None and not isinstance(strict, bool):
        raise BadRequest(f"{at}.strict is {shown(strict)}, expected true or false.", field=f"{at}.strict")
    parameters = _parse_parameters(function.get("parameters"), f"{at}.parameters", strict=bool(strict))
    return ToolParam(
        type="function",
        function=FunctionParam(
            name=_function_name(function.get("name"), f"{at}.name"),
            description=description,
            parameters=parameters,
            strict=strict,
        ),
        privacy=privacy,
    )


def _parse_parameters(parameters: object, where: str, *, strict: bool) -> dict[str, object] | None:
    if parameters is None:
        return None
    schema = plain_json(parameters, where)
    if not isinstance(schema, dict):
        raise BadRequest(f"{where} is {shown(parameters)}, expected a JSON Schema of an object.", field=where)
    if schema.get("type", "object") != "object":
        raise BadRequest(
            f"{where}.type is not 'object', and arguments are an object.",
            'Write {"type": "object", "properties": {…}}.',
            field=f"{where}.type",
        )
    if strict:
        check_strict(schema, where)
    return schema


def parse_tool_choice(choice: object, tools: Sequence[ToolParam]) -> ToolChoice:
    """Check ``tool_choice``.

    Raises:
        BadRequest: It is none of OpenAI's choices, or names no tool of the request.
    """
    if not tools:
        raise BadRequest("tool_choice is given without tools.", "Give tools.", field="tool_choice")
    if choice == "none" or choice == "auto" or choice == "required":
        return choice
    if isinstance(choice, str):
        raise BadRequest(
            f"tool_choice is {shown(choice)}, expected one of {', '.join(_CHOICES)}, or the name of a function.",
            'Name one as {"type": "function", "function": {"name": "…"}}.',
            field="tool_choice",
        )
    fields = mapping_of(choice, "tool_choice", f"one of {', '.join(_CHOICES)}, or the name of a function")
    _check_type(fields.get("type"), "tool_choice")
    only_fields(fields, ("type", "function"), "tool_choice", "tool_choice")
    function = mapping_of(fields.get("function"), "tool_choice.function", "a mapping with 'name'")
    only_fields(function, ("name",), "tool_choice.function", "tool_choice.function")
    field = "tool_choice.function.name"
    name = _function_name(function.get("name"), field)
    if all(tool.function.name != name for tool in tools):
        raise BadRequest(f"{field} is the name of no tool in tools.", "Name one of them.", field=field)
    return NamedToolChoice(type="function", function=ToolFunctionName(name=name))


def parse_tool_calls(calls: object, where: str) -> list[ToolCall]:
    """Check an assistant message's ``tool_calls``.

    Raises:
        BadRequest: The first thing that is wrong, with its path.
    """
    given = items_of(calls, where, "a list of calls", most=_MOST_TOOLS)
    parsed: list[ToolCall] = []
    for index, call in enumerate(given):
        at = f"{where}[{index}]"
        fields = mapping_of(call, at, "a mapping with 'id', 'type' and 'function'")
        fields = {name: value for name, value in fields.items() if name not in _OPENAIS_OWN}
        _check_type(fields.get("type", "function"), at)
        only_fields(fields, ("id", "type", "function"), at, "a call")
        identity = text_of(fields.get("id"), f"{at}.id", most=MOST_ID_CHARACTERS)
        if any(identity == earlier.id for earlier in parsed):
            raise BadRequest(f"{at}.id is the id of an earlier call too.", "Give each call its own.", field=f"{at}.id")
        function = mapping_of(fields.get("function"), f"{at}.function", "a mapping with 'name' and 'arguments'")
        function = {name: value for name, value in function.items() if name not in _OPENAIS_OWN}
        only_fields(function, ("name", "arguments"), f"{at}.function", "a call's function")
        name, arguments = function.get("name"), function.get("arguments")
        if not isinstance(arguments, str):
            mend = "Write them as JSON in a text." if isinstance(arguments, Mapping) else "Write {} for none."
            field = f"{at}.function.arguments"
            raise BadRequest(f"{field} is {shown(arguments)}, expected text.", mend, field=field)
        well_formed(arguments, f"{at}.function.arguments")
        parsed.append(
            ToolCall(
                id=identity,
                function=FunctionCall(name=_function_name(name, f"{at}.function.name"), arguments=arguments),
            )
        )
    return parsed


def _check_type(kind: object, where: str) -> None:
    if kind != "function":
        raise BadRequest(
            f"{where}.type is {shown(kind)}, and only 'function' is supported.",
            'Write "type": "function".',
            field=f"{where}.type",
        )


def _function_name(name: object, where: str) -> str:
    if not isinstance(name, str) or not _FUNCTION_NAME.fullmatch(name):
        raise BadRequest(
            f"{where} is {shown(name)}, expected a function's name.",
            "Use 1 to 64 letters a to z, digits, _ and -.",
            field=where,
        )
    return name
