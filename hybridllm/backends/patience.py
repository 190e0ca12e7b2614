"""How long one try at a remote may take, at each moment of it.

A model that thinks says nothing for a while, but its chunks show that it is alive. So they move the end of a wait, and so do
empty ones between them; but not for ever: what can be seen has to come too.
"""

from __future__ import annotations

import time
from enum import Enum
from typing import TYPE_CHECKING

from hybridllm.backends.base import ContentDelta
from hybridllm.backends.chunks import Sign

if TYPE_CHECKING:
    from collections.abc import Callable

    from policies import Limits

__all__ = ["THINKING_FACTOR", "Patience", "Wait"]

THINKING_FACTOR = 6
"""How many times ``first_token_s`` a model may think before its first token; and how many times ``gap_s`` the chunks between two
pieces of text may be empty, or thoughts."""

_SLOWEST_CHARACTERS_PER_S = 2.0
_LAST_CHUNKS_S = 1.0
_END_OF_BODY_S = 0.05
# Beyond the limit itself, which the connection watches more closely: for what is done before it is opened.
_BEFORE_CONNECTING_S = 1.0


class Wait(Enum):
    """What a try is waiting for."""

    CONNECTION = "connection"
    FIRST_TOKEN = "first token"
    THOUGHT = "thought"
    END_OF_THOUGHTS = "end of thoughts"
    PIECE = "piece"
    TEXT = "text"
    PACE = "pace"
    END = "end"
    DEADLINE = "deadline"


class Patience:
    """Knows until when one try may wait, and for what.

    Args:
        limits: How long the remote may take.
        connecting_s: Longest time until a connection stands.
        whole: Whether nothing is given out before the answer is whole: then it also has to come at a pace of two characters
            in a second on average, after a beginning that may be slower.
        deadline_s: When the request has to be over, on the same clock; None for no limit.
        clock: Seconds that only go forward.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        connecting_s: float,
        whole: bool = False,
        deadline_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._connecting_s = connecting_s
        self._whole = whole
        self._deadline_s = deadline_s
        self._clock = clock
        self._began_s = clock()
        self._sent_s: float | None = None
        self._sign_s: float | None = None  # the last chunk, of those that move the end of a wait
        self._first_text_s: float | None = None
        self._text_s = 0.0
        self._ended_s: float | None = None
        self._last_chunks_s = _LAST_CHUNKS_S
        self._characters = 0
        self._paused_s: float | None = None
        self._away_s = 0.0

    @property
    def waited_s(self) -> float:
        """Seconds since the body left; before that, since the try began."""
        return self._clock() - (self._began_s if self._sent_s is None else self._sent_s)

    @property
    def sent(self) -> bool:
        """Whether the body has begun to leave, so that a connection stands."""
        return self._sent_s is not None

    @property
    def silent(self) -> bool:
        """Whether nothing that counts has come yet."""
        return self._sign_s is None

    def note_sent(self) -> None:
        """The body begins to leave: from now on the first token is waited for."""
        self._sent_s = self._clock()

    def note(self, event: ContentDelta | Sign) -> None:
        """A chunk came. Thoughts show that the model is alive, also where they are given out; they are no answer."""
        now_s = self._clock()
        if isinstance(event, ContentDelta) and event.is_thought:
            self._sign_s = now_s
        elif isinstance(event, ContentDelta):
            self._first_text_s = now_s if self._first_text_s is None else self._first_text_s
            self._sign_s = self._text_s = now_s
            self._characters += len(event.text) + len(event.refusal)
            for call in event.tool_calls:
                self._characters += len(call.name) + len(call.arguments)
        elif event is Sign.THOUGHT or self._sign_s is not None:  # empty ones from the start are no sign of life
            self._sign_s = now_s

    def note_end(self) -> None:
        """The server has said why the answer ended; what may follow are the token counts."""
        self._ended_s = self._clock()

    def note_read(self) -> None:
        """The end of the answer came; what is left of its body is read so that the connection can be used again."""
        self._ended_s, self._last_chunks_s = self._clock(), _END_OF_BODY_S

    def pause(self) -> None:
        """Nobody waits for the remote any more: whoever reads the answer has something to do."""
        self._paused_s = self._clock()

    def resume(self) -> None:
        """He is back; the time that he took is not the remote's."""
        if self._paused_s is None:
            return
        away_s = self._clock() - self._paused_s
        self._paused_s = None
        self._away_s += away_s
        self._text_s += away_s
        if self._sign_s is not None:
            self._sign_s += away_s
        if self._first_text_s is not None:
            self._first_text_s += away_s
        if self._ended_s is not None:
            self._ended_s += away_s

    def end_s(self) -> float:
        """When the present wait is over, on the clock."""
        return self.ends()[0]

    def ends(self) -> tuple[float, Wait]:
        """When the present wait is over, on the clock, and what it is for."""
        limits = self._limits
        if self._sent_s is None:
            end_s, wait = self._began_s + self._connecting_s + _BEFORE_CONNECTING_S, Wait.CONNECTION
        elif self._ended_s is not None:
            end_s, wait = self._ended_s + min(limits.gap_s, self._last_chunks_s), Wait.END
        elif self._sign_s is None:
            end_s, wait = self._sent_s + limits.first_token_s, Wait.FIRST_TOKEN
        elif self._first_text_s is None:
            end_s, wait = self._sign_s + limits.gap_s, Wait.THOUGHT
            thoughts_s = self._sent_s + self._away_s + THINKING_FACTOR * limits.first_token_s
            if thoughts_s < end_s:
                end_s, wait = thoughts_s, Wait.END_OF_THOUGHTS
        else:
            end_s, wait = self._sign_s + limits.gap_s, Wait.PIECE
            without_text_s = THINKING_FACTOR * limits.gap_s
            if self._text_s + without_text_s < end_s:
                end_s, wait = self._text_s + without_text_s, Wait.TEXT
            if self._whole:
                pace_s = self._first_text_s + without_text_s + self._characters / _SLOWEST_CHARACTERS_PER_S
                if pace_s < end_s:
                    end_s, wait = pace_s, Wait.PACE
        if self._deadline_s is not None and self._deadline_s <= end_s:
            return self._deadline_s, Wait.DEADLINE
        return end_s, wait
