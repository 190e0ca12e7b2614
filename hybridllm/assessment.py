"""What is known about one request before anybody is asked: its label, the facts, and the decision that follows from them."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - dataclass reads the annotations' names
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from hybridllm.errors import HybridLLMError, PolicyTightened, RedactionFailed
from hybridllm.labels import LabelJoin, join_labels
from policies import decide

if TYPE_CHECKING:
    from hybridllm.label_memory import LabelMemory
    from hybridllm.redaction import Redaction
    from hybridllm.types.chat_request import ChatRequest
    from policies import Decision, Facts, Policy

__all__ = ["Assessment", "Labelled", "label_request"]


@dataclass(frozen=True, slots=True)
class Labelled:
    """A request and its label under one policy, with everything that is needed to label it again under another."""

    request: ChatRequest = field(repr=False)
    """The request."""

    policy: Policy = field(repr=False)
    """The policy that gave the label."""

    privacy: str | None
    """The label that the caller gave for the whole request."""

    tags: frozenset[str]
    """The caller's tags."""

    floors: Mapping[str, str | None]
    """Labels that it has at least, by who says so."""

    memory: LabelMemory = field(repr=False)
    """Texts that were labelled earlier."""

    joined: LabelJoin
    """The label."""

    def again(self, request: ChatRequest, policy: Policy) -> LabelJoin:
        """The label that a request with the same origin has under a policy.

        Raises:
            BadRequest: The policy does not know a label that was given.
        """
        return join_labels(
            policy, request, privacy=self.privacy, tags=self.tags, floors=self.floors, memory=self.memory
        )


def label_request(
    policy: Policy,
    request: ChatRequest,
    *,
    privacy: str | None,
    tags: frozenset[str],
    floors: Mapping[str, str | None],
    memory: LabelMemory,
) -> Labelled:
    """Label a request; the arguments are those of ``join_labels``.

    Raises:
        BadRequest: A label is not one of the policy's.
    """
    joined = join_labels(policy, request, privacy=privacy, tags=tags, floors=floors, memory=memory)
    return Labelled(request, policy, privacy, tags, floors, memory, joined)


@dataclass(frozen=True, slots=True)
class Assessment:
    """A labelled request, the facts at that moment, and the decision. In-flight requests keep theirs whatever comes."""

    labelled: Labelled
    """The request and its label."""

    facts: Facts
    """What was known."""

    decision: Decision
    """Who may be asked, in order."""

    def redaction(self) -> Redaction:
        """The request as the places in ``decision.redacted_places`` may see it.

        The redacted text is labelled again like any other, so a find that hides in it, or is split over two texts, counts.

        Raises:
            RedactionFailed: What is left is still more sensitive than the decision says.
        """
        from hybridllm.detectors import DetectorFailedError, detector_set
        from hybridllm.redaction import redacted

        labelled, decision, policy = self.labelled, self.decision, self.labelled.policy
        try:
            redaction = redacted(labelled.request, detector_set(policy.detectors), decision.redact)
        except DetectorFailedError as error:
            raise RedactionFailed(
                f"The text was not redacted: the detector {error.detector!r} {error.what}.",
                "Let the device answer, or mend the detector.",
            ) from None
        left = labelled.again(redaction.request, policy).label
        if policy.labels.join(left, decision.redacted_label) != decision.redacted_label:
            raise RedactionFailed(
                f"After redaction the text is still {left!r}, and {decision.redacted_label!r} was expected.",
                "Let the device answer, or name the detectors that find the rest in the rule's redact.",
            )
        return redaction

    def with_answer_begun(self, begun: str, place: str) -> Assessment:
        """The same request with what was given out of its answer, which a place needs in order to go on with it.

        It is labelled and decided anew, for a model may have said something that is more sensitive than what it was asked.

        Raises:
            PolicyTightened: The place may not see that.
        """
        labelled = self.labelled
        request = labelled.request.with_answer_begun(begun)
        try:
            joined = labelled.again(request, labelled.policy)
        except HybridLLMError:
            raise _tightened(place) from None
        facts = replace(self.facts, label=joined.label, declared_label=joined.declared_label, detected=joined.detected)
        decision = decide(labelled.policy, facts)
        if place not in decision.candidates or place in decision.redacted_places:
            raise _tightened(place)
        return Assessment(replace(labelled, request=request, joined=joined), facts, decision)

    def check_still_allowed(self, policy: Policy, place: str) -> None:
        """Check that bytes which were prepared under this decision may leave under a policy that came since.

        Raises:
            PolicyTightened: They may not: the new policy labels the request higher, routes it elsewhere, or redacts more.
        """
        if policy.hash == self.labelled.policy.hash:
            return
        try:
            joined = self.labelled.again(self.labelled.request, policy)
        except HybridLLMError:  # it does not know a label that was given
            raise _tightened(place) from None
        facts = replace(self.facts, label=joined.label, declared_label=joined.declared_label, detected=joined.detected)
        decision = decide(policy, facts)
        if place not in decision.candidates:
            raise _tightened(place)
        if place in decision.redacted_places:
            was = self.decision
            same = (
                place in was.redacted_places
                and was.redact == decision.redact
                and self.labelled.policy.detectors == policy.detectors
            )
            if not same:
                raise _tightened(place)


def _tightened(place: str) -> PolicyTightened:
    return PolicyTightened(
        f"Nothing was sent to {place}: a new policy has come into force since, which does not allow it.", "Ask again."
    )
