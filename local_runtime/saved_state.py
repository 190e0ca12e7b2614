"""Saves what a prompt's prefill has computed, and takes it back: between the engine's prefix cache and a file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_runtime.errors import InvalidRequestError, LocalRuntimeError, OutOfMemoryError, SavedStateError
from local_runtime.events import Failed, Finished, StateKept
from local_runtime.options import GenerateRequest, SamplingOptions
from local_runtime.state_file import read_state, write_state
from local_runtime.tool_calls.answers import template_variables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from local_runtime.events import Event
    from local_runtime.model_interface import Runner
    from local_runtime.prefix_cache import PrefixCache
    from local_runtime.protocol import SaveState
    from local_runtime.tokenizer import ChatTokenizer

__all__ = ["SavedStates", "shared_tokens"]

_PROBES = ("0", "Where?")
"""Two questions that begin with unlike tokens: what a conversation's prompt is before either of them is what all have in common."""


class SavedStates:
    """Saving and restoring for one engine; used from its thread.

    Args:
        runner: Holds the keys and values.
        tokenizer: Turns conversations into tokens.
        prefixes: Knows which sequence of the runner holds what; None if it is switched off.
        submit: Gives the engine a request, under a number and with a receiver of its events.
        next_sequence_id: Gives a number for a sequence of the runner.
    """

    def __init__(
        self,
        runner: Runner,
        tokenizer: ChatTokenizer,
        prefixes: PrefixCache | None,
        *,
        submit: Callable[[int, GenerateRequest, Callable[[Event], None]], None],
        next_sequence_id: Callable[[], int],
    ) -> None:
        self._runner = runner
        self._tokenizer = tokenizer
        self._prefixes = prefixes
        self._submit = submit
        self._next_sequence_id = next_sequence_id

    def save(
        self, command: SaveState, tell: Callable[[StateKept | LocalRuntimeError], None], working: Callable[[], None]
    ) -> None:
        """Write the whole pages of a conversation's beginning to a file, after computing them where they aren't there.

        Of a longer one than a sequence holds at a time (:mod:`local_runtime.sliding`), as much as that.

        Args:
            command: What to save, and where.
            tell: Takes the outcome, once, now or after some steps of the engine.
            working: Called after each piece that was written, to show that something gets done.

        Raises:
            LocalRuntimeError: It can't be begun.
        """
        started = time.perf_counter()
        prefixes = self._in_use()
        page_tokens = self._runner.page_tokens
        tokens = shared_tokens(self._tokenizer, command.messages, command.chat_template_kwargs, command.tools)
        tokens = tokens[: min(len(tokens) // page_tokens, self._most_pages()) * page_tokens]
        if not tokens:
            raise InvalidRequestError(
                f"What is to be saved has fewer tokens than a page of the key-value cache, {page_tokens}.",
                "Save a longer prompt; so short a one is computed at once.",
            )

        def write() -> StateKept:
            source = self._holder(prefixes, tokens)
            if source is None:
                raise OutOfMemoryError(
                    "The key-value cache had no room to keep what was to be saved.",
                    "Save it while fewer requests are under way, or load the model where more memory is free.",
                )
            runner = self._runner
            pages = self._noticed(runner.read_pages(source, len(tokens)), working)
            file_bytes = write_state(Path(command.path), runner.state_identity, runner.state_shape, tokens, pages)
            return StateKept(len(tokens), file_bytes, time.perf_counter() - started)

        if self._holder(prefixes, tokens) is not None:
            tell(write())
            return

        def receive(event: Event) -> None:
            if isinstance(event, Failed):
                tell(event.error)
            elif isinstance(event, Finished):
                try:
                    outcome: StateKept | LocalRuntimeError = write()
                except LocalRuntimeError as error:
                    outcome = error
                tell(outcome)

        greedy = SamplingOptions(temperature=0.0)
        request = GenerateRequest([], greedy, max_tokens=1, ignore_eos=True, raw_token_ids=tokens)
        self._submit(command.id, request, receive)

    def restore(self, path: Path) -> StateKept:
        """Read a file into the prefix cache.

        Raises:
            SavedStateError: It is missing, damaged, or not of this model as it is loaded now.
            OutOfMemoryError: There is no room for it beside what is under way.
        """
        started = time.perf_counter()
        prefixes, runner = self._in_use(), self._runner
        room = min(self._most_pages(), (runner.context_tokens - 1) // runner.page_tokens)
        state = read_state(path, runner.state_identity, runner.state_shape, room)
        tokens = state.tokens
        if max(tokens) >= runner.vocab_size:
            raise SavedStateError(f"{path} holds tokens that the model doesn't know.", "Save it again.")
        if self._holder(prefixes, tokens) is None:
            if not prefixes.free(len(tokens) // runner.page_tokens):
                raise OutOfMemoryError(
                    f"The key-value cache has no room now for the {len(tokens)} tokens of {path}.",
                    "Restore it while fewer requests are under way, or load the model where more memory is free.",
                )
            sequence_id = self._next_sequence_id()
            runner.restore_sequence(sequence_id, state.layers)
            if not prefixes.adopt(sequence_id, tokens):
                runner.remove_sequence(sequence_id)
        return StateKept(len(tokens), state.file_bytes, time.perf_counter() - started)

    def _most_pages(self) -> int:
        """The most pages that a sequence can hold with its beginning."""
        runner = self._runner
        return runner.total_pages if runner.window is None else runner.window.most_tokens // runner.page_tokens

    def _in_use(self) -> PrefixCache:
        if self._prefixes is None:
            raise SavedStateError(
                "A saved state lives in the prefix cache, which is switched off, or which this model cannot have on a GPU (a sliding "
                "window).",
                "Load the model with prefix_cache, or on the processor.",
            )
        return self._prefixes

    @staticmethod
    def _holder(prefixes: PrefixCache, tokens: list[int]) -> int | None:
        """A sequence that begins with all of ``tokens``, if there is one."""
        found = prefixes.holder(tokens)
        return found.source if found is not None and found.tokens == len(tokens) else None

    @staticmethod
    def _noticed(pages: Iterator[NDArray[Any]], working: Callable[[], None]) -> Iterator[NDArray[Any]]:
        for piece in pages:
            yield piece
            working()


def shared_tokens(
    tokenizer: ChatTokenizer,
    messages: list[dict[str, Any]],
    chat_template_kwargs: dict[str, Any],
    tools: list[dict[str, Any]],
) -> list[int]:
    """The tokens that the prompts of all conversations have in common which begin with ``messages``.

    Where a question is the next thing to come, that is the prompt up to its text. Where the messages end with one, it is all of
    the prompt, with what the template writes before an answer.

    Raises:
        LocalRuntimeError: The chat template refuses the conversation.
    """
    fields = template_variables(chat_template_kwargs, tools)
    if messages and messages[-1].get("role") in ("user", "tool"):
        return tokenizer.encode_chat(messages, **fields)
    first, second = (
        tokenizer.encode_chat([*messages, {"role": "user", "content": text}], **fields) for text in _PROBES
    )
    differ = (place for place, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
    return first[: next(differ, min(len(first), len(second)))]
