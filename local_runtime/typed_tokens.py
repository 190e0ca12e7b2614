"""Keeps control tokens that somebody typed ordinary text: marks them in strings, and encodes text in which they are marked."""

from __future__ import annotations

import json
import re
import secrets
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["PlainTextTwin", "break_tokens", "map_strings", "pattern_of", "strings_in"]


class PlainTextTwin:
    """The same tokenizer with its control tokens under names that nobody can type.

    Text is cut at special tokens before anything else happens to it, and each kind of tokenizer treats the pieces in its
    own way (a space before the first one, say). Encoding piece by piece would have to imitate that. Instead, one call
    encodes the whole text with a tokenizer whose special tokens have random names; those that the template wrote are
    given these names first. What a user typed keeps its spelling and means nothing to the twin.

    It is built when it is first needed, since a large vocabulary takes a noticeable part of a second.
    """

    def __init__(self, tokenizer: Tokenizer, control: Mapping[str, int]) -> None:
        self._original = tokenizer
        nonce = secrets.token_hex(8)
        self._names = {content: f"<|{nonce}:{token_id}|>" for content, token_id in control.items()}
        self._built: Tokenizer | None = None

    def encode(self, marked: str, control: re.Pattern[str], mark: str) -> list[int]:
        """Encode a rendered text in which ``mark`` breaks every control token that was typed."""
        renamed = control.sub(lambda match: self._names[match[0]], marked)
        # Templates that write tools as Python or as ASCII write the mark as an escape.
        return self.encode_plain(renamed.replace(mark, "").replace(f"\\u{ord(mark):04x}", ""))

    def encode_plain(self, text: str) -> list[int]:
        """Encode a text in which nothing is a control token."""
        if self._built is None:
            self._built = self._build()
        return self._built.encode(text, add_special_tokens=False).ids

    def _build(self) -> Tokenizer:
        state = json.loads(self._original.to_str())
        for token in state["added_tokens"]:
            token["content"] = self._names.get(token["content"], token["content"])
        model = state["model"]
        if isinstance(model["vocab"], dict):
            model["vocab"] = {self._names.get(name, name): token_id for name, token_id in model["vocab"].items()}
        else:  # Unigram: a list of [piece, score] by id
            model["vocab"] = [[self._names.get(piece, piece), score] for piece, score in model["vocab"]]
        if model.get("unk_token"):
            model["unk_token"] = self._names.get(model["unk_token"], model["unk_token"])
        state["post_processor"] = None  # it would refer to the old names, and only adds what we don't ask for
        return Tokenizer.from_str(json.dumps(state))


def pattern_of(tokens: Iterable[str]) -> re.Pattern[str]:
    """Matches any of the tokens, the longest where several begin at one place."""
    longest_first = sorted((token for token in tokens if token), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


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
