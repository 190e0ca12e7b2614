"""Words for the way an answer came."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hybridllm.types.route import Attempt, Route

__all__ = ["place_words", "status_line", "why_lines"]


def place_words(place: str) -> str:
    """A place's name for a person."""
    return "this device" if place == "local" else f"the remote {place!r}" if place != "remote" else "the remote"


def status_line(route: Route, *, completion_tokens: int | None = None, finish_reason: str | None = None) -> str:
    """One line after an answer: who answered, by which rule, how much and how fast.

    Args:
        route: The way it came.
        completion_tokens: Length of the answer; None if unknown.
        finish_reason: Why it ended; said only if it was cut short.
    """
    parts = [f"Answered by {place_words(route.served_by)}", f"rule {route.rule}"]
    if completion_tokens is not None:
        parts.append(f"{completion_tokens} token{'' if completion_tokens == 1 else 's'}")
    if route.ttft_ms is not None:
        parts.append(f"first after {_duration(route.ttft_ms / 1000)}")
    if route.tokens_per_s is not None:
        parts.append(f"{route.tokens_per_s:.0f} tokens/s")
    if finish_reason == "length":
        parts.append("cut at the token limit")
    elif finish_reason == "content_filter":
        parts.append("withheld by the remote's filter")
    return ", ".join(parts)


def why_lines(route: Route) -> list[str]:
    """The whole story of one answer, one line for each thing to know."""
    lines = [
        f"Answered by: {place_words(route.served_by)}",
        f"Rule:        {route.rule} ({route.rule_location})",
        f"Reason:      {route.reason}",
        f"Label:       {route.label}",
        f"Policy:      {route.policy}",
    ]
    lines += [f"Attempt {index}:   {_attempt(attempt)}" for index, attempt in enumerate(route.attempts, start=1)]
    left = f"{route.egress_bytes} bytes" if route.egress_bytes else "nothing"
    return [*lines, f"Left device: {left}"]


def _attempt(attempt: Attempt) -> str:
    text = f"{place_words(attempt.place)}: {attempt.outcome}"
    if attempt.duration_s is not None:
        text += f" after {_duration(attempt.duration_s)}"
    if attempt.tries > 1:
        text += f", {attempt.tries} tries"
    if attempt.error:
        text += f" ({attempt.error})"
    return text


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
