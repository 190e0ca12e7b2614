"""A checkpoint's tokenizer and chat template: messages to token ids, and token ids to text.

The text of a message is data. If a user types ``<|im_end|>``, the model must see these ten characters and not the token
that ends a turn, else whoever writes a message could write the system's part too. `ChatTokenizer.encode_chat` sees to
that; see `_PlainTextTwin` for how.
"""

from __future__ import annotations

import json
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from local_runtime.chat_template import ChatTemplate, flatten_content
from local_runtime.detokenizer import IncrementalDetokenizer, TokenBytes
from local_runtime.errors import InvalidRequestError, TokenizerError
from local_runtime.models.config import ModelConfig
from local_runtime.paths import kind_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from local_runtime.healing import TokenPrefixes

__all__ = ["ChatTokenizer"]

_AGAIN = "Copy or download the file again."
_OTHER_TOKENIZER_MEND = "Use the tokenizer that belongs to this checkpoint."
_MOST_PADDING_ROWS = 1024
_SPECIAL_TOKEN_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
# Unicode noncharacters: never part of a text, so one that the messages don't contain is easily found.
_NONCHARACTERS = tuple(chr(code) for code in range(0xFDD0, 0xFDF0))


class ChatTokenizer:
    """A tokenizer with the model's chat template.

    Attributes:
        eos_ids: Tokens that end an answer.
        special_ids: Tokens that give no text, such as turn markers.
        vocab_size: Number of tokens that the tokenizer knows; at most the model's.
        token_bytes: What each token stands for.
    """

    def __init__(
        self, tokenizer: Tokenizer, template: ChatTemplate | None, eos_ids: Collection[int], where: str
    ) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._where = where
        added = tokenizer.get_added_tokens_decoder()
        self.eos_ids = frozenset(eos_ids)
        self.special_ids = frozenset(token_id for token_id, token in added.items() if token.special)
        self.vocab_size = tokenizer.get_vocab_size(with_added_tokens=True)
        self.token_bytes = TokenBytes(tokenizer, where)

        special = {token.content: token_id for token_id, token in added.items() if token.special}
        # Some checkpoints forget to mark the tokens of their own template as special. In an assistant's earlier turn
        # such tokens (<think>, <tool_call>) are the model's own and stay tokens.
        control = special | {
            token.content: token_id
            for token_id, token in added.items()
            if template is not None and token.content in template.source
        }
        self._special = _pattern(special)
        self._control = _pattern(control)
        # A token that is matched after normalisation can be typed in other ways than literally.
        self._only_literal = not any(token.special and token.normalized for token in added.values())
        self._twin = _PlainTextTwin(tokenizer, control)
        self._prefixes: TokenPrefixes | None = None

    @classmethod
    def from_folder(cls, path: str | Path, vocab_size: int, *, eos_ids: Collection[int] | None = None) -> ChatTokenizer:
        """Read ``tokenizer.json``, ``tokenizer_config.json`` and the chat template of a checkpoint folder.

        The template is ``chat_template.jinja`` where there is one, else ``chat_template`` in ``tokenizer_config.json``.
        A checkpoint without one loads, but can't chat.

        Args:
            path: The folder.
            vocab_size: Rows of the model's embedding matrix.
            eos_ids: Tokens that end an answer; None takes them from ``config.json`` and ``generation_config.json``. The
                tokenizer's own ``eos_token`` is always among them.

        Raises:
            TokenizerError: A file is missing or unreadable, the template is invalid, a token's id is beyond
                ``vocab_size``, or the vocabulary is far smaller than that.
            CheckpointError: A file's folder may not be entered.
        """
        folder = Path(path)
        file = folder / "tokenizer.json"
        tokenizer = _read_tokenizer(file)
        _check_ids(tokenizer, vocab_size, file)
        settings = _read_object(folder / "tokenizer_config.json")
        special_tokens = _special_tokens(_read_object(folder / "special_tokens_map.json") | settings)
        if eos_ids is None:
            eos_ids = ModelConfig.from_folder(folder).eos_ids if kind_of(folder / "config.json") == "file" else ()
        own_eos = tokenizer.token_to_id(special_tokens.get("eos_token", ""))
        template = _read_template(folder, settings, special_tokens)
        return cls(tokenizer, template, {*eos_ids} | ({own_eos} if own_eos is not None else set()), str(file))

    @property
    def has_chat_template(self) -> bool:
        """Whether messages can be rendered."""
        return self._template is not None

    def render(
        self, messages: Sequence[Mapping[str, Any]], /, add_generation_prompt: bool = True, **variables: Any
    ) -> str:
        """Render messages with the chat template; see `ChatTemplate.render`.

        Raises:
            TokenizerError: The checkpoint has no chat template, or the template fails.
            InvalidRequestError: The template refuses these messages.
        """
        if self._template is None:
            raise TokenizerError(
                f"The model of {self._where} has no chat template, so it can't hold a conversation.",
                "Use the model's instruct or chat variant, or put a chat_template.jinja into its folder.",
            )
        return self._template.render(messages, add_generation_prompt=add_generation_prompt, **variables)

    def encode_chat(
        self, messages: Sequence[Mapping[str, Any]], /, add_generation_prompt: bool = True, **variables: Any
    ) -> list[int]:
        """Token ids of rendered messages; special tokens that are typed in them are ordinary text.

        Where nothing in the messages looks like a special token this is exactly the encoding of the rendered text.

        Raises:
            TokenizerError: The checkpoint has no chat template, or the template fails.
            InvalidRequestError: The template refuses these messages.
        """
        rendered, mark, _ = self._render_marked(messages, add_generation_prompt, variables)
        return self._encode_marked(rendered, mark)

    def encode_begun(
        self, messages: Sequence[Mapping[str, Any]], begun: str, /, **variables: Any
    ) -> tuple[list[int], list[int]]:
        """Token ids of a conversation's prompt, and of the beginning of the assistant's answer to it.

        The answer's tokens are those that its text has after this prompt, where both together have the prompt's tokens at
        their beginning; else (a line break that would melt into the prompt's last one, say) those that it has alone.

        Args:
            messages: The conversation.
            begun: How the answer begins; special tokens in it are ordinary text, as in all messages.
            variables: Further variables for the template.

        Raises:
            TokenizerError: The checkpoint has no chat template, or the template fails.
            InvalidRequestError: The template refuses these messages.
        """
        rendered, mark, said = self._render_marked(messages, True, variables, begun)
        prompt = self._encode_marked(rendered, mark)
        whole = self._encode_marked(rendered + self._space_before_answer(messages, variables) + said, mark)
        if whole[: len(prompt)] == prompt:
            return prompt, whole[len(prompt) :]
        return prompt, self._encode_marked(said, mark)

    def prefixes(self) -> TokenPrefixes:
        """The tokens that text may be made of, by how they begin; made once, which takes a moment (see `TokenPrefixes`)."""
        if self._prefixes is None:
            self._prefixes = self.token_bytes.prefixes(self.special_ids | self.eos_ids)
        return self._prefixes

    def _render_marked(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool,
        variables: Mapping[str, Any],
        begun: str = "",
    ) -> tuple[str, str, str]:
        """Render messages; returns the text, the mark that breaks control tokens that were typed, and ``begun`` marked alike.

        The mark is empty where nothing looks like a control token.
        """
        flat = [flatten_content(message, index) for index, message in enumerate(messages)]
        strings = list(_strings([flat, variables, begun]))
        if self._only_literal and not any(self._control.search(text) for text in strings):
            return self.render(flat, add_generation_prompt, **variables), "", begun

        everything = "".join(strings)
        mark = next((character for character in _NONCHARACTERS if character not in everything), None)
        if mark is None:
            mark = _NONCHARACTERS[0]
            flat, variables, begun = _map_strings(
                (flat, variables, begun), lambda text: text.replace(_NONCHARACTERS[0], "\ufffd")
            )
        marked = [
            _break(message, self._special if message["role"] == "assistant" else self._control, mark)
            for message in flat
        ]
        rendered = self.render(marked, add_generation_prompt, **_break(variables, self._control, mark))
        return rendered, mark, _break(begun, self._special, mark)

    def _encode_marked(self, text: str, mark: str) -> list[int]:
        if mark:
            return self._twin.encode(text, self._control, mark)
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def _space_before_answer(self, messages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]) -> str:
        """The space that the template writes between the prompt and an answer, where decoding takes it away again.

        Llama 2's and Mistral's templates end the prompt with ``[/INST]`` and write an answer as ``[/INST] Hello``: there an
        answer's first token carries a space that is no part of its text.
        """
        left_out = self.token_bytes.left_out_first.decode()
        if not left_out:
            return ""
        probe = "x"
        try:
            prompt = self.render(messages, **variables)
            answered = self.render([*messages, {"role": "assistant", "content": probe}], False, **variables)
        except (InvalidRequestError, TokenizerError):
            return ""  # a template that takes no answer here says nothing about one
        return left_out if answered.startswith(prompt + left_out + probe) else ""

    def encode(self, text: str, *, parse_special: bool = False) -> list[int]:
        """Token ids of a text without a template and without an added beginning-of-text token.

        Args:
            text: The text.
            parse_special: Whether special tokens in the text count as such; by default they are ordinary text.
        """
        if parse_special or (self._only_literal and not self._control.search(text)):
            return self._tokenizer.encode(text, add_special_tokens=False).ids
        return self._twin.encode_plain(text)

    def decode(self, token_ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
        """Text of tokens; bytes that are no UTF-8 become U+FFFD."""
        detokenizer = IncrementalDetokenizer(self, skip_special_tokens=skip_special_tokens)
        return "".join([*map(detokenizer.push, token_ids), detokenizer.flush()])

    def token_id(self, token: str) -> int | None:
        """Id of a token by its name in the vocabulary, or None."""
        return self._tokenizer.token_to_id(token)


class _PlainTextTwin:
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
        return self.encode_plain(renamed.replace(mark, ""))

    def encode_plain(self, text: str) -> list[int]:
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


def _pattern(tokens: Iterable[str]) -> re.Pattern[str]:
    """Matches any of the tokens, the longest where several begin at one place."""
    longest_first = sorted((token for token in tokens if token), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def _break(value: Any, control: re.Pattern[str], mark: str) -> Any:
    """Put ``mark`` around and between the characters of every control token in ``value``'s strings.

    That leaves neither the token, nor one inside it, nor one that overlaps it.
    """
    return _map_strings(value, lambda text: control.sub(lambda match: mark + mark.join(match[0]) + mark, text))


def _map_strings(value: Any, change: Any) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _map_strings(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_map_strings(item, change) for item in value)
    return value


def _strings(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


def _read_tokenizer(file: Path) -> Tokenizer:
    if kind_of(file) != "file":
        mend = "Copy tokenizer.json into the folder."
        if kind_of(file.parent / "tokenizer.model") == "file":
            mend = "Only tokenizer.model is there: load it with transformers' AutoTokenizer and save_pretrained it."
        raise TokenizerError(f"{file.parent} holds no tokenizer.json.", mend)
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        raise TokenizerError(f"{file} cannot be read as a tokenizer: {error}.", _AGAIN) from error


def _check_ids(tokenizer: Tokenizer, vocab_size: int, file: Path) -> None:
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


def _read_object(file: Path) -> dict[str, Any]:
    if kind_of(file) != "file":
        return {}
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TokenizerError(f"{file} cannot be read as JSON: {error}.", _AGAIN) from error
    if not isinstance(value, dict):
        raise TokenizerError(f"{file} must hold a JSON object.", _AGAIN)
    return value


def _special_tokens(settings: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for name in _SPECIAL_TOKEN_NAMES:
        value = settings.get(name)
        content = value.get("content") if isinstance(value, dict) else value
        if isinstance(content, str):
            found[name] = content
    return found


def _read_template(folder: Path, settings: Mapping[str, Any], special_tokens: Mapping[str, str]) -> ChatTemplate | None:
    file = folder / "chat_template.jinja"
    if kind_of(file) == "file":
        try:
            return ChatTemplate(file.read_text(encoding="utf-8"), special_tokens, str(file))
        except (OSError, UnicodeDecodeError) as error:
            raise TokenizerError(f"{file} cannot be read: {error}.", _AGAIN) from error
    where = str(folder / "tokenizer_config.json")
    source = settings.get("chat_template")
    if isinstance(source, list):
        named = {item["name"]: item["template"] for item in source if isinstance(item, dict) and len(item) == 2}
        source = named.get("default")
    if source is None:
        return None
    if not isinstance(source, str):
        raise TokenizerError(f"chat_template in {where} must be a text.", _AGAIN)
    return ChatTemplate(source, special_tokens, where)
