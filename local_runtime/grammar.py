"""Holds an answer to a grammar: which tokens may come next, by the library llguidance.

A grammar is compiled once and kept with the model; each answer walks through a copy of its own. Only this module imports the
library, and only when the first grammar comes.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from local_runtime.errors import InvalidRequestError, LocalRuntimeError, TokenizerError
from local_runtime.grammar_lark import lark_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from local_runtime.options import Grammar
    from local_runtime.tokenizer import ChatTokenizer

__all__ = ["GrammarCompiler", "GrammarConstraint"]

_KEPT = 16  # compiled grammars
_SPACE_BYTES = (b" ", b"\n", b"\r", b"\t")
# More than the end of a begun answer has that is said again, and few enough to be over soon.
_MOST_SPACES = 32
# The library descends with the grammar's nesting, and a thread's own stack may be 512 KiB: beyond it the process would end.
_STACK_BYTES = 128 * 2**20
_LIMITS = {
    "initial_lexer_fuel": 1_000_000,
    "step_lexer_fuel": 200_000,
    "step_max_items": 50_000,
    "max_items_in_row": 2_000,
    "max_lexer_states": 50_000,  # some 2 kB each
    "max_grammar_size": 500_000,
    "verbose_errors": False,
}
# Pieces of the library's messages, whose rest may quote the grammar, and what they come to.
_REASONS = (
    ("unsatisfiable", "no answer can satisfy it", "Loosen what contradicts itself."),
    ("too big", "it is too large", "Ask for less in one answer, or lower large bounds."),
    ("too large", "it is too large", "Ask for less in one answer, or lower large bounds."),
    ("too many", "it is too large", "Ask for less in one answer, or lower large bounds."),
    ("too complex", "it is too large", "Ask for less in one answer, or lower large bounds."),
    ("limit exceeded", "it is too large", "Ask for less in one answer, or lower large bounds."),
    ("fuel", "it is too large", "Ask for less in one answer, or lower large bounds."),
    ("level exceeded", "it is nested too deeply", "Make it flatter."),
    ("too deeply nested", "it is nested too deeply", "Make it flatter."),
    ("look-around", "a regular expression looks around itself", "Say it without (?=, (?!, (?<= and (?<!."),
    ("lookaround", "a regular expression asks what stands beside it", r"Leave out \b, and ^ and $ but at its ends."),
    ("backreference", "a regular expression refers back to a group", "Say it without back-references."),
    ("unclosed", "a regular expression has something unclosed", "Close it, or put a backslash before it."),
    ("pattern properties", "two of patternProperties could match one name", "Make them exclude each other."),
    ("patternproperties", "two of patternProperties could match one name", "Make them exclude each other."),
    (
        "properties only supported",
        "minProperties and maxProperties need all properties to be required",
        "Leave them out.",
    ),
    ("circular", "a $ref that leads back to itself has other keywords beside it", "Move them into what it refers to."),
    ("unknown special token", "it names a token that this model has not", "Name one of the model's tokens."),
    ("unknown name", "it uses a rule that it does not define", "Define it."),
    ("no start", "it has no rule named start", "Name the first rule start."),
)
_PLACE = re.compile(r"(?:^|\bat )(\d+)\((\d+)\)")


class GrammarCompiler:
    """Compiles grammars for one loaded model.

    Not safe for use from several threads.

    Args:
        tokenizer: The model's tokenizer.
        vocab_size: Columns of the logits.
    """

    def __init__(self, tokenizer: ChatTokenizer, vocab_size: int) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._vocabulary: _Vocabulary | None = None
        self._compiled: OrderedDict[bytes, Any] = OrderedDict()

    def constraint(self, grammar: Grammar, *, begun: bool = False) -> GrammarConstraint:
        """A constraint at the beginning of an answer.

        Args:
            grammar: What the answer must be.
            begun: Somebody else has begun the answer. Its text may have other space between the parts of JSON than this model
                would write, and its last tokens may be drawn again in other pieces; both are allowed then.

        Raises:
            InvalidRequestError: The grammar is not supported or cannot be compiled, or the extra ``grammar`` is not installed.
            TokenizerError: The model's tokenizer cannot be used.
        """
        vocabulary = self._vocabulary
        if vocabulary is None:
            vocabulary = self._vocabulary = _Vocabulary(self._tokenizer, self._vocab_size)
        # A tokenizer that puts a space before every text would write a piece from the middle in other tokens.
        forcing = not begun and vocabulary.first is None
        any_space = begun and grammar.kind in ("json_object", "json_schema")
        key = hashlib.sha256(f"{grammar.kind}|{begun}|{grammar.text}".encode(errors="surrogatepass")).digest()
        matcher = self._compiled.get(key)
        if matcher is None:
            text = lark_of(grammar, any_space=any_space, forcing=forcing)
            matcher = self._compiled[key] = vocabulary.compile(text, grammar, first_line=1 if forcing else 2)
            if len(self._compiled) > _KEPT:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(key)
        return GrammarConstraint(vocabulary, matcher.deep_copy(), forcing=forcing, any_space=any_space)


class GrammarConstraint:
    """Where one answer is in its grammar.

    Made by :meth:`GrammarCompiler.constraint`. An answer that was begun is gone through with :meth:`take`, token by token.
    """

    def __init__(self, vocabulary: _Vocabulary, matcher: Any, *, forcing: bool, any_space: bool) -> None:
        self._vocabulary = vocabulary
        self._matcher = matcher
        self._forcing = forcing
        self._spaces = _Spaces() if any_space else None
        self._at_first = vocabulary.first is not None
        self._bits: npt.NDArray[np.uint8] = np.zeros(vocabulary.mask_bytes, dtype=np.uint8)
        self._bits_are_current = False
        self._ended = False

    def mask(self, logits: npt.NDArray[np.float32]) -> None:
        """Set the logits of tokens that may not come now to ``-inf``, in place.

        Args:
            logits: float32 ``[vocab]``.

        Raises:
            InvalidRequestError: Finding that out takes too much work here, or the model has no token that may come.
        """
        self._compute()
        self._vocabulary.apply(self._bits, logits)

    def take(self, token: int) -> None:
        """Note that a token has come.

        Raises:
            InvalidRequestError: The grammar does not allow it, which only a begun answer can bring about.
        """
        self._bits_are_current = False
        vocabulary = self._vocabulary
        if token in vocabulary.end_ids:
            self._ended = True
            return
        if self._at_first:
            self._at_first = False
            first = vocabulary.first
            if first is not None:
                stands_for = first.stands_for(token)
                if stands_for is None:
                    return
                token = stands_for
        if self._spaces is not None:
            self._spaces.take(vocabulary.bytes_of(token))
        if token < 0 or not self._matcher.consume_token(token):
            raise InvalidRequestError(
                "The answer so far is not one that the grammar allows.",
                "Begin the answer in another way, or ask without its beginning.",
            )

    def may_end(self) -> bool:
        """Whether what has come so far is a whole answer."""
        return self._ended or bool(self._matcher.is_accepting())

    def is_complete(self) -> bool:
        """Whether it is a whole answer that nothing can follow."""
        if self._ended:
            return True
        if self._at_first or not self._matcher.is_accepting():
            return False
        if self._matcher.is_stopped():
            return True
        self._compute()
        return not bool(np.any(self._bits & self._vocabulary.not_end_bits))

    def forced(self) -> list[int]:
        """Tokens that come next whatever the model says, as far as that is known; often none.

        A guess made of them is always right, so they need no draw of their own.
        """
        if not self._forcing or self._ended or self._matcher.is_stopped():
            return []
        return list(self._matcher.compute_ff_tokens())

    def _compute(self) -> None:
        if self._bits_are_current:
            return
        matcher, vocabulary = self._matcher, self._vocabulary
        matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        if matcher.is_error():
            raise InvalidRequestError(
                "The grammar takes too much work at this place of the answer, or leaves the model no token to go on with.",
                "Make the grammar simpler: fewer alternatives, and lower bounds of repetitions.",
            )
        if self._at_first and vocabulary.first is not None:
            vocabulary.first.apply(self._bits)
        if self._spaces is not None and self._spaces.are_enough:
            self._bits &= vocabulary.not_space_bits
        self._bits_are_current = True


class _Spaces:
    """Counts the space between the parts of JSON, so that a model that begins with it does not go on for ever."""

    def __init__(self) -> None:
        self._run = 0
        self._in_text = False
        self._escaped = False

    @property
    def are_enough(self) -> bool:
        """Whether something else has to come now."""
        return self._run >= _MOST_SPACES

    def take(self, said: bytes) -> None:
        """Note the next bytes."""
        for byte in said:
            if self._in_text:
                self._in_text = self._escaped or byte != ord('"')
                self._escaped = not self._escaped and byte == ord("\\")
            elif byte in b" \n\r\t":
                self._run += 1
            else:
                self._run = 0
                self._in_text = byte == ord('"')


class _Vocabulary:
    """A model's tokens as llguidance wants to have them."""

    def __init__(self, tokenizer: ChatTokenizer, vocab_size: int) -> None:
        try:
            import llguidance
            from llguidance._tokenizer import TokenizerWrapper
        except ImportError:
            raise InvalidRequestError(
                "Grammars, JSON schemas and JSON objects need the library llguidance, which is not installed.",
                "Run: pip install 'hybridllm[grammar]'.",
            ) from None
        self.end_ids = tokenizer.eos_ids
        end_ids = sorted(token for token in tokenizer.eos_ids if token < vocab_size)
        if not end_ids:
            raise TokenizerError(
                "This model has no end-of-sequence token, which an answer in a grammar needs.",
                "Name one as eos_token_id in the model's generation_config.json.",
            )
        self._llguidance = llguidance
        try:
            self._tokens = llguidance.LLTokenizer(
                TokenizerWrapper(_Tokens(tokenizer, vocab_size, end_ids[0])), n_vocab=vocab_size, eos_token=end_ids
            )
        except Exception as error:  # the library raises what it likes
            raise TokenizerError(
                f"This model's tokenizer cannot be used with grammars ({type(error).__name__}).",
                "Ask without response_format and grammar, or use another model.",
            ) from error
        # The library fills whole 32-bit words.
        self.mask_bytes = -(-vocab_size // 32) * 4
        self.bytes_of = tokenizer.token_bytes.of
        self.not_end_bits = self._all_but(end_ids)
        self.not_space_bits = self._all_but(
            [token for token in range(vocab_size) if tokenizer.token_bytes.of(token)[:1] in _SPACE_BYTES]
        )
        # For each byte of a mask, what it adds to the eight logits: nothing, or -inf.
        of_byte = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
        self._added = np.where(of_byte == 1, np.float32(0), np.float32(-np.inf)).astype(np.float32)
        self._addends: npt.NDArray[np.float32] = np.empty((self.mask_bytes, 8), dtype=np.float32)
        self.first = _FirstToken.of(tokenizer, vocab_size)

    def _all_but(self, tokens: list[int]) -> npt.NDArray[np.uint8]:
        bits = np.ones(self.mask_bytes * 8, dtype=np.uint8)
        bits[tokens] = 0
        packed: npt.NDArray[np.uint8] = np.packbits(bits, bitorder="little")
        return packed

    def apply(self, bits: npt.NDArray[np.uint8], logits: npt.NDArray[np.float32]) -> None:
        """Add -inf where a bit is 0; several times faster for a large vocabulary than assigning by a mask of booleans."""
        np.take(self._added, bits, axis=0, out=self._addends, mode="clip")
        known = min(logits.size, self.mask_bytes * 8)
        np.add(logits[:known], self._addends.reshape(-1)[:known], out=logits[:known])
        logits[known:] = -np.inf

    def compile(self, text: str, grammar: Grammar, *, first_line: int) -> Any:
        """A matcher for a grammar in Lark, of which ``first_line`` is the caller's first.

        Raises:
            InvalidRequestError: It cannot be compiled.
        """
        llguidance = self._llguidance
        made: list[Any] = []

        def make() -> None:
            limits = llguidance.LLParserLimits(**_LIMITS)
            made.append(
                llguidance.LLMatcher(
                    self._tokens, llguidance.LLMatcher.grammar_from_lark(text), log_level=0, limits=limits
                )
            )

        _with_large_stack(make)
        matcher = made[0]
        if matcher.is_error():
            raise _cannot_compile(matcher.get_error(), grammar, first_line)
        probe = matcher.deep_copy()  # some grammars fail only when their first token is asked for
        probe.compute_bitmask()
        if probe.is_error():
            raise _cannot_compile(f"unsatisfiable: {probe.get_error()}", grammar, first_line)
        return matcher


class _Tokens:
    """What llguidance asks of a tokenizer."""

    def __init__(self, tokenizer: ChatTokenizer, vocab_size: int, end_id: int) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id = end_id
        self.bos_token_id = None
        # Special tokens have names, but no text: inside an answer's text they would leave something out.
        self.special_token_ids = sorted(
            token for token in tokenizer.special_ids | tokenizer.eos_ids if token < vocab_size
        )
        self.tokens = [tokenizer.token_bytes.of(token) for token in range(vocab_size)]

    def __call__(self, text: bytes | str) -> list[int]:
        return self._tokenizer.encode(text.decode(errors="replace") if isinstance(text, bytes) else text)


class _FirstToken:
    """What an answer's first token stands for where decoding takes the space before a text away.

    Such a token counts as the one without its space. One that is nothing but this space counts as nothing.
    """

    def __init__(self, spaced: npt.NDArray[np.int64], bare: npt.NDArray[np.int64], space: int | None) -> None:
        self._spaced, self._bare, self._space = spaced, bare, space
        self._stands_for: dict[int, int | None] = dict(zip(spaced.tolist(), bare.tolist(), strict=True))
        if space is not None:
            self._stands_for[space] = None

    @classmethod
    def of(cls, tokenizer: ChatTokenizer, vocab_size: int) -> _FirstToken | None:
        token_bytes = tokenizer.token_bytes
        if not token_bytes.left_out_first:
            return None
        usable = [token for token in range(vocab_size) if token not in tokenizer.special_ids | tokenizer.eos_ids]
        by_bytes = {token_bytes.of(token): token for token in reversed(usable)}
        spaced, bare = [], []
        space = None
        for token in usable:
            whole = token_bytes.of(token)
            if not whole.startswith(b" "):
                continue
            shown = token_bytes.of(token, first=True)
            for _ in range(token_bytes.leading_spaces):
                shown = shown.removeprefix(b" ")
            if not shown:
                space = token if whole == b" " else space
            spaced.append(token)
            bare.append(by_bytes.get(shown, -1) if shown else -1)
        return cls(np.asarray(spaced, dtype=np.int64), np.asarray(bare, dtype=np.int64), space)

    def stands_for(self, token: int) -> int | None:
        """The token whose bytes are what this one shows as the first; None if that is nothing, -1 if there is no such token."""
        return self._stands_for.get(token, token)

    def apply(self, bits: npt.NDArray[np.uint8]) -> None:
        """Turn what may come next into what may come first, in place."""
        allowed = np.unpackbits(bits, bitorder="little")
        allowed[self._spaced] = np.where(self._bare >= 0, allowed[np.maximum(self._bare, 0)], 0)
        if self._space is not None:
            allowed[self._space] = 1
        bits[:] = np.packbits(allowed, bitorder="little")


_STACK_LOCK = threading.Lock()


def _with_large_stack(work: Any) -> None:
    """Run ``work`` in a thread with a large stack, and raise here what it raises."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again by the caller's thread
            failures.append(error)

    with _STACK_LOCK:
        before = threading.stack_size(_STACK_BYTES)
        try:
            thread = threading.Thread(target=run, name="grammar-compiler")
            thread.start()
        finally:
            threading.stack_size(before)
    thread.join()
    if failures:
        raise failures[0]


def _cannot_compile(said: str, grammar: Grammar, first_line: int) -> LocalRuntimeError:
    what = {"json_schema": "schema", "json_object": "schema", "regex": "regular expression"}.get(
        grammar.kind, "grammar"
    )
    lowered = said.lower()
    reason, mend = next(
        ((reason, mend) for piece, reason, mend in _REASONS if piece in lowered), ("its syntax is wrong", "Correct it.")
    )
    place = ""
    if grammar.kind == "lark" and (found := _PLACE.search(said)) is not None:
        place = f" at line {max(1, int(found[1]) - first_line + 1)}"
    return InvalidRequestError(f"The {what} cannot be used{place}: {reason}.", mend)
