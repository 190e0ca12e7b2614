"""Incremental decoding equals decoding at once, never cuts a character, and stop strings don't care where text is cut."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders

from local_runtime.detokenizer import IncrementalDetokenizer, StopStrings
from local_runtime.errors import InvalidRequestError
from local_runtime.tokenizer import ChatTokenizer
from tests.local_runtime.checkpoints import llama_config, metaspace_tokenizer, mistral_config, write_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

Pair = tuple[ChatTokenizer, Tokenizer]


def make(folder: Path, config: dict[str, object], vocab_size: int, tokenizer: Tokenizer | None = None) -> Pair:
    write_checkpoint(folder, config, tokenizer=tokenizer)
    return ChatTokenizer.from_folder(folder, vocab_size), Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make(tmp_path_factory.mktemp("byte-level"), llama_config(), 320)


@pytest.fixture(scope="module")
def metaspace(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    config = mistral_config(vocab_size=420)
    return make(tmp_path_factory.mktemp("metaspace"), config, 420, metaspace_tokenizer())


@pytest.fixture(scope="module")
def plain_metaspace(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The newer spelling: one Metaspace decoder in place of the sequence."""
    tokenizer = metaspace_tokenizer()
    tokenizer.decoder = decoders.Metaspace()
    return make(tmp_path_factory.mktemp("plain"), mistral_config(vocab_size=420), 420, tokenizer)


def id_of(library: Tokenizer, name: str) -> int:
    token_id = library.token_to_id(name)
    assert token_id is not None
    return token_id


def pieces_of(tokenizer: ChatTokenizer, ids: list[int]) -> list[str]:
    detokenizer = IncrementalDetokenizer(tokenizer)
    return [*map(detokenizer.push, ids), detokenizer.flush()]


@settings(deadline=None, max_examples=300)
@given(ids=st.lists(st.integers(0, 319), max_size=40))
def test_any_byte_level_tokens_give_the_librarys_text(byte_level: Pair, ids: list[int]) -> None:
    chat, library = byte_level
    assert "".join(pieces_of(chat, ids)) == library.decode(ids, skip_special_tokens=True)


@settings(deadline=None, max_examples=200)
@given(text=st.text(max_size=60))
def test_every_text_survives_and_no_piece_ends_inside_a_character(byte_level: Pair, metaspace: Pair, text: str) -> None:
    for chat, library in (byte_level, metaspace):
        ids = library.encode(text, add_special_tokens=False).ids
        pieces = pieces_of(chat, ids)
        assert "".join(pieces) == library.decode(ids) == text
        assert all("\ufffd" not in piece for piece in pieces) or "\ufffd" in text


@settings(deadline=None, max_examples=200)
@given(ids=st.lists(st.one_of(st.integers(0, 2), st.integers(259, 419)), max_size=40))
def test_any_metaspace_tokens_without_bytes_give_the_librarys_text(
    metaspace: Pair, plain_metaspace: Pair, ids: list[int]
) -> None:
    for chat, library in (metaspace, plain_metaspace):
        assert "".join(pieces_of(chat, ids)) == library.decode(ids, skip_special_tokens=True)


def test_byte_tokens_become_a_character_when_the_last_byte_arrives(metaspace: Pair) -> None:
    chat, library = metaspace
    ids = [id_of(library, name) for name in ("<0xE2>", "<0x82>", "<0xAC>")]
    assert pieces_of(chat, ids) == ["", "", "€", ""]


def test_bytes_that_are_no_text_become_replacement_characters_at_once(metaspace: Pair) -> None:
    chat, library = metaspace
    broken, letter = id_of(library, "<0xE2>"), id_of(library, "a")
    assert pieces_of(chat, [letter, broken, letter]) == ["a", "", "\ufffda", ""]
    assert pieces_of(chat, [letter, broken]) == ["a", "", "\ufffd"]


def test_a_broken_run_of_bytes_keeps_the_characters_that_were_complete(metaspace: Pair) -> None:
    chat, library = metaspace
    ids = [id_of(library, name) for name in ("<0xE2>", "<0x82>", "<0xAC>", "<0xE2>", "a")]
    assert pieces_of(chat, ids) == ["", "", "€", "", "\ufffda", ""]
    assert library.decode(ids) == "\ufffd" * 4 + "a"  # it looks back, which a stream cannot


def test_special_tokens_give_no_text_and_do_not_cut_a_character(byte_level: Pair) -> None:
    chat, library = byte_level
    ids = library.encode("é", add_special_tokens=False).ids
    assert len(ids) == 2
    assert pieces_of(chat, [1, *ids, 2]) == ["", "", "é", "", ""]
    named = IncrementalDetokenizer(chat, skip_special_tokens=False)
    assert named.push(2) == "<|im_end|>"


def test_only_the_first_space_of_a_text_is_the_tokenizers(metaspace: Pair) -> None:
    chat, library = metaspace
    ids = library.encode(" two  spaces ", add_special_tokens=False).ids
    assert "".join(pieces_of(chat, [1, *ids])) == " two  spaces "


def test_ids_beyond_the_tokenizer_give_no_text(byte_level: Pair) -> None:
    assert pieces_of(byte_level[0], [10_000]) == ["", ""]


def test_all_tokens_by_their_bytes(byte_level: Pair, metaspace: Pair) -> None:
    for chat, library in (byte_level, metaspace):
        table = chat.prefixes()
        assert chat.prefixes() is table  # made once
        everything = set(range(library.get_vocab_size())) - chat.special_ids - chat.eos_ids
        assert set(table.beginning_with(b"").tolist()) == everything
        for token in everything:
            name = chat.token_bytes.of(token)
            assert token in table.beginning_with(name)
            assert table.reaches_beyond(name[:-1])
        assert not table.beginning_with(b"<|im_end|>").size


def reference_stop(text: str, stops: list[str]) -> tuple[str, bool]:
    """Cut before the stop string that is complete first when the text comes one character at a time."""
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            return text[: end - max(map(len, complete))], True
    return text, False


@settings(deadline=None, max_examples=300)
@given(
    text=st.text("ab\n", max_size=40),
    stops=st.lists(st.text("ab\n", min_size=1, max_size=5), max_size=3),
    cuts=st.lists(st.integers(0, 40), max_size=10),
)
def test_stop_strings_cut_the_same_wherever_the_text_is_split(text: str, stops: list[str], cuts: list[int]) -> None:
    borders = [0, *sorted(cuts), len(text)]
    watcher = StopStrings(stops)
    shown, stopped = "", False
    for start, end in itertools.pairwise(borders):
        piece, stopped = watcher.push(text[start:end])
        shown += piece
        assert not any(stop in shown for stop in stops)
        if stopped:
            break
    if not stopped:
        shown += watcher.flush()
    assert (shown, stopped) == reference_stop(text, stops)


@settings(deadline=None, max_examples=300)
@given(
    text=st.text("ab\n", max_size=30),
    stops=st.lists(st.text("ab\n", min_size=1, max_size=5), max_size=3),
    begun=st.integers(0, 30),
    cuts=st.lists(st.integers(0, 30), max_size=6),
)
def test_what_was_given_out_before_counts_for_stop_strings_and_is_not_given_out_again(
    text: str, stops: list[str], begun: int, cuts: list[int]
) -> None:
    shown, stopped = reference_stop(text, stops)
    watcher = StopStrings(stops)
    begun = min(begun, len(text))
    is_whole = watcher.begin(text[:begun])
    assert is_whole == reference_stop(text[:begun], stops)[1]
    rest, ended = "", is_whole
    borders = [begun, *sorted(max(cut, begun) for cut in cuts), len(text)]
    for start, end in itertools.pairwise(borders):
        if not ended:
            piece, ended = watcher.push(text[start:end])
            rest += piece
    if not ended:
        rest += watcher.flush()
    assert ended == stopped
    assert rest == shown[begun:]


def test_in_the_middle_of_a_text_bytes_that_are_out_are_not_given_out_again(byte_level: Pair, metaspace: Pair) -> None:
    for chat, library in (byte_level, metaspace):
        ids = library.encode(" é \U0001f600 end", add_special_tokens=False).ids
        said = b"".join(map(chat.token_bytes.of, ids))
        for bytes_out in range(len(said) + 1):
            detokenizer = IncrementalDetokenizer(chat, bytes_out=bytes_out)
            pieces = [*map(detokenizer.push, ids), detokenizer.flush()]
            # Mid-text, a first space is the text's own.
            assert "".join(pieces) == said[bytes_out:].decode(errors="replace")


def test_only_what_may_begin_a_stop_string_is_held_back() -> None:
    watcher = StopStrings(["\nUser:"])
    assert watcher.push("Hello") == ("Hello", False)
    assert watcher.push(" there\nUs") == (" there", False)
    assert watcher.push("ually") == ("\nUsually", False)
    assert watcher.push("\nUser: more") == ("", True)
    assert watcher.push("anything") == ("", True)
    assert watcher.flush() == ""


def test_without_stop_strings_text_passes_through() -> None:
    watcher = StopStrings(())
    assert watcher.push("text") == ("text", False)
    assert watcher.flush() == ""


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match=re.escape("A stop string is empty.")):
        StopStrings(["x", ""])
