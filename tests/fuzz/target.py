"""One thing to fuzz: bytes in, and either nothing happens or it raises because the code under test broke a promise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.fuzz.guard import guarded


class BrokenPromiseError(AssertionError):
    """The code under test did something that its docstring rules out."""


def promise(held, what):
    """Fail with ``what``, which must name no content, unless ``held``."""
    if not held:
        raise BrokenPromiseError(what)


def check_message(text, *, most_characters):
    """A message is one printable line of a bounded length."""
    promise(text.strip(), "the error has no message")
    promise(len(text) <= most_characters, f"the error's message has {len(text)} characters")
    promise(text.isprintable(), "the error's message has a line break or a control character")


@dataclass(frozen=True)
class Target:
    """A parser under test."""

    name: str
    """Name on the command line."""

    check: Callable[[bytes], None]
    """Gives the parser the bytes and raises if it breaks a promise."""

    seeds: Callable[[], list[bytes]]
    """Good and bad inputs to begin with."""

    words: tuple[str, ...] = ()
    """Words of the language, for engines that mutate by a dictionary."""

    may_touch: tuple[str, ...] = ()
    """Paths that the parser is given to read or write; it may touch nothing else."""

    most_bytes: int = 4096
    """Length of the inputs that an engine makes."""

    def run(self, data: bytes) -> None:
        """Run the parser on one input, watched."""
        with guarded(self.may_touch):
            self.check(data)
