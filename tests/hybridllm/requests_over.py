"""Requests that are over, for those who are told of them: real assessments with whatever route a test wants."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from hybridllm import load_policy
from hybridllm.assessment import Assessment, label_request
from hybridllm.label_memory import LabelMemory
from hybridllm.router import Ended
from hybridllm.types.chat_request import ChatRequest
from hybridllm.types.completion_usage import CompletionUsage, PromptTokensDetails
from hybridllm.types.route import Attempt, Route
from policies import Facts, Place, StruckOut, decide

QUESTION = [{"role": "user", "content": "When do you open?"}]
BEGAN_AT_S = 1_700_000_000.25
PLACES = (Place("local", "device"), Place("remote", "cloud"))


def assessed(messages=QUESTION, *, privacy="public", policy="cloud-assist", tags=(), **fields):
    """A request of two places."""
    policy = load_policy(policy)
    labelled = label_request(
        policy,
        ChatRequest.parse(messages, **fields),
        privacy=privacy,
        tags=frozenset(tags),
        floors={},
        memory=LabelMemory(),
    )
    facts = Facts(label=labelled.joined.label, declared_label=labelled.joined.declared_label, places=PLACES)
    return Assessment(labelled, facts, decide(policy, facts))


def usage(prompt=7, completion=3, cached=None):
    details = None if cached is None else PromptTokensDetails(cached_tokens=cached)
    return CompletionUsage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        prompt_tokens_details=details,
    )


def attempt(place="local", outcome="served", **fields):
    return Attempt(place=place, outcome=outcome, **{"started_s": 0.0, "duration_s": 1.0, **fields})


def over(*attempts, assessment=None, served_by=None, ttft_ms=None, **fields):
    """A request that these attempts were made for; answered by the last one unless ``error_type`` says otherwise."""
    assessment = assessed() if assessment is None else assessment
    decision = assessment.decision
    last = attempts[-1].place if attempts else ""
    route = Route(
        served_by=last if served_by is None else served_by,
        rule=decision.rule,
        rule_location=decision.location,
        reason="Because.",
        label=decision.label,
        policy=decision.policy_name,
        policy_hash=decision.policy_hash,
        attempts=list(attempts),
        egress_bytes=sum(one.egress_bytes for one in attempts),
        ttft_ms=ttft_ms,
    )
    given = {
        "request_id": "chatcmpl-1",
        "text": "",
        "void": "",
        "label": decision.label,
        "usage": None,
        "finish_reason": "" if fields.get("error_type") else "stop",
        "error_type": "",
        "model": "",
        "began_at_s": BEGAN_AT_S,
        "duration_s": 1.5,
    }
    return Ended(assessment=assessment, route=route, **{**given, **fields})


# ---- whatever an ``Ended`` could say ----

_words = st.sampled_from(
    ["", "local", "remote", "first", "hedge", "continue", "served", "failed", "stop", "RemoteError", "Cancelled"]
) | st.text(max_size=8)
_floats = st.none() | st.floats() | st.integers(-10, 10**6)
_counts = st.integers(-5, 10**6) | st.integers()
_usages = st.none() | st.builds(
    lambda prompt, completion, cached: CompletionUsage.model_construct(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=0,
        prompt_tokens_details=None if cached is None else PromptTokensDetails.model_construct(cached_tokens=cached),
    ),
    _counts,
    _counts,
    st.none() | _counts,
)
_attempts = st.builds(
    lambda **fields: Attempt.model_construct(**fields),
    place=_words,
    why=_words,
    outcome=_words,
    error=_words,
    error_type=st.none() | _words,
    started_s=st.floats() | st.integers(-1, 10),
    duration_s=_floats,
    ttft_ms=_floats,
    usage=_usages,
    tries=_counts,
    egress_bytes=_counts,
)
_struck_out = st.builds(
    StruckOut, place=_words, why=_words, code=_words | st.sampled_from(["label", "zone", "context"])
)


@st.composite
def anything_over(draw):
    """A request that is over, every part of which says whatever comes to somebody's mind."""
    ended = over(
        error_type=draw(_words | st.sampled_from(["PolicyDenied", "PrivacyViolation", "AuditError"])),
        finish_reason=draw(_words),
        model=draw(_words),
        usage=draw(_usages),
        began_at_s=draw(st.floats()),
        duration_s=draw(st.floats()),
    )
    decision = replace(
        ended.assessment.decision,
        struck_out=tuple(draw(st.lists(_struck_out, max_size=3))),
        candidates=tuple(draw(st.lists(_words, max_size=3))),
    )
    route = ended.route.model_copy(
        update={
            "served_by": draw(_words),
            "reason": draw(_words),
            "attempts": draw(st.lists(_attempts, max_size=4)),
            "egress_bytes": draw(_counts),
            "ttft_ms": draw(_floats),
        }
    )
    return replace(ended, assessment=replace(ended.assessment, decision=decision), route=route)
