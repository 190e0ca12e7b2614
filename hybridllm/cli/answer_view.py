"""How an answer is shown while it streams: raw text, or Markdown that is drawn as it grows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from hybridllm.cli.markdown_blocks import MarkdownBlocks
from hybridllm.cli.terminal import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.live import Live
    from rich.segment import Segment

    from hybridllm.cli.terminal import Terminal

__all__ = ["AnswerView", "MarkdownAnswer", "RawAnswer", "answer_view"]

_REDRAWS_PER_S = 10


class AnswerView(Protocol):
    """Shows one answer."""

    def think(self, text: str) -> None:
        """Show the next piece of what the model thinks before it answers."""

    def push(self, text: str) -> None:
        """Show the next piece."""

    def close(self) -> None:
        """The answer has ended, one way or another: leave the cursor at the start of a line."""


def answer_view(terminal: Terminal) -> AnswerView:
    """The view that fits the terminal: Markdown where it may be redrawn, raw text else."""
    return MarkdownAnswer(terminal) if terminal.fancy else RawAnswer(terminal)


class RawAnswer:
    """The answer's text as it is, piece by piece, ended by one newline. Of thoughts it says only that there are some: what goes
    to a pipe is the answer."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._last = "\n"
        self._thinks = False

    def think(self, text: str) -> None:
        """Say once that the model thinks."""
        if text and not self._thinks:
            self._thinks = True
            self._terminal.note("Thinking.")

    def push(self, text: str) -> None:
        """Write the piece at once."""
        if text:
            self._last = text[-1]  # first, since Ctrl-C may come as soon as the text is out
            self._terminal.write(text)

    def close(self) -> None:
        """End the last line if the answer did not."""
        last, self._last = self._last, "\n"
        if last != "\n":
            self._terminal.write("\n")


class MarkdownAnswer:
    """Markdown on a terminal: finished blocks are printed once, the unfinished one is redrawn below them."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._blocks = MarkdownBlocks()
        self._printed = False
        self._thoughts = ""  # the last piece of them
        self._live: Live | None = None

    def think(self, text: str) -> None:
        """Write the piece dimmed, above the answer; once that has begun, thoughts are left out."""
        from rich.text import Text

        text = printable(text)
        if text and self._live is None:
            self._thoughts = text
            self._terminal.out.print(Text(text, style="dim"), end="")

    def push(self, text: str) -> None:
        """Add the piece; the screen follows within a tenth of a second."""
        from rich.live import Live

        self._end_thoughts()
        finished = self._blocks.push(printable(text))
        if self._live is None:
            self._live = Live(
                console=self._terminal.out,
                refresh_per_second=_REDRAWS_PER_S,
                transient=True,
                vertical_overflow="visible",  # the renderable below never grows past the screen
            )
            self._live.start()
        for block in finished:
            self._live.update(_Tail("", spaced=False), refresh=True)
            self._print(block)
        self._live.update(_Tail(self._blocks.tail, spaced=self._printed))

    def close(self) -> None:
        """Print what is left and stop redrawing."""
        self._end_thoughts()
        if self._live is not None:
            self._live.update(_Tail("", spaced=False), refresh=True)
            self._live.stop()
            self._live = None
        rest = self._blocks.flush()
        if rest:
            self._print(rest)
        self._printed = False

    def _end_thoughts(self) -> None:
        """Set the answer off from them by one empty line."""
        if self._thoughts:
            last, self._thoughts = self._thoughts, ""
            self._terminal.write("\n" if last.endswith("\n") else "\n\n")

    def _print(self, block: str) -> None:
        self._terminal.show(_Block(block, spaced=self._printed))
        self._printed = True


class _Block:
    """A finished block, set off from the one above by one empty line."""

    def __init__(self, text: str, *, spaced: bool) -> None:
        self._text = text
        self._spaced = spaced

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.segment import Segment

        for line in self.lines(console, options):
            yield from line
            yield Segment.line()

    def lines(self, console: Console, options: ConsoleOptions) -> list[list[Segment]]:
        """The block as lines of segments, without the empty lines that Rich puts around tables and headings."""
        from rich.markdown import Markdown

        if not self._text.strip():
            return []
        lines = console.render_lines(Markdown(self._text), options.update(height=None), pad=False)
        while lines and _is_empty(lines[0]):
            del lines[0]
        while lines and _is_empty(lines[-1]):
            del lines[-1]
        return [[], *lines] if self._spaced else lines


class _Tail(_Block):
    """The unfinished block, cut to its last lines where the screen is too low for all of it."""

    def lines(self, console: Console, options: ConsoleOptions) -> list[list[Segment]]:
        """The last lines that fit above the cursor."""
        return super().lines(console, options)[-max(1, console.height - 2) :]


def _is_empty(line: list[Segment]) -> bool:
    """True if the line shows nothing; the padding of a code block shows its background."""
    return all(not part.text.strip() and not (part.style and part.style.bgcolor) for part in line)
