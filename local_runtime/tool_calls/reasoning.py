"""Tells what a model thinks before it answers from the answer."""

from __future__ import annotations

from dataclasses import dataclass

from local_runtime.tool_calls.call_reader import held_back

__all__ = ["THOUGHT_MARKS", "ThoughtMarks", "ThoughtReader"]


@dataclass(frozen=True, slots=True)
class ThoughtMarks:
    """What a thought stands between.

    Attributes:
        begin: What it begins with; some models' prompts end with it.
        end: What it ends with.
    """

    begin: str
    end: str


THOUGHT_MARKS = (ThoughtMarks("<think>", "</think>"), ThoughtMarks("[THINK]", "[/THINK]"))
"""Those that are known: DeepSeek's and Qwen's, and Mistral's."""


class ThoughtReader:
    """Takes a model's text apart into a thought at its beginning and the answer.

    White space around the thought is layout and belongs to neither. A mark within the answer is text.

    Args:
        marks: What the thought stands between.
        is_open: The prompt ends with the mark of its beginning.
    """

    def __init__(self, marks: ThoughtMarks, *, is_open: bool) -> None:
        self._marks = marks
        self._rest = ""
        self._state = "opened" if is_open else "before"
        self._space = ""
        self._thought_anything = False

    @property
    def is_over(self) -> bool:
        """Whether all that follows is the answer."""
        return self._state == "after"

    def begun(self) -> None:
        """Somebody else has begun the answer."""
        self._state = "after"

    def push(self, text: str) -> tuple[str, str]:
        """Take the next piece of text; returns what is thought and what is answered."""
        if self._state == "after":
            return "", text
        self._rest += text
        if self._state in ("before", "opened") and not self._look_for_beginning():
            return "", ""
        thought = self._think() if self._state == "thinking" else ""
        return thought, self._answer()

    def finish(self) -> tuple[str, str]:
        """End of the text; returns what was held back."""
        rest, self._rest = self._rest, ""
        return (self._layout_off(rest), "") if self._state in ("thinking", "opened") else ("", rest)

    def _look_for_beginning(self) -> bool:
        """Find out whether it begins with the mark; False if more text has to come before that."""
        bare = self._rest.lstrip()
        begin = self._marks.begin
        if bare.startswith(begin):  # some write it again though the prompt ended with it
            self._rest = bare[len(begin) :]
            self._state = "thinking"
            return True
        if begin.startswith(bare):  # nothing yet, or a part of it
            return False
        if self._state == "opened":
            self._rest = bare
            self._state = "thinking"
        else:
            self._state = "after"
        return True

    def _think(self) -> str:
        end = self._marks.end
        place = self._rest.find(end)
        if place >= 0:
            thought = self._layout_off(self._rest[:place])
            self._rest = self._rest[place + len(end) :]
            self._state = "ended"
            return thought
        place = len(self._rest) - held_back(self._rest, end)
        thought = self._layout_off(self._rest[:place])
        self._rest = self._rest[place:]
        return thought

    def _layout_off(self, text: str) -> str:
        """Keep back the white space at the end, which belongs to the thought only if more of it follows."""
        whole = self._space + text
        kept = whole.rstrip()
        self._space = whole[len(kept) :]
        if not self._thought_anything:
            kept = kept.lstrip()
        self._thought_anything = self._thought_anything or bool(kept)
        return kept

    def _answer(self) -> str:
        if self._state == "ended":
            self._rest = self._rest.lstrip()
            if self._rest:
                self._state = "after"
        if self._state != "after":
            return ""
        text, self._rest = self._rest, ""
        return text
