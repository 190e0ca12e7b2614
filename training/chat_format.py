"""How a conversation becomes tokens: the special tokens, the Jinja template, and the training loss mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenizers import Tokenizer

PAD, BOS, END = "<|pad|>", "<|bos|>", "<|end|>"
SYSTEM, USER, ASSISTANT = "<|system|>", "<|user|>", "<|assistant|>"
SPECIAL_TOKENS = (PAD, BOS, END, SYSTEM, USER, ASSISTANT)

Role = Literal["system", "user", "assistant"]


class Message(TypedDict):
    """One message of a conversation, in OpenAI's shape."""

    role: Role
    content: str


ROLE_TOKENS: dict[Role, str] = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT}

# No newline or space between a role token and its text: the first word is then tokenised like any first word of a line.
CHAT_TEMPLATE = (
    "{{- bos_token -}}"
    "{%- for message in messages -%}"
    "{%- if message['content'] is string -%}{%- set text = message['content'] -%}"
    "{%- else -%}{%- set text = message['content'] | map(attribute='text') | join('\\n') -%}{%- endif -%}"
    "{%- if message['role'] in ('system', 'developer') -%}{{- '<|system|>' -}}"
    "{%- elif message['role'] == 'assistant' -%}{{- '<|assistant|>' -}}"
    "{%- else -%}{{- '<|user|>' -}}{%- endif -%}"
    "{{- text | trim -}}{{- '<|end|>' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)


def encode(tokenizer: Tokenizer, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
    """Encodes a whole conversation for training.

    Args:
        tokenizer: a tokenizer that holds `SPECIAL_TOKENS` at ids 0 to 5.
        messages: the conversation, system message first if there is one.

    Returns:
        The token ids, and a mask of the same length that is 1 where the model is to predict the token: the text
        of the assistant's turns and the end token after each.
    """
    texts = [message["content"].strip() for message in messages]
    encoded = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    end_id = SPECIAL_TOKENS.index(END)
    ids = [SPECIAL_TOKENS.index(BOS)]
    mask = [0]
    for message, encoding in zip(messages, encoded, strict=True):
        wanted = 1 if message["role"] == "assistant" else 0
        text_ids = encoding.ids
        ids += [SPECIAL_TOKENS.index(ROLE_TOKENS[message["role"]]), *text_ids, end_id]
        mask += [0] + [wanted] * (len(text_ids) + 1)
    return ids, mask


def encode_prompt(tokenizer: Tokenizer, messages: Sequence[Message]) -> list[int]:
    """Encodes the conversation so far, ending where the assistant's answer begins."""
    ids, _ = encode(tokenizer, messages)
    return [*ids, SPECIAL_TOKENS.index(ASSISTANT)]
