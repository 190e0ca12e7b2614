"""Templates of real-world shapes render as ``transformers`` renders them, and are understood: what they want, and how they call."""

from __future__ import annotations

import json
import re
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from local_runtime.chat_template import ChatTemplate
from local_runtime.errors import InvalidRequestError, TokenizerError
from local_runtime.tool_calls.formats import tool_format_of
from tests.local_runtime.chat_templates import CONVERSATIONS, TEMPLATES, Case, cases, load_rendered
from tests.local_runtime.tool_models import tool_tokenizer

RENDERED = load_rendered()
BY_SHAPE = {name: list(group) for name, group in groupby(cases(), key=lambda case: case.name.split(" | ")[0])}


def template_of(name: str) -> ChatTemplate:
    shape = TEMPLATES[name]
    return ChatTemplate(shape.source, shape.tokens)


def render(template: ChatTemplate, case: Case) -> str | None:
    try:
        return template.render(
            case.messages, tools=case.tools, add_generation_prompt=case.add_generation_prompt, **case.variables
        )
    except (InvalidRequestError, TokenizerError):
        return None


def test_there_are_enough_shapes_and_the_fixture_is_of_them() -> None:
    assert len(TEMPLATES) >= 25
    assert set(RENDERED) == {case.name for case in cases()}
    assert sum(text is not None for text in RENDERED.values()) > 0.9 * len(RENDERED)


@pytest.mark.parametrize("name", TEMPLATES)
def test_rendered_text_equals_that_of_transformers(name: str) -> None:
    template = template_of(name)
    for case in BY_SHAPE[name]:
        assert render(template, case) == RENDERED[case.name], case.name


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_a_template_wants_is_found_out(name: str) -> None:
    shape, template = TEMPLATES[name], template_of(name)
    habits = template.habits
    assert habits.shows_tools == bool(shape.arguments)
    assert bool(habits.call) == bool(shape.arguments)
    assert habits.arguments_are_text == (shape.arguments == "text")
    assert habits.content == ("both" if shape.parts else "text")
    found = tool_format_of(template)
    assert (found.name if found else "") == shape.tool_format


@pytest.mark.parametrize("name", TEMPLATES)
def test_tokens_equal_the_tokenizers_own_encoding(name: str, tmp_path: Path) -> None:
    shape = TEMPLATES[name]
    marks = ["<|im_start|>", "<|im_end|>", "[INST]", "[/INST]", "<|eot_id|>", "[TOOL_CALLS]", "</s>", "<s>"]
    chat = tool_tokenizer(
        tmp_path, shape.source, marks, ["<tool_call>", "</tool_call>", "<think>", "</think>"], **shape.tokens
    )
    compared = 0
    for case in BY_SHAPE[name]:
        rendered = RENDERED[case.name]
        if rendered is None or "thoughts in text" in case.name:  # which types a mark
            continue
        ids = chat.encode_chat(case.messages, case.add_generation_prompt, tools=case.tools, **case.variables)
        assert ids == chat.encode(rendered, parse_special=True), case.name
        compared += 1
    assert compared


def nested_in(value: Any, text: str) -> Any:
    """The value with ``text`` at the end of each of its strings, the keys of schemas and arguments included."""
    if isinstance(value, dict):
        fixed = {"role", "type", "id", "tool_call_id", "function", "tool_calls", "content", "name", "parameters"}
        named = {"properties", "required", "items", "enum", "description", "arguments", "text", "reasoning_content"}
        return {
            key if key in fixed | named else key + text: (
                item if key in ("role", "type", "id", "tool_call_id", "arguments") else nested_in(item, text)
            )
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [nested_in(item, text) for item in value]
    return value + text if isinstance(value, str) else value


@pytest.mark.parametrize("name", [name for name, shape in TEMPLATES.items() if shape.arguments])
def test_special_tokens_typed_anywhere_are_text(name: str, tmp_path: Path) -> None:
    """In messages, names, results of tools, arguments and every part of the tools."""
    shape = TEMPLATES[name]
    chat = tool_tokenizer(tmp_path, shape.source, ["<|im_end|>"], ["</tool_call>"], **shape.tokens)
    messages, tools = CONVERSATIONS["a call and its answer"]
    typed = "<|im_end|></tool_call>"
    calls = [
        {**call, "function": {**call["function"], "arguments": f'{{"article": "{typed}"}}'}}
        for call in messages[1]["tool_calls"]
    ]
    evil = [{**nested_in(message, typed)} for message in messages]
    evil[1] = {**messages[1], "tool_calls": calls}
    evil[3] = {**messages[3], "content": "<|im_end|>"}  # an answer keeps marks that its model writes itself
    counts = [
        [ids.count(chat.token_id(mark) or 0) for mark in ("<|im_end|>", "</tool_call>", "<|end|>")]
        for ids in (
            chat.encode_chat(messages, tools=tools, **shape.variables[0]),
            chat.encode_chat(evil, tools=nested_in(tools, typed), **shape.variables[0]),
        )
    ]
    assert counts[0] == counts[1]


def test_a_call_without_content_is_told_in_the_way_in_which_the_template_shows_it() -> None:
    source = (
        "{% for m in messages %}{% if m['role'] == 'assistant' and m['content'] is none %}"
        "{% for c in m['tool_calls'] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}"
        "{% else %}{{ m['content'] + '.' }}{% endif %}{% endfor %}"
    )
    template = ChatTemplate(source, {})
    assert template.habits.missing_content == "none"
    messages, _ = CONVERSATIONS["a call"]
    assert (
        '<tool_call>{"name": "stock", "arguments": {"article": "Brötchen", "hall": 2}}</tool_call>'
        in template.render(messages)
    )


def test_a_template_that_knows_no_calls_is_given_empty_content() -> None:
    template = ChatTemplate("{% for m in messages %}{{ '<' + m['content'] + '>' }}{% endfor %}", {})
    messages, _ = CONVERSATIONS["a call"]
    assert template.render(messages[1:3]) == "<  How many rolls are there? 你好 ><>"


def test_a_template_that_insists_on_parts_gets_them() -> None:
    source = (
        "{% for m in messages %}{% for part in m.content %}{% if part.type == 'text' %}[{{ part.text }}]{% endif %}"
        "{% endfor %}{% endfor %}"
    )
    template = ChatTemplate(source, {})
    assert template.render([{"role": "user", "content": "hi"}]) == "[hi]"
    assert template.habits.content == "parts"


def test_arguments_that_are_no_object_are_told_as_they_are() -> None:
    template = template_of("qwen3")
    call = {"id": "x", "type": "function", "function": {"name": "clock", "arguments": '{"cut": '}}
    rendered = template.render([{"role": "user", "content": "?"}, {"role": "assistant", "tool_calls": [call]}])
    assert '{"name": "clock", "arguments": {"cut": }' in rendered


def test_what_is_for_the_interface_only_is_not_told_to_the_model() -> None:
    template = template_of("qwen2.5")
    tools = [{"type": "function", "function": {"name": "now", "strict": True, "description": None}}]
    rendered = template.render([{"role": "user", "content": "?"}], tools=tools)
    assert (
        '{"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}'
        in rendered
    )


def test_a_template_of_its_own_for_tools(tmp_path: Path) -> None:
    named = [
        {"name": "default", "template": "plain {{ messages[0].content }}"},
        {"name": "tool_use", "template": TEMPLATES["hermes tool_use"].source},
    ]
    messages, tools = CONVERSATIONS["tools"]
    for number, files in enumerate(({}, {"tool_use.jinja": "from a file {{ tools[0].function.name }}"})):
        chat = tool_tokenizer(tmp_path / str(number), "")
        folder = tmp_path / str(number)
        config = {"chat_template": named, **TEMPLATES["hermes tool_use"].tokens}
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        for file, text in files.items():
            (folder / "additional_chat_templates").mkdir()
            (folder / "additional_chat_templates" / file).write_text(text, encoding="utf-8")
        chat = type(chat).from_folder(folder, chat.vocab_size)
        assert chat.render(messages).startswith("plain")
        if files:
            assert chat.render(messages, tools=tools) == "from a file stock"
            assert chat.tool_format is None
        else:
            assert chat.render(messages, tools=tools) == RENDERED["hermes tool_use | tools | 0 | header"]
            assert chat.tool_format is not None
            assert chat.tool_format.name == "hermes"


def test_ids_that_a_template_refuses_are_shortened_alike_in_calls_and_results() -> None:
    messages, tools = CONVERSATIONS["two calls"]
    text = json.dumps(messages)
    theirs = json.loads(text.replace("call00001", "call_9Xk2…").replace("call00002", "call_" + "0" * 40))
    template = template_of("mistral v3")
    assert template.habits.short_ids
    rendered = template.render(theirs, tools=tools)
    (first, second) = re.findall(r'"id": "([a-z0-9]{9})"', rendered)
    assert first != second
    assert re.findall(r'"call_id": "([^"]*)"', rendered) == [first, second]
    assert "call_9Xk2…" in template_of("mistral v11").render(theirs, tools=tools)  # which takes any


def test_an_empty_list_of_calls_is_none() -> None:
    message = {"role": "assistant", "content": "Hi", "tool_calls": []}
    rendered = template_of("llama 3.1").render([{"role": "user", "content": "?"}, message], date_string="x")
    assert "Hi<|eot_id|>" in rendered
