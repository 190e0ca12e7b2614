"""Which saved states every worker of an engine gets back, as soon as its model is loaded.

Standard library only: the application's process imports this module.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_runtime.errors import WorkerDiedError
from local_runtime.protocol import RestoreState
from local_runtime.underway import Question

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import Callable

__all__ = ["KeptStates", "Restoring"]

_log = logging.getLogger("local_runtime.client")


class Restoring(Question):
    """A state that is restored because a worker is new, and not because anybody asked."""

    def __init__(self, id: int, path: str) -> None:  # noqa: A002 - the field's name on the wire
        super().__init__(id, RestoreState(id, path))
        self.path = path


class KeptStates:
    """The paths of saved states. It belongs to the supervisor's thread.

    A state that cannot be restored costs nothing but time: prompts are prefilled as usual, and the log says why. One that a worker
    died of, time and again, is not tried again.

    Args:
        path: The first; None for none.
    """

    def __init__(self, path: str | None) -> None:
        self._open: dict[str, Restoring | None] = {} if path is None else {str(Path(path).absolute()): None}

    def keep(self, path: str) -> None:
        """Restore a state in every further worker; the present one has it."""
        self._open.setdefault(path, None)

    def begin(self, next_id: Callable[[], int]) -> list[Restoring]:
        """What to ask a worker whose model has just been loaded; what was asked of an earlier one and has no end yet goes on."""
        fresh = [Restoring(next_id(), path) for path, restoring in self._open.items() if restoring is None]
        for restoring in fresh:
            self._open[restoring.path] = restoring
        return fresh

    def ended(self, restoring: Restoring) -> None:
        """Note how it went, and say so where it went wrong."""
        outcome: concurrent.futures.Future[Any] = restoring.future
        error = None if outcome.cancelled() else outcome.exception()
        if error is not None:
            _log.warning("A saved state is not restored: %s", error)
        if isinstance(error, WorkerDiedError):
            del self._open[restoring.path]
        else:
            self._open[restoring.path] = None
