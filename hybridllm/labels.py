"""How sensitive a request is: the join over everything that anybody says about any part of it.

A source can only raise what another one says. What nobody labels has the policy's ``unlabeled``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

from hybridllm.errors import BadRequest
from hybridllm.label_memory import RUN_CHARACTERS
from hybridllm.types.request_texts import message_texts, readings, tool_texts

if TYPE_CHECKING:
    from hybridllm.label_memory import LabelMemory
    from hybridllm.types.chat_request import ChatRequest
    from policies import Labels, Policy

__all__ = [
    "LabelJoin",
    "LabelSource",
    "call_label",
    "checked_tags",
    "join_labels",
    "known_label",
    "remember_answer",
    "remember_labelled",
]

_SAY_LITTLE = ("assistant", "tool")
# Programs chose these, from few: that one stood in something sensitive says nothing of the next time.
_NAMES = (".name", ".id", ".tool_call_id")
_WORD = re.compile(r"[\w.-]{1,40}")


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

    declared_label: str
    """The most sensitive of what everybody but the detectors said; a detector that failed counts among these."""

    detected: frozenset[str] | None
    """Names of the detectors that found something; None where nobody looked, since nothing could raise the label further."""

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
    policy: Policy,
    request: ChatRequest,
    *,
    privacy: str | None,
    tags: Iterable[str],
    floors: Mapping[str, str | None] | None = None,
    memory: LabelMemory | None = None,
) -> LabelJoin:
    """Join what the call, its tags, its messages and tools, the client, earlier answers and the detectors say.

    Args:
        policy: Gives the order of the labels, the labels of tags, and the detectors.
        request: The request; its messages and tools may carry labels of their own.
        privacy: The label that the caller gave for the whole request.
        tags: The caller's tags. One that the policy does not know counts as unlabelled: it may be a misspelt ``health``.
        floors: Labels that the client or the conversation gives to every request, by the name of who says so; each can raise,
            but is no statement that anything is harmless. One that the policy does not know counts as the top label.
        memory: Texts that were labelled earlier.

    Raises:
        BadRequest: A label is not one of the policy's.
    """
    labels = policy.labels
    sources: list[LabelSource] = []
    if privacy is not None:
        sources.append(LabelSource(known_label(privacy, labels, "privacy"), "privacy"))
    for tag in sorted(tags):
        if tag in labels.tags:
            sources.append(LabelSource(labels.tags[tag], f"tag {tag!r}"))
        elif tag not in policy.tags_in_rules:
            sources.append(LabelSource(labels.unlabeled, f"tag {tag!r}, which the policy does not know"))
    whole_request_is_labelled = bool(sources)
    unlabelled = False
    for index, message in enumerate(request.messages):
        if message.privacy is not None:
            field = f"messages[{index}].privacy"
            sources.append(LabelSource(known_label(message.privacy, labels, field), field))
        elif not whole_request_is_labelled:
            unlabelled = True
    for index, tool in enumerate(request.tools or ()):
        if tool.privacy is not None:
            field = f"tools[{index}].privacy"
            sources.append(LabelSource(known_label(tool.privacy, labels, field), field))
        elif not whole_request_is_labelled:
            unlabelled = True
    if unlabelled or (not whole_request_is_labelled and request.says_more):
        sources.append(LabelSource(labels.unlabeled, "unlabeled"))
    for said_by, floor in (floors or {}).items():
        if floor is not None:
            sources.append(LabelSource(labels.join(labels.order[0], floor), said_by))
    declared = _join(labels, sources)
    if memory is not None and declared != labels.top:
        sources += _remembered(memory, request, labels)
        declared = _join(labels, sources)
    if not policy.detectors:
        return LabelJoin(declared, declared, frozenset(), tuple(sources))
    if declared == labels.top and "detected" not in policy.facts_in_rules:
        return LabelJoin(declared, declared, None, tuple(sources))
    from hybridllm.detectors import (
        detector_set,
    )  # compiles patterns, which a policy without detectors needs not pay for

    scan = detector_set(policy.detectors).scan(list(request.texts()))
    for name, what in scan.failed.items():
        # Whatever went wrong, the safe reading is that there was something, and nobody knows what could be taken out.
        sources.append(LabelSource(labels.top, f"detector {name!r}, which {what}"))
        declared = labels.top
    finds = [
        LabelSource(policy.detector_labels[name], f"detector {name!r} in {path}") for name, path in scan.found.items()
    ]
    label = labels.join(declared, _join(labels, finds))
    return LabelJoin(label, declared, frozenset(scan.found), (*sources, *finds))


def _remembered(memory: LabelMemory, request: ChatRequest, labels: Labels) -> list[LabelSource]:
    """What is known of the request's texts from earlier answers and messages."""
    sources: list[LabelSource] = []
    # What a model or a tool said may be as short as a word; of what people write only runs of words are looked for.
    said = {f"messages[{index}]" for index, message in enumerate(request.messages) if message.role in _SAY_LITTLE}
    for path, text in request.texts():
        where, _, part = path.partition(".")
        label = memory.recall(text, labels, whole=where in said and not part.endswith(_NAMES))
        if label is not None:
            sources.append(LabelSource(label, f"{path}, a copy of what had this label"))
    return sources


def remember_labelled(memory: LabelMemory, policy: Policy, request: ChatRequest, said_for_all: str | None) -> None:
    """Remember every text of a request that has a label, so that a copy of it has it too.

    Args:
        memory: Where.
        policy: Gives the order of the labels.
        request: The request; what is labelled in it is remembered part by part.
        said_for_all: The label that the call gave to all messages; it is remembered of users' messages that are long enough to be
            told from others, and of what tools returned.
    """
    labels = policy.labels
    for index, message in enumerate(request.messages):
        label = message.privacy
        if label is None and message.role in ("user", "tool") and len(message.text) >= RUN_CHARACTERS:
            label = said_for_all
        if label is not None:
            _remember(memory, message_texts(message, f"messages[{index}]"), label, labels)
    for index, tool in enumerate(request.tools or ()):
        if tool.privacy is not None:
            _remember(memory, tool_texts(tool, f"tools[{index}]"), tool.privacy, labels)


def remember_answer(memory: LabelMemory, texts: Iterable[str], label: str, labels: Labels) -> None:
    """Remember what was given out of an answer, and what it says where it is JSON, so that a copy of it has its label.

    Args:
        memory: Where.
        texts: Its texts, thoughts and arguments of calls among them.
        label: The label of the answer.
        labels: Gives the order.
    """
    for text in texts:
        for reading in readings(text):
            memory.remember(reading, label, labels)


def _remember(memory: LabelMemory, texts: Iterable[tuple[str, str]], label: str, labels: Labels) -> None:
    for path, text in texts:
        if not path.endswith(_NAMES):
            for reading in readings(text):
                memory.remember(reading, label, labels)


def call_label(policy: Policy, privacy: str | None, tags: Iterable[str]) -> str | None:
    """The label that a call gives to all of its messages by its label and its tags; None if it gives none."""
    labels = policy.labels
    said = [labels.tags[tag] for tag in tags if tag in labels.tags] + ([] if privacy is None else [privacy])
    return reduce(labels.join, said, labels.order[0]) if said else None


def _join(labels: Labels, sources: Iterable[LabelSource]) -> str:
    joined = labels.order[0]
    for source in sources:
        joined = labels.join(joined, source.label)
    return joined


def known_label(label: object, labels: Labels, field: str) -> str:
    """The label, if it is one of the policy's.

    Raises:
        BadRequest: It is not.
    """
    if not isinstance(label, str) or label not in labels.rank:
        # One word can only be a label that is misspelt; anything longer may be a text that went astray.
        shown = f"{label!r}" if isinstance(label, str) and _WORD.fullmatch(label) else f"a {type(label).__name__}"
        raise BadRequest(
            f"{field} is {shown}, which is not a label of the policy.",
            f"Use one of {', '.join(labels.order)}.",
            field=field,
        )
    return label
