"""How patient the supervisor of the engine's process is: one place for every limit.

Standard library only: the application's process imports this module.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from local_runtime.errors import InvalidRequestError

__all__ = ["Supervision"]


@dataclass(frozen=True, slots=True)
class Supervision:
    """Limits of the supervisor; the defaults are meant for everybody, and tests make them short.

    Attributes:
        ping_s: How often the engine is asked for a sign of life while it has something to do.
        hang_s: Silence after which a process that neither computes nor waits for a disk is killed.
        silence_s: Silence after which it is killed whatever it does: it may compute, but answers nobody.
        step_s: The least time that one step of the engine may take before it counts as stuck.
        step_factor: A step may take this many times as long as the longest one so far, if that is more.
        first_step_s: What a step may take before the engine has given out any token, since nobody knows yet how slow it is.
        backoff_s: Wait before the second restart in a row; doubles with each further one. The first has none.
        backoff_limit_s: The longest such wait.
        deaths_in_a_row: So many deaths, between which the engine got nothing done and worked on nothing, and it is given up.
        steady_s: A process that was ready for so long did not die of its start, even if nobody asked it anything.
        cool_down_s: How long requests are refused after it was given up; doubles each time until it works again.
        cool_down_limit_s: The longest such time.
        suspected_after: A request that was under way at so many deaths in a row, without getting further, is tried alone.
        convicted_after: It fails at this death of that kind, if nothing else was under way.

    Raises:
        InvalidRequestError: A limit is not a number above 0.
    """

    ping_s: float = 1.0
    hang_s: float = 10.0
    silence_s: float = 60.0
    step_s: float = 30.0
    step_factor: float = 20.0
    first_step_s: float = 300.0
    backoff_s: float = 0.5
    backoff_limit_s: float = 30.0
    deaths_in_a_row: int = 5
    steady_s: float = 60.0
    cool_down_s: float = 30.0
    cool_down_limit_s: float = 300.0
    suspected_after: int = 2
    convicted_after: int = 3

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            whole = entry.type == "int"
            kinds = int if whole else int | float
            if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value) or value <= 0:
                expected = "a whole number of at least 1" if whole else "a number above 0"
                raise InvalidRequestError(
                    f"{entry.name} is {value!r}, but must be {expected}.", f"Give {entry.name} as {expected}."
                )
