"""How sensitive a request is: the join over everything that anybody says about any part of it.

A source can only raise what another one says. What nobody labels has the policy's ``unlabeled``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hybridllm.errors import BadRequest

if TYPE_CHECKING:
    from hybridllm.types.chat_request import ChatRequest
    from policies import Labels, Policy

__all__ = ["LabelJoin", "LabelSource", "checked_tags", "join_labels"]


@dataclass(frozen=True, slots=True)
class LabelSource:
    """One thing that was said about a request's label."""

    label: str
    """The label."""

    said_by: str
    """Who said it: ``privacy``, ``tag 'health'``, ``messages[1].privacy``, ``detector 'email'``, ``unlabeled``."""


@dataclass(frozen=True, slots=True)
class LabelJoin:
    """A request's label and where it comes from."""

    label: str
    """The most sensitive of all that was said."""

    sources: tuple[LabelSource, ...]
    """Everything that was said, in the order in which it was asked for."""


def checked_tags(tags: object) -> frozenset[str]:
    """Tags as a set.

    Raises:
        BadRequest: They are not a collection of words.
    """
    if isinstance(tags, str | Mapping) or not isinstance(tags, Collection):
        raise BadRequest(
            f"tags is a {type(tags).__name__}, expected a list of words.", 'Write tags=["faq"].', field="tags"
        )
    for tag in tags:
        if not isinstance(tag, str) or not tag:
            raise BadRequest("tags has an element that is not a word.", 'Write tags=["faq"].', field="tags")
    return frozenset(tags)


def join_labels(
    policy: Policy, request: ChatRequest, *, privacy: str | None, tags: Iterable[str], floor: str | None = None
) -> LabelJoin:
    """Join what the call, its tags, its messages, the client and the detectors say.

    Args:
        policy: Gives the order of the labels, the labels of tags, and the detectors.
        request: The request; its messages may carry labels of their own.
        privacy: The label that the caller gave for the whole request.
        tags: The caller's tags. One that the policy does not know counts as unlabelled: it may be a misspelt ``health``.
        floor: The client's own label; it can raise, but is no statement that anything is harmless.

    Raises:
        BadRequest: A label is not one of the policy's.
    """
    labels = policy.labels
    sources: list[LabelSource] = []
    if privacy is not None:
        sources.append(LabelSource(_known(privacy, labels, "privacy"), "privacy"))
    in_rules = _tags_in_rules(policy)
    for tag in sorted(tags):
        if tag in labels.tags:
            sources.append(LabelSource(labels.tags[tag], f"tag {tag!r}"))
        elif tag not in in_rules:
            sources.append(LabelSource(labels.unlabeled, f"tag {tag!r}, which the policy does not know"))
    whole_request_is_labelled = bool(sources)
    unlabelled = False
    for index, message in enumerate(request.messages):
        if message.privacy is not None:
            field = f"messages[{index}].privacy"
            sources.append(LabelSource(_known(message.privacy, labels, field), field))
        elif not whole_request_is_labelled:
            unlabelled = True
    if unlabelled or (not whole_request_is_labelled and (request.user or request.stop)):
        sources.append(LabelSource(labels.unlabeled, "unlabeled"))
    if floor is not None:
        sources.append(LabelSource(_known(floor, labels, "privacy_floor"), "client"))
    label = _join(labels, sources)
    if policy.detectors and label != labels.top:
        found = _detected(policy, request)
        if found is not None:
            sources.append(LabelSource(labels.top, found))
            label = labels.top
    return LabelJoin(label, tuple(sources))


def _join(labels: Labels, sources: Iterable[LabelSource]) -> str:
    joined = labels.order[0]
    for source in sources:
        joined = labels.join(joined, source.label)
    return joined


def _known(label: object, labels: Labels, field: str) -> str:
    if not isinstance(label, str) or label not in labels.rank:
        shown = f"{label!r}" if isinstance(label, str) and len(label) <= 40 else f"a {type(label).__name__}"
        raise BadRequest(
            f"{field} is {shown}, which is not a label of the policy.",
            f"Use one of {', '.join(labels.order)}.",
            field=field,
        )
    return label


def _tags_in_rules(policy: Policy) -> set[str]:
    found: set[str] = set()
    for rule in policy.rules:
        for condition in rule.when:
            if condition.fact == "tags":
                operand = condition.operand
                found.update(map(str, operand) if isinstance(operand, tuple) else (str(operand),))
    return found


def _detected(policy: Policy, request: ChatRequest) -> str | None:
    """Which detector found something where; one that fails counts as having found something."""
    from hybridllm.detectors import (
        detect,
    )  # compiles a dozen patterns, which a policy without detectors needs not pay for

    for path, text in (*request.texts(), *_run_together(request)):
        try:
            name = detect([detector.name for detector in policy.detectors], text)
        except Exception:  # noqa: BLE001 - whatever went wrong, the safe reading is that there was something
            return f"a detector failed on {path}"
        if name is not None:
            return f"detector {name!r} in {path}"
    return None


def _run_together(request: ChatRequest) -> Iterator[tuple[str, str]]:
    """The parts of each message without anything between them: a remote gets them as parts and may join them so."""
    for index, message in enumerate(request.messages):
        if isinstance(message.content, list) and len(message.content) > 1:
            yield f"messages[{index}].content", "".join(part.text for part in message.content)
