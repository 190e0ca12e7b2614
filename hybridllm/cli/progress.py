"""How the preparation of a model is shown: a bar on a terminal, a line for each step everywhere else; always standard error."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from hybridllm.cli.terminal import Terminal
    from local_runtime.options import Progress, ProgressStage

__all__ = ["LoadProgress", "stage_words"]

_WORDS: dict[ProgressStage, str] = {
    "resolve": "Finding the model",
    "convert": "Converting the weights",
    "compile": "Compiling for this device",
    "load": "Loading",
    "ready": "Ready",
}
_SLOW: frozenset[ProgressStage] = frozenset({"convert", "compile"})
_LINE_EVERY = 0.25


def stage_words(stage: ProgressStage) -> str:
    """The step's name for a person."""
    return _WORDS[stage]


class LoadProgress:
    """Takes :class:`local_runtime.options.Progress` from any thread and shows it.

    Args:
        terminal: Where to show it.
        verbose: In lines mode, say the quick steps as well as the slow ones.

    Use as a context manager; calls outside of it are ignored, so a late report never lands in an answer.
    """

    def __init__(self, terminal: Terminal, *, verbose: bool = False) -> None:
        self._terminal = terminal
        self._verbose = verbose
        self._lock = threading.Lock()
        self._open = False
        self._stage: ProgressStage | None = None
        self._next_line_at = 0.0
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        with self._lock:
            self._open = True
            self._stage = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar away; it may be opened again."""
        with self._lock:
            self._open = False
            bar, self._bar, self._task = self._bar, None, None
        if bar is not None:
            bar.stop()

    def __call__(self, progress: Progress) -> None:
        """Show one report."""
        with self._lock:
            if not self._open or self._terminal.quiet:
                return
            if self._terminal.fancy_progress:
                self._draw(progress)
            else:
                self._say(progress)
            self._stage = progress.stage

    def _draw(self, progress: Progress) -> None:
        if self._bar is None:
            from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TimeElapsedColumn(),
                TextColumn("{task.fields[detail]}", style="dim"),
                console=self._terminal.err,
                transient=True,
            )
            self._task = self._bar.add_task("", total=None, detail="")
            self._bar.start()
        assert self._task is not None
        done = progress.done
        self._bar.update(
            self._task,
            description=stage_words(progress.stage),
            total=None if done is None else 1.0,
            completed=done or 0.0,
            detail=progress.detail[:40],
        )

    def _say(self, progress: Progress) -> None:
        if progress.stage != self._stage:
            self._next_line_at = _LINE_EVERY
            if self._verbose or progress.stage in _SLOW:
                ending = "." if progress.stage == "ready" else "..."
                self._terminal.note(stage_words(progress.stage) + ending)
        elif progress.stage in _SLOW and progress.done is not None and progress.done >= self._next_line_at:
            while self._next_line_at <= progress.done:
                self._next_line_at += _LINE_EVERY
            self._terminal.note(f"{stage_words(progress.stage)}: {progress.done:.0%}")
