"""Where a chat's messages come from: an editor line on a terminal, or plain lines for screen readers and pipes."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Protocol

from hybridllm.cli.attachment import argument_text, decoded
from hybridllm.cli.slash import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prompt_toolkit.completion import CompleteEvent, Completion
    from prompt_toolkit.document import Document
    from prompt_toolkit.history import FileHistory
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    from hybridllm.cli.terminal import Terminal

__all__ = ["LineReader", "line_reader", "unfinished"]

_QUOTE = '"""'


class LineReader(Protocol):
    """Reads one message at a time."""

    def read(self) -> str:
        """The next message, possibly of several lines.

        Raises:
            EOFError: There is none any more.
            KeyboardInterrupt: The person pressed Ctrl-C.
        """


def line_reader(terminal: Terminal, *, keep_history: bool) -> LineReader:
    """The reader that fits: an editor line on a terminal, plain lines in plain mode or from a pipe."""
    history = _open_history() if keep_history and terminal.can_ask else None
    if terminal.can_ask and terminal.fancy:
        return _EditorReader(history)
    return _PlainReader(history, asking=terminal.can_ask)


def unfinished(text: str) -> bool:
    r"""True if the message wants another line: it ends with a backslash, or an opened \"\"\" isn't closed."""
    if text.lstrip().startswith(_QUOTE):
        inner = text.lstrip()[len(_QUOTE) :]
        return not inner.rstrip().endswith(_QUOTE)
    return text.endswith("\\")


def _assemble(text: str) -> str:
    """The message without the marks that joined its lines."""
    stripped = text.strip()
    if stripped.startswith(_QUOTE) and stripped.endswith(_QUOTE) and len(stripped) >= 2 * len(_QUOTE):
        return stripped[len(_QUOTE) : -len(_QUOTE)].strip("\n")
    return text.replace("\\\n", "\n")


def _open_history() -> FileHistory | None:
    """The history file, made readable by its owner only; None if there is no place for it."""
    from platformdirs import user_state_path
    from prompt_toolkit.history import FileHistory

    path = user_state_path("hybridllm", appauthor=False) / "history"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
    except OSError:
        return None  # a read-only home: the chat works, it only remembers nothing
    return FileHistory(str(path))


class _PlainReader:
    """Whole lines from standard input; Python's own line editing where the platform has it."""

    def __init__(self, history: FileHistory | None, *, asking: bool) -> None:
        self._asking = asking
        self._history = history
        self._lines = 0
        if asking:
            _feed_readline(history)

    def read(self) -> str:
        text = self._line("You: ")
        while unfinished(text):
            try:
                text += "\n" + self._line("...: ")
            except EOFError:
                if self._asking:
                    raise
                # The input is at its end, so this is all of the message.
                quoted = text.lstrip().startswith(_QUOTE)
                text = text.lstrip().removeprefix(_QUOTE) if quoted else text.removesuffix("\\")
                break
        if self._history is not None and text.strip():
            self._history.store_string(text)
        return _assemble(text)

    def _line(self, prompt: str) -> str:
        if self._asking:
            return argument_text(input(prompt), "What you typed")
        line = sys.stdin.buffer.readline()
        if not line:
            raise EOFError
        self._lines += 1
        return decoded(line, f"Line {self._lines} of standard input").rstrip("\r\n")


def _feed_readline(history: FileHistory | None) -> None:
    """Load readline, which ``input`` then uses, with what was typed in earlier chats; Windows has none."""
    try:
        import readline
    except ImportError:
        return
    for entry in reversed(list(history.load_history_strings()) if history is not None else []):
        readline.add_history(entry)


class _EditorReader:
    """A line that can be edited, with history, completion of commands, and pastes of many lines."""

    def __init__(self, history: FileHistory | None) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.history import InMemoryHistory

        self._session: PromptSession[str] = PromptSession(
            history=history if history is not None else InMemoryHistory(),
            multiline=True,
            key_bindings=_key_bindings(),
            completer=_completer(),
            complete_while_typing=False,
            prompt_continuation="… ",
            enable_history_search=False,
        )

    def read(self) -> str:
        try:
            return _assemble(argument_text(self._session.prompt("> "), "What you typed"))
        finally:
            # A signal in the moment after the first drawing leaves prompt_toolkit before it thinks of the terminal's modes.
            self._session.app.renderer.reset()


def _key_bindings() -> KeyBindings:
    from prompt_toolkit.filters import completion_is_selected
    from prompt_toolkit.key_binding import KeyBindings

    bindings = KeyBindings()
    bind: Callable[..., Callable[[Any], Any]] = bindings.add

    @bind("enter", filter=~completion_is_selected)
    def _send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if unfinished(buffer.text) and buffer.document.is_cursor_at_the_end:
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @bind("escape", "enter")
    def _new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return bindings


def _completer() -> Any:
    from prompt_toolkit.completion import Completer, Completion, PathCompleter
    from prompt_toolkit.document import Document

    paths = PathCompleter(expanduser=True)

    class CommandCompleter(Completer):
        """Commands after a slash, and files after the commands that take one."""

        def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
            text = document.text_before_cursor
            word, space, rest = text.partition(" ")
            if not text.startswith("/") or "\n" in text:
                return
            if not space:
                for spec in COMMANDS.values():
                    if f"/{spec.name}".startswith(word):
                        yield Completion(f"/{spec.name}", start_position=-len(word), display_meta=spec.purpose)
            elif word in ("/file", "/save", "/load", "/model") or rest.startswith("@"):
                path = rest.removeprefix("@")
                yield from paths.get_completions(Document(path, len(path)), complete_event)

    return CommandCompleter()
