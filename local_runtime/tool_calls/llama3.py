"""Calls as Llama 3 writes them: an answer that is JSON objects and nothing else, with or without a token before them."""

from __future__ import annotations

from local_runtime.tool_calls.call_reader import CallReader
from local_runtime.tool_calls.json_text import Malformed, Reading, read_space

__all__ = ["PYTHON_TAG", "Llama3Reader"]

PYTHON_TAG = "<|python_tag|>"


class Llama3Reader(CallReader):
    """Reads ``{"name": …, "parameters": {…}}`` where an answer begins with it; further ones after white space or ``;``.

    An object without arguments is none of its calls, for an answer may well be JSON that has a name.
    """

    _at_start = True

    @property
    def _end_mark(self) -> str:
        return ""

    def begun(self) -> None:
        """Somebody else has begun the answer, with text."""
        super().begun()
        self._at_start = False

    def _look(self) -> bool:
        if self._at_start:
            bare = self._rest.lstrip("; \t\r\n" if self.called else None)
            self._space += self._rest[: len(self._rest) - len(bare)]
            self._rest = bare
            if not bare:
                return False
            if bare[0] == "{":
                self._begin(self._read())
                return True
            if bare != PYTHON_TAG and PYTHON_TAG.startswith(bare):
                return False
            self._at_start = bare.startswith(PYTHON_TAG)
        if not self._look_for(PYTHON_TAG):
            return False
        self._begin(self._read(), PYTHON_TAG)
        return True

    def _read(self) -> Reading[None]:
        ch = yield from read_space((yield))
        if ch != "{":
            raise Malformed
        yield from self._read_call(needs_arguments=True)
        self._at_start = True

    def _begin_tail(self) -> None:
        self._at_start = True

    def _say_after_all(self, text: str) -> None:
        self._at_start = False
        self._say(text)
