"""The answer to a redacted request as the caller may have it: with the originals in place of the placeholders, everywhere."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from hybridllm.backends.base import ContentDelta, Finished, ToolCallDelta
from hybridllm.redaction import Redaction, Restorer

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["AnswerRestorer"]

_TEXT, _REFUSAL, _REASONING = -1, -2, -3  # beside the calls of tools, which count from 0


class AnswerRestorer:
    """Puts originals back into text, refusal, thoughts and the arguments of calls; a placeholder may be cut anywhere.

    Arguments are JSON, so what is put into them is escaped as JSON: a text in which a placeholder stood stays one text. Names of
    tools and ids of calls are left as they are, and so are log probabilities, which tell what the place said.

    Args:
        redaction: What was replaced.
    """

    def __init__(self, redaction: Redaction) -> None:
        self._redaction = redaction
        self._in_json = Redaction(
            redaction.request,
            {name: json.dumps(original, ensure_ascii=False)[1:-1] for name, original in redaction.originals.items()},
        )
        # By choice, and by what of it.
        self._restorers: dict[tuple[int, int], Restorer] = {}

    @property
    def restored(self) -> bool:
        """Whether an original was put back so far."""
        return any(restorer.restored for restorer in self._restorers.values())

    def restore(self, event: ContentDelta | Finished) -> Iterator[ContentDelta | Finished]:
        """The event as the caller may have it, where there is anything of it yet; before the end, what was held back."""
        if isinstance(event, Finished):
            yield from self._rest()
            yield event
            return
        choice = event.choice
        calls = [
            replace(piece, arguments=self._push(choice, piece.index, piece.arguments)) for piece in event.tool_calls
        ]
        restored = replace(
            event,
            text=self._push(choice, _TEXT, event.text),
            refusal=self._push(choice, _REFUSAL, event.refusal),
            reasoning=self._push(choice, _REASONING, event.reasoning),
            tool_calls=[piece for piece in calls if piece.id or piece.name or piece.arguments],
        )
        if restored.text or restored.refusal or restored.reasoning or restored.tool_calls or restored.logprobs:
            yield restored

    def _push(self, choice: int, what: int, text: str) -> str:
        if not text:
            return ""
        restorer = self._restorers.get((choice, what))
        if restorer is None:
            restorer = Restorer(self._redaction if what < 0 else self._in_json)
            self._restorers[choice, what] = restorer
        return restorer.push(text)

    def _rest(self) -> Iterator[ContentDelta]:
        for (choice, what), restorer in self._restorers.items():
            rest = restorer.rest()
            if not rest:
                continue
            if what >= 0:
                yield ContentDelta(tokens=0, choice=choice, tool_calls=(ToolCallDelta(what, arguments=rest),))
            elif what == _TEXT:
                yield ContentDelta(text=rest, tokens=0, choice=choice)
            elif what == _REFUSAL:
                yield ContentDelta(refusal=rest, tokens=0, choice=choice)
            else:
                yield ContentDelta(reasoning=rest, tokens=0, choice=choice)
