"""Tokens that training never met: what the model is to make of a character that no generated sheet holds.

Training leaves their embeddings where the loss pushes all that is never said, far from everything that is read. One such
character in a sheet ("¦", "[", an emoji's bytes) then garbles whole answers. Read as an average separator it does no harm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from training.chat_format import SPECIAL_TOKENS, encode
from training.dialogues import MIXES, draw_dialogue

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SEPARATORS = ("|", "~", "*", "=", "_", ">", "#", "+", ";", "^")


def unseen_tokens(tokenizer: Tokenizer, dialogues: int, mix: str) -> np.ndarray:
    """Ids of the tokens that don't occur in the first training dialogues, special tokens left out; int [count]."""
    seen = np.zeros(tokenizer.get_vocab_size(), dtype=bool)
    seen[: len(SPECIAL_TOKENS)] = True
    for seed in range(dialogues):
        ids, _ = encode(tokenizer, draw_dialogue(seed, "train", mix=MIXES[mix]).messages())
        seen[ids] = True
    return np.flatnonzero(~seen)


def read_as_separators(embeddings: np.ndarray, tokenizer: Tokenizer, unseen: np.ndarray) -> np.ndarray:
    """Gives the tokens `unseen` the mean embedding of the separators that occur, with and without a space before them.

    Args:
        embeddings: float [vocab, hidden].
        tokenizer: whose ids they are.
        unseen: from `unseen_tokens`.

    Returns:
        A changed copy; an unchanged one where no separator occurs in training.
    """
    forms = [form for mark in SEPARATORS for form in (mark, f"Ġ{mark}")]
    ids = [found for form in forms if (found := tokenizer.token_to_id(form)) is not None]
    rows = sorted(set(ids) - set(unseen.tolist()))
    changed = embeddings.copy()
    if rows:
        changed[unseen] = embeddings[rows].astype(np.float64).mean(axis=0).astype(embeddings.dtype)
    return changed
