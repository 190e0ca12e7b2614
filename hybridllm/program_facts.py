"""Facts that a program measures itself: its mistakes are found when the client is made, and cost no answer later."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hybridllm.errors import BadRequest
from policies import FACT_KINDS, FactError, Facts

__all__ = ["MeasuredByProgram", "ProgramFacts"]

MeasuredByProgram = Callable[[], Mapping[str, Any]]
"""Gives facts that the program measures itself, such as ``budget_left``; asked when the client is made and before every decision."""

_log = logging.getLogger("hybridllm")
# What these say is decided elsewhere, from the request itself; a program cannot overrule it.
_NOT_THE_PROGRAMS = frozenset(
    {"label", "declared_label", "tags", "detected", "capabilities", "max_tokens", "deadline_s", "local_prompt_tokens"}
)
_MOST_LOGGED = 32


class ProgramFacts:
    """Asks a program for its facts.

    When the client is made the program is asked once, and what is wrong with its facts is an error; that it fails is none, since
    what it measures may not be there yet. From then on the device has to answer whatever happens: a function that fails, and
    names and values that are no facts, count as unknown, and the log says so once for each.

    Args:
        program: The program's function.

    Raises:
        BadRequest: It gives something that is not a fact.
    """

    def __init__(self, program: MeasuredByProgram) -> None:
        self._program = program
        self._logged: set[str] = set()
        problem = next(iter(_read(self._asked())[1]), "")
        if problem:
            raise BadRequest(problem, "Return a dict with the facts that are known.", field="facts")

    def measured(self) -> dict[str, Any]:
        """What the program knows now; None for what it says is unknown."""
        known, problems = _read(self._asked())
        for problem in problems:
            self._log_once(problem)
        return known

    def _asked(self) -> object:
        """What the function returns; an empty mapping where it fails."""
        try:
            return self._program()
        except Exception as error:  # noqa: BLE001 - it is somebody else's code, and the device answers without it
            self._log_once(
                f"The program's own function for facts failed with {type(error).__name__} at {_place(error)}."
            )
            return {}

    def _log_once(self, problem: str) -> None:
        if problem not in self._logged and len(self._logged) < _MOST_LOGGED:
            self._logged.add(problem)
            _log.warning("%s It counts as unknown; said once.", problem)


def _read(given: object) -> tuple[dict[str, Any], list[str]]:
    """The facts in what a function returned, and what is wrong with the rest."""
    if not isinstance(given, Mapping):
        return {}, [f"The program's own function for facts returned {type(given).__name__}, expected a mapping."]
    problems = {name: _problem(name, value) for name, value in given.items()}
    return {name: given[name] for name, problem in problems.items() if not problem}, list(
        filter(None, problems.values())
    )


def _problem(name: object, value: object) -> str:
    """What is wrong with a fact, without its value; empty if nothing is."""
    if not isinstance(name, str) or name not in FACT_KINDS or name in _NOT_THE_PROGRAMS:
        shown = repr(name[:40]) if isinstance(name, str) else f"A {type(name).__name__}"
        return f"{shown} is not a fact that a program can measure."
    try:
        Facts.from_dict({name: value})
    except FactError:
        return f"The fact {name!r} is a {type(value).__name__} that is no {FACT_KINDS[name]}."
    return ""


def _place(error: Exception) -> str:
    way = error.__traceback__
    while way is not None and way.tb_next is not None:
        way = way.tb_next
    return "an unknown place" if way is None else f"{Path(way.tb_frame.f_code.co_filename).name}:{way.tb_lineno}"
