"""From a request's body and headers to the arguments of ``create``: labels, tags and the deadline come in either."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hybridllm.errors import BadRequest
from hybridllm.labels import known_label
from hybridllm.types.message_shape import did_you_mean, field_name, well_formed
from local_runtime.content import CONTENT, hides_content

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlette.types import Scope

    from policies import Policy

__all__ = ["ChatCall", "chat_call", "joined_label"]

PRIVACY, TAGS, DEADLINE_S = "privacy", "tags", "deadline_s"
_METADATA = (PRIVACY, TAGS, DEADLINE_S)
_OURS = b"x-hybridllm-"
_HEADERS = {
    b"x-hybridllm-privacy": PRIVACY,
    b"x-hybridllm-tags": TAGS,
    b"x-hybridllm-deadline-s": DEADLINE_S,
}
# Arguments of ``create`` that are no fields of a body: OpenAI's clients would drop them silently, or a gateway would.
_ELSEWHERE = (*_METADATA, "self")


@hides_content
@dataclass(frozen=True, slots=True)
class ChatCall:
    """A chat completion that is asked for."""

    messages: object = field(metadata=CONTENT)
    """The conversation, not checked yet."""

    stream: bool
    """Whether the answer comes piece by piece."""

    labels: tuple[tuple[str, str], ...]
    """The labels that were given for the whole request, each after where it stood."""

    tags: frozenset[str]
    """Its tags."""

    deadline_s: float | None
    """The shortest deadline that was given."""

    fields: dict[str, Any] = field(metadata=CONTENT)
    """All other fields, not checked yet."""


def chat_call(body: Mapping[str, Any], scope: Scope) -> ChatCall:
    """What a body and its headers ask for.

    Args:
        body: The JSON object.
        scope: The request, for its headers.

    Raises:
        BadRequest: A name is not known, or a tag or a deadline is not usable.
    """
    fields = dict(body)
    for name in _ELSEWHERE:
        if name in fields:
            raise BadRequest(
                f"{name} is not a field of a chat request.",
                f"Write it into metadata, or into the header X-Hybridllm-{name.title().replace('_', '-')}."
                if name in _METADATA
                else "Leave it out.",
                field=name,
            )
    if fields.get("messages") is None:
        raise BadRequest(
            "messages is missing.", 'Send "messages": [{"role": "user", "content": "…"}].', field="messages"
        )
    given = [*_from_metadata(fields.pop("metadata", None)), *_from_headers(scope)]
    stream = fields.pop("stream", None)
    if stream is not None and not isinstance(stream, bool):
        raise BadRequest("stream should be a valid boolean.", field="stream")
    return ChatCall(
        messages=fields.pop("messages"),
        stream=bool(stream),
        labels=tuple((where, text.strip()) for name, where, text in given if name == PRIVACY),
        tags=frozenset(tag for name, where, text in given if name == TAGS for tag in _tags(where, text)),
        deadline_s=min((_seconds(where, text) for name, where, text in given if name == DEADLINE_S), default=None),
        fields=fields,
    )


def joined_label(policy: Policy, labels: Iterable[tuple[str, str]]) -> str | None:
    """The most sensitive of some labels; None of none.

    Args:
        policy: Gives their order.
        labels: Each after where it stood.

    Raises:
        BadRequest: One is not a label of the policy.
    """
    joined: str | None = None
    for where, label in labels:
        known = known_label(label, policy.labels, where)
        joined = known if joined is None else policy.labels.join(joined, known)
    return joined


def _from_metadata(metadata: object) -> Iterable[tuple[str, str, str]]:
    """Name, place and text of everything that ``metadata`` says."""
    if metadata is None:
        return
    if not isinstance(metadata, dict):
        raise BadRequest(f"metadata is a {type(metadata).__name__}, expected an object.", field="metadata")
    for name, value in metadata.items():
        where = f"metadata.{field_name(name)}"
        if name not in _METADATA:
            raise BadRequest(
                f"{where} is not known, and metadata is passed on to nobody.",
                did_you_mean(name, _METADATA) or f"It may have {', '.join(_METADATA)}.",
                field=where,
            )
        if isinstance(value, int | float) and not isinstance(value, bool) and name == DEADLINE_S:
            value = repr(value)
        if not isinstance(value, str):
            raise BadRequest(f"{where} is a {type(value).__name__}, expected text.", field=where)
        yield name, where, well_formed(value, where)


def _from_headers(scope: Scope) -> Iterable[tuple[str, str, str]]:
    """The same of the headers. One that begins like ours and is none may be a misspelt label, so it is refused."""
    for key, value in scope["headers"]:
        if not key.startswith(_OURS):
            continue
        where = field_name(key.decode("ascii", "replace"))
        if key not in _HEADERS:
            known = [header.decode() for header in _HEADERS]
            raise BadRequest(
                f"The header {where} is not known.",
                did_you_mean(where, known) or f"Use {', '.join(known)}.",
                field=where,
            )
        try:
            yield _HEADERS[key], where, value.decode("utf-8")
        except UnicodeDecodeError:
            raise BadRequest(f"The header {where} is not UTF-8.", "Write it into metadata.", field=where) from None


def _tags(where: str, text: str) -> list[str]:
    tags = [tag.strip() for tag in text.split(",")]
    if not all(tags):
        raise BadRequest(f"{where} has an empty tag.", "Write words with a comma between them: faq,hours.", field=where)
    return tags


def _seconds(where: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise BadRequest(f"{where} is not a number of seconds above 0.", "Write 3 or 2.5.", field=where)
    return seconds
