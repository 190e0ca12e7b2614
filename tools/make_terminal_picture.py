"""Makes ``docs/images/chat.svg`` from a real run: ``python tools/make_terminal_picture.py``.

The real program runs behind a pseudo-terminal, a person's keys are typed, and what an emulator shows at the end is drawn with Rich's
``export_svg``. Needs the ``dev`` extra (pexpect, pyte), and so does not run on Windows.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from itertools import groupby
from pathlib import Path

import pexpect
import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "images" / "chat.svg"
COLUMNS, LINES = 98, 40
COMMAND = ["chat", "--no-history", "--temperature", "0", "--system", "@examples/fact_sheets/museum.md"]
SAYS = ["When do you open on Sunday?", "How much is a ticket for students?", "Do you have a swimming pool?", "/why"]
_COLOURS = {"brown": "yellow", "default": None}  # pyte's word, Rich's word
_ANSWER_TIMEOUT_S = 120.0


def record() -> pyte.Screen:
    """Hold the conversation; return the emulator's screen."""
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.Stream(screen)
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "HYBRIDLLM_PLAIN")}
    child = pexpect.spawn(
        sys.executable,
        ["-m", "hybridllm", *COMMAND],
        cwd=ROOT,
        env={**environment, "TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1"},
        dimensions=(LINES, COLUMNS),
        encoding="utf-8",
    )
    try:
        for number, line in enumerate(SAYS, start=1):
            _wait_for_prompt(child, stream, screen, number)
            child.send(line + "\r")
        _wait_for_prompt(child, stream, screen, len(SAYS) + 1)
    finally:
        child.close(force=True)
    return screen


def _wait_for_prompt(child: pexpect.spawn[str], stream: pyte.Stream, screen: pyte.Screen, number: int) -> None:
    """Read until the chat has asked ``number`` times and waits at its prompt."""
    deadline_s = time.monotonic() + _ANSWER_TIMEOUT_S
    while time.monotonic() < deadline_s:
        try:
            # The emulator knows no faint text, which is what notices are written in: grey stands for it.
            stream.feed(child.read_nonblocking(65536, timeout=0.3).replace("\x1b[2m", "\x1b[38;5;245m"))
        except pexpect.TIMEOUT:
            shown = [line.rstrip() for line in screen.display if line.strip()]
            if sum(line == ">" or line.startswith("> ") for line in shown) == number and shown[-1] == ">":
                return
    raise SystemExit("The chat did not come to its prompt:\n" + "\n".join(screen.display))


def drawn(screen: pyte.Screen) -> list[Text]:
    """The screen's lines with their colours, without the empty prompt at the end."""
    lines = []
    for row in range(screen.lines):
        line = Text()
        cells = [screen.buffer[row][column] for column in range(screen.columns)]
        for style, run in groupby(cells, key=_style):
            line.append("".join(cell.data for cell in run), style)
        line.rstrip()
        lines.append(line)
    while lines and lines[-1].plain in ("", ">"):
        lines.pop()
    return lines


def _style(cell: pyte.screens.Char) -> Style:
    colour = _COLOURS.get(cell.fg, cell.fg)
    if colour is not None and re.fullmatch(r"[0-9a-f]{6}", colour):
        colour = f"#{colour}"
    return Style(color=colour, bold=cell.bold or None, italic=cell.italics or None, underline=cell.underscore or None)


def svg_of(lines: list[Text]) -> str:
    """The lines as a picture that loads nothing from elsewhere."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True, legacy_windows=False)
        console.print(Text("$ hybridllm " + " ".join(COMMAND), style="bold"))
        for line in lines:
            console.print(line, no_wrap=True, overflow="crop")
        svg = console.export_svg(title="hybridllm chat", unique_id="chat")
    # Rich's frame names fonts on a server; a picture in a repository should need nobody.
    return re.sub(r"\s*@font-face \{.*?\n    \}", "", svg, flags=re.DOTALL)


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=PICTURE)
    out: Path = parser.parse_args().out
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(svg_of(drawn(record())), encoding="utf-8")
    sys.stdout.write(f"{out}\n")


if __name__ == "__main__":
    main()
