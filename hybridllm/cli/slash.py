"""The commands that a person can type inside a chat: which there are, and how a line is read."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

__all__ = ["COMMANDS", "SlashCommand", "SlashSpec", "UnknownCommandError", "help_lines", "parse_line"]


@dataclass(frozen=True)
class SlashSpec:
    """One command of the chat.

    Attributes:
        name: The word after the slash.
        argument: What may follow it, for the help; empty if nothing may.
        purpose: What it does, in one line.
    """

    name: str
    argument: str
    purpose: str


@dataclass(frozen=True)
class SlashCommand:
    """A command as typed: its name without the slash, and the rest of the line."""

    name: str
    argument: str


class UnknownCommandError(Exception):
    """The line starts with a slash and names no command; the message suggests what was meant."""


_SPECS = (
    SlashSpec("help", "", "show these commands and keys"),
    SlashSpec("why", "", "the rule that decided, with its file and line"),
    SlashSpec("route", "[MESSAGE]", "where the next message would go, and why"),
    SlashSpec("local", "[on|off]", "keep what follows on this device"),
    SlashSpec("model", "[MODEL]", "show the model, or go on with another one"),
    SlashSpec("system", "[TEXT|@FILE|none]", "show, set or remove the system message"),
    SlashSpec("file", "PATH", "put a text file in front of the next message"),
    SlashSpec("regen", "", "answer the last message again"),
    SlashSpec("save", "PATH", "save the conversation as JSON"),
    SlashSpec("load", "PATH", "go on with a saved conversation"),
    SlashSpec("new", "", "forget the conversation and start a new one"),
    SlashSpec("stats", "", "counts, speeds, and the engine's memory"),
    SlashSpec("exit", "", "leave (also /quit, or Ctrl-D)"),
)
COMMANDS: dict[str, SlashSpec] = {spec.name: spec for spec in _SPECS}
_ALIASES = {"quit": "exit", "?": "help"}

_KEYS = (
    "Enter sends; a paste may have many lines.",
    "Alt+Enter starts a new line, and so does Enter after a backslash.",
    'A message that begins with """ goes on until a line ends with """.',
    "Start with // to send a message that begins with /.",
    "Ctrl-C stops the answer, Ctrl-D leaves.",
)


def parse_line(text: str) -> SlashCommand | str:
    """Tell a command from a message.

    Args:
        text: What was typed, possibly several lines.

    Returns:
        The command, or the message to send.

    Raises:
        UnknownCommandError: It looks like a command, but there is none of that name.
    """
    stripped = text.strip()
    if stripped.startswith("//"):
        return stripped[1:]
    if not stripped.startswith("/"):
        return stripped
    first, _, rest = stripped.partition("\n")
    word, _, argument = first[1:].partition(" ")
    name = _ALIASES.get(word.lower(), word.lower())
    if name in COMMANDS:
        return SlashCommand(name, "\n".join(part for part in (argument.strip(), rest) if part))
    close = difflib.get_close_matches(name, COMMANDS, n=1)
    meant = f"Did you mean /{close[0]}?" if close else "/help lists the commands."
    raise UnknownCommandError(f"There is no command /{word}. {meant} Start with // to send it as a message.")


def help_lines() -> list[str]:
    """The chat's help, one line each."""
    width = max(len(f"/{spec.name} {spec.argument}") for spec in _SPECS)
    rows = [f"{f'/{spec.name} {spec.argument}'.strip():<{width}}  {spec.purpose}" for spec in _SPECS]
    return [*rows, "", *_KEYS]
