"""Steps that may or may not have to wait, told apart: what comes in bursts need not be watched, or sent on, one by one."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator

__all__ = ["rest_of", "with_care"]

_T = TypeVar("_T")


async def with_care(step: Coroutine[Any, Any, _T], before_waiting: Callable[[], Awaitable[None]]) -> _T:
    """Wait for a step; if it really has to wait, do something else first.

    Args:
        step: A coroutine that was not begun.
        before_waiting: Called at most once. What it raises, the step sees as the end of its wait.
    """
    try:
        awaited = step.send(None)
    except StopIteration as done:
        return cast("_T", done.value)
    try:
        await before_waiting()
    except BaseException as error:  # noqa: BLE001 - the step's to take, so that it gives back what it holds
        try:
            awaited = step.throw(error)
        except StopIteration as done:
            return cast("_T", done.value)
    return await rest_of(step, awaited)


@types.coroutine
def rest_of(step: Coroutine[Any, Any, _T], awaited: object) -> Generator[Any, Any, _T]:
    """What ``await step`` does from its first wait on (PEP 380, the expansion of ``yield from``).

    Args:
        step: A coroutine that was begun with ``step.send(None)``.
        awaited: What that returned.
    """
    try:
        while True:
            try:
                sent = yield awaited
            except BaseException as error:  # noqa: BLE001 - it is the step's to take
                awaited = step.throw(error)
            else:
                awaited = step.send(sent)
    except StopIteration as done:
        return cast("_T", done.value)
