"""Trains the byte-level BPE tokenizer on generated dialogues.

Copying a name, a price or a phone number exactly is what this model is for, so the text is cut such that a value
becomes the same tokens wherever it stands:

- each digit and each Han character is a token of its own;
- a capitalised word never swallows the space before it, so "Kevra" after a space, a quote, an asterisk or a line
  break is the same tokens; lower-case words keep their space, which keeps sentences short.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from training.chat_format import SPECIAL_TOKENS

if TYPE_CHECKING:
    from collections.abc import Iterable

SPLIT_PATTERN = (
    r"'(?:s|t|re|ve|m|ll|d)(?!\p{L})"  # English contractions
    r"|\p{Han}"
    r"| ?[\p{Ll}][\p{Ll}\p{M}]*"
    r"|\p{Lu}+[\p{Ll}\p{M}]*"
    r"|\p{N}"
    r"| ?[^\s\p{L}\p{N}]"
    r"|[\p{L}\p{M}]+"
    r"|\s"
)


def new_tokenizer() -> Tokenizer:
    """An untrained tokenizer with the split rules above."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Trains on `texts`; the special tokens get the ids 0 to 5.

    Raises:
        ValueError: the texts are too few to fill the vocabulary.
    """
    tokenizer = new_tokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        min_frequency=2,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != vocab_size:
        raise ValueError(f"the texts gave {tokenizer.get_vocab_size()} tokens of {vocab_size}: pass more dialogues")
    return tokenizer
