"""Where errors leave the SDK: what a caller gets holds no content, in no text and in no frame.

Crash reporters print the local variables of every frame of a traceback, of its causes too. So an error's way through the
SDK is cut off where a public method returns it: what remains is one frame, whose variables are sealed, and the caller's own.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from hybridllm.errors import EngineError, HybridLLMError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

__all__ = [
    "DEBUG_VARIABLE",
    "Sealed",
    "content_free",
    "content_free_events",
    "content_free_init",
    "debugging",
    "without_content",
]

_P = ParamSpec("_P")
_T = TypeVar("_T")

DEBUG_VARIABLE = "HYBRIDLLM_DEBUG"
"""Environment variable that trades privacy for whole tracebacks, whose variables hold what people and models wrote."""

_PASSED_ON = (
    HybridLLMError, asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit, StopIteration, StopAsyncIteration,
)  # fmt: skip


class Sealed(functools.partial[_T]):
    """A call with its arguments, of which its representation shows nothing."""

    def __repr__(self) -> str:
        return "<a call with sealed arguments>"


_NOTHING: Any = ((), {})


def debugging() -> bool:
    """Whether the operator wants whole tracebacks, content included."""
    return os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")


def without_content(error: BaseException) -> BaseException:
    """What a caller may have of an exception: the same one without its past, or, of a defect, its class and place.

    The past is the traceback, the notes, and the causes that are not errors of the SDK. Errors of the SDK, cancellation,
    Ctrl-C and the ends of iterations keep their object, as does a call that did not fit the method's signature. Any other
    exception is a defect: its text may quote a request, so it becomes an ``EngineError`` that names where it was raised.
    """
    if _keeps_its_object(error):
        kept = error
    else:
        kept = EngineError(
            f"A defect of hybridllm: {type(error).__name__} at {_place_of(error)}.",
            f"Please report it. {DEBUG_VARIABLE}=1 shows the whole traceback, which holds what was asked and answered.",
        )
        kept.__cause__ = error
    if not debugging():
        _forget_the_past(kept)
    return kept


def content_free(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Make a public function or method, sync or async, one at which errors lose what they know of content."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        def guarded(*args: _P.args, **kwargs: _P.kwargs) -> Any:
            # Not a coroutine function: one that is cancelled before it began would show its arguments.
            awaiting: Any = _awaited(Sealed(function, *args, **kwargs))
            awaiting.__name__, awaiting.__qualname__ = function.__name__, function.__qualname__
            return awaiting

        mark = getattr(inspect, "markcoroutinefunction", None)  # Python 3.12
        return cast("Callable[_P, _T]", guarded if mark is None else mark(guarded))

    @functools.wraps(function)
    def guarded_call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        sealed = Sealed(function, *args, **kwargs)
        args, kwargs = _NOTHING  # not deleted: there are tools that cannot cope with a parameter that is gone
        try:
            return sealed()
        except BaseException as error:  # noqa: BLE001 - raised again below, outside, so that it gets no context
            failure = without_content(error)
        try:
            raise failure
        finally:
            del failure  # or the frame and its traceback would keep each other alive

    return guarded_call


def content_free_init(cls: type[_T]) -> type[_T]:
    """The same for making an object of a class; above ``@dataclass``, whose ``slots=True`` makes a class anew."""
    type.__setattr__(cls, "__init__", content_free(cls.__init__))
    return cls


async def _awaited(sealed: Sealed[Any]) -> Any:
    try:
        return await sealed()
    except BaseException as error:  # noqa: BLE001 - as above
        failure = without_content(error)
    try:
        raise failure
    finally:
        del failure


async def content_free_events(events: AsyncGenerator[_T, None]) -> AsyncGenerator[_T, None]:
    """The same events. An iteration that nobody finishes is closed by the event loop, which logs what fails then."""
    try:
        async with aclosing(events):
            async for event in events:
                yield event
        return
    except BaseException as error:  # noqa: BLE001 - as above
        failure = without_content(error)
    try:
        raise failure
    finally:
        del failure


def _keeps_its_object(error: BaseException) -> bool:
    if isinstance(error, _PASSED_ON):
        return True
    # Arguments that do not fit fail in the caller's frame, which is ours here; the text names parameters only.
    way = error.__traceback__
    return isinstance(error, TypeError) and way is not None and way.tb_next is None


def _forget_the_past(error: BaseException) -> None:
    seen = set()
    while id(error) not in seen:  # somebody else's code may have tied a knot
        seen.add(id(error))
        cause = error.__cause__
        error.__traceback__ = error.__cause__ = error.__context__ = None
        vars(error).pop("__notes__", None)
        if isinstance(cause, HybridLLMError):
            error.__cause__ = cause
            error = cause


def _place_of(error: BaseException) -> str:
    way = error.__traceback__
    if way is None:
        return "an unknown place"
    while way.tb_next is not None:
        way = way.tb_next
    return f"{Path(way.tb_frame.f_code.co_filename).name}:{way.tb_lineno}"
