"""Calls as Hermes and Qwen write them: one JSON object in ``<tool_call>…</tool_call>`` for each."""

from __future__ import annotations

from local_runtime.tool_calls.call_reader import CallReader
from local_runtime.tool_calls.json_text import Malformed, Reading, read_space

__all__ = ["CALL_BEGIN", "CALL_END", "HermesReader"]

CALL_BEGIN = "<tool_call>"
CALL_END = "</tool_call>"


class HermesReader(CallReader):
    """Reads ``<tool_call>{"name": …, "arguments": {…}}</tool_call>``."""

    @property
    def _end_mark(self) -> str:
        return CALL_END

    def _look(self) -> bool:
        if not self._look_for(CALL_BEGIN):
            return False
        self._begin(self._read(), CALL_BEGIN)
        return True

    def _read(self) -> Reading[None]:
        ch = yield from read_space((yield))
        if ch != "{":
            raise Malformed
        yield from self._read_call()
        yield from self._read_tail()

    def _begin_tail(self) -> None:
        self._begin(self._read_tail())

    def _read_tail(self) -> Reading[None]:
        """Read the end mark. Small models often close a bracket too many before it, which means nothing."""
        self._in_tail = True
        ch = yield from read_space((yield))
        while ch in "}]":
            ch = yield from read_space((yield))
        for expected in CALL_END:
            if ch != expected:
                raise Malformed
            if expected != CALL_END[-1]:
                ch = yield
        self._in_tail = False
