"""A real terminal for tests: the program runs behind a pseudo-terminal, and what a person would see is kept by an emulator."""

from __future__ import annotations

import time

import pexpect
import pyte

from tests.cli.programs import clean_environment, write_script

ENTER, ALT_ENTER, CTRL_C, CTRL_D, UP, TAB = "\r", "\x1b\r", "\x03", "\x04", "\x1b[A", "\t"
PASTE_BEGIN, PASTE_END = "\x1b[200~", "\x1b[201~"


class TerminalSession:
    """``hybridllm chat`` in a terminal of 24 lines and 100 columns, with scripted replies."""

    def __init__(self, folder, replies, *argv, lines=24, columns=100, script=None, **environment):
        command = write_script(folder / "script.json", replies, **(script or {}))
        home = {"HOME": str(folder), "XDG_STATE_HOME": str(folder / "state"), "XDG_CACHE_HOME": str(folder / "cache")}
        self.child = pexpect.spawn(
            command[0],
            [*command[1:], "chat", *argv],
            env=clean_environment(**home, **environment),
            dimensions=(lines, columns),
            encoding="utf-8",
            timeout=30,
        )
        self.child.delaybeforesend = None
        self.raw = ""
        self._screen = pyte.HistoryScreen(columns, lines, history=5000, ratio=0.5)
        self._stream = pyte.Stream(self._screen)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.child.close(force=True)

    @property
    def seen(self):
        """Everything on the screen and above it, without the empty rest of each line."""
        above = ["".join(line[x].data for x in range(self._screen.columns)) for line in self._screen.history.top]
        return "\n".join(line.rstrip() for line in [*above, *self._screen.display]).rstrip()

    def send(self, keys):
        """Type something."""
        self.child.send(keys)

    def say(self, text):
        """Type a line and send it."""
        self.send(text + ENTER)

    def wait_for(self, text, *, times=1, timeout_s=30.0):
        """Read until ``text`` is seen so many times; the emulator's screen is part of the failure's message."""
        deadline_s = time.monotonic() + timeout_s
        while self.seen.count(text) < times:
            self._read(0.1)
            if time.monotonic() > deadline_s:
                raise AssertionError(f"{text!r} did not appear {times} times in:\n{self.seen}")

    def wait_for_prompt(self, number):
        """Wait until the chat asks for the ``number``-th time, counted from 1."""
        deadline_s = time.monotonic() + 30
        while self.prompts < number or not self.seen.splitlines()[-1].startswith(">"):
            self._read(0.1)
            if time.monotonic() > deadline_s:
                raise AssertionError(f"there is no prompt number {number} in:\n{self.seen}")

    @property
    def prompts(self):
        """How often the chat has asked."""
        return sum(line == ">" or line.startswith("> ") for line in self.seen.splitlines())

    def end(self):
        """Read to the end; return the exit status."""
        deadline_s = time.monotonic() + 30
        while self._read(0.1):
            assert time.monotonic() < deadline_s, f"the program goes on:\n{self.seen}"
        self.child.wait()
        return self.child.exitstatus

    def _read(self, wait_s):
        try:
            text = self.child.read_nonblocking(65536, timeout=wait_s)
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        self.raw += text
        self._stream.feed(text)
        return True
