"""Text that is read from a file or from standard input, on its way into a message."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from hybridllm.cli.mistakes import CommandError

__all__ = [
    "UnreadableTextError",
    "argument_text",
    "decoded",
    "framed_file",
    "read_bounded",
    "read_stdin",
    "read_text",
    "reason_of",
    "text_or_file",
    "typed_path",
]

_LARGEST_MIB = 4

# A byte that the locale's encoding cannot read comes as a lone surrogate that stands for it (PEP 383).
_UNREAD_BYTES = re.compile("[\udc80-\udcff]")


class UnreadableTextError(CommandError):
    """A file or standard input gave no text; one sentence with the mend."""


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        UnreadableTextError: There is no such file, it is too large for any context, or it isn't UTF-8 text.
    """
    try:
        data = read_bounded(path)
    except (OSError, ValueError) as error:
        raise UnreadableTextError(f"{path} cannot be read: {reason_of(error)}. Give a text file.") from None
    return decoded(data, str(path))


def read_bounded(path: Path) -> bytes:
    """The bytes of a file, which may be one without an end, such as a device.

    Raises:
        UnreadableTextError: It is too large for any context.
        OSError, ValueError: The system cannot open or read it.
    """
    most_bytes = _LARGEST_MIB * 2**20
    with path.open("rb") as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise UnreadableTextError(f"{path} has more than {_LARGEST_MIB} MiB. Give a shorter text.")
    return data


def reason_of(error: OSError | ValueError) -> str:
    """Why a file cannot be used, in the system's words and without its path."""
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def typed_path(text: str) -> Path:
    """The path that a person typed, with ``~`` as their home.

    Raises:
        UnreadableTextError: It begins with the home of a user that there isn't.
    """
    try:
        return Path(text).expanduser()
    except (RuntimeError, ValueError):  # ValueError: a zero byte in the user's name
        raise UnreadableTextError(
            f"{text} begins with the home of a user that cannot be found. Write the whole path."
        ) from None


def read_stdin() -> str:
    """All of standard input.

    Raises:
        UnreadableTextError: It isn't UTF-8 text, it is too large for any context, or there is nothing.
    """
    most_bytes = _LARGEST_MIB * 2**20
    data = sys.stdin.buffer.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise UnreadableTextError(f"Standard input has more than {_LARGEST_MIB} MiB. Give a shorter text.")
    text = decoded(data, "Standard input").strip()
    if not text:
        raise UnreadableTextError(
            "Standard input is empty. Pipe a message into it, or give the message as an argument."
        )
    return text


def text_or_file(value: str) -> str:
    """``value`` itself, or the text of the file that ``@path`` names.

    Raises:
        UnreadableTextError: The file gives no text.
    """
    if not value.startswith("@"):
        return argument_text(value, "The system message")
    if value == "@":
        raise UnreadableTextError("@ names no file. Write @ and a file's path, or the text itself.")
    return read_text(typed_path(value[1:])).strip()


def framed_file(path: Path) -> str:
    """A file's text between marks that tell a model where it begins, where it ends and what it is called.

    Raises:
        UnreadableTextError: The file gives no text.
    """
    text = read_text(path).strip("\n")
    fence = "```"
    while fence in text:
        fence += "`"
    return f"File {path.name}:\n{fence}\n{text}\n{fence}\n\n"


def argument_text(value: str, name: str) -> str:
    """The text of an argument or a typed line, whatever encoding the locale claims: its bytes have to be UTF-8.

    Raises:
        UnreadableTextError: They are not.
    """
    return decoded(os.fsencode(value), name) if _UNREAD_BYTES.search(value) else value


def decoded(data: bytes, name: str) -> str:
    """The text of ``data``; ``name`` begins the error's sentence.

    Raises:
        UnreadableTextError: It isn't UTF-8 text.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableTextError(f"{name} is not UTF-8 text (byte {error.start}). Give a text in UTF-8.") from None
    if "\0" in text:
        raise UnreadableTextError(f"{name} is not a text: it has zero bytes. Give a text in UTF-8.")
    return text.replace("\r\n", "\n")
