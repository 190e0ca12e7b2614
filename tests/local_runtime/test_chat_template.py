"""Chat templates: what transformers offers them, how content is flattened, and how their failures are told."""

from __future__ import annotations

import re
import traceback
from datetime import datetime

import pytest

from local_runtime.chat_template import ChatTemplate, flatten_content
from local_runtime.errors import InvalidRequestError, TokenizerError
from tests.local_runtime.checkpoints import CHATML_TEMPLATE

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "When do you open?"}]


def test_renders_a_conversation_with_and_without_the_assistants_header() -> None:
    template = ChatTemplate(CHATML_TEMPLATE, {})
    body = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhen do you open?<|im_end|>\n"
    assert template.render(MESSAGES) == body + "<|im_start|>assistant\n"
    assert template.render(MESSAGES, add_generation_prompt=False) == body


def test_blocks_are_trimmed_as_transformers_trims_them() -> None:
    template = ChatTemplate("{% for m in messages %}\n    {{ m.role }}\n{% endfor %}\nend", {})
    assert template.render(MESSAGES) == "    system\n    user\nend"


def test_templates_get_special_tokens_and_further_variables() -> None:
    template = ChatTemplate("{{ bos_token }}{{ mood }}{{ tools is none }}", {"bos_token": "<s>"})
    assert template.render([], mood="calm") == "<s>calmTrue"


def test_generation_blocks_and_loop_controls_are_understood() -> None:
    source = "{% for m in messages %}{% generation %}[{{ m.role }}]{% endgeneration %}{% break %}{% endfor %}"
    assert ChatTemplate(source, {}).render(MESSAGES) == "[system]"


def test_tojson_keeps_non_ascii_characters_and_takes_an_indent() -> None:
    template = ChatTemplate("{{ value | tojson }}|{{ value | tojson(indent=1) }}", {})
    assert template.render([], value={"a": "é<博>"}) == '{"a": "é<博>"}|{\n "a": "é<博>"\n}'


def test_strftime_now_gives_the_local_date() -> None:
    before = datetime.now().astimezone().strftime("%Y-%m-%d")
    rendered = ChatTemplate("{{ strftime_now('%Y-%m-%d') }}", {}).render([])
    assert rendered in (before, datetime.now().astimezone().strftime("%Y-%m-%d"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", rendered)


def test_text_parts_are_joined_by_newlines() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert flatten_content({"role": "user", "content": parts})["content"] == "one\ntwo"
    assert flatten_content({"role": "assistant", "content": None})["content"] == ""


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ({"content": "hi"}, r"messages\[3\] has no role"),
        ({"role": "user", "content": 5}, r"messages\[3\]\.content must be a string .* not int"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "part of type 'image_url'"),
        ({"role": "user", "content": ["plain"]}, "part of type 'str'"),
        ({"role": "user", "content": [{"type": "my secret"}]}, "part of another type;"),
        ({"role": "user", "content": [{"type": "text", "text": 5}]}, "part of type 'text' without a text;"),
    ],
)
def test_messages_of_the_wrong_shape_are_named(message: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidRequestError, match=named):
        flatten_content(message, 3)


def test_a_refusal_by_the_template_is_the_callers_mistake() -> None:
    template = ChatTemplate("{{ raise_exception('Roles must alternate!') }}", {})
    with pytest.raises(InvalidRequestError, match="refuses these messages: Roles must alternate!"):
        template.render(MESSAGES)


def test_a_refusal_is_one_line_of_bounded_length() -> None:
    template = ChatTemplate("{{ raise_exception('bad:\\n one\\r\\n\\ttwo\\x1b\u2028three') }}", {})
    with pytest.raises(InvalidRequestError, match=r"refuses these messages: bad: one two three Change") as caught:
        template.render(MESSAGES)
    assert str(caught.value).isprintable()
    with pytest.raises(InvalidRequestError) as caught:
        ChatTemplate(f"{{{{ raise_exception('{'word ' * 5000}') }}}}", {}).render(MESSAGES)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("said", ["'bad: ' ~ messages[0].content", "messages[0].content", "messages", "5"])
def test_a_refusal_that_may_quote_the_messages_is_told_by_its_line(said: str) -> None:
    template = ChatTemplate("a\n{{ raise_exception(" + said + ") }}", {})
    with pytest.raises(InvalidRequestError, match="refuses these messages in its line 2, for a reason that") as caught:
        template.render([{"role": "user", "content": "my secret diagnosis"}])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("a\nb{{ '{:d}'.format(messages[0].content) }}", "ValueError in its line 2"),
        ("{{ messages[0].content + 5 }}", "TypeError in its line 1"),
        ("\n\n{{ messages[0].content.missing.too }}", "UndefinedError in its line 3"),
        ("{% set d = {} %}\n{{ d[messages[0].content].x }}", "UndefinedError in its line 2"),
        ("{% macro f(x) %}\n{{ f(x) }}{% endmacro %}{{ f(1) }}", "RecursionError in its line 2"),
        ("{% include messages[0].content %}", "TypeError in its line 1"),
    ],
)
def test_a_failure_names_its_kind_and_line_and_quotes_nothing(source: str, said: str) -> None:
    with pytest.raises(TokenizerError, match=f"failed on these messages: {said}") as caught:
        ChatTemplate(source, {}, "t.jinja").render([{"role": "user", "content": "my secret\ndiagnosis"}])
    told = "".join(traceback.format_exception(caught.value))  # what a log of the whole chain of causes would hold
    assert "\n" not in str(caught.value)
    assert "diagnosis" not in told.replace('"my secret\\ndiagnosis"', "")  # this test's own line


def test_a_template_that_fails_is_named_with_its_file() -> None:
    with pytest.raises(TokenizerError, match=r"template in tokenizer_config\.json is not valid Jinja: .* \(line 2\)"):
        ChatTemplate("fine\n{% if %}", {}, "tokenizer_config.json")
    with pytest.raises(TokenizerError, match="failed on these messages: UndefinedError"):
        ChatTemplate("{{ messages[9].content }}", {}).render(MESSAGES)


@pytest.mark.parametrize(
    "attack",
    [
        "{{ messages.__class__.__mro__[1].__subclasses__() }}",
        "{{ ''.__class__.__base__ }}",
        "{{ raise_exception.__globals__.json }}",
        "{{ messages.append(1) }}",
        "{{ range(10000000) | list }}",
    ],
)
def test_the_sandbox_keeps_templates_from_reaching_out(attack: str) -> None:
    with pytest.raises(TokenizerError, match=r"SecurityError|UndefinedError|OverflowError"):
        ChatTemplate(attack, {}).render(MESSAGES)


def test_a_variable_cannot_take_the_messages_place() -> None:
    with pytest.raises(InvalidRequestError, match="may not be called messages"):
        ChatTemplate("x", {}).render(MESSAGES, messages=[])
