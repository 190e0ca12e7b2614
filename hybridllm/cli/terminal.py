"""Where output goes and how it may look: one object that knows what the terminal can do.

Standard output carries answers and reports only; notices, progress and errors go to standard error. Colours appear only on a
terminal, and neither with ``NO_COLOR`` nor in plain mode. Plain mode (``--plain``, ``HYBRIDLLM_PLAIN=1`` or ``TERM=dumb``) writes
whole lines from top to bottom: no colours, no spinners, no cursor movement, nothing that a screen reader would read twice.
"""

from __future__ import annotations

import os
import re
import sys
from functools import cached_property
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = [
    "OutputClosedError",
    "OutputFullError",
    "Terminal",
    "abandon_stdout",
    "output_error",
    "prepare_streams",
    "printable",
    "wrapped",
]

# C0 except tab and newline, DEL, and C1: an answer must not be able to move the cursor, retitle the window or paste.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class OutputClosedError(Exception):
    """Whoever read our standard output has gone away, as ``head`` does."""


class OutputFullError(Exception):
    """What is written to cannot take more, as a full disk; one sentence with the mend."""


def printable(text: str) -> str:
    """``text`` without characters that a terminal would obey instead of showing; newlines and tabs stay."""
    return _CONTROL.sub("", text)


def wrapped(text: str, columns: int) -> str:
    """``text`` broken between words where a line is longer than the terminal is wide.

    A word that is too long by itself, such as a path, stays whole: the terminal breaks it, and it can still be copied.
    """
    from rich.cells import cell_len

    lines: list[str] = []
    for line in text.split("\n"):
        words = line.split(" ")
        lines.append(words[0])
        for word in words[1:]:
            if cell_len(lines[-1]) + 1 + cell_len(word) <= columns:
                lines[-1] += f" {word}"
            else:
                lines.append(word)
    return "\n".join(lines)


class Terminal:
    """Standard output and standard error, and what may be written to them.

    Args:
        plain: Plain line mode, whatever the terminal could do.
        quiet: Leave notices out; errors are still written.
    """

    def __init__(self, *, plain: bool = False, quiet: bool = False) -> None:
        wanted = os.environ.get("HYBRIDLLM_PLAIN", "") not in ("", "0")
        self.plain = plain or wanted or os.environ.get("TERM") == "dumb"
        self.quiet = quiet

    @property
    def can_ask(self) -> bool:
        """True if a person sits at standard input and sees standard output."""
        return sys.stdin.isatty() and sys.stdout.isatty()

    @property
    def fancy(self) -> bool:
        """True if standard output may be redrawn: a terminal, and not plain mode."""
        return sys.stdout.isatty() and not self.plain

    @property
    def fancy_progress(self) -> bool:
        """True if standard error may be redrawn: a terminal, and not plain mode."""
        return sys.stderr.isatty() and not self.plain

    @cached_property
    def out(self) -> Console:
        """Rich's console over standard output."""
        return self._console(stderr=False, fancy=self.fancy)

    @cached_property
    def err(self) -> Console:
        """Rich's console over standard error."""
        return self._console(stderr=True, fancy=self.fancy_progress)

    @staticmethod
    def _console(*, stderr: bool, fancy: bool) -> Console:
        from rich.console import Console

        class QuietPipeConsole(Console):
            def on_broken_pipe(self) -> None:
                raise OutputClosedError

        return QuietPipeConsole(
            stderr=stderr,
            highlight=False,
            markup=False,
            emoji=False,
            soft_wrap=True,
            force_terminal=None if fancy else False,
        )

    def write(self, text: str) -> None:
        """Write a piece of an answer to standard output as it is, at once."""
        _write(sys.stdout, printable(text) if sys.stdout.isatty() else text)

    def line(self, text: str = "", style: str = "") -> None:
        """Write one line of a report to standard output; ``style`` is Rich's and used on a terminal only."""
        if self.fancy:
            self._wrapped(self.out, text, style)
        else:
            self.write(text + "\n")

    def show(self, renderable: RenderableType) -> None:
        """Draw one of Rich's renderables on standard output; only where :attr:`fancy` is true."""
        self.out.print(renderable, soft_wrap=False)

    def note(self, text: str, style: str = "dim") -> None:
        """Write one line of notice to standard error, unless quiet."""
        if not self.quiet:
            self._to_stderr(text, style)

    def warn(self, text: str) -> None:
        """Write one line of warning to standard error."""
        self._to_stderr(text, "yellow")

    def error(self, text: str) -> None:
        """Write one line of error to standard error."""
        self._to_stderr(f"hybridllm: {text}", "red")

    @staticmethod
    def _wrapped(console: Console, text: str, style: str) -> None:
        console.print(wrapped(printable(text), console.width), style=style or None)

    def _to_stderr(self, text: str, style: str) -> None:
        if self.fancy_progress:
            self._wrapped(self.err, text, style)
        else:
            _write(sys.stderr, printable(text) + "\n")


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        raise OutputClosedError from None
    except OSError as error:
        raise output_error(stream, error) from None


def output_error(stream: TextIO, error: OSError) -> OutputFullError:
    """The sentence for a stream that cannot be written."""
    name = "Standard error" if stream is sys.stderr else "Standard output"
    return OutputFullError(
        f"{name} cannot be written: {error.strerror or error}. Free some space, or write to another place."
    )


def prepare_streams() -> None:
    """Make the standard streams fit for use.

    A stream that we were started without (``>&-``) is opened onto nothing, before a file of ours takes its descriptor. What
    goes into a pipe or a file is UTF-8 whatever the locale says, as JSON has to be. A
    character that the output's encoding lacks is replaced, and a byte that the input's encoding lacks is kept for
    :func:`hybridllm.cli.attachment.argument_text`; neither is a crash.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - for the whole run
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding=stream.encoding if stream.isatty() else "utf-8", errors="replace")
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="surrogateescape")


def abandon_stdout() -> None:
    """Point standard output at nothing, so that the interpreter's last flush does not fail as well."""
    with open(os.devnull, "wb") as nothing:  # noqa: PTH123 - devnull is a name for open(), not a path of ours
        os.dup2(nothing.fileno(), sys.stdout.fileno())
