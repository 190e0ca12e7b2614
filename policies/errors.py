"""The error of a file that cannot be used: where exactly, what is wrong, what to write instead."""

from __future__ import annotations

__all__ = ["PolicyFileError", "printable"]


def printable(text: str) -> str:
    """The text with everything escaped that could break a line, steer a terminal or turn the direction of writing."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


class PolicyFileError(ValueError):
    """A YAML file is missing, malformed, or says something that is not understood.

    The message is one line, and what a user wrote is in it with its control characters escaped.

    Args:
        problem: What is wrong, one sentence.
        mend: What to write instead, one sentence; may be empty.
        file: The file as the user named it.
        line: Line, counted from 1; None if the file could not be read.
        column: Column, counted from 1; None if the file could not be read.
        key: Path of the key, such as ``rules[1].when.connectivity``; empty for the file as a whole.
    """

    def __init__(
        self,
        problem: str,
        mend: str = "",
        *,
        file: str,
        line: int | None = None,
        column: int | None = None,
        key: str = "",
    ) -> None:
        problem, mend, key = printable(problem), printable(mend), printable(key)
        place = ":".join(str(part) for part in (printable(file), line, column) if part is not None)
        self.message = f"{place}: {key}: {problem}" if key else f"{place}: {problem}"
        super().__init__(f"{self.message} {mend}".strip())
        self.problem = problem
        self.mend = mend
        self.file = file
        self.line = line
        self.column = column
        self.key = key
