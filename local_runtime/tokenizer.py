"""A checkpoint's tokenizer and chat template: messages to token ids, and token ids to text.

The text of a message is data. If a user types ``<|im_end|>``, the model must see these ten characters and not the token
that ends a turn, else whoever writes a message could write the system's part too. `ChatTokenizer.encode_chat` sees to
that; see `PlainTextTwin` for how.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_runtime.chat_template import checked_message
from local_runtime.detokenizer import IncrementalDetokenizer, TokenBytes
from local_runtime.errors import InvalidRequestError, TokenizerError
from local_runtime.models.config import ModelConfig
from local_runtime.paths import kind_of
from local_runtime.tokenizer_files import check_ids, read_object, read_templates, read_tokenizer, special_tokens_of
from local_runtime.tool_calls.formats import MARKS, thought_marks_of, tool_format_of
from local_runtime.tool_calls.reasoning import THOUGHT_MARKS
from local_runtime.typed_tokens import PlainTextTwin, break_tokens, map_strings, pattern_of, strings_in

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from tokenizers import Tokenizer

    from local_runtime.chat_template import ChatTemplate
    from local_runtime.healing import TokenPrefixes
    from local_runtime.tool_calls.formats import ToolFormat
    from local_runtime.tool_calls.reasoning import ThoughtMarks

__all__ = ["ChatTokenizer"]

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
        self,
        tokenizer: Tokenizer,
        template: ChatTemplate | None,
        eos_ids: Collection[int],
        where: str,
        tool_template: ChatTemplate | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._tool_template = template if tool_template is None else tool_template
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
            if token.content in MARKS
            or any(known is not None and token.content in known.source for known in (template, tool_template))
        }
        self._added = {token.content: token_id for token_id, token in added.items()}
        self._special = pattern_of(special)
        self._control = pattern_of(control)
        # A token that is matched after normalisation can be typed in other ways than literally.
        self._only_literal = not any(token.special and token.normalized for token in added.values())
        self._twin = PlainTextTwin(tokenizer, control)
        self._prefixes: TokenPrefixes | None = None
        self._tool_format: list[ToolFormat | None] = []
        self._thought_marks = thought_marks_of(self, template)

    @classmethod
    def from_folder(cls, path: str | Path, vocab_size: int, *, eos_ids: Collection[int] | None = None) -> ChatTokenizer:
        """Read ``tokenizer.json``, ``tokenizer_config.json`` and the chat template of a checkpoint folder.

        The template is ``chat_template.jinja`` where there is one, else ``chat_template`` in ``tokenizer_config.json``.
        A template named ``tool_use`` (in ``tokenizer_config.json``, or in the folder ``additional_chat_templates``) is used
        for conversations with tools. A checkpoint without a template loads, but can't chat.

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
        tokenizer = read_tokenizer(file)
        check_ids(tokenizer, vocab_size, file)
        settings = read_object(folder / "tokenizer_config.json")
        special_tokens = special_tokens_of(read_object(folder / "special_tokens_map.json") | settings)
        if eos_ids is None:
            eos_ids = ModelConfig.from_folder(folder).eos_ids if kind_of(folder / "config.json") == "file" else ()
        own_eos = tokenizer.token_to_id(special_tokens.get("eos_token", ""))
        template, tool_template = read_templates(folder, settings, special_tokens)
        all_eos = {*eos_ids} | ({own_eos} if own_eos is not None else set())
        return cls(tokenizer, template, all_eos, str(file), tool_template)

    @property
    def has_chat_template(self) -> bool:
        """Whether messages can be rendered."""
        return self._template is not None

    @property
    def tool_template(self) -> ChatTemplate | None:
        """The template for conversations with tools; mostly the same as for all others."""
        return self._tool_template

    @property
    def tool_format(self) -> ToolFormat | None:
        """How the model calls tools; None if it calls none, or in a way that isn't known. Found out when it is first needed."""
        if not self._tool_format:
            self._tool_format = [tool_format_of(self._tool_template)]
        return self._tool_format[0]

    @property
    def thought_marks(self) -> ThoughtMarks | None:
        """What the model's thoughts stand between; None if it doesn't think before it answers."""
        return self._thought_marks

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        /,
        add_generation_prompt: bool = True,
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        **variables: Any,
    ) -> str:
        """Render messages with the chat template; see `ChatTemplate.render`.

        Raises:
            TokenizerError: The checkpoint has no chat template, or the template fails.
            InvalidRequestError: The template refuses these messages.
        """
        template = self._tool_template if tools else self._template
        if template is None:
            raise TokenizerError(
                f"The model of {self._where} has no chat template, so it can't hold a conversation.",
                "Use the model's instruct or chat variant, or put a chat_template.jinja into its folder.",
            )
        return template.render(messages, add_generation_prompt=add_generation_prompt, tools=tools, **variables)

    def encode_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        /,
        add_generation_prompt: bool = True,
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        **variables: Any,
    ) -> list[int]:
        """Token ids of rendered messages; special tokens that are typed in them or in tools are ordinary text.

        Where nothing in them looks like a special token this is exactly the encoding of the rendered text.

        Raises:
            TokenizerError: The checkpoint has no chat template, or the template fails.
            InvalidRequestError: The template refuses these messages.
        """
        rendered, mark, _ = self._render_marked(messages, add_generation_prompt, tools, variables)
        return self._encode_marked(rendered, mark)

    def encode_begun(
        self,
        messages: Sequence[Mapping[str, Any]],
        begun: str,
        /,
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        **variables: Any,
    ) -> tuple[list[int], list[int]]:
        """Token ids of a conversation's prompt, and of the beginning of the assistant's answer to it.

        The answer's tokens are those that its text has after this prompt, where both together have the prompt's tokens at
        their beginning; else (a line break that would melt into the prompt's last one, say) those that it has alone.

        Args:
            messages: The conversation.
            begun: How the answer begins; special tokens in it are ordinary text, as in all messages. Where the prompt ends with the
                mark at which the model begins to think, the thought is closed before it.
            tools: As for :meth:`encode_chat`.
            variables: Further variables for the template.

        Raises:
            TokenizerError: The checkpoint has no chat template, or the template fails.
            InvalidRequestError: The template refuses these messages.
        """
        rendered, mark, said = self._render_marked(messages, True, tools, variables, begun)
        rendered = _without_open_thought(rendered)
        prompt = self._encode_marked(rendered, mark)
        whole = self._encode_marked(rendered + self._space_before_answer(messages, tools, variables) + said, mark)
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
        tools: Sequence[Mapping[str, Any]],
        variables: Mapping[str, Any],
        begun: str = "",
    ) -> tuple[str, str, str]:
        """Render messages; returns the text, the mark that breaks control tokens that were typed, and ``begun`` marked alike.

        The mark is empty where nothing looks like a control token.
        """
        if "tools" in variables:
            raise InvalidRequestError("A chat template variable may not be called tools.", "Pass it as tools.")
        checked: Any = [checked_message(message, index) for index, message in enumerate(messages)]
        strings = list(strings_in([checked, tools, variables, begun]))
        if self._only_literal and not any(self._control.search(text) for text in strings):
            return self.render(checked, add_generation_prompt, tools=tools, **variables), "", begun

        everything = "".join(strings)
        mark = next((character for character in _NONCHARACTERS if character not in everything), None)
        if mark is None:
            mark = _NONCHARACTERS[0]
            checked, tools, variables, begun = map_strings(
                (checked, tools, variables, begun), lambda text: text.replace(_NONCHARACTERS[0], "\ufffd")
            )
        marked = [self._break_message(message, mark) for message in checked]
        rendered = self.render(
            marked,
            add_generation_prompt,
            tools=break_tokens(tools, self._control, mark),
            **break_tokens(variables, self._control, mark),
        )
        return rendered, mark, break_tokens(begun, self._special, mark)

    def _break_message(self, message: dict[str, Any], mark: str) -> dict[str, Any]:
        """Break the control tokens that are typed in a message.

        What a model answered earlier keeps those that its template is written with and that aren't special: it wrote them itself.
        """
        broken: dict[str, Any] = break_tokens(message, self._control, mark)
        if message["role"] == "assistant" and "content" in message:
            broken["content"] = break_tokens(message["content"], self._special, mark)
        return broken

    def _encode_marked(self, text: str, mark: str) -> list[int]:
        if mark:
            return self._twin.encode(text, self._control, mark)
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def _space_before_answer(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]],
        variables: Mapping[str, Any],
    ) -> str:
        """The space that the template writes between the prompt and an answer, where decoding takes it away again.

        Llama 2's and Mistral's templates end the prompt with ``[/INST]`` and write an answer as ``[/INST] Hello``: there an
        answer's first token carries a space that is no part of its text.
        """
        left_out = self.token_bytes.left_out_first.decode()
        if not left_out:
            return ""
        probe = "x"
        try:
            prompt = self.render(messages, tools=tools, **variables)
            answer = {"role": "assistant", "content": probe}
            answered = self.render([*messages, answer], False, tools=tools, **variables)
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

    def added_token_id(self, token: str) -> int | None:
        """Id of a token that was added to the vocabulary, so that its text never comes in pieces; None if there is none."""
        return self._added.get(token)


def _without_open_thought(rendered: str) -> str:
    """A prompt that ends with the mark of a thought's beginning, with a thought that has nothing in it."""
    bare = rendered.rstrip()
    for marks in THOUGHT_MARKS:
        if bare.endswith(marks.begin):
            return f"{bare}\n\n{marks.end}\n\n"
    return rendered
