"""A grammar's constraint: what it allows, when it is whole, answers that were begun, and grammars that cannot be used."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from local_runtime.errors import InvalidRequestError
from local_runtime.grammar import GrammarCompiler, GrammarConstraint
from local_runtime.grammar_lark import lark_for_schema, lark_for_token
from local_runtime.grammar_schema import SchemaError, check_schema
from local_runtime.options import Grammar
from local_runtime.paths import bundled_models
from local_runtime.tokenizer import ChatTokenizer
from tests.local_runtime.checkpoints import metaspace_tokenizer, mistral_config, write_checkpoint

VOCAB = 4096
END = 2
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0, "maximum": 150}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def tokenizer() -> ChatTokenizer:
    return ChatTokenizer.from_folder(bundled_models()["kiosk-assistant"], VOCAB)


@pytest.fixture(scope="module")
def compiler(tokenizer: ChatTokenizer) -> GrammarCompiler:
    return GrammarCompiler(tokenizer, VOCAB)


def schema(value: object) -> Grammar:
    return Grammar("json_schema", json.dumps(value))


def allowed(constraint: GrammarConstraint, size: int = VOCAB) -> set[int]:
    logits = np.zeros(size, dtype=np.float32)
    constraint.mask(logits)
    assert set(np.unique(logits)) <= {np.float32(0), np.float32(-np.inf)}
    return set(np.flatnonzero(np.isfinite(logits)).tolist())


def take(constraint: GrammarConstraint, tokens: list[int]) -> None:
    for token in tokens:
        constraint.take(token)


def accepts(compiler: GrammarCompiler, tokenizer: ChatTokenizer, grammar: Grammar, text: str, **begun: bool) -> bool:
    constraint = compiler.constraint(grammar, **begun)
    try:
        take(constraint, tokenizer.encode(text))
    except InvalidRequestError:
        return False
    return constraint.may_end()


def test_an_answer_is_followed_token_by_token(compiler: GrammarCompiler, tokenizer: ChatTokenizer):
    constraint = compiler.constraint(schema(PERSON))
    for token in tokenizer.encode('{"name": "Ada", "age": 36}'):
        assert token in allowed(constraint)
        assert END not in allowed(constraint)
        assert not constraint.may_end()
        assert not constraint.is_complete()
        constraint.take(token)
    assert constraint.may_end()
    assert constraint.is_complete()
    assert allowed(constraint) == {END}


def test_an_answer_that_can_go_on_may_end_too(compiler: GrammarCompiler, tokenizer: ChatTokenizer):
    constraint = compiler.constraint(schema({"type": "integer"}))
    take(constraint, tokenizer.encode("12"))
    assert constraint.may_end()
    assert not constraint.is_complete()
    assert END in allowed(constraint)
    assert len(allowed(constraint)) > 1
    constraint.take(END)
    assert constraint.is_complete()


def test_a_mask_keeps_what_it_allows_as_it_is(compiler: GrammarCompiler):
    constraint = compiler.constraint(schema({"enum": ["a", "b"]}))
    logits = np.random.default_rng(0).standard_normal(VOCAB).astype(np.float32)
    masked = logits.copy()
    constraint.mask(masked)
    kept = np.isfinite(masked)
    assert 0 < kept.sum() < 10
    assert np.array_equal(masked[kept], logits[kept])
    again = logits.copy()
    constraint.mask(again)
    assert np.array_equal(masked, again)


def test_rows_beyond_the_vocabulary_are_never_allowed(tokenizer: ChatTokenizer):
    compiler = GrammarCompiler(tokenizer, VOCAB + 77)
    constraint = compiler.constraint(Grammar("regex", "(?s:.*)"))
    assert max(allowed(constraint, VOCAB + 77)) < VOCAB
    assert max(allowed(constraint, VOCAB + 500)) < VOCAB


def test_no_special_token_stands_inside_a_text(compiler: GrammarCompiler, tokenizer: ChatTokenizer):
    constraint = compiler.constraint(schema({"type": "string"}))
    take(constraint, tokenizer.encode('"it says '))
    assert not allowed(constraint) & (tokenizer.special_ids | tokenizer.eos_ids)
    # Typed, it is text: these characters, in tokens of theirs.
    spelled = tokenizer.encode('<|end|> and <|system|>"')
    assert not tokenizer.special_ids.intersection(spelled)
    take(constraint, spelled)
    assert constraint.is_complete()


def test_a_character_may_be_said_in_halves(compiler: GrammarCompiler, tokenizer: ChatTokenizer):
    byte = {tokenizer.token_bytes.of(token): token for token in range(VOCAB) if token not in tokenizer.special_ids}
    constraint = compiler.constraint(schema({"type": "string", "maxLength": 2}))
    constraint.take(byte[b'"'])
    for part in "😀é".encode():
        assert not constraint.may_end()
        assert byte[bytes([part])] in allowed(constraint)
        constraint.take(byte[bytes([part])])
    assert byte[b"a"] not in allowed(constraint)
    constraint.take(byte[b'"'])
    assert constraint.is_complete()
    half = compiler.constraint(schema({"type": "string"}))
    take(half, [byte[b'"'], byte["é".encode()[:1]]])
    assert byte[b'"'] not in allowed(half), "a text cannot end within a character"


def test_what_was_said_is_gone_through_again(compiler: GrammarCompiler, tokenizer: ChatTokenizer):
    tokens = tokenizer.encode('{"name": "Grace", "age": 85}')
    first = compiler.constraint(schema(PERSON))
    for cut in range(len(tokens)):
        again = compiler.constraint(schema(PERSON))
        take(again, tokens[:cut])
        assert allowed(again) == allowed(first)
        first.take(tokens[cut])


def test_a_begun_answer_may_be_spaced_in_its_own_way(compiler: GrammarCompiler, tokenizer: ChatTokenizer):
    said = '{\n  "name":"Ada",\n  "age" : 3'
    constraint = compiler.constraint(schema(PERSON), begun=True)
    take(constraint, tokenizer.encode(said))
    take(constraint, tokenizer.encode("6}"))
    assert constraint.is_complete()
    alone = compiler.constraint(schema(PERSON))
    with pytest.raises(InvalidRequestError, match="not one that the grammar allows"):
        take(alone, tokenizer.encode(said))


def test_the_space_in_a_begun_answer_comes_to_an_end(compiler: GrammarCompiler, tokenizer: ChatTokenizer):
    constraint = compiler.constraint(schema(PERSON), begun=True)
    take(constraint, tokenizer.encode('{"name": "' + " " * 100 + '\\"",'))
    (space,) = tokenizer.encode(" ")
    said = 0
    while space in allowed(constraint):
        constraint.take(space)
        said += 1
    assert 20 < said < 100
    take(constraint, tokenizer.encode('"age":1}'))
    assert constraint.is_complete()


def test_the_end_of_a_begun_answer_may_be_said_in_other_tokens(compiler: GrammarCompiler, tokenizer: ChatTokenizer):
    byte = {tokenizer.token_bytes.of(token): token for token in range(VOCAB) if token not in tokenizer.special_ids}
    constraint = compiler.constraint(schema(PERSON), begun=True)
    take(constraint, [byte[b"{"], byte[b'"']])
    assert {byte[b"n"], *tokenizer.encode("name")} <= allowed(constraint)


def test_a_begun_answer_that_the_grammar_does_not_allow(compiler: GrammarCompiler, tokenizer: ChatTokenizer):
    constraint = compiler.constraint(schema(PERSON), begun=True)
    with pytest.raises(InvalidRequestError, match="not one that the grammar allows") as caught:
        take(constraint, tokenizer.encode("Here is the JSON: {"))
    assert "Here" not in str(caught.value)


def test_forced_tokens_are_the_only_ones(compiler: GrammarCompiler, tokenizer: ChatTokenizer):
    constraint = compiler.constraint(schema(PERSON))
    forced = constraint.forced()
    assert tokenizer.decode(forced).startswith('{"name": ')
    for token in forced:
        assert allowed(constraint) == {token}
        constraint.take(token)
    assert compiler.constraint(schema(PERSON), begun=True).forced() == []


@pytest.mark.parametrize(
    ("key", "fits"),
    [('"a"', False), ('"\\u0061"', False), ('"b"', True), ('"a/b"', False), ('"a\\/b"', False), ('"\\ud83d"', False)],
)
def test_a_declared_key_has_no_disguise(compiler: GrammarCompiler, tokenizer: ChatTokenizer, key: str, fits: bool):
    grammar = schema({"type": "object", "properties": {"a": {"type": "null"}, "a/b": {"type": "null"}}})
    assert accepts(compiler, tokenizer, grammar, f'{{{key}: "text"}}') == fits


def test_regular_expressions_match_the_whole_answer(compiler: GrammarCompiler, tokenizer: ChatTokenizer):
    grammar = Grammar("regex", r"[0-9]{2}/[0-9]{2}|a\/b")
    for text, fits in (
        ("12/34", True),
        ("a/b", True),
        ("x12/34", False),
        ("12/345", False),
        ("12", False),
        ("", False),
    ):
        assert accepts(compiler, tokenizer, grammar, text) == fits
    assert accepts(compiler, tokenizer, Grammar("regex", "a\nb"), "a\nb")


def test_lark_grammars_with_schemas_in_them(compiler: GrammarCompiler, tokenizer: ChatTokenizer):
    text = f"""
        // %json {{"not": "read here"}}
        start: "%json {{}} " /[a-z]+\\/%json/ call*
        call: "\\n<call>" arguments "</call>"
        arguments: {lark_for_schema(PERSON)}
    """
    said = '%json {} x/%json\n<call>{"name": "Ada", "age": 36}</call>'
    assert accepts(compiler, tokenizer, Grammar("lark", text), said)
    assert not accepts(compiler, tokenizer, Grammar("lark", text), said.replace("36", "151"))
    plain = Grammar("lark", "start: %json " + json.dumps(PERSON))
    assert accepts(compiler, tokenizer, plain, '{"name": "Ada", "age": 36}')


def test_lark_grammars_can_name_tokens(compiler: GrammarCompiler, tokenizer: ChatTokenizer):
    mark = tokenizer.token_id("<|system|>")
    assert mark is not None
    constraint = compiler.constraint(Grammar("lark", f'start: {lark_for_token(mark)} "yes"'))
    assert allowed(constraint) == {mark}
    take(constraint, [mark, *tokenizer.encode("yes")])
    assert constraint.is_complete()


def test_a_space_that_decoding_takes_away_is_no_part_of_the_answer(tmp_path: Path):
    write_checkpoint(tmp_path, mistral_config(vocab_size=480), tokenizer=metaspace_tokenizer())
    tokenizer = ChatTokenizer.from_folder(tmp_path, 480)
    compiler = GrammarCompiler(tokenizer, 480)
    space = tokenizer.token_id("▁")
    assert space is not None
    for text in ("yes", " yes", "  yes"):
        tokens = tokenizer.encode(text)
        assert tokenizer.decode(tokens) == text
        constraint = compiler.constraint(Grammar("regex", text))
        for token in tokens:
            assert token in allowed(constraint, 480)
            constraint.take(token)
        assert constraint.is_complete()
        if text != "yes":
            continue
        bare = compiler.constraint(Grammar("regex", text))
        assert {space, tokenizer.token_id("y")} <= allowed(bare, 480)
        bare.take(space)
        assert space not in allowed(bare, 480)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"not": {}}, "schema.not"),
        (
            {"type": "object", "properties": {"age": {"type": "integer", "nullable": True}}},
            "schema.properties.age.nullable",
        ),
        ({"type": "object", "properties": {"her name is Ada": {"if": {}}}}, "schema.properties.<key>.if"),
        ({"items": [{}]}, "schema.items"),
        ({"anyOf": [{}, {"uniqueItems": True}]}, "schema.anyOf[1].uniqueItems"),
        ({"$defs": {"a": {"dependentRequired": {}}}}, "schema.$defs.a.dependentRequired"),
        ({"type": "object", "minProperties": 3}, "schema.minProperties"),
        ({"type": "object", "properties": {"a": True}, "maxProperties": 3}, "schema.maxProperties"),
        ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, "schema.oneOf"),
        ({"oneOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}], "$defs": {"a": {"type": "null"}}}, "schema.oneOf"),
        ({"format": "idn-email"}, "schema.format"),
        ({"type": "integer", "format": "int32"}, "schema.format"),
        ({"exclusiveMinimum": True, "minimum": 1}, "schema.exclusiveMinimum"),
        ({"multipleOf": 0}, "schema.multipleOf"),
        ({"minLength": -1}, "schema.minLength"),
        ({"required": ["a", "a"]}, "schema.required"),
        ({"type": "text"}, "schema.type"),
        ({"enum": []}, "schema.enum"),
        ({"const": "bell \u0007"}, "schema.const"),
        ({"pattern": "^\\x07$"}, "schema.pattern"),
        ({"pattern": "a(?=b)"}, "schema.pattern"),
        ({"pattern": "(?i)a"}, "schema.pattern"),
        ({"pattern": "[a&&b]"}, "schema.pattern"),
        ({"$ref": "#/$defs/none"}, "schema.$ref"),
        ({"$ref": "https://schemas.example/other"}, "schema.$ref"),
        ({"items": {"$id": "https://schemas.example/inner"}}, "schema.items.$id"),
        ({"$schema": "http://json-schema.org/draft-04/schema#"}, "schema.$schema"),
        ({"x-guidance": {"lenient": True}}, "schema.x-guidance"),
        ({"$ref": "#"}, "schema"),
        ({"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#"}}}, "schema"),
        ({"type": "array", "minItems": 1, "items": {"$ref": "#"}}, "schema"),
        (False, "schema"),
        ([], "schema"),
        ({"properties": {"a": 3}}, "schema.properties.a"),
        ({"const": float("nan")}, "schema"),
        ({"const": "\ud800"}, "schema"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_schema_that_no_answer_can_be_held_to(value: object, path: str):
    with pytest.raises(SchemaError) as caught:
        check_schema(value)
    assert caught.value.path == path
    assert caught.value.message.startswith(path)
    assert caught.value.mend
    assert "Ada" not in str(caught.value)


SECRET = "SesameSesame"


@pytest.mark.parametrize(
    ("grammar", "said"),
    [
        (schema({"type": "string", "const": SECRET, "maxLength": 1}), "no answer can satisfy it"),
        (schema({"type": "string", "pattern": f"({SECRET}"}), "unclosed"),
        (schema({"type": "object", "patternProperties": {f"^{SECRET}": {"type": "null"}, "S": True}}), "one name"),
        (Grammar("json_schema", '{"const": "' + SECRET), "not JSON at line 1, column 11"),
        (Grammar("regex", f"{SECRET}("), "unclosed"),
        (Grammar("regex", f"{SECRET}(?=a)"), "looks around itself"),
        (Grammar("regex", f"\\b{SECRET}"), "stands beside it"),
        (Grammar("regex", "[^\\x00-\\x{10FFFF}]"), "no answer can satisfy it"),
        (Grammar("lark", f'start: {SECRET} "a"'), "at line 1: it uses a rule"),
        (Grammar("lark", f'start: "a"\n{SECRET} "{SECRET}'), "at line 2"),
        (Grammar("lark", f'other: "{SECRET}"'), "no rule named start"),
        (Grammar("lark", f"start: <{SECRET}>"), "a token that this model has not"),
        (Grammar("lark", 'start: start "a"'), "no answer can satisfy it"),
        (Grammar("lark", "start: " + "(" * 300 + '"a"' + ")" * 300), "nested too deeply"),
        (Grammar("lark", f'start: %json {{"not": "{SECRET}"}}'), r"grammar\.%json\[0\]\.not is not supported"),
        (Grammar("lark", f"start: %json {SECRET}"), "not followed by a schema"),
        (Grammar("lark", 'start: %json {"x-guidance": {"lenient": true}}'), "x-guidance is not supported"),
        (Grammar("lark", 'start: "\ud800"'), "surrogate"),
        (Grammar("lark", "x" * 300_000), "has 300000 characters"),
        (schema({"enum": ["x" * 300_000]}), "has 300014 characters"),
        (Grammar("json_schema", "[" * 100_000), "nested more than 100"),
        (schema({"$defs": {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(1500)} | {"d1500": {}}}), "too large"),
        (
            Grammar("lark", "start: r0\n" + "".join(f'r{i}: r{i + 1} "x"\n' for i in range(1500)) + 'r1500: "a"'),
            "rules",
        ),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else value.kind,
)
def test_a_grammar_that_cannot_be_used(compiler: GrammarCompiler, grammar: Grammar, said: str):
    with pytest.raises(InvalidRequestError, match=said) as caught:
        compiler.constraint(grammar)
    assert SECRET not in str(caught.value)
    assert caught.value.mend


def test_chains_as_long_as_they_may_be_need_no_more_stack_than_there_is(compiler: GrammarCompiler):
    last = 990
    chain = {f"d{i}": {"type": "array", "items": {"$ref": f"#/$defs/d{i + 1}"}} for i in range(last)}
    compiler.constraint(schema({"$ref": "#/$defs/d0", "$defs": {**chain, f"d{last}": {"type": "null"}}}))
    sums = {f"d{i}": {"$ref": f"#/$defs/d{i + 1}", "maximum": i + 9} for i in range(last)}
    compiler.constraint(schema({"$ref": "#/$defs/d0", "$defs": {**sums, f"d{last}": {"type": "integer"}}}))
    for name in ("r", "R"):
        rules = "".join(f'{name}{i}: {name}{i + 1} "x"\n' for i in range(last))
        compiler.constraint(Grammar("lark", f'start: {name}0\n{rules}{name}{last}: "a"'))


def test_a_grammar_that_becomes_too_much_work_ends_its_own_answer_only(compiler: GrammarCompiler):
    constraint = compiler.constraint(Grammar("regex", "((a{1,100}){1,100}){1,100}"))

    def go_on() -> None:
        for _ in range(5_000):
            constraint.take(max(allowed(constraint) - {END}))

    with pytest.raises(InvalidRequestError, match="takes too much work"):
        go_on()
    assert not compiler.constraint(schema(PERSON)).may_end()


def test_compiled_grammars_are_kept_and_their_answers_are_strangers(
    compiler: GrammarCompiler, tokenizer: ChatTokenizer
):
    one, other = compiler.constraint(schema(PERSON)), compiler.constraint(schema(PERSON))
    take(one, tokenizer.encode('{"name": "'))
    assert allowed(other) == {tokenizer.encode("{")[0]}
    for number in range(40):
        compiler.constraint(Grammar("regex", f"a{{{number}}}b"))
    assert allowed(compiler.constraint(schema(PERSON))) == allowed(other)


def test_without_the_extra_the_error_says_what_to_install():
    program = """
import sys
sys.modules["llguidance"] = None
from local_runtime.errors import InvalidRequestError
from local_runtime.grammar import GrammarCompiler
from local_runtime.options import Grammar
from local_runtime.paths import bundled_models
from local_runtime.tokenizer import ChatTokenizer
folder = bundled_models()["kiosk-assistant"]
try:
    GrammarCompiler(ChatTokenizer.from_folder(folder, 4096), 4096).constraint(Grammar("json_object"))
except InvalidRequestError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pip install 'hybridllm[grammar]'" in done.stdout


def test_the_library_is_imported_when_the_first_grammar_comes():
    program = """
import sys
import local_runtime.grammar, local_runtime.grammar_lark
print([name for name in sys.modules if name.startswith("llguidance")])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
