"""Every answer to a schema keeps to it, whatever the model would rather say: over many schemas, with logits drawn at random."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from local_runtime.grammar import GrammarCompiler
from local_runtime.options import Grammar
from local_runtime.paths import bundled_models
from local_runtime.tokenizer import ChatTokenizer
from tests.local_runtime.checkpoints import metaspace_tokenizer, mistral_config, write_checkpoint
from tests.local_runtime.grammar_schemas import WRITTEN, drawn, faults

SHORT, MOST = 40, 2_000


class Talker:
    """A model without a mind: it says anything, until an answer is long enough; then it comes to an end where it can."""

    def __init__(self, folder: Path, vocab_size: int) -> None:
        self.tokenizer = ChatTokenizer.from_folder(folder, vocab_size)
        self.compiler = GrammarCompiler(self.tokenizer, vocab_size)
        self.vocab_size = vocab_size
        self._closing = np.zeros(vocab_size, dtype=np.float32)
        for token in range(vocab_size):
            said = self.tokenizer.token_bytes.of(token)
            if token in self.tokenizer.eos_ids or said.lstrip(b" ")[:1] in (b'"', b"}", b"]"):
                self._closing[token] = 30
            elif said in (b"@", b":") or (
                said and b"null".startswith(said)
            ):  # the way out of an address, and of a chain
                self._closing[token] = 20

    def say(self, grammar: Grammar, seed: int) -> str:
        """An answer to the grammar, as the engine would have taken it down."""
        constraint = self.compiler.constraint(grammar)
        draw = np.random.default_rng(seed)
        said: list[int] = []
        while not constraint.is_complete():
            assert len(said) < MOST, "the answer has no end"
            logits = draw.standard_normal(self.vocab_size, dtype=np.float32) * 4
            if len(said) > SHORT:
                logits += self._closing
            constraint.mask(logits)
            token = int(np.argmax(logits))
            assert np.isfinite(logits[token])
            constraint.take(token)
            if token in self.tokenizer.eos_ids:
                break
            said.append(token)
            if seed % 2:  # as the engine does, unless somebody wants to know what the model thought of each token
                for forced in constraint.forced():
                    constraint.take(forced)
                    said.append(forced)
        assert constraint.may_end()
        assert not self.tokenizer.special_ids.intersection(said)
        return self.tokenizer.decode(said)


@pytest.fixture(scope="module")
def talker() -> Talker:
    folder = bundled_models()["kiosk-assistant"]
    return Talker(folder, json.loads((folder / "config.json").read_text())["vocab_size"])


@pytest.fixture(scope="module")
def sentencepiece_talker(tmp_path_factory: pytest.TempPathFactory) -> Talker:
    """One whose tokenizer puts a space before every text, which decoding takes away; with padding in its vocabulary."""
    folder = tmp_path_factory.mktemp("metaspace")
    write_checkpoint(folder, mistral_config(vocab_size=480), tokenizer=metaspace_tokenizer())
    return Talker(folder, 480)


def check(talker: Talker, schema: Any, seed: int) -> None:
    text = talker.say(Grammar("json_schema", json.dumps(schema, ensure_ascii=False)), seed)
    answer = json.loads(text)
    assert not faults(schema, answer), (schema, text)
    answer_as_utf8 = text.encode()
    assert answer_as_utf8.decode() == text


def test_there_are_many_different_schemas():
    everyday = [*WRITTEN, *map(drawn, range(150))]
    different = {json.dumps(schema) for schema in everyday}
    assert len(different) >= 250
    for schema in everyday:
        Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("schema", WRITTEN, ids=lambda schema: json.dumps(schema, ensure_ascii=True)[:60])
def test_answers_to_written_schemas(talker: Talker, schema: Any):
    for seed in range(2):
        check(talker, schema, seed)


@pytest.mark.parametrize("tens", range(15))
def test_answers_to_drawn_schemas(talker: Talker, tens: int):
    for number in range(10 * tens, 10 * tens + 10):
        for seed in range(2):
            check(talker, drawn(number), seed)


@pytest.mark.parametrize("part", range(4))
def test_answers_with_another_kind_of_tokenizer(sentencepiece_talker: Talker, part: int):
    for schema in [*WRITTEN[part::4], *map(drawn, range(part, 40, 4))]:
        check(sentencepiece_talker, schema, 0)


def test_json_objects(talker: Talker):
    for seed in range(20):
        assert isinstance(json.loads(talker.say(Grammar("json_object"), seed)), dict)


@pytest.mark.slow
@pytest.mark.parametrize("hundred", range(20))
def test_answers_to_very_many_schemas(talker: Talker, hundred: int):
    for number in range(1_000 + 100 * hundred, 1_100 + 100 * hundred):
        for seed in range(3):
            check(talker, drawn(number), seed)


@pytest.mark.slow
def test_answers_to_written_schemas_with_many_seeds(talker: Talker):
    for schema in WRITTEN:
        for seed in range(100, 140):
            check(talker, schema, seed)
