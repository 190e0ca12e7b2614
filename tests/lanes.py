"""What runs every day, and what waits for ``make long``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

__all__ = ["some_every_day"]


def some_every_day(cases: Iterable[Any], is_everyday: Callable[[Any], bool]) -> list[Any]:
    """Parameters of a test, of which only some run every day; the others are slow.

    Args:
        cases: All of them; a tuple is several parameters.
        is_everyday: Says which run every day.
    """
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)), marks=() if is_everyday(case) else pytest.mark.slow
        )
        for case in cases
    ]
