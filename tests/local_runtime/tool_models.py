"""Small tokenizers with the marks of a model that calls tools or thinks, and models that say what a test tells them to.

One token for each byte, so that an answer comes in the smallest pieces there are, and one for each mark.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from local_runtime.tokenizer import ChatTokenizer
from tests.local_runtime.scripted_runner import Script, ScriptedModel, ScriptedRunner, _byte_alphabet, make_model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["END", "TOOLS", "saying", "tool_tokenizer"]

END = "<|end|>"
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "opening_hours",
            "description": "When a shop is open",
            "parameters": {
                "type": "object",
                "properties": {"day": {"type": "string", "enum": ["today", "tomorrow"]}, "hall": {"type": "integer"}},
                "required": ["day"],
                "additionalProperties": False,
            },
        },
    },
    {"type": "function", "function": {"name": "now"}},
]


def tool_tokenizer(
    folder: Path, template: str, special: Sequence[str] = (), added: Sequence[str] = (), **settings: Any
) -> ChatTokenizer:
    """A byte-level tokenizer with a template, special tokens and added ones that aren't special.

    Byte ``b`` is the token ``b``, :data:`END` is token 256, then come ``special`` and ``added`` in order.
    """
    alphabet = _byte_alphabet()
    tokenizer = Tokenizer(models.BPE(vocab={alphabet[byte]: byte for byte in range(256)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in (END, *special)])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in added])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"chat_template": template, "eos_token": END, **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return ChatTokenizer.from_folder(folder, tokenizer.get_vocab_size(with_added_tokens=True))


def saying(folder: Path, tokenizer: ChatTokenizer, answer: str, **script: Any) -> ScriptedModel:
    """A model that answers every prompt with ``answer`` and ends."""
    said = [*tokenizer.encode(answer, parse_special=True), next(iter(tokenizer.eos_ids))]
    fields = {"context_tokens": 4096, "total_pages": 4096, "prefill_chunk_tokens": 64, **script}

    def say(tokens: Sequence[int]) -> int:
        # How much of the answer is there already: the longest of its beginnings that the tokens end with.
        so_far = next(
            length
            for length in range(min(len(said), len(tokens)), -1, -1)
            if list(tokens[len(tokens) - length :]) == said[:length]
        )
        return said[min(so_far, len(said) - 1)]

    model = make_model(Script(**fields), folder / "unused", say)
    runner = ScriptedRunner(Script(**fields), say, tokenizer.vocab_size)
    return ScriptedModel(runner, tokenizer, model.info)
