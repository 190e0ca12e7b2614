"""From tokens back to text while they are generated, and stop strings over that text.

A token of a modern vocabulary is a piece of UTF-8, not of text: one character may take several tokens. Both families of
tokenizers that llama-style checkpoints use are therefore decoded to bytes, token by token, and an incremental UTF-8
decoder turns the bytes into characters as soon as they are complete:

- byte-level (GPT-2, Llama 3, Qwen): each character of a token's name stands for one byte;
- metaspace (SentencePiece: Llama 2, Mistral): a token's name is its text with U+2581 for the space, and ``<0x0A>`` is one
  byte of a character outside the vocabulary.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import TYPE_CHECKING, Any

from local_runtime.errors import InvalidRequestError, TokenizerError
from local_runtime.healing import TokenPrefixes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from tokenizers import Tokenizer

    from local_runtime.tokenizer import ChatTokenizer

__all__ = ["IncrementalDetokenizer", "StopStrings", "TokenBytes"]

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_METASPACE = "▁"


class TokenBytes:
    """What each token stands for, as bytes, according to the tokenizer's own decoder.

    Args:
        tokenizer: The tokenizer.
        where: Its file, for errors.

    Attributes:
        leading_spaces: How many spaces the decoder removes from the beginning of a text.

    Raises:
        TokenizerError: The decoder is of a kind that is not implemented.
    """

    def __init__(self, tokenizer: Tokenizer, where: str) -> None:
        self._tokenizer = tokenizer
        self._where = where
        self._byte_level = False
        self._byte_fallback = False
        self._replacements: list[tuple[str, str]] = []
        self._first_token_marker = ""
        self.leading_spaces = 0
        self._known: dict[int, bytes] = {}
        state = None if tokenizer.decoder is None else json.loads(tokenizer.decoder.__getstate__())
        self._read(state)

    @property
    def left_out_first(self) -> bytes:
        """What encoding puts before a text and decoding takes away again: a space, or nothing."""
        return b" " * max(self.leading_spaces, bool(self._first_token_marker))

    def prefixes(self, without: Collection[int]) -> TokenPrefixes:
        """All tokens by their bytes, but for those in ``without``; takes a moment for a large vocabulary."""
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
        kept = {name: token_id for name, token_id in vocabulary.items() if token_id not in without}
        return TokenPrefixes([self._encode(name) for name in kept], list(kept.values()))

    def of(self, token_id: int, *, first: bool = False) -> bytes:
        """Bytes of one token; empty for an id that the tokenizer doesn't know (padding of the vocabulary).

        Args:
            token_id: The token.
            first: It is the first visible token of the text.
        """
        if first and self._first_token_marker:
            name = self._tokenizer.id_to_token(token_id) or ""
            return self._encode(name.replace(self._first_token_marker, ""))
        known = self._known.get(token_id)
        if known is None:
            known = self._encode(self._tokenizer.id_to_token(token_id) or "")
            self._known[token_id] = known
        return known

    def _encode(self, name: str) -> bytes:
        if self._byte_level:
            try:
                return name.translate(_BYTE_LEVEL_BYTES).encode("latin-1")
            except UnicodeEncodeError:  # an added token, whose name is its text
                return name.encode()
        for old, new in self._replacements:
            name = name.replace(old, new)
        if self._byte_fallback and (match := _BYTE_TOKEN.fullmatch(name)):
            return bytes([int(match[1], 16)])
        return name.encode()

    def _read(self, state: dict[str, Any] | None) -> None:
        steps = [state] if state and state["type"] != "Sequence" else (state or {}).get("decoders", [])
        kinds = [step["type"] for step in steps]
        fused = False
        for step in steps:
            kind = step["type"]
            if kind == "ByteLevel" and len(kinds) == 1:
                self._byte_level = True
            elif kind == "Replace" and "String" in step["pattern"] and not fused:
                self._replacements.append((step["pattern"]["String"], step["content"]))
            elif kind == "Metaspace" and not fused:
                self._replacements.append((step["replacement"], " "))
                if step.get("prepend_scheme", "always") != "never":
                    self._first_token_marker = step["replacement"]
            elif kind == "ByteFallback" and not fused:
                self._byte_fallback = True
            elif kind == "Fuse":
                fused = True
            elif kind == "Strip" and fused and step["content"] == " " and step["stop"] == 0:
                self.leading_spaces += step["start"]
            else:
                raise self._unsupported(kinds)
        if not (self._byte_level or any(old == _METASPACE for old, _ in self._replacements)):
            raise self._unsupported(kinds)

    def _unsupported(self, kinds: list[str]) -> TokenizerError:
        named = " + ".join(kinds) or "none"
        return TokenizerError(
            f"{self._where} has the decoder {named}, which is not implemented.",
            "Use a checkpoint with a byte-level or a SentencePiece-style tokenizer.",
        )


class IncrementalDetokenizer:
    """Turns generated tokens into text piece by piece.

    A piece never ends inside a UTF-8 character. Special tokens are one token each and give no text, so no part of one is
    ever seen. Bytes that are no UTF-8 become U+FFFD as soon as they cannot become a character any more.

    The pieces together are what the tokenizers library's decoding gives, with one exception: where a run of byte tokens
    (``<0xE2>``) is not UTF-8 as a whole, the library writes U+FFFD for each of its bytes, also for those that make a
    character. Here the characters that were complete have been given out already, and only the rest becomes U+FFFD.

    Args:
        tokenizer: The model's tokenizer.
        skip_special_tokens: Leave special tokens out of the text; False writes them by name.
        visible_ids: Special tokens to write by name all the same.
        bytes_out: None at the beginning of a text. In the middle of one, how many bytes of it the tokens to come say again;
            these are out already and are not given out once more.
    """

    def __init__(
        self,
        tokenizer: ChatTokenizer,
        *,
        skip_special_tokens: bool = True,
        visible_ids: frozenset[int] = frozenset(),
        bytes_out: int | None = None,
    ) -> None:
        self._tokens = tokenizer.token_bytes
        self._skipped = tokenizer.special_ids - visible_ids if skip_special_tokens else frozenset()
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._first = bytes_out is None
        self._spaces_to_strip = self._tokens.leading_spaces if bytes_out is None else 0
        self._bytes_out = bytes_out or 0

    def push(self, token_id: int) -> str:
        """Take the next token; returns the text that became complete, possibly none."""
        if token_id in self._skipped:
            return ""
        said = self._tokens.of(token_id, first=self._first)
        self._first = False
        if self._bytes_out:
            repeated = min(self._bytes_out, len(said))
            self._bytes_out -= repeated
            said = said[repeated:]
        return self._strip(self._utf8.decode(said))

    def flush(self) -> str:
        """End of the tokens: returns what was held back (a cut character becomes U+FFFD)."""
        return self._strip(self._utf8.decode(b"", final=True))

    def _strip(self, text: str) -> str:
        while self._spaces_to_strip and text:
            if text[0] != " ":
                self._spaces_to_strip = 0
                break
            text = text[1:]
            self._spaces_to_strip -= 1
        return text


class StopStrings:
    """Ends a streamed text before the first stop string, wherever the pieces are cut.

    Text that may turn out to be the beginning of a stop string is held back until it is decided. The stop string that is
    completed first wins; of two that are completed by the same character, the longer one.

    Args:
        stops: The stop strings; none is fine.

    Raises:
        InvalidRequestError: One of them is empty.
    """

    def __init__(self, stops: Iterable[str]) -> None:
        self._stops = tuple(dict.fromkeys(stops))
        if "" in self._stops:
            raise InvalidRequestError("A stop string is empty.", "Remove it from stop.")
        self._longest = max(map(len, self._stops), default=0)
        self._held = ""
        self._held_out = 0  # how much of the held text's beginning was given out by somebody else
        self._stopped = False

    def begin(self, text: str) -> bool:
        """Take the text so far, all of which was given out by somebody else; True if it holds a stop string."""
        _, stopped = self.push(text)
        self._held_out = len(self._held)
        return stopped

    def push(self, text: str) -> tuple[str, bool]:
        """Take the next piece of text.

        Returns:
            The text that may be shown, and whether a stop string was completed; after that nothing more is shown.
        """
        if self._stopped:
            return "", True
        if not self._stops:
            return text, False
        self._held += text
        found = [(start + len(stop), start) for stop in self._stops if (start := self._held.find(stop)) >= 0]
        if found:
            self._stopped = True
            shown = self._let_go(min(found)[1])
            self._held = ""
            return shown, True
        return self._let_go(len(self._held) - self._undecided()), False

    def flush(self) -> str:
        """End of the text: returns what was held back and turned out not to be a stop string."""
        return self._let_go(len(self._held))

    def _let_go(self, length: int) -> str:
        """Stop holding so much of the held text; returns what of it isn't out yet."""
        let_go, self._held = self._held[:length], self._held[length:]
        shown = let_go[self._held_out :]
        self._held_out -= len(let_go) - len(shown)
        return shown

    def _undecided(self) -> int:
        """Length of the longest end of the held text that begins a stop string."""
        for length in range(min(self._longest - 1, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stops):
                return length
        return 0


def _byte_level_alphabet() -> dict[str, int]:
    """The 256 characters of byte-level BPE: printable Latin-1 bytes are themselves, others U+0100 and up in order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


# For str.translate: each character of the alphabet becomes the one whose Latin-1 is its byte; others get one that has none.
_BYTE_LEVEL_BYTES = dict.fromkeys(range(256), "\uffff") | {
    ord(character): chr(byte) for character, byte in _byte_level_alphabet().items()
}
