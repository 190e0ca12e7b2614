"""Reads the files of a checkpoint's tokenizer and its chat templates, and refuses those that don't fit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from local_runtime.chat_template import ChatTemplate
from local_runtime.errors import TokenizerError
from local_runtime.paths import kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["check_ids", "read_object", "read_templates", "read_tokenizer", "special_tokens_of"]

_AGAIN = "Copy or download the file again."
_OTHER_TOKENIZER_MEND = "Use the tokenizer that belongs to this checkpoint."
_MOST_PADDING_ROWS = 1024
_SPECIAL_TOKEN_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def read_tokenizer(file: Path) -> Tokenizer:
    """Read ``tokenizer.json``.

    Raises:
        TokenizerError: It is missing or unreadable.
    """
    if kind_of(file) != "file":
        mend = "Copy tokenizer.json into the folder."
        if kind_of(file.parent / "tokenizer.model") == "file":
            mend = "Only tokenizer.model is there: load it with transformers' AutoTokenizer and save_pretrained it."
        raise TokenizerError(f"{file.parent} holds no tokenizer.json.", mend)
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        raise TokenizerError(f"{file} cannot be read as a tokenizer: {error}.", _AGAIN) from error
    # Some files carry what a batch of training needed; a prompt is neither cut nor filled up.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def check_ids(tokenizer: Tokenizer, vocab_size: int, file: Path) -> None:
    """Check that a tokenizer belongs to a model with so many rows of embeddings.

    Raises:
        TokenizerError: It does not; ``file`` is named.
    """
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    if not vocabulary:
        raise TokenizerError(f"{file} has an empty vocabulary.", _AGAIN)
    token, highest = max(vocabulary.items(), key=lambda item: item[1])
    if highest >= vocab_size:
        raise TokenizerError(
            f"{file} does not match the model: its token {token!r} has the id {highest}, but the model's vocabulary "
            f"has {vocab_size} entries.",
            _OTHER_TOKENIZER_MEND,
        )
    # A model may well have more rows than its tokenizer has tokens: tables are padded to a multiple of up to 1024 rows, and
    # some keep rows in reserve (Qwen2.5: 151,665 tokens, 151,936 rows; Phi-3: 32,011 and 32,064). That never comes to
    # half of a large table; a tokenizer that leaves most of one out is another model's, and every answer would be noise.
    spare = vocab_size - (highest + 1)
    if spare > max(_MOST_PADDING_ROWS, vocab_size // 2):
        raise TokenizerError(
            f"{file} does not match the model: it has {highest + 1} tokens, but the model's vocabulary has "
            f"{vocab_size} entries.",
            _OTHER_TOKENIZER_MEND,
        )


def read_object(file: Path) -> dict[str, Any]:
    """Read a JSON object; a file that is missing is an empty one.

    Raises:
        TokenizerError: The file is unreadable, or holds something else.
    """
    if kind_of(file) != "file":
        return {}
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TokenizerError(f"{file} cannot be read as JSON: {error}.", _AGAIN) from error
    if not isinstance(value, dict):
        raise TokenizerError(f"{file} must hold a JSON object.", _AGAIN)
    return value


def special_tokens_of(settings: Mapping[str, Any]) -> dict[str, str]:
    """The special tokens that templates may use, such as ``bos_token``, by their names."""
    found = {}
    for name in _SPECIAL_TOKEN_NAMES:
        value = settings.get(name)
        content = value.get("content") if isinstance(value, dict) else value
        if isinstance(content, str):
            found[name] = content
    return found


def read_templates(
    folder: Path, settings: Mapping[str, Any], special_tokens: Mapping[str, str]
) -> tuple[ChatTemplate | None, ChatTemplate | None]:
    """The template, and the one for conversations with tools if that is another one.

    Raises:
        TokenizerError: A file is unreadable, or a template is not valid.
    """
    where = str(folder / "tokenizer_config.json")
    source = settings.get("chat_template")
    named: dict[str, Any] = {}
    if isinstance(source, list):
        named = {item["name"]: item["template"] for item in source if isinstance(item, dict) and len(item) == 2}
        source = named.get("default")
    found: list[ChatTemplate | None] = []
    for file, text in (
        (folder / "chat_template.jinja", source),
        (folder / "additional_chat_templates" / "tool_use.jinja", named.get("tool_use")),
    ):
        if kind_of(file) == "file":
            found.append(ChatTemplate(_read_text(file), special_tokens, str(file)))
        elif text is None or isinstance(text, str):
            found.append(None if text is None else ChatTemplate(text, special_tokens, where))
        else:
            raise TokenizerError(f"chat_template in {where} must be a text.", _AGAIN)
    return found[0], found[1]


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TokenizerError(f"{file} cannot be read: {error}.", _AGAIN) from error
