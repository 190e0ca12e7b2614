"""The chat that goes on until the person leaves: reads a line, obeys it or asks, and says which way the answer came."""

from __future__ import annotations

from contextlib import suppress
from statistics import median
from typing import TYPE_CHECKING

from hybridllm.cli.attachment import framed_file, text_or_file, typed_path
from hybridllm.cli.conversation import Conversation
from hybridllm.cli.exit_codes import ExitCode, exit_code_for
from hybridllm.cli.mistakes import CommandError
from hybridllm.cli.route_report import place_words, status_line, why_lines
from hybridllm.cli.slash import SlashCommand, UnknownCommandError, help_lines, parse_line
from hybridllm.errors import ContextLengthExceeded, HybridLLMError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybridllm.cli.chat_session import ChatSession
    from hybridllm.cli.line_reader import LineReader

__all__ = ["Repl"]

_MISTAKES = (HybridLLMError, CommandError, UnknownCommandError)


def _exit_code(error: Exception) -> ExitCode:
    if isinstance(error, CommandError):
        return error.code
    return ExitCode.USAGE if isinstance(error, UnknownCommandError) else exit_code_for(error)


class Repl:
    """The loop of an interactive chat.

    Args:
        session: Asks, and holds the conversation.
        reader: Gives what the person types.
    """

    def __init__(self, session: ChatSession, reader: LineReader) -> None:
        self._session = session
        self._reader = reader
        self._terminal = session.terminal
        self._attached, self._attached_stays = "", False
        self._going = True
        self._failure: Exception | None = None
        self._commands: dict[str, Callable[[str], None]] = {
            "help": self._help,
            "why": self._why,
            "route": self._route,
            "local": self._local,
            "model": self._model,
            "system": self._system,
            "file": self._file,
            "regen": self._regen,
            "save": self._save,
            "load": self._load,
            "new": self._new,
            "stats": self._stats,
            "exit": self._exit,
        }

    @property
    def command_names(self) -> frozenset[str]:
        """The commands that this loop obeys."""
        return frozenset(self._commands)

    def run(self) -> ExitCode:
        """Read and answer until the person leaves or the input ends; a mistake is said and the chat goes on.

        Returns:
            The exit status. Where nobody sits there to see how it went, that of what failed last, unless a later message
            was answered.
        """
        with suppress(KeyboardInterrupt):  # it cuts the greeting short, nothing else
            self._greet()
        while self._going:
            try:
                self._turn()
            except KeyboardInterrupt:  # a second Ctrl-C, while the first one was being answered
                continue
        return ExitCode.OK if self._failure is None or self._terminal.can_ask else _exit_code(self._failure)

    def _greet(self) -> None:
        if self._terminal.can_ask:
            self._terminal.note(
                f"Chatting with {self._session.model_name}. /help shows what you can do, Ctrl-D leaves."
            )

    def _turn(self) -> None:
        try:
            text = self._reader.read()
        except EOFError:
            self._going = False
            if self._terminal.can_ask:
                self._terminal.line()
            return
        except KeyboardInterrupt:
            self._terminal.note("Press Ctrl-D or type /exit to leave.")
            return
        except CommandError as error:
            self._say_mistake(error)
            return
        try:
            self._take(text)
        except _MISTAKES as error:
            self._say_mistake(error)
            if isinstance(error, ContextLengthExceeded) and self._session.conversation.messages:
                self._terminal.note("/new starts a new conversation; /save PATH keeps this one.")
        except KeyboardInterrupt:
            self._terminal.note("Stopped.")

    def _say_mistake(self, error: Exception) -> None:
        self._failure = error
        self._terminal.error(str(error))

    def _take(self, text: str) -> None:
        line = parse_line(text)
        if isinstance(line, SlashCommand):
            self._commands[line.name](line.argument)
        elif line:
            self._ask(self._attached + line, kept_local=self._attached_stays)
            self._detach()

    def _detach(self) -> None:
        self._attached, self._attached_stays = "", False

    def _ask(self, text: str, *, kept_local: bool = False) -> None:
        answer = self._session.ask(text, kept_local=kept_local)
        self._failure = None
        if answer.stopped:
            self._terminal.note("Stopped. /regen answers again.")
        if answer.route is not None:
            tokens = answer.usage.completion_tokens if answer.usage else None
            self._terminal.note(status_line(answer.route, completion_tokens=tokens, finish_reason=answer.finish_reason))

    def _help(self, _argument: str) -> None:
        for line in help_lines():
            self._terminal.line(line)

    def _why(self, _argument: str) -> None:
        route = self._session.last_route
        if route is None:
            self._terminal.line(
                "Nothing was answered yet, so there is no reason to give. /route shows what would happen."
            )
            return
        for line in why_lines(route):
            self._terminal.line(line)

    def _route(self, argument: str) -> None:
        for line in self._session.explain(self._attached + argument, kept_local=self._attached_stays):
            self._terminal.line(line)

    def _local(self, argument: str) -> None:
        session = self._session
        wish = argument.lower()
        if wish not in ("", "on", "off"):
            self._terminal.line("Write /local on, /local off, or /local to see how it is.")
            return
        if wish:
            session.keep_local = wish == "on"
        if session.keep_local:
            self._terminal.line("What you say now stays on this device, whatever the policy says.")
        elif session.conversation.kept_local:
            self._terminal.line(
                "This conversation holds messages that must stay on this device, so it stays. /new starts another one."
            )
        elif session.conversation.system_kept_local:
            self._terminal.line(
                "The system message must stay on this device, so the conversation stays. /system sets another one."
            )
        elif self._attached_stays:
            self._terminal.line("What you attached must stay on this device, so your next message stays.")
        else:
            self._terminal.line("The policy decides where your messages go.")

    def _model(self, argument: str) -> None:
        if argument:
            self._session.switch_model(argument)
        self._terminal.line(f"Model: {self._session.model_name}")

    def _system(self, argument: str) -> None:
        conversation = self._session.conversation
        if argument:
            self._session.set_system(None if argument == "none" else text_or_file(argument))
            self._terminal.line("System message removed." if conversation.system is None else "System message set.")
        else:
            self._terminal.line(
                conversation.system or "There is no system message. /system TEXT or /system @FILE sets one."
            )

    def _file(self, argument: str) -> None:
        if not argument:
            self._terminal.line("Write /file PATH to put a text file in front of your next message.")
            return
        path = typed_path(argument)
        text = framed_file(path)
        self._attached_stays = self._attached_stays or self._session.stays_local
        self._attached += text
        self._terminal.line(f"{path.name} ({len(text)} characters) goes with your next message.")

    def _regen(self, _argument: str) -> None:
        conversation = self._session.conversation
        before = list(conversation.messages)
        text = conversation.take_back()
        if text is None:
            self._terminal.line("There is nothing to answer again yet.")
            return
        try:
            self._ask(text)
        finally:
            if len(conversation.messages) < len(before):
                conversation.messages = before

    def _save(self, argument: str) -> None:
        if not argument:
            self._terminal.line("Write /save PATH, such as /save chat.json.")
            return
        path = typed_path(argument)
        self._session.save(path)
        self._terminal.line(f"Saved {len(self._session.conversation.messages)} messages to {path}.")

    def _load(self, argument: str) -> None:
        if not argument:
            self._terminal.line("Write /load PATH with a file that /save wrote.")
            return
        loaded = Conversation.load(typed_path(argument))
        self._session.adopt(loaded)
        self._detach()
        stays = " It stays on this device." if loaded.stays_local else ""
        self._terminal.line(f"Going on with {len(loaded.messages)} messages.{stays}")

    def _new(self, _argument: str) -> None:
        self._session.start_anew()
        self._detach()
        self._terminal.line("A new conversation; the system message stays.")

    def _stats(self, _argument: str) -> None:
        stats = self._session.stats
        by_place = ", ".join(f"{count} by {place_words(place)}" for place, count in sorted(stats.answers.items()))
        lines = [
            f"Answers:        {by_place or 'none yet'}",
            f"Stopped:        {stats.stopped}",
            f"Tokens:         {stats.prompt_tokens} read, {stats.completion_tokens} written",
            f"Left device:    {stats.egress_bytes} bytes",
        ]
        if stats.ttft_ms:
            lines.append(f"First token:    {median(stats.ttft_ms):.0f} ms (median)")
        if stats.tokens_per_s:
            lines.append(f"Speed:          {median(stats.tokens_per_s):.0f} tokens/s (median)")
        for line in [*lines, *self._session.engine_lines()]:
            self._terminal.line(line)

    def _exit(self, _argument: str) -> None:
        self._going = False
