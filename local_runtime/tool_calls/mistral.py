"""Calls as Mistral's models write them, in two generations: a JSON array, or a name and its arguments."""

from __future__ import annotations

from local_runtime.tool_calls.call_reader import CallReader
from local_runtime.tool_calls.json_text import Malformed, Reading, read_compound, read_space

__all__ = ["ARGUMENTS", "CALL_ID", "TOOL_CALLS", "MistralReader"]

TOOL_CALLS = "[TOOL_CALLS]"
ARGUMENTS = "[ARGS]"
CALL_ID = "[CALL_ID]"


class MistralReader(CallReader):
    """Reads ``[TOOL_CALLS] [{"name": …, "arguments": {…}}, …]`` and ``[TOOL_CALLS]name[ARGS]{…}``.

    The second form may have ``[CALL_ID]`` with an id before its arguments, which are then called by our own; it may lack
    ``[ARGS]``.
    """

    @property
    def _end_mark(self) -> str:
        return ""

    def _look(self) -> bool:
        if not self._look_for(TOOL_CALLS):
            return False
        self._begin(self._read(), TOOL_CALLS)
        return True

    def _read(self) -> Reading[None]:
        ch = yield from read_space((yield))
        if ch == "[":
            yield from self._read_array()
        elif ch == "{":
            yield from self._read_call()
        else:
            yield from self._read_named(ch)

    def _read_array(self) -> Reading[None]:
        while True:
            ch = yield from read_space((yield))
            if ch != "{":
                raise Malformed
            self._in_tail = False
            yield from self._read_call()
            self._in_tail = True
            ch = yield from read_space((yield))
            if ch == "]":
                self._in_tail = False
                return
            if ch != ",":
                raise Malformed

    def _read_named(self, ch: str) -> Reading[None]:
        name = ""
        while ch not in "[{" and not ch.isspace():
            name += ch
            if not any(offered.startswith(name) for offered in self._offered):
                raise Malformed
            ch = yield
        ch = yield from read_space(ch)
        mark = ""
        while ch != "{":  # an id, and the mark of the arguments
            mark += ch
            if not ARGUMENTS.startswith(mark) and not (mark.startswith(CALL_ID) or CALL_ID.startswith(mark)):
                raise Malformed
            if mark.startswith(CALL_ID) and mark.endswith(ARGUMENTS):
                mark = ARGUMENTS
            ch = yield
            if mark == ARGUMENTS:
                ch = yield from read_space(ch)
        if mark not in ("", ARGUMENTS):
            raise Malformed
        self._name_is(name)
        self._has_arguments = self._in_arguments = True
        yield from read_compound(ch, self._tell)
        self._close()
