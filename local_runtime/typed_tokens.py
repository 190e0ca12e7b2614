"""Keeps control tokens that somebody typed ordinary text: marks them in strings, and encodes text in which they are marked."""

from __future__ import annotations

import json
import re
import secrets
from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken, Tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["PlainTextTwin", "break_tokens", "map_strings", "pattern_of", "strings_in"]


class PlainTextTwin:
    """The same tokenizer with its control tokens under names that nobody can type.

    Text is cut at special tokens before anything else happens to it, and each kind of tokenizer treats the pieces in its
    own way (a space before the first one, say). Encoding piece by piece would have to imitate that. Instead, one call
    encodes the whole text with a tokenizer whose special tokens have random names; those that the template wrote are
    given these names first. What a user typed keeps its spelling and means nothing to the twin.

    The twin is made when it is first needed. It shares the tokenizer's vocabulary, which for 150,000 tokens is 50 MiB: of
    its own it has the renamed tokens only, whose ids are translated back. But the shared vocabulary may know the old names
    too, and some kinds of models (Unigram, whole words) look a text up in it. Where an old name comes out, the text is encoded again
    by a twin in whose vocabulary the tokens are renamed as well, and which has one of its own for that.
    """

    def __init__(self, tokenizer: Tokenizer, control: Mapping[str, int]) -> None:
        self._original = tokenizer
        nonce = secrets.token_hex(8)
        self._names = {content: f"<|{nonce}:{token_id}|>" for content, token_id in control.items()}
        self._sharing: _Sharing | None = None
        self._renamed: Tokenizer | None = None

    def encode(self, marked: str, control: re.Pattern[str], mark: str) -> list[int]:
        """Encode a rendered text in which ``mark`` breaks every control token that was typed."""
        renamed = control.sub(lambda match: self._names[match[0]], marked)
        # Templates that write tools as Python or as ASCII write the mark as an escape.
        return self.encode_plain(renamed.replace(mark, "").replace(f"\\u{ord(mark):04x}", ""))

    def encode_plain(self, text: str) -> list[int]:
        """Encode a text in which nothing is a control token."""
        if self._sharing is None:
            self._sharing = _Sharing(self._original, self._names)
        ids = self._sharing.encode(text)
        if ids is None:
            if self._renamed is None:
                self._renamed = _with_renamed_vocabulary(self._original, self._names)
            ids = self._renamed.encode(text, add_special_tokens=False).ids
        return ids


class _Sharing:
    """A tokenizer with other names for some tokens over the same vocabulary."""

    def __init__(self, original: Tokenizer, names: Mapping[str, str]) -> None:
        model = original.model
        self._twin = Tokenizer(model)
        if original.normalizer is not None:
            self._twin.normalizer = original.normalizer
        if original.pre_tokenizer is not None:
            self._twin.pre_tokenizer = original.pre_tokenizer
        added = original.get_added_tokens_decoder()
        self._twin.add_tokens([_renamed(token, names) for token in added.values()])
        self._original_ids: dict[int, int] = {}
        self._old_names: set[int] = set()
        """Ids that the vocabulary gives to an old name."""
        self._is_sound = True
        for token_id, token in added.items():
            name = names.get(token.content, token.content)
            here = self._twin.token_to_id(name)
            # New ids follow on the number of tokens, which a vocabulary with gaps in its ids has given to others.
            is_free = here is not None and (model.token_to_id(name) is not None or model.id_to_token(here) is None)
            self._is_sound = self._is_sound and is_free
            if here is not None:
                self._original_ids[here] = token_id
            if token.content in names and model.id_to_token(token_id) is not None:
                self._old_names.add(token_id)

    def encode(self, text: str) -> list[int] | None:
        """Ids of the original tokenizer; None where the vocabulary has found an old name in the text."""
        ids = self._twin.encode(text, add_special_tokens=False).ids
        if not self._is_sound or not self._old_names.isdisjoint(ids):
            return None
        return [self._original_ids.get(token_id, token_id) for token_id in ids]


def _renamed(token: AddedToken, names: Mapping[str, str]) -> AddedToken:
    return AddedToken(
        names.get(token.content, token.content),
        single_word=token.single_word,
        lstrip=token.lstrip,
        rstrip=token.rstrip,
        normalized=token.normalized,
        special=token.special,
    )


def _with_renamed_vocabulary(original: Tokenizer, names: Mapping[str, str]) -> Tokenizer:
    """A tokenizer of its own with other names for some tokens, everywhere.

    Renamed in its text: as objects, a large vocabulary would take several times the memory for a moment.
    """
    text = original.to_str()
    # No merge of a byte-pair model may come to an old name.
    splits = ((content[:at], content[at:]) for content in names for at in range(1, len(content)))
    merges = _any_of(f"[{_as_json(left)},{_as_json(right)}]" for left, right in splits)
    text = re.sub(rf",(?:{merges})(?=[,\]])|(?:{merges}),?", "", text)
    # A string that begins and ends where a name does is that name: a quotation mark within a string has a backslash before it.
    written = {_as_json(content): _as_json(name) for content, name in names.items()}
    text = re.sub(rf"(?<=[\[{{,:])(?:{_any_of(written)})(?=[\]}},:])", lambda match: written[match[0]], text)
    return Tokenizer.from_str(text)


def _as_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _any_of(texts: Iterable[str]) -> str:
    return "|".join(map(re.escape, texts)) or "(?!)"


def pattern_of(tokens: Iterable[str]) -> re.Pattern[str]:
    """Matches any of the tokens, the longest where several begin at one place."""
    longest_first = sorted((token for token in tokens if token), key=len, reverse=True)
    return re.compile(_any_of(longest_first))


def break_tokens(value: Any, control: re.Pattern[str], mark: str) -> Any:
    """Put ``mark`` around and between the characters of every control token in ``value``'s strings.

    That leaves neither the token, nor one inside it, nor one that overlaps it.
    """
    return map_strings(value, lambda text: control.sub(lambda match: mark + mark.join(match[0]) + mark, text))


def map_strings(value: Any, change: Callable[[str], str]) -> Any:
    """A copy of a JSON-like value with every string in it changed, keys included."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {map_strings(key, change): map_strings(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map_strings(item, change) for item in value)
    return value


def strings_in(value: Any) -> Iterable[str]:
    """All strings in a JSON-like value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from strings_in(key)
            yield from strings_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from strings_in(item)
