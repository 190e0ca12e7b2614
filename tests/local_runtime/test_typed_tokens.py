"""Control tokens that somebody typed: text in every kind of tokenizer, whatever its vocabulary says, and without a second one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from local_runtime.tokenizer_files import read_tokenizer
from local_runtime.typed_tokens import PlainTextTwin
from tests.engine_cache import ROOT

SPECIAL = ["<s>", "</s>", "<unk>", "<|im_end|>"]


def byte_level(*merges: tuple[str, str], ignore_merges: bool = False) -> Tokenizer:
    pieces = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in merges)]
    vocabulary = {piece: token_id for token_id, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges), ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def with_ids_of_their_own() -> Tokenizer:
    """Control tokens that the vocabulary itself does not have, as in Qwen's and Llama 3's files."""
    vocabulary = {piece: token_id for token_id, piece in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def unigram() -> Tokenizer:
    scores = {"<unk>": 0.0, "<s>": 0.0, "</s>": 0.0, "▁": -2.0, "ab": -3.5, "im": -3.5}
    letters = dict.fromkeys("abcdefghijklmnopqrstuvwxyz</>|_:0123456789é", -3.0)
    tokenizer = Tokenizer(models.Unigram(list((scores | letters).items()), unk_id=0))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def whole_words(vocabulary: dict[str, int]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2, **vocabulary}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def with_gaps() -> Tokenizer:
    """Ids that the next token to be added would be given are others' already."""
    state = json.loads(whole_words({"a": 3, "b": 4, "c": 5}).to_str())
    state["model"]["vocab"] |= {"a": 7, "b": 8}
    state["added_tokens"][-1]["id"] = 20
    return Tokenizer.from_str(json.dumps(state))


KINDS = {
    "byte-level": byte_level(("a", "b")),
    "byte-level, ids of their own": with_ids_of_their_own(),
    "byte-level, whole pieces first": byte_level(("a", "b"), ignore_merges=True),
    "unigram": unigram(),
    "whole words": whole_words({"a": 3, "b": 4}),
    "gaps": with_gaps(),
}


def control_of(tokenizer: Tokenizer) -> dict[str, int]:
    return {token.content: token_id for token_id, token in tokenizer.get_added_tokens_decoder().items()}


def renamed_as_objects(tokenizer: Tokenizer, names: dict[str, str]) -> Tokenizer:
    """What a twin has to agree with: the same tokenizer with other names, made in the plainest way."""

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {names.get(key, key): renamed(item) for key, item in value.items()}
        if isinstance(value, list):
            return [renamed(item) for item in value]
        return names.get(value, value) if isinstance(value, str) else value

    return Tokenizer.from_str(json.dumps(renamed(json.loads(tokenizer.to_str()))))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(parts=st.lists(st.sampled_from([*SPECIAL, *range(4), "a", "b", " ", "é", "im", "<", "/s", "s>"]), max_size=8))
def test_the_twin_is_the_tokenizer_with_other_names(kind: str, parts: list[str | int]) -> None:
    tokenizer = KINDS[kind]
    twin = PlainTextTwin(tokenizer, control_of(tokenizer))
    names = [twin._names[content] for content in SPECIAL]
    text = "".join(names[part] if isinstance(part, int) else part for part in parts)
    expected = renamed_as_objects(tokenizer, twin._names)
    assert twin.encode_plain(text) == expected.encode(text, add_special_tokens=False).ids
    if kind in ("byte-level", "byte-level, ids of their own"):
        assert twin._renamed is None  # they need no vocabulary of their own


@pytest.mark.parametrize("kind", KINDS)
def test_a_typed_control_token_is_none_of_them(kind: str) -> None:
    tokenizer = KINDS[kind]
    control = control_of(tokenizer)
    typed = PlainTextTwin(tokenizer, control).encode_plain("</s>")
    assert control["</s>"] in tokenizer.encode("</s>", add_special_tokens=False).ids  # the danger is real
    assert control["</s>"] not in typed
    assert typed


def test_merges_that_spell_a_control_token_do_not_make_one() -> None:
    tokenizer = byte_level(("<", "/"), ("</", "s"), ("</s", ">"), ("a", "b"), ("<", "s"), ("<s", ">"))
    typed = PlainTextTwin(tokenizer, control_of(tokenizer)).encode_plain("ab</s><s>")
    assert [tokenizer.id_to_token(token_id) for token_id in typed] == ["ab", "</s", ">", "<s", ">"]


def test_only_control_tokens_are_renamed() -> None:
    tokenizer = with_ids_of_their_own()
    control = {content: token_id for content, token_id in control_of(tokenizer).items() if content != "</s>"}
    ids = PlainTextTwin(tokenizer, control).encode_plain("a<s></s>")
    assert ids.count(control_of(tokenizer)["</s>"]) == 1
    assert len(ids) == 1 + len("<s>") + 1


def test_a_tokenizer_without_control_tokens_has_a_twin_too() -> None:
    tokenizer = byte_level()
    assert PlainTextTwin(tokenizer, {}).encode_plain("a</s>") == tokenizer.encode("a</s>").ids


def test_quotation_marks_in_tokens_are_kept_apart() -> None:
    tokenizer = whole_words({'"</s>"': 3, '\\"</s>': 4, '","': 5})
    tokenizer.add_special_tokens(['"'])
    twin = PlainTextTwin(tokenizer, control_of(tokenizer))
    for text in ("</s>", '"</s>"', '\\"</s>', '","', "x"):
        expected = renamed_as_objects(tokenizer, twin._names).encode(text, add_special_tokens=False).ids
        assert twin.encode_plain(text) == expected


_PROGRAM = """
import random, sys
import psutil
from tokenizers import Tokenizer, models, pre_tokenizers
from local_runtime.typed_tokens import PlainTextTwin

random.seed(3)
pieces = sorted(pre_tokenizers.ByteLevel.alphabet())
vocabulary = {"</s>": 0, **{piece: index + 1 for index, piece in enumerate(pieces)}}
merges = []
while len(vocabulary) < 60_000:
    pair = random.choice(pieces), random.choice(pieces)
    if "".join(pair) not in vocabulary and len("".join(pair)) < 14:
        vocabulary["".join(pair)] = len(vocabulary)
        pieces.append("".join(pair))
        merges.append(pair)
tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.add_special_tokens(["</s>"])
before = tokenizer.encode("hello", add_special_tokens=False).ids
twin = PlainTextTwin(tokenizer, {"</s>": 0})
held = psutil.Process().memory_info().rss
assert twin.encode_plain("hello") == before
assert 0 not in twin.encode_plain("hello</s>")
print((psutil.Process().memory_info().rss - held) / 2**20)
"""


def test_a_twin_has_no_vocabulary_of_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert float(done.stdout) < 4  # MiB; a second vocabulary of 60,000 tokens takes 30


def test_a_prompt_is_neither_cut_nor_filled_up(tmp_path: Path) -> None:
    tokenizer = byte_level()
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=9)
    file = tmp_path / "tokenizer.json"
    tokenizer.save(str(file))
    read = read_tokenizer(file)
    assert len(read.encode("abcde").ids) == 5
    assert len(PlainTextTwin(read, control_of(read)).encode_plain("</s>")) == 4
