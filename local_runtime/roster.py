"""What is under way in an engine: what its present worker has, what waits for one, and who is suspected of killing them.

Standard library only: the application's process imports this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from local_runtime.underway import Underway

__all__ = ["Roster"]


class Roster:
    """Everything that has no end yet, in the order in which it came. It belongs to the supervisor's thread.

    A death is held against what was under way in a loaded worker and had not got further in it. After two such deaths in a
    row, something is suspected, and given to the next worker alone and before everything else: the sooner it has got further or
    has been convicted, the shorter the others wait. Only who was alone can be convicted.

    Args:
        suspected_after: Deaths in a row after which something is tried alone; None never suspects.
    """

    def __init__(self, suspected_after: int | None) -> None:
        self._suspected_after = suspected_after
        self._tasks: dict[int, Underway] = {}
        self._alone: Underway | None = None

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Underway]:
        return iter(list(self._tasks.values()))

    def __contains__(self, task: Underway) -> bool:
        return task.id in self._tasks

    def add(self, task: Underway) -> None:
        """Something new."""
        self._tasks[task.id] = task

    def add_first(self, task: Underway) -> None:
        """Something that is to come before everything else."""
        self._tasks = {task.id: task, **self._tasks}

    def remove(self, task: Underway) -> bool:
        """It has ended; returns whether others may have waited for that."""
        self._tasks.pop(task.id, None)
        return self._no_longer_alone(task) or bool(self._tasks)

    def moved(self, task: Underway) -> bool:
        """It has got further; returns whether others may have waited for that."""
        task.deaths = 0
        return self._no_longer_alone(task)

    def due(self) -> list[Underway]:
        """What to give to the worker now: all that waits, or only one that is suspected."""
        if self._alone is not None:
            return []
        waiting = [task for task in self._tasks.values() if not task.sent]
        if self._suspected_after is None:
            return waiting
        suspects = [task for task in waiting if task.deaths >= (self._suspected_after or 0)]
        if not suspects:
            return waiting
        if len(waiting) < len(self._tasks):
            return []  # what the worker has must come to its end first
        self._alone = suspects[0]
        return suspects[:1]

    def died(self, left: Collection[int], *, was_ready: bool) -> list[Underway]:
        """The worker is gone.

        Args:
            left: Numbers of what it had not brought to its end.
            was_ready: Whether its model was loaded.

        Returns:
            Whatever the death is held against.
        """
        self._alone = None
        for task in self:
            if task.sent and task.id not in left:
                del self._tasks[task.id]  # It has come to its end, of which the message is on its way.
            task.sent = False
        blamed = [task for task in self if was_ready and task.id in left]
        for task in blamed:
            task.deaths += 1
        return blamed

    def clear(self) -> list[Underway]:
        """Take everything out."""
        tasks, self._tasks, self._alone = list(self), {}, None
        return tasks

    def _no_longer_alone(self, task: Underway) -> bool:
        if self._alone is not task:
            return False
        self._alone = None
        return True
