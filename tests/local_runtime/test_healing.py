"""Token healing: what is found by its beginning, how far a text is taken back, and that every way on can be finished."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_runtime.healing import Healing, TokenPrefixes, take_back

names = st.lists(st.binary(min_size=0, max_size=4).map(lambda raw: bytes(byte % 3 for byte in raw)), max_size=30)
texts = st.binary(max_size=12).map(lambda raw: bytes(byte % 3 for byte in raw))


@settings(max_examples=300, deadline=None)
@given(names=names, text=texts)
def test_tokens_are_found_by_how_they_begin(names: list[bytes], text: bytes) -> None:
    prefixes = TokenPrefixes(names, range(100, 100 + len(names)))
    numbered = {100 + place: name for place, name in enumerate(names) if name}
    assert sorted(prefixes.beginning_with(text)) == [token for token, name in numbered.items() if name.startswith(text)]
    assert prefixes.reaches_beyond(text) == any(
        name.startswith(text) and len(name) > len(text) for name in numbered.values()
    )
    shorter = {token: length for length, ids in prefixes.that_begin(text) for token in ids.tolist()}
    assert shorter == {
        token: len(name) for token, name in numbered.items() if text.startswith(name) and len(name) < len(text)
    }
    assert prefixes.longest_bytes == max(map(len, numbered.values()), default=0)


def finishes(rest: bytes, names: list[bytes]) -> bool:
    """Whether tokens can say ``rest``, the last one possibly with more: tried one after the other."""
    return not rest or any(
        name.startswith(rest) or (rest.startswith(name) and finishes(rest[len(name) :], names))
        for name in names
        if name
    )


@settings(max_examples=300, deadline=None)
@given(names=names, spelled=st.lists(st.integers(0, 29), min_size=1, max_size=5), data=st.data())
def test_whatever_is_drawn_the_rest_can_still_be_said(
    names: list[bytes], spelled: list[int], data: st.DataObject
) -> None:
    names = [name for name in names if name] or [b"\0"]
    remainder = b"".join(names[place % len(names)] for place in spelled)
    healing = Healing(remainder, TokenPrefixes(names, range(len(names))), names.__getitem__)
    said = b""
    while healing.open:
        rest = remainder[len(said) :]
        allowed = healing.allowed().tolist()
        assert sorted(allowed) == [
            token
            for token, name in enumerate(names)
            if name.startswith(rest) or (rest.startswith(name) and finishes(rest[len(name) :], names))
        ]
        token = data.draw(st.sampled_from(allowed))
        said += names[token]
        assert healing.take(token) == (len(said) <= len(remainder))
    assert said.startswith(remainder)


VOCABULARY = [
    b"H",
    b"el",
    b"lo",
    b"Hel",
    b"Hello",
    b" ",
    b" wor",
    b" world",
    b"ld",
    b"!",
    b"o",
    b"l",
    b"e",
    b" w",
    b"r",
    b"d",
]
PREFIXES = TokenPrefixes(VOCABULARY, range(len(VOCABULARY)))


@pytest.mark.parametrize(
    ("tokens", "kept", "remainder"),
    [
        ([b"Hel"], [], b"Hel"),  # may become Hello
        ([b"Hello"], [b"Hello"], b""),  # no token goes on from "Hello", nor from its last letters
        ([b"Hello", b" "], [b"Hello"], b" "),  # the space is the next word's
        ([b"Hello", b" wor", b"l"], [b"Hello"], b" worl"),  # as many as the word took
        ([b"Hello", b" world", b"!"], [b"Hello", b" world", b"!"], b""),  # nothing begins with an exclamation mark
        ([b"Hello", b" world", b"!", b"!"], [b"Hello", b" world", b"!", b"!"], b""),
    ],
)
def test_how_far_a_text_is_taken_back(tokens: list[bytes], kept: list[bytes], remainder: bytes) -> None:
    ids = [VOCABULARY.index(token) for token in tokens]
    begun = take_back(ids, b"".join(tokens), VOCABULARY.__getitem__, PREFIXES)
    assert [VOCABULARY[token] for token in begun.kept] == kept
    assert begun.remainder == remainder
    assert begun.taken_back == len(tokens) - len(kept)


def test_a_token_that_nothing_can_take_the_place_of_is_kept() -> None:
    vocabulary = [b"a", b"b", b"bc"]
    prefixes = TokenPrefixes(vocabulary, range(3))
    # "ab" is open from "b" on; with the a's token no other begins.
    assert take_back([0, 1], b"ab", vocabulary.__getitem__, prefixes).kept == [0]
    vocabulary = [b"ab", b"b", b"bc"]
    begun = take_back([0], b"ab", vocabulary.__getitem__, TokenPrefixes(vocabulary, range(3)))
    assert (begun.kept, begun.remainder) == ([0], b"")


def test_nothing_is_taken_back_where_tokens_do_not_spell_the_text() -> None:
    # A tokenizer that writes everything small; only what is byte for byte the text's end may be said again.
    vocabulary = [b"he", b"l", b"ll", b"x"]
    prefixes = TokenPrefixes(vocabulary, range(4))
    begun = take_back([0, 1], b"HEL", vocabulary.__getitem__, prefixes)
    assert (begun.kept, begun.remainder, begun.taken_back) == ([0, 1], b"", 0)
    begun = take_back([0, 1], b"HEl", vocabulary.__getitem__, prefixes)
    assert (begun.kept, begun.remainder, begun.taken_back) == ([0], b"l", 1)
    assert take_back([], b"", vocabulary.__getitem__, prefixes).kept == []


def test_a_begun_answer_shows_no_content() -> None:
    begun = take_back([0], b"Hel", lambda _: b"Hel", TokenPrefixes([b"Hel", b"Hello"], range(2)))
    assert repr(begun) == "BegunAnswer(kept=<0 items>, remainder=<3 bytes>, taken_back=1)"
